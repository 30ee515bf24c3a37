"""Operations that stand between layers, such as ``x + y`` and ``keras.ops.relu(x)``: elementwise ones and reductions.

Their operands are tensors, numbers and constants from the file; their axes are Keras', and are counted here in the
order in which each tensor is held.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cnnlens.conversion.to_torch.call_site import CallSite, Results
from cnnlens.conversion.to_torch.names import literal
from cnnlens.conversion.to_torch.rules.activations import applied, apply_named
from cnnlens.conversion.to_torch.rules.bare_moves import MOVES
from cnnlens.conversion.to_torch.rules.merging import alike_held, lifted
from cnnlens.conversion.to_torch.rules.scaling import constant_text
from cnnlens.conversion.to_torch.value import Value, dims_of, listed
from cnnlens.kinds import Kind, kind_of
from cnnlens.network.graph import Shape
from cnnlens.reference.bare.ops import BareOperation, KerasTwoOperation
from cnnlens.text import printable

__all__ = ["convert", "is_known"]

Settings = Mapping[str, Any]


def convert(site: CallSite) -> Results:
    """Write the code of one bare op."""
    operation = cast("BareOperation | KerasTwoOperation", site.operation)
    kind, operands, settings = operation.resolved(site.args, site.kwargs)
    row = kind_of(kind)
    if row.activation or kind == "ReLU":
        made = apply_named(site, _tensor(site, operands[0]), row.activation or "general_relu", settings)
        return replace(made, shape=site.shape)
    if "{x}" in row.torch:
        x = _tensor(site, operands[0])
        return x if row.torch == "{x}" else applied(site, x, lambda inner: row.torch.format(x=inner))
    if "{a}" in row.torch or row.torch.startswith("torch."):
        return _binary(site, row, operands[0], operands[1])
    if row.torch or kind in _OWN_REDUCTIONS:
        return _reduced(site, kind, _tensor(site, operands[0]), settings)
    if kind in _OTHERS:
        return _OTHERS[kind](site, operands, settings)
    if kind in MOVES:
        return MOVES[kind](site, operands, settings)
    raise site.refuse(f"no PyTorch code is known for the op {printable(kind)}")


def is_known(kind: str) -> bool:
    """Tell whether there is code for an operation of this name."""
    row = kind_of(kind)
    return bool(row.activation or row.torch) or kind in {*_OWN_REDUCTIONS, *_OTHERS, *MOVES, "ReLU"}


def _tensor(site: CallSite, value: Any) -> Value:
    if not isinstance(value, Value):
        raise site.refuse("an op on constants alone is not converted")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, (bool, int, float, np.number)) or (
        isinstance(value, np.ndarray) and cast("NDArray[Any]", value).size == 1 and cast("Any", value).ndim == 0
    )


def _number(value: Any) -> str:
    return literal(cast("Any", value).item() if isinstance(value, (np.number, np.ndarray)) else value)


def _together(site: CallSite, values: Sequence[Any]) -> tuple[list[str], Value]:
    """Operands as texts that spread over each other as Keras' do, and how the result is held."""
    tensors = [value for value in values if isinstance(value, Value)]
    if not tensors:
        raise site.refuse("an op on constants alone is not converted")
    others = [value for value in values if not isinstance(value, Value) and not _is_number(value)]
    constants = [np.asarray(value) for value in others]
    shape = site.shape
    rank = max(len(shape), *(value.rank for value in tensors))
    if any(array.ndim > max(value.rank for value in tensors) for array in constants):
        raise site.refuse("a constant with more axes than its tensor is not converted")
    if any(value.rank != rank for value in tensors):
        tensors = [lifted(value.plain(), rank, behind_batch=False) for value in tensors]
    tensors = alike_held(tensors)
    if any(not value.text.isidentifier() for value in tensors) and constants:
        tensors = [value.new(site.let(value.text, "inner")) for value in tensors]
    base = tensors[0]
    variables, fixed = iter(tensors), iter(constants)
    texts: list[str] = []
    for index, value in enumerate(values):
        if isinstance(value, Value):
            texts.append(next(variables).text)
        elif _is_number(value):
            texts.append(_number(value))
        else:
            texts.append(constant_text(site, base, next(fixed), f"constant_{index}" if index else "constant"))
    return texts, replace(base, shape=shape, axis=site.axis)


