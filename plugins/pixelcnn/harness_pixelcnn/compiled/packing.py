"""The weights of a gated stack as the kernel reads them: padded to vectors, in panels of two vectors."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from itertools import pairwise
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from harness import ImageSpec
from harness_layers.gated_stack import GatedLayer, GatedStack
from harness_layers.pixels import num_outputs, scale

_FLOATS = ctypes.c_void_p


class LayerStruct(ctypes.Structure):
    """``Layer`` of gated.cpp."""

    _fields_ = (
        *[(name, ctypes.c_int64) for name in ("inputs", "rows", "reach", "left", "taps")],
        *[
            (name, _FLOATS)
            for name in (
                "vertical", "vertical_bias", "link", "link_bias", "horizontal", "output", "output_bias"
            )
        ],
    )  # fmt: skip


class NetworkStruct(ctypes.Structure):
    """``Network`` of gated.cpp."""

    _fields_ = (
        *[
            (name, ctypes.c_int64)
            for name in ("depth", "channels", "height", "width", "levels", "features", "between", "outputs")
        ],
        *[
            (name, _FLOATS)
            for name in (
                "feature_ends", "between_ends", "layers", "hidden", "hidden_bias", "last", "last_bias", "scaled"
            )
        ],
    )  # fmt: skip


class Packed:
    """A network for the kernel, with the memory that it points to.

    Args:
        network: the stack, float32 on a processor.
        spec: the sample space.
        panel: the width of a panel in floats, two vectors.
        given: whether images have labels, for the class conditional biases.
    """

    def __init__(self, network: GatedStack, spec: ImageSpec, panel: int, *, given: bool) -> None:
        self.panel, self._kept = panel, list[Tensor | ctypes.Array[LayerStruct]]()
        layers, channels = network.layers, spec.channels
        self.features, feature_ends, places = self._padded(layers[0].output.out_groups, channels)
        self.between, between_ends, middles = self._padded(network.hidden.out_groups, channels)
        # the tanh half of a panel of gates, and its sigmoid half
        vector = panel // 2
        first_half = places // vector * panel + places % vector
        self.gates = torch.cat([first_half, first_half + vector])
        self.places = places
        bias = network.output.bias
        assert bias is not None
        outputs = _up_to(channels * num_outputs(spec), panel)
        classes = network.classes.detach() if network.classes is not None and given else None
        structs = (LayerStruct * len(layers))(
            *[
                self._layer(layer, None if classes is None else classes[:, depth], last=depth == len(layers) - 1)
                for depth, layer in enumerate(layers)
            ]
        )
        self._kept.append(structs)
        hidden_bias = network.hidden.bias
        assert hidden_bias is not None
        image = torch.arange(256, dtype=torch.uint8).view(-1, 1, 1, 1)
        self.struct = NetworkStruct(
            depth=len(layers), channels=channels, height=spec.height, width=spec.width, levels=spec.levels,
            features=self.features, between=self.between, outputs=outputs,
            feature_ends=self._keep(feature_ends), between_ends=self._keep(between_ends),
            layers=ctypes.addressof(structs),
            hidden=self._matrix(network.hidden.masked_weight(), places, self.features, middles, self.between),
            hidden_bias=self._bias(hidden_bias, middles, self.between),
            last=self._matrix(
                network.output.masked_weight(), middles, self.between, torch.arange(len(bias)), outputs
            ),
            last_bias=self._bias(bias, torch.arange(len(bias)), outputs),
            scaled=self._keep(scale(image, spec.levels, torch.float32).flatten()),
        )  # fmt: skip

    def _keep(self, tensor: Tensor) -> int:
        self._kept.append(tensor.detach().contiguous())
        return int(self._kept[-1].data_ptr())  # type: ignore[union-attr]

    def _padded(self, groups: Tensor, channels: int) -> tuple[int, Tensor, Tensor]:
        """Returns how many features there are with the padding, where groups end, and the place of each feature."""
        counts = torch.bincount(groups, minlength=channels).tolist()
        ends = [0]
        for count in counts:
            ends.append(ends[-1] + _up_to(count, self.panel // 2))
        ends[-1] = _up_to(ends[-1], self.panel)
        places = [start + i for (start, _), count in zip(pairwise(ends), counts, strict=True) for i in range(count)]
        return ends[-1], torch.tensor(ends[1:]), torch.tensor(places)

    def _matrix(self, kernel: Tensor, inputs: Tensor, size: int, outputs: Tensor, total: int) -> int:
        """Packs (out, in, rows, columns) into (panels, rows * columns * size, panel)."""
        kernel = kernel.detach().permute(2, 3, 1, 0)
        full = kernel.new_zeros(*kernel.shape[:2], size, total)
        full[:, :, inputs[:, None], outputs] = kernel
        return self._keep(full.view(-1, total // self.panel, self.panel).transpose(0, 1))

    def _bias(self, bias: Tensor, outputs: Tensor, total: int) -> int:
        full = bias.new_zeros(*bias.shape[:-1], total)
        full[..., outputs] = bias.detach()
        return self._keep(full)

    def _layer(self, layer: GatedLayer, classes: Tensor | None, *, last: bool) -> LayerStruct:
        places, size, pair, gates = self.places, self.features, 2 * self.features, self.gates
        channels = layer.vertical.weight.shape[1]
        inputs = torch.arange(channels) if layer.first else places
        num_inputs = channels if layer.first else size
        vertical, bias = layer.vertical.weight.detach(), layer.vertical.bias.detach()
        link, link_bias, output_bias = layer.link.weight[..., 0, 0].detach(), layer.link.bias, layer.output.bias
        assert link_bias is not None
        assert output_bias is not None
        if classes is not None:
            bias = bias + classes  # (classes, 2P)
        if last:  # nothing else reads its vertical features: one kernel for both
            exact = link.double()
            vertical = (exact @ vertical.double().flatten(1)).view_as(vertical).float()
            bias = (bias.double() @ exact.T + link_bias.double()).float()
        horizontal = layer.horizontal.masked_weight()
        return LayerStruct(
            inputs=num_inputs, rows=layer.vertical.rows, reach=layer.vertical.reach, left=layer.horizontal.reach,
            taps=horizontal.shape[3],
            vertical=self._matrix(vertical, inputs, num_inputs, gates, pair),
            vertical_bias=self._bias(bias, gates, pair),
            link=self._matrix(link[..., None, None], gates, pair, gates, pair),
            link_bias=self._bias(link_bias, gates, pair),
            horizontal=self._matrix(horizontal, inputs, num_inputs, gates, pair),
            output=self._matrix(layer.output.masked_weight(), places, size, places, size),
            output_bias=self._bias(output_bias, places, size),
        )  # fmt: skip


_PACKED: WeakKeyDictionary[GatedStack, tuple[list[Tensor], tuple[object, ...], Packed]] = WeakKeyDictionary()


@torch.no_grad()
def packed_for(network: GatedStack, spec: ImageSpec, panel: int, *, given: bool) -> Packed:
    """Returns the network for the kernel; what was packed before is kept for as long as the weights are equal to it."""
    kept, wanted = _PACKED.get(network), (spec, panel, given)
    weights = [parameter.detach() for parameter in network.parameters()]
    if kept is not None and kept[1] == wanted and all(map(torch.equal, kept[0], weights)):
        return kept[2]
    packed = Packed(network, spec, panel, given=given)
    _PACKED[network] = ([weight.clone() for weight in weights], wanted, packed)
    return packed


def _up_to(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple


def pointer(tensor: Tensor | None) -> int | None:
    """Returns where a tensor's memory begins; None is null."""
    return None if tensor is None else tensor.data_ptr()


def checked(names: Sequence[tuple[str, Tensor]]) -> str | None:
    """Returns why the kernel cannot read these tensors, or None."""
    for name, tensor in names:
        if tensor.device.type != "cpu":
            return f"{name} on {tensor.device}, where the kernel needs a processor"
        if tensor.dtype != torch.float32:
            return f"{name} in {tensor.dtype}, where the kernel computes in torch.float32"
    return None
