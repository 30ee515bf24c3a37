"""A Recording: the feature maps of one run on disk, with what produced them, opened lazily and safely.

A recording may come from another machine, another version or a stranger, and may have been cut short. So it is plain
data, every size is held against the files that are really there before memory is taken, and what is missing is said
in one line instead of being read as zeros.
"""

from __future__ import annotations

import json
import math
import os
import stat
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cnnlens.chunk_writer import DTYPES
from cnnlens.errors import CnnlensError, FileRefusedError
from cnnlens.recording_format import LOG, METADATA, Description, chunk_name, read_log
from cnnlens.text import nearest, printable

__all__ = ["Recorded", "Recording"]

_LONGEST_METADATA = 256 << 20
_AGAIN = "fetch it again, or record it again"
_CODECS = ("bytes", "gzip", "zstd", "blosc", "crc32c", "transpose", "sharding_indexed")
_PIECE = 8 << 20


class Recording(Mapping[str, "Recorded"]):
    """The feature maps of one run. ``recording["conv2d"]`` is read when it is sliced.

    Attributes:
        path: Its folder, a Zarr v3 group.
        count: How many inputs it was made for; ``recorded``: how many of them are there.
        info: What made it, as its ``cnnlens`` attribute has it: ``model``, ``inputs``, ``backend``, ``versions``,
            ``device``, ``precision``, ``batch``, ``weights``, ``notes``.
    """

    def __init__(
        self, path: Path, description: Description, log: list[dict[str, int]] | None, arrays: Mapping[str, Any]
    ) -> None:
        """Use ``Recording.open``."""
        self.path = path
        self.description = description
        self.info: dict[str, Any] = description.to_json()
        self._log = log
        self._arrays = {
            str(tensor): Recorded(self, str(tensor), name, metadata) for name, tensor, metadata in _listed(path, arrays)
        }
        missing = [tensor for tensor in description.tensors if tensor not in self._arrays]
        if missing:
            raise FileRefusedError(path, "", f"the array of '{printable(missing[0])}' is missing", _AGAIN)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Recording:
        """Open a recording; no feature map is read yet.

        Raises:
            FileRefusedError: it is none, it is damaged, or a later cnnlens wrote it; one line.
        """
        folder = Path(path)
        if not folder.exists():
            raise FileRefusedError(folder, "", "does not exist", "check the name")
        if not folder.is_dir():
            raise FileRefusedError(folder, "", "is no folder, as a recording is", "name the folder that record made")
        log = _read_log(folder)
        if not (folder / METADATA).exists():
            if log is not None:
                raise FileRefusedError(
                    folder, "", "was cut short before its first batch was recorded", "record it again"
                )
            raise FileRefusedError(folder, "", "is no recording", "name the folder that record made")
        group = _read_json(folder, METADATA)
        attributes = group.get("attributes")
        if group.get("zarr_format") != 3 or group.get("node_type") != "group" or not isinstance(attributes, dict):
            raise FileRefusedError(folder, METADATA, "is no Zarr v3 group", "name the folder that record made")
        try:
            description = Description.from_json(cast("dict[str, Any]", attributes).get("cnnlens"))
        except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
            raise FileRefusedError(
                folder, METADATA, f"does not describe a recording ({printable(error)})", _AGAIN
            ) from None
        return cls(folder, description, None if log is None else log[1], _arrays(folder, group, description))

    # -- what is in it -----------------------------------------------------------------------------------------------

    def __getitem__(self, name: str) -> Recorded:
        """The feature maps of a tensor by its name in the network.

        Raises:
            CnnlensError: it was not recorded; names the nearest.
        """
        if name not in self._arrays:
            raise CnnlensError(
                f"{printable(self.path, 300)}: '{printable(name)}' was not recorded; {nearest(name, self._arrays)}"
            )
        return self._arrays[name]

    def __contains__(self, name: object) -> bool:
        return name in self._arrays

    def __iter__(self) -> Iterator[str]:
        return (tensor for tensor in self.description.tensors)

    def __len__(self) -> int:
        return len(self.description.tensors)

    @property
    def count(self) -> int:
        return self.description.count

    @property
    def batch(self) -> int:
        """How many inputs one chunk holds: the step in which reading is cheapest."""
        return self.description.batch

    @property
    def recorded(self) -> int:
        """How many of the inputs are there, from the first on."""
        if self._log is None:
            return self.count if self.description.complete else 0
        return min(len(self._log) * self.batch, self.count)

    @property
    def complete(self) -> bool:
        return self.description.complete and self.recorded == self.count

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the tensors that are the network's inputs."""
        return tuple(self.description.inputs)

    @property
    def names(self) -> list[str]:
        """A name for each input, from the file that it came from."""
        first = next(iter(self.description.sources.values()), ())
        found = [
            name if count == 1 else f"{name} {index}"
            for name, count in first
            for index in range(min(count, self.count))
        ]
        return found[: self.count] + [str(index) for index in range(len(found), self.count)]

    def __repr__(self) -> str:
        info = self.description
        whole = f"{self.count:,}" if self.complete else f"{self.recorded:,} of {self.count:,}"
        return (
            f"<Recording {printable(self.path, 300)}: {len(self)} tensors of {whole} inputs, "
            f"{printable(info.backend)} on {printable(info.device)}>"
        )

    def verify(self, progress: Callable[[int, int], object] | None = None) -> int:
        """Read every chunk and hold it against the checksum that was logged when it was written.

        Args:
            progress: Called with the batches looked at, and all.

        Returns:
            How many bytes were looked at.

        Raises:
            CnnlensError: a chunk is missing, cut or changed, or the recording has no log; says which.
        """
        if self._log is None:
            raise FileRefusedError(self.path, LOG, "is missing, so nothing can be verified", _AGAIN)
        total = 0
        for batch, checksums in enumerate(self._log):
            for array in self._arrays.values():
                total += array.verify(batch, checksums.get(array.array_name))
            if progress is not None:
                progress(batch + 1, len(self._log))
        return total

    def need(self, stop: int, name: str) -> None:
        """Refuse to read inputs that are not there yet."""
        if stop > self.recorded:
            raise CnnlensError(
                f"{printable(self.path, 300)}: '{printable(name)}': {self.recorded:,} of {self.count:,} inputs are "
                "recorded; give the same record command again, and it goes on from there"
            )


