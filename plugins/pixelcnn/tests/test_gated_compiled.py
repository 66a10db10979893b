from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from harness import ImageSpec, Noise, SamplingTrace, clamp_known, raster_sample
from harness_layers.gated_stack import GatedStack
from harness_layers.pixels import image_logits, num_outputs, scale
from harness_pixelcnn.compiled import compilation, sampler
from harness_pixelcnn.compiled.compilation import CompilationError, load_library
from harness_pixelcnn.compiled.sampler import draw_compiled

BINARY = ImageSpec(1, 6, 7, 2)
TINY = 'extern "C" int answer(void) { return 42; }\n'


@pytest.fixture(scope="session")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder of these tests' own."""
    try:
        compilation._compiler()
    except CompilationError as error:
        pytest.skip(str(error))
    return tmp_path_factory.mktemp("kernels")


@pytest.fixture
def compiler(kernels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(kernels))
    monkeypatch.delenv("HARNESS_COMPILED", raising=False)


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    sampler._say.cache_clear()
    with caplog.at_level(logging.INFO, logger="harness"):
        yield caplog
    sampler._say.cache_clear()


def stack(spec: ImageSpec, *, features: int = 16, layers: int = 2, kernel: int = 3, head: int = 8,
          classes: int = 0) -> GatedStack:  # fmt: skip
    network = GatedStack(
        spec.channels, num_outputs(spec), features=features, layers=layers, kernel=kernel, head=head,
        num_classes=classes,
    )  # fmt: skip
    with torch.no_grad():  # every weight in play, activations of the order of one
        for parameter in network.parameters():
            fan_in = parameter[0].numel() if parameter.dim() == 4 else 4
            parameter.copy_(torch.randn_like(parameter) * (2 / fan_in) ** 0.5)
    return network


@torch.no_grad()
def logits(network: GatedStack, spec: ImageSpec, images: Tensor, labels: Tensor | None = None) -> Tensor:
    return image_logits(network(scale(images, spec.levels, torch.float32), labels), spec)


def steps(spec: ImageSpec) -> Tensor:
    return torch.arange(spec.num_dimensions).view(spec.height, spec.width, spec.channels).permute(2, 0, 1)


def drawn(network: GatedStack, spec: ImageSpec, noise: Noise, labels: Tensor | None = None, *,
          known: Tensor | None = None, mask: Tensor | None = None) -> Tensor:  # fmt: skip
    images = draw_compiled(network, spec, noise, labels, known=known, mask=mask)
    assert images is not None
    return images


def raster(network: GatedStack, spec: ImageSpec, noise: Noise, *, known: Tensor | None = None,
           mask: Tensor | None = None) -> Tensor:  # fmt: skip
    return raster_sample(
        lambda images, _: logits(network, spec, images), lambda _: steps(spec), spec, noise, known=known, mask=mask
    )


def unconfirmed(network: GatedStack, spec: ImageSpec, noise: Noise, images: Tensor,
                labels: Tensor | None = None) -> int:  # fmt: skip
    """How many entries one forward pass would have drawn otherwise, by a margin beyond rounding.

    An image that every entry's own past and noise confirm is the raster sample, by causality.
    """
    scores = logits(network, spec, images, labels) + noise.gumbel
    margin = scores.amax(1) - scores.gather(1, images.long().unsqueeze(1)).squeeze(1)
    return int((margin > 1e-5).sum())


@pytest.mark.parametrize("spec", [BINARY, ImageSpec(1, 4, 5, 4), ImageSpec(3, 3, 4, 4), ImageSpec(2, 3, 2, 2)], ids=str)
def test_draws_the_images_of_the_raster_sampler(compiler: None, spec: ImageSpec) -> None:
    network, noise = stack(spec), Noise.draw(5, spec)
    images = drawn(network, spec, noise)
    assert torch.equal(images, raster(network, spec, noise))
    assert len(images.unique()) == spec.levels  # not all alike


