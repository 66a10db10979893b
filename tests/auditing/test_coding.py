"""The coding receipt: what is coded comes back, and takes as many bits as the likelihood says."""

import math
import struct
import sys
import zlib
from typing import ClassVar

import pytest
import torch
from torch import nn

from harness import Autoregressive, ExactLikelihood, ImageSpec, Unsupported
from harness.auditing.coding import HEADER_BYTES, UNIT, CodingError, code_images, decode, encode, families

pytest.importorskip("constriction", reason="constriction is not installed")

BINARY = ImageSpec(1, 4, 4, 2)
LEVELS = ImageSpec(1, 3, 3, 5)
COLOUR = ImageSpec(3, 2, 3, 4)
GREY = ImageSpec(1, 2, 3, 256)
FIXED_BITS = 8 * HEADER_BYTES + 64


class Causal(Autoregressive):
    """logits = bias + a random linear map of the one-hot entries of earlier steps; a member a row of ``orders``."""

    def __init__(self, spec, *, orders=(None,), members_an_order=1, group=1, gain=1.5, diagonal=False, seed=0):
        super().__init__(spec)
        random = torch.Generator().manual_seed(seed)
        size, levels = spec.num_dimensions, spec.levels
        self.num_orderings = len(orders) * members_an_order
        steps = [torch.arange(size) if order is None else torch.tensor(order) for order in orders]
        self.steps = [step // group for step in steps for _ in range(members_an_order)]
        shape = (self.num_orderings, size, levels, size, levels)
        self.weight = nn.Parameter(gain * torch.randn(shape, generator=random) / size**0.5)
        self.bias = nn.Parameter(torch.randn(self.num_orderings, size, levels, generator=random))
        earlier = torch.stack([step[:, None] > step[None] for step in self.steps])  # (members, to, from)
        if diagonal:
            earlier = earlier | torch.eye(size, dtype=torch.bool)
        self.register_buffer("mask", earlier[:, :, None, :, None].float(), persistent=False)

    def conditional_logits(self, images, ordering=0):
        inputs = nn.functional.one_hot(images.flatten(1).long(), self.spec.levels).to(self.dtype)
        weight = self.weight[ordering] * self.mask[ordering]
        logits = self.bias[ordering] + torch.einsum("njv,iljv->nil", inputs, weight)  # (N, D, levels)
        return logits.transpose(1, 2).reshape(len(images), self.spec.levels, *self.spec.shape)

    def generation_steps(self, ordering=0):
        return self.steps[ordering].view(self.spec.shape)

    def fit(self, data, trainer):
        raise NotImplementedError


def draw(model, number, seed=1):
    torch.manual_seed(seed)
    with torch.no_grad():
        return model.sample(number)


def order(spec, seed):
    return torch.randperm(spec.num_dimensions, generator=torch.Generator().manual_seed(seed)).tolist()


def quantisation_bits(spec, number):
    """Expected at most: one unit for every value that is not the entry's, and for rounding."""
    return number * spec.num_dimensions * 2 * spec.levels * UNIT / math.log(2)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Causal(BINARY),
        lambda: Causal(LEVELS),
        lambda: Causal(COLOUR, orders=(order(COLOUR, 0),)),
        lambda: Causal(GREY, gain=4.0),
        lambda: Causal(BINARY, group=3),
        lambda: Causal(LEVELS, members_an_order=3),
        lambda: Causal(LEVELS, members_an_order=3, group=2, gain=4.0),
    ],
    ids=["binary", "levels", "channels", "256 levels", "groups", "mixture", "mixture, groups"],
)
def test_images_come_back_from_a_file_as_long_as_their_nll_but_for_header_word_and_quantisation(make):
    model = make().double()
    images = draw(model, 500)
    receipt, content = code_images(model, images, batch_size=200)
    assert receipt.decoded_equal
    assert torch.equal(decode(model, content), images)
    with torch.no_grad():
        nll_bits = -model.log_prob(images).sum().item() / math.log(2)
    overhead = 8 * len(content) - nll_bits
    assert -1e-6 * nll_bits <= overhead <= FIXED_BITS + 2 * quantisation_bits(model.spec, 500)
    assert receipt.largest_difference < 1e-9
    assert receipt.holds
    assert not receipt.is_upper_bound
    assert receipt.num_bytes == len(content)


def test_a_mixture_of_masks_is_coded_in_fewer_bits_than_by_the_best_member_of_each_image():
    model = Causal(LEVELS, members_an_order=4, gain=1.0).double()
    images = draw(model, 300)
    receipt, _ = code_images(model, images)
    with torch.no_grad():
        members = torch.stack([model.conditional_log_probs(images, k).flatten(1).sum(1) for k in range(4)])
    by_best = (math.log(4) - members.max(0).values).mean().item()
    assert receipt.nats_per_image - FIXED_BITS * math.log(2) / 300 < by_best


