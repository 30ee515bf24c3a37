"""Find the line of the table that a weight falls under, and read its patterns.

Kinds have aliases, weights behind a Flatten have lines of their own, an EinsumDense has its line in its equation, and
how many spatial axes there are may stand in the kind's name, in the array or in the geometry: all of that is decided
here.
"""

from __future__ import annotations

import re
from itertools import product
from string import ascii_lowercase

from cnnlens.errors import CnnlensError
from cnnlens.layout.geometry import Geometry
from cnnlens.layout.patterns import SPATIAL, Pattern, parse
from cnnlens.layout.tables import ALIASES, APART, GATES, NORMAL_NAMES, ROWS, TFLITE_EINSUM, Absent, Row

__all__ = [
    "CANONICAL", "KINDS", "NDIM", "gates_as_called", "gates_of", "look_up", "pattern_of", "resolve_kind", "roles_in",
]  # fmt: skip

CANONICAL = "canonical"

KINDS: tuple[str, ...] = tuple(dict.fromkeys(kind for row in ROWS for kind in row.kinds))
"""The kinds of layer that have a line in the table, by their Keras class names."""

# NumPy arrays have at most 64 axes; none of these means anything in a pattern.
_BY_POSITION = ascii_lowercase + "".join(chr(number) for number in range(0x3B1, 0x3B1 + 38))

NDIM = re.compile(r"([123])D(?:Transpose|Cell)?$")
"""The number of spatial axes in a kind's name."""

_ATTENTION_CHILD = {
    "query_dense": "query", "key_dense": "key", "value_dense": "value", "gate_dense": "gate",
    "output_dense": "attention_output",
}  # fmt: skip


def resolve_kind(kind: str) -> str:
    """Find the Keras 3 class name for ``kind``, which may be an older name of it or a recurrent cell's.

    >>> import cnnlens
    >>> cnnlens.layout.resolve_kind("Convolution2D")
    'Conv2D'
    """
    return ALIASES.get(kind, kind)


def roles_in(framework: str, kind: str) -> dict[str, str]:
    """Give the role of each array of a kind of layer by what ``framework`` calls it.

    >>> import cnnlens
    >>> cnnlens.layout.roles_in("torch", "LayerNormalization")
    {'weight': 'gamma', 'bias': 'beta'}
    """
    return {
        name: weight
        for row in ROWS
        if kind in row.kinds and isinstance(row.stored(framework), str)
        for weight in row.weights
        if (name := row.names.get(framework) or NORMAL_NAMES.get(weight, {}).get(framework))
    }


def gates_of(kind: str, weight: str, geometry: Geometry) -> list[str]:
    """Name the gates of a recurrent layer's array in the order in which the canonical axis Q has them; none without.

    >>> import cnnlens
    >>> cnnlens.layout.gates_of("LSTM", "recurrent_kernel", cnnlens.layout.Geometry())
    ['input', 'forget', 'cell', 'output']
    """
    row, _ = look_up(kind, weight, geometry, CANONICAL, None)
    return [GATES[letter] for letter in row.gates.get(CANONICAL, "")]


def gates_as_called(framework: str, order: str) -> str:
    """Spell an order of gates as the framework's own documentation does: the candidate is c or h in Keras and ONNX.

    >>> gates_as_called("keras", "ifgo"), gates_as_called("torch", "ifgo")
    ('ifco', 'ifgo')
    """
    return order.replace("g", "c").replace("n", "h") if framework in ("keras", "onnx") else order


def _normal_weight(kind: str, weight: str) -> str:
    """The weight's name as the table has it: attention children by role, Keras 2's depthwise_kernel as Keras 3's."""
    first, _, rest = weight.partition("/")
    if kind in ("MultiHeadAttention", "GroupQueryAttention") and rest:
        return f"{_ATTENTION_CHILD.get(first, first)}/{rest}"
    return "kernel" if kind.startswith("DepthwiseConv") and weight == "depthwise_kernel" else weight


