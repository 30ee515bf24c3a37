"""What a person gives to run a network on, as a stream of canonical batches whose length is known beforehand.

A data set need not fit in memory, so nothing is read before its batch is asked for; but how it is to be read (axes,
scale, size) is decided once, on the whole, for a batch of its own could be read otherwise than the one before.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cnnlens.errors import CnnlensError
from cnnlens.inputs.array_files import npz_members
from cnnlens.inputs.feeds import Feed, How, Member, blocks
from cnnlens.inputs.images import SCALES
from cnnlens.network.graph import Graph, Ref, without_graph
from cnnlens.text import nearest, printable

__all__ = ["CanonicalStream", "InputStream", "Inputs", "open_inputs", "read_inputs"]

Array = NDArray[Any]


class InputStream:
    """Reads inputs of a network, a batch at a time.

    Attributes:
        names: The network's inputs, in order.
        count: How many examples there are.
        sources: For each input, what it comes from: name and number of examples.
        notes: What was understood and is done, in words.
        shapes: For each input, the shape of one example ``(C, *spatial)``, from the first one.
        dtypes: For each input, the dtype that it is given in.
    """

    def __init__(self, feeds: Mapping[str, Feed], limit: int | None) -> None:
        self._feeds = feeds
        self.names = tuple(feeds)
        counts = {name: feed.count for name, feed in feeds.items()}
        if len(set(counts.values())) > 1:
            shown = ", ".join(f"'{printable(name)}': {count:,}" for name, count in counts.items())
            raise CnnlensError(f"the inputs hold different numbers of examples ({shown}); give as many of each")
        total = next(iter(counts.values()))
        self.count = total if limit is None else min(limit, total)
        self.sources = {name: _first(feed.sources(), self.count) for name, feed in feeds.items()}
        firsts = {name: feed.first() for name, feed in feeds.items()}
        self.shapes = {name: array.shape[1:] for name, (array, _) in firsts.items()}
        self.dtypes = {name: array.dtype for name, (array, _) in firsts.items()}
        several = len(feeds) > 1
        self.notes = tuple(
            f"{printable(name)}: {note}" if several else note for name, (_, notes) in firsts.items() for note in notes
        )

    def batch(self, start: int, stop: int) -> list[Array]:
        """Read examples ``start`` to ``stop`` of each input: canonical ``(N, C, *spatial)``, C-contiguous.

        Raises:
            CnnlensError: a file is damaged, or holds NaN, infinity or another size than the first; one line.
        """
        arrays: list[Array] = []
        for name, feed in self._feeds.items():
            parts = [feed.typed(part) for part in feed.take(start, min(stop, self.count))]
            for part in parts:
                if part.shape[1:] != self.shapes[name]:
                    raise CnnlensError(
                        f"input '{printable(name)}': one of examples {start} to {stop - 1} is {part.shape[1:]} and the "
                        f"first is {self.shapes[name]}; give inputs of one size"
                    )
            arrays.append(np.ascontiguousarray(parts[0] if len(parts) == 1 else np.concatenate(parts)))
        return arrays


class CanonicalStream(InputStream):
    """Gives arrays that are known to be canonical ``(N, C, *spatial)``, by input name: nothing is guessed."""

    def __init__(self, arrays: Mapping[str, Array], note: str, source: str | None = None) -> None:
        """Take the arrays, a ``note`` that says what they are, and where they come from, if that is not the same."""
        self._arrays = dict(arrays)
        self.names = tuple(arrays)
        self.count = min(len(array) for array in arrays.values())
        self.sources = dict.fromkeys(arrays, ((source or note, self.count),))
        self.shapes = {name: array.shape[1:] for name, array in arrays.items()}
        self.dtypes = {name: array.dtype for name, array in arrays.items()}
        self.notes = (note,)

    def batch(self, start: int, stop: int) -> list[Array]:
        """Give a batch as ``InputStream.batch`` does."""
        return [np.ascontiguousarray(array[start:stop]) for array in self._arrays.values()]


@dataclass(frozen=True, repr=False)
class Inputs:
    """Holds inputs in the units that a model takes, and says how they were understood.

    Attributes:
        arrays: By the input's name. What was read, scaled or resized is float32 in canonical axes ``(N, C, *spatial)``;
            an array that the model takes as it is is the one that was given.
        notes: What was understood and done, in words.
    """

    arrays: Mapping[str, Array]
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        shown = ", ".join(f"{printable(name, 40)} {one.shape} {one.dtype}" for name, one in self.arrays.items())
        return f"<Inputs {shown}: {printable('; '.join(self.notes), 300)}>"


def read_inputs(
    network: Graph, inputs: Any, *, scale: str = "auto", limit: int | None = None, allow_nonfinite: bool = False
) -> Inputs:
    """Read inputs as ``open_inputs`` does, all at once; see ``Network.read``."""
    if isinstance(inputs, Inputs):
        return inputs
    by_name = _prepared(network, inputs, scale, limit)
    found = {ref.name: _as_it_is(network, ref, by_name[ref.name], scale) for ref in network.inputs}
    refs = [ref for ref in network.inputs if found[ref.name] is None]
    stream = _stream(network, refs, by_name, scale, limit, allow_nonfinite) if refs else None
    read = {} if stream is None else dict(zip(stream.names, stream.batch(0, stream.count), strict=True))
    arrays: dict[str, Array] = {}
    notes = [] if stream is None else [*stream.notes]
    for name, array in found.items():
        if array is not None:
            notes.append(f"{printable(name)}: {array.shape}, {array.dtype}, kept as it is")
        arrays[name] = read[name] if array is None else array if limit is None else array[:limit]
    return Inputs(arrays, tuple(notes))


def _as_it_is(network: Graph, ref: Ref, given: Any, scale: str) -> Array | None:
    """An array whose numbers are the model's own, and no pixels; None for all that has to be read or scaled."""
    if scale not in ("auto", "none") or isinstance(given, str | os.PathLike | Member):
        return None
    try:
        array: Array = np.asarray(given)
    except (ValueError, TypeError):
        return None
    is_picture = len(network.shape(ref) or ()) > 3 and _dtype(network, ref).kind == "f"
    if array.dtype.kind not in "fiub" or (is_picture and scale == "auto" and array.dtype.kind in "iub"):
        return None
    network.own_axes(ref, array)  # refuses what is of another size
    return array


