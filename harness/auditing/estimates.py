"""What can only be estimated by drawing: means of importance weights, of bounds, and frequencies of samples."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from harness.auditing.cost import flops as flops
from harness.auditing.laboratory import Laboratory
from harness.auditing.subject import Specimen, index_of
from harness.auditing.trial import NotApplicable
from harness.interface.metric import check_samples
from harness.interface.model import Autoregressive, ImportanceWeighted, Invertible, Model, VariationalBound
from harness.interface.sampling import BoundSampler

FEWEST_SAMPLES, MOST_SAMPLES = 4_000, 20_000
_FEWEST_OF_OTHERS, _MOST_OF_OTHERS = 500, 1_000
_SAMPLING, _WEIGHTS, _BOUNDS = 0.05, 0.2, 0.1  # of a check's budget
_WEIGHT_ROWS = 2**16  # importance weights of all images together
_BOUND_DRAWS = 128
_CALL_ROWS = 2**15
_MOST_KEPT = 2**16  # images, in all orderings, whose conditionals are kept
_SHARED_IMAGES, _SHARED_DRAWS, _CORRELATED = 64, 64, 5.0  # to see whether images share noise; standard errors
_MOST_CALLS = 1024
_HEAVIEST = 0.4  # index of a tail
_LEAST_EFFECTIVE = 0.05  # of the weights: below, the mean rests on so few of them that its error is not known


def has_own_elbo(model: Model) -> bool:
    """Whether ``elbo`` is more than one log-weight, which the harness computes for every model with weights."""
    return isinstance(model, VariationalBound) and type(model).elbo is not ImportanceWeighted.elbo


def mean_and_error(values: Tensor) -> tuple[float, float]:
    """Returns the mean of (N,) and its standard error."""
    return float(values.mean()), float(values.std()) / len(values) ** 0.5


def has_variance(weights: Tensor) -> bool:
    """Whether weights (K,) seem to have a variance, so that their mean has an error: by the index of their tail.

    Hill's estimate of it, from the largest twentieth: from 1/2 on there is no variance.
    """
    largest = weights.topk(len(weights) // 20 + 1).values.log()
    return float((largest[:-1] - largest[-1]).mean()) < _HEAVIEST


def worst_of(differences: Tensor, errors: Tensor) -> tuple[float, float]:
    """Returns the furthest difference of a few, and its error times 1.3: at four errors, the choice costs ln(5)."""
    worst = int((differences.abs() / errors.clamp_min(1e-12)).argmax())
    return float(differences[worst]), 1.3 * float(errors[worst])


def are_correlated(draws: Tensor) -> bool:
    """Whether columns of draws (K, N) depend on one another: those that vary have squared correlations above chance.

    Of independent columns that is 1 / (K - 1) on average, whatever their distribution: any order of a column's values
    is as likely as any other.
    """
    finite = draws[:, draws.isfinite().all(0)].double()
    spread = finite.std(0)
    centred = ((finite - finite.mean(0)) / spread)[:, spread > 1e-9 * (1 + finite.abs().amax(0))].clamp(-3, 3)
    count, size = centred.shape
    if size < 2:
        return False
    unit = torch.nn.functional.normalize(centred - centred.mean(0), dim=0)
    mean_square = float(((unit.T @ unit).square().sum() - size) / (size * (size - 1)))
    return mean_square * (count - 1) - 1 > 2 * _CORRELATED / size


@torch.no_grad()
def shares_noise(specimen: Specimen, name: str, draw: Callable[[Tensor, int], Tensor]) -> bool:
    """Whether the images of one call share noise, all of it or some; ``draw`` maps N images to (draws, N) values.

    They may. But then an image that is repeated in a call is no independent draw, and errors of images add up.
    """
    if (key := f"shared noise of {name}") not in specimen.kept:
        images = specimen.images(_SHARED_IMAGES if specimen.spec.num_dimensions <= 64 else 8, "shared noise")
        with specimen.rng(key):
            specimen.kept[key] = are_correlated(draw(images, _SHARED_DRAWS))
    return bool(specimen.kept[key])


def weights_share_noise(specimen: Specimen) -> bool:
    """Whether importance weights of the images of one call do."""
    return shares_noise(specimen, "weights", specimen.model_as(ImportanceWeighted).log_importance_weights)


def elbo_shares_noise(specimen: Specimen) -> bool:
    """Whether the bounds of the images of one call do."""
    elbo = specimen.model_as(VariationalBound).elbo
    return shares_noise(specimen, "elbo", lambda images, draws: torch.stack([elbo(images) for _ in range(draws)]))


def error_of_sum(specimen: Specimen, errors: Tensor) -> float:
    """Returns the standard error of a sum of bounds of errors (N,), at most: they add up where images share noise."""
    return float(errors.abs().sum() if elbo_shares_noise(specimen) else errors.square().sum().sqrt())


@torch.no_grad()
def elbos(specimen: Specimen, images: Tensor, draws: int) -> Tensor:
    """Returns (draws, N) float64 bounds of images; those of an image are independent, those of a draw may not be."""
    elbo = specimen.model_as(VariationalBound).elbo
    repeats = 1 if elbo_shares_noise(specimen) else max(1, min(64, _CALL_ROWS // len(images)))
    rounds = [min(repeats, draws - start) for start in range(0, draws, repeats)]
    return torch.cat([elbo(images.repeat(count, 1, 1, 1)).double().view(count, -1) for count in rounds])


@torch.no_grad()
def log_weights(specimen: Specimen, images: Tensor, num_samples: int, *purpose: str | int) -> Tensor:
    """Returns (num_samples, N) float64 log-weights of images, independent, drawn in calls of bounded size."""
    model, parts = specimen.model_as(ImportanceWeighted), []
    num_images = 1 if weights_share_noise(specimen) else max(1, _CALL_ROWS // num_samples)
    with specimen.rng("weights", *purpose):
        for part in torch.split(images, num_images):
            weights = model.log_importance_weights(part, num_samples)
            if weights.shape != (wanted := (num_samples, len(part))):
                returned = tuple(weights.shape)
                raise ValueError(f"log_importance_weights was asked for {wanted} weights, it returned {returned}")
            parts.append(weights.double())
    found = torch.cat(parts, dim=1)
    if bool(found.isnan().any()):
        raise ValueError("log_importance_weights returned NaN")
    return found


def weigher(model: ImportanceWeighted, num_samples: int = 1) -> Callable[[Tensor], Tensor]:
    """Returns the function of images that weighs them; a model's argument may have another name: it goes by place."""
    return lambda images: model.log_importance_weights(images, num_samples)


