"""The language that TorchScript archives keep their code in, read as data: nothing of it is ever compiled or run.

It looks like Python and is far less: classes and functions, assignments, calls, ``if`` and ``for``. Python's own parser
would do for what is honest; of a stranger's text it takes gigabytes and may end the process where brackets are nested.
This one reads a function when it is asked for, counts what it reads, and gives up at a depth.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

__all__ = ["Code", "Expression", "Function", "Reading", "Statement", "UnreadableCodeError"]

_TOKEN = re.compile(
    r"[ \t]*(?:(?P<name>[A-Za-z_]\w*)|(?P<number>-?(?:\d+\.?\d*(?:[eE][+-]?\d+)?|inf|nan)\b\.?)"
    r"|\"(?P<text>(?:[^\"\\\n]|\\.)*)\"|(?P<mark>->|[()\[\]{},.:=])|(?P<end>#.*|$))"
)
_HEADER = re.compile(r"^(?:class (\w+)\b.*|( {0,2})def (\w+)\()", re.MULTILINE)
_SETTING = re.compile(r"^  (\w+) : Final\[[^\n]{1,200}\] = ([^\n]{1,500})$", re.MULTILINE)
_NEWLINES = {"n": "\n", "t": "\t", "r": "\r"}
_OPENS, _CLOSES = "([{", ")]}"
_DEPTH = 60
"""Brackets in brackets, and blocks in blocks: torch's own code has 45."""

Expression = tuple[Any, ...]
"""``("constant", value)``, ``("name", name)``, ``("attribute", of, name)``, ``("item", of, index)``,
``("list" or "tuple", expressions)`` or ``("call", function, expressions, {name: expression})``."""

Statement = tuple[Any, ...]
"""``("assign", names, expression)``, ``("return", expression)``, ``("if", expression, body, otherwise)``,
``("for", name, expression, body)``, ``("set", attribute, expression)`` or ``("do", expression)``."""

Token = tuple[str, str]


class UnreadableCodeError(Exception):
    """Is raised for code that is not of this language, or more than is read; says what."""


class Reading:
    """Counts what is read of a program's code, all of its files together.

    Args:
        tokens: How many there may be.
    """

    def __init__(self, tokens: int) -> None:
        self.left = tokens

    def lines(self, text: str) -> Iterator[tuple[int, list[Token]]]:
        """Give the tokens of each line with its indentation; what is in brackets is one line."""
        tokens: list[Token] = []
        depth = indent = 0
        for line in text.split("\n"):
            if not depth:
                tokens, indent = [], len(line) - len(line.lstrip(" "))
            at = 0
            while at < len(line):
                match = _TOKEN.match(line, at)
                kind = None if match is None else match.lastgroup
                if match is None or kind is None:
                    raise UnreadableCodeError("code that is none of TorchScript's")
                at = match.end()
                if kind == "end":
                    break
                token = match[kind]
                if kind == "mark":
                    depth += (token in _OPENS) - (token in _CLOSES)
                tokens.append((kind, token))
                self.left -= 1
                if not 0 <= depth <= _DEPTH or self.left < 0:
                    much = f"brackets nested {depth} deep" if self.left >= 0 else "more code than is read"
                    raise UnreadableCodeError(much if depth >= 0 else "brackets that close nothing")
            if tokens and not depth:
                yield indent, tokens
                tokens = []
        if depth:
            raise UnreadableCodeError("a bracket that is never closed")


@dataclass
class Function:
    """Holds a function's code, parsed when it is asked for.

    Attributes:
        text: Its lines, its head among them.
        reading: What counts its tokens.
    """

    text: str
    reading: Reading

    @cached_property
    def parsed(self) -> tuple[list[tuple[str, Expression | None]], list[Statement]]:
        """Give its parameters with their defaults, and its statements.

        Raises:
            UnreadableCodeError: it is not of this language, or too much.
        """
        lines = list(self.reading.lines(self.text))
        if not lines:
            raise UnreadableCodeError("a function without code")
        head = _Line(lines[0][1])
        for word in ("def", None, "("):
            head.take(word)
        parameters: list[tuple[str, Expression | None]] = []
        while not head.comes(")"):
            name, default = head.take(), None
            if head.comes(":"):
                head.take()
                head.skip_type()
            if head.comes("="):
                head.take()
                default = head.expression()
            parameters.append((name, default))
            if not head.comes(")"):
                head.take(",")
        block = _Blocks(lines)
        body = block.block(lines[0][0], 0)
        return parameters, body


class Code:
    """Finds the functions, classes and settings in one file of code.

    Attributes:
        functions: Those outside of classes by name; ``methods``: those of each class, by its name and theirs.
        settings: Each class's constants, where they are numbers, texts or lists of them.
    """

    def __init__(self, text: str, reading: Reading) -> None:
        self.functions: dict[str, Function] = {}
        self.methods: dict[tuple[str, str], Function] = {}
        self._settings: dict[str, str] = {}
        self._reading = reading
        heads = list(_HEADER.finditer(text))
        ends = [*(head.start() for head in heads), len(text)][1:]
        owner = ""
        for head, end in zip(heads, ends, strict=True):
            piece = text[head.start() : end]
            if head[1]:
                owner = head[1]
                self._settings[owner] = piece
            elif head[2] and owner:
                self.methods[owner, head[3]] = Function(piece, reading)
            else:
                self.functions[head[3]] = Function(piece, reading)

    def settings(self, name: str) -> dict[str, Any]:
        """Give the constants that a class has."""
        found: dict[str, Any] = {}
        for match in _SETTING.finditer(self._settings.get(name, "")):
            try:
                lines = list(self._reading.lines(match[2]))
                found[match[1]] = _constant(_Line(lines[0][1]).expression())
            except (UnreadableCodeError, LookupError):
                continue
        return found


