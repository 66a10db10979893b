"""Samplers by hook: a package draws from somebody else's model, and its certificate says whether it does."""

from __future__ import annotations

import json
import sys

import pytest
import torch

import harness
from harness.discovery.loading import drawing_code, model_code, with_samplers
from harness.discovery.manager import NameConflict, plugin_manager
from harness_pixelcnn.gated_pixelcnn import GatedPixelCNN

SPEC = harness.ImageSpec(1, 4, 4, levels=2)
SWIFT = """
    import torch
    from harness import Noise, SamplerEntry, Unsupported, hookimpl

    def swift(model, num_samples, /, *, noise=None, known=None, mask=None, trace=None):
        return model.samplers()["raster"](num_samples, noise=noise, known=known, mask=mask, trace=trace)

    def wrong(model, num_samples, /, **options):
        return 1 - swift(model, num_samples, **options)

    def warm(model, num_samples, /, *, noise=None, **options):
        noise = model.draw_noise(num_samples) if noise is None else noise
        return swift(model, num_samples, noise=Noise(1.05 * noise.gumbel, noise.ordering), **options)

    def shy(model, num_samples, /, **options):
        raise Unsupported("it draws from nobody")

    @hookimpl
    def register_samplers():
        return [SamplerEntry(name, model="gated-pixelcnn", target=f"harness_swift:{name}") for name in NAMES]
"""


@pytest.fixture
def install(install_plugin):
    """Installs a stranger's package with the samplers of these names."""

    def done(*names, text=SWIFT):
        install_plugin(
            "swift", {"harness_swift.py": text + f"\n    NAMES = {names!r}\n"}, entry_points={"swift": "harness_swift"}
        )
        return plugin_manager()

    return done


@pytest.fixture
def command(capsys, monkeypatch, tmp_path):
    """Runs the command line in an empty folder; returns its status, output and errors."""
    from harness.cli import main
    from harness.profiling import contest, generation

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(generation, "gemm_peak", lambda device: 1e9)
    monkeypatch.setattr(contest.SamplerCall, "_look", lambda self: None)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["harness", *words])
        with pytest.raises(SystemExit) as stopped:
            main()
        said = capsys.readouterr()
        return stopped.value.code or 0, said.out, said.err

    return run


PROFILE = ["profile", "generation", "gated-pixelcnn:channels=2,layers=0", *["--sizes", "4", "--batch-sizes", "2"]]
PROFILE += ["--rounds", "1", "-o", "out", "--samplers"]


def measured(tmp_path):
    lines = (tmp_path / "out" / "measurements.jsonl").read_text().splitlines()
    return {line["sampler"]: line for line in map(json.loads, lines)}


def statuses(tmp_path):
    found = measured(tmp_path)
    return {name: (line.get("status", "done"), line["certificate"]["status"]) for name, line in found.items()}


def test_a_strangers_sampler_is_listed_with_its_model_and_package(install, command):
    install("swift")
    found = {item["name"]: item["plugin"] for item in json.loads(command("list", "samplers", "--json")[1])}
    assert found["gated-pixelcnn/swift"] == "swift 0.1"
    assert found["gated-pixelcnn/cached"] == "harness-pixelcnn 0.1.0"


def test_a_strangers_sampler_is_profiled_and_certified(install, command, tmp_path):
    install("swift")
    status, _, err = command(*PROFILE, "swift")
    assert status == 0, err
    assert statuses(tmp_path) == {"swift": ("done", "holds")}


def test_a_wrong_one_is_refused_by_its_certificate_and_the_right_ones_stay(install, command, tmp_path):
    install("wrong")
    status, _, err = command(*PROFILE, "wrong", "cached")
    assert status == 1
    assert "failed certificate" in err
    assert statuses(tmp_path) == {"wrong": ("failed certificate", "fails"), "cached": ("done", "holds")}


def test_one_of_a_slightly_higher_temperature_is_refused_however_few_images_are_timed(install, command, tmp_path):
    install("warm")
    status, _, err = command(*PROFILE, "warm")
    assert status != 0
    assert "entries are not what the noise gives" in err
    assert measured(tmp_path)["warm"]["certificate"]["entries"] > 96  # of three calls, which are timed


def test_one_that_does_not_apply_is_left_out_with_its_reason(install, command, tmp_path):
    install("shy")
    assert command(*PROFILE, "shy", "cached")[0] == 0
    left_out = measured(tmp_path)["shy"]
    assert (left_out["status"], left_out["reason"]) == ("skipped", "it draws from nobody")


def test_the_default_is_the_first_of_the_models_own_plugin_and_nobody_elses(install):
    plugins = install("swift")
    model = with_samplers(plugins, GatedPixelCNN(SPEC, channels=2, layers=0), everyones=True)
    assert list(model.samplers()) == ["cached", "compiled", "fixed-point", "fixed-point-rows", "raster", "swift"]


