"""Mutants of autoregressive models: masks, orders, samplers."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness import ImageSpec, Noise, Sampler, SamplingTrace, Unsupported

from .autoregressive import MADE, NADE, MarkovChain, Multiscale, OrderAgnosticMADE, RowRNN
from .common import centred, pick
from .pixel_cnn import GatedPixelCNN, MaskedConv, PixelCNN
from .registry import wrong

# --- what is scored is not what is sampled ---


@wrong("probabilities passed for logits", check="conditionals")
class ConditionalProbabilitiesForLogits(MADE):
    """Scores by a loss that expects logits, and passes it probabilities."""

    def conditional_log_probs(self, images: Tensor, ordering: int = 0) -> Tensor:
        probs = self.conditional_logits(images, ordering).softmax(1)
        return pick(probs.log_softmax(1), images)


@wrong("a clamp of probabilities", check="conditionals")
class ProbabilitiesClamped(MADE):
    """Clamps probabilities to [0.05, 0.95] "for stability" before it takes their logarithm."""

    def conditional_log_probs(self, images: Tensor, ordering: int = 0) -> Tensor:
        return pick(self.conditional_logits(images, ordering).softmax(1), images).clamp(0.05, 0.95).log()


@wrong("half precision", check="conditionals")
class HalfPrecision(MADE):
    """Adds up log-probabilities in float16, which autocast does where nobody said otherwise."""

    def log_prob(self, images: Tensor) -> Tensor:
        return self.conditional_log_probs(images).half().flatten(1).sum(1).to(self.dtype)


@wrong("average of logarithms", check="conditionals")
class OrderingsAveragedInLogs(OrderAgnosticMADE):
    """Averages log-probabilities over orderings: a bound, and ranked as if it were exact."""

    def log_prob(self, images: Tensor) -> Tensor:
        each = [self.conditional_log_probs(images, k).flatten(1).sum(1) for k in range(self.num_orderings)]
        return torch.stack(each).mean(0)


@wrong("best of several", check="conditionals")
class BestOrdering(OrderAgnosticMADE):
    """Reports the ordering that likes an image best."""

    def log_prob(self, images: Tensor) -> Tensor:
        each = [self.conditional_log_probs(images, k).flatten(1).sum(1) for k in range(self.num_orderings)]
        return torch.stack(each).amax(0)


@wrong("weights of a mixture", check="normalisation")
class OrderingsNotDivided(OrderAgnosticMADE):
    """Adds the probabilities of K orderings without dividing by K."""

    def log_prob(self, images: Tensor) -> Tensor:
        each = [self.conditional_log_probs(images, k).flatten(1).sum(1) for k in range(self.num_orderings)]
        return torch.stack(each).logsumexp(0)


@wrong("an entry that is not scored", check="normalisation")
class FirstEntryNotScored(MADE):
    """Starts to score at the second entry, as next-token losses do that have no start symbol."""

    def conditional_log_probs(self, images: Tensor, ordering: int = 0) -> Tensor:
        scores = super().conditional_log_probs(images, ordering)
        return scores * (self.generation_steps(ordering) > 0)


# --- samplers ---


class _FastAlone(NADE):
    """Has no slow sampler to be compared with: frequencies alone can tell."""

    def samplers(self) -> dict[str, Sampler]:
        return {"incremental": self.incremental}


@wrong("temperature", check="sampling")
class Temperature(_FastAlone):
    """Draws at a temperature of 0.8: the samples look better, and belong to another model."""

    def draw(self, state: Tensor, step: int, gumbel: Tensor) -> Tensor:
        return super().draw(state, step, 0.8 * gumbel)


@wrong("mode in the place of a draw", check="sampling")
class LastStepIsMode(_FastAlone):
    """Takes the most likely value at the last step, as samplers do that "denoise" at the end."""

    def draw(self, state: Tensor, step: int, gumbel: Tensor) -> Tensor:
        last = step == self.spec.num_dimensions - 1
        return super().draw(state, step, torch.zeros_like(gumbel) if last else gumbel)


@wrong("another order in sampling", check="sampling")
class ColumnsFirst(NADE):
    """Samples by columns what is scored by rows: a transpose that was forgotten once."""

    def incremental(
        self,
        num_samples: int,
        *,
        noise: Noise | None = None,
        known: Tensor | None = None,
        mask: Tensor | None = None,
        trace: object = None,
    ) -> Tensor:
        images = super().incremental(num_samples, noise=noise)
        if known is not None and mask is not None:
            return torch.where(mask, known, images)
        return images.flatten(2).view(len(images), -1, *self.spec.shape[:0:-1]).transpose(2, 3).contiguous()


@wrong("an update that is missing", check="sampling")
class UpdateForgotten(_FastAlone):
    """Does not add zeros to its state, which was right while inputs were 0 and 1 and not -1 and 1."""

    def update(self, state: Tensor, step: int, value: Tensor) -> Tensor:
        return torch.where(value[:, None] == 0, state, super().update(state, step, value))


@wrong("an update that is missing", check="sampling")
class CacheOneStepBehind(NADE):
    """Draws from the state before the last update: a cache that is read before it is written."""

    def update(self, state: Tensor, step: int, value: Tensor) -> Tensor:
        current = self.bias.expand_as(state) if step == 0 else self.pending
        self.pending = super().update(current, step, value)
        return current


@wrong("a cache that is too short", check="full-size")
class CacheTooShort(NADE):
    """Has a cache of 64 entries that starts anew when it is full: no space that can be enumerated fills it."""

    def update(self, state: Tensor, step: int, value: Tensor) -> Tensor:
        return super().update(self.bias.expand_as(state) if step % 64 == 63 else state, step, value)


@wrong("a sampler that stops early", check="full-size")
class StopsEarly(NADE):
    """Draws the first 400 entries, and completes the image by most likely values, as ``max_steps`` does."""

    def draw(self, state: Tensor, step: int, gumbel: Tensor) -> Tensor:
        return super().draw(state, step, gumbel if step < 400 else torch.zeros_like(gumbel))


# --- what shows with many entries, many levels, or other masks alone ---

_SMALL, _LEVELS, _WIDE, _FULL = (1, 2, 2, 4), (1, 1, 2, 256), (1, 16, 16, 2), (1, 28, 28, 2)


def _only(spec: ImageSpec, *sizes: tuple[int, int, int, int]) -> None:
    """Refuses other spaces than where the defect shows: its check is quick then."""
    if (*spec.shape, spec.levels) not in sizes:
        raise Unsupported(f"{sizes} alone")


@wrong("a sum that ends early", check="conditionals")
class SumsFirstChunk(NADE):
    """Scores in chunks of 512 entries, and drops the one that is not full."""

    def __init__(self, spec: ImageSpec) -> None:
        _only(spec, _SMALL, _FULL)
        super().__init__(spec)

    def log_prob(self, images: Tensor) -> Tensor:
        scores = self.conditional_log_probs(images).flatten(1)
        return scores[:, : max(scores.shape[1] // 512 * 512, min(scores.shape[1], 512))].sum(1)


@wrong("arithmetic in bytes", check="conditionals")
class ScoredInBytes(MADE):
    """Takes values for signed bytes, as NumPy's int8 does: 128 is -128, and is scored as if it were 0."""

    def __init__(self, spec: ImageSpec) -> None:
        _only(spec, _SMALL, _LEVELS)
        super().__init__(spec)

    def conditional_log_probs(self, images: Tensor, ordering: int = 0) -> Tensor:
        return pick(self.conditional_logits(images, ordering).log_softmax(1), images.to(torch.int8).clamp_min(0))


