"""What kind of layer a state dict's arrays belong to, where nothing but their names and axes says it.

A state dict holds no classes and no graph. Most kinds are told by what their arrays are called and by how many axes
they have; the rest by the arrays of the layer in front and behind. What is only likely is said to be so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from cnnlens.kinds import CELLS, LAYERS
from cnnlens.layout import Geometry, roles_in

__all__ = ["GRU_BIASES", "Guess", "Neighbours", "Shapes", "guess_kind"]

Shapes = Mapping[str, tuple[int, ...]]
Role = tuple[str, str]

_NORMED = roles_in("torch", "BatchNormalization")
GRU_BIASES = {"ih": "input_bias", "hh": "recurrent_bias"}
"""The roles of the two biases that PyTorch has of a GRU, by what stands in their names."""

_GATED = re.compile(r"(weight|bias)_(ih|hh|hr)(?:_l\d+(?:_reverse)?)?$")
_RECURRENT = {row.gates: row for row in CELLS.values() if row.modules}

_TRANSPOSED = re.compile(r"deconv|transpos|up_?conv|convt|conv_t|(^|[._])up(_?\d*|s|samplers?|blocks?)([._]|$)")
_EMBEDDING = re.compile(r"emb|token|vocab|(^|[._])(wte|wpe|lookup)([._]|$)")
_ACTIVATION = re.compile(r"relu|(^|[._])act")
_NORM = re.compile(r"norm|(^|[._])(ln|gn|bn|in|rms)_?\d*([._]|$)")
_NORMS = (
    (re.compile(r"group_?norm|(^|[._])gn_?\d*([._]|$)"), "GroupNorm"),
    (re.compile(r"instance_?norm|(^|[._])in_?\d*([._]|$)"), "InstanceNorm"),
    (re.compile(r"layer_?norm|(^|[._])ln_?(\d*|[a-z])([._]|$)"), "LayerNorm"),
    (re.compile(r"batch_?norm|(^|[._])bn_?\d*([._]|$)"), "BatchNorm"),
)


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Holds what the arrays in front and behind say.

    Attributes:
        channels: Output channels of the last layer in front that has some; 0 where there is none.
        spatial: Spatial axes of the last convolution in front, 0 after a Linear; None where there is neither.
        normed: Channels that a normalisation directly behind has; 0 where there is none.
        transposed: Whether the last convolution in front is a transposed one.
    """

    channels: int = 0
    spatial: int | None = None
    normed: int = 0
    transposed: bool = False


@dataclass(frozen=True, slots=True)
class Guess:
    """Holds the likely class of a layer.

    Attributes:
        kind: torch's class name, ``norm`` for one of several, ``unknown``.
        roles: Weight name to the layout table's kind and role, for those it knows.
        geometry: What the arrays say of it.
        doubt: What else it may be ("an Embedding"); empty where nothing else fits.
        channels: Its output channels; 0 where it has none of its own.
        spatial: Its spatial axes where it is a convolution, 0 for a Linear.
    """

    kind: str
    roles: Mapping[str, Role] = field(default_factory=dict[str, Role])
    geometry: Geometry = Geometry()  # noqa: RUF009  (frozen)
    doubt: str = ""
    channels: int = 0
    spatial: int | None = None


def guess_kind(name: str, shapes: Shapes, near: Neighbours) -> Guess:
    """Guess the class of the layer ``name`` with arrays of these ``shapes``."""
    name = name.lower()
    if "running_mean" in shapes and "running_var" in shapes:
        return _batch_norm(name, shapes, near)
    if any(_GATED.match(each) for each in shapes):
        return _recurrent(shapes)
    if "in_proj_weight" in shapes or {"q_proj_weight", "k_proj_weight", "v_proj_weight"} <= shapes.keys():
        return Guess("MultiheadAttention")
    for direction in (
        "weight_v",
        "parametrizations.weight.original1",
        "weight_orig",
        "parametrizations.weight.original",
    ):
        if direction in shapes and "weight" not in shapes:
            # Weight and spectral normalisation keep what the kernel is computed from; no stored array is the kernel.
            known = {"weight": shapes[direction], **({"bias": shapes["bias"]} if "bias" in shapes else {})}
            guess = guess_kind(name, known, near)
            return replace(guess, roles={each: role for each, role in guess.roles.items() if each != "weight"})
    weight = shapes.get("weight")
    if weight is None or not weight:
        return Guess("unknown")
    bias = shapes.get("bias")
    if bias is not None and bias == weight:
        return _norm(name, weight)
    if len(weight) == 1:
        return _vector(name, weight[0], near) if bias is None else Guess("unknown")
    if bias is not None and len(bias) != 1:
        return Guess("unknown")
    if len(weight) == 2:
        return _matrix(name, weight, bias)
    return _convolution(name, weight, bias, near) if len(weight) <= 5 else Guess("unknown")


def _batch_norm(name: str, shapes: Shapes, near: Neighbours) -> Guess:
    roles = {each: ("BatchNormalization", role) for each, role in _NORMED.items() if each in shapes}
    channels = shapes["running_mean"][0] if shapes["running_mean"] else 0
    if near.spatial is None:
        return Guess("BatchNorm", roles, channels=channels)
    return Guess(f"BatchNorm{near.spatial or 1}d", roles, channels=channels)


