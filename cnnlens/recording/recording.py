"""A Recording: the feature maps of one run on disk, with what produced them, opened lazily and safely.

A recording may come from another machine, another version or a stranger, and may have been cut short. So it is plain
data, every size is held against the files that are really there before memory is taken, and what is missing is said
in one line instead of being read as zeros.
"""

from __future__ import annotations

import io
import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from cnnlens.errors import CnnlensError, FileRefusedError, in_one_line
from cnnlens.page import Result
from cnnlens.recording.address import Address, place
from cnnlens.recording.format import LOG, METADATA, Description, read_log
from cnnlens.recording.tensor import Recorded
from cnnlens.text import nearest, printable

__all__ = ["Recorded", "Recording"]

_LONGEST_METADATA = 256 << 20
_AGAIN = "fetch it again, or record it again"


class Recording(Result, Mapping[str, "Recorded"], listing="recording.listing", name="record"):
    """Gives the feature maps of one run by tensor name, canonical ``(N, C, *spatial)``, read when they are sliced.

    Attributes:
        path: Its folder, a Zarr v3 group.
        count: How many inputs it was made for; ``recorded``: how many of them are there.
        info: What made it, as its ``cnnlens`` attribute has it: ``model``, ``inputs``, ``backend``, ``versions``,
            ``device``, ``precision``, ``batch``, ``weights``, ``notes``.

    >>> import cnnlens.sample
    >>> made = cnnlens.record(cnnlens.sample.MODEL, cnnlens.sample.IMAGES, backend="reference", out="run.zarr")
    >>> recording = cnnlens.Recording.open("run.zarr")
    >>> recording.count, recording.complete, recording.inputs
    (10, True, ('input_layer',))
    >>> recording.info["backend"], recording.info["precision"]
    ('reference', 'native')
    >>> recording.names[:2]
    ['0-t-shirt', '1-trouser']
    """

    def __init__(
        self,
        path: Path | Address,
        description: Description,
        log: list[dict[str, int]] | None,
        arrays: Mapping[str, Any],
    ) -> None:
        """Use ``Recording.open``."""
        self.path = path
        self.description = description
        self.info: dict[str, Any] = description.to_json()
        self._log = log
        # Recorded ones are made when asked for: they hold this object, and a recording in a temporary folder must end
        # with its last user, not with a garbage collection.
        self._arrays = {tensor: (name, metadata) for name, tensor, metadata in _listed(path, arrays)}
        missing = [tensor for tensor in description.tensors if tensor not in self._arrays]
        if missing:
            raise FileRefusedError(path, "", f"the array of '{printable(missing[0])}' is missing", _AGAIN)
        for tensor in self._arrays:
            self[tensor]  # refuses what cannot be read

    @classmethod
    @in_one_line()
    def open(cls, path: str | os.PathLike[str]) -> Recording:
        """Open a recording; no feature map is read yet.

        Raises:
            FileRefusedError: it is none, it is damaged, or a later cnnlens wrote it; one line.

        >>> import cnnlens.sample
        >>> made = cnnlens.record(cnnlens.sample.MODEL, cnnlens.sample.IMAGES, backend="reference", out="run.zarr")
        >>> cnnlens.Recording.open("run.zarr")
        <Recording run.zarr: 9 tensors of 10 inputs, reference on cpu>
        >>> cnnlens.Recording.open("nowhere.zarr")
        Traceback (most recent call last):
            ...
        cnnlens.errors.FileRefusedError: nowhere.zarr: does not exist; check the name
        """
        folder = place(path)
        if not _asked(folder, folder.exists):
            raise FileRefusedError(folder, "", "does not exist", "check the name")
        if not _asked(folder, folder.is_dir):
            raise FileRefusedError(folder, "", "is no folder, as a recording is", "name the folder that record made")
        log = _read_log(folder)
        if not _asked(folder, (folder / METADATA).exists):
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
        """Give the feature maps of a tensor by its name in the network; nothing is read before it is sliced.

        Raises:
            CnnlensError: it was not recorded; names the nearest.

        >>> import cnnlens.sample
        >>> images = cnnlens.sample.IMAGES
        >>> recording = cnnlens.record(cnnlens.sample.MODEL, images, backend="reference", layers=["conv2d"])
        >>> recording["conv2d"]
        <Recorded 'conv2d' (10, 32, 28, 28) float32>
        >>> recording["conv2d"][3, 0].shape  # one channel of one input
        (28, 28)
        >>> recording["dense"]
        Traceback (most recent call last):
            ...
        cnnlens.errors.CnnlensError: ...: 'dense' was not recorded; there are 'input_layer', 'conv2d'
        """
        if name not in self._arrays:
            raise CnnlensError(
                f"{printable(self.path, 300)}: '{printable(name)}' was not recorded; {nearest(name, self._arrays)}"
            )
        array_name, metadata = self._arrays[name]
        return Recorded(name, array_name, metadata, path=self.path, count=self.count, batch=self.batch, need=self._need)

    def __contains__(self, name: object) -> bool:
        return name in self._arrays

    def __iter__(self) -> Iterator[str]:
        return (tensor for tensor in self.description.tensors)

    def __len__(self) -> int:
        return len(self.description.tensors)

    def _ipython_key_completions_(self) -> list[str]:
        return list(self)

    @property
    def count(self) -> int:
        """Count the inputs that it was made for."""
        return self.description.count

    @property
    def batch(self) -> int:
        """Say how many inputs one chunk holds: the step in which reading is cheapest."""
        return self.description.batch

    @property
    def recorded(self) -> int:
        """Count the inputs that are recorded, from the first on."""
        if self._log is None:
            return self.count if self.description.complete else 0
        return min(len(self._log) * self.batch, self.count)

    @property
    def complete(self) -> bool:
        """Tell whether every input is recorded, so that all of it can be read."""
        return self.description.complete and self.recorded == self.count

    @property
    def inputs(self) -> tuple[str, ...]:
        """Name the tensors that are the network's inputs."""
        return tuple(self.description.inputs)

    @property
    def names(self) -> list[str]:
        """Give each input a name, from the file that it came from."""
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

    def altered(self, name: str) -> str | None:
        """Say why what is recorded of a tensor is not what the backend computed; None where it is.

        >>> import cnnlens.sample
        >>> images = cnnlens.sample.IMAGES
        >>> recording = cnnlens.record(cnnlens.sample.MODEL, images, reduce="mean", layers=["conv2d", "dense_1"])
        >>> recording["conv2d"].shape, recording.altered("conv2d")
        ((10, 32), "'conv2d' is reduced to mean")
        >>> recording["dense_1"].shape, recording.altered("dense_1")  # it has no axes to reduce
        ((10, 10), None)
        """
        info = self.description
        if name in info.inputs:
            return None
        if name in info.reduced:
            return f"'{printable(name)}' is reduced to {printable(info.reduction)}"
        stored = self[name].dtype.name
        return None if info.store is None or stored != info.store else f"'{printable(name)}' is stored as {stored}"

    @property
    def verifiable(self) -> bool:
        """Tell whether the checksums are there that were logged when it was written."""
        return self._log is not None

    def verify(self, progress: Callable[[int, int], object] | None = None) -> int:
        """Read every chunk and hold it against the checksum that was logged when it was written.

        Args:
            progress: Called with the batches looked at, and all.

        Returns:
            How many bytes were looked at.

        Raises:
            CnnlensError: a chunk is missing, cut or changed, or the recording has no log; says which.

        >>> import cnnlens.sample
        >>> images = cnnlens.sample.IMAGES
        >>> recording = cnnlens.record(cnnlens.sample.MODEL, images, backend="reference", layers=["dense_1"])
        >>> recording.verify()  # 10 inputs of 28 x 28 and 10 outputs of 10, float32
        31760
        """
        if self._log is None:
            raise FileRefusedError(self.path, LOG, "is missing, so nothing can be verified", _AGAIN)
        total = 0
        for batch, checksums in enumerate(self._log):
            for array in map(self.__getitem__, self._arrays):
                total += array.verify(batch, checksums.get(array.array_name))
            if progress is not None:
                progress(batch + 1, len(self._log))
        return total

    def _need(self, stop: int, name: str) -> None:
        """Refuse to read inputs that are not there yet."""
        if stop > self.recorded:
            raise CnnlensError(
                f"{printable(self.path, 300)}: '{printable(name)}': {self.recorded:,} of {self.count:,} inputs are "
                "recorded; give the same record command again, and it goes on from there"
            )