def _binary(site: CallSite, row: Kind, first: Any, second: Any) -> Value:
    texts, result = _together(site, [first, second])
    if "{a}" in row.torch:
        return result.new(row.torch.format(a=texts[0], b=texts[1]))
    numbers = [_is_number(first), _is_number(second)]
    if row.name in ("Maximum", "Minimum") and any(numbers):
        text, limit = (texts[1], texts[0]) if numbers[0] else (texts[0], texts[1])
        base = text if text.isidentifier() else site.let(text, "inner")
        return result.new(f"{base}.clamp({'min' if row.name == 'Maximum' else 'max'}={limit})")
    if any(numbers):
        place = 1 if numbers[0] else 0
        base = texts[place] if texts[place].isidentifier() else site.let(texts[place], "inner")
        texts = [base if at == place else f"{base}.new_tensor({text})" for at, text in enumerate(texts)]
    return result.new(f"{row.torch}({texts[0]}, {texts[1]})")


# -- reductions --------------------------------------------------------------------------------------------------------

_OWN_REDUCTIONS = ("Prod", "Argmax", "Argmin", "Norm")


def axes_of(value: Any, rank: int) -> list[int]:
    """An axis, several, or None for all, counted from the front."""
    if value is None:
        return list(range(rank))
    items = list(cast("Sequence[Any]", value)) if isinstance(value, (list, tuple)) else [value]
    return [int(item) % rank for item in items]


def _reduced(site: CallSite, kind: str, x: Value, settings: Settings) -> Value:
    stated = settings.get("axis")
    axes = axes_of(stated, x.rank)
    if x.flat is not None and (axes != [1] or kind.startswith("Arg")):
        x = x.plain()
    keep = bool(settings.get("keepdims", False))
    more = ", keepdim=True" if keep else ""
    places = x.places(axes)
    order = x.order if keep else x.without(axes)
    shape: Shape = site.shape
    made = Value("", shape, order, site.axis)
    base = x.text if x.text.isidentifier() or x.text.endswith(")") else site.let(x.text, "inner")
    dims = dims_of(places)
    if kind == "Prod":
        text = base
        for place in reversed(places):
            text = f"{text}.prod(dim={place}{more})"
        return made.new(text)
    if kind in ("Argmax", "Argmin"):
        if stated is None:
            return made.new(f"{x.keras().text}.{kind.lower()}()")
        return made.new(f"{base}.{kind.lower()}(dim={dims}{more})")
    if kind == "Norm":
        order_of = settings.get("ord")
        if len(places) > 1 and order_of is not None:
            raise site.refuse("the norm of a matrix is not converted")
        text = "2" if order_of is None else literal(order_of)
        return made.new(f"torch.linalg.vector_norm({base}, {text}, dim={dims}{more})")
    extra = ", correction=0" if kind in ("Var", "Std") else ""
    return made.new(f"{base}.{kind_of(kind).torch}(dim={dims}{extra}{more})")


# -- others that leave the axes where they are -------------------------------------------------------------------------


def _clip(site: CallSite, operands: list[Any], settings: Settings) -> Value:
    x = _tensor(site, operands[0])
    low, high = settings.get("x_min"), settings.get("x_max")
    parts = [f"{name}={_number(value)}" for name, value in (("min", low), ("max", high)) if value is not None]
    return x.new(f"torch.clamp({x.text}, {', '.join(parts)})") if parts else x


def _round(site: CallSite, operands: list[Any], settings: Settings) -> Value:
    x = _tensor(site, operands[0])
    decimals = int(settings.get("decimals") or 0)
    return x.new(f"torch.round({x.text}{f', decimals={decimals}' if decimals else ''})")


