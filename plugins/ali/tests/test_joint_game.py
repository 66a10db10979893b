"""The game over joint distributions: what its players minimise and are shown, and what is left of it after training."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from harness import Budget, Dataset, DegenerateSamples, ImageSpec, Split, Trainer, Unsupported
from harness_ali.ali import ALI
from harness_ali.bigan import BiGAN
from harness_ali.hali import HierarchicalALI
from harness_ali.joint_game import discriminator_objective, players_objective

SPEC = ImageSpec(channels=1, height=8, width=8, levels=17)
BUILD = {
    "ali": lambda **changes: ALI(SPEC, **{"network": "mlp", "latents": 3, "width": 8, **changes}),
    "ali-dcgan": lambda **changes: ALI(SPEC, **{"latents": 3, "width": 4, **changes}),
    "bigan": lambda **changes: BiGAN(SPEC, **{"network": "mlp", "latents": 3, "width": 8, **changes}),
    "hali": lambda **changes: HierarchicalALI(SPEC, **{"network": "mlp", "latents": (3, 2), "width": 8, **changes}),
}
models = pytest.mark.parametrize("build", BUILD.values(), ids=BUILD)


class Points(HierarchicalALI):
    """Two levels, without noise."""

    noisy = False


def images(count=20):
    return torch.randint(17, (count, *SPEC.shape), dtype=torch.uint8)


def fit(model, budget="3 steps"):
    data = Dataset("none", SPEC, *[Split(images())] * 3)
    model.fit(data, Trainer(model, data, budget=Budget.parse(budget)))
    return model


def test_at_the_log_ratio_the_discriminator_is_optimal_and_pays_the_jensen_shannon_divergence():
    q, p = (torch.tensor(shares, dtype=torch.float64) for shares in ([1, 2, 5, 2], [4, 1, 2, 3]))  # of ten each
    logits = (q / p).log().requires_grad_()
    cells = torch.arange(4)
    loss = discriminator_objective(logits[cells.repeat_interleave(q.long())], logits[cells.repeat_interleave(p.long())])
    middle = (q + p) / 2
    divergence = ((q / 10 * (q / middle).log()).sum() + (p / 10 * (p / middle).log()).sum()) / 2
    torch.testing.assert_close(loss, 2 * math.log(2) - 2 * divergence)
    torch.testing.assert_close(torch.autograd.grad(loss, logits)[0], torch.zeros(4, dtype=torch.float64))


def test_both_labels_are_flipped_for_encoder_and_generator():
    inferred, generated = torch.randn(5, dtype=torch.float64), torch.randn(7, dtype=torch.float64)
    flipped = -(1 - inferred.sigmoid()).log().mean() - generated.sigmoid().log().mean()
    torch.testing.assert_close(players_objective(inferred, generated), flipped)
    torch.testing.assert_close(players_objective(inferred, generated), discriminator_objective(generated, inferred))


def test_the_penalty_is_half_gamma_of_the_squared_slope_in_images_and_latents():
    model = BUILD["ali"](penalty=3.0).double()
    weights = torch.randn(67, dtype=torch.float64)
    model.discriminator.forward = lambda x, z: torch.cat([x.flatten(1), z], 1) @ weights
    pairs = [(torch.rand(5, *SPEC.shape).double(), torch.randn(5, 3).double()) for _ in range(2)]
    expected = discriminator_objective(*model._logits(pairs)) + 1.5 * weights.square().sum()
    torch.testing.assert_close(model.discriminator_loss(pairs), expected)


@models
def test_the_encoders_pairs_reach_every_weight_of_the_encoder_and_the_generators_of_the_generator(build):
    model = build()
    (real, inferred), (fake, generated) = model._pairs(model.chain, torch.rand(10, *SPEC.shape))
    for players, (x, z) in ({"up": (real, inferred), "down picture": (fake, generated)}).items():
        names, weights = zip(*model.chain.named_parameters(), strict=True)
        gradients = torch.autograd.grad(model.discriminator(x, z).square().sum(), weights, allow_unused=True)
        reached = {name for name, gradient in zip(names, gradients, strict=True) if gradient is not None}
        assert reached == {name for name in names if name.partition(".")[0] in players.split()}
        assert all(gradient.isfinite().all() for gradient in gradients if gradient is not None)


@models
def test_a_step_moves_all_players_and_the_average_with_them(build):
    model = build()
    before = {name: value.clone() for name, value in model.named_parameters()}
    fit(model, "1 step")
    moved = {name.partition(".")[0] for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert moved == {"chain", "discriminator", "average"}


def test_the_discriminators_step_leaves_encoder_and_generator_alone(monkeypatch):
    model = BUILD["hali"](averaging=0.0)
    before = {name: value.clone() for name, value in model.named_parameters()}
    monkeypatch.setattr("harness_ali.joint_game.players_objective", lambda *logits: 0 * sum(x.sum() for x in logits))
    fit(model, "1 step")
    moved = {name.partition(".")[0] for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert moved == {"discriminator"}


def test_the_discriminator_is_shown_draws_of_latents_and_never_means():
    model = BUILD["ali"]()
    (_, latents), _ = model.draw_pairs(images(1).expand(2000, -1, -1, -1))
    found = model.average.eval().up[0](torch.zeros(1, *SPEC.shape))  # a deviation near one, as the weights are small
    assert latents.std(0).min() > 0.5 * (0.5 * found.log_variance).exp().min()
    (_, codes), _ = BUILD["bigan"]().draw_pairs(images(1).expand(5, -1, -1, -1))
    torch.testing.assert_close(codes, codes[:1].expand(5, -1))


@models
def test_an_images_code_and_a_pairs_logit_do_not_depend_on_what_stands_beside_them(build):
    model = fit(build()).double()
    given = images(6)
    codes = model.encode(given)
    torch.testing.assert_close(model.encode(given[:1]), codes[:1])
    torch.testing.assert_close(model.log_ratio(given[:1], codes[:1]), model.log_ratio(given, codes)[:1])
    assert not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.discriminator.modules())


def test_codes_hold_the_top_level_first_at_the_means_of_the_level_below():
    model = fit(BUILD["hali"]())
    codes = model.encode(images(4))
    assert model.latent_sizes == (2, 3)
    torch.testing.assert_close(codes[:, :2], model.average.eval().up[1](codes[:, 2:]).mean)


def test_what_is_decoded_is_the_bottom_levels_image_in_levels():
    model = fit(BUILD["hali"]())
    latents = torch.randn(4, 5)
    expected = (model.average.eval().picture(latents[:, 2:]) + 1) * 8
    torch.testing.assert_close(model.decode(latents), expected)
    torch.testing.assert_close(model.decode(latents.index_fill(1, torch.tensor([0, 1]), 0.0)), expected)


def test_a_level_is_reconstructed_up_to_it_and_down_again():
    model = fit(Points(SPEC, network="mlp", latents=(3, 2), width=8))
    given, chain = images(4), model.average.eval()
    codes = model.encode(given)
    torch.testing.assert_close(model.reconstruct(given), model.decode(codes))
    below = chain.down[0](codes[:, :2]).mean
    torch.testing.assert_close(model.reconstruct(given, level=2), (chain.picture(below) + 1) * 8)
    with pytest.raises(ValueError, match="level must be from 1 to 2, not 3"):
        model.reconstruct(given, level=3)


def test_the_top_is_gaussian_or_uniform():
    normal, uniform = (BUILD[name]().draw_top(2000) for name in ("ali", "bigan"))
    assert abs(normal.var() - 1) < 0.1
    assert normal.abs().max() > 2
    assert abs(uniform.var() - 1 / 3) < 0.03
    assert 0.99 < uniform.abs().max() < 1


@models
def test_samples_follow_the_generator_and_nothing_is_changed_by_them(build):
    model = fit(build())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        model.chain.picture[0].weight.fill_(torch.nan)
    assert model.sample(5).shape == (5, *SPEC.shape)  # of the average
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"chain.picture.0.weight"}
    assert model.training


def test_a_broken_generator_is_an_error_and_no_black_image():
    model = BUILD["ali"](averaging=0.0)
    nn.init.constant_(model.chain.picture[0].weight, torch.nan)
    with pytest.raises(DegenerateSamples, match="the generator's output is not finite: it holds nan"):
        model.sample(10)


def test_bad_hyperparameters_are_named():
    with pytest.raises(ValueError, match=r"latents must be one positive number or more, not \(3, 0\)"):
        HierarchicalALI(SPEC, latents=(3, 0))
    with pytest.raises(ValueError, match="dropout must be at least 0 and below 1, not 1"):
        ALI(SPEC, dropout=1.0)
    with pytest.raises(ValueError, match="network must be one of 'mlp', 'dcgan', not 'cnn'"):
        BiGAN(SPEC, network="cnn")
    with pytest.raises(Unsupported, match="3x3; network = 'mlp' takes any"):
        ALI(ImageSpec(1, 3, 3, 2))