@wrong("arithmetic in bytes", check="sampling")
class UpdatedInBytes(NADE):
    """Doubles values before it makes them float: two times 128 is 0 in a byte, right up to 128 levels."""

    def __init__(self, spec: ImageSpec) -> None:
        _only(spec, _SMALL, _LEVELS)
        super().__init__(spec)

    def update(self, state: Tensor, step: int, value: Tensor) -> Tensor:
        doubled = (2 * value.to(torch.uint8)).to(self.dtype)
        return state + (doubled / (self.spec.levels - 1) - 1)[:, None] * self.into[step]


@wrong("a cache that is too short", check="sampling")
class SecondSamplerForgets(NADE):
    """Has a right sampler first; the fast one forgets all from the 200th entry on."""

    def __init__(self, spec: ImageSpec) -> None:
        _only(spec, _SMALL, _WIDE)
        super().__init__(spec)

    def samplers(self) -> dict[str, Sampler]:
        return {"raster": self.raster, "incremental": self.incremental}

    def update(self, state: Tensor, step: int, value: Tensor) -> Tensor:
        return super().update(state, step, value) if step < 200 else state


class _OtherMask(NADE):
    """Clamps by another mask than it was given."""

    def __init__(self, spec: ImageSpec) -> None:
        _only(spec, _SMALL)
        super().__init__(spec)

    def incremental(
        self,
        num_samples: int,
        *,
        noise: Noise | None = None,
        known: Tensor | None = None,
        mask: Tensor | None = None,
        trace: SamplingTrace | None = None,
    ) -> Tensor:
        mask = None if mask is None else self.other(mask)
        return super().incremental(num_samples, noise=noise, known=known, mask=mask, trace=trace)

    def other(self, mask: Tensor) -> Tensor:
        """Returns the wrong mask."""
        raise NotImplementedError


