"""A model that lies in memory, standing where a file would stand.

What a conversion made and what a test wrote down go through the reader that reads files, so neither needs a way of its
own to a ``Network``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlens.files.arrays import StoredArray

__all__ = ["MemoryModel"]


@dataclass
class MemoryModel:
    """Holds a model in memory instead of in a file: a Keras config, and arrays by layer path and variable name.

    See ``cnnlens.files.ModelFile`` for what the attributes are.
    """

    config: dict[str, Any] | None
    arrays: Mapping[tuple[str, ...], Mapping[str, NDArray[Any]]]
    path: Path = Path("in-memory.keras")
    format: str = "memory"
    framework: str = "keras"
    keras_version: str | None = "3.10.0"
    notes: tuple[str, ...] = ()

    @property
    def weights(self) -> dict[tuple[str, ...], dict[str, StoredArray]]:
        return self._stored  # asked for once a layer

    @cached_property
    def _stored(self) -> dict[tuple[str, ...], dict[str, StoredArray]]:
        return {
            path: {name: _stored(array, "/".join((*path, name))) for name, array in arrays.items()}
            for path, arrays in self.arrays.items()
        }

    @property
    def unmatched(self) -> dict[str, StoredArray]:
        return {}

    @property
    def size(self) -> int:
        return sum(array.nbytes for arrays in self.arrays.values() for array in arrays.values())

    @property
    def sha256(self) -> str:
        digest = hashlib.sha256(json.dumps(self.config, sort_keys=True).encode())
        for arrays in self.arrays.values():
            for array in arrays.values():
                digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        return digest.hexdigest()


def _stored(array: NDArray[Any], place: str) -> StoredArray:
    return StoredArray(array.shape, array.dtype, array.dtype.name, place, array.view)
