"""Labels: a conditional model uses them, pairs them with their images, and marginalises them where none is given."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from scipy import optimize
from torch import Tensor

from harness.auditing.laboratory import Laboratory
from harness.auditing.spaces import index_of
from harness.auditing.subject import Specimen, in_batches
from harness.auditing.trial import (
    Evidence,
    Trial,
    chi_square,
    same_distribution,
    smallest_total_variation,
    total_variation,
)
from harness.interface.model import ClassConditional, ExactLikelihood, ImportanceWeighted, VariationalBound
from harness.interface.spec import ImageSpec

_MIXED = 60
_SAMPLES = 6_000
_DRAWS = 300
_FITTED_SHARE = 0.02  # of what the labels tell: less than this after a fit that has learned is nothing
_LEARNED = 0.2
_LEAST_WEIGHT = 1e-3  # of a label in the mixture over labels; with random weights labels are told apart


def labels(laboratory: Laboratory) -> Iterator[Evidence]:
    """Yields tests of p(x | y), of p(x), and of samples of a label."""
    laboratory.require(ClassConditional, "the model takes no labels")
    spaces: tuple[ImageSpec, ...] = laboratory.small[:2] or laboratory.wide[:1]
    for specimen in laboratory.specimens("random", "fitted", spaces=spaces):
        if isinstance(specimen.model, ExactLikelihood) and laboratory.small:
            yield from _exact(laboratory, specimen)
        elif isinstance(specimen.model, VariationalBound):
            yield from _stochastic(specimen)
        elif laboratory.small:
            yield from _implicit(specimen)


@torch.no_grad()
def _exact(laboratory: Laboratory, specimen: Specimen) -> Iterator[Trial]:
    model, images = specimen.model_as(ClassConditional), specimen.everything
    assert isinstance(model, ExactLikelihood)
    classes, where = specimen.spec.num_classes or 1, specimen.where
    table = torch.stack([_log_prob_given(model, images, label) for label in range(classes)])  # (classes, M)
    total = float((table.logsumexp(1).exp() - 1).abs().max())
    yield Trial.exact(
        where, "sum of p(x | y) over all images, minus 1, the worst label", total, tolerance=specimen.tolerance(),
        unit="of mass", meaning=f"the probabilities of all images given a label sum to 1 within {total:.3g} only",
    )  # fmt: skip
    if specimen.state == "random":
        used = float((table - table[:1]).abs().max())
        yield Trial.exact(
            where, "labels that make no difference", float(used <= 100 * specimen.tolerance()), tolerance=0,
            meaning="labels are not used: scores are the same whatever the label",
        )  # fmt: skip
    chosen = specimen.images(_MIXED, "mixed")
    given = torch.arange(_MIXED) % classes
    scores = _given(model, given).log_prob(chosen)
    expected = table[given, index_of(chosen, specimen.spec)]
    yield Trial.exact(
        where, "log p(x | y) of mixed labels against those of one label at a time",
        float((scores - expected).abs().max()), unit="nats",
        tolerance=specimen.tolerance(scale=float(expected.abs().max())),
        meaning="labels are paired with the wrong images, or only the first of a batch is used",
    )  # fmt: skip
    yield _is_mixture(specimen, table)
    yield from _samples_given(laboratory.single(specimen), table)
    if specimen.state == "fitted":
        yield from _learned(laboratory, specimen, table)


def _log_prob_given(model: ClassConditional, images: Tensor, label: int) -> Tensor:
    def score(part: Tensor) -> Tensor:
        found: Tensor = _given(model, torch.full((len(part),), label)).log_prob(part)
        return found

    return in_batches(score, images).double()


def _given(model: ClassConditional, given: Tensor) -> Any:
    """A view has the capabilities of its model, which the type of ``condition_on`` cannot say."""
    return model.condition_on(given)


def _is_mixture(specimen: Specimen, table: Tensor) -> Trial:
    """Without labels, p(x) is sum_y w_y p(x | y) with some weights: they are found by non-negative least squares."""
    marginal = specimen.log_probs.exp()
    weights, residual = optimize.nnls(table.exp().T.numpy(), marginal.numpy())
    far = max(float(residual) / float(marginal.norm()), abs(float(weights.sum()) - 1))
    if specimen.state == "random" and float(weights.min()) < _LEAST_WEIGHT:
        label = int(weights.argmin())
        meaning = f"without labels, log_prob leaves label {label} out: log p(x | y) is ranked as log p(x)"
        return Trial.broken(specimen.where, meaning)
    return Trial.exact(
        specimen.where, "log_prob without labels against a mixture over the labels", far,
        tolerance=1e-6 if specimen.dtype == torch.float64 else 1e-2,
        meaning="without labels, log_prob is not that of a mixture over the labels: log p(x | y) is ranked as log p(x)",
    )  # fmt: skip


def _samples_given(specimen: Specimen, table: Tensor) -> Iterator[Trial]:
    for name in specimen.model.samplers():
        counts = _counts_by_label(specimen, name, len(table))
        for label, (found, log_probs) in enumerate(zip(counts, table, strict=True)):
            p, freedom = chi_square(found, log_probs.exp())
            far = total_variation(found, log_probs.exp())
            yield Trial.p_value(
                f"{specimen.where}, sampler {name!r}, label {label}", f"samples against p(x | y) ({far:.3g} away)", p,
                smallest_defect=smallest_total_variation(freedom, float(found.sum())),
                meaning=f"samples of label {label} do not follow p(x | y = {label}): the label is ignored or mispaired",
            )  # fmt: skip


@torch.no_grad()
def _counts_by_label(specimen: Specimen, sampler: str, classes: int) -> Tensor:
    """Returns (classes, M) int64: what was drawn for each label, labels mixed in every batch."""
    model, size = specimen.model_as(ClassConditional), len(specimen.everything)
    counts = torch.zeros(classes, size, dtype=torch.int64)
    given = torch.arange(1500) % classes
    with specimen.rng("samples of labels", sampler):
        for _ in range(_SAMPLES // len(given)):
            index = index_of(model.condition_on(given).samplers()[sampler](len(given)), specimen.spec)
            for label in range(classes):
                counts[label] += torch.bincount(index[given == label], minlength=size)
    return counts


def _learned(laboratory: Laboratory, specimen: Specimen, table: Tensor) -> Iterator[Trial]:
    known = laboratory.known(specimen.spec)
    test = known.draw(4000, "test")
    assert test.labels is not None
    index = index_of(test.images, specimen.spec)
    classes = len(table)

    def told(log_probs: Tensor) -> Tensor:
        right = log_probs[test.labels, index]
        return right - (log_probs[:, index].sum(0) - right) / (classes - 1)

    start = -float(laboratory.specimen(specimen.spec, "initial").log_probs[index].mean())
    now = -float(specimen.log_probs[index].mean())
    if start - now < _LEARNED * (start - known.entropy):
        return  # it has learned too little to say what it learned from
    found, possible = told(table), float(told(known.class_log_probs).mean())
    yield Trial.z_test(
        specimen.where, "what the fit made of the labels, against a fiftieth of what they tell",
        estimate=float(found.mean()) - _FITTED_SHARE * possible, standard_error=float(found.std()) / len(found) ** 0.5,
        side=-1, unit="nats",
        meaning="fit does not pair labels with their images: the right label makes no image likelier",
    )  # fmt: skip


@torch.no_grad()
def _stochastic(specimen: Specimen) -> Iterator[Trial]:
    model, classes = specimen.model_as(ClassConditional), specimen.spec.num_classes or 1
    images = specimen.images(6, "labels")

    def draws(given: Tensor) -> Tensor:  # (draws, N)
        view = _given(model, given)
        if isinstance(view, ImportanceWeighted):
            return view.log_importance_weights(images, _DRAWS).double()
        return torch.stack([view.elbo(images).double() for _ in range(_DRAWS)])

    with specimen.rng("labels"):
        pure = torch.stack([draws(torch.full((len(images),), label)) for label in range(classes)])
        mixed_labels = torch.arange(len(images)) % classes
        mixed = draws(mixed_labels)
    means, errors = pure.mean(1), pure.std(1) / _DRAWS**0.5  # (classes, N)
    if specimen.state == "random":
        z = ((means - means[:1]) / (errors.square() + errors[:1].square()).sqrt().clamp_min(1e-12))[1:].abs().max()
        yield Trial.exact(
            specimen.where, "labels that make no difference", float(z < 2.5), tolerance=0,
            meaning="labels are not used: bounds are the same whatever the label",
        )  # fmt: skip
    expected = means[mixed_labels, torch.arange(len(images))]
    error = (mixed.var(0) / _DRAWS + errors[mixed_labels, torch.arange(len(images))].square()).sqrt()
    difference = mixed.mean(0) - expected
    worst = int((difference.abs() / error.clamp_min(1e-12)).argmax())
    yield Trial.z_test(
        specimen.where, "bounds of mixed labels minus those of one label at a time", estimate=float(difference[worst]),
        standard_error=float(error[worst]) * 1.3, unit="nats", rounding=specimen.tolerance(scale=50.0),
        meaning="labels are paired with the wrong images, or only the first of a batch is used",
    )  # fmt: skip


@torch.no_grad()
def _implicit(specimen: Specimen) -> Iterator[Trial]:
    model = specimen.model_as(ClassConditional)
    classes, size = specimen.spec.num_classes or 1, len(specimen.everything)
    mixed = _counts_by_label(specimen, next(iter(model.samplers())), classes)
    for label in range(classes):
        view = _given(model, torch.full((3000,), label))
        counts = torch.zeros(size, dtype=torch.int64)
        with specimen.rng("pure", label):
            for _ in range(2):
                counts += torch.bincount(index_of(view.sample(3000), specimen.spec), minlength=size)
        p, freedom = same_distribution(mixed[label], counts)
        yield Trial.p_value(
            f"{specimen.where}, label {label}", "samples of mixed labels against those of one label at a time", p,
            smallest_defect=smallest_total_variation(freedom, 2000),
            meaning="samples are paired with the wrong labels",
        )  # fmt: skip
    if specimen.state == "random":
        p, _ = same_distribution(mixed[0], mixed[1])
        yield Trial.exact(
            specimen.where, "labels that make no difference", float(p > 0.01), tolerance=0,
            meaning="labels are not used: samples are the same whatever the label",
        )  # fmt: skip
