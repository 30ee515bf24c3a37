"""Sizes that an exported program leaves open, as PyTorch writes them: expressions of SymPy in text.

``Mul(Integer(2), Symbol('s77', positive=True, integer=True))`` is read by a small parser of its own (SymPy's would
evaluate it). What cnnlens can use of it is linear: a whole number, or a multiple of one symbol such as the batch size.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from cnnlens.network.graph import Shape

__all__ = ["Linear", "constant", "multiple_of", "read_expression", "sized"]

Linear: TypeAlias = Mapping[str, int]
"""Coefficients by symbol; the constant stands under the empty name, and zeros are left out."""

_TOKEN = re.compile(r"\s*(?:([A-Za-z_][A-Za-z_0-9]*)|(-?\d{1,20})(?![\d.])|'([^'\\]{1,100})'|([(),=]))")
_CHARACTERS = 2_000  # PyTorch's own for a convolutional network stay below 200
_DEPTH = 50


class _UnreadableError(Exception):
    pass


def read_expression(text: str) -> Linear | None:
    """Read ``text`` as a linear expression; None where it is none (a quotient, a maximum, …) or unreadable."""
    if len(text) > _CHARACTERS:
        return None
    try:
        reader = _SymbolReader(text)
        found = reader.value(0)
        reader.end()
    except _UnreadableError:
        return None
    return {name: number for name, number in found.items() if number} if isinstance(found, dict) else None


def constant(expression: Linear) -> int | None:
    """Give the number that an expression without symbols is."""
    return expression.get("", 0) if not set(expression) - {""} else None


def multiple_of(expression: Linear, symbols: frozenset[str]) -> int | None:
    """Say how many times one of ``symbols`` an expression is, or None where it is something else."""
    named = [name for name in expression if name]
    if len(named) == 1 and named[0] in symbols and "" not in expression:
        return expression[named[0]]
    return None


def sized(shape: Sequence[Linear | None] | None, symbols: frozenset[str], batch: int) -> Shape | None:
    """Put the number ``batch`` where a size is so many times one of ``symbols``; other open sizes stay open."""
    if shape is None:
        return None
    times = [None if size is None else multiple_of(size, symbols) for size in shape]
    return tuple(
        (None if size is None else constant(size)) if factor is None else factor * batch
        for size, factor in zip(shape, times, strict=True)
    )


class _SymbolReader:
    def __init__(self, text: str) -> None:
        self._tokens: list[tuple[str, str]] = []
        at = 0
        while at < len(text.rstrip()):
            match = _TOKEN.match(text, at)
            if match is None:
                raise _UnreadableError
            kind = ("name", "number", "text", "mark")[match.lastindex - 1 if match.lastindex else 0]
            self._tokens.append((kind, match[match.lastindex or 0]))
            at = match.end()
        self._at = 0

    def end(self) -> None:
        if self._at != len(self._tokens):
            raise _UnreadableError

    def _next(self) -> tuple[str, str]:
        if self._at >= len(self._tokens):
            raise _UnreadableError
        self._at += 1
        return self._tokens[self._at - 1]

    def _peek(self) -> str:
        return self._tokens[self._at][1] if self._at < len(self._tokens) else ""

    def value(self, depth: int) -> dict[str, int] | str:
        if depth > _DEPTH:
            raise _UnreadableError
        kind, token = self._next()
        if kind == "number":
            return {"": int(token)}
        if kind == "text":
            return token
        if kind != "name" or self._peek() != "(":
            raise _UnreadableError
        self._next()
        arguments: list[dict[str, int] | str] = []
        while self._peek() != ")":
            if self._at + 1 < len(self._tokens) and self._tokens[self._at + 1] == ("mark", "="):
                self._at += 3  # assumptions such as positive=True say nothing of the value
            else:
                arguments.append(self.value(depth + 1))
            if self._peek() == ",":
                self._next()
            elif self._peek() != ")":
                raise _UnreadableError
        self._next()
        return _combined(token, arguments)


def _combined(function: str, arguments: list[dict[str, int] | str]) -> dict[str, int]:
    if function == "Symbol" and len(arguments) == 1 and isinstance(arguments[0], str):
        return {arguments[0]: 1}
    terms = [one for one in arguments if isinstance(one, dict)]
    if len(terms) != len(arguments) or not terms:
        raise _UnreadableError
    if function == "Integer" and len(terms) == 1:
        return terms[0]
    if function == "Add":
        total: dict[str, int] = {}
        for term in terms:
            for name, number in term.items():
                total[name] = total.get(name, 0) + number
        return total
    if function == "Mul":
        product = {"": 1}
        for term in terms:
            if not set(product) - {""}:
                product = {name: number * product.get("", 0) for name, number in term.items()}
            elif not set(term) - {""}:
                product = {name: number * term.get("", 0) for name, number in product.items()}
            else:
                raise _UnreadableError
        return product
    raise _UnreadableError
