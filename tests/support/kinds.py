"""The table of layer kinds walked through the rooms: ``python -m tests.support.kinds`` prints ``docs/kinds.md``.

A cell says what a room does with a kind, or in brackets why it does nothing; an empty one is a kind that somebody
forgot, and ``tests/test_kinds.py`` fails there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import groupby

from cnnlens.conversion.to_keras.call_site import BY_CLASS, BY_NAME
from cnnlens.conversion.to_keras.call_site import REFUSED as NOT_IN_KERAS
from cnnlens.conversion.to_torch import rules
from cnnlens.kinds import LAYERS, OPERATIONS, OPERATORS, Features, Kind, Rounding
from cnnlens.layout.tables import ROWS
from cnnlens.layout.traps import TRAPS
from cnnlens.reference.aten import TRANSLATORS
from cnnlens.reference.bare.table import OPERATIONS as COMPUTED
from cnnlens.reference.builder import REFUSED as NOT_COMPUTED
from cnnlens.reference.operation import operation_class

# Kinds of which a file holds something, and that are computed by what is in them or around them.
_ELSEWHERE = {
    "InputLayer": "it is given its array",
    "TimeDistributed": "the layer in it is computed step by step",
    "SpectralNormalization": "the layer in it is computed, whose stored kernel is normalised already",
    "StackedRNNCells": "the recurrent layer around it runs it",
    "TFOpLambda": "the operation in it is computed",
    "SlicingOpLambda": "the operation in it is computed",
    "TensorFlowOpLayer": "the operation in it is computed",
    "QuantizeAnnotate": "it marks the layer in it, which is read in its place",
    "ScaledMatmul": "addmm and its like, with factors",
    "BatchNorm": "batch_norm with arrays that the model computes",
}
# Weights without a line in the table of layouts, and why.
_UNLAID = {
    "LayerScale": "a vector lies alike everywhere",
    "CuDNNLSTM": "NVIDIA's own layout",
    "CuDNNGRU": "NVIDIA's own layout",
    "SpectralNormalization": "the kernel is the inner layer's",
    "STFTSpectrogram": "constants",
}
# Operators that are translated into what another one computes, and go its way.
_LIKE = {
    **dict.fromkeys(("convolution", "_convolution", "mkldnn_convolution", "cudnn_convolution"), "as conv2d"),
    **dict.fromkeys(("lstm", "gru", "rnn_tanh", "rnn_relu"), "as a layer for each level"),
    "addmm": "as linear",
    "instance_norm": "as group_norm",
    "positive": "left out",
}


def computed(row: Kind) -> str:
    """How the reference computes a kind, or in brackets why it does not."""
    if row.name in _ELSEWHERE:
        return f"({_ELSEWHERE[row.name]})"
    if row.name in NOT_COMPUTED:
        return f"({NOT_COMPUTED[row.name]})"
    found = operation_class(row.name)
    if found is not None:
        return found.__name__
    return "function" if row.name in COMPUTED else "by PyTorch's operator alone" if row.aten else ""


def in_torch(row: Kind) -> str:
    """How a kind of Keras' is written in PyTorch."""
    if row.name in rules.REFUSED:
        return f"({rules.REFUSED[row.name]})"
    if row.torch:
        return f"`{row.torch}`"
    if rules.is_known(row.name):
        return "rule"
    if row.name in _ELSEWHERE:
        return f"({_ELSEWHERE[row.name]})"
    if row.name in NOT_COMPUTED:
        return "(what is not computed cannot be proved)"
    return "" if row.layer or row.name in COMPUTED else "(no file of Keras' is read with it)"


def in_keras(operator: str) -> str:
    """How one of PyTorch's operators is written in Keras."""
    if operator in NOT_IN_KERAS:
        return f"({NOT_IN_KERAS[operator]})"
    row = OPERATORS[operator]
    found = operation_class(row.name)
    if operator in BY_NAME or (found is not None and any(issubclass(found, one) for one in BY_CLASS)):
        return "writer"
    if row.home and row.features in (Features.ALONE, Features.PLACED):
        return f"`keras.ops` {row.name}"
    return _LIKE.get(operator, "")