def _norm(name: str, weight: tuple[int, ...]) -> Guess:
    """A scale and a shift of one shape, and no statistics."""
    kind = "LayerNorm" if len(weight) > 1 else next((kind for word, kind in _NORMS if word.search(name)), "norm")
    row = next((row.name for row in LAYERS if {kind, f"{kind}2d"} & set(row.modules)), "GroupNormalization")
    doubt = "a LayerNorm, a GroupNorm or an InstanceNorm" if kind == "norm" else ""
    return Guess(kind, {"weight": (row, "gamma"), "bias": (row, "beta")}, doubt=doubt, channels=next(iter(weight), 0))


def _vector(name: str, length: int, near: Neighbours) -> Guess:
    """A ``weight`` of one axis that stands alone."""
    prelu = Guess("PReLU", {"weight": ("PReLU", "alpha")}, Geometry(ndim=2 if near.spatial is None else near.spatial))
    if length == 1 or _ACTIVATION.search(name):
        return prelu
    if _NORM.search(name):
        return Guess("RMSNorm", {"weight": ("RMSNormalization", "scale")}, doubt="a LayerNorm without bias")
    return replace(prelu, doubt="an RMSNorm")


def _matrix(name: str, weight: tuple[int, ...], bias: tuple[int, ...] | None) -> Guess:
    if bias not in (None, weight[:1]):
        return Guess("unknown")
    if bias is None and _EMBEDDING.search(name):
        return Guess("Embedding", {"weight": ("Embedding", "embeddings")})
    roles = {"weight": ("Dense", "kernel"), **({} if bias is None else {"bias": ("Dense", "bias")})}
    return Guess("Linear", roles, doubt="an Embedding" if bias is None else "", channels=weight[0], spatial=0)


def _convolution(name: str, weight: tuple[int, ...], bias: tuple[int, ...] | None, near: Neighbours) -> Guess:
    """A kernel ``(out, in / groups, *spatial)``, or ``(in, out / groups, *spatial)`` of a transposed convolution.

    Which of the two is said by the bias, which has an entry for each output; without one, by the layers in front and
    behind, whose channels are its inputs and outputs; and where first and second axis are of one size, by the name.
    """
    first, second, spatial = weight[0], weight[1], len(weight) - 2
    named = _TRANSPOSED.search(name) is not None
    outputs = bias[0] if bias is not None else 0
    if bias is None or first == second == outputs:
        forward = (near.channels == second) + (near.normed == first)
        backward = (near.channels == first) + (near.normed == second)
        # One of the two says little where layers run side by side: the channels behind may be another branch's.
        hinted = named or near.transposed or not near.channels
        transposed = named if forward == backward else backward == 2 or (backward > forward and hinted)
        certain = forward != backward and transposed == (backward == 2) and not (named and not transposed)
    elif outputs == first:
        transposed = certain = named and near.channels == first and second > 0 and outputs % second == 0
        certain = certain or not named
    elif second and outputs % second == 0:
        transposed = certain = True
    else:
        return Guess("unknown")
    doubt = "" if certain else "a convolution" if transposed else "a transposed one"
    if transposed:
        groups = outputs // second if outputs else 1
        row, channels = f"Conv{spatial}DTranspose", outputs or second
        if first % groups:
            return Guess("unknown")
    else:
        # One input channel a kernel behind many channels: a depthwise convolution.
        depthwise = second == 1 and near.channels > 1 and first % near.channels == 0
        groups = near.channels if depthwise else 1
        row, channels = f"Conv{spatial}D", first
    roles = {"weight": (row, "kernel"), **({} if bias is None else {"bias": (row, "bias")})}
    kind = f"ConvTranspose{spatial}d" if transposed else f"Conv{spatial}d"
    return Guess(kind, roles, Geometry(groups=groups), doubt, channels, spatial)


def _recurrent(shapes: Shapes) -> Guess:
    """An LSTM, a GRU or an RNN, by how many gates stand above each other in the recurrent matrix."""
    recurrent = next((name for name in shapes if name.startswith("weight_hh")), None)
    if recurrent is None or len(shapes[recurrent]) != 2 or not shapes[recurrent][1]:
        return Guess("unknown")
    rows, units = shapes[recurrent]
    projection = shapes.get(recurrent.replace("_hh", "_hr"))
    if projection is not None and len(projection) == 2:
        units = projection[1]
    row = _RECURRENT.get(rows // units if units else 0)
    if row is None:
        return Guess("unknown")
    roles: dict[str, Role] = {}
    for name in shapes:
        match = _GATED.match(name)
        if match is None or match[2] == "hr":
            continue
        if match[1] == "weight":
            roles[name] = (row.name, "kernel" if match[2] == "ih" else "recurrent_kernel")
        else:
            roles[name] = (row.name, GRU_BIASES[match[2]] if row.name == "GRU" else "bias")
    return Guess(row.modules[0] + ("" if "_l" in recurrent else "Cell"), roles)