def test_what_runs_and_audits_have_is_the_models_own_samplers_alone(install):
    model = with_samplers(install("wrong"), GatedPixelCNN(SPEC, channels=2, layers=0))
    assert "wrong" not in model.samplers()


def test_a_model_made_by_hand_has_raster_until_it_is_given_what_is_registered(install):
    install("swift")
    model = GatedPixelCNN(SPEC, channels=2, layers=0)
    assert list(model.samplers()) == ["raster"]
    assert "swift" in harness.with_samplers(model).samplers()


def test_a_view_on_labels_draws_by_the_samplers_of_its_model():
    spec = harness.ImageSpec(1, 4, 4, levels=2, num_classes=3)
    model = harness.with_samplers(
        plugin_manager().load("model", "gated-pixelcnn-conditional")(spec, channels=2, layers=0)
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    labels = torch.tensor([0, 1, 2, 2])
    noise = model.draw_noise(4)
    noise = harness.Noise(noise.gumbel, labels)
    view = model.condition_on(labels).samplers()["cached"](4, noise=harness.Noise(noise.gumbel, torch.zeros(4).long()))
    assert torch.equal(view, model.samplers()["cached"](4, noise=noise))


def test_a_strangers_code_changes_no_key_of_a_run(install):
    before = model_code(plugin_manager(), "gated-pixelcnn"), drawing_code(plugin_manager(), "gated-pixelcnn")
    plugins = install("swift")
    assert (model_code(plugins, "gated-pixelcnn"), drawing_code(plugins, "gated-pixelcnn")) == before


OWN = {
    "harness_own/__init__.py": """
        import harness

        @harness.hookimpl
        def register_models():
            return [harness.ModelEntry("own", "harness_own.model:Own")]

        @harness.hookimpl
        def register_samplers():
            return [harness.SamplerEntry("fast", model="own", target="harness_own.fast:draw")]
    """,
    "harness_own/model.py": "class Own:\n    pass\n",
    "harness_own/fast.py": "def draw(model, num_samples, /, **options):\n    return 1\n",
}


def test_a_changed_line_in_a_models_own_sampler_changes_what_is_drawn_and_no_training(install_plugin):
    site = install_plugin("own", OWN, entry_points={"own": "harness_own"})
    plugins = plugin_manager()
    before = model_code(plugins, "own"), drawing_code(plugins, "own")
    (site / "harness_own/fast.py").write_text(OWN["harness_own/fast.py"].replace("return 1", "return 1234"))
    assert model_code(plugins, "own") == before[0]
    assert drawing_code(plugins, "own") != before[1]


def test_a_stranger_who_takes_a_name_of_the_models_own_samplers_takes_nothing(install):
    plugins = install("swift", text=SWIFT.replace("SamplerEntry(name,", 'SamplerEntry("cached",'))
    own, others = plugins.samplers("gated-pixelcnn")
    assert own[0].target == "harness_pixelcnn.gated_samplers:cached"
    assert others == []
    with pytest.raises(NameConflict, match="gated-pixelcnn/cached"):
        plugins.find("sampler", "gated-pixelcnn/cached")


def test_an_approximate_sampler_is_no_part_of_its_model(install):
    text = SWIFT.replace("SamplerEntry(name,", 'SamplerEntry("approximate-" + name,').replace("gated-pixelcnn", "own")
    text = (
        text.replace("hookimpl\n", "hookimpl, ModelEntry\n", 1)
        + """
    @hookimpl
    def register_models():
        return [ModelEntry("own", "harness_pixelcnn.gated_pixelcnn:GatedPixelCNN")]
"""
    )
    plugins = install("swift", text=text)
    own, others = plugins.samplers("own")
    assert own == []
    assert [entry.name for entry in others] == ["approximate-swift"]
    assert drawing_code(plugins, "own") == model_code(plugins, "own")


def test_a_sampler_of_a_model_that_nobody_registers_is_a_problem_of_its_plugin(install):
    plugins = install("swift", text=SWIFT.replace("gated-pixelcnn", "gated-pixelcnnn"))
    plugins.check_targets()
    [info] = [info for info in plugins.plugins if info.name == "swift"]
    [problem] = info.problems
    assert problem.message.startswith("sampler 'swift': no model 'gated-pixelcnnn' (did you mean 'gated-pixelcnn' or ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "swift", "target": "a:b"}, "model '' is not the name of a model"),
        ({"name": "swift", "target": "a:b", "model": "made", "pattern": ".*"}, "a sampler has no pattern"),
    ],
)
def test_an_entry_that_cannot_be_used_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        harness.SamplerEntry(**arguments)
