"""``harness profile``: what a user types, and what they are told."""

import gzip
import json
import sys

import pytest

from harness.cli.context import spread
from harness.cli.profiling import _parts

TOY = """
    import torch
    from harness import Autoregressive, ModelEntry, SamplingTrace, Unsupported, hookimpl

    class Toy(Autoregressive):
        def __init__(self, spec, *, bias: float = 0.0, lie: bool = False):
            if spec.height % 2:
                raise Unsupported("the height must be even")
            super().__init__(spec)
            self.bias, self.lie = bias, lie
            self.table = torch.nn.Parameter(torch.zeros(spec.levels, *spec.shape))

        def conditional_logits(self, images, ordering=0):
            return (self.table + self.bias).expand(len(images), *self.table.shape)

        def samplers(self):
            return {"cached": self.cached, **super().samplers()}

        def cached(self, num_samples, *, noise=None, known=None, mask=None, trace=None):
            noise = noise or self.draw_noise(num_samples)
            if trace is not None:
                trace.network_evaluations += 1
                trace.sequential_depth += 1
            images = (self.table + noise.gumbel).argmax(1).to(torch.uint8)
            return 1 - images if self.lie else images

        def fit(self, data, trainer):
            optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
            for batch in trainer.batches(data.train, batch_size=16):
                optimizer.zero_grad()
                (-self.log_prob(batch.images).mean()).backward()
                optimizer.step()

    @hookimpl
    def register_models():
        return [ModelEntry("toy", Toy)]
"""


@pytest.fixture
def harness(install_plugin, tmp_path, monkeypatch, capsys):
    """Runs the command line in an empty folder, with a model ``toy``; returns its status, output and errors."""
    from harness.cli import main
    from harness.profiling import contest, generation

    install_plugin("toy", {"toy.py": TOY}, entry_points={"toy": "toy"})
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(generation, "gemm_peak", lambda device: 1e9)
    monkeypatch.setattr(contest.SamplerCall, "_look", lambda self: None)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["harness", *words])
        with pytest.raises(SystemExit) as stopped:
            main()
        said = capsys.readouterr()
        return stopped.value.code or 0, said.out, said.err

    return run


QUICK = ("--sizes", "2", "4", "--batch-sizes", "1,2", "--rounds", "2", "-o", "out")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("m --sizes 8 16", "m --sizes 8 --sizes 16"),
        ("m --sizes 8,16 --rounds 3", "m --sizes 8 --sizes 16 --rounds 3"),
        ("m --sizes=8,16 -o x", "m --sizes 8 --sizes 16 -o x"),
        ("m --sizes 8 --sizes 16", "m --sizes 8 --sizes 16"),
        ("m --rounds 3 --sizes", "m --rounds 3 --sizes"),
        ("--rounds 3 m", "--rounds 3 m"),
    ],
)
def test_values_of_an_option_may_follow_it_in_a_row_or_with_commas(words, expected):
    assert spread(words.split(), ["--sizes"]) == expected.split()


def test_settings_are_split_at_commas_outside_of_brackets_and_quotes():
    assert _parts("hidden=[5, 6],name='a,b',n=1") == ["hidden=[5, 6]", "name='a,b'", "n=1"]


def test_a_profile_is_measured_written_and_gone_on_with(harness, tmp_path):
    status, out, err = harness("profile", "generation", "toy", "toy:bias=1.5", *QUICK, "--baseline", "toy")
    assert status == 0, err
    assert "toy (bias=1.5), cached, 4x4, batch 2: " in err
    assert "fingerprint" in out
    lines = (tmp_path / "work/out/measurements.jsonl").read_text().splitlines()
    assert len(lines) == 2 * 2 * 2 * 2
    assert {json.loads(line)["certificate"]["status"] for line in lines} == {"holds", "by definition"}
    status, _, err = harness("profile", "generation", "toy", "toy:bias=1.5", *QUICK, "--baseline", "toy")
    assert status == 0
    assert err.splitlines() == ["16 were measured before, in out/measurements.jsonl; --again measures them anew"]
    assert (tmp_path / "work/out/measurements.jsonl").read_text().splitlines() == lines


