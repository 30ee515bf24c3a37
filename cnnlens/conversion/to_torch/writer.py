"""The text of the generated file as it grows: classes with their members and statements, helpers, comments.

Rules for layers say what a member is and which expression gives a result; here that becomes lines, each comment is
said in full once, and the place of every Keras tensor in the file is kept, so that a run can be watched there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cnnlens.conversion.to_torch.helpers import HELPERS
from cnnlens.conversion.to_torch.lines import broken, wrapped
from cnnlens.conversion.to_torch.names import FILE_NAMES, MODULE_ATTRIBUTES, Names
from cnnlens.conversion.to_torch.value import Value
from cnnlens.conversion.to_torch.weights import Entry

__all__ = ["ClassWriter", "FileWriter", "Mark"]

# Names of variables that come and go; a tensor that lives long is named after its layer.
POOL = ("x", "y", "z", "u", "v", "w")


@dataclass(frozen=True)
class Mark:
    """Says where a Keras tensor stands in the file.

    Attributes:
        names: Its names, in the order in which the line is run (a nested model may be used several times).
        line: The line behind which ``value.text`` holds it, counted from 1.
        value: The variable, and how it holds the tensor.
    """

    names: tuple[str, ...]
    line: int
    value: Value


@dataclass
class Statement:
    """One statement of a ``forward``: its comments, and the tensors that its variable then holds."""

    text: str
    comments: list[str]
    marks: list[tuple[tuple[str, ...], Value]] = field(default_factory=list[tuple[tuple[str, ...], Value]])


@dataclass
class FileWriter:
    """Holds what the classes of one file share: names, helpers, arrays, comments that were made."""

    names: Names = field(default_factory=lambda: Names(FILE_NAMES | set(HELPERS)))
    helpers: dict[str, None] = field(default_factory=dict[str, None])
    classes: list[ClassWriter] = field(default_factory=list["ClassWriter"])
    state: dict[str, Entry] = field(default_factory=dict[str, Entry])
    modules: dict[str, str] = field(default_factory=dict[str, str])
    said: set[str] = field(default_factory=set[str])

    def helper(self, name: str) -> str:
        """Name a helper of ``helpers.py``, which the file then holds."""
        for needed in HELPERS[name].needs:
            self.helper(needed)
        self.helpers[name] = None
        return name


class ClassWriter:
    """Writes one class: members in ``__init__``, statements in ``forward``.

    Args:
        prefix: In front of its arrays' keys and of its modules' paths, such as ``inner.``.
    """

    def __init__(self, file: FileWriter, name: str, prefix: str, about: str) -> None:
        self.file = file
        self.name = name
        self.prefix = prefix
        self.about = about
        self.attributes = Names(MODULE_ATTRIBUTES)
        self.members: list[tuple[list[str], str]] = []
        self.statements: list[Statement] = []
        self.parameters: list[str] = []
        self.returned = ""
        self.many = False
        self.locals = Names({"self", *FILE_NAMES, *HELPERS, *POOL})
        self._known: dict[str, str] = {}

    # -- members -----------------------------------------------------------------------------------------------------

    def attribute(self, key: str, wanted: str) -> tuple[str, bool]:
        """Choose the attribute for ``key``, and say whether it is new."""
        if key in self._known:
            return self._known[key], False
        self._known[key] = self.attributes.fresh(wanted)
        return self._known[key], True

    def has(self, key: str) -> bool:
        """Tell whether there is an attribute for ``key``."""
        return key in self._known

    def member(self, name: str, text: str, comments: Sequence[str], arrays: Mapping[str, Entry]) -> None:
        """Write ``self.name = text``, with its arrays under ``name.key`` (an empty key: the member is an array)."""
        self.members.append((list(comments), f"self.{name} = {text}"))
        self.arrays(name, arrays)

    def buffer(self, name: str, text: str, comments: Sequence[str], arrays: Mapping[str, Entry]) -> None:
        """Write an array that is no parameter."""
        self.members.append((list(comments), f'self.register_buffer("{name}", {text})'))
        self.arrays(name, arrays)

    def after_member(self, text: str, comments: Sequence[str] = ()) -> None:
        """Write a further statement of ``__init__``."""
        self.members.append((list(comments), text))

    def arrays(self, name: str, arrays: Mapping[str, Entry]) -> None:
        for key, entry in arrays.items():
            self.file.state[f"{self.prefix}{name}.{key}" if key else f"{self.prefix}{name}"] = entry

    # -- text --------------------------------------------------------------------------------------------------------

    def body(self) -> tuple[list[str], list[tuple[int, tuple[tuple[str, ...], Value]]]]:
        """Write the lines behind the class's first, and say for each mark how far behind it stands."""
        lines: list[str] = []
        if self.members:
            lines += ["    def __init__(self) -> None:", "        super().__init__()"]
            for comments, text in self.members:
                lines += [line for one in comments for line in wrapped(one, 8)]
                lines += broken(text, 8)
            lines.append("")
        result = "torch.Tensor" if not self.many else "tuple[torch.Tensor, ...]"
        lines += self._head(result)
        marks: list[tuple[int, tuple[tuple[str, ...], Value]]] = []
        for statement in self.statements:
            lines += [line for one in statement.comments for line in wrapped(one, 8)]
            if statement.text:
                lines += broken(statement.text, 8)
            marks += [(len(lines), mark) for mark in statement.marks]
        lines += broken(f"return {self.returned}", 8)
        return lines, marks

    def _head(self, result: str) -> list[str]:
        parameters = ["self", *(f"{name}: torch.Tensor" for name in self.parameters)]
        one = f"    def forward({', '.join(parameters)}) -> {result}:"
        if len(one) <= 88:
            return [one]
        return ["    def forward(", *(f"        {name}," for name in parameters), f"    ) -> {result}:"]