def test_a_mixture_of_orders_is_coded_by_the_best_order_and_says_that_this_is_a_bound():
    orders = (None, order(LEVELS, 1), order(LEVELS, 2))
    model = Causal(LEVELS, orders=orders, members_an_order=2).double()
    assert families(model) == [[0, 1], [2, 3], [4, 5]]
    images = draw(model, 400)
    receipt, content = code_images(model, images, batch_size=150)
    assert torch.equal(decode(model, content), images)
    assert receipt.is_upper_bound
    assert receipt.bound_slack == pytest.approx(math.log(3))
    assert receipt.holds
    with torch.no_grad():
        parts = torch.stack([model.conditional_log_probs(images, k).flatten(1).sum(1) for k in range(6)])
    by_best = parts.view(3, 2, -1).logsumexp(1).max(0).values - math.log(6)
    assert receipt.conditional_nats == pytest.approx(-by_best.mean().item(), rel=1e-9)
    assert receipt.nll <= receipt.conditional_nats <= receipt.nll + math.log(3)


def test_the_entries_of_a_group_are_coded_with_a_posterior_over_members_that_has_seen_the_others():
    # two members, sure of opposite images: after one entry the rest is certain, though all are in one step
    model = Causal(ImageSpec(1, 3, 3, 2), members_an_order=2, group=9, gain=0.0).double()
    with torch.no_grad():
        model.bias[:] = 0
        model.bias[0, :, 1], model.bias[1, :, 0] = 40.0, 40.0
    receipt, _ = code_images(model, torch.ones(1000, 1, 3, 3, dtype=torch.uint8))
    assert receipt.nll == pytest.approx(math.log(2))
    assert receipt.conditional_nats == pytest.approx(math.log(2))


def test_one_image_and_one_batch_an_image_are_coded_as_well():
    model = Causal(BINARY)
    images = draw(model, 3)
    assert torch.equal(decode(model, encode(model, images[:1])[0]), images[:1])
    assert torch.equal(decode(model, encode(model, images, batch_size=1)[0]), images)


class Watched(Causal):
    seen: ClassVar[list] = []

    def conditional_logits(self, images, ordering=0):
        self.seen.append(images.flatten(1).tolist())
        return super().conditional_logits(images, ordering)


def test_the_network_sees_what_is_coded_and_guesses_and_is_asked_again_only_where_a_guess_was_wrong():
    model = Watched(ImageSpec(1, 1, 4, 2), gain=0.0)
    with torch.no_grad():
        model.bias[0] = torch.tensor([[0.0, 1], [0, 1], [1, 0], [0, 1]])  # the likeliest image is 1101
    images = torch.tensor([[0, 0, 0, 0], [1, 1, 0, 1], [0, 1, 0, 0]], dtype=torch.uint8).view(3, 1, 1, 4)
    Watched.seen.clear()
    encode(model, images)
    first, second, third = Watched.seen
    assert first == [[0, 0, 0, 0]] * 3  # before anything is coded
    assert second == [[1, 1, 0, 1]]  # the second image began with a one
    assert third == [[0, 1, 0, 1]]  # the third has a one where zero was guessed at first
    # wrong in its last entry, after which nothing comes; the first image was as guessed throughout


def test_an_impossible_image_is_coded_all_the_same_and_the_receipt_does_not_hold():
    model = Causal(BINARY, gain=0.0)
    with torch.no_grad():
        model.bias[0, 5, 1] = -math.inf
    images = torch.ones(2, 1, 4, 4, dtype=torch.uint8)
    receipt, content = code_images(model, images)
    assert receipt.decoded_equal
    assert not receipt.holds
    assert torch.equal(decode(model, content), images)


def test_the_file_of_a_model_whose_conditionals_see_their_own_entry_is_longer_than_its_nll():
    model = Causal(BINARY, diagonal=True, gain=0.5)
    images = draw(model, 500)
    with torch.no_grad():  # each entry has learnt to copy itself
        torch.einsum("ivv->iv", torch.einsum("iliv->ilv", model.weight[0])).add_(4.0)
    receipt, _ = code_images(model, images)
    assert receipt.overhead > 1
    assert receipt.largest_difference > 10
    assert not receipt.holds


def test_a_log_prob_that_is_not_that_of_the_conditionals_does_not_hold():
    class Optimist(Causal):
        def log_prob(self, images):
            return super().log_prob(images) / math.log2(math.e)

    model = Optimist(BINARY)
    receipt, _ = code_images(model, draw(model, 500))
    assert receipt.decoded_equal
    assert not receipt.holds


