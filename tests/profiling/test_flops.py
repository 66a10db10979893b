"""Operations against counts by hand; and what has no rule, which must be named."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import library, nn

from harness import count_flops

T, D = 10, 16  # tokens, their width
TOKENS = torch.linspace(-1, 1, T * D).view(1, T, D)
HEADS = TOKENS.view(1, T, 2, 8).transpose(1, 2)
MATRIX, VECTOR = torch.eye(5) + 1, torch.ones(5)
ATTENTION = 2 * 2 * T * T * D
PROJECTIONS = 4 * 2 * T * D * D


@library.custom_op("examples::product", mutates_args=())
def hidden_product(a: torch.Tensor) -> torch.Tensor:
    return a @ a.T


class Squared(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a):
        return a @ a.T


def evaluated(layer: nn.Module) -> Callable[[], object]:
    layer.eval()
    return lambda: layer(TOKENS)


COUNTED = {
    "scaled_dot_product_attention": (lambda: F.scaled_dot_product_attention(HEADS, HEADS, HEADS), ATTENTION),
    "attention with a mask": (
        lambda: F.scaled_dot_product_attention(HEADS, HEADS, HEADS, torch.ones(T, T, dtype=torch.bool)),
        ATTENTION,
    ),
    "heads that share a key": (
        lambda: F.scaled_dot_product_attention(HEADS, HEADS[:, :1], HEADS[:, :1], enable_gqa=True),
        ATTENTION,
    ),
    "narrower values": (
        lambda: F.scaled_dot_product_attention(HEADS, HEADS, HEADS[..., :4]),
        2 * 2 * T * T * (8 + 4),
    ),
    "MultiheadAttention": (
        lambda: nn.MultiheadAttention(D, 2, batch_first=True).eval()(TOKENS, TOKENS, TOKENS, need_weights=False),
        PROJECTIONS + ATTENTION,
    ),
    "TransformerEncoderLayer": (
        evaluated(nn.TransformerEncoderLayer(D, 2, 32, batch_first=True)),
        PROJECTIONS + ATTENTION + 2 * 2 * T * D * 32,
    ),
    "LSTM": (evaluated(nn.LSTM(D, 8, batch_first=True)), 2 * T * 4 * 8 * (D + 8)),
    "GRU": (evaluated(nn.GRU(D, 8, batch_first=True)), 2 * T * 3 * 8 * (D + 8)),
    "einsum": (lambda: torch.einsum("bij,bkj->bik", TOKENS, TOKENS), 2 * T * T * D),
    "baddbmm": (lambda: torch.baddbmm(torch.zeros(1, T, T), TOKENS, TOKENS.mT), 2 * T * T * D),
    "addbmm": (lambda: torch.addbmm(torch.zeros(T, T), TOKENS, TOKENS.mT), 2 * T * T * D),
    "dot": (lambda: VECTOR @ VECTOR, 2 * 5),
    "mv": (lambda: MATRIX @ VECTOR, 2 * 5 * 5),
    "addmm in place": (lambda: torch.zeros(5, 5).addmm_(MATRIX, MATRIX), 2 * 5**3),
    "baddbmm in place": (lambda: torch.zeros(1, T, T).baddbmm_(TOKENS, TOKENS.mT), 2 * T * T * D),
    "addmv in place": (lambda: torch.zeros(5).addmv_(MATRIX, VECTOR), 2 * 5 * 5),
    "triangular solve": (lambda: torch.linalg.solve_triangular(MATRIX, MATRIX[:, :3], upper=False), 5 * 5 * 3),
    "triangular solve from the right": (
        lambda: torch.linalg.solve_triangular(MATRIX, MATRIX[:3], upper=False, left=False),
        5 * 5 * 3,
    ),
    "one triangle for a batch": (
        lambda: torch.linalg.solve_triangular(MATRIX.expand(4, 5, 5), MATRIX[:, :3], upper=False),
        4 * 5 * 5 * 3,
    ),
    "addmv": (lambda: torch.addmv(VECTOR, MATRIX, VECTOR), 2 * 5 * 5),
    "transposed convolution": (lambda: nn.ConvTranspose2d(3, 4, 3)(torch.ones(1, 3, 5, 5)), 2 * 25 * 3 * 4 * 9),
    "autograd.Function": (lambda: Squared.apply(MATRIX), 2 * 5**3),
    "checkpoint": (lambda: torch.utils.checkpoint.checkpoint(torch.mm, MATRIX, MATRIX, use_reentrant=False), 2 * 5**3),
}


@pytest.mark.parametrize("name", COUNTED)
def test_products_are_counted_whatever_fuses_them(name):
    call, right = COUNTED[name]
    found = count_flops(call)
    assert (found, found.not_counted) == (right, ())


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_scripted_part_is_counted():
    scripted = torch.jit.script(nn.Linear(D, 4))
    for _ in range(3):  # it is optimised at its second call
        found = count_flops(lambda: scripted(TOKENS))
    assert (found, found.not_counted) == (2 * T * D * 4, ())


@pytest.mark.thorough
def test_a_compiled_part_is_counted_after_it_was_compiled():
    compiled = torch.compile(nn.Linear(D, 4), backend="aot_eager")
    compiled(TOKENS)
    assert count_flops(lambda: compiled(TOKENS)) == 2 * T * D * 4


NAMED = {
    "aten._trilinear": lambda: F.bilinear(MATRIX, MATRIX, torch.ones(2, 5, 5)),
    "aten._fft_r2c": lambda: torch.fft.rfft(VECTOR),
    "aten._fft_c2c": lambda: torch.fft.fft2(MATRIX.to(torch.complex64)),
    "aten._linalg_solve_ex": lambda: torch.linalg.solve(MATRIX, VECTOR),
    "aten.linalg_cholesky_ex": lambda: torch.linalg.cholesky(MATRIX),
    "aten._linalg_slogdet": lambda: torch.linalg.slogdet(MATRIX),
    "aten._linalg_svd": lambda: torch.linalg.svd(MATRIX),
    "aten.linalg_matrix_exp": lambda: torch.linalg.matrix_exp(MATRIX),
    "aten._cdist_forward": lambda: torch.cdist(MATRIX, MATRIX),
    "aten.grid_sampler_2d": lambda: F.grid_sample(torch.ones(1, 1, 4, 4), torch.zeros(1, 3, 3, 2), align_corners=True),
    "aten.upsample_bilinear2d": lambda: F.interpolate(torch.ones(1, 1, 4, 4), scale_factor=2, mode="bilinear"),
    "aten.mm of sparse or complex numbers": lambda: MATRIX.to(torch.complex64) @ MATRIX.to(torch.complex64),
    "examples.product": lambda: hidden_product(MATRIX),
}


@pytest.mark.parametrize("name", NAMED)
def test_an_operation_without_a_rule_makes_the_count_at_least_and_is_named(name):
    found = count_flops(NAMED[name])
    assert found.not_counted == (name,)
    assert str(found) == f"at least 0, not counted: {name}"


def test_the_products_around_an_operation_without_a_rule_still_count():
    found = count_flops(lambda: hidden_product(MATRIX @ MATRIX))
    assert (found, found.not_counted) == (2 * 5**3, ("examples.product",))


def test_what_works_on_each_number_by_itself_or_sums_them_up_counts_as_nothing_exactly():
    def call():
        x = TOKENS.relu().relu_().softmax(1).rsqrt().lgamma().cumsum(1)
        x = F.layer_norm(F.avg_pool1d(F.pad(x, (1, 1)), 3, 1), (D,)) + x.sort().values.max()
        torch.distributions.Gamma(x.exp(), 1.0).sample()
        torch.multinomial(x[0].softmax(1), 1)
        F.interpolate(F.normalize(x)[None], scale_factor=2)
        return F.embedding(torch.tensor([0]), x[0]), torch.linalg.vector_norm(x), F.one_hot(torch.tensor([1])).float()

    found = count_flops(call)
    assert (found, found.not_counted) == (0, ())


def test_counting_leaves_torchs_settings_as_they_were():
    def settings():
        backends = torch.backends
        return backends.mkldnn.enabled, backends.mha.get_fastpath_enabled(), backends.cudnn.enabled

    before = settings()
    with pytest.raises(ZeroDivisionError):
        count_flops(lambda: 1 / 0)
    assert settings() == before


def test_a_count_is_a_number_to_whoever_computes_with_it():
    found = count_flops(lambda: hidden_product(MATRIX @ MATRIX))
    assert json.dumps(found * 2) == "500"
