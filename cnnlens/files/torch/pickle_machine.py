"""The state of a pickle machine that executes nothing: its stack, its memo, the names it knows and its budget.

What each instruction does to it stands in :mod:`cnnlens.files.torch.pickle_steps`.
"""

from __future__ import annotations

import re
import sys
from typing import Any, cast

from cnnlens.files.limits import LIMITS, human_bytes
from cnnlens.files.torch.pickle_values import EXPORT, Budget, Known, Record, RefusedPickleError, StorageRef
from cnnlens.files.torch.pickle_vocabulary import CALLS, CONSTANTS
from cnnlens.text import printable

__all__ = ["Machine"]

# What protocol 2 calls modules of Python 3 by their names in Python 2.
_OLD_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg"}
_NAME_CHARACTERS = 1_000
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")


class Machine:
    def __init__(self, data: memoryview, start: int, storages: dict[str, StorageRef]) -> None:
        self.data = data
        self.at = start
        self.end = min(len(data), start + LIMITS.pickle_bytes)
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.known: dict[str, Known] = {}
        self.storages = storages
        self.budget = Budget()

    def cut_off(self) -> RefusedPickleError:
        """Say what is wrong where the pickle goes on behind its end."""
        if self.end < len(self.data):
            return RefusedPickleError(f"a pickle of more than {human_bytes(LIMITS.pickle_bytes)}")
        return RefusedPickleError("truncated pickle")

    # -- reading -----------------------------------------------------------------------------------------------------

    def take(self, count: int) -> memoryview:
        stop = self.at + count
        if stop > self.end:
            raise self.cut_off()
        piece = self.data[self.at : stop]
        self.at = stop
        return piece

    def number(self, count: int) -> int:
        start, stop = self.at, self.at + count
        if stop > self.end:
            raise self.cut_off()
        self.at = stop
        return self.data[start] if count == 1 else int.from_bytes(self.data[start:stop], "little")

    def line(self, limit: int = 1000) -> str:
        """Read text up to the next line feed."""
        stop = min(self.end, self.at + limit)
        text = bytes(self.data[self.at : stop])
        length = text.find(b"\n")
        if length < 0:
            raise RefusedPickleError("damaged pickle (a line without end)")
        self.at += length + 1
        return text[:length].decode("utf-8", "surrogateescape")

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop_mark(self) -> list[Any]:
        items = self.stack
        self.stack = self.below.pop()
        return items

    # -- names and calls ---------------------------------------------------------------------------------------------

    def name(self, module: Any, name: Any) -> Known:
        if not (isinstance(module, str) and isinstance(name, str)):
            raise RefusedPickleError("damaged pickle (a name that is no text)")
        if len(module) + len(name) > _NAME_CHARACTERS:
            raise RefusedPickleError(f"a class or function with a name of {len(module) + len(name):,} characters")
        full = f"{_OLD_MODULES.get(module, module)}.{name}"
        return self.known.setdefault(full, Known(full))

    def call(self, function: Any, arguments: Any) -> Any:
        if not isinstance(function, Known) or not isinstance(arguments, tuple):
            raise RefusedPickleError("damaged pickle (a call of what is no callable)")
        given = cast("tuple[Any, ...]", arguments)
        stands_for = CALLS.get(function.name)
        if stands_for is not None:
            return stands_for(self.budget, given)
        if _is_member(function.name, given):
            return f"{function.name}({given[0]})"
        raise RefusedPickleError(
            f"the pickle calls {printable(function.name, 120)}, which no model needs; nothing in it was executed",
            EXPORT,
        )

    def make(self, kind: Any, arguments: Any) -> Any:
        """Stand for an object that ``object.__new__`` makes, which runs none of its class's code."""
        known = isinstance(kind, Known) and (kind.name in CALLS or kind.name in CONSTANTS)
        if known or not isinstance(kind, Known) or not isinstance(arguments, tuple):
            return self.call(kind, arguments)
        given = cast("tuple[Any, ...]", arguments)
        self.budget.spend_items(len(given))
        return Record(kind.name, given)


def _is_member(name: str, arguments: tuple[Any, ...]) -> bool:
    """Whether a call is how an enumeration writes its members: somebody's class, of one number or one word."""
    package, _, own = name.partition(".")
    foreign = package == "__main__" or package not in sys.stdlib_module_names
    if len(arguments) != 1 or not foreign or (package in ("torch", "numpy") and "." not in own):
        return False  # torch.Tensor(5) makes an array
    value = arguments[0]
    a_word = isinstance(value, str) and _WORD.fullmatch(value) is not None
    return own.rpartition(".")[2][:1].isupper() and (a_word or (type(value) is int and abs(value) < 1 << 63))