def laid_out(row: Kind) -> str:
    """The weights of a kind as the table of layouts has them in Keras."""
    if row.weights is None:
        return "(which there are depends on the configuration)"
    found = [
        f"{role} `{line.keras}`"
        for role in row.weights
        for line in ROWS
        if row.name in line.kinds and role in line.weights and not line.flat
    ]
    if row.weights and not found:
        return f"({_UNLAID[row.name]})" if row.name in _UNLAID else ""
    return ", ".join(dict.fromkeys(found)) or "none"


def traps(row: Kind) -> str:
    """How many traps the page of a kind's layout has."""
    if not row.weights or row.name in _UNLAID:
        return "none"
    if row.name in TRAPS:
        return str(len(TRAPS[row.name]))
    lines = [line for line in ROWS if row.name in line.kinds]
    alike = all({line.keras, line.torch, line.flax, line.onnx, line.tflite} == {line.canonical} for line in lines)
    return "(it lies alike everywhere)" if lines and alike else ""


def masks(row: Kind) -> str:
    """What a kind does with a mask on its input."""
    said = (("makes", row.name in ("Embedding", "Masking")), ("uses", row.takes_masks), ("passes", row.passes_masks))
    return ", ".join(word for word, holds in said if holds) or "none"


LAYER_ROOMS: Mapping[str, Callable[[Kind], str]] = {
    "masks": masks,
    "computed by": computed,
    "in PyTorch": in_torch,
    "weights": laid_out,
    "traps": traps,
}
OPERATION_ROOMS: Mapping[str, Callable[[Kind], str]] = {"computed by": computed, "in PyTorch": in_torch}


def cells() -> Iterator[tuple[str, str, str]]:
    """Every kind, room and what the room does with it."""
    for rows, rooms in ((LAYERS, LAYER_ROOMS), (OPERATIONS, OPERATION_ROOMS)):
        for row in rows:
            for room, look in rooms.items():
                yield row.name, room, look(row)
    for operator in OPERATORS:
        yield operator, "in Keras", in_keras(operator)
        yield operator, "computed by", "translator" if operator in TRANSLATORS else ""


_ROUNDING = {
    Rounding.NONE: "nothing",
    Rounding.ONCE: "once",
    Rounding.EACH: "each value",
    Rounding.PRODUCTS: "products",
    Rounding.SUMS: "sums",
    Rounding.OTHER: "otherwise",
}


def _line(*parts: str) -> str:
    return f"| {' | '.join(part.replace('|', '/') for part in parts)} |"


def _table(rows: tuple[Kind, ...], rooms: Mapping[str, Callable[[Kind], str]]) -> Iterator[str]:
    heads = ("kind", "rounds", "features", *rooms)
    yield _line(*heads)
    yield _line(*("---" for _ in heads))
    for row in rows:
        names = ", ".join((row.name, *(f"({name})" for name in row.older)))
        yield _line(names, _ROUNDING[row.rounding], row.features.name.lower(), *(look(row) for look in rooms.values()))


def page() -> str:
    """The whole of ``docs/kinds.md``."""
    lines = [
        "# Layer kinds", "",
        "Printed by `python -m tests.support.kinds` from `cnnlens/kinds` and from what each room has registered; in "
        "brackets why a room does nothing with a kind.", "",
        "**Rounds**: what a faithful float32 computation may round.", "",
        *(f"- {_ROUNDING[rounding]}: {rounding.value}" for rounding in Rounding), "",
        "**Features**: what becomes of those of a flattened map, whose order a Dense behind it depends on.", "",
        *(f"- {feature.name.lower()}: {feature.value}" for feature in Features), "",
        "**Masks** (of steps that do not count): whether a layer makes one, computes otherwise with one, and hands one "
        "on to the layers behind it; where it does not, the mask ends there.", "",
        "## Keras' layers", "", *_table(LAYERS, LAYER_ROOMS), "",
        "## Operations between layers", "", *_table(OPERATIONS, OPERATION_ROOMS), "",
        "## PyTorch's operators", "", _line("operator", "kind", "in Keras"), _line("---", "---", "---"),
    ]  # fmt: skip
    for row in (*LAYERS, *OPERATIONS):
        for said, operators in groupby(row.aten, in_keras):
            lines.append(_line(", ".join(operators), row.name, said))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")
