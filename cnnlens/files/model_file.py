"""What a model file holds, in the terms of its layers: the one thing that the rest of the package knows about files."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from cnnlens.errors import FileRefusedError
from cnnlens.files.arrays import StoredArray
from cnnlens.files.container import Archive, Member, open_file
from cnnlens.files.keras.resolution import LayerPath
from cnnlens.files.limits import human_bytes
from cnnlens.network.graph import Extra
from cnnlens.text import printable

__all__ = ["MemberSource", "ModelFile", "SourceFile", "check_crc", "other_entries"]

_SHOWN = 6  # entries that are named


class SourceFile:
    """Holds a file (or several that make up one model): its index has been read and its arrays have not.

    Attributes:
        path: The file or directory.
        format: What kind of file it is, for people: "keras", "torch state dict", "safetensors" ...
        framework: "keras" or "torch".
        keras_version: Version of Keras that wrote the file, where it says so.
        size: Bytes of the file, or of the files that make it up.
        notes: Remarks for the person, a line each.
    """

    def __init__(
        self,
        path: Path,
        format: str,
        framework: str,
        notes: Sequence[str],
        pieces: Sequence[tuple[str, memoryview]],
        verify: Sequence[Callable[[], None]] = (),
        keras_version: str | None = None,
        also: Callable[[], Sequence[Extra]] = tuple,
    ) -> None:
        self.path = path
        self.format = format
        self.framework = framework
        self.keras_version = keras_version
        self.notes = tuple(notes)
        self.size = sum(len(data) for _, data in pieces)
        self._pieces = pieces
        self._verify = verify
        self._sha256: str | None = None
        self._find_also = also

    @cached_property
    def also(self) -> tuple[Extra, ...]:
        """Find what it holds beside the network, when first asked for."""
        return tuple(self._find_also())

    @property
    def sha256(self) -> str:
        """Compute SHA-256 of the file in hexadecimal, when first asked for.

        Where several files make up the model (a directory, shards), it is the SHA-256 of a line for each of them in
        order of their names, as ``sha256sum`` prints it: digest, two spaces, name, line feed.
        """
        if self._sha256 is None:
            import hashlib

            if len(self._pieces) == 1:
                self._sha256 = hashlib.sha256(self._pieces[0][1]).hexdigest()
            else:
                lines = (f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(self._pieces))
                self._sha256 = hashlib.sha256("".join(lines).encode()).hexdigest()
        return self._sha256

    def verify(self) -> None:
        """Compare every checksum that the container holds, of whatever size; HDF5 alone holds none.

        Raises:
            FileRefusedError: Bytes that do not fit their checksum.
        """
        for check in self._verify:
            check()


class ModelFile(SourceFile):
    """Holds an opened model file of Keras. Its index has been read, its arrays have not.

    Attributes (besides those of :class:`SourceFile`):
        format: "keras", "keras directory", "hdf5" (legacy: whole models and weights) or "weights hdf5" (Keras 3's
            ``.weights.h5`` and sharded ``.weights.json``).
        config: The model's config as the file has it (``{"class_name", "config", …}``), or None.
        weights: Layer path to variable name to array. Paths go through nested models by layer names and into wrappers
            by Keras' attribute names: ``("encoder", "conv2d")``, ``("bidirectional", "forward_layer", "cell")``.
        unmatched: Arrays that no layer claims, by place. Optimizer state is left out.
        contradictions: Those of ``notes`` that say where the arrays are not those that the config implies.
    """

    def __init__(
        self,
        path: Path,
        format: str,
        keras_version: str | None,
        config: dict[str, Any] | None,
        weights: Mapping[LayerPath, dict[str, StoredArray]],
        unmatched: Mapping[str, StoredArray],
        notes: Sequence[str],
        pieces: Sequence[tuple[str, memoryview]],
        verify: Sequence[Callable[[], None]],
        contradictions: Sequence[str] = (),
        also: Callable[[], Sequence[Extra]] = tuple,
    ) -> None:
        super().__init__(path, format, "keras", notes, pieces, verify, keras_version, also)
        self.contradictions = tuple(contradictions)
        self.config = config
        self.weights = weights
        self.unmatched = unmatched

    def __repr__(self) -> str:
        return f"ModelFile({str(self.path)!r}, format={self.format!r}, layers={len(self.weights)})"


class MemberSource:
    """Says where a network came from whose file lies in an archive: all as the file does, but the archive's SHA-256.

    Args:
        source: What the file itself says; ``archive``: where it lies.
    """

    path: Path
    format: str
    framework: str
    keras_version: str | None
    size: int

    def __init__(self, source: Any, archive: Path) -> None:
        self._source = source
        self._archive = archive
        self._sha256 = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_source"], name)

    @property
    def sha256(self) -> str:
        """Compute SHA-256 of the archive in hexadecimal, when first asked for."""
        if not self._sha256:
            import hashlib

            self._sha256 = hashlib.sha256(open_file(self._archive)).hexdigest()
        return self._sha256


def check_crc(path: Path, member: Member) -> None:
    """Compare the bytes of a member with the CRC-32 that its archive gives for them.

    Raises:
        FileRefusedError: They differ.
    """
    if member.crc is not None and zlib.crc32(member.data) != member.crc:
        raise FileRefusedError(
            path,
            member.place,
            "its bytes do not fit their checksum: the file was damaged after it was written",
            "fetch the file again, or save the model again",
        )


def other_entries(members: Archive, is_other: Callable[[str], bool]) -> list[Extra]:
    """Say which entries an archive has beside a model's own, by their names and bytes; nothing where it has none."""
    found = [f"{printable(name, 60)} ({human_bytes(members.size(name))})" for name in members if is_other(name)]
    more = f" and {len(found) - _SHOWN:,} more" if len(found) > _SHOWN else ""
    return [Extra("entries", ", ".join(found[:_SHOWN]) + more)] if found else []
