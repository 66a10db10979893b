"""Discriminators with several outputs: InfoGAN, CatGAN, AM-GAN and the semi-supervised ones."""

from __future__ import annotations

import math

import pytest
import torch

from harness import Budget, Dataset, ImageSpec, Split, Trainer, Unsupported
from harness_zoo.am_gan import AMGAN
from harness_zoo.catgan import CatGAN, conditional_entropy, marginal_entropy
from harness_zoo.improved_gan_semi import ImprovedGANSemi
from harness_zoo.infogan import InfoGAN
from harness_zoo.semi_supervised import cross_entropy_of_labelled, keep_labels
from harness_zoo.ssl_gan import SSLGAN

SPEC = ImageSpec(channels=1, height=8, width=8, levels=17, num_classes=3)


def small(kind, spec=SPEC, **changes):
    torch.manual_seed(0)
    return kind(spec, **{"network": "mlp", "latents": 4, "width": 16, "batch_size": 16, **changes})


def stripes(num_each=16):
    labels = torch.arange(3).repeat(num_each)
    images = torch.randint(0, 5, (len(labels), 1, 8, 8), dtype=torch.uint8)
    for label in range(3):
        images[labels == label, :, :, 3 * label : 3 * label + 2] += 11
    return Split(images, labels)


def shown_by(model, split=None):
    model.double().train()
    model.discriminator.eval()  # no dropout
    return model.show((split or stripes()).take(torch.arange(12)))


def softmax(row):
    mass = [math.exp(value) for value in row]
    return [value / sum(mass) for value in mass]


def entropy(distribution):
    return -sum(share * math.log(share) for share in distribution)


def average(values):
    values = list(values)
    return sum(values) / len(values)


def softplus(value):
    return math.log1p(math.exp(value))


# --- InfoGAN ---


def test_latents_of_an_infogan_are_noise_one_hot_classes_and_uniform_codes():
    model = small(InfoGAN, classes=5, continuous=2).double()
    noise, named, codes = model.draw_latents(4000).split([4, 5, 2], 1)
    assert noise.mean().abs() < 0.05
    assert noise.std().item() == pytest.approx(1, abs=0.05)
    assert torch.equal(named.sum(1), torch.ones(4000).double())
    assert set(named.unique().tolist()) == {0, 1}
    assert (named.mean(0) - 0.2).abs().max() < 0.03
    assert codes.abs().max() <= 1
    assert codes.var().item() == pytest.approx(1 / 3, abs=0.02)


def test_both_players_of_an_infogan_minimise_the_negative_log_probability_of_the_code():
    model = small(InfoGAN, classes=3, continuous=2, class_weight=0.7, continuous_weight=0.2)
    shown = shown_by(model)
    real, fake = model.judge(shown.real).tolist(), model.judge(shown.fake).tolist()
    latents = shown.latents.tolist()
    told = average(-math.log(softmax(row[1:4])[z[4:7].index(1)]) for row, z in zip(fake, latents, strict=True))
    apart = average(
        sum((u - mean) ** 2 for u, mean in zip(z[7:], row[4:], strict=True))
        for row, z in zip(fake, latents, strict=True)
    )
    information = 0.7 * told + 0.2 * apart / 2
    game = average(softplus(-row[0]) for row in real) + average(softplus(row[0]) for row in fake)
    assert model.discriminator_loss(shown).item() == pytest.approx(game + information)
    assert model.generator_loss(shown).item() == pytest.approx(average(softplus(-row[0]) for row in fake) + information)


def test_an_infogan_without_continuous_codes_trains():
    model, split = small(InfoGAN, continuous=0), stripes()
    data = Dataset("stripes", SPEC, split, split, split)
    model.fit(data, Trainer(model, data, budget=Budget.parse("3 steps")))
    assert model.draw_latents(2).shape == (2, 14)


# --- CatGAN ---


def test_losses_of_a_catgan_are_differences_of_entropies():
    model = small(CatGAN, categories=4)
    shown = shown_by(model)
    real, fake = ([softmax(row) for row in model.judge(images).tolist()] for images in (shown.real, shown.fake))
    evenly = [entropy([average(column) for column in zip(*kind, strict=True)]) for kind in (real, fake)]
    unsure = [average(entropy(row) for row in kind) for kind in (real, fake)]
    assert model.discriminator_loss(shown).item() == pytest.approx(-evenly[0] + unsure[0] - unsure[1])
    assert model.generator_loss(shown).item() == pytest.approx(-evenly[1] + unsure[1])


def test_a_catgans_generator_is_best_with_sure_images_of_all_categories():
    sure_of_all = 40 * torch.eye(4).double()
    sure_of_one, unsure = sure_of_all[:1].expand(4, -1), torch.zeros(4, 4).double()

    def loss(logits):
        return (conditional_entropy(logits) - marginal_entropy(logits)).item()

    assert loss(sure_of_all) == pytest.approx(-math.log(4))
    assert loss(sure_of_one) == pytest.approx(0, abs=1e-9)
    assert loss(unsure) == pytest.approx(0, abs=1e-9)


