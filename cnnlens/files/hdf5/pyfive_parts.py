"""The parts of pyfive that the index is built on, some of them private, resolved once and in one place.

pyfive's public door builds objects that the index does not want, so its inner parser is used. Another version may
have renamed a part; that is said as such, and not taken for a damaged file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module, metadata
from typing import Any, NamedTuple

from cnnlens.errors import CnnlensError

__all__ = ["chunk_nodes", "header_at", "linked", "read_attributes", "root_address"]

Parse = Callable[[bytes, int], Any]

_NEEDED = "pyfive>=1.3,<1.4"
# Class by module, and what is used or replaced of it.
_PARTS = {
    ("pyfive.misc_low_level", "SuperBlock"): ("offset_to_dataobjects",),
    ("pyfive.dataobjects", "DataObjects"): (
        *("find_msg_type", "get_attributes", "is_dataset", "shape", "filter_pipeline", "_vlen_size_and_data"),
        *("_decode_link_msg", "_iter_link_from_link_info_msg", "_parse_attribute_msg"),
    ),
    ("pyfive.btree", "BTreeV1RawDataChunks"): (),
}


class _Parts(NamedTuple):
    SuperBlock: Any
    DataObjects: Any
    Chunks: Any


def root_address(window: Any) -> int | None:
    """The address of the file's root group; None where its addresses do not count from its start."""
    superblock: Any = _parts().SuperBlock(window, 0)
    return None if superblock._contents["base_address"] else int(superblock.offset_to_dataobjects)


def header_at(window: Any, address: int, texts: dict[int, Any]) -> Any:
    """The header of the object at ``address``; ``texts`` keeps the heaps of texts that several headers share."""
    return _parts().DataObjects(window, address, global_heaps=texts)


def linked(header: Any, message: Any, parse: Parse) -> Iterator[Any]:
    """The links that a link info message leads to, each understood by ``parse``."""
    header._decode_link_msg = parse
    yield from header._iter_link_from_link_info_msg(message)


def read_attributes(header: Any, parse: Callable[[bytes, int, Any], tuple[str, object]]) -> dict[str, object]:
    """An object's attributes, each understood by ``parse``, which is also given pyfive's reader of shared texts."""

    def with_texts(data: bytes, at: int) -> tuple[str, object]:
        return parse(data, at, header._vlen_size_and_data)

    header._parse_attribute_msg = with_texts
    found: dict[str, object] = header.get_attributes()
    return found


def chunk_nodes(window: Any, address: int, dimensions: int) -> Any:
    """The leaves of the tree of a dataset's chunks."""
    return _parts().Chunks(window, address, dimensions).all_nodes[0]


@cache
def _parts() -> _Parts:
    """pyfive's classes, imported here because that takes 50 ms, which only those pay who open HDF5.

    Raises:
        CnnlensError: pyfive is missing, or lacks a part.
    """
    found: list[Any] = []
    for (module, name), names in _PARTS.items():
        try:
            part: Any = getattr(import_module(module), name)
            for one in names:
                getattr(part, one)
        except (ImportError, AttributeError) as error:
            raise CnnlensError(
                f'reading HDF5 needs {_NEEDED}, and {_installed()} ({error}); install it with: pip install "{_NEEDED}"'
            ) from None
        found.append(part)
    return _Parts(*found)


def _installed() -> str:
    try:
        return f"pyfive {metadata.version('pyfive')} is installed"
    except metadata.PackageNotFoundError:
        return "none is installed"