def _einsum_row(equation: str) -> Row | None:
    """The table line that an EinsumDense equation amounts to, or None where it does not read as one.

    Letters that input and kernel share and that the output lacks are summed over: the inputs. A letter of all three
    makes a batch of matrices, which no Linear holds.
    """
    match = re.fullmatch(
        r"(\.{3})?([A-Za-z]+)(?:\.{3})?,([A-Za-z]+)->(\.{3})?([A-Za-z]+)(?:\.{3})?", equation.replace(" ", "")
    )
    if match is None:
        return None
    inputs, kernel, outputs = match[2], match[3], match[5]
    if len(set(kernel)) != len(kernel):
        return None
    ins = "".join(letter for letter in kernel if letter in inputs and letter not in outputs)
    outs = "".join(letter for letter in outputs if letter in kernel and letter not in inputs)
    batch = "".join(letter for letter in kernel if letter in inputs and letter in outputs)
    if len(ins) + len(outs) + len(batch) != len(kernel) or not ins or not outs:
        return None
    matrix = f"{batch}({outs})({ins})"
    no_linear = Absent("no Linear for an equation that keeps a shared axis; it is a batched matrix product")
    return Row(
        ("EinsumDense",),
        ("kernel",),
        matrix,
        kernel,
        no_linear if batch else matrix,
        kernel,
        f"{batch}({ins})({outs})",
        TFLITE_EINSUM if batch or len(kernel) > 2 else matrix,
        {"torch": "weight", "flax": "kernel", "onnx": "B of MatMul"},
        ((kernel, "kernel_shape"),),
    )


def _plain(rank: int) -> Row:
    """A line for weights that no table knows: the axes keep their order, named by position."""
    letters = _BY_POSITION[:rank]
    return Row((), (), letters, letters, letters, letters, letters, letters)


def _spatial(row: Row, kind: str, geometry: Geometry, framework: str, rank: int | None) -> str:
    """The spatial letters of this line: from the flattened map, the kind's name, the array's axes, or the geometry."""
    if row.flat and geometry.flatten is not None:
        return SPATIAL.get(len(geometry.flatten) - 1, "DHW")
    named = NDIM.search(kind)
    if named:
        return SPATIAL[int(named[1])]
    stored = row.stored(framework)
    if isinstance(stored, str) and "*" in re.sub(r"\(.*?\)", "", stored) and rank is not None:
        return SPATIAL.get(rank - len(parse(stored).axes), "")
    return SPATIAL.get(geometry.ndim if geometry.ndim is not None else 2, "")


def pattern_of(row: Row, framework: str, spatial: str, groups: int = 0) -> Pattern:
    stored = row.stored(framework)
    if isinstance(stored, Absent):
        raise CnnlensError(f"{framework} has {stored.reason}")
    order = row.gates.get(framework, "")
    pattern = parse(stored, spatial, ("Q", order) if order else ("", ""), row.fill.get(framework))
    return pattern.without("G") if groups <= 1 else pattern


_LINES: dict[tuple[str, str], list[Row]] = {}
for _row in (*ROWS, *APART):
    for _names in product(_row.kinds, _row.weights):
        _LINES.setdefault(_names, []).append(_row)


def look_up(kind: str, weight: str, geometry: Geometry, framework: str, rank: int | None) -> tuple[Row, str]:
    """Find the line of the table for a weight, and its spatial letters."""
    kind = resolve_kind(kind)
    weight = _normal_weight(kind, weight)
    found = _LINES.get((kind, weight), [])
    flat = [row for row in found if row.flat and geometry.flatten is not None]
    found = flat or [row for row in found if not row.flat]
    if kind == "EinsumDense" and weight == "kernel":
        read = _einsum_row(geometry.equation) if geometry.equation else None
        found = [read] if read else found if rank in (2, None) else []
    if geometry.reset_after is not None:
        found = [row for row in found if row.reset_after in (None, geometry.reset_after)]
    elif rank == 1 and len(found) > 1:
        found = [row for row in found if row.reset_after is False]
    known_bias = weight == "bias" and (rank not in (1, None)) and kind == "EinsumDense"
    row = found[0] if found and not known_bias else _plain(1 if rank is None else rank)
    return row, _spatial(row, kind, geometry, framework, rank)