class Recorded:
    """One tensor of a recording: like an array in canonical axes ``(N, C, *spatial)``, read when it is sliced.

    Attributes:
        name: The tensor; ``array_name``: its array in the Zarr group.
        shape, dtype: As the finished recording has them; ``shape[0]`` counts the inputs.
    """

    def __init__(self, recording: Recording, tensor: str, array_name: str, metadata: Mapping[str, Any]) -> None:
        self._recording = recording
        self.name = tensor
        self.array_name = array_name
        where = f"{array_name}/{METADATA}"
        try:
            self.shape, self.dtype, self._plain_key = _understood(metadata)
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise FileRefusedError(
                recording.path, where, f"is no array that can be read ({printable(error)})", _AGAIN
            ) from None
        if not self.shape or self.shape[0] != recording.count:
            raise FileRefusedError(
                recording.path, where, f"has the shape {self.shape} for {recording.count} inputs", _AGAIN
            )
        chunk = _chunk_shape(metadata)
        if self._plain_key is not None and chunk != (recording.batch, *self.shape[1:]):
            self._plain_key = None  # somebody chunked it otherwise
        self._row = math.prod(self.shape[1:]) * self.dtype.itemsize

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"<Recorded '{printable(self.name)}' {self.shape} {self.dtype.name}>"

    def __getitem__(self, index: Any) -> NDArray[Any]:
        """As NumPy's, with what stands in front of the first comma deciding which inputs are read."""
        first, rest = (index[0], index[1:]) if isinstance(index, tuple) and index else (index, ())
        if first is Ellipsis or first is None or (isinstance(index, tuple) and not index):
            return self._read(0, len(self))[index]
        if isinstance(first, slice):
            start, stop, step = first.indices(len(self))
            chosen = range(start, stop, step)
            if not len(chosen):
                return np.empty((0, *self.shape[1:]), self.dtype)[(slice(None), *rest)]
            low, high = min(chosen[0], chosen[-1]), max(chosen[0], chosen[-1])
            rows = self._read(low, high + 1)
            return (rows if step == 1 else rows[:: abs(step)][:: -1 if step < 0 else 1])[(slice(None), *rest)]
        if isinstance(first, int | np.integer):
            one = int(first) + (len(self) if first < 0 else 0)
            if not 0 <= one < len(self):
                raise IndexError(f"input {first} of {len(self)}")
            return self._read(one, one + 1)[(0, *rest)]
        numbers = np.arange(len(self))[first].ravel()
        if numbers.size == 0:
            return np.empty((0, *self.shape[1:]), self.dtype)[(slice(None), *rest)]
        unique, back = np.unique(numbers, return_inverse=True)
        rows = np.concatenate([self._read(int(one), int(one) + 1) for one in unique])
        return rows[back][(slice(None), *rest)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("a recording is on disk, so an array of it is always a copy")
        array = self._read(0, len(self))
        return array if dtype is None else array.astype(dtype, copy=False)

    # -- reading -----------------------------------------------------------------------------------------------------

    def _read(self, start: int, stop: int) -> NDArray[Any]:
        self._recording.need(stop, self.name)
        if self._plain_key is None:
            return self._read_by_zarr(start, stop)
        batch = self._recording.batch
        pieces = [
            (number, max(start - number * batch, 0), min(stop - number * batch, batch))
            for number in range(start // batch, -(-stop // batch))
        ]
        handles: list[int] = []
        try:
            # All of them are there, and whole, before memory is taken for what they are said to hold.
            if len(pieces) <= 64:
                handles += [self._opened(number) for number, _, _ in pieces]
            else:
                for number, _, _ in pieces:
                    os.close(self._opened(number))
            space = np.empty((stop - start, *self.shape[1:]), self.dtype)
            flat = space.reshape(-1).view(np.uint8).data if space.size else memoryview(b"")
            done = 0
            for position, (number, low, high) in enumerate(pieces):
                handle = handles[position] if handles else self._opened(number)
                try:
                    wanted = (high - low) * self._row
                    self._fill(handle, number, low * self._row, flat[done : done + wanted])
                    done += wanted
                finally:
                    if not handles:
                        os.close(handle)
        finally:
            for handle in handles:
                os.close(handle)
        return space

    def _fill(self, handle: int, number: int, offset: int, space: memoryview) -> None:
        while space:
            count = os.preadv(handle, [space], offset)
            if count == 0:
                raise self._damaged(number, "it became shorter while it was read")
            space, offset = space[count:], offset + count

    def _opened(self, number: int) -> int:
        """A descriptor of a chunk that is a plain file of the right size."""
        folder = self._recording.path / self.array_name
        path = folder / (self._plain_key or chunk_name)(number, self.ndim)
        try:
            # A link could lead to a foreign file, and a pipe would never end.
            if folder.is_symlink() or not stat.S_ISREG(os.lstat(path).st_mode):
                raise self._damaged(number, "it is no plain file")
            handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
        except FileNotFoundError:
            raise self._damaged(number, "it is missing") from None
        except OSError as error:
            raise self._damaged(number, f"it cannot be read ({error.strerror})") from None
        size, wanted = os.fstat(handle).st_size, self._recording.batch * self._row
        if size != wanted:
            os.close(handle)
            raise self._damaged(number, f"it holds {size:,} bytes instead of {wanted:,}")
        return handle

    def _damaged(self, number: int, reason: str) -> FileRefusedError:
        batch = self._recording.batch
        inputs = f"inputs {number * batch} to {min((number + 1) * batch, len(self)) - 1}"
        return FileRefusedError(self._recording.path, f"'{printable(self.name)}', chunk of {inputs}", reason, _AGAIN)

    def verify(self, number: int, crc32: int | None) -> int:
        """Hold one chunk against its checksum; see ``Recording.verify``."""
        if self._plain_key is None:
            raise self._damaged(number, "it was written by another program, so its checksum cannot be held against it")
        handle = self._opened(number)
        try:
            crc, offset = 0, 0
            while piece := os.pread(handle, _PIECE, offset):
                crc, offset = zlib.crc32(piece, crc), offset + len(piece)
        finally:
            os.close(handle)
        if crc != crc32:
            raise self._damaged(number, "its bytes are not those that were written")
        return offset

    def _read_by_zarr(self, start: int, stop: int) -> NDArray[Any]:
        import zarr  # here, because what cnnlens writes is read without it

        try:
            store = zarr.storage.LocalStore(self._recording.path, read_only=True)
            array: Any = zarr.open_array(store, path=self.array_name, mode="r", zarr_format=3)
            if array.nchunks_initialized != array.nchunks:
                raise FileRefusedError(
                    self._recording.path, f"'{printable(self.name)}'", "chunks of it are missing", _AGAIN
                )
            return np.asarray(array[start:stop])
        except CnnlensError:
            raise
        except Exception as error:  # whatever the library or a codec of it makes of damaged bytes
            raise FileRefusedError(
                self._recording.path, f"'{printable(self.name)}'", f"cannot be read ({printable(error)})", _AGAIN
            ) from error


# -- metadata that anybody may have written --------------------------------------------------------------------------


def _listed(path: Path, arrays: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for name, metadata in arrays.items():
        attributes = metadata.get("attributes") if isinstance(metadata, dict) else None
        tensor = cast("dict[str, Any]", attributes).get("cnnlens_name") if isinstance(attributes, dict) else None
        if isinstance(tensor, str):
            if name in ("", ".", "..") or "/" in name or "\\" in name or "\0" in name:
                raise FileRefusedError(path, METADATA, f"names an array '{printable(name)}'", _AGAIN)
            yield name, tensor, cast("dict[str, Any]", metadata)


def _arrays(folder: Path, group: Mapping[str, Any], description: Description) -> Mapping[str, Any]:
    """Each array's metadata: out of the group's, or from the arrays' own files where somebody left it out there."""
    consolidated: Any = group.get("consolidated_metadata")
    inside: Any = consolidated.get("metadata") if isinstance(consolidated, dict) else None  # pyright: ignore
    if isinstance(inside, dict):
        return cast("dict[str, Any]", inside)
    found: dict[str, Any] = {}
    for entry in sorted(folder.iterdir()):
        if not entry.is_symlink() and (entry / METADATA).is_file():
            found[entry.name] = _read_json(folder, f"{entry.name}/{METADATA}")
            if len(found) > len(description.tensors) + 1000:
                raise FileRefusedError(folder, "", "holds far more arrays than it says", _AGAIN)
    return found


def _understood(metadata: Mapping[str, Any]) -> tuple[tuple[int, ...], np.dtype[Any], Callable[[int, int], str] | None]:
    """Shape, dtype, and the names of its chunk files where they are plain ones; None where a library must read them."""
    if metadata.get("zarr_format") != 3 or metadata.get("node_type") != "array":
        raise ValueError("no Zarr v3 array")
    shape = metadata["shape"]
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in cast("list[Any]", shape)):
        raise ValueError(f"shape {shape!r}")
    sizes = tuple(cast("list[int]", shape))
    if len(sizes) > 32 or math.prod(sizes) >= 1 << 60:
        raise ValueError(f"shape {shape!r}")
    dtype = metadata["data_type"]
    if dtype not in DTYPES:
        raise ValueError(f"data type {dtype!r}")
    codecs: list[Any] = [one["name"] if isinstance(one, dict) else one for one in metadata["codecs"]]  # pyright: ignore
    strange = [one for one in codecs if one not in _CODECS]
    if strange:
        raise ValueError(f"codec {strange[0]!r}; known are {', '.join(_CODECS)}")
    plain = codecs == ["bytes"] and _is_little(metadata["codecs"][0], np.dtype(dtype))
    separator = _separator(metadata["chunk_key_encoding"])
    if metadata["chunk_grid"]["name"] != "regular" or metadata.get("storage_transformers"):
        raise ValueError("chunks that are not regular")
    if not plain or separator is None:
        return sizes, np.dtype(dtype), None
    return sizes, np.dtype(dtype).newbyteorder("<"), chunk_name if separator == "." else _nested_chunk_name


def _nested_chunk_name(number: int, rank: int) -> str:
    return chunk_name(number, rank).replace(".", "/")


def _is_little(codec: Any, dtype: np.dtype[Any]) -> bool:
    endian = codec.get("configuration", {}).get("endian") if isinstance(codec, dict) else None  # pyright: ignore
    return endian == "little" or (dtype.itemsize == 1 and endian is None)


def _separator(encoding: Any) -> str | None:
    if encoding["name"] != "default":
        return None
    separator = encoding.get("configuration", {}).get("separator", "/")
    return separator if separator in ("/", ".") else None


def _chunk_shape(metadata: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(metadata["chunk_grid"]["configuration"]["chunk_shape"])


def _read_json(folder: Path, name: str) -> dict[str, Any]:
    found: Any = None
    try:
        status = os.lstat(folder / name)
        if not stat.S_ISREG(status.st_mode):
            raise FileRefusedError(folder, name, "is no plain file", _AGAIN)
        if status.st_size > _LONGEST_METADATA:
            raise FileRefusedError(folder, name, f"is {status.st_size:,} bytes long", _AGAIN)
        found = json.loads((folder / name).read_bytes())
    except OSError as error:
        raise FileRefusedError(folder, name, f"cannot be read ({error.strerror})", _AGAIN) from None
    except (ValueError, RecursionError) as error:
        raise FileRefusedError(
            folder, name, f"is damaged ({printable(type(error).__name__)}: {printable(error)})", _AGAIN
        ) from None
    if not isinstance(found, dict):
        raise FileRefusedError(folder, name, "is no JSON object", _AGAIN)
    return cast("dict[str, Any]", found)


def _read_log(folder: Path) -> tuple[Description | None, list[dict[str, int]], int] | None:
    path = folder / LOG
    try:
        status = os.lstat(path)
        if not stat.S_ISREG(status.st_mode):
            raise FileRefusedError(folder, LOG, "is no plain file", _AGAIN)
        return read_log(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise FileRefusedError(folder, LOG, f"cannot be read ({error.strerror})", _AGAIN) from None
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise FileRefusedError(folder, LOG, f"is damaged ({printable(error)})", _AGAIN) from None
