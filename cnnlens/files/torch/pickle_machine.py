"""The state of a pickle machine that executes nothing: its stack, its memo, the names it knows and its budget.

What each instruction does to it stands in :mod:`cnnlens.files.torch.pickle_steps`.
"""

from __future__ import annotations

import sys
from typing import Any, cast

from cnnlens.files.limits import LIMITS, human_bytes
from cnnlens.files.torch.pickle_values import EXPORT, Budget, Known, RefusedPickleError, StorageRef
from cnnlens.files.torch.pickle_vocabulary import CALLS, CONSTANTS
from cnnlens.text import printable

__all__ = ["Machine"]

# What protocol 2 calls modules of Python 3 by their names in Python 2.
_OLD_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg"}


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
        return int.from_bytes(self.take(count), "little")

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
        full = f"{_OLD_MODULES.get(module, module)}.{name}"
        found = self.known.get(full)
        if found is None:
            if full not in CALLS and full not in CONSTANTS:
                raise _refused(module, name)
            found = self.known[full] = Known(full)
        return found

    def call(self, function: Any, arguments: Any) -> Any:
        if not isinstance(function, Known) or not isinstance(arguments, tuple):
            raise RefusedPickleError("damaged pickle (a call of what is no callable)")
        stands_for = CALLS.get(function.name)
        if stands_for is None:
            raise RefusedPickleError(f"the pickle calls {function.name}, which state dicts never call", EXPORT)
        return stands_for(self.budget, cast("tuple[Any, ...]", arguments))


def _refused(module: str, name: str) -> RefusedPickleError:
    """A name outside the vocabulary: a class that the person knows as a model, or any callable."""
    shown = printable(f"{module}.{name}", 120)
    package = module.partition(".")[0]
    is_class = name.rpartition(".")[2][:1].isupper()
    if is_class and (package == "__main__" or package not in sys.stdlib_module_names):
        return RefusedPickleError(
            f"it holds an object of the class {shown} (a whole module?), which only that class's code can build; "
            "nothing in it was executed",
            EXPORT,
        )
    return RefusedPickleError(
        f"the pickle names the callable {shown}, which no state dict needs; nothing in it was executed", EXPORT
    )
