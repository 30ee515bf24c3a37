"""Bare ops that move values or join tensors: indexing, reshaping, splitting, products, and layers called as functions.

Where a result depends on the order of memory, the tensor is first brought to Keras' order; where only axes are named
anew, nothing moves at all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np

from cnnlens.conversion.to_torch.call_site import CallSite, Results
from cnnlens.conversion.to_torch.names import comment, literal
from cnnlens.conversion.to_torch.rules.bare_layers import LAYERS, Move, Settings, ints, tensor_of
from cnnlens.conversion.to_torch.rules.merging import alike_held
from cnnlens.conversion.to_torch.rules.shaping import renamed, reshaped
from cnnlens.conversion.to_torch.value import Value, listed, shown
from cnnlens.errors import UnsupportedLayerError

__all__ = ["MOVES"]


def _tensors(site: CallSite, value: Any) -> list[Value]:
    items = list(cast("Sequence[Any]", value)) if isinstance(value, (list, tuple)) else [value]
    return [tensor_of(site, item) for item in items]


def _based(site: CallSite, x: Value) -> Value:
    """``x`` as a variable or a call, so that a method or a subscript can follow."""
    return x if x.text.isidentifier() or x.text.endswith(")") else x.new(site.let(x.text, "inner"))


def _reshape(site: CallSite, operands: list[Any], settings: Settings) -> Value:
    x = tensor_of(site, operands[0])
    wanted = cast("Sequence[Any]", settings.get("newshape", settings.get("shape")))
    sizes = [-1 if size is None else int(size) for size in wanted]
    shape = site.shape
    if sizes and shape[0] is None and shape[1:] and sizes[0] == -1 and x.shape[0] is None and _keeps_batch(x, shape):
        return reshaped(site, x, shape, sizes)
    x = x.keras()
    return Value(f"{x.text}.reshape({listed(sizes)})", shape, tuple(range(len(shape))), site.axis)


def _keeps_batch(x: Value, shape: Sequence[int | None]) -> bool:
    if None in x.shape[1:] or None in shape[1:]:
        return False
    return math.prod(cast("Sequence[int]", x.shape[1:])) == math.prod(cast("Sequence[int]", shape[1:]))


def _depth_to_space(site: CallSite, operands: list[Any], settings: Settings) -> Value:
    block = int(settings["block_size"])
    return _cells(site, operands, lambda h, w, c: ((h, w, block, block, c), (h * block, w * block, c)))


def _space_to_depth(site: CallSite, operands: list[Any], settings: Settings) -> Value:
    block = int(settings["block_size"])

    def sizes(h: int, w: int, c: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return (h // block, block, w // block, block, c), (h // block, w // block, c * block**2)

    return _cells(site, operands, sizes)


def _cells(
    site: CallSite, operands: list[Any], sizes: Callable[[int, int, int], tuple[tuple[int, ...], tuple[int, ...]]]
) -> Value:
    """Blocks of pixels and channels put in each other's place, in Keras' order."""
    x, shape = tensor_of(site, operands[0]).keras(), site.shape
    h, w, _ = x.shape[1:]
    if h is None or w is None or shape[-1] is None or x.shape[-1] is None:
        raise UnsupportedLayerError("blocks of pixels of a picture whose size the file leaves open are not written")
    inner, made = sizes(h, w, min(shape[-1], x.shape[-1]))
    text = f"{x.text}.reshape(-1, {listed(inner)}).permute(0, 1, 3, 2, 4, 5).reshape(-1, {listed(made)})"
    return Value(text, shape, tuple(range(len(shape))), site.axis)


def _transpose(site: CallSite, operands: list[Any], settings: Settings) -> Value:
    x = tensor_of(site, operands[0])
    axes = settings.get("axes")
    order = list(reversed(range(x.rank))) if axes is None else [axis % x.rank for axis in ints(axes)]
    return _named_anew(site, x, order)


def _named_anew(site: CallSite, x: Value, order: Sequence[int]) -> Value:
    site.comments.append(f"Keras transposes to ({listed(order)}), which names the axes anew; nothing has to move here.")
    return renamed(x, order, site.shape, site.axis)


def _moveaxis(site: CallSite, operands: list[Any], settings: Settings) -> Value:
    x = tensor_of(site, operands[0])
    source = [axis % x.rank for axis in ints(settings["source"])]
    target = [axis % x.rank for axis in ints(settings["destination"])]
    order = [axis for axis in range(x.rank) if axis not in source]
    for place, axis in sorted(zip(target, source, strict=True)):
        order.insert(place, axis)
    return _named_anew(site, x, order)


def _swapaxes(site: CallSite, operands: list[Any], settings: Settings) -> Value:
    x = tensor_of(site, operands[0])
    order = list(range(x.rank))
    first, second = int(settings["axis1"]) % x.rank, int(settings["axis2"]) % x.rank
    order[first], order[second] = order[second], order[first]
    return _named_anew(site, x, order)


def _expand_dims(site: CallSite, operands: list[Any], settings: Settings) -> Value:
    x = _based(site, tensor_of(site, operands[0]))
    rank = x.rank + len(ints(settings.get("axis", 0)))
    new = sorted(axis % rank for axis in ints(settings.get("axis", 0)))
    kept = [axis for axis in range(rank) if axis not in new]
    # The new axes go behind the others as they are held, which needs no thought about where they stand.
    order = (*(kept[axis] for axis in x.order), *new)
    return Value(f"{x.text}[..., {', '.join(['None'] * len(new))}]", site.shape, order, site.axis)


def _squeeze(site: CallSite, operands: list[Any], settings: Settings) -> Value:
    x = _based(site, tensor_of(site, operands[0]))
    axis = settings.get("axis")
    gone = [place for place, size in enumerate(x.shape) if size == 1] if axis is None else ints(axis)
    places = x.places(gone)
    dims = str(places[0]) if len(places) == 1 else f"({listed(places)})"
    return Value(f"{x.text}.squeeze({dims})", site.shape, x.without(gone), site.axis)


def _concatenate(site: CallSite, operands: list[Any], settings: Settings) -> Value:
    values = alike_held(_tensors(site, operands[0]))
    place = values[0].place(int(settings.get("axis", 0)))
    text = f"torch.cat([{', '.join(value.text for value in values)}], dim={place})"
    return replace(values[0], text=text, shape=site.shape, axis=site.axis)


def _stack(site: CallSite, operands: list[Any], settings: Settings) -> Value:
    values = alike_held(_tensors(site, operands[0]))
    rank = values[0].rank + 1
    new = int(settings.get("axis", 0)) % rank
    kept = [axis for axis in range(rank) if axis != new]
    order = (*(kept[axis] for axis in values[0].order), new)
    text = f"torch.stack([{', '.join(value.text for value in values)}], dim=-1)"
    return Value(text, site.shape, order, site.axis)


def _parts(site: CallSite, text: str, order: Sequence[int]) -> list[Value]:
    base = site.let(text, "parts")
    return [
        Value(f"{base}[{index}]", shape if shape is not None else (), tuple(order), site.axis)
        for index, shape in enumerate(site.shapes)
    ]


def _unstack(site: CallSite, operands: list[Any], settings: Settings) -> Results:
    x = tensor_of(site, operands[0])
    axis = int(settings.get("axis", 0))
    return _parts(site, f"torch.unbind({x.text}, dim={x.place(axis)})", x.without([axis]))


def _split(site: CallSite, operands: list[Any], settings: Settings) -> Results:
    x = tensor_of(site, operands[0])
    axis = int(settings.get("axis", 0) or 0)
    sections = settings["indices_or_sections"]
    how = str(int(sections)) if isinstance(sections, int) else shown(tuple(ints(sections)))
    return _parts(site, f"torch.tensor_split({x.text}, {how}, dim={x.place(axis)})", x.order)


def _split_by_size(site: CallSite, operands: list[Any], settings: Settings) -> Results:
    sizes = settings["num_or_size_splits"]
    if isinstance(sizes, (list, tuple)):
        sizes = [int(place) for place in np.cumsum(cast("Sequence[int]", sizes))[:-1]]
    return _split(site, operands, {**settings, "indices_or_sections": sizes})


def _pad(site: CallSite, operands: list[Any], settings: Settings) -> Value:
    x = tensor_of(site, operands[0])
    width = settings["pad_width"]
    pairs: list[Any] = [width] if isinstance(width, int) else list(cast("Sequence[Any]", width))
    if all(isinstance(item, int) for item in pairs):
        pairs = [[pairs[0], pairs[-1]]] * x.rank
    elif len(pairs) == 1:
        pairs = pairs * x.rank
    pads = [ints(pairs[axis]) for axis in x.order]
    mode = str(settings.get("mode") or "constant").lower()
    if mode == "constant":
        while pads and pads[0] == [0, 0]:
            pads.pop(0)
        flat = [number for pair in reversed(pads) for number in pair]
        value = settings.get("constant_values") or 0
        more = f", value={literal(float(value))}" if value else ""
        return replace(x, text=f"F.pad({x.text}, ({listed(flat)}){more})" if flat else x.text, shape=site.shape)
    # PyTorch reflects on the last axes of what has two in front alone; by index it works on any.
    helper = site.helper("mirror_pad")
    text = x.text
    for place, (before, after) in enumerate(pads):
        if before or after:
            text = f"{helper}({text}, {place}, {before}, {after}, {mode == 'symmetric'})"
    return replace(x, text=text, shape=site.shape)


def _getitem(site: CallSite, operands: list[Any], settings: Settings) -> Value:
    x = _based(site, tensor_of(site, operands[0]))
    key = operands[1]
    parts: list[Any] = list(cast("Sequence[Any]", key)) if isinstance(key, (list, tuple)) else [key]
    named = sum(1 for part in parts if part is not None and part is not Ellipsis)
    if any(isinstance(part, (Value, np.ndarray, list)) for part in parts) or named > x.rank:
        raise site.refuse("indexing by arrays is not converted")
    if Ellipsis in parts:
        place = parts.index(Ellipsis)
        parts[place : place + 1] = [slice(None)] * (x.rank - named)
    else:
        parts += [slice(None)] * (x.rank - named)
    # What each of Keras' axes is cut to, and the axes that come out, in Keras' order.
    cuts: list[Any] = []
    made: list[int | None] = []
    for part in parts:
        if part is None:
            made.append(None)
            continue
        if not isinstance(part, int):
            made.append(len(cuts))
        cuts.append(part)
    flips = [axis for axis, cut in enumerate(cuts) if isinstance(cut, slice) and (cast("Any", cut).step or 1) < 0]
    if flips:
        if any(cuts[axis] != slice(None, None, -1) for axis in flips):
            raise site.refuse("a slice that goes backwards, other than [::-1], is not converted")
        x = x.new(f"{x.text}.flip({listed(x.places(flips))})")
        cuts = [slice(None) if axis in flips else cut for axis, cut in enumerate(cuts)]
    subscript = [_cut(cuts[axis]) for axis in x.order]
    while subscript and subscript[-1] == ":":
        subscript.pop()
    new = [place for place, axis in enumerate(made) if axis is None]
    text = f"{x.text}[{', '.join(subscript)}]" if subscript else x.text
    kept = {axis: place for place, axis in enumerate(made) if axis is not None}
    order = [kept[axis] for axis in x.order if axis in kept]
    if new:
        text = f"{text}[..., {', '.join(['None'] * len(new))}]"
    return Value(text, site.shape, (*order, *new), site.axis)


def _cut(part: Any) -> str:
    if isinstance(part, slice):
        cut = cast("Any", part)
        bounds: list[Any] = [cut.start, cut.stop, cut.step if cut.step != 1 else None]
        texts = ["" if number is None else str(int(number)) for number in bounds]
        return f"{texts[0]}:{texts[1]}" + (f":{texts[2]}" if texts[2] else "")
    return str(int(part))


def _slice(site: CallSite, operands: list[Any], settings: Settings) -> Value:
    sizes = cast("Sequence[int]", settings.get("shape", settings.get("size")))
    starts = cast("Sequence[int]", operands[1])
    keys = [
        slice(int(start), None if size == -1 else int(start) + int(size))
        for start, size in zip(starts, sizes, strict=True)
    ]
    return _getitem(site, [operands[0], keys], {})


def _repeat(site: CallSite, operands: list[Any], settings: Settings) -> Value:
    x = tensor_of(site, operands[0])
    axis, repeats = settings.get("axis"), settings["repeats"]
    if isinstance(repeats, (list, tuple)) and len(cast("Sequence[int]", repeats)) == 1:
        repeats = cast("Sequence[int]", repeats)[0]
    if not isinstance(repeats, int):
        raise site.refuse("a different number of repeats for each place is not converted")
    if axis is None:
        x = x.keras()
        return Value(f"torch.repeat_interleave({x.text}, {repeats})", site.shape, (0,), site.axis)
    text = f"torch.repeat_interleave({x.text}, {repeats}, dim={x.place(int(axis))})"
    return replace(x, text=text, shape=site.shape)


def _tile(site: CallSite, operands: list[Any], settings: Settings) -> Value:
    x = _based(site, tensor_of(site, operands[0]))
    repeats = ints(settings.get("repeats", settings.get("multiples")))
    if len(repeats) > x.rank:
        x = x.keras()
        return Value(f"{x.text}.tile({listed(repeats)})", site.shape, tuple(range(len(repeats))), site.axis)
    full = [1] * (x.rank - len(repeats)) + repeats
    return replace(x, text=f"{x.text}.tile({listed(full[axis] for axis in x.order)})", shape=site.shape)


def _take(site: CallSite, operands: list[Any], settings: Settings) -> Value:
    x = _based(site, tensor_of(site, operands[0]))
    axis = settings.get("axis")
    if axis is None or isinstance(operands[1], Value):
        raise site.refuse("it takes by indices that a tensor gives, or from all values at once")
    index = np.asarray(operands[1])
    place = x.place(int(axis))
    if index.ndim == 0:
        return Value(f"{x.text}.select({place}, {int(index)})", site.shape, x.without([int(axis)]), site.axis)
    if index.ndim != 1 or index.size > 64:
        raise site.refuse("it takes by an array of indices with several axes, or by a long one")
    size = x.shape[int(axis) % x.rank]
    places = [int(one) + (size or 0) if one < 0 else int(one) for one in index]
    cuts = [":"] * place + [f"[{listed(places)}]"]
    return replace(x, text=f"{x.text}[{', '.join(cuts)}]", shape=site.shape)


def _broadcast_to(site: CallSite, operands: list[Any], settings: Settings) -> Value:
    x = _based(site, tensor_of(site, operands[0]))
    sizes = ints(settings["shape"])
    if len(sizes) != x.rank:
        x = x.keras()
        return Value(f"{x.text}.expand({listed(sizes)})", site.shape, tuple(range(len(sizes))), site.axis)
    return replace(x, text=f"{x.text}.expand({listed(sizes[axis] for axis in x.order)})", shape=site.shape)


def _ravel(site: CallSite, operands: list[Any], settings: Settings) -> Value:
    x = tensor_of(site, operands[0]).keras()
    return Value(f"{x.text}.flatten()", site.shape, (0,), site.axis)


def _one_hot(site: CallSite, operands: list[Any], settings: Settings) -> Value:
    x = tensor_of(site, operands[0])
    count = int(settings.get("num_classes", settings.get("depth", 0)))
    axis = int(settings.get("axis", -1)) % (x.rank + 1)
    kept = [place for place in range(x.rank + 1) if place != axis]
    order = (*(kept[place] for place in x.order), axis)
    helper = site.helper("one_hot")
    return Value(f"{helper}({x.text}, {count})", site.shape, order, site.axis)


# -- products ----------------------------------------------------------------------------------------------------------


def _matmul(site: CallSite, operands: list[Any], settings: Settings) -> Value:
    texts: list[str] = []
    for index, value in enumerate(operands):
        if not isinstance(value, Value):
            raise site.refuse("a product with a constant is not converted")
        x = value.keras()
        turned = bool(settings.get(f"transpose_{'ab'[index]}"))
        texts.append(f"{_based(site, x).text}.mT" if turned else x.text)
    shape = site.shape
    return Value(f"torch.matmul({texts[0]}, {texts[1]})", shape, tuple(range(len(shape))), site.axis)


def _einsum(site: CallSite, operands: list[Any], settings: Settings) -> Value:
    equation = str(settings["subscripts"]).replace(" ", "")
    letters, arrow, made = equation.partition("->")
    if not arrow or "." in equation or not all(part.isascii() and part.isalpha() for part in letters.split(",")):
        raise site.refuse(f"the equation '{comment(equation)}' is none that is converted")
    texts: list[str] = []
    parts: list[str] = []
    for part, value in zip(letters.split(","), operands, strict=True):
        x = tensor_of(site, value)
        texts.append(x.text)
        parts.append("".join(part[axis] for axis in x.order))
    if made and not (made.isascii() and made.isalpha()):
        raise site.refuse(f"the equation '{comment(equation)}' is none that is converted")
    text = f'torch.einsum("{",".join(parts)}->{made}", {", ".join(texts)})'
    return Value(text, site.shape, tuple(range(len(made))), site.axis)


def _tensordot(site: CallSite, operands: list[Any], settings: Settings) -> Value:
    first, second = (tensor_of(site, value).keras() for value in operands)
    axes = settings.get("axes", 2)
    if isinstance(axes, int):
        dims = str(axes)
    else:
        pair = [ints(one) for one in cast("Sequence[Any]", axes)]
        dims = f"([{listed(pair[0])}], [{listed(pair[1])}])"
    shape = site.shape
    text = f"torch.tensordot({first.text}, {second.text}, dims={dims})"
    return Value(text, shape, tuple(range(len(shape))), site.axis)


MOVES: dict[str, Move] = {
    "Reshape": _reshape, "Transpose": _transpose, "DepthToSpace": _depth_to_space, "SpaceToDepth": _space_to_depth,
    "Moveaxis": _moveaxis, "Swapaxes": _swapaxes,
    "ExpandDims": _expand_dims, "Squeeze": _squeeze, "Concatenate": _concatenate, "Stack": _stack,
    "Unstack": _unstack, "Split": _split, "SplitBySize": _split_by_size, "Pad": _pad, "GetItem": _getitem,
    "Slice": _slice, "Repeat": _repeat, "Tile": _tile, "Take": _take, "BroadcastTo": _broadcast_to, "Ravel": _ravel,
    "OneHot": _one_hot, "Matmul": _matmul, "Einsum": _einsum, "Tensordot": _tensordot, **LAYERS,
}  # fmt: skip
