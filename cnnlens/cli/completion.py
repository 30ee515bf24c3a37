"""What a shell needs to complete the command line: a script, made by shtab from the parser itself.

The script is static, so that neither a command nor a press of Tab starts Python for it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import cast

from cnnlens.errors import CnnlensError
from cnnlens.text import nearest

__all__ = ["completion"]

_SHELLS = ("bash", "zsh")
_FILES = ("FILE", "FILE…", "FOLDER", "MODEL", "RUN.zarr", "TARGET", "A", "B", "[NAME=]PATH", "[NAME=]PATH|random")
_FRAMEWORKS = ("keras", "torch", "flax", "onnx", "tflite")


def completion(parser: argparse.ArgumentParser, shell: str) -> str:
    """Write the script for ``shell`` that completes commands, options and files of ``parser``.

    Raises:
        CnnlensError: no such shell, or shtab is not installed.
    """
    if shell not in _SHELLS:
        raise CnnlensError(f"--print-completion: bash or zsh was expected; {nearest(shell, _SHELLS)}")
    try:
        import shtab
    except ImportError:
        raise CnnlensError('completion needs shtab, which is not installed: pip install "shtab>=1.7"') from None
    for action in _actions(parser):
        if action.metavar == "FRAMEWORK":
            action.choices = _FRAMEWORKS[:2] if action.dest == "to" else _FRAMEWORKS  # of convert, of layouts
        elif action.metavar in _FILES:
            setattr(action, "complete", shtab.FILE)  # noqa: B010 - shtab's own attribute
    return str(shtab.complete(parser, shell))


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:  # pyright: ignore[reportPrivateUsage] - told nowhere else
        yield action
        if isinstance(action.choices, dict):  # the commands
            for command in cast("dict[str, argparse.ArgumentParser]", action.choices).values():
                yield from _actions(command)
