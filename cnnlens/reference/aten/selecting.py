"""Parts of a tensor, several tensors as one, rows by index: values are picked and none changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from cnnlens.reference.aten.given import Given, Tensor, Translation, WeightName, is_operand
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


def _sliced(given: Given, axis: int, part: Any) -> Translation:
    place = normalise_axis(axis, given.rank())

    def call(x: Any) -> Any:
        return x[(slice(None),) * place + (part,)]

    shown = part if isinstance(part, int) else [part.start, part.stop, part.step]
    return moved(given, "GetItem", call, {"axis": place, "part": shown})


@aten("slice", "slice_copy")
def _slice(given: Given) -> Translation:
    start, end, step = (given.get(name) for name in ("start", "end", "step"))
    return _sliced(given, given.integer("dim", 0), slice(start, end, step))


@aten("select", "select_copy")
def _select(given: Given) -> Translation:
    return _sliced(given, given.integer("dim", 0), given.integer("index", 0))


@aten("narrow", "narrow_copy")
def _narrow(given: Given) -> Translation:
    start, length = given.integer("start", 0), given.integer("length", 1)
    if start < 0:
        start += given.known(given.main)[given.integer("dim", 0)] or 0
    return _sliced(given, given.integer("dim", 0), slice(start, start + length))


@aten("slice_scatter", "select_scatter")
def _scattered(given: Given) -> Translation:
    place = normalise_axis(given.integer("dim", 0), given.rank())
    part: Any = given.integer("index", 0)
    if given.name == "slice_scatter":
        part = slice(given.get("start"), given.get("end"), given.get("step"))

    def call(_: Settings, x: Any, source: Any) -> Any:
        out = np.array(x)
        out[(slice(None),) * place + (part,)] = source
        return out

    return bare(given, "Scatter", call, BY_RUNNING, [given.main, given.get("src")])


@aten("index_select", "gather", "take_along_dim")
def _index_select(given: Given) -> Translation:
    axis = given.integer("dim", 0)
    index = given.get("index", given.get("indices"))

    def call(_: Settings, x: Any, places: Any) -> Any:
        if given.name == "index_select":
            return np.take(x, index_of(places), axis=axis)
        wanted = index_of(places)
        if given.name == "gather":
            # The index may be shorter than the tensor on every axis.
            place = axis % x.ndim
            x = x[tuple(slice(None) if one == place else slice(0, n) for one, n in enumerate(wanted.shape))]
        return np.take_along_axis(x, wanted, axis=axis)

    return bare(given, "Take", call, BY_RUNNING, [given.main, index], {"axis": axis})


@aten("index", "_unsafe_index")
def _index(given: Given) -> Translation:
    places: list[Any] = list(given.get("indices", []))

    def call(_: Settings, x: Any, indices: Any) -> Any:
        return x[tuple(slice(None) if one is None else index_of(one) for one in indices)]

    return bare(given, "Take", call, BY_RUNNING, [given.main, places])


@aten("index_put", "_unsafe_index_put")
def _index_put(given: Given) -> Translation:
    places: list[Any] = list(given.get("indices", []))
    added = given.flag("accumulate")

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
    return bare(given, kind, call, shape, [given.main, places, given.get("values")], {"accumulate": added})


@aten("embedding")
def _embedding(given: Given) -> Translation:
    table, index = given.get("weight"), given.get("indices")
    if isinstance(table, WeightName) and isinstance(index, Tensor):
        shape = given.known(table)
        config = {"input_dim": shape[0], "output_dim": shape[1]}
        named = {table.name: ("Embedding", "embeddings")}
        return layer(Embedding("Embedding", config, (3,)), (index,), named)

    def call(_: Settings, rows: Any, places: Any) -> Any:
        return np.take(rows, index_of(places), axis=0)

    return bare(given, "Take", call, BY_RUNNING, [table, index])


# --- cutting into lists ----------------------------------------------------------------------------------------------


def _cut(given: Given, axis: int, sizes: Any) -> Translation:
    """Pieces of the given sizes; ``sizes`` is a function of the length where it depends on it."""

    def call(x: Any) -> list[Any]:
        lengths = sizes(x.shape[axis]) if callable(sizes) else sizes
        ends = np.cumsum(cast("Sequence[int]", lengths))[:-1].tolist()
        return np.split(x, ends, axis=axis)

    return moved(given, "SplitBySize", call, {"axis": axis})


def _equal(length: int, size: int) -> list[int]:
    """Pieces of ``size``, the last one what remains."""
    return [min(size, length - start) for start in range(0, length, size)] or [0]


@aten("chunk", "unsafe_chunk")
def _chunk(given: Given) -> Translation:
    count, axis = given.integer("chunks", 1), given.integer("dim", 0)

    def sizes(length: int) -> list[int]:
        return _equal(length, max(-(-length // count), 1))

    return _cut(given, axis, sizes)


@aten("split", "unsafe_split", "split_copy")
def _split(given: Given) -> Translation:
    sizes, axis = given.get("split_size", given.get("split_sizes")), given.integer("dim", 0)
    if isinstance(sizes, list):
        return _cut(given, axis, cast("list[int]", sizes))

    def even(length: int) -> list[int]:
        return _equal(length, int(sizes))

    return _cut(given, axis, even)


@aten("split_with_sizes", "unsafe_split_with_sizes", "split_with_sizes_copy")
def _split_with_sizes(given: Given) -> Translation:
    return _cut(given, given.integer("dim", 0), given.axes("split_sizes"))


@aten("tensor_split")
def _tensor_split(given: Given) -> Translation:
    places = given.get("sections", given.get("indices"))
    axis = given.integer("dim", 0)
    return moved(given, "Split", lambda x: np.array_split(x, places, axis=axis), {"axis": axis})


@aten("unbind", "unbind_copy")
def _unbind(given: Given) -> Translation:
    axis = given.integer("dim", 0)
    return moved(given, "Unstack", lambda x: [np.take(x, i, axis=axis) for i in range(x.shape[axis])], {"axis": axis})


# --- several as one --------------------------------------------------------------------------------------------------


def _operands(given: Given) -> list[Any]:
    values = given.get("tensors", given.get("self", []))
    found = list(cast("Sequence[Any]", values)) if isinstance(values, list | tuple) else [values]
    if not found or not all(is_operand(value) for value in found):
        raise given.refuse("it takes a list of tensors")
    return found


@aten("cat", "concat", "concatenate")
def _cat(given: Given) -> Translation:
    operands, axis = _operands(given), given.get("dim", given.get("axis", 0))
    places = [value.index for value in operands if isinstance(value, Tensor)]
    if len(places) == len(operands) and places == sorted(places) and len({given.rank(one) for one in operands}) == 1:
        return layer(Concatenate("Concatenate", {"axis": int(axis)}, (3,)), (operands,))

    def call(_: Settings, arrays: Any) -> Any:
        return np.concatenate(of_one_dtype(*arrays), axis=axis)

    return bare(given, "Concatenate", call, BY_RUNNING, [operands], {"axis": axis})


@aten("stack", "hstack", "vstack", "dstack")
def _stack(given: Given) -> Translation:
    axis = given.integer("dim", 0)
    function = {"hstack": np.hstack, "vstack": np.vstack, "dstack": np.dstack}.get(given.name)

    def call(_: Settings, arrays: Any) -> Any:
        same = of_one_dtype(*arrays)
        return np.stack(same, axis=axis) if function is None else function(same)

    return bare(given, "Stack", call, BY_RUNNING, [_operands(given)], {"axis": axis})


# --- triangles and orders --------------------------------------------------------------------------------------------


@aten("tril", "triu")
def _triangle(given: Given) -> Translation:
    function, diagonal = (np.tril if given.name == "tril" else np.triu), given.integer("diagonal", 0)
    return moved(given, "Scatter", lambda x: function(x, diagonal), {"diagonal": diagonal})


@aten("topk", "sort")
def _topk(given: Given) -> Translation:
    """Values in order and their places, the largest first for ``topk``."""
    axis = given.integer("dim", -1)
    down = given.flag("largest", True) if given.name == "topk" else given.flag("descending")
    count = given.get("k")

    def call(x: Any) -> list[Any]:
        places: Any = np.argsort(-x if down else x, axis=axis, kind="stable")
        if count is not None:
            places = np.take(places, list(range(int(count))), axis=axis)
        return [np.take_along_axis(x, places, axis=axis), places]

    return moved(given, "Take", call, {"axis": axis, "k": count, "descending": down})


@aten("one_hot")
def _one_hot(given: Given) -> Translation:
    count = given.integer("num_classes", -1)
    if count < 1:
        raise given.refuse("the number of classes depends on the input")
    return moved(given, "OneHot", lambda x: (index_of(x)[..., None] == np.arange(count)).astype(np.int64), {})