def test_reports_are_what_the_measurements_give(harness, tmp_path):
    (tmp_path / "work/speed.toml").write_text(
        'profile = "generation"\ntitle = "T"\nsizes = [2, 4]\nbatch_sizes = [1]\nrounds = 2\n[[models]]\nname = "toy"\n'
    )
    assert harness("profile", "generation", "--suite", "speed.toml")[0] == 0
    names = {path.name for path in (tmp_path / "work/speed").iterdir()}
    assert names == {
        "measurements.jsonl",
        *(f"speed.{ending}" for ending in ("md", "csv", "json", "vl.json", "svg", "png")),
    }
    assert harness("profile", "report", "speed.toml", "--check")[0] == 0
    page = tmp_path / "work/speed/speed.md"
    page.write_text(page.read_text() + "edited\n")
    status, _, err = harness("profile", "report", "speed.toml", "--check")
    assert (status, "speed.md are not what measurements.jsonl gives" in err) == (1, True)
    assert harness("profile", "report", "speed.toml")[0] == 0
    assert harness("profile", "report", "speed.toml", "--check")[0] == 0


def test_a_sampler_that_fails_its_certificate_ends_with_an_error_and_no_figure(harness, tmp_path):
    status, out, err = harness(
        "profile", "generation", "toy:lie=true", "--sizes", "2", "--batch-sizes", "2", "--rounds", "1", "-o", "out"
    )
    assert status == 1
    assert "failed certificate" in err
    assert "are not what the noise gives" in out
    [row] = [r for r in json.loads((tmp_path / "work/out/generation-speed.json").read_text())["machines"][0]["rows"]
             if r["sampler"] == "cached"]  # fmt: skip
    assert "seconds" not in row


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("generation tox --sizes 2", "no model, and no run, 'tox' (did you mean 'toy'"),
        ("generation toy:bais=1 --sizes 2", "Toy has no hyperparameter 'bais' (did you mean 'bias'"),
        ("generation toy: --sizes 2", "write MODEL:HYPERPARAMETER=VALUE"),
        ("generation toy --sizes 3", "toy: the height must be even"),
        ("generation toy --sizes 2 --samplers compiled", "a sampler 'compiled', there are: cached, raster"),
        ("generation toy --sizes 2 --device cuda:7", "device 'cuda:7' is not available"),
        ("generation toy --sizes 2 --device gpu", "device 'gpu' is not a device name"),
        ("generation toy --sizes 2 2", "none of them twice"),
        ("generation toy --sizes 2 --baseline other", "baseline 'other' is none of the models: toy"),
        ("generation", "name models to profile, or a profile by --suite"),
        ("generation toy --suite x.toml", "--suite names the models"),
        ("generation --suite x.toml", "no profile at x.toml"),
        ("report nothing", "no profile at nothing.toml"),
        ("report .", "has no measurements.jsonl"),
        ("trace toy --what training", "--what 'training': it is one of fit, scoring, sampling"),
        ("trace toy --size 2 --sampler compiled", "Toy has no sampler 'compiled', it has: cached, raster"),
        ("trace toy --size 3", "the height must be even"),
        ("trace toy --what fit --sampler cached", "--sampler goes with --what sampling"),
        ("trace toy -o trace.txt", "the name has to end in .json or .json.gz"),
    ],
)
def test_what_cannot_be_done_is_one_clear_line(harness, words, message):
    status, _, err = harness("profile", *words.split())
    assert status == 2
    [line] = err.splitlines()
    assert line.startswith("error: ")
    assert message in line


def test_a_size_that_one_model_cannot_do_is_a_row_among_others(harness):
    status, out, _ = harness(
        "profile", "generation", "toy", "--sizes", "2", "3", "--batch-sizes", "1", "--rounds", "1", "-o", "out"
    )
    assert status == 0
    assert "skipped: the height must be even" in out


def test_a_profile_is_no_suite_of_trainings(harness, tmp_path):
    (tmp_path / "work/speed.toml").write_text('profile = "generation"\n[[models]]\nname = "toy"\n')
    status, _, err = harness("run", "speed.toml")
    assert status == 2
    assert "'harness profile generation --suite speed.toml' measures it" in err


def test_a_trace_is_what_chrome_opens(harness, tmp_path):
    status, out, err = harness("profile", "trace", "toy", "--what", "sampling", "--size", "2", "-o", "t.json.gz")
    assert status == 0, err
    assert "own time" in out
    trace = json.loads(gzip.decompress((tmp_path / "work/t.json.gz").read_bytes()))
    assert "aten::argmax" in {event.get("name") for event in trace["traceEvents"]}