@wrong("a mask that is not that of the image", check="sampling")
class ClampsWholeRows(_OtherMask):
    """Keeps whole rows alone, those that begin with a known pixel."""

    def other(self, mask: Tensor) -> Tensor:
        return mask[:, :, :, :1].expand(mask.shape)


@wrong("a mask that is not that of the image", check="sampling")
class MaskOfFirstImage(_OtherMask):
    """Takes the mask of the first image for all of them."""

    def other(self, mask: Tensor) -> Tensor:
        return mask[:1]


@wrong("a mask that is not that of the image", check="sampling")
class KnownPastedAtTheEnd(NADE):
    """Draws everything, and pastes what is known over it: the rest has not seen it."""

    def __init__(self, spec: ImageSpec) -> None:
        _only(spec, _SMALL)
        super().__init__(spec)

    def incremental(
        self,
        num_samples: int,
        *,
        noise: Noise | None = None,
        known: Tensor | None = None,
        mask: Tensor | None = None,
        trace: SamplingTrace | None = None,
    ) -> Tensor:
        images = super().incremental(num_samples, noise=noise, trace=trace)
        return images if known is None or mask is None else torch.where(mask, known, images)


class _OtherNoise(NADE):
    """Draws noise that is right at each entry of each image, and coupled."""

    sizes: tuple[tuple[int, int, int, int], ...] = (_SMALL, _FULL)

    def __init__(self, spec: ImageSpec) -> None:
        _only(spec, *self.sizes)
        super().__init__(spec)

    def draw_noise(self, num_samples: int) -> Noise:
        noise = super().draw_noise(num_samples)
        return Noise(self.coupled(noise.gumbel.flatten(2)).reshape(noise.gumbel.shape), noise.ordering)

    def coupled(self, gumbel: Tensor) -> Tensor:
        """Maps noise (N, levels, D) to noise in which some is used twice."""
        raise NotImplementedError


@wrong("random numbers that are used twice", check="full-size")
class NoiseInTiles(_OtherNoise):
    """Draws noise of 256 entries, and repeats it over the image: no small space has as many."""

    def coupled(self, gumbel: Tensor) -> Tensor:
        return gumbel[:, :, torch.arange(gumbel.shape[2]) % 256]


