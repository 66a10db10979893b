"""The laboratory: makes specimens of a model, each once, on the sample spaces that the model takes."""

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from types import UnionType

import torch
from torch import Tensor

from harness.auditing.cost import cost
from harness.auditing.subject import (
    FULL,
    LARGER,
    LARGEST,
    MANY_LEVELS,
    OPERATIONS,
    SECONDS,
    SMALL,
    WIDE,
    KnownDistribution,
    Specimen,
    State,
    Subject,
    cast,
    describe,
    dtype_of,
    needs_fit,
    num_images,
    probe,
)
from harness.auditing.trial import NOT_DECIDED, NOT_FINITE, NOT_REACHED, NotApplicable
from harness.interface.dataset import Dataset, Split
from harness.interface.model import (
    ExactLikelihood,
    ImportanceWeighted,
    Invertible,
    Model,
    Unsupported,
    VariationalBound,
)
from harness.interface.spec import Budget, ImageSpec
from harness.interface.training import Diverged, Trainer
from harness.support.checkpoint import put_weights
from harness.support.observers import TouchedStorages
from harness.support.randomness import derive_seed, generator, isolated_rng

FIT_STEPS = 100
_FEWEST_STEPS, _FIT = 25, 0.2  # of a model whose steps are expensive; and of a check's budget, what a fit may cost
# Factors of the weights in the variants of the states ``shrunk`` and ``lopsided``
SHRINKS = (1.0, 0.7, 0.5, 0.35, 0.25, 0.17, 0.1, 0.05, 0.02)
CPU = torch.device("cpu")  # where specimens live: it has float64
_FITTED_SPACES = 2  # of the small ones: the first two that the model takes
_RANDOM_IMAGES = 256  # to fit to, where a space cannot be enumerated
_SHRINK = 0.3  # of small random weights: samples are then not far from independent pixels
_SCALES = (1.0, 0.3, 0.1)  # of random weights, until a model computes anything with them
_WORST_CONDITION = 1e-2  # of random weights: what rounding does beyond says nothing of a model
_CHEAP_TO_SAMPLE = 16  # dimensions of a space whose samples cost little, whatever the model