@pytest.mark.parametrize(
    "spec",
    [ImageSpec(1, 1, 9, 2), ImageSpec(1, 9, 1, 2), ImageSpec(3, 1, 1, 3), ImageSpec(1, 13, 11, 2),
     ImageSpec(3, 4, 5, 256), ImageSpec(1, 5, 5, 3), ImageSpec(5, 3, 3, 7)],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
def test_images_of_every_shape_are_confirmed_by_one_pass(compiler: None, spec: ImageSpec, kernel: int) -> None:
    network, noise = stack(spec, features=18, kernel=kernel), Noise.draw(4, spec)
    assert unconfirmed(network, spec, noise, drawn(network, spec, noise)) == 0


@pytest.mark.parametrize("features", [3, 8, 13, 16, 17, 32, 41, 70])
@pytest.mark.parametrize("spec", [BINARY, ImageSpec(3, 4, 4, 4)], ids=str)
def test_networks_of_every_width_are_confirmed_by_one_pass(compiler: None, spec: ImageSpec, features: int) -> None:
    network, noise = stack(spec, features=features, layers=3, head=features // 2 + 2), Noise.draw(4, spec)
    assert unconfirmed(network, spec, noise, drawn(network, spec, noise)) == 0


@pytest.mark.parametrize("num_samples", [1, 2, 3, 4, 5, 6, 7, 11, 16, 23, 70])
@pytest.mark.parametrize("threads", [1, 2])
def test_any_number_of_images_on_any_number_of_threads_is_confirmed(
    compiler: None, num_samples: int, threads: int
) -> None:
    network, noise = stack(BINARY), Noise.draw(num_samples, BINARY)
    torch.set_num_threads(threads)
    try:
        images = drawn(network, BINARY, noise)
    finally:
        torch.set_num_threads(1)
    assert unconfirmed(network, BINARY, noise, images) == 0


@pytest.mark.parametrize("layers", [0, 1, 5])
def test_networks_of_every_depth_are_confirmed_by_one_pass(compiler: None, layers: int) -> None:
    network, noise = stack(BINARY, layers=layers), Noise.draw(4, BINARY)
    assert unconfirmed(network, BINARY, noise, drawn(network, BINARY, noise)) == 0


def test_activations_at_their_limits_are_those_of_torch(compiler: None) -> None:
    network, noise = stack(BINARY), Noise.draw(8, BINARY)
    with torch.no_grad():
        for layer in network.layers:
            layer.vertical.weight.mul_(200)
            layer.horizontal.weight.mul_(200)
    assert unconfirmed(network, BINARY, noise, drawn(network, BINARY, noise)) == 0


@pytest.mark.parametrize("spec", [ImageSpec(1, 5, 4, 2, num_classes=3), ImageSpec(3, 3, 3, 4, num_classes=3)], ids=str)
def test_each_image_has_the_biases_of_its_class(compiler: None, spec: ImageSpec) -> None:
    network, noise = stack(spec, classes=3), Noise.draw(9, spec)
    labels = torch.arange(9) % 3
    images = drawn(network, spec, noise, labels)
    assert unconfirmed(network, spec, noise, images, labels) == 0
    assert unconfirmed(network, spec, noise, images, labels.roll(1)) > 0


def test_a_class_that_there_is_not_is_refused(compiler: None) -> None:
    network, noise = stack(BINARY, classes=3), Noise.draw(2, BINARY)
    with pytest.raises(ValueError, match="below 3, not 3"):
        draw_compiled(network, BINARY, noise, torch.tensor([0, 3]))


@pytest.mark.parametrize("spec", [BINARY, ImageSpec(3, 3, 4, 4)], ids=str)
def test_known_pixels_are_clamped_as_by_the_raster_sampler(compiler: None, spec: ImageSpec) -> None:
    network, noise = stack(spec), Noise.draw(4, spec)
    known = torch.randint(spec.levels, (4, *spec.shape), dtype=torch.uint8)
    mask = torch.rand(1, *spec.shape) < 0.4
    images = drawn(network, spec, noise, known=known, mask=mask)
    assert torch.equal(images, clamp_known(images, known, mask))
    assert torch.equal(images, raster(network, spec, noise, known=known, mask=mask))


def test_weights_that_change_between_draws_are_seen(compiler: None) -> None:
    network, noise = stack(BINARY), Noise.draw(6, BINARY)
    drawn(network, BINARY, noise)
    for parameter in network.parameters():
        parameter.data.neg_()
    assert unconfirmed(network, BINARY, noise, drawn(network, BINARY, noise)) == 0


def test_noise_for_other_images_is_refused(compiler: None) -> None:
    with pytest.raises(ValueError, match=r"not \(N, 2, 1, 6, 7\)"):
        draw_compiled(stack(BINARY), BINARY, Noise.draw(2, ImageSpec(1, 6, 6, 2)))


def test_the_trace_counts_every_entry_once(compiler: None) -> None:
    trace = SamplingTrace()
    draw_compiled(stack(BINARY), BINARY, Noise.draw(3, BINARY), trace=trace)
    assert (trace.network_evaluations, trace.sequential_depth) == (42, 42)


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [("CXX", "/bin/false", "failed"), ("CXX", "no-such-compiler", "not there"), ("HARNESS_COMPILED", "0", "=0")],
)
def test_without_a_kernel_one_line_is_logged_however_often_it_is_asked_for(
    said: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, value: str,
    reason: str,
) -> None:  # fmt: skip
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    monkeypatch.setenv(variable, value)
    network, noise, trace = stack(BINARY), Noise.draw(2, BINARY), SamplingTrace()
    assert [draw_compiled(network, BINARY, noise, trace=trace) for _ in range(3)] == [None] * 3
    (record,) = said.records
    assert reason in record.getMessage()
    assert "\n" not in record.getMessage()
    assert trace == SamplingTrace()


def test_other_numbers_than_float32_are_left_to_others_in_one_line(said: pytest.LogCaptureFixture) -> None:
    noise = Noise.draw(2, BINARY, dtype=torch.float64)
    assert draw_compiled(stack(BINARY).double(), BINARY, noise) is None
    (record,) = said.records
    assert "weights in torch.float64" in record.getMessage()


def test_a_source_that_the_compiler_does_not_take_is_told_in_one_line(compiler: None, tmp_path: Path) -> None:
    source = tmp_path / "wrong.cpp"
    source.write_text("int wrong(;\n")
    with pytest.raises(CompilationError, match=r"exit code 1: .*error.*") as caught:
        load_library(source)
    assert "\n" not in str(caught.value)


@pytest.fixture
def tiny(compiler: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    source = tmp_path / "tiny.cpp"
    source.write_text(TINY)
    return source


def kept(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "cache" / "compiled").iterdir())


def test_what_is_compiled_is_kept(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_library(tiny).answer() == 42
    (file,) = kept(tmp_path)
    monkeypatch.setattr(compilation, "_build", None)  # not called again
    assert load_library(tiny).answer() == 42
    assert kept(tmp_path) == [file]


def test_a_changed_source_is_compiled_again(tiny: Path) -> None:
    assert load_library(tiny).answer() == 42
    tiny.write_text(TINY.replace("42", "43"))
    assert load_library(tiny).answer() == 43


def test_a_kept_file_that_was_cut_short_is_made_again(tiny: Path, tmp_path: Path) -> None:
    load_library(tiny)
    (file,) = kept(tmp_path)
    whole = file.read_bytes()
    file.unlink()  # it is loaded
    file.write_bytes(whole[: len(whole) // 2])
    assert load_library(tiny).answer() == 42
    assert compilation._whole(file, file.name.rsplit("-", 1)[0]) is not None


def test_a_folder_that_cannot_be_written_to_is_done_without(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("HARNESS_CACHE", str(blocked))
    assert load_library(tiny).answer() == 42


def test_a_compiler_that_does_not_know_the_processor_is_asked_for_plain_code(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapper = tmp_path / "plain"
    real = compilation._compiler()[0]
    wrapper.write_text(
        f'#!/bin/sh\nfor a in "$@"; do case "$a" in -m*) echo "error: $a" >&2; exit 1;; esac; done\nexec {real} "$@"\n'
    )
    wrapper.chmod(0o755)
    monkeypatch.setenv("CXX", str(wrapper))
    assert load_library(tiny).answer() == 42


def test_processes_that_compile_at_the_same_time_do_not_disturb_each_other(tiny: Path, tmp_path: Path) -> None:
    origin = importlib.util.find_spec("harness_pixelcnn.compiled.compilation")
    assert origin is not None
    assert origin.origin is not None
    code = (  # the module alone: an import of torch would take longer than the compilation
        "import importlib.util as u, pathlib, sys\n"
        "spec = u.spec_from_file_location('library', sys.argv[1]); module = u.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        "print(module.load_library(pathlib.Path(sys.argv[2])).answer())\n"
    )
    command = [sys.executable, "-c", code, origin.origin, str(tiny)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ}) for _ in range(3)]
    assert [process.communicate(timeout=100)[0].split() for process in both] == [[b"42"]] * 3
    assert {path.suffix for path in kept(tmp_path)} == {".so"}  # nothing is left half made


def test_the_source_is_part_of_the_package() -> None:
    assert sampler.SOURCE.is_file()
    assert sampler.SOURCE.parent == Path(sampler.__file__).parent


def test_plain_code_for_any_processor_draws_the_same(
    kernels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapper = tmp_path / "plain"  # vectors of 4: other panels, other tiles
    real = shutil.which(compilation._compiler()[0])
    wrapper.write_text(f'#!/bin/sh\nfor a in "$@"; do case "$a" in -m*) exit 1;; esac; done\nexec {real} "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("CXX", str(wrapper))
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    for spec in (BINARY, ImageSpec(3, 4, 3, 4)):
        network, noise = stack(spec, features=13), Noise.draw(5, spec)
        assert unconfirmed(network, spec, noise, drawn(network, spec, noise)) == 0
