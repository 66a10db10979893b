"""Labels: a conditional model uses them, pairs them with their images, and marginalises them where none is given."""

import math
from collections.abc import Iterator
from itertools import chain
from typing import Any

import torch
from scipy import optimize
from torch import Tensor

from harness.auditing.checks.conditionals import of_logits, product
from harness.auditing.estimates import mean_and_error, worst_of
from harness.auditing.given_noise import tested
from harness.auditing.laboratory import Laboratory
from harness.auditing.subject import Specimen, apart, index_of
from harness.auditing.trial import Evidence, Trial, same_distribution, smallest_total_variation
from harness.interface.model import (
    Autoregressive,
    ClassConditional,
    ExactLikelihood,
    ImportanceWeighted,
    VariationalBound,
)
from harness.interface.spec import ImageSpec

_TEN = ImageSpec(1, 2, 2, 2, num_classes=10)  # as benchmarks have
_MIXED = 60
_SAMPLES = 6_000
_DRAWS = 300
_FITTED_SHARE = 0.02  # of what the labels tell: less than this after a fit that has learned is nothing
_LEARNED = 0.2
_LEAST_WEIGHT = 1e-3  # of a label in the mixture over labels; with random weights labels are told apart
_MISPAIRED = "labels are paired with the wrong images, or only the first of a batch is used"
_RANKED = "log p(x | y) is ranked as log p(x)"


@torch.no_grad()
def labels(laboratory: Laboratory) -> Iterator[Evidence]:
    """Labels are used, rightly paired, and marginalised where none is given."""
    laboratory.require(ClassConditional, "the model takes no labels")
    few = laboratory.specimens("random", "fitted", spaces=laboratory.small[:2] or laboratory.wide[:1])
    ten = [_TEN] if laboratory.small and laboratory.takes(_TEN) else []
    for specimen in chain(few, laboratory.specimens("random", spaces=ten)):
        if isinstance(specimen.model, ExactLikelihood) and laboratory.small:
            yield from _exact(laboratory, specimen)
        elif isinstance(specimen.model, VariationalBound):
            yield from _stochastic(specimen)
        elif laboratory.small:
            yield from _implicit(specimen)


def _given(specimen: Specimen, given: Tensor) -> Any:
    """A view has the capabilities of its model, which the type of ``condition_on`` cannot say."""
    return specimen.model_as(ClassConditional).condition_on(given)


def _used(specimen: Specimen, what: str, *, alike: float) -> Iterator[Trial]:
    """With random weights, labels make a difference."""
    if specimen.state == "random":
        yield Trial.exact(
            specimen.where, "labels that make no difference", float(alike), unit="labels",
            meaning=f"labels are not used: {what} are the same whatever the label",
        )  # fmt: skip