class Laboratory:
    """Makes specimens of a subject, each once; what it makes depends on the seed alone."""

    def __init__(self, subject: Subject, *, seed: int = 0, budget: float = SECONDS * OPERATIONS) -> None:
        self.subject, self.seed = subject, seed
        self.crashed: dict[ImageSpec, str] = {}
        self.shortened: set[ImageSpec] = set()  # where a short fit was of few steps, as each is expensive
        self.notes: dict[str, None] = {}  # on what the check asked for and could not have
        self.budget = self.left = budget  # operations: of a whole check, and what the check has left
        self._bases: dict[ImageSpec, Model | str] = {}  # as made for a space, or why it cannot be had
        self._made: dict[tuple[ImageSpec, State, int], Specimen | str] = {}

    def begin_check(self) -> None:
        """Gives the next check all of its budget, whatever others spent: a verdict does not depend on them."""
        self.left = self.budget
        self.notes.clear()

    def affords(self, operations: float, what: str, *, share: float = 1.0) -> bool:
        """Whether a check may still spend this: if so, it is spent; if not, a note says ``what`` was not reached.

        ``share`` is the part of its budget that a check has spent afterwards at most.
        """
        if operations > self.left - (1 - share) * self.budget:
            self.notes[f"{what}: {NOT_REACHED}"] = None
            return False
        self.left -= operations
        return True

    @cached_property
    def small(self) -> tuple[ImageSpec, ...]:
        """The spaces that can be enumerated and that the model takes."""
        return tuple(filter(self.takes, SMALL)) or tuple(filter(self.takes, LARGER))

    @cached_property
    def wide(self) -> tuple[ImageSpec, ...]:
        """One wide space with a channel and one with three, as far as the model takes any."""
        found = list(filter(self.takes, WIDE))
        first = {spec.channels > 1: spec for spec in reversed(found)}
        return tuple(first[colour] for colour in sorted(first))

    @cached_property
    def full(self) -> ImageSpec | None:
        """The size of a benchmark, if the model takes any."""
        return next(filter(self.takes, FULL if self.subject.full is None else (self.subject.full,)), None)

    @cached_property
    def many_levels(self) -> ImageSpec | None:
        """A space of 256 levels that can be enumerated, or of as many as the model takes."""
        return next(filter(self.takes, MANY_LEVELS), None)

    def some(self, count: int) -> tuple[ImageSpec, ...]:
        """Returns the first small spaces, at most ``count``; where there are none, one that is larger."""
        return self.small[:count] or self.wide[:1] or tuple(filter(None, [self.full]))

    def takes(self, spec: ImageSpec) -> bool:
        """Whether the model can be made for a space and does what it promises there without raising."""
        if spec not in self._bases:
            with isolated_rng(0, CPU):
                self._bases[spec] = self._build(spec)
        return isinstance(self._bases[spec], Model)

    @property
    def any_specimen(self) -> Specimen:
        """A specimen on the first space that the model takes; raises ``NotApplicable`` where there is none."""
        self.require_a_space()
        [spec] = self.some(1)
        return self.specimen(spec, "fitted" if needs_fit(self._base(spec)) else "initial")

    def require(self, capability: type | UnionType, reason: str) -> Model:
        """Returns the model on its first space; ``NotApplicable`` where it has not the capability, or takes none."""
        model = self.any_specimen.model
        if not isinstance(model, capability):
            raise NotApplicable(reason)
        return model

    def require_a_space(self) -> None:
        """Raises ``NotApplicable``, with the reasons, where the model takes no space that was tried."""
        if not self.some(1):
            refused = {spec: why for spec, why in self._bases.items() if isinstance(why, str)}
            reasons = [f"{describe(spec)}: {why}" for spec, why in {**self.crashed, **refused}.items()]
            raise NotApplicable("the model takes no sample space that was tried; " + "; ".join(reasons[:3]))

    @property
    def used(self) -> tuple[str, ...]:
        """The spaces that a specimen was made on, in words."""
        made = [describe(spec) for (spec, *_), made in self._made.items() if isinstance(made, Specimen)]
        return tuple(dict.fromkeys(made))

    def specimens(
        self, *states: State, spaces: Sequence[ImageSpec] | None = None, variant: int = 0
    ) -> Iterator[Specimen]:
        """Yields specimens on the enumerated spaces (or ``spaces``) in each of the states that can be had there."""
        for spec in self.small if spaces is None else spaces:
            for state in states:
                try:
                    yield self.specimen(spec, state, variant=variant)
                except NotApplicable:
                    continue

    def specimen(self, spec: ImageSpec, state: State, *, variant: int = 0) -> Specimen:
        """Returns the model on a space in a state; ``NotApplicable`` says why not. Variants are independent."""
        key = (spec, state, variant)
        if key not in self._made:
            try:
                with isolated_rng(derive_seed(self.seed, "specimen", describe(spec), state), CPU):
                    self._made[key] = self._make(spec, state, variant)
            except NotApplicable as reason:
                self._made[key] = str(reason)
        made = self._made[key]
        if isinstance(made, str):
            self.notes |= {made: None} if NOT_DECIDED in made else {}
            raise NotApplicable(made)
        return made

    def single(self, specimen: Specimen) -> Specimen:
        """Returns the same in float32: for what draws much and needs few digits."""
        if specimen.dtype == torch.float32:
            return specimen
        if "single" not in specimen.kept:
            specimen.kept["single"] = replace(specimen, model=self._copy(specimen.model).float(), kept={})
        return specimen.kept["single"]  # type: ignore[no-any-return]

    def known(self, spec: ImageSpec) -> KnownDistribution:
        """Returns the distribution that a short fit on a space sees."""
        return KnownDistribution(spec, derive_seed(self.seed, "known", describe(spec)))

    def _make(self, spec: ImageSpec, state: State, variant: int) -> Specimen:
        drawn = state not in ("initial", "fitted")
        for scale in _SCALES:
            specimen = self._in_state(spec, state, variant, scale)
            if not drawn or _is_sound(specimen):
                return specimen
        raise NotApplicable(f"{specimen.where}: {NOT_DECIDED}: rounding alone moves a score there, or {NOT_FINITE}")

    def _in_state(self, spec: ImageSpec, state: State, variant: int, scale: float) -> Specimen:
        base = self._base(spec)
        if state != "fitted" and needs_fit(base):
            raise NotApplicable("the model keeps its data, and has none before it is fitted")
        counts = not any(value.requires_grad for value in base.parameters())  # and knows nothing before its fit
        if state == "fitted" and not (counts or needs_fit(base)) and spec not in self.small[:_FITTED_SPACES]:
            raise NotApplicable("a short fit on this space would show nothing that others do not")
        model = base if state == "initial" else self._copy(base)
        if state == "fitted":
            self._fit(model, spec)
        elif state != "initial" and counts:
            raise NotApplicable("the model has no weights that are trained by gradients")
        elif state == "gentle" and isinstance(model, ImportanceWeighted):
            _make_gentle(model, seed=self.seed)
        elif state == "gentle":
            randomise(model, gain=scale, seed=derive_seed(self.seed, "gentle"), shrink=_SHRINK)
        elif state == "shrunk":
            randomise(model, gain=scale, seed=derive_seed(self.seed, "shrunk"), shrink=SHRINKS[variant])
        elif state == "lopsided":
            _make_lopsided(model, SHRINKS[variant], gain=scale, seed=derive_seed(self.seed, "shrunk"))
        elif state != "initial":
            seed = derive_seed(self.seed, "strong" if state == "strong" else "random", variant)
            gain = scale * (3.0 if state == "strong" else 1.0)
            randomise(model, gain=gain, seed=seed, positive=state == "positive")
        seed = derive_seed(self.seed, "specimen", describe(spec), state, variant)
        return Specimen(model.eval(), spec, state, seed, budget=self.budget)

    def _base(self, spec: ImageSpec) -> Model:
        self.takes(spec)
        base = self._bases[spec]
        if isinstance(base, str):
            raise NotApplicable(base)
        return base

    def _build(self, spec: ImageSpec) -> Model | str:
        images = torch.zeros(2, *spec.shape, dtype=torch.uint8)
        images[1].flatten()[::2] = spec.levels - 1  # every other entry is white
        for dtype in (torch.float64, torch.float32):
            try:
                model = self._construct(spec, dtype)
                if not needs_fit(model):
                    with torch.no_grad():
                        probe(model, images, sampling=spec.num_dimensions <= _CHEAP_TO_SAMPLE)
            except Unsupported as reason:
                return str(reason)
            except Exception as error:  # somebody else's code: anything can happen
                self.crashed[spec] = f"{type(error).__name__}: {error}".splitlines()[0]
                continue
            self.crashed.pop(spec, None)
            return model
        return self.crashed[spec]

    def _construct(self, spec: ImageSpec, dtype: torch.dtype) -> Model:
        torch.manual_seed(derive_seed(self.seed, "build", describe(spec)))
        return cast(self.subject.make(spec).to(CPU), dtype).eval()

    def _copy(self, model: Model) -> Model:
        """Returns a new model with another's weights: deepcopy fails on some models."""
        copied = self._construct(model.spec, dtype_of(model))
        put_weights(model.state_dict(), copied, source="the audit")
        return copied.eval()

    def _fit(self, model: Model, spec: ImageSpec) -> None:
        if num_images(spec) <= LARGEST:
            data = self.known(spec).dataset()
        else:
            random, size = generator(self.seed, "data", describe(spec)), (_RANDOM_IMAGES,)
            images = torch.randint(spec.levels, (*size, *spec.shape), generator=random, dtype=torch.uint8)
            labels = torch.randint(spec.num_classes, size, generator=random) if spec.num_classes else None
            split = Split(images, labels)
            data = Dataset(f"random, {describe(spec)}", spec, split, split, split)
        dtype = dtype_of(model)
        model.float()  # a short fit needs no more, and convolutions in float64 are slow
        trainer = _ShortTrainer(model, data, seed=self.seed, affordable=_FIT * self.budget)
        try:
            with torch.enable_grad():
                model.fit(data, trainer)
        except Unsupported as reason:
            raise NotApplicable(str(reason)) from reason
        except Diverged as reason:  # a step that is too long says nothing of the likelihood
            raise NotApplicable(f"{describe(spec)}: {NOT_DECIDED} after a fit: {reason}") from reason
        except Exception as error:
            message = f"fit raises {type(error).__name__}: {error}".splitlines()[0]
            self.crashed.setdefault(spec, message)
            raise NotApplicable(message) from error
        self.shortened |= {spec} if trainer.budget.amount < FIT_STEPS else set()
        cast(model, dtype)


