"""Types of command-line arguments that several commands share; each refuses in argparse's own words."""

from __future__ import annotations

import argparse
from collections.abc import Callable

__all__ = ["seconds", "whole_number"]


def whole_number(least: int) -> Callable[[str], int]:
    """A type of argument: whole numbers of at least ``least``."""

    def number(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"at least {least} was expected, {value} came")
        return value

    number.__name__ = "whole number"
    return number


def seconds(text: str) -> float:
    """A type of argument: a time above zero."""
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"more than 0 was expected, {value:g} came")
    return value
