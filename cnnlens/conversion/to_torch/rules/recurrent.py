"""Recurrent layers as PyTorch's own, where those compute the same: LSTM, GRU, SimpleRNN, and Bidirectional of them.

Keras has one bias for an LSTM where PyTorch has two (the second is zero here), other orders of gates (the layout table
has them), and gives backward sequences in the order in which they were made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from cnnlens.conversion.to_torch.call_site import CallSite, Results, rule
from cnnlens.conversion.to_torch.value import Value
from cnnlens.conversion.to_torch.weights import Entry, LayerWeights, filled
from cnnlens.kinds import CELLS
from cnnlens.network.graph import Shape
from cnnlens.reference.keras.recurrent import Bidirectional, Recurrent
from cnnlens.text import printable

__all__: list[str] = []


def _module(site: CallSite, operation: Recurrent, inputs: int) -> tuple[str, str, str]:
    """Keras' kind of the cell, PyTorch's class, and its settings behind the sizes.

    Raises:
        UnsupportedLayerError: PyTorch has no such cell.
    """
    cell = operation.cell
    row = CELLS.get(cell.kind)
    if row is None or not row.modules:
        raise site.refuse(f"PyTorch has no recurrent layer of the kind {printable(cell.kind)}")
    kind, module = row.name, row.modules[0]
    inner = "linear" if cell.activation is None else cell.activation.name
    gates = "linear" if cell.recurrent is None else cell.recurrent.name
    settings = ""
    if kind == "SimpleRNN":
        if inner not in ("tanh", "relu"):
            raise site.refuse(f"nn.RNN has tanh and relu, not {inner}")
        settings = ', nonlinearity="relu"' if inner == "relu" else ""
    elif inner != "tanh" or gates != "sigmoid":
        raise site.refuse(f"nn.{module} has tanh and sigmoid, not {inner} and {gates}")
    if kind == "GRU" and not cast("Any", cell).reset_after:
        raise site.refuse("nn.GRU resets after the matrix product, this one (reset_after=False) before it")
    if not cell.use_bias:
        settings += ", bias=False"
    return kind, module, f"{inputs}, {cell.units}{settings}, batch_first=True"


def _arrays(weights: LayerWeights, kind: str, bias: bool) -> dict[str, Entry]:
    """The arrays of one direction under PyTorch's names."""
    kernel, recurrent_kernel = weights.arranged("kernel", kind), weights.arranged("recurrent_kernel", kind)
    found = {"weight_ih_l0": kernel, "weight_hh_l0": recurrent_kernel}
    if not bias:
        return found
    both = weights.arranged("bias", kind)
    if kind == "GRU":
        found["bias_ih_l0"] = Entry(lambda: both.read()[0], both.dtype, both.source)
        found["bias_hh_l0"] = Entry(lambda: both.read()[1], both.dtype, both.source)
        return found
    found["bias_ih_l0"] = both
    found["bias_hh_l0"] = filled(0.0, weights.shape("bias"), both.dtype)
    return found


def _of_cell(weights: LayerWeights) -> LayerWeights:
    """The arrays of a layer's cell, which some files keep below the layer."""
    return weights if "kernel" in weights or "cell/kernel" not in weights else weights.inside("cell")


def _remarks(site: CallSite, kind: str) -> list[str]:
    if kind == "GRU":
        return site.remark("gru", "The gates of Keras' GRU are z, r, h; PyTorch's are r, z, n.")
    return site.remark(f"{kind} bias", "Keras has one bias; PyTorch's second one is zero.")


def _sequence(site: CallSite) -> tuple[Value, list[Value]]:
    """The sequence as ``(N, T, C)``, and the initial states that it is called with."""
    first: Any = site.args[0]
    values: list[Any] = list(cast("Sequence[Any]", first)) if isinstance(first, (list, tuple)) else [first]
    more = site.args[1] if len(site.args) > 1 else site.kwargs.get("initial_state")
    values += (
        list(cast("Sequence[Any]", more)) if isinstance(more, (list, tuple)) else [more] if more is not None else []
    )
    if not all(isinstance(one, Value) for one in values):
        raise site.refuse("it is called on something other than tensors")
    sequence, *states = cast("list[Value]", values)
    if sequence.rank != 3:
        raise site.refuse("it needs a sequence (N, T, C)")
    if sequence.order != (0, 1, 2):
        site.note("sequence", "Recurrent layers take (N, T, C): time on axis 1.", "Time on axis 1.")
    return sequence.keras(), [state.keras() for state in states]


