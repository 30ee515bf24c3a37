"""The command line's entrance: parse, call, and turn what went wrong into a line and an exit code.

Each command is a file beside this one and a few lines over the public names; what it shows is made elsewhere. Imports
stay inside the commands, so that ``--help`` and ``summary`` load neither matplotlib nor anything else that they do not
use.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from cnnlens.cli import backends, bench, check, convert, demo, diff, export, layouts, record, show, verify
from cnnlens.cli.printing import tell
from cnnlens.errors import CnnlensError, in_one_line
from cnnlens.text import harmless

__all__ = ["main"]


class _Parser(argparse.ArgumentParser):
    """argparse with our kind of error: one line that ends in the way out."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # `--scale -1..1` is a value: what begins with a minus and a digit is no option here.
        self._negative_number_matcher = re.compile(r"-\d")

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {harmless(message)}; see '{self.prog} --help'\n")


def main(arguments: Sequence[str] | None = None, interrupted: Sequence[int] = ()) -> int:
    """Run one command; the exit code is 0, 1 for a negative result, 2 for an error that the message explains.

    Args:
        interrupted: Holds something once Ctrl-C was pressed: what C code makes of that is no error to tell.
    """
    try:
        with in_one_line():
            parser = _parser()
            options = parser.parse_args(arguments)
            if options.command is None:
                parser.print_help()
                return 0
            return int(options.command(options) or 0)
    except CnnlensError as error:
        if interrupted:
            raise KeyboardInterrupt from None
        tell(f"cnnlens: {error}")
        return 2
    except BrokenPipeError:
        # The reader went away (`cnnlens summary … | head`): nothing to say, and nothing to flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        tell("cnnlens: interrupted")
        return 128 + signal.SIGINT


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="cnnlens", description="See what a convolutional network learned, in any framework.")
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and stop")
    parser.set_defaults(command=None)
    commands = _Commands(parser.add_subparsers(title="commands", metavar="COMMAND"))
    for module in (show, verify, layouts, check, backends, record, bench, diff, convert, export, demo):
        module.add(commands)
    return parser


class _Commands:
    """What each command's file adds itself to."""

    def __init__(self, parsers: Any) -> None:
        self._parsers = parsers

    def command(
        self, name: str, run: Callable[[argparse.Namespace], int | None], text: str, more: str = ""
    ) -> argparse.ArgumentParser:
        """Add a command that calls ``run``: ``text`` in the list of commands, and with ``more`` in its own help."""
        described = f"{text[0].upper()}{text[1:]}." + (f" {more}" if more else "")
        parser: argparse.ArgumentParser = self._parsers.add_parser(name, help=text, description=described)
        parser.set_defaults(command=run)
        return parser


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        import cnnlens

        parser.exit(0, f"cnnlens {cnnlens.__version__}\n")
