"""The certificate: what one forward pass must confirm, and what it must catch."""

import pytest
import torch

from harness import Autoregressive, ImageSpec, Noise
from harness.profiling.certificate import Certificate, CertificateFailed, certify

SPEC = ImageSpec(2, 3, 4, levels=3)


class Causal(Autoregressive):
    """Logits are linear in the entries that come before, in one of two orders."""

    num_orderings = 2

    def __init__(self, spec):
        super().__init__(spec)
        random = torch.Generator().manual_seed(1)
        size = spec.num_dimensions
        self.weight = torch.nn.Parameter(torch.randn(spec.levels, size, size, generator=random))
        self.double()

    def generation_steps(self, ordering=0):
        steps = super().generation_steps()
        return steps if ordering == 0 else steps.max() - steps

    def conditional_logits(self, images, ordering=0):
        steps = self.generation_steps(ordering).flatten()
        past = (steps[:, None] > steps[None, :]).to(self.weight.dtype)
        logits = torch.einsum("vij,nj->nvi", self.weight * past, images.flatten(1).to(self.weight.dtype))
        return logits.view(len(images), self.spec.levels, *self.spec.shape)

    def fit(self, data, trainer): ...


@pytest.fixture
def drawn():
    model = Causal(SPEC)
    torch.manual_seed(0)
    noise = model.draw_noise(6)
    assert set(noise.ordering.tolist()) == {0, 1}
    return model, noise, model.samplers()["raster"](6, noise=noise)


def test_a_raster_sample_of_several_orderings_is_confirmed(drawn):
    model, noise, images = drawn
    assert certify(model, images, noise) == Certificate(entries=6 * 24)


def test_the_orderings_of_the_images_matter(drawn):
    model, noise, images = drawn
    assert not certify(model, images, Noise(noise.gumbel, 1 - noise.ordering)).holds


@pytest.mark.parametrize("entry", [0, 11, 23])
def test_one_wrong_entry_is_caught_wherever_it_is(drawn, entry):
    model, noise, images = drawn
    images.view(6, -1)[3, entry] = (images.view(6, -1)[3, entry] + 1) % 3
    found = certify(model, images, noise)
    assert found.mismatches >= 1
    assert not found.holds


def test_a_flip_within_rounding_is_counted_and_holds(drawn):
    model, noise, images = drawn
    # the last entry of image 0 in its order: nothing depends on it
    last = int(model.generation_steps(int(noise.ordering[0])).flatten().argmax())
    scores = (model.conditional_logits(images, int(noise.ordering[0])) + noise.gumbel)[0].flatten(1)[:, last]
    best, second = scores.topk(2).indices.tolist()
    noise.gumbel.view(6, 3, -1)[0, second, last] += scores[best] - scores[second] - 5e-6
    images.view(6, -1)[0, last] = second
    assert certify(model, images, noise) == Certificate(entries=6 * 24, mismatches=1, within_rounding=1)
    noise.gumbel.view(6, 3, -1)[0, second, last] -= 2e-5
    assert certify(model, images, noise) == Certificate(entries=6 * 24, mismatches=1, within_rounding=0)


def test_known_entries_are_left_out_and_the_others_confirmed(drawn):
    model, noise, _ = drawn
    known = torch.randint(3, (6, *SPEC.shape), dtype=torch.uint8)
    mask = torch.zeros(1, *SPEC.shape, dtype=torch.bool)
    mask[..., :2, :] = True
    images = model.samplers()["raster"](6, noise=noise, known=known, mask=mask)
    assert certify(model, images, noise, known=known, mask=mask) == Certificate(entries=6 * 8)
    assert not certify(model, images, noise).holds


def test_a_known_entry_that_was_flipped_is_caught(drawn):
    model, noise, _ = drawn
    known = torch.zeros(6, *SPEC.shape, dtype=torch.uint8)
    mask = torch.zeros(6, *SPEC.shape, dtype=torch.bool)
    mask[2, 1, 2, 3] = True
    images = model.samplers()["raster"](6, noise=noise, known=known, mask=mask)
    images[2, 1, 2, 3] = 1
    found = certify(model, images, noise, known=known, mask=mask)
    assert found.known_changed == 1
    with pytest.raises(CertificateFailed, match=r"sampler 'x': .*1 known entries were changed"):
        found.require("sampler 'x'")


@pytest.mark.parametrize("wrong", ["shape", "type", "mask"])
def test_what_cannot_be_confirmed_is_refused(drawn, wrong):
    model, noise, images = drawn
    arguments = {"known": images} if wrong == "mask" else {}
    images = {"shape": images[:3], "type": images.long(), "mask": images}[wrong]
    with pytest.raises(ValueError, match=r"certificate|mask"):
        certify(model, images, noise, **arguments)


def test_certificates_of_several_batches_add_up():
    total = Certificate(10, 2, 1, 0) + Certificate(5, 1, 1, 3)
    assert total == Certificate(15, 3, 2, 3)
    assert str(Certificate(10, 2, 2)) == "10 entries confirmed, 2 within rounding"
