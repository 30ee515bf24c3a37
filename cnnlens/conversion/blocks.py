"""A network as the row of its weighted parts, and how they feed each other: what two models of one architecture share.

Frameworks differ in names, in the order of branches and in everything that has no weights (padding, flattening,
permutes). What stays is which weighted part feeds which, and the canonical shapes. Each part is coloured by all that
leads to it and by all that it leads to; parts of the same colour in two models are the same part, or stand in
branches that are alike.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlens.layout import KINDS, resolve_kind
from cnnlens.network.graph import Call, Layer, Ref
from cnnlens.network.network import Network
from cnnlens.network.weight import Weight
from cnnlens.text import printable

__all__ = ["Block", "Signature", "blocks_of", "colours"]

Signature = tuple[str, tuple[int, ...]]
"""What a part is whatever framework it is of: a family and the canonical shape that tells its members apart."""

_CONVS = re.compile(r"(Depthwise|Separable)?Conv[123]D$")
_TRANSPOSED = re.compile(r"Conv[123]DTranspose$")
_FAMILIES = {
    "BatchNormalization": "batch norm", "LayerNormalization": "norm", "GroupNormalization": "norm",
    "RMSNormalization": "norm", "Embedding": "embedding", "PReLU": "slopes", "Normalization": "statistics",
}  # fmt: skip
# Roles of one meaning, by the name that they have here.
_ROLES = {"depthwise_kernel": "kernel", "pointwise_kernel": "kernel", "embeddings": "kernel", "scale": "gamma"}
_RECURRENT_BIAS = re.compile(r"(?:^|\.|/)(bias_[ih]h)(_l\d+(?:_reverse)?)?$")
# Arrays of one level and direction of a recurrent layer, as PyTorch and as Keras' Bidirectional name them.
_LEVEL = re.compile(r"(?:^|\.|/)(?:weight|bias)_(?:ih|hh)_l(\d+)(_reverse)?$")
_DIRECTION = re.compile(r"(?:^|/)(forward|backward)_layer/")
# Merges in which it matters which operand comes first.
_ORDERED = ("cat", "concat", "concatenate", "stack", "Concatenate", "Stack")


@dataclass(frozen=True, eq=False)
class Block:
    """Names a weighted part: a layer, or one half of a separable convolution.

    Attributes:
        layer: The layer; ``part``: which half of it, or which level and direction of a recurrent one, empty for a whole
            one.
        weights: Its floating-point arrays by role: ``kernel``, ``bias``, ``gamma`` …
        signature: What it is, so that its twin in another framework has the same.
        others: What else it may be, where the file does not say and its kind is a guess.
    """

    layer: Layer
    part: str
    weights: Mapping[str, Weight]
    signature: Signature
    others: tuple[Signature, ...] = ()

    @property
    def name(self) -> str:
        """Give the layer's name, with the half that is meant."""
        return f"{self.layer.name} ({self.part})" if self.part else self.layer.name

    @property
    def shown(self) -> str:
        family, shape = self.signature
        return f"'{printable(self.layer.name)}' ({printable(self.layer.kind or family)} {shape})"

    @cached_property
    def values(self) -> str:
        """Fingerprint the largest array's numbers so that no order of axes changes it."""
        largest = max(self.weights.values(), key=lambda weight: int(np.prod(weight.stored.shape)))
        numbers: NDArray[Any] = np.sort(np.asarray(largest.read(), np.float32).reshape(-1))
        return hashlib.sha256(numbers.tobytes()).hexdigest()


def blocks_of(network: Network) -> list[Block]:
    """List the weighted parts of a network, in the order in which its graph, else its file, has them."""
    found: list[Block] = []
    for layer in network.layers_of_calls if network.calls else network.layers:
        found += _blocks(layer, guessed=not network.calls)
    return found


def _blocks(layer: Layer, *, guessed: bool) -> Iterator[Block]:
    floating = {
        name: weight for name, weight in layer.stored.items() if np.issubdtype(weight.stored.dtype, np.floating)
    }
    if "depthwise_kernel" in floating and "pointwise_kernel" in floating:
        first = {"kernel": floating["depthwise_kernel"]}
        second = {_ROLES.get(name, name): weight for name, weight in floating.items() if name != "depthwise_kernel"}
        yield Block(layer, "depthwise", first, _signature(layer, first))
        yield Block(layer, "pointwise", second, _signature(layer, second))
        return
    cells: dict[tuple[int, bool], dict[str, Weight]] = {}
    for name, weight in floating.items():
        if not _stands_alone(name, weight):
            cells.setdefault(_cell(name), {})[_role(name, weight)] = weight
    for (level, backwards), known in sorted(cells.items()):
        if len(cells) > 1:  # of a recurrent layer: one is another's input, as if they were layers one after the other
            family, shape = _signature(layer, known)
            way = f"{'backward' if backwards else 'forward'}"
            yield Block(layer, f"{way} {level}", known, (f"{family} {way}" if backwards else family, shape))
            continue
        signature = _signature(layer, known)
        # A depthwise convolution of one tap, and any vector that multiplies, is a factor a channel.
        weights = {"factor": known["kernel"]} if signature[0] == "factor" else known
        yield Block(layer, "", weights, signature, _others(weights) if guessed else ())
    for name, weight in floating.items():
        if _stands_alone(name, weight):
            shape = _without_ones(weight.stored.shape)
            role, signature = ("factor", ("factor", shape)) if len(shape) == 1 else (name, ("array", shape))
            yield Block(layer, name, {role: weight}, signature)


