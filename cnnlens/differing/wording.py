"""The words of a cause, kind by kind: what was done to an array, in a sentence's length, and in brief for several."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from cnnlens.differing.cause import Cause, Causes, Kind

__all__ = ["against_a", "brief", "epsilon", "said"]

_RESHAPED = "reshaped where it should have been transposed"


def said(causes: Causes) -> str:
    """Say what was done, one after the other."""
    return ", and ".join(text for one in causes if (text := _SAID[one.kind](one)))


def brief(causes: Causes) -> str:
    """Say what of it holds for several arrays at once."""
    texts = [_BRIEFLY.get(one.kind, _SAID[one.kind])(one) for one in causes]
    return ", and ".join(text for text in texts if text)


def _swapped(one: Cause) -> str:
    moved = [axis for axis, taken in zip(one["axes"], one["order"], strict=True) if axis != taken]
    if len(moved) == 2:
        return f"{moved[0]} and {moved[1]} swapped"
    return f"{_joined(one['axes'])} in the order {_joined(one['order'])}"


def _joined(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def _reversed(one: Cause) -> str:
    return f"{'input channels' if one['inputs'] else 'channels'} reversed"


def _flattened(one: Cause) -> str:
    what = "its inputs are" if one["inputs"] else "it is"
    if one["b"] == one["expected"]:
        return f"{what} in {one['b']} order, as expected, and A's in {one['a']}"
    return f"{what} in {one['b']} order where {one['expected']} was expected"


def _reshaped(one: Cause) -> str:
    into = f"to {one['into']}" if one["into"] else ""
    return f"{_RESHAPED}: {one['side']}'s values, read as {one['read']}, were poured in{into}"


def _permuted(one: Cause, counted: bool = True) -> str:
    names = ("output channels", "input channels") if one["kernel"] else ("channels", "second axis")
    told: list[str] = []
    for name, order in zip(names, (one["out"], one["in"]), strict=True):
        moved = sum(place != entry for place, entry in enumerate(order))
        if moved:
            told.append(f"{name} permuted" + (f" ({moved} of {len(order)} moved)" if counted else ""))
    return " and ".join(told)


def _scaled(one: Cause) -> str:
    factors = one["factors"]
    if one["axis"] is None:
        return "negated" if factors[0] == -1 else f"scaled: A is {factors[0]:.6g} times B"
    where = "output" if one["axis"] == 0 else "input"
    return f"scaled: A is {min(factors):.4g} to {max(factors):.4g} times B, a factor for each {where} channel"


def _scaled_briefly(one: Cause) -> str:
    return "negated" if one["axis"] is None and one["factors"][0] == -1 else "scaled"


def _rounded(one: Cause) -> str:
    if "steps" not in one:
        return _rounded_briefly(one)
    low, high = min(one["steps"]), max(one["steps"])
    step = f"step {low:.4g}" if low == high else f"steps {low:.4g} to {high:.4g}"
    where = {None: "one step for all", 0: "a step for each output channel", 1: "a step for each input channel"}
    told = ", ".join(part for part in (one["scheme"], where[one["axis"]], step) if part)
    return f"{_rounded_briefly(one)} ({told})"


_GATES = {"keras": {"n": "h", "g": "c"}}  # what a framework calls the gates that the table calls as PyTorch does


def _gates(one: Cause) -> str:
    a, b = one["frameworks"]
    expected = f"{_owner(b)} {_order(one['expected'], b)}"
    if one["order"] == one["a"] and a != b:
        held = f"{_owner(b)} order is {_order(one['expected'], b)} and {_owner(a)} {_order(one['a'], a)}"
        return f"gates not exchanged: both have them in one order, where {held}"
    order = f"{_owner(one['known'])} order" if one["known"] else "the order"
    return f"gates in {order} {_order(one['order'], one['known'] or b)} where {expected} was expected"


def _owner(framework: str) -> str:
    name = _FRAMEWORKS.get(framework, framework)
    return f"{name}'" if name.endswith("s") else f"{name}'s"


_FRAMEWORKS = {"keras": "Keras", "torch": "PyTorch", "onnx": "ONNX", "flax": "Flax"}


def _order(gates: str, framework: str) -> str:
    return " ".join(_GATES.get(framework, {}).get(gate, gate) for gate in gates)


def _left_out(one: Cause) -> str:
    return f"{one['side']} holds {_the(one['held'])} alone: {_the(one['missing'])} is left out"


def _the(name: str) -> str:
    return f"the {name}" if " " in name else name


def _summed(one: Cause) -> str:
    if one["same"]:
        return "the two biases share their sum otherwise, which computes the same"
    return f"{one['side']} holds the sum of the two biases in one: they were added where they belong beside each other"


def _rounded_briefly(one: Cause) -> str:
    if not one["side"]:
        return f"apart by {one.of}'s rounding"
    kept = "levels" in one and one["levels"]
    return f"{one['side']} keeps the levels of {one.of}" if kept else f"{one['side']} is rounded to {one.of}"


def _folded(one: Cause) -> str:
    if "shift" in one:
        return _SHIFTS[one["shift"]].format(one["off"])
    holder = "B" if one["side"] == "A" else "A"
    behind = " behind it" if one["axis"] else ""
    if "into" in one:
        return f"folded into {holder}'s '{one['into']}'{behind}, {epsilon(one)}"
    padded = " (the same only where nothing is padded)" if one["axis"] and one["taps"] else ""
    return f"batch norm '{one['norm']}' folded into {holder}'s kernel{behind}{padded}, {epsilon(one)}"


_SHIFTS = {
    "missing": "the batch norm's shift is in no bias",
    "wrong": "not what the fold gives: {:.2g} of its size away",
    "held": "holds the batch norm's shift as well",
    "held through the kernel": "holds the batch norm's shift, through the kernel, as well",
}


def epsilon(one: Cause) -> str:
    """Say which epsilon a fold had."""
    also = " or ".join(f"{other:g}" for other in one["alike"])
    return f"epsilon {one['epsilon']:g}" + (f" (or {also}: the factors are alike)" if also else "")


def _tuned(one: Cause) -> str:
    if "as" in one:
        return f"fine-tuned, as the {one['as']} are: {one['distance']:.2g} of its size away"
    return f"fine-tuned: {one['distance']:.2g} of its size away, correlation {one['correlation']:.4f}"


def _unrelated(one: Cause) -> str:
    if "as" in one:
        return f"unrelated, as the {one['as']} are: {one['distance']:.2g} of its size away"
    apart = f"{one['distance']:.2g} of its size away, correlation {one['correlation']:.2f}"
    return f"unrelated: {apart} where chance gives up to {one['chance']:.2g}"


def _constant(one: Cause) -> str:
    shown = [f"{end:.6g} everywhere" if end is not None else "values" for end in (one["a"], one["b"])]
    return f"differs: {shown[0]} in A, {shown[1]} in B"


def _shifted(one: Cause) -> str:
    what = "output channels" if one["channels"] else "rows"
    (first, last), (start, end), (rows, others) = one["a"], one["b"], one["of"]
    sizes = "" if rows == others else f", and {'A' if rows > others else 'B'} has {abs(rows - others)} more"
    return f"{what} {first} to {last} of A are {start} to {end} of B{sizes}"


def _function(one: Cause) -> str:
    epsilon = f", epsilon {one['epsilon']:g}" if one["epsilon"] else ""
    other = "B" if one["side"] == "A" else "A"
    return f"{one['side']} holds the {one['name']}{epsilon} of what {other} holds as the variance"


def _nonfinite(count: int, side: str) -> str:
    return f"{count or 'no'} number{'' if count == 1 else 's'} NaN or infinite in {side}"


_SAID: Mapping[Kind, Callable[[Cause], str]] = {
    Kind.SAME: lambda one: "",
    Kind.SWAPPED: _swapped,
    Kind.FLIPPED: lambda one: f"flipped on {_joined(re.findall(r'axis [0-9]+|.', one.of))}",
    Kind.IN_AND_OUT: lambda one: "in and out swapped",
    Kind.REVERSED: lambda one: _reversed(one) + (" (RGB/BGR)" if one["channels"] == 3 else ""),
    Kind.MULTIPLIER: lambda one: (
        "output channels counted as (multiplier, channel) where (channel, multiplier) was expected"
    ),
    Kind.FLATTENED: _flattened,
    Kind.RESHAPED: _reshaped,
    Kind.PERMUTED: _permuted,
    Kind.REARRANGED: lambda one: "the same values in an order that no hypothesis explains",
    Kind.SCALED: _scaled,
    Kind.ROUNDED: _rounded,
    Kind.FOLDED: _folded,
    Kind.FINE_TUNED: _tuned,
    Kind.EXCHANGED: lambda one: f"exchanged: A's {one['a']} is B's {one['b']}",
    Kind.GATES: _gates,
    Kind.LEFT_OUT: _left_out,
    Kind.SUMMED: _summed,
    Kind.SHIFTED: _shifted,
    Kind.REPEATED: lambda one: f"the same, which {one['side']} repeats along the axes that it has more",
    Kind.FUNCTION: _function,
    Kind.CONSTANT: _constant,
    Kind.NONFINITE: lambda one: f"differs: {_nonfinite(one['a'], 'A')}, {_nonfinite(one['b'], 'B')}",
    Kind.MISSING: lambda one: "",
    Kind.ANOTHER: _unrelated,
}
# What holds for several arrays at once, where that is less.
_BRIEFLY: Mapping[Kind, Callable[[Cause], str]] = {
    Kind.REVERSED: _reversed,
    Kind.SWAPPED: lambda one: _swapped(one) if len(one["axes"]) == 2 else "spatial axes in another order",
    Kind.FLATTENED: lambda one: "flattened in another order than expected",
    Kind.EXCHANGED: lambda one: "exchanged",
    Kind.SHIFTED: lambda one: "the same rows, further up or down",
    Kind.CONSTANT: lambda one: "differs: one value everywhere in A or in B",
    Kind.NONFINITE: lambda one: "differs: other numbers NaN or infinite",
    Kind.RESHAPED: lambda one: _RESHAPED,
    Kind.PERMUTED: lambda one: _permuted(one, counted=False),
    Kind.SCALED: _scaled_briefly,
    Kind.ROUNDED: _rounded_briefly,
}


def against_a(fault: str, side: str = "A") -> str:
    """Say a fault that a check explains as a difference: what the model or the file says is what ``side`` says."""
    for owner in ("the model", "the file"):
        fault = fault.replace(f"{owner}'s", f"{side}'s").replace(f"{owner} says", f"{side} says")
    return fault.replace("the reference's", f"{side}'s").replace("the reference", f"{side}'s")