@rule("LSTM", "GRU", "SimpleRNN", "RNN")
def recurrent(site: CallSite) -> Results:
    operation = cast("Recurrent", site.operation)
    if site.config.get("stateful"):
        site.note("stateful", "Keras keeps the state from batch to batch here; this file begins at zero every time.")
    x, states = _sequence(site)
    weights = _of_cell(site.weights)
    inputs = weights.shape("kernel")[0]
    kind, module, settings = _module(site, operation, inputs)
    name = site.module(
        f"nn.{module}({settings})",
        _arrays(weights, kind, operation.cell.use_bias),
        comments=_remarks(site, kind) if operation.cell.use_bias else (),
    )
    text = x.text
    if operation.backwards:
        site.note("backwards", "go_backwards: from the last step to the first.")
        text = f"{text}.flip(1)"
    if states:
        initial = [f"{state.text}[None]" for state in states]
        text = f"{text}, ({', '.join(initial)})" if len(initial) > 1 else f"{text}, {initial[0]}"
    steps, state = site.temporary("steps"), site.temporary("state")
    site.statement(f"{steps}, {state} = {name}({text})")
    shapes = site.shapes
    first = steps if operation.sequences else f"{steps}[:, -1]"
    output = _made(first, shapes[0], x, operation)
    if not operation.with_state:
        return output
    parts = [f"{state}[0][0]", f"{state}[1][0]"] if kind == "LSTM" else [f"{state}[0]"]
    batch = x.shape[0]
    return [output, *(Value(part, (batch, operation.cell.units), (0, 1), site.axis) for part in parts)]


def _made(text: str, shape: Shape | None, x: Value, operation: Recurrent) -> Value:
    units = operation.cell.units
    known = shape if shape is not None else ((x.shape[0], x.shape[1], units) if operation.sequences else (None, units))
    return Value(text, known, tuple(range(len(known))), x.axis)


@rule("Bidirectional")
def bidirectional(site: CallSite) -> Results:
    operation = cast("Bidirectional", site.operation)
    forward, backward = operation.forward, operation.backward
    if forward.with_state or backward.with_state:
        raise site.refuse("it gives its states as well (return_state)")
    x, states = _sequence(site)
    if states:
        raise site.refuse("it is called with initial states")
    inner = {side: _of_cell(site.weights.inside(f"{side}_layer")) for side in ("forward", "backward")}
    texts: list[str] = []
    for (side, weights), one in zip(inner.items(), (forward, backward), strict=True):
        inputs = weights.shape("kernel")[0]
        kind, module, settings = _module(site, one, inputs)
        name = site.module(
            f"nn.{module}({settings})",
            _arrays(weights, kind, one.cell.use_bias),
            suffix=side,
            comments=_remarks(site, kind) if one.cell.use_bias else (),
            main=side == "forward",
        )
        base = x.text if x.text.isidentifier() else site.let(x.text, "sequence")
        x = x.new(base)
        text = f"{base}.flip(1)" if one.backwards else base
        steps = site.temporary(side)
        site.statement(f"{steps}, _ = {name}({text})")
        if not one.sequences:
            texts.append(f"{steps}[:, -1]")
        else:
            # Keras turns the sequence of the second layer, whichever way it went.
            texts.append(f"{steps}.flip(1)" if side == "backward" else steps)
    site.note("bidirectional", "The second layer goes backwards, and its sequence is turned round again.")
    first, second = texts
    merged = {
        "concat": f"torch.cat([{first}, {second}], dim=-1)",
        "sum": f"{first} + {second}",
        "ave": f"({first} + {second}) / 2",
        "mul": f"{first} * {second}",
    }
    if operation.mode is None:
        return [_made(text, shape, x, forward) for text, shape in zip(texts, site.shapes, strict=False)]
    shape = site.shape
    return Value(merged[operation.mode], shape, tuple(range(len(shape))), site.axis)
