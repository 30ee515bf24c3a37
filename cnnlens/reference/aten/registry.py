"""The table of aten operators: name to the function that translates a call of it."""

from __future__ import annotations

from collections.abc import Callable

from cnnlens.reference.aten.arguments import Arguments, Translation

__all__ = ["TRANSLATORS", "Translator", "aten"]

Translator = Callable[[Arguments], Translation]

#: Operator without namespace and overload -> its translator. Modules of this package fill it when they are imported.
TRANSLATORS: dict[str, Translator] = {}


def aten(*names: str) -> Callable[[Translator], Translator]:
    """Decorator: the function translates these operators."""

    def add(translator: Translator) -> Translator:
        for name in names:
            if name in TRANSLATORS:
                raise ValueError(f"two translations of {name}")
            TRANSLATORS[name] = translator
        return translator

    return add