# -- metadata that anybody may have written --------------------------------------------------------------------------


def _listed(path: Path | Address, arrays: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for name, metadata in arrays.items():
        attributes: Any = metadata.get("attributes") if isinstance(metadata, dict) else None  # pyright: ignore
        tensor: Any = attributes.get("cnnlens_name") if isinstance(attributes, dict) else None  # pyright: ignore
        if isinstance(tensor, str):
            if name in ("", ".", "..") or "/" in name or "\\" in name or "\0" in name:
                raise FileRefusedError(path, METADATA, f"names an array '{printable(name)}'", _AGAIN)
            yield name, tensor, cast("dict[str, Any]", metadata)


def _arrays(folder: Path | Address, group: Mapping[str, Any], description: Description) -> Mapping[str, Any]:
    """Each array's metadata: out of the group's, or from the arrays' own files where somebody left it out there."""
    consolidated: Any = group.get("consolidated_metadata")
    inside: Any = consolidated.get("metadata") if isinstance(consolidated, dict) else None  # pyright: ignore
    if isinstance(inside, dict):
        return cast("dict[str, Any]", inside)
    found: dict[str, Any] = {}
    for entry in sorted(folder.iterdir(), key=str):
        if not entry.is_symlink() and (entry / METADATA).is_file():
            found[entry.name] = _read_json(folder, f"{entry.name}/{METADATA}")
            if len(found) > len(description.tensors) + 1000:
                raise FileRefusedError(folder, "", "holds far more arrays than it says", _AGAIN)
    return found


def _asked(folder: Path | Address, question: Callable[[], bool]) -> bool:
    try:
        return question()
    except OSError as error:  # a network's, or a library's that reaches an address
        raise FileRefusedError(folder, "", f"cannot be reached ({error.strerror})", "check the address") from None


def _read_json(folder: Path | Address, name: str) -> dict[str, Any]:
    found: Any = None
    try:
        status = (folder / name).lstat()
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


def _read_log(folder: Path | Address) -> tuple[Description | None, list[dict[str, int]], list[int]] | None:
    path = folder / LOG
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            raise FileRefusedError(folder, LOG, "is no plain file", _AGAIN)
        with io.BytesIO(path.read_bytes()) if isinstance(path, Address) else open(path, "rb") as stream:
            return read_log(stream)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise FileRefusedError(folder, LOG, f"cannot be read ({error.strerror})", _AGAIN) from None
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise FileRefusedError(folder, LOG, f"is damaged ({printable(error)})", _AGAIN) from None
