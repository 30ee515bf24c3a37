"""JSON from strangers: bounded in size and depth before anything walks it.

Python's decoder recurses, and so does every later walk over the config; a text nested 100,000 deep must end as one line
here. The small typed views over decoded JSON live here too, since every reader of a config needs them.
"""

from __future__ import annotations

import json
import os
import re
from typing import Any, cast

from cnnlens.errors import FileRefusedError
from cnnlens.files.limits import LIMITS, human_bytes
from cnnlens.text import printable

__all__ = ["decode", "entries", "integer", "mapping", "text"]

# No size, seed or hash is so long, and Python takes for ever to write longer ones.
_ENDLESS = re.compile(rb"[\s:,\[]-?\d{41,}[\s,\]}]")
_NOT_JSON = "save the model again, or fetch the file again if it was downloaded"


def decode(path: str | os.PathLike[str], place: str, data: bytes | str, *, unique: bool = False) -> dict[str, Any]:
    """Decode the JSON object in ``data``.

    Args:
        path: The file, for messages.
        place: Where in it the text stands, for messages.
        data: UTF-8 bytes or text.
        unique: Whether a name that one object holds twice refuses the text: readers disagree which one counts.

    Raises:
        FileRefusedError: Larger or deeper than ``LIMITS``, not JSON, or not an object at the top.
    """
    if len(data) > LIMITS.json_bytes:
        raise FileRefusedError(
            path, place, f"a JSON text of {human_bytes(len(data))}, {human_bytes(LIMITS.json_bytes)} at most", _NOT_JSON
        )

    parts = (b"{", b"[", b",") if isinstance(data, bytes) else ("{", "[", ",")
    if sum(data.count(part) for part in parts) > LIMITS.json_values:  # pyright: ignore[reportArgumentType]
        raise FileRefusedError(path, place, f"a JSON text of more than {LIMITS.json_values:,} values", _NOT_JSON)
    if isinstance(data, bytes) and _ENDLESS.search(data):
        raise FileRefusedError(path, place, "an integer of more than 40 digits", _NOT_JSON)

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            left = dict.fromkeys(found, 1)
            twice = next(name for name, _ in pairs if left.pop(name, 0) == 0)
            raise FileRefusedError(path, place, f"it names '{printable(twice)}' twice", _NOT_JSON)
        return found

    try:
        # Left to itself, the decoder guesses UTF-16 and UTF-32 too, and takes halves of characters.
        whole = data if isinstance(data, str) else data.decode("utf-8-sig")
        decoded: object = json.loads(whole, object_pairs_hook=once if unique else None)
    except RecursionError:
        raise _too_deep(path, place) from None
    except ValueError as error:  # JSONDecodeError, UnicodeDecodeError, and integers of more than 4,300 digits
        raise FileRefusedError(path, place, f"not JSON ({_first_line(error)})", _NOT_JSON) from None
    if not isinstance(decoded, dict):
        raise FileRefusedError(path, place, f"expected a JSON object, found a {type(decoded).__name__}", _NOT_JSON)
    if "\\ud" in whole.lower():
        try:
            json.dumps(decoded, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise FileRefusedError(path, place, "a text in it holds half a character", _NOT_JSON) from None
        except RecursionError:
            raise _too_deep(path, place) from None
    if _deeper_than(cast(object, decoded), LIMITS.json_depth):
        raise _too_deep(path, place)
    return cast("dict[str, Any]", decoded)


def _too_deep(path: str | os.PathLike[str], place: str) -> FileRefusedError:
    return FileRefusedError(path, place, f"JSON nested more than {LIMITS.json_depth} levels deep", _NOT_JSON)


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0][:120]


def _deeper_than(value: object, limit: int) -> bool:
    level: list[object] = [value]
    for _ in range(limit):
        below: list[object] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(cast("dict[str, object]", item).values())
            elif isinstance(item, list):
                below.extend(cast("list[object]", item))
        if not below:
            return False
        level = below
    return True


def mapping(value: object) -> dict[str, Any]:
    """Give ``value`` where it is a JSON object, an empty one otherwise."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def entries(value: object) -> list[dict[str, Any]]:
    """Give the JSON objects in the list ``value``; empty where it is no list."""
    items = cast("list[object]", value) if isinstance(value, list) else []
    return [cast("dict[str, Any]", item) for item in items if isinstance(item, dict)]


def text(value: object, default: str = "") -> str:
    """Give ``value`` where it is a string."""
    return value if isinstance(value, str) else default


def integer(value: object) -> int | None:
    """Give ``value`` where it is an integer (and no bool)."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None