def open_inputs(
    network: Graph,
    inputs: Any,
    *,
    scale: str = "auto",
    limit: int | None = None,
    allow_nonfinite: bool = False,
    skip_bad: bool | None = None,
) -> InputStream:
    """Make ready to read inputs; the first example of each is read.

    Args:
        network: What they go into: its inputs' shapes decide how they are understood.
        inputs: For a network with one input: a path or several (a folder of PNG and JPEG files, ``.npy``, ``.npz``, IDX
            also gzipped), or an array; axes as people have them, see ``images.load``. For several inputs: a mapping by
            input name of these, arrays in the order of the inputs, or one ``.npz`` with an array for each name.
        scale: As ``images.load`` takes it. With ``auto``, what is no picture (vectors, sequences) is never scaled.
        limit: At most so many examples.
        allow_nonfinite: Keep NaN and infinities instead of refusing them.
        skip_bad: Leave pictures out that cannot be read or, where the network takes any size, are of another than the
            first; a note counts them. They are looked for beforehand, which takes as long as decoding them all. None:
            False, and the caller has no such choice, which a refusal would name.

    Raises:
        CnnlensError: they do not fit; one line.
    """
    if isinstance(inputs, InputStream):
        return inputs
    by_name = _prepared(network, inputs, scale, limit)
    return _stream(network, network.inputs, by_name, scale, limit, allow_nonfinite, skip_bad)