def _exact(laboratory: Laboratory, specimen: Specimen) -> Iterator[Trial]:
    classes, where, parts = specimen.spec.num_classes or 1, specimen.where, torch.split(specimen.everything, 4096)
    every = [(torch.full((len(part),), label), part) for label in range(classes) for part in parts]
    scores = torch.cat([_given(specimen, given).log_prob(part) for given, part in every])
    table = scores.double().view(classes, -1)  # (classes, M): log p(x | y)
    total = float((table.logsumexp(1).exp() - 1).abs().max())
    yield Trial.exact(
        where, "sum of p(x | y) over all images, minus 1, the worst label", total, tolerance=specimen.tolerance(),
        unit="of mass", meaning=f"the probabilities of all images given a label sum to 1 within {total:.3g} only",
    )  # fmt: skip
    others = torch.stack([apart(table, row).abs().amax(1) for row in table]).fill_diagonal_(math.inf)
    alike = (others.amin(1) <= 100 * specimen.tolerance()).nonzero().flatten().tolist()
    yield from _used(specimen, f"scores of labels {', '.join(map(str, alike))}", alike=len(alike))
    chosen = specimen.images(_MIXED, "mixed")
    for which, given in {
        "mixed": torch.arange(_MIXED) % classes,
        "the last two": classes - 1 - torch.arange(_MIXED) % 2,
    }.items():
        expected = table[given, index_of(chosen, specimen.spec)]
        yield Trial.exact(
            where, f"log p(x | y) of {which} labels against those of one label at a time",
            float(apart(_given(specimen, given).log_prob(chosen), expected).abs().max()), unit="nats",
            tolerance=specimen.tolerance(scale=expected), meaning=_MISPAIRED,
        )  # fmt: skip
        if isinstance(specimen.model, Autoregressive):
            yield Trial.exact(
                where, f"log p(x | y) of {which} labels against the sum of the conditionals",
                float(apart(product(of_logits(_given(specimen, given), chosen)), expected).abs().max()), unit="nats",
                tolerance=specimen.tolerance(scale=expected), meaning="conditional_logits, which 'raster' draws by, "
                "are not those of the labels that are scored",
            )  # fmt: skip
    yield _is_mixture(specimen, table)
    single = laboratory.single(specimen)
    for number, (place, name, _) in enumerate(single.samplers):
        if number and isinstance(single.model, Autoregressive) and name not in tested(single.model):
            continue  # the harness's own raster, of the conditionals that were added up above
        counts = _counts_by_label(single, name, len(table), _SAMPLES if number == 0 else _SAMPLES // 4)
        for label, (found, log_probs) in enumerate(zip(counts, table, strict=True)):
            yield Trial.follows(
                f"{place}, label {label}", "samples against p(x | y)", found, log_probs.exp(),
                meaning=f"samples of label {label} do not follow p(x | y = {label}): the label is ignored or mispaired",
            )  # fmt: skip
    if specimen.state == "fitted" and specimen.spec not in laboratory.shortened:  # few steps tell little of labels
        yield from _learned(laboratory, specimen, table)


def _is_mixture(specimen: Specimen, table: Tensor) -> Trial:
    """Without labels, p(x) is sum_y w_y p(x | y) with some weights: they are found by non-negative least squares."""
    marginal = specimen.log_probs.exp()
    weights, residual = optimize.nnls(table.exp().T.numpy(), marginal.numpy())
    singular = torch.linalg.svdvals(table.exp() / table.exp().norm(dim=1, keepdim=True))
    rounding = 100 * torch.finfo(specimen.precision).eps  # of weights, where labels can be told apart
    told_apart = rounding / max(float(singular.min()), 1e-300) < _LEAST_WEIGHT
    if specimen.state == "random" and float(weights.min()) < _LEAST_WEIGHT and told_apart:
        what = f"without labels, log_prob leaves label {int(weights.argmin())} out: {_RANKED}"
        return Trial.broken(specimen.where, what)
    return Trial.exact(
        specimen.where, "log_prob without labels against a mixture over the labels",
        max(float(residual) / float(marginal.norm()), abs(float(weights.sum()) - 1)),
        tolerance=1e-6 if specimen.precision == torch.float64 else 1e-2,
        meaning=f"without labels, log_prob is not that of a mixture over the labels: {_RANKED}",
    )  # fmt: skip


def _counts_by_label(specimen: Specimen, sampler: str, classes: int, num_samples: int) -> Tensor:
    """Returns (classes, M) int64: what was drawn for each label, labels mixed in every batch."""
    size, given = len(specimen.everything), torch.arange(1500) % classes
    counts = torch.zeros(classes * size, dtype=torch.int64)
    with specimen.rng("samples of labels", sampler):
        for _ in range(max(1, num_samples // len(given))):
            index = index_of(_given(specimen, given).samplers()[sampler](len(given)), specimen.spec)
            counts += torch.bincount(given * size + index, minlength=len(counts))
    return counts.view(classes, size)


def _learned(laboratory: Laboratory, specimen: Specimen, table: Tensor) -> Iterator[Trial]:
    known = laboratory.known(specimen.spec)
    test = known.draw(4000, "test")
    index = index_of(test.images, specimen.spec)

    def told(log_probs: Tensor) -> Tensor:
        right = log_probs[test.labels, index]
        return right - (log_probs[:, index].sum(0) - right) / (len(table) - 1)

    start = -float(laboratory.specimen(specimen.spec, "initial").log_probs[index].mean())
    now = -float(specimen.log_probs[index].mean())
    if start - now < _LEARNED * (start - known.entropy):
        return  # it has learned too little to say what it learned from
    yield Trial.z_test(
        specimen.where, "what the fit made of the labels, against a fiftieth of what they tell",
        *mean_and_error(told(table) - _FITTED_SHARE * told(known.class_log_probs).mean()), side=-1, unit="nats",
        meaning="fit does not pair labels with their images: the right label makes no image likelier",
    )  # fmt: skip


def _stochastic(specimen: Specimen) -> Iterator[Trial]:
    images = specimen.images(6, "labels")

    def draws(given: Tensor) -> Tensor:  # (draws, N)
        view = _given(specimen, given)
        if isinstance(view, ImportanceWeighted):
            return view.log_importance_weights(images, _DRAWS).double()
        return torch.stack([view.elbo(images).double() for _ in range(_DRAWS)])

    classes, places = specimen.spec.num_classes or 1, torch.arange(len(images))
    given = places % classes
    with specimen.rng("labels"):
        pure = torch.stack([draws(torch.full_like(given, label)) for label in range(classes)])
        mixed = draws(given)
    means, errors = pure.mean(1), pure.std(1) / _DRAWS**0.5  # (classes, N)
    z = apart(means, means[:1]) / (errors.square() + errors[:1].square()).sqrt().nan_to_num().clamp_min(1e-12)
    yield from _used(specimen, "bounds", alike=float(z[1:].abs().max()) < 2.5)
    error = (mixed.var(0) / _DRAWS + errors[given, places].square()).sqrt().nan_to_num()
    yield Trial.z_test(
        specimen.where, "bounds of mixed labels minus those of one label at a time",
        *worst_of(apart(mixed.mean(0), means[given, places]), error), unit="nats",
        rounding=specimen.tolerance(scale=50.0), meaning=_MISPAIRED,
    )  # fmt: skip


def _implicit(specimen: Specimen) -> Iterator[Trial]:
    classes = specimen.spec.num_classes or 1
    mixed = _counts_by_label(specimen, next(iter(specimen.model.samplers())), classes, _SAMPLES)
    for label in range(classes):
        view = _given(specimen, torch.full((3000,), label))
        with specimen.rng("pure", label):
            images = torch.cat([view.sample(3000) for _ in range(2)])
        p, freedom = same_distribution(mixed[label], specimen.counts(images))
        yield Trial(
            f"{specimen.where}, label {label}", "samples of mixed labels against those of one label at a time", p,
            smallest_defect=smallest_total_variation(freedom, 2000), meaning="samples are paired with the wrong labels",
        )  # fmt: skip
    yield from _used(specimen, "samples", alike=same_distribution(mixed[0], mixed[1])[0] > 0.01)
