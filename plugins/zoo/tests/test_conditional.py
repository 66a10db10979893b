"""Models that are told the class: they draw what they are asked for, and play the games that their papers say."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from harness import Budget, Dataset, ImageSpec, Split, Trainer, Unsupported
from harness.testing import registered_dataset
from harness_zoo.ac_gan import ACGAN
from harness_zoo.cgan import CGAN
from harness_zoo.projection_gan import ProjectionGAN

SPEC = ImageSpec(channels=1, height=8, width=8, levels=17, num_classes=3)
KINDS = [ACGAN, CGAN, ProjectionGAN]
kinds = pytest.mark.parametrize("kind", KINDS)


def small(kind, spec=SPEC, **changes):
    return kind(spec, **{"network": "mlp", "latents": 4, "width": 16, "batch_size": 32, **changes})


def bars(counts=(96, 48, 48)):
    """Images with a bright bar at the place that the label says, with noise."""
    labels = torch.arange(3).repeat_interleave(torch.tensor(counts))
    images = torch.randint(0, 5, (len(labels), 1, 8, 8), dtype=torch.uint8)
    for label in range(3):
        images[labels == label, :, :, 3 * label : 3 * label + 2] += 11
    split = Split(images, labels)
    return Dataset("bars", SPEC, split, split, split)


def trained(model, data, budget):
    model.fit(data, Trainer(model, data, budget=Budget.parse(budget)))
    return model.eval()


def share_of_their_class(model, train, num_each):
    """How many samples are nearest to the mean training image of the class that they were asked to be of."""
    classes = model.spec.num_classes
    means = torch.stack([train.images[train.labels == label].double().mean(0).flatten() for label in range(classes)])
    labels = torch.arange(classes).repeat_interleave(num_each)
    samples = model.condition_on(labels).sample(len(labels)).flatten(1).double()
    return (torch.cdist(samples, means).argmin(1) == labels).double().mean().item()


def round_of(model):
    model.double().train()
    return model.show(bars().train.take(torch.arange(0, 192, 12)))


# --- what all of them promise ---


@kinds
def test_samples_given_a_label_are_of_its_class(kind):
    data = bars()
    model = trained(small(kind, learning_rate=4e-3), data, "240 steps")
    assert share_of_their_class(model, data.train, 40) > 0.55  # 1/3 by chance


@pytest.mark.thorough
@kinds
def test_digits_given_a_label_are_of_its_class(kind):
    data = registered_dataset("digits")
    model = trained(kind(data.spec, network="mlp", width=64), data, "25 epochs")
    assert share_of_their_class(model, data.train, 50) > 0.5  # 1/10 by chance


@kinds
def test_each_sample_is_paired_with_its_label(kind):
    model = small(kind).eval()
    labels = torch.tensor([2, 0, 1, 1, 0, 2])

    def drawn(given):
        torch.manual_seed(1)
        return model.condition_on(given).sample(len(given))

    one_at_a_time = torch.stack([drawn(torch.full_like(labels, label)) for label in range(3)])
    assert torch.equal(drawn(labels), one_at_a_time[labels, torch.arange(6)])
    assert not torch.equal(one_at_a_time[0], one_at_a_time[1])


def test_classes_of_samples_are_as_frequent_as_in_the_training_data():
    model = small(CGAN)
    assert torch.equal(model.frequencies, torch.full((3,), 1 / 3))
    trained(model, bars((120, 30, 0)), "1 steps")
    assert torch.equal(model.frequencies, torch.tensor([0.8, 0.2, 0.0]))
    drawn = model.draw_labels(4000).bincount(minlength=3)
    assert drawn[2] == 0
    assert abs(drawn[0].item() / 4000 - 0.8) < 0.03  # more than four standard errors


def test_a_view_leaves_its_model_alone_and_draws_one_image_for_each_label():
    model = small(CGAN).eval()
    view = model.condition_on(torch.tensor([0, 1]))
    assert model.given is None
    assert len(model.sample(5)) == 5
    with pytest.raises(ValueError, match="2 labels draws as many images, not 5"):
        view.sample(5)


def test_a_label_that_is_no_class_is_named():
    with pytest.raises(ValueError, match="labels must be below 3, not 7"):
        small(CGAN).condition_on(torch.tensor([1, 7]))


@kinds
def test_images_without_classes_are_not_supported(kind):
    with pytest.raises(Unsupported, match="labels"):
        small(kind, ImageSpec(1, 8, 8, 17))
    with pytest.raises(Unsupported, match="labels"):
        small(kind).show(Split(torch.zeros(4, 1, 8, 8, dtype=torch.uint8)))


# --- CGAN ---


def test_a_cgan_judges_an_image_beside_a_map_of_its_class():
    model = small(CGAN, network="dcgan", normalization="none").double()
    images, labels = torch.rand(2, 1, 8, 8).double(), torch.tensor([2, 0])
    pairs = torch.zeros(2, 4, 8, 8).double()
    pairs[:, :1], pairs[0, 3], pairs[1, 1] = images, 1, 1
    torch.testing.assert_close(model.judge(images, labels), model.discriminator(pairs))


def test_a_cgan_takes_the_penalties_of_a_gan_at_pairs():
    model = small(CGAN, penalty="r1", penalty_weight=2.0)
    shown = round_of(model)
    images = shown.real.clone().requires_grad_()
    model.discriminator.eval()
    slope = torch.autograd.grad(model.judge(images, shown.labels).sum(), images)[0]
    assert model.penalty(shown.detached()).item() == pytest.approx(slope.flatten(1).square().sum(1).mean().item())


# --- AC-GAN ---


def in_steps(outputs, labels, sign):
    """Source and class losses image by image, in Python's floats."""
    source = [math.log1p(math.exp(sign * row[-1])) for row in outputs.tolist()]
    told = [
        math.log(sum(math.exp(value) for value in row[:-1])) - row[label]
        for row, label in zip(outputs.tolist(), labels.tolist(), strict=True)
    ]
    return sum(source) / len(source), sum(told) / len(told)