class _ShortTrainer(Trainer):
    """A trainer of fewer steps where they are expensive: as many as are affordable, whatever the batch size."""

    def __init__(self, model: Model, data: Dataset, *, seed: int, affordable: float) -> None:
        super().__init__(model, data, budget=Budget(FIT_STEPS, "steps"), seed=seed)
        self._cost, self._affordable = (0.0, 0.0), affordable
        score = getattr(model, "log_prob", getattr(model, "elbo", None))
        with suppress(Exception):  # what a check would meet as well
            self._cost = (0.0, 0.0) if score is None else cost(Specimen(model, data.spec, "initial", seed), score)

    def batches(self, split: Split, *, batch_size: int, until: float = 1.0) -> Iterator[Split]:
        """Yields what a trainer does; the first loop says what a step costs."""
        if self.step == 0:
            step = 3 * (self._cost[0] * min(batch_size, len(split)) + self._cost[1])  # the way back is twice the way
            steps = max(_FEWEST_STEPS, min(FIT_STEPS, int(self._affordable / max(1.0, step))))
            self.budget = Budget(steps, "steps")
        return super().batches(split, batch_size=batch_size, until=until)


@torch.no_grad()
def _is_sound(specimen: Specimen) -> bool:
    """Whether some scores and latents are finite, and more than rounding: other weights say nothing of a model."""
    model, images, found = specimen.model, specimen.images(8, "finite"), list[Tensor]()
    with specimen.rng("finite"), suppress(Exception):  # what a check would meet as well
        if isinstance(model, ExactLikelihood):
            found.append(model.log_prob(images).clamp_min(-1e300))  # an impossible image is none
        if isinstance(model, Invertible):
            latents, log_det = model.transform(model.dequantize(images)[0])
            found += [latents, log_det, model.inverse(latents), model.inverse(model.sample_prior(100))]
        elif isinstance(model, VariationalBound):
            found.append(model.elbo(images).clamp_min(-1e300))
    return all(bool(values.isfinite().all()) for values in found) and specimen.condition < _WORST_CONDITION