def _cast(site: CallSite, operands: list[Any], settings: Settings) -> Value:
    x = _tensor(site, operands[0])
    kind = str(settings.get("dtype") or "").rsplit(".", 1)[-1]
    if kind.startswith(("float", "bfloat")):
        site.note("cast", f"Keras casts to {printable(kind)} here; floating numbers stay as they are in this file.")
        helper = site.helper("as_float")
        return x.new(f"{helper}({x.text})")
    known = {"bool": "bool", "int8": "int8", "int16": "int16", "int32": "int32", "int64": "int64", "uint8": "uint8"}
    if kind not in known:
        raise site.refuse(f"a cast to {printable(kind)} is not converted")
    base = x.text if x.text.isidentifier() else site.let(x.text, "inner")
    return x.new(f"{base}.to(torch.{known[kind]})")


def _where(site: CallSite, operands: list[Any], settings: Settings) -> Value:
    texts, result = _together(site, operands)
    return result.new(f"torch.where({', '.join(texts)})")


def _divide_no_nan(site: CallSite, operands: list[Any], settings: Settings) -> Value:
    texts, result = _together(site, operands)
    if _is_number(operands[1]):
        return result.new(f"{texts[0]} / {texts[1]}" if float(operands[1]) else f"{texts[0]} * 0.0")
    below = texts[1] if texts[1].isidentifier() else site.let(texts[1], "below")
    return result.new(f"torch.where({below} == 0, 0.0, {texts[0]} / {below})")


def _normalize(site: CallSite, operands: list[Any], settings: Settings) -> Value:
    x = _tensor(site, operands[0])
    axes = axes_of(settings.get("axis", -1), x.rank)
    if x.flat is not None and axes != [1]:
        x = x.plain()
    places = x.places(axes)
    dims = dims_of(places)
    order = settings.get("order", 2)
    power = "" if order in (None, 2) else f", p={literal(order)}"
    epsilon = literal(float(settings.get("epsilon") or 1e-12))
    return x.new(f"F.normalize({x.text}{power}, dim={dims}, eps={epsilon})")


def _cumsum(site: CallSite, operands: list[Any], settings: Settings) -> Value:
    x = _tensor(site, operands[0]).plain()
    axis = settings.get("axis")
    if axis is None:
        x = x.keras()
        return Value(f"{x.text}.flatten().cumsum(dim=0)", site.shape, (0,), site.axis)
    return x.new(f"torch.cumsum({x.text}, dim={x.place(int(axis))})")


def _flip(site: CallSite, operands: list[Any], settings: Settings) -> Value:
    x = _tensor(site, operands[0]).plain()
    places = x.places(axes_of(settings.get("axis"), x.rank))
    return x.new(f"torch.flip({x.text}, dims=({listed(places)}{',' if len(places) == 1 else ''}))")


def _roll(site: CallSite, operands: list[Any], settings: Settings) -> Value:
    x = _tensor(site, operands[0]).plain()
    axis, shift = settings.get("axis"), settings["shift"]
    if axis is None:
        x = x.keras()
        return x.new(f"torch.roll({x.text}, {literal(shift)})")
    axes = axes_of(axis, x.rank)
    shifts = list(cast("Sequence[int]", shift)) if isinstance(shift, (list, tuple)) else [int(shift)] * len(axes)
    dims = [x.place(one) for one in axes]
    return x.new(f"torch.roll({x.text}, ({listed(shifts)},), dims=({listed(dims)},))".replace(",,", ","))


_Other = Callable[[CallSite, list[Any], Settings], Value]
_OTHERS: dict[str, _Other] = {
    "Clip": _clip, "Round": _round, "Cast": _cast, "Where": _where, "DivideNoNan": _divide_no_nan,
    "Normalize": _normalize, "Cumsum": _cumsum, "Flip": _flip, "Roll": _roll,
}  # fmt: skip