def trusted_weights(laboratory: Laboratory) -> Iterator[str | tuple[Specimen, Tensor, Tensor]]:
    """Yields specimens, the mean weight of every image (M,) and its standard error (M,); a note where it is unknown."""
    found = False
    for specimen in laboratory.specimens("gentle", "fitted"):
        if len(specimen.everything) > _MOST_CALLS and weights_share_noise(specimen):
            yield f"{specimen.where}: left out, as images share their noise, so that each needs a call of its own"
            continue
        if "weights" not in specimen.kept:
            one_weight = weigher(specimen.model_as(ImportanceWeighted))
            rows = affordable(specimen, one_weight, _WEIGHTS, _WEIGHT_ROWS // 8, _WEIGHT_ROWS)
            count = max(8, rows // len(specimen.everything))
            weights = log_weights(specimen, specimen.everything, count, "estimates").exp()
            mean, error = weights.mean(0), weights.std(0, correction=1) / count**0.5
            effective = weights.sum(0).square() / weights.square().sum(0).clamp_min(1e-300) / count
            share = (mean / mean.sum().clamp_min(1e-300)) @ effective  # an image counts by its mass
            reliable = bool(share > max(_LEAST_EFFECTIVE, 50 / count if count < 500 else 0.0))
            reliable = reliable or specimen.state == "gentle"
            relative = (weights / mean)[:, mean > 0]
            specimen.kept["weights"] = mean, error, reliable and has_variance(relative.flatten())
        mean, error, reliable = specimen.kept["weights"]
        if reliable:
            found = True
            yield specimen, mean, error
        else:
            yield f"{specimen.where}: importance weights vary too much for their mean to say anything"
    if not found:
        raise NotApplicable("the importance weights vary too much, in every state, for their mean to say anything")


@torch.no_grad()
def bound_estimates(specimen: Specimen) -> tuple[Tensor, Tensor]:
    """Returns the mean of ``elbo`` over draws for every image (M,), and its standard error (M,)."""
    if "bound" not in specimen.kept:
        specimen.kept["bound"] = _bound_estimates(specimen)
    return specimen.kept["bound"]  # type: ignore[no-any-return]


def _bound_estimates(specimen: Specimen) -> tuple[Tensor, Tensor]:
    model, images = specimen.model_as(VariationalBound), specimen.everything
    rows = affordable(specimen, model.elbo, _BOUNDS, 2**12, 2**18)
    draws = max(16, min(_BOUND_DRAWS, rows // len(images)))
    sums = torch.zeros(2, len(images), dtype=torch.float64)
    with specimen.rng("bounds"):
        for _ in range(draws):
            values = torch.cat([model.elbo(part) for part in torch.split(images, _CALL_ROWS)]).double()
            sums += torch.stack([values, values.square()])
    mean, square = sums[0] / draws, sums[1]
    return mean, ((square / draws - mean.square()).clamp_min(0) / (draws - 1)).sqrt().nan_to_num()  # impossible: 0


def affordable(specimen: Specimen, function: Callable[[Tensor], object], share: float, least: int, most: int) -> int:
    """Returns how many images a share of the budget pays for; at least, and at most, so many."""
    return max(least, min(most, int(share * specimen.budget / flops(specimen, function))))


def sampling_cost(specimen: Specimen, images: int, *, by_all: bool = False) -> float:
    """Returns what samples cost by the first sampler, or by all: ``raster`` takes a pass for each generation step.

    Of other models those count that take many evaluations, one after another.
    """
    model = specimen.model
    if not isinstance(model, Autoregressive):
        return flops(specimen, _drawn_by(model)) * images if model.sampling_depth > 1 else 0.0
    steps, names = len(torch.unique(model.generation_steps())), list(model.samplers())
    passes = sum(steps if name == "raster" else 4 for name in (names if by_all else names[:1]))
    return passes * flops(specimen, model.conditional_logits) * images


def affordable_samples(specimen: Specimen, sampler: str) -> int:
    """Returns how many samples are drawn by a sampler: fewer where each takes many evaluations one after another."""
    model = specimen.model
    if not isinstance(model, Autoregressive) and model.sampling_depth > 1:
        return affordable(specimen, _drawn_by(model), _SAMPLING, FEWEST_SAMPLES, MOST_SAMPLES)
    if not isinstance(model, Autoregressive) or sampler == "raster":
        return MOST_SAMPLES  # by raster, every image is evaluated once
    is_first = sampler == next(iter(model.samplers()))  # others are compared with it image by image
    least, most = (FEWEST_SAMPLES, MOST_SAMPLES) if is_first else (_FEWEST_OF_OTHERS, _MOST_OF_OTHERS)
    return affordable(specimen, model.conditional_logits, _SAMPLING, least, most)


def _drawn_by(model: Model) -> Callable[[Tensor], Tensor]:
    """Returns a function of N images that draws N others, for its cost."""
    return lambda images: model.sample(len(images))


@contextmanager
def each_image_once(specimen: Specimen) -> Iterator[None]:
    """Evaluates the conditionals of every image once: raster samplers of small spaces gain most of it."""
    model = specimen.model
    is_kept = isinstance(model, Autoregressive) and model.num_orderings * len(specimen.everything) <= _MOST_KEPT
    if not isinstance(model, Autoregressive) or not is_kept or "conditional_logits" in vars(model):
        yield
        return
    evaluate, tables = model.conditional_logits, specimen.kept.setdefault("conditionals", {})

    def once(images: Tensor, ordering: int = 0) -> Tensor:
        if images.dtype != torch.uint8 or bool((images >= specimen.spec.levels).any()):  # a sampler's own idea
            return evaluate(images, ordering)
        if ordering not in tables:
            parts = torch.split(specimen.everything, 4096)
            tables[ordering] = torch.cat([evaluate(part, ordering) for part in parts])
        table: Tensor = tables[ordering]
        return table[index_of(images, specimen.spec)]

    vars(model)["conditional_logits"] = once
    try:
        yield
    finally:
        del vars(model)["conditional_logits"]


@torch.no_grad()
def sample_counts(specimen: Specimen, sampler: BoundSampler, num_samples: int, *purpose: str | int) -> Tensor:
    """Returns (M,) int64: how often a sampler drew each image of the space."""
    return sample_halves(specimen, sampler, num_samples, *purpose).sum(0)


@torch.no_grad()
def sample_halves(specimen: Specimen, sampler: BoundSampler, num_samples: int, *purpose: str | int) -> Tensor:
    """Returns (2, M) int64: how often each image of the space was drawn in the first and the second half of calls."""
    counts = torch.zeros(2, len(specimen.everything), dtype=torch.int64)
    with specimen.rng("samples", *purpose), each_image_once(specimen):
        for start in range(0, num_samples, 4000):
            count = min(4000, num_samples - start)
            images = check_samples(sampler(count), count, specimen.model)
            counts += torch.stack([specimen.counts(images[: count // 2]), specimen.counts(images[count // 2 :])])
    return counts


@torch.no_grad()
def mass_outside(specimen: Specimen) -> tuple[float, float]:
    """Returns the share of a flow's own samples that lie beyond the images' range, and its standard error."""
    x = _draws(specimen, 100_000, "outside")
    num_samples = len(x)
    share = float((~((x >= 0) & (x < specimen.spec.levels))).any(1).double().mean())
    return share, ((share * (1 - share) + 1 / num_samples) / num_samples) ** 0.5  # never quite certain


@torch.no_grad()
def draws_inside(specimen: Specimen, num_samples: int) -> Tensor:
    """Returns (M,) int64: how often each image is hit by a flow's prior, mapped back; what falls outside is dropped."""
    x = _draws(specimen, num_samples, "inside").floor()
    return specimen.counts(x[((x >= 0) & (x < specimen.spec.levels)).all(1)])


def _draws(specimen: Specimen, most: int, purpose: str) -> Tensor:
    """Draws from a flow's prior, mapped back: fewer where the inverse is found entry by entry, or by iteration."""
    model = specimen.model_as(Invertible)
    with specimen.rng(purpose):
        one = model.sample_prior(1)
        count = affordable(specimen, lambda images: model.inverse(one.repeat(len(images), 1)), 0.05, 4000, most)
        return model.inverse(model.sample_prior(count)).flatten(1)