def test_entropies_of_certain_images_have_gradients():
    logits = (1000 * torch.eye(3)).requires_grad_()
    (conditional_entropy(logits) - marginal_entropy(logits[:1])).backward()
    assert torch.isfinite(logits.grad).all()


# --- AM-GAN ---


def test_a_generated_image_of_an_am_gan_wants_to_be_of_its_likeliest_class():
    model = small(AMGAN)
    shown = shown_by(model)
    real, fake = ([softmax(row) for row in model.judge(images).tolist()] for images in (shown.real, shown.fake))
    told = average(-math.log(row[label]) for row, label in zip(real, shown.labels.tolist(), strict=True))
    assert model.discriminator_loss(shown).item() == pytest.approx(told + average(-math.log(row[3]) for row in fake))
    assert model.generator_loss(shown).item() == pytest.approx(average(-math.log(max(row[:3])) for row in fake))


# --- few labels ---


def test_only_the_first_images_of_each_class_keep_their_labels():
    split = Split(torch.zeros(7, 1, 8, 8, dtype=torch.uint8), torch.tensor([1, 0, 1, 2, 1, 0, 0]))
    assert keep_labels(split, 2).labels.tolist() == [1, 0, 1, 2, -1, 0, -1]


def test_images_without_labels_do_not_count_in_the_cross_entropy():
    logits, labels = torch.randn(5, 3).double(), torch.tensor([-1, 2, -1, 0, -1])
    expected = -(logits[1].log_softmax(0)[2] + logits[3].log_softmax(0)[0]) / 2
    torch.testing.assert_close(cross_entropy_of_labelled(logits, labels), expected)
    assert cross_entropy_of_labelled(logits, torch.full((5,), -1)) == 0


def test_the_class_of_generated_images_is_implied_by_a_logit_of_zero():
    model = small(ImprovedGANSemi)
    shown = shown_by(model, keep_labels(stripes(), 2))  # 6 of the 12 images have labels
    real, fake = (model.judge(images).tolist() for images in (shown.real, shown.fake))
    labelled = [(row, label) for row, label in zip(real, shown.labels.tolist(), strict=True) if label >= 0]
    assert len(labelled) == 6
    told = average(-math.log(softmax(row)[label]) for row, label in labelled)
    is_real = average(-math.log(1 - softmax([*row, 0.0])[3]) for row in real)
    is_generated = average(-math.log(softmax([*row, 0.0])[3]) for row in fake)
    assert model.discriminator_loss(shown).item() == pytest.approx(told + (is_real + is_generated) / 2)


def test_the_semi_supervised_generator_matches_mean_features():
    model = small(ImprovedGANSemi)
    shown = shown_by(model)
    real, fake = (model.discriminator.features(images).mean(0) for images in (shown.real, shown.fake))
    assert model.generator_loss(shown).item() == pytest.approx((real - fake).square().sum().item())
    model.discriminator[-1].weight.data.mul_(3)  # the logits are not looked at
    assert model.generator_loss(shown).item() == pytest.approx((real - fake).square().sum().item())


def test_an_ssl_gans_discriminator_classifies_labelled_images_beside_its_game():
    model = small(SSLGAN, class_weight=0.5)
    shown = shown_by(model, keep_labels(stripes(), 2))
    real, fake = (model.judge(images).tolist() for images in (shown.real, shown.fake))
    told = average(
        -math.log(softmax(row[:3])[label]) for row, label in zip(real, shown.labels.tolist(), strict=True) if label >= 0
    )
    game = average(softplus(-row[3]) for row in real) + average(softplus(row[3]) for row in fake)
    assert model.discriminator_loss(shown).item() == pytest.approx(game + told / 2)
    assert model.generator_loss(shown).item() == pytest.approx(average(softplus(-row[3]) for row in fake))


@pytest.mark.parametrize("kind", [ImprovedGANSemi, SSLGAN])
def test_a_discriminator_classifies_after_a_training_with_few_labels(kind):
    split = stripes(32)
    data = Dataset("stripes", SPEC, split, split, split)
    model = small(kind, labels_per_class=4, learning_rate=4e-3)
    model.fit(data, Trainer(model, data, budget=Budget.parse("60 steps")))
    model.eval()
    logits = model.judge(split.images.float() / 8 - 1)[:, :3]
    assert (logits.argmax(1) == split.labels).float().mean() > 0.8  # 1/3 by chance


@pytest.mark.parametrize("kind", [AMGAN, ImprovedGANSemi, SSLGAN])
def test_a_discriminator_of_classes_needs_labels(kind):
    with pytest.raises(Unsupported, match="labels"):
        small(kind, ImageSpec(1, 8, 8, 17))


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        (InfoGAN, {"classes": 1}, "classes must be at least 2, not 1"),
        (CatGAN, {"categories": 1}, "categories must be at least 2, not 1"),
        (ImprovedGANSemi, {"labels_per_class": 0}, "labels_per_class must be positive, not 0"),
        (SSLGAN, {"class_weight": -1.0}, "class_weight must be at least 0, not -1.0"),
    ],
)
def test_a_wrong_hyperparameter_is_named(kind, given, message):
    with pytest.raises(ValueError, match=message):
        small(kind, **given)