def test_losses_of_an_ac_gan_are_those_of_source_and_class_of_both_kinds_of_images():
    model = small(ACGAN, class_weight=0.5)
    shown = round_of(model)
    model.discriminator.eval()  # no dropout
    real, fake = model.judge(shown.real), model.judge(shown.fake)
    source, told = (sum(parts) for parts in zip(*(
        in_steps(real, shown.labels, -1), in_steps(fake, shown.labels, 1)
    ), strict=True))  # fmt: skip
    assert model.discriminator_loss(shown).item() == pytest.approx(source + told / 2)
    source, told = in_steps(fake, shown.labels, -1)
    assert model.generator_loss(shown).item() == pytest.approx(source + told / 2)


def test_the_class_loss_of_an_ac_gan_takes_one_softmax():
    model = small(ACGAN).double()
    sure = torch.tensor([[60.0, 0, 0, 0], [0, 60.0, 0, 0]]).double()  # the last is the logit of being real
    model.discriminator = nn.Sequential(nn.Flatten(), nn.Linear(64, 4)).double()
    model.discriminator.forward = lambda images: sure
    # a second softmax would leave log(1 + 2 / e) = 0.55 nats of doubt, however sure the head is
    assert model.losses(torch.zeros(2, 1, 8, 8), torch.tensor([0, 1]), sign=1).item() == pytest.approx(math.log(2))


def test_both_players_of_an_ac_gan_learn_from_the_class_head():
    model = small(ACGAN)
    shown = round_of(model)
    model.discriminator.eval()  # no dropout
    head = model.discriminator[-1].weight
    [of_discriminator] = torch.autograd.grad(model.losses(shown.detached().fake, shown.labels, sign=1), head)
    assert (of_discriminator[:3].abs().sum(1) > 0).all()
    slopes = []
    for model.class_weight in (0.0, 1.0):
        slopes += torch.autograd.grad(model.generator_loss(shown), shown.fake, retain_graph=True)
    told = nn.functional.cross_entropy(model.judge(shown.fake)[:, :3], shown.labels)
    torch.testing.assert_close(slopes[1] - slopes[0], torch.autograd.grad(told, shown.fake)[0])
    assert (slopes[1] - slopes[0]).abs().max() > 1e-6


# --- the projection discriminator ---


def test_the_class_enters_a_projection_discriminator_by_an_inner_product_alone():
    model = small(ProjectionGAN, normalization="none").double()
    images, zeros = torch.rand(5, 1, 8, 8).double(), torch.zeros(5, dtype=torch.int64)
    features = model.discriminator.scores.features(images)
    vectors = model.discriminator.classes.weight
    difference = model.judge(images, zeros + 2) - model.judge(images, zeros)
    torch.testing.assert_close(difference, features @ (vectors[2] - vectors[0]))
    torch.testing.assert_close(
        model.judge(images, zeros + 1), features @ vectors[1] + model.discriminator.scores(images)
    )


def test_spectral_norm_covers_the_vectors_of_the_classes():
    model = small(ProjectionGAN)
    shown = round_of(model)
    for _ in range(30):
        model.judge(shown.real, shown.labels)
    vectors = model.discriminator.classes.weight
    assert torch.linalg.matrix_norm(vectors, 2).item() == pytest.approx(1, rel=1e-3)
