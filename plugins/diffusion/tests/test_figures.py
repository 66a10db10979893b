"""What the figures of this package show: each kind of model, and numbers that are what they say."""

from __future__ import annotations

import math

import pytest
import torch

from harness import Dataset, ImageSpec, ShownModel, Split
from harness_diffusion.ddpm import DDPM
from harness_diffusion.deep_diffusion import DeepDiffusion
from harness_diffusion.diffusion_run import Diffusion, draw_diffusion_run, noised, way_back
from harness_diffusion.flow_matching import FlowMatching
from harness_diffusion.steps_figure import draw_bits_against_steps, energy_distance, step_numbers
from harness_diffusion.vdm import VDM

MODELS = {"vdm": VDM, "ddpm": DDPM, "flow": FlowMatching, "deep": DeepDiffusion, "binomial": DeepDiffusion}


def shown(name, *, height=3, width=3):
    spec = ImageSpec(1, height, width, 2 if name == "binomial" else 16)
    split = Split(torch.randint(spec.levels, (40, *spec.shape), dtype=torch.uint8))
    small = {} if MODELS[name] is DeepDiffusion else {"width": 4}
    scored = {} if name == "flow" else {"scored_steps": 6}
    model = MODELS[name](spec, num_steps=6, **small, **scored).eval()
    return ShownModel(name, model, Dataset("noise", spec, split, split, split))


@pytest.mark.parametrize("name", MODELS)
def test_a_run_begins_at_the_image_and_ends_there_again(name):
    of = shown(name)
    images = of.data.test.images
    assert isinstance(of.model, Diffusion)
    near = noised(of.model, images, 0.0) - images
    assert near.abs().median() < of.data.spec.levels / 8
    last = way_back(of.model, 5)[-1]
    assert last.shape == (5, 1, 3, 3)
    if name != "flow":  # rounds last of all
        assert torch.equal(last, last.round())


@pytest.mark.parametrize("size", [(3, 3), (1, 2)], ids=["images", "plane"])
@pytest.mark.parametrize("name", ["vdm", "flow", "binomial"])
def test_a_run_is_drawn_of_images_and_of_the_plane(name, size):
    picture = draw_diffusion_run(shown(name, height=size[0], width=size[1]))
    assert picture is not None
    assert "samples on their way back, by " in picture.info["Description"]


def test_bits_against_steps_are_those_of_the_model_with_fewer_steps():
    of = shown("vdm")
    chart = draw_bits_against_steps(of).to_dict()
    bits, quality = (chart["datasets"][part["data"]["name"]] for part in chart["hconcat"])
    assert [row["steps"] for row in bits] == [5, 6]
    assert [(row["steps"], row["sampler"]) for row in quality] == [
        (steps, sampler) for steps in (5, 6) for sampler in ("ancestral", "DDIM")
    ]
    found = -of.model.with_steps(6).elbo(of.data.test.images.repeat(50, 1, 1, 1)).mean() / (9 * math.log(2))
    assert bits[-1]["bits"] == pytest.approx(found.item(), rel=0.1)


def test_steps_stop_where_they_would_take_too_long():
    assert step_numbers(100) == [5, 10, 20, 50, 100]
    assert step_numbers(1000) == [5, 10, 20, 50, 100]
    assert step_numbers(3) == [3]


def test_the_energy_distance_is_zero_on_average_for_equal_distributions_and_known_for_points():
    same = torch.stack([
        energy_distance(*torch.randint(256, (2, 20, 1, 1, 2), dtype=torch.uint8), 256) for _ in range(300)
    ])  # fmt: skip
    assert abs(same.mean()) < 4.5 * same.std() / math.sqrt(300)
    black, white = torch.zeros(3, 1, 1, 1, dtype=torch.uint8), torch.ones(3, 1, 1, 1, dtype=torch.uint8)
    assert energy_distance(black, white, 2) == 2