def _prepared(network: Graph, inputs: Any, scale: str, limit: int | None) -> dict[str, Any]:
    if not network.calls or not network.inputs:
        raise without_graph(network)
    if scale not in SCALES:
        raise CnnlensError(f"no scale '{printable(scale)}'; {nearest(scale, SCALES)}")
    if limit is not None and limit < 1:
        raise CnnlensError(f"limit must be at least 1, not {limit}")
    return _by_name(network, inputs)


def _stream(
    network: Graph,
    refs: Sequence[Ref],
    by_name: Mapping[str, Any],
    scale: str,
    limit: int | None,
    allow_nonfinite: bool,
    skip_bad: bool | None = None,
) -> InputStream:
    if len(network.inputs) > 1:
        if skip_bad:
            said = "skip-bad is for networks of one input: of several, what belongs together would come apart"
            raise CnnlensError(said)
        skip_bad = None
    from cnnlens.network.rescaling import rescaled

    feeds: dict[str, Feed] = {}
    for ref in refs:
        wanted = network.canonical_shape(ref)
        shape, dtype = None if wanted is None else wanted[1:], _dtype(network, ref)
        how = How(ref.name, shape, wanted, dtype, scale, rescaled(network, ref), allow_nonfinite, skip_bad)
        feeds[ref.name] = Feed(how, list(blocks(how, by_name[ref.name], limit)))
    return InputStream(feeds, limit)


def _by_name(network: Graph, inputs: Any) -> dict[str, Any]:
    names = [ref.name for ref in network.inputs]
    if isinstance(inputs, Mapping):
        named = cast("Mapping[str, Any]", inputs)
        for name in names:
            if name not in named:
                raise CnnlensError(f"the network's input '{printable(name)}' is not given; {nearest(name, named)}")
        for name in named:
            if name not in names:
                raise CnnlensError(f"the network has no input '{printable(name)}'; {nearest(str(name), names)}")
        return dict(named)
    if len(names) == 1:
        ref = network.inputs[0]
        rank = len(network.canonical_shape(ref) or ())
        if isinstance(inputs, list | tuple) and len(cast("list[Any]", inputs)) == 1 and rank:
            only: Any = cast("Sequence[Any]", inputs)[0]
            if len(getattr(only, "shape", ())) >= rank:  # an array an input, as a network with several takes them
                return {names[0]: only}
        return {names[0]: inputs}
    shown = ", ".join(f"'{printable(name)}'" for name in names)
    if isinstance(inputs, str | os.PathLike):
        path = Path(cast(str, inputs))
        members = npz_members(path) if path.is_file() else None
        if members is not None and members.issuperset(names):
            return {name: Member(path, name) for name in names}
        raise CnnlensError(
            f"the network has {len(names)} inputs ({shown}), and one path came; give NAME=PATH for each, or an .npz "
            "with an array of each name"
        )
    arrays = cast("Sequence[Any]", inputs)
    if not isinstance(inputs, list | tuple) or len(arrays) != len(names):
        came = f"{len(arrays)} came" if isinstance(inputs, list | tuple) else "one array came"
        raise CnnlensError(f"the network has {len(names)} inputs ({shown}), and {came}; give one for each")
    return dict(zip(names, arrays, strict=True))


def _dtype(network: Graph, ref: Ref) -> np.dtype[Any]:
    """What the input layer wants: Keras gives its dtype by name, or by a policy's config."""
    dtype = network.calls_by_name[ref.call].layer.config.get("dtype")
    if isinstance(dtype, str) and dtype in ("bool", "uint8", "int8", "int16", "uint16", "int32", "int64", "float64"):
        return np.dtype(dtype)
    return np.dtype(np.float32)


def _first(sources: Iterator[tuple[str, int]], count: int) -> tuple[tuple[str, int], ...]:
    """As many of the sources as the first ``count`` examples come from."""
    found: list[tuple[str, int]] = []
    for name, number in sources:
        if count <= 0:
            break
        found.append((name, min(number, count)))
        count -= number
    return tuple(found)