@torch.no_grad()
def randomise(model: Model, *, gain: float, seed: int, shrink: float = 1.0, positive: bool = False) -> None:
    """Adds noise to all weights that are trained by gradients, so that no mask, bias or branch hides behind a zero.

    Signals keep their size, then ``shrink`` scales all weights. Weights that are all of one sign keep it: a deviation,
    say, is multiplied by noise. ``positive`` ones replace the model's own instead: no unit is dead then, and no two
    paths cancel. Last, the model projects what it was given.
    """
    random = generator(seed, "randomise")
    for weight in model.parameters():
        if weight.requires_grad:
            value = torch.view_as_real(weight) if weight.is_complex() else weight
            fan_in = value[0].numel() if value.ndim > 1 else 0  # none of a bias
            deviation = gain / math.sqrt(fan_in) if fan_in else 0.3 * gain
            noise = torch.randn(value.shape, dtype=torch.float64, generator=random)
            if positive:
                value.copy_((noise.abs() / max(fan_in, 3)).to(value))
            elif bool((value > 0).all() | (value < 0).all()):
                value.mul_((0.3 * gain * noise).exp().to(value)).mul_(shrink)
            else:
                value.add_((deviation * noise).to(value)).mul_(shrink)
    if isinstance(model, Model):
        model.project_()


@torch.no_grad()
def _make_lopsided(model: Model, shrink: float, *, gain: float, seed: int) -> None:
    """Gives random weights, small where samples depend on them: a far encoder, and a simple decoder."""
    with TouchedStorages() as sampling:
        model.sample(2)
    trained = [value for value in model.parameters() if value.requires_grad]
    shrunk = [value for value in trained if value in sampling]
    if len(shrunk) == len(trained):
        raise NotApplicable("scoring has no weights of its own")
    randomise(model, gain=gain, seed=seed)  # so that samples are those of ``shrunk``
    for value in shrunk:
        value.mul_(shrink)
    model.project_()


@torch.no_grad()
def _make_gentle(model: ImportanceWeighted, *, seed: int) -> None:
    """Gives random weights, shrunk until importance weights vary little: their averages mean something then."""
    start = [value.clone() for value in model.parameters()]
    random = generator(seed, "gentle images")
    images = torch.randint(model.spec.levels, (32, *model.spec.shape), generator=random, dtype=torch.uint8)
    for shrink in (1.0, 0.7, 0.5, 0.35, 0.25, 0.15, 0.1, 0.05):
        for value, old in zip(model.parameters(), start, strict=True):
            value.copy_(old)
        randomise(model, gain=1.0, seed=derive_seed(seed, "gentle"), shrink=shrink)
        try:
            weights = model.log_importance_weights(images, 100).double()
        except ValueError:  # of torch's distributions, where large weights make what is not finite
            continue
        log_ess = 2 * weights.logsumexp(0) - (2 * weights).logsumexp(0) - math.log(len(weights))
        if bool((log_ess.exp() > 0.3).all()):
            return
    raise NotApplicable("importance weights vary too much, however small the weights are")