def _stands_alone(name: str, weight: Weight) -> bool:
    """Whether an array is of no kind that the table knows: a parameter beside tensors, not a part of a layer."""
    if weight.kind == "LayerScale":
        return True
    return resolve_kind(weight.kind) not in KINDS and not _RECURRENT_BIAS.search(name) and not _LEVEL.search(name)


def _cell(name: str) -> tuple[int, bool]:
    """The level and the direction of a recurrent layer that an array belongs to; the first, forwards, for any other."""
    level, direction = _LEVEL.search(name), _DIRECTION.search(name)
    if level is not None:
        return int(level[1]), level[2] is not None
    return 0, direction is not None and direction[1] == "backward"


def _role(name: str, weight: Weight) -> str:
    recurrent = _RECURRENT_BIAS.search(name)
    if recurrent:
        return recurrent[1]
    return _ROLES.get(weight.role, weight.role) if weight.kind else name


def _signature(layer: Layer, weights: Mapping[str, Weight]) -> Signature:
    main = weights.get("kernel") or weights.get("gamma") or next(iter(weights.values()))
    kind = resolve_kind(main.kind)
    shape = main.canonical_shape
    if _CONVS.match(kind) and len(weights) == 1 and len(shape) > 2 and set(shape[1:]) == {1}:
        return "factor", shape[:1]
    if _CONVS.match(kind) or kind in ("Dense", "EinsumDense"):
        # A convolution of one tap is a dense layer at every position.
        return "product", shape[:2] if all(size == 1 for size in shape[2:]) else shape
    if _TRANSPOSED.match(kind):
        return "transposed", shape
    family = _FAMILIES.get(kind, kind if kind in KINDS else "")
    if family in ("norm", "batch norm", "slopes"):
        return family, _without_ones(shape)
    return family or "array", shape


def _others(weights: Mapping[str, Weight]) -> tuple[Signature, ...]:
    """What a part of a file without a graph may be as well: kinds that have arrays of the same shapes."""
    main = weights.get("kernel") or weights.get("gamma") or next(iter(weights.values()))
    stored = main.stored.shape
    if main.framework != "torch":
        return ()
    if len(stored) > 2:
        turned = (stored[1], stored[0], *stored[2:])
        plain = stored[:2] if all(size == 1 for size in stored[2:]) else stored
        return (("product", plain), ("transposed", turned))
    if len(stored) == 2:
        return (("product", stored), ("embedding", stored), ("norm", stored))
    return (("norm", _without_ones(stored)), ("slopes", _without_ones(stored)))


def _without_ones(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1) or (1,)


# -- colours ---------------------------------------------------------------------------------------------------------


def _mixed(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:24]


def colours(network: Network, blocks: Sequence[Block], marks: Mapping[Block, str]) -> dict[Block, str]:
    """Colour each block of a network with a graph, alike for parts that stand alike in both directions.

    Args:
        marks: Colours that some blocks have on top of that, because they were paired already.
    """
    of_layer: dict[str, list[Block]] = {}
    for block in blocks:
        of_layer.setdefault(block.layer.name, []).append(block)
    base = {block: _mixed(block.signature, marks.get(block, "")) for block in blocks}
    forward = _forward(network, of_layer, base)
    backward = _backward(network, of_layer, base)
    return {block: _mixed(base[block], sorted(forward[block]), sorted(backward[block])) for block in blocks}


def _forward(
    network: Network, of_layer: Mapping[str, list[Block]], base: Mapping[Block, str]
) -> dict[Block, list[str]]:
    """For each call of each block, a colour of all that leads to it."""
    found: dict[Block, list[str]] = {block: [] for block in base}
    # A tensor's colour is a row, one entry a piece that was put behind another: concatenations nest in any way.
    rows: dict[Ref, tuple[str, ...]] = {ref: (f"input {place}",) for place, ref in enumerate(network.inputs)}
    for call in network.calls:
        if Ref(call.name) in rows:
            continue
        inputs = [rows.get(ref, ("?",)) for ref in call.refs]
        row = _merged(call, inputs)
        for block in of_layer.get(call.layer.name, ()):
            colour = _mixed(base[block], row)
            found[block].append(colour)
            row = (colour,)
        for index in range(max(len(call.shapes), 1)):
            rows[Ref(call.name, index)] = row if not index else (_mixed(row, index),)
    return found


def _merged(call: Call, inputs: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    inputs = [row for row in inputs if row != ("constant",)]  # a recurrent layer's first states
    if not inputs:
        return ("constant",)
    if len(inputs) == 1:
        return inputs[0]
    if call.layer.kind in _ORDERED:
        return tuple(part for row in inputs for part in row)
    distinct = sorted(set(inputs))
    return distinct[0] if len(distinct) == 1 else (_mixed("merged", sorted(inputs)),)


def _backward(
    network: Network, of_layer: Mapping[str, list[Block]], base: Mapping[Block, str]
) -> dict[Block, list[str]]:
    """For each call of each block, a colour of all that it leads to."""
    found: dict[Block, list[str]] = {block: [] for block in base}
    uses: dict[str, list[str]] = {}
    for place, ref in enumerate(network.outputs):
        uses.setdefault(ref.call, []).append(f"output {place}")
    for call in reversed(network.calls):
        colour = _mixed(sorted(set(uses.get(call.name, []))))
        for block in reversed(of_layer.get(call.layer.name, [])):
            colour = _mixed(base[block], colour)
            found[block].append(colour)
        # Weightless calls hand on what they lead to, so that one more or one less of them changes nothing.
        behind = [colour] if call.layer.name in of_layer else sorted(set(uses.get(call.name, [])))
        for ref in call.refs:
            uses.setdefault(ref.call, []).extend(behind)
    return found