class Noisy(Causal):
    def conditional_logits(self, images, ordering=0):
        logits = super().conditional_logits(images, ordering)
        return logits + 0.5 * torch.randn_like(logits)


def test_a_model_whose_conditionals_differ_from_call_to_call_cannot_be_decoded():
    model = Noisy(BINARY)
    images = draw(model, 200)
    receipt, content = code_images(model, images)
    assert not receipt.decoded_equal
    assert not receipt.holds
    with pytest.raises(CodingError, match=r"other images came out|could have written"):
        decode(model, content)


class Rounding(Causal):
    def conditional_logits(self, images, ordering=0):
        logits = super().conditional_logits(images, ordering)
        return logits * (1 + 1e-13 * torch.randn_like(logits))


def test_a_decoder_that_rounds_otherwise_than_the_encoder_returns_the_same_images():
    model = Rounding(LEVELS, orders=(None, order(LEVELS, 3)), members_an_order=2)
    images = draw(model, 500)
    assert torch.equal(decode(model, encode(model, images)[0]), images)


def test_conditionals_that_are_nan_are_an_error_that_names_the_entry():
    model = Causal(BINARY)
    with torch.no_grad():
        model.bias[0, 7] = math.nan
    with pytest.raises(CodingError, match="entry 7 is NaN"):
        encode(model, torch.zeros(2, 1, 4, 4, dtype=torch.uint8))


def test_a_model_without_conditionals_is_unsupported():
    class Exact(ExactLikelihood):
        def log_prob(self, images):
            raise NotImplementedError

        sample = fit = log_prob

    with pytest.raises(Unsupported, match="Exact has no conditionals"):
        code_images(Exact(BINARY), torch.zeros(1, 1, 4, 4, dtype=torch.uint8))


@pytest.fixture(scope="module")
def coded():
    model = Causal(BINARY)
    return model, encode(model, draw(model, 50))[0]


def with_check(content):
    """The content with a right checksum, whatever was done to it."""
    head, body = content[: HEADER_BYTES - 4], content[HEADER_BYTES:]
    return head + struct.pack("<I", zlib.crc32(head + body)) + body


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda c: b"\x89PNG" + c, "not a file of coded images"),
        (lambda c: b"", "not a file of coded images"),
        (lambda c: c[:20], "cut off: 20 bytes"),
        (lambda c: c[:-3], "cut off: "),
        (lambda c: c + b"more", "damaged"),
        (lambda c: c[:-5] + bytes([c[-5] ^ 1]) + c[-4:], "damaged"),
        (lambda c: c[:12] + b"\x09" + c[13:], "damaged"),
        (lambda c: c[:8] + b"\x07\x00" + c[10:], "version 7; this harness reads 1"),
        (lambda c: with_check(c[:12] + b"\x05\x00" + c[14:]), "1x5x4 entries of 2 levels, the model is of 1x4x4"),
        (lambda c: with_check(c[:38] + b"\x00\x00\x00\x00" + c[42:]), "other images came out"),
    ],
)  # fmt: skip
def test_a_damaged_or_foreign_file_is_one_clear_line(coded, damage, message):
    model, content = coded
    with pytest.raises(CodingError, match=message) as caught:
        decode(model, damage(content))
    assert "\n" not in str(caught.value)


def test_a_file_of_other_weights_is_refused(coded):
    _, content = coded
    with pytest.raises(CodingError, match="by another model, or by other weights"):
        decode(Causal(BINARY, seed=9), content)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(2, 1, 3, 3, dtype=torch.uint8), r"must be \(N, 1, 4, 4\) uint8"),
        (torch.zeros(2, 1, 4, 4), "float32"),
        (torch.zeros(0, 1, 4, 4, dtype=torch.uint8), "no image"),
        (torch.full((2, 1, 4, 4), 2, dtype=torch.uint8), "the value 2, the model knows 0 to 1"),
    ],
)
def test_images_that_the_model_does_not_know_are_refused(images, message):
    with pytest.raises(CodingError, match=message):
        encode(Causal(BINARY), images)


def test_without_the_range_coder_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "constriction", None)
    with pytest.raises(CodingError, match=r"pip install 'genharness\[coding\]'"):
        encode(Causal(BINARY), torch.zeros(1, 1, 4, 4, dtype=torch.uint8))


def test_progress_rises_to_one_in_both_directions():
    told = []
    model = Causal(LEVELS, orders=(None, order(LEVELS, 1)))
    code_images(model, draw(model, 40), batch_size=15, progress=lambda stage, fraction: told.append((stage, fraction)))
    for stage in ("encode", "decode"):
        fractions = [fraction for name, fraction in told if name == stage]
        assert fractions == sorted(fractions)
        assert fractions[-1] == pytest.approx(1)
