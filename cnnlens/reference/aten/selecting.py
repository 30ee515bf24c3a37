"""Parts of a tensor, several tensors as one, rows by index: values are picked and none changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from cnnlens.reference.aten.arguments import Arguments, Tensor, Translation, WeightName, is_operand
from cnnlens.reference.aten.operations import BY_RUNNING, bare, layer
from cnnlens.reference.aten.registry import aten
from cnnlens.reference.aten.shaping import moved
from cnnlens.reference.bare.functions import of_one_dtype
from cnnlens.reference.keras.merging import Concatenate
from cnnlens.reference.keras.shaping import Embedding
from cnnlens.reference.operation import normalise_axis

__all__: list[str] = []

Settings = Mapping[str, Any]


def index_of(value: Any) -> Any:
    """An index array as whole numbers; the run may hold it in a floating type. Truth values stay what they are."""
    array = np.asarray(value)
    return np.rint(array).astype(np.int64) if array.dtype.kind == "f" else array


# --- parts -----------------------------------------------------------------------------------------------------------


def _sliced(args: Arguments, axis: int, part: Any) -> Translation:
    place = normalise_axis(axis, args.rank())

    def call(x: Any) -> Any:
        return x[(slice(None),) * place + (part,)]

    shown = part if isinstance(part, int) else [part.start, part.stop, part.step]
    return moved(args, "GetItem", call, {"axis": place, "part": shown})


@aten("slice", "slice_copy")
def _slice(args: Arguments) -> Translation:
    start, end, step = (args.get(name) for name in ("start", "end", "step"))
    return _sliced(args, args.integer("dim", 0), slice(start, end, step))


@aten("select", "select_copy")
def _select(args: Arguments) -> Translation:
    return _sliced(args, args.integer("dim", 0), args.integer("index", 0))


@aten("narrow", "narrow_copy")
def _narrow(args: Arguments) -> Translation:
    start, length = args.integer("start", 0), args.integer("length", 1)
    if start < 0:
        start += args.known(args.main)[args.integer("dim", 0)] or 0
    return _sliced(args, args.integer("dim", 0), slice(start, start + length))


@aten("slice_scatter", "select_scatter")
def _scattered(args: Arguments) -> Translation:
    place = normalise_axis(args.integer("dim", 0), args.rank())
    part: Any = args.integer("index", 0)
    if args.name == "slice_scatter":
        part = slice(args.get("start"), args.get("end"), args.get("step"))

    def call(_: Settings, x: Any, source: Any) -> Any:
        out = np.array(x)
        out[(slice(None),) * place + (part,)] = source
        return out

    return bare(args, "Scatter", call, BY_RUNNING, [args.main, args.get("src")])


@aten("index_select", "gather", "take_along_dim")
def _index_select(args: Arguments) -> Translation:
    axis = args.integer("dim", 0)
    index = args.get("index", args.get("indices"))

    def call(_: Settings, x: Any, places: Any) -> Any:
        if args.name == "index_select":
            return np.take(x, index_of(places), axis=axis)
        wanted = index_of(places)
        if args.name == "gather":
            # The index may be shorter than the tensor on every axis.
            place = axis % x.ndim
            x = x[tuple(slice(None) if one == place else slice(0, n) for one, n in enumerate(wanted.shape))]
        return np.take_along_axis(x, wanted, axis=axis)

    return bare(args, "Take", call, BY_RUNNING, [args.main, index], {"axis": axis})


@aten("index", "_unsafe_index")
def _index(args: Arguments) -> Translation:
    places: list[Any] = list(args.get("indices", []))

    def call(_: Settings, x: Any, indices: Any) -> Any:
        return x[tuple(slice(None) if one is None else index_of(one) for one in indices)]

    return bare(args, "Take", call, BY_RUNNING, [args.main, places])


@aten("index_put", "_unsafe_index_put")
def _index_put(args: Arguments) -> Translation:
    places: list[Any] = list(args.get("indices", []))
    added = args.flag("accumulate")

    def call(_: Settings, x: Any, indices: Any, values: Any) -> Any:
        out = np.array(x)
        where = tuple(slice(None) if one is None else index_of(one) for one in indices)
        if added:
            np.add.at(out, cast("Any", where), values)
        else:
            out[where] = values
        return out

    def shape(_: Settings, x: Any, *rest: Any) -> Any:
        return x

    kind = "Fold" if added else "Scatter"
    return bare(args, kind, call, shape, [args.main, places, args.get("values")], {"accumulate": added})


@aten("embedding")
def _embedding(args: Arguments) -> Translation:
    table, index = args.get("weight"), args.get("indices")
    if isinstance(table, WeightName) and isinstance(index, Tensor):
        shape = args.known(table)
        config = {"input_dim": shape[0], "output_dim": shape[1]}
        named = {table.name: ("Embedding", "embeddings")}
        return layer(Embedding("Embedding", config, (3,)), (index,), named)

    def call(_: Settings, rows: Any, places: Any) -> Any:
        return np.take(rows, index_of(places), axis=0)

    return bare(args, "Take", call, BY_RUNNING, [table, index])


# --- cutting into lists ----------------------------------------------------------------------------------------------


def _cut(args: Arguments, axis: int, sizes: Any) -> Translation:
    """Pieces of the given sizes; ``sizes`` is a function of the length where it depends on it."""

    def call(x: Any) -> list[Any]:
        lengths = sizes(x.shape[axis]) if callable(sizes) else sizes
        ends = np.cumsum(cast("Sequence[int]", lengths))[:-1].tolist()
        return np.split(x, ends, axis=axis)

    return moved(args, "SplitBySize", call, {"axis": axis})


def _equal(length: int, size: int) -> list[int]:
    """Pieces of ``size``; the last one is cut at the end."""
    return [size] * max(-(-length // size), 1)


@aten("chunk", "unsafe_chunk")
def _chunk(args: Arguments) -> Translation:
    count, axis = args.integer("chunks", 1), args.integer("dim", 0)

    def sizes(length: int) -> list[int]:
        return _equal(length, max(-(-length // count), 1))

    return _cut(args, axis, sizes)


@aten("split", "unsafe_split", "split_copy")
def _split(args: Arguments) -> Translation:
    sizes, axis = args.get("split_size", args.get("split_sizes")), args.integer("dim", 0)
    if isinstance(sizes, list):
        return _cut(args, axis, cast("list[int]", sizes))

    def even(length: int) -> list[int]:
        return _equal(length, int(sizes))

    return _cut(args, axis, even)


@aten("split_with_sizes", "unsafe_split_with_sizes", "split_with_sizes_copy")
def _split_with_sizes(args: Arguments) -> Translation:
    return _cut(args, args.integer("dim", 0), args.axes("split_sizes"))


@aten("tensor_split")
def _tensor_split(args: Arguments) -> Translation:
    places = args.get("sections", args.get("indices"))
    axis = args.integer("dim", 0)
    return moved(args, "Split", lambda x: np.array_split(x, places, axis=axis), {"axis": axis})


@aten("unbind", "unbind_copy")
def _unbind(args: Arguments) -> Translation:
    axis = args.integer("dim", 0)
    return moved(args, "Unstack", lambda x: [np.take(x, i, axis=axis) for i in range(x.shape[axis])], {"axis": axis})


# --- several as one --------------------------------------------------------------------------------------------------


def _operands(args: Arguments) -> list[Any]:
    values = args.get("tensors", args.get("self", []))
    found = list(cast("Sequence[Any]", values)) if isinstance(values, list | tuple) else [values]
    if not found or not all(is_operand(value) for value in found):
        raise args.refuse("it takes a list of tensors")
    return found


@aten("cat", "concat", "concatenate")
def _cat(args: Arguments) -> Translation:
    operands, axis = _operands(args), args.get("dim", args.get("axis", 0))
    places = [value.index for value in operands if isinstance(value, Tensor)]
    if len(places) == len(operands) and places == sorted(places) and len({args.rank(one) for one in operands}) == 1:
        return layer(Concatenate("Concatenate", {"axis": int(axis)}, (3,)), (operands,))

    def call(_: Settings, arrays: Any) -> Any:
        return np.concatenate(of_one_dtype(*arrays), axis=axis)

    return bare(args, "Concatenate", call, BY_RUNNING, [operands], {"axis": axis})


@aten("stack", "hstack", "vstack", "dstack")
def _stack(args: Arguments) -> Translation:
    axis = args.integer("dim", 0)
    function = {"hstack": np.hstack, "vstack": np.vstack, "dstack": np.dstack}.get(args.name)

    def call(_: Settings, arrays: Any) -> Any:
        same = of_one_dtype(*arrays)
        return np.stack(same, axis=axis) if function is None else function(same)

    return bare(args, "Stack", call, BY_RUNNING, [_operands(args)], {"axis": axis})


# --- triangles and orders --------------------------------------------------------------------------------------------


@aten("tril", "triu")
def _triangle(args: Arguments) -> Translation:
    function, diagonal = (np.tril if args.name == "tril" else np.triu), args.integer("diagonal", 0)
    return moved(args, "Scatter", lambda x: function(x, diagonal), {"diagonal": diagonal})


@aten("topk", "sort")
def _topk(args: Arguments) -> Translation:
    """Values in order and their places, the largest first for ``topk``."""
    axis = args.integer("dim", -1)
    down = args.flag("largest", True) if args.name == "topk" else args.flag("descending")
    count = args.get("k")

    def call(x: Any) -> list[Any]:
        places: Any = np.argsort(-x if down else x, axis=axis, kind="stable")
        if count is not None:
            places = np.take(places, list(range(int(count))), axis=axis)
        return [np.take_along_axis(x, places, axis=axis), places]

    return moved(args, "Take", call, {"axis": axis, "k": count, "descending": down})


@aten("one_hot")
def _one_hot(args: Arguments) -> Translation:
    count = args.integer("num_classes", -1)
    if count < 1:
        raise args.refuse("the number of classes depends on the input")
    return moved(args, "OneHot", lambda x: (index_of(x)[..., None] == np.arange(count)).astype(np.int64), {})
