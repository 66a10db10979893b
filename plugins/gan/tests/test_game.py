"""Claims that hold for every model of this package: the game, its resumption, and the samples that are left of it."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from harness import Budget, Dataset, DegenerateSamples, ImageSpec, Split, Trainer, Unsupported
from harness_gan.adversarial import Adversarial, Round
from harness_gan.gan import GAN
from harness_gan.penalties import gradient_norms
from harness_gan.wgan import WGAN
from harness_gan.wgan_gp import WGANGP
from harness_layers.pixels import scale

SPEC = ImageSpec(channels=1, height=8, width=8, levels=256)
BUILD = {
    "gan-mlp": lambda spec=SPEC, **changes: GAN(spec, network="mlp", latents=4, width=16, **changes),
    "gan-dcgan": lambda spec=SPEC, **changes: GAN(spec, network="dcgan", latents=4, width=8, **changes),
    "relativistic-r1": lambda spec=SPEC, **changes: GAN(
        spec, objective="relativistic-average", penalty="r1", network="mlp", latents=4, width=16, **changes
    ),
    "wgan-mlp": lambda spec=SPEC, **changes: WGAN(spec, network="mlp", latents=4, width=16, **changes),
    "wgan-gp-mlp": lambda spec=SPEC, **changes: WGANGP(spec, network="mlp", latents=4, width=16, **changes),
    "wgan-gp-dcgan": lambda spec=SPEC, **changes: WGANGP(spec, network="dcgan", latents=4, width=8, **changes),
}
models = pytest.mark.parametrize("build", BUILD.values(), ids=BUILD.keys())


def random_data(spec=SPEC, num=40):
    split = Split(torch.randint(spec.levels, (num, *spec.shape), dtype=torch.uint8))
    return Dataset("random", spec, split, split, split)


def state_of(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(left, right):
    return list(left) == list(right) and all(torch.equal(left[name], right[name]) for name in left)


def fit(model, data, *, budget="20 steps", **options):
    trainer = Trainer(model, data, budget=Budget.parse(budget), **options)
    model.fit(data, trainer)
    return trainer


@models
def test_the_discriminators_step_changes_nothing_of_the_generator_and_the_generators_nothing_of_it(build):
    model = build().double().train()
    generators, discriminators = model.optimizers()
    latents = model.draw_latents(6)
    fake = model.generator(latents)
    shown = Round(torch.rand_like(fake) * 2 - 1, fake, latents)
    before = state_of(model.generator)
    loss = model.discriminator_loss(shown.detached()) + model.penalty(shown.detached())
    loss.backward(inputs=list(model.discriminator.parameters()))
    discriminators.step()
    assert same(state_of(model.generator), before)
    before, weights = state_of(model.discriminator), state_of(model.generator)
    generators.zero_grad()
    model.generator_loss(shown).backward()
    generators.step()
    assert same(state_of(model.discriminator), before)
    changed = [not torch.equal(weights[name], value) for name, value in model.generator.named_parameters()]
    assert sum(changed) > len(changed) / 2


class Recorder(Trainer):
    """Keeps a copy of both players after every step."""

    def log(self, *, loss, **scalars):
        self.history = [*getattr(self, "history", []), (state_of(self.model), scalars)]
        super().log(loss=loss, **scalars)


@models
@pytest.mark.parametrize("critic_steps", [1, 3])
def test_the_generator_moves_every_critic_steps_batches_and_the_discriminator_every_batch(build, critic_steps):
    data, model = random_data(), build(batch_size=10, critic_steps=critic_steps, schedule="constant")
    parameters = {name for name, _ in model.named_parameters()}
    trainer = Recorder(model, data, budget=Budget.parse("7 steps"))
    states = [state_of(model)]
    model.fit(data, trainer)
    states += [state for state, _ in trainer.history]
    for step, (before, after) in enumerate(pairwise(states), start=1):
        moved = {name.partition(".")[0] for name in parameters if not torch.equal(before[name], after[name])}
        turn = step % critic_steps == 0
        assert moved == ({"generator", "discriminator", "average"} if turn else {"discriminator"})
        assert ("generator_loss" in trainer.history[step - 1][1]) == turn


def test_a_penalty_is_added_to_what_the_critic_minimises():
    class Unpenalised(WGANGP):
        def penalty(self, shown):
            return super().penalty(shown) * 0

    moved, losses = [], []
    for kind in (WGANGP, Unpenalised):
        torch.manual_seed(0)
        model = kind(SPEC, network="mlp", latents=4, width=16, critic_steps=1)
        trainer = Recorder(model, random_data(), budget=Budget.parse("1 step"))
        model.fit(trainer.data, trainer)
        moved.append(trainer.history[0][0])
        losses.append(trainer.history[0][1]["penalty"].item())
    assert losses[0] > 0 == losses[1]
    name = "discriminator.1.weight"
    assert not torch.equal(moved[0][name], moved[1][name])


def test_a_critic_has_a_penalty_and_a_gan_has_none():
    real, fake = (torch.rand(5, *SPEC.shape, dtype=torch.float64) * 2 - 1 for _ in range(2))
    shown = Round(real, fake, torch.zeros(5, 4))
    critic = WGANGP(SPEC, network="mlp", latents=4, width=8).double()
    loss, penalty = critic.discriminator_loss(shown), critic.penalty(shown)
    scores = critic.discriminator(fake).mean() - critic.discriminator(real).mean()
    assert penalty > 0
    torch.testing.assert_close(loss, scores)
    model = GAN(SPEC, network="dcgan", latents=4, width=8).double()
    loss, penalty = model.discriminator_loss(shown), model.penalty(shown)
    log_d = [torch.nn.functional.logsigmoid(s) for s in (model.discriminator(real), -model.discriminator(fake))]
    torch.testing.assert_close(loss, -log_d[0].mean() - log_d[1].mean())
    assert penalty == 0


def test_a_critic_has_no_batch_norm_though_a_discriminator_has():
    kinds = [{type(part).__name__ for part in BUILD[name]().discriminator} for name in ("wgan-gp-dcgan", "gan-dcgan")]
    assert ["BatchNorm2d" in found for found in kinds] == [False, True]


def test_the_learning_rate_falls_linearly_or_stays():
    rates = []

    class Watched(GAN):
        def optimizers(self):
            pair = super().optimizers()
            for one in pair:
                one.register_step_pre_hook(lambda it, *_: rates.append(it.param_groups[0]["lr"]))
            return pair

    for schedule in ("linear", "constant"):
        model = Watched(SPEC, network="mlp", latents=2, width=4, learning_rate=0.1, schedule=schedule)
        fit(model, random_data(), budget="4 steps")
    assert rates == pytest.approx([0.1, 0.1, 0.075, 0.075, 0.05, 0.05, 0.025, 0.025] + [0.1] * 8)


@models
def test_samples_come_from_the_moving_average_of_the_generators_after_each_of_its_steps(build):
    data, model = random_data(), build(batch_size=10, critic_steps=2, averaging=0.25)
    mean = state_of(model.generator)
    trainer = Recorder(model, data, budget=Budget.parse("6 steps"))
    model.fit(data, trainer)
    for step, (state, _) in enumerate(trainer.history[1::2], start=1):
        kept = min(0.25, (1 + step) / (10 + step))  # 2/11, then 1/4: the average is shorter at first
        for name, value in mean.items():
            new = state[f"generator.{name}"]
            mean[name] = kept * value + (1 - kept) * new if new.is_floating_point() else value
    for name, value in model.average.state_dict().items():
        torch.testing.assert_close(value, mean[name], rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        for parameter in model.generator.parameters():
            parameter.zero_()
    assert len(model.sample(20).unique(dim=0)) > 1


def test_without_averaging_the_generator_itself_is_sampled():
    model = GAN(SPEC, network="mlp", latents=4, width=8, averaging=0.0)
    assert model.average is None
    with torch.no_grad():
        for parameter in model.generator.parameters():
            parameter.zero_()
    assert torch.equal(model.sample(3), torch.full((3, *SPEC.shape), 128, dtype=torch.uint8))


@models
@pytest.mark.parametrize("training", [True, False])
def test_sampling_changes_nothing_and_leaves_the_mode_as_it_was(build, training):
    model = build()
    fit(model, random_data())
    model.train(training)
    before = state_of(model)
    model.sample(30)
    assert same(state_of(model), before)
    assert all(module.training == training for module in model.modules())


@models
def test_a_sample_is_the_image_of_its_own_latents_whatever_is_drawn_beside_it(build, monkeypatch):
    model = build().double()
    fit(model, random_data(), precision="float64")
    latents = torch.randn(1200, 4, dtype=torch.float64)
    alone = []
    for row in latents[::100]:
        monkeypatch.setattr(model, "draw_latents", lambda num, row=row: row.expand(num, -1))
        alone.append(model.sample(1))
    pending = [latents]

    def one_after_the_other(num):
        first, pending[0] = pending[0][:num], pending[0][num:]
        return first

    monkeypatch.setattr(model, "draw_latents", one_after_the_other)
    together = model.sample(1200)
    assert len(pending[0]) == 0
    assert torch.equal(torch.cat(alone), together[::100])


@models
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_broken_generator_is_an_error_and_no_black_image(build, bad):
    model = build()
    with torch.no_grad():
        for generator in (model.generator, model.average):
            next(generator.parameters())[0] = bad
    with pytest.raises(DegenerateSamples, match="the generator's output is not finite: it holds nan"):
        model.sample(10)


TINY = [ImageSpec(1, 3, 3, 2), ImageSpec(3, 2, 2, 3), ImageSpec(1, 1, 2, 256)]


@pytest.mark.parametrize("kind", [GAN, WGANGP])
@pytest.mark.parametrize("spec", TINY, ids=lambda spec: "x".join(map(str, (*spec.shape, spec.levels))))
def test_an_mlp_approaches_the_one_image_there_is_in_any_sample_space(kind, spec):
    image = torch.full(spec.shape, spec.levels - 1, dtype=torch.uint8)
    split = Split(image.expand(32, *spec.shape).contiguous())
    model = kind(spec, network="mlp", latents=2, width=16, learning_rate=5e-3)
    fit(model, Dataset("one", spec, split, split, split), budget="150 steps")
    assert model.sample(100).double().mean() > (spec.levels - 1) * 0.7


@models
def test_double_precision_is_kept_throughout(build):
    model = build().double()
    fit(model, random_data(), budget="4 steps", precision="float64")
    assert {value.dtype for value in model.state_dict().values() if value.is_floating_point()} == {torch.float64}


@models
def test_autocast_trains_to_nearly_the_weights_of_single_precision(build):
    data, trained = random_data(), []
    for precision in ("float32", "bfloat16"):
        torch.manual_seed(3)
        model = build(learning_rate=1e-3)
        start = state_of(model)
        fit(model, data, budget="2 steps", precision=precision)
        trained.append(torch.cat([(model.state_dict()[n] - start[n]).flatten() for n, _ in model.named_parameters()]))
    assert torch.nn.functional.cosine_similarity(*trained, dim=0) > 0.8


@models
def test_a_last_batch_of_one_image_is_no_obstacle(build):
    model = build(batch_size=13)
    assert fit(model, random_data(num=14), budget="2 epochs").step == 4


@pytest.mark.parametrize("kind", [GAN, WGAN, WGANGP])
def test_bad_hyperparameters_are_named(kind: type[Adversarial]):
    for name, value in {"latents": 0, "width": -1, "batch_size": 0, "critic_steps": 0, "learning_rate": 0.0}.items():
        with pytest.raises(ValueError, match=f"{name} must be positive, not {value}"):
            kind(SPEC, **{name: value})
    with pytest.raises(ValueError, match=r"averaging must be at least 0 and below 1, not 1"):
        kind(SPEC, averaging=1.0)
    with pytest.raises(ValueError, match=r"schedule must be one of 'constant', .*, not 'step'"):
        kind(SPEC, schedule="step")
    with pytest.raises(ValueError, match=r"network must be one of 'mlp', 'dcgan', .*, not 'cnn'"):
        kind(SPEC, network="cnn")
    with pytest.raises(Unsupported, match="3x3; network = 'mlp' takes any"):
        kind(ImageSpec(1, 3, 3, 2))


def test_bad_hyperparameters_of_one_model_are_named():
    with pytest.raises(ValueError, match="penalty must be positive, not 0"):
        WGANGP(SPEC, penalty=0.0)
    with pytest.raises(ValueError, match="clip must be positive, not 0"):
        WGAN(SPEC, clip=0.0)
    with pytest.raises(ValueError, match=r"dropout must be at least 0 and below 1, not -0\.1"):
        GAN(SPEC, dropout=-0.1)
    with pytest.raises(ValueError, match=r"betas\[1\] must be at least 0 and below 1, not 1.5"):
        GAN(SPEC, betas=(0.0, 1.5))
    with pytest.raises(ValueError, match=r"objective must be one of 'non-saturating', .*, not 'minimax'"):
        GAN(SPEC, objective="minimax")
    with pytest.raises(ValueError, match="penalty must be one of 'none', 'gradient', 'dragan', 'r1', not 'r2'"):
        GAN(SPEC, penalty="r2")
    with pytest.raises(ValueError, match="penalty_weight must be at least 0, not -1"):
        GAN(SPEC, penalty_weight=-1.0)
    with pytest.raises(ValueError, match="normalization must be one of 'batch', 'layer', 'spectral', 'none', not 'x'"):
        GAN(SPEC, normalization="x")


def test_a_clipped_critic_stays_in_its_box_and_has_no_steep_slope():
    model = WGAN(SPEC, network="mlp", latents=4, width=16, learning_rate=5e-3, batch_size=10, critic_steps=2)
    fit(model, random_data(), budget="5 steps")
    assert all(weight.abs().max() <= 0.01 for weight in model.discriminator.parameters())
    assert any(weight.abs().max() > 0.01 for weight in model.generator.parameters())
    slopes = gradient_norms(model.discriminator, torch.rand(50, *SPEC.shape) * 2 - 1)
    assert 0 < slopes.max() <= 0.01**3 * 64**0.5 * 16 * 16  # the product of the layers' Frobenius norms, at most


@models
def test_the_players_are_shown_scaled_data_and_what_the_generator_drew(build, monkeypatch):
    model, data = build(), random_data()
    drawn, shown = [], []
    generator = type(model.generator).forward
    monkeypatch.setattr(
        type(model.generator), "forward", lambda self, latents: drawn.append(generator(self, latents)) or drawn[-1]
    )
    losses = {name: getattr(model, name) for name in ("discriminator_loss", "generator_loss")}
    for name, loss in losses.items():
        monkeypatch.setattr(model, name, lambda one, name=name, loss=loss: shown.append((name, one)) or loss(one))
    model.fit(data, Trainer(model, data, budget=Budget(4, "steps")))
    scaled = {tuple(image.flatten().tolist()) for image in scale(data.train.images, 256, torch.float32)}
    games = [one for name, one in shown if name == "discriminator_loss"]
    assert len(games) == len(drawn) == 4
    for one, generated in zip(games, drawn, strict=True):
        assert {tuple(image.flatten().tolist()) for image in one.real} <= scaled
        assert torch.equal(one.fake, generated)
        assert not one.fake.requires_grad
    assert all(any(one.fake is image for image in drawn) for name, one in shown if name == "generator_loss")