@wrong("random numbers that are used twice", check="full-size")
class NoiseOfImagesInPairs(_OtherNoise):
    """Gives two images that follow one another the same noise where it takes much memory."""

    def coupled(self, gumbel: Tensor) -> Tensor:
        return gumbel[torch.arange(len(gumbel)) // 2 * 2] if gumbel.shape[2] > 200 else gumbel


@wrong("random numbers that are used twice", check="full-size")
class NoiseOfChannelsShared(_OtherNoise):
    """Draws one noise for all channels of a pixel."""

    sizes = ((1, 3, 3, 2), (3, 8, 8, 4))

    def coupled(self, gumbel: Tensor) -> Tensor:
        shape = (*gumbel.shape[:2], *self.spec.shape)
        return gumbel.view(shape)[:, :, :1].expand(shape)


# --- what is seen ---


@wrong("an entry that sees itself", check="dependence")
class SeesItself(MADE):
    """Has >= for > in the mask of its direct layer: the likelihood soon is far too good."""

    def masks(self, ordering: int) -> tuple[Tensor, Tensor, Tensor]:
        into, out, _ = super().masks(ordering)
        steps = self.generation_steps(ordering).flatten()
        return into, out, steps[:, None] >= steps


@wrong("a mask that is one off", check="dependence")
class SeesNext(MADE):
    """Is off by one in the other direction: an entry sees itself and the next one."""

    def masks(self, ordering: int) -> tuple[Tensor, Tensor, Tensor]:
        into, out, _ = super().masks(ordering)
        steps = self.generation_steps(ordering).flatten()
        return into, out, steps[:, None] >= steps - 1


@wrong("a mask that hides too much", check="dependence")
class MissesPrevious(MADE):
    """Is off by one: an entry never sees the one before it, and the likelihood is honest, but poor."""

    def masks(self, ordering: int) -> tuple[Tensor, Tensor, Tensor]:
        into, _, _ = super().masks(ordering)
        steps = self.generation_steps(ordering).flatten()
        degrees = torch.linspace(0, float(steps.max()), len(into)).round()
        return into, steps[:, None] > degrees + 1, steps[:, None] > steps + 1


@wrong("steps that claim independence", check="dependence")
class ClaimsIndependence(MarkovChain):
    """Says that it draws two entries at a time, though each sees the one before it: parallel, and wrong."""

    def generation_steps(self, ordering: int = 0) -> Tensor:
        return super().generation_steps() // 2

    def dependence(self, ordering: int = 0) -> Tensor:
        steps = super().generation_steps().flatten()
        return (steps[:, None] == steps + 1) & (steps[:, None] // 2 > steps // 2)


@wrong("steps that claim independence", check="dependence")
class GroupsMerged(Multiscale):
    """Draws the last two of its four groups at once, where the last is computed from the third."""

    def masks(self, ordering: int) -> tuple[Tensor, Tensor, Tensor]:
        steps = super().generation_steps(ordering).flatten()
        degrees = torch.linspace(0, float(steps.max()), len(self.first.weight)).round()
        return steps <= degrees[:, None], steps[:, None] > degrees, steps[:, None] > steps

    def generation_steps(self, ordering: int = 0) -> Tensor:
        return super().generation_steps().clamp_max(3 * self.spec.channels - 1)


@wrong("a layer that mixes entries", check="dependence")
class MeanSubtracted(MADE):
    """Subtracts an image's mean from it: pre-processing sees the future."""

    def conditional_logits(self, images: Tensor, ordering: int = 0) -> Tensor:
        inputs = centred(images, self.spec, self.dtype)
        return self.network(inputs - 0.1 * inputs.mean(1, keepdim=True), ordering)


@wrong("a mask of the wrong type", check="dependence")
class TypeAThroughout(PixelCNN):
    """Has masks of type A in all layers: features never see their own position, and the reach has holes."""

    kinds = ("A", "A", "A")


@wrong("a mask of the wrong type", check="dependence")
class TypeBFirst(PixelCNN):
    """Has a mask of type B in the first layer: every pixel sees itself."""

    kinds = ("B", "B", "B")


class _OtherMasks(PixelCNN):
    """Has masks that are changed after they are made."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        for layer in (*self.layers, self.out):
            assert isinstance(layer, MaskedConv)
            layer.mask = self.changed(layer.mask.clone(), layer.weight)

    def changed(self, mask: Tensor, weight: Tensor) -> Tensor:
        """Returns another mask, (out, in, kh, kw) bool."""
        raise NotImplementedError


@wrong("order of channels", check="dependence")
class RedSeesGreen(_OtherMasks):
    """Lets all channels of a pixel see one another, as a PixelCNN for grey images does that is given three."""

    def changed(self, mask: Tensor, weight: Tensor) -> Tensor:
        if mask.shape[1] > self.spec.channels:
            mask[:, :, mask.shape[2] // 2, mask.shape[3] // 2] = True
        return mask


@wrong("order of channels", check="dependence")
class BlueMissesRed(_OtherMasks):
    """Interleaves features by channel in one place and blocks them in another, until blue no longer sees red."""

    def changed(self, mask: Tensor, weight: Tensor) -> Tensor:
        channels = self.spec.channels
        if channels == 3:
            third_out, third_in = mask.shape[0] // 3, mask.shape[1] // 3
            mask[2 * third_out :, :third_in, mask.shape[2] // 2, mask.shape[3] // 2] = False
            mask[third_out : 2 * third_out, :third_in, mask.shape[2] // 2, mask.shape[3] // 2] = False
        return mask


@wrong("a mask that leaks", check="dependence")
class SeesRightNeighbour(_OtherMasks):
    """Has a mask that ends one column late."""

    def changed(self, mask: Tensor, weight: Tensor) -> Tensor:
        _, _, height, width = mask.shape
        if width > 1:
            mask[:, :, height // 2, width // 2 + 1] = True
        return mask


@wrong("a blind spot", check="dependence")
class BlindSpotUndeclared(PixelCNN):
    """Does not say that its stack of masked convolutions misses much of what is above and to the right."""

    def dependence(self, ordering: int = 0) -> None:  # type: ignore[override]
        return None


@wrong("a blind spot", check="dependence")
class GatedWithBlindSpot(GatedPixelCNN):
    """Is called gated, but its vertical stack is masked as the horizontal one: the blind spot is still in."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        visible = torch.ones_like(self.vertical.weight, dtype=torch.bool)
        visible[:, :, :, spec.width :] = False
        self.register_buffer("visible", visible, persistent=False)

    def conditional_logits(self, images: Tensor, ordering: int = 0) -> Tensor:
        pixels = centred(images, self.spec, self.dtype).view(images.shape)
        weight = self.vertical.weight * self.visible
        above = F.conv2d(self.shifted_down(pixels), weight, self.vertical.bias)
        across = self.gate(self.horizontal(pixels) + self.link(above))
        return self.out(across).view(len(images), self.spec.channels, -1, *self.spec.shape[1:]).transpose(1, 2)


@wrong("a shift that is missing", check="dependence")
class VerticalNotShifted(GatedPixelCNN):
    """Forgets to shift the vertical stack down by a row, as diagonal BiLSTMs without their skew do."""

    def shifted_down(self, pixels: Tensor) -> Tensor:
        _, rows, columns = self.spec.shape
        return F.pad(pixels, (columns - 1, columns - 1, rows - 1, 0))


@wrong("a state that starts anew", check="dependence")
class StateStartsAnew(RowRNN):
    """Starts every fourth row from an empty state: sequences were cut for training, and stayed so."""

    def states(self, rows: Tensor) -> Tensor:
        return torch.cat([super(StateStartsAnew, self).states(part) for part in rows.split(4, 1)], 1)


@wrong("a shift that is missing", check="dependence")
class RowNotShifted(RowRNN):
    """Reads a row before it writes it: the state is that after the row."""

    def states(self, rows: Tensor) -> Tensor:
        shifted = torch.cat([rows, torch.zeros_like(rows[:, :1])], 1)
        return super().states(shifted)[:, 1:]


@wrong("a declaration that is out of date", check="dependence")
class DeclaresOneLayerLess(PixelCNN):
    """Has got another layer since its reach was written down."""

    kinds = ("A", "B", "B", "B")


# --- conduct ---


@wrong("masks applied to weights in place", check="dependence")
class MasksInPlace(OrderAgnosticMADE):
    """Multiplies its weights by each ordering's masks in place, until almost all are zero (seen in public MADEs)."""

    def masked_in_place(self, ordering: int) -> None:
        """Applies the masks to the weights, for good."""
        into, out, direct = self.masks(ordering)
        levels = self.spec.levels
        self.first.weight.data.mul_(into)
        self.last.weight.data.mul_(out.repeat(levels, 1))
        self.direct.data.mul_(direct.repeat(levels, 1))

    def conditional_logits(self, images: Tensor, ordering: int = 0) -> Tensor:
        for each in range(self.num_orderings):
            self.masked_in_place(each)
        return super().conditional_logits(images, ordering)


@wrong("masks applied to weights in place", check="unchanged")
class MasksDrawnInPlace(MADE):
    """Draws new masks for hidden units in every call, and multiplies its weights by them in place."""

    def conditional_logits(self, images: Tensor, ordering: int = 0) -> Tensor:
        self.first.weight.data.mul_(torch.rand(self.first.weight.shape) < 0.9)
        return super().conditional_logits(images, ordering)


@wrong("running statistics that are updated", check="unchanged")
class RunningStatistics(MADE):
    """Has batch normalisation that is always in training mode: every batch that is scored moves its statistics."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        self.normalise = nn.BatchNorm1d(len(self.first.bias), affine=False)

    def train(self, mode: bool = True) -> RunningStatistics:
        super().train(mode)
        self.normalise.train()
        return self

    def network(self, inputs: Tensor, ordering: int) -> Tensor:
        into, _, _ = self.masks(ordering)
        hidden = F.linear(inputs, self.first.weight * into, self.first.bias)
        if len(inputs) > 1:
            self.normalise(hidden)
        return super().network(inputs, ordering)


@wrong("dropout left on", check="neighbours")
class DropoutLeftOn(MADE):
    """Calls dropout as a function, which does not know of ``eval()``."""

    def network(self, inputs: Tensor, ordering: int) -> Tensor:
        return super().network(F.dropout(inputs, 0.1), ordering)


@wrong("statistics of the batch", check="neighbours")
class BatchStatistics(MADE):
    """Standardises each entry over the batch, in tests too: a score depends on who else is scored."""

    def network(self, inputs: Tensor, ordering: int) -> Tensor:
        spread = inputs.std(0, correction=0, keepdim=True)
        return super().network((inputs - inputs.mean(0, keepdim=True)) / (spread + 0.1), ordering)


@wrong("an ordering that is drawn anew", check="neighbours")
class OrderingDrawnAnew(OrderAgnosticMADE):
    """Draws one ordering for each call, and reports its score: an estimate, which is called exact."""

    def log_prob(self, images: Tensor) -> Tensor:
        ordering = int(torch.randint(self.num_orderings, ()))
        return self.conditional_log_probs(images, ordering).flatten(1).sum(1)


@wrong("state outside of state_dict", check="checkpoint")
class OrderNotSaved(MADE):
    """Draws its order of entries at construction, and does not save it."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        self.order = torch.randperm(spec.num_dimensions).view(spec.shape)

    def generation_steps(self, ordering: int = 0) -> Tensor:
        return self.order