def _constant(expression: Expression) -> Any:
    if expression[0] in ("list", "tuple"):
        return [_constant(part) for part in expression[1]]
    if expression[0] != "constant":
        raise LookupError
    return expression[1]


class _Blocks:
    """The lines of a function as nested blocks of statements."""

    def __init__(self, lines: list[tuple[int, list[Token]]]) -> None:
        self._lines = lines
        self._at = 1

    def block(self, above: int, depth: int) -> list[Statement]:
        """The statements that are indented by more than the line above them."""
        if depth > _DEPTH:
            raise UnreadableCodeError(f"blocks nested more than {_DEPTH} deep")
        found: list[Statement] = []
        while self._at < len(self._lines) and self._lines[self._at][0] > above:
            indent, tokens = self._lines[self._at]
            self._at += 1
            word = tokens[0][1] if tokens[0][0] == "name" else ""
            line = _Line(tokens)
            if word == "if":
                line.take()
                condition = line.expression()
                body = self.block(indent, depth + 1)
                found.append(("if", condition, body, self._otherwise(indent, depth)))
            elif word == "for":
                line.take()
                name = line.take()
                line.take("in")
                found.append(("for", name, line.expression(), self.block(indent, depth + 1)))
            elif word == "return":
                line.take()
                found.append(("return", line.several()))
            elif word in ("while", "with", "else", "elif", "import", "raise", "assert"):
                raise UnreadableCodeError(f"the statement '{word}'")
            elif word != "pass":
                found.append(line.assignment())
        return found

    def _otherwise(self, indent: int, depth: int) -> list[Statement]:
        if self._at < len(self._lines):
            margin, tokens = self._lines[self._at]
            if margin == indent and tokens[0] == ("name", "else"):
                self._at += 1
                return self.block(indent, depth + 1)
        return []


_END: Token = ("end", "")


class _Line:
    """One line's tokens, read from left to right; its depth is bounded where they are counted."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._at = 0

    def _next(self) -> Token:
        return self._tokens[self._at] if self._at < len(self._tokens) else _END

    def comes(self, mark: str) -> bool:
        return self._next() == ("mark", mark)

    def take(self, wanted: str | None = None) -> str:
        kind, token = self._next()
        if kind == "end" or (wanted is not None and token != wanted):
            raise UnreadableCodeError("code that is none of TorchScript's")
        self._at += 1
        return token

    def skip_type(self) -> None:
        """Pass over a type: up to what follows it outside of brackets."""
        depth = 0
        while self._next() != _END and (depth or self._next()[1] not in (",", ")", "=")):
            kind, token = self._next()
            depth += (kind == "mark" and token in _OPENS) - (kind == "mark" and token in _CLOSES)
            self._at += 1

    def several(self) -> Expression:
        """One expression, or a tuple where commas follow."""
        first = self.expression() if self._next() != _END else ("constant", None)
        if not self.comes(","):
            return first
        parts = [first]
        while self.comes(","):
            self.take()
            if self._next() != _END and not self.comes("="):
                parts.append(self.expression())
        return ("tuple", parts)

    def assignment(self) -> Statement:
        target = self.several()
        if self.comes(":"):
            self.take()
            self.skip_type()
        if not self.comes("="):
            return ("do", target)
        self.take()
        names = target[1] if target[0] == "tuple" else [target]
        if target[0] == "attribute":  # torch 1.4 counts a batch norm's batches so, in a branch for training
            return ("set", target[2], self.several())
        if any(name[0] != "name" for name in names):
            raise UnreadableCodeError("an assignment to what is no name")
        return ("assign", [name[1] for name in names], self.several())

    def expression(self) -> Expression:
        found: Expression = self._atom()
        while True:
            if self.comes("."):
                self.take()
                found = ("attribute", found, self.take())
            elif self.comes("("):
                self.take()
                found = ("call", found, *self._arguments())
            elif self.comes("["):
                self.take()
                found = ("item", found, self.several_until("]"))
            else:
                return found

    def _atom(self) -> Expression:
        kind, token = self._next()
        self._at += 1
        if kind == "number":
            whole = token.lstrip("-").isdigit() and len(token) < 20
            return ("constant", int(token) if whole else float(token))
        if kind == "text":
            return ("constant", re.sub(r"\\(.)", lambda match: _NEWLINES.get(match[1], match[1]), token))
        if kind == "name":
            constants = {"True": True, "False": False, "None": None, "inf": float("inf"), "nan": float("nan")}
            return ("constant", constants[token]) if token in constants else ("name", token)
        if token == "[":
            return ("list", self._items("]")[0])
        if token == "(":
            items, plain = self._items(")")
            return items[0] if plain and len(items) == 1 else ("tuple", items)
        raise UnreadableCodeError("code that is none of TorchScript's")

    def _items(self, end: str) -> tuple[list[Expression], bool]:
        """Expressions up to a bracket, and whether no comma was among them."""
        items: list[Expression] = []
        plain = True
        while not self.comes(end):
            items.append(self.expression())
            if not self.comes(end):
                self.take(",")
                plain = False
        self.take(end)
        return items, plain

    def several_until(self, end: str) -> Expression:
        items, plain = self._items(end)
        return items[0] if plain and len(items) == 1 else ("tuple", items)

    def _arguments(self) -> tuple[list[Expression], dict[str, Expression]]:
        given: list[Expression] = []
        named: dict[str, Expression] = {}
        while not self.comes(")"):
            value = self.expression()
            if self.comes("=") and value[0] == "name":
                self.take()
                named[value[1]] = self.expression()
            else:
                given.append(value)
            if not self.comes(")"):
                self.take(",")
        self.take(")")
        return given, named
