"""The command line's entrance: parse, call, and turn what went wrong into a line and an exit code.

Each command is a file beside this one and a few lines over the public names; what it shows is made elsewhere. Imports
stay inside the commands, so that ``--help`` and ``summary`` load neither matplotlib nor anything else that they do not
use.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NoReturn, cast

from cnnlens.cli import (
    atlas,
    backends,
    bench,
    check,
    convert,
    demo,
    diff,
    export,
    layouts,
    lesson,
    record,
    report,
    show,
    stats,
    verify,
)
from cnnlens.cli.printing import output_json, output_text, tell
from cnnlens.errors import CnnlensError, in_one_line
from cnnlens.text import nearest, printable

__all__ = ["main", "parser_of_all"]


class UsageError(CnnlensError):
    """Is raised where the arguments are wrong; its line begins with the command whose ``--help`` says more."""


class _Parser(argparse.ArgumentParser):
    """argparse with our kind of error: one line, with the nearest that would have worked and the way out."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # `--scale -1..1` is a value: what begins with a minus and a digit is no option here.
        self._negative_number_matcher = re.compile(r"-\d")
        self.register("action", None, _Once)
        self.register("action", "store", _Once)

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.prog}: {printable(message, 600)}; see '{self.prog} --help'")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:  # pyright: ignore
        """Parse what this parser knows, and refuse here what it does not: the parser above knows no better."""
        given: list[str] = sys.argv[1:] if args is None else list(args)
        self._refuse_unknown_options(given)
        parsed, unknown = super().parse_known_args(given, namespace)
        if unknown:
            shown = ", ".join(f"'{printable(one)}'" for one in unknown[:3])
            self.error(f"{shown} {'was' if len(unknown) == 1 else 'were'} not expected")
        return parsed, unknown

    def _refuse_unknown_options(self, given: list[str]) -> None:
        """Before a missing MODEL is lamented, which a misspelt option may have taken with it."""
        known = [name for name in self._option_string_actions if name.startswith("--")]
        for one in given:
            name = one.partition("=")[0]
            if one == "--" or (self._subparsers is not None and not one.startswith("-")):
                return  # what follows is no option, or one of the command's
            if name.startswith("--") and " " not in one and not any(other.startswith(name) for other in known):
                self.error(f"there is no option '{printable(name)}'; {nearest(name, known)}")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            what = (
                f"{'/'.join(action.option_strings)}: "
                if action.option_strings
                else f"there is no {str(action.metavar).lower()} "
            )
            none = " is none of its values" if action.option_strings else ""
            raise argparse.ArgumentError(
                None, f"{what}'{printable(value)}'{none}; {nearest(str(value), map(str, action.choices))}"
            )

    def _print_message(self, message: str, file: Any = None) -> None:
        if message:
            output_text(message)  # what is wrong is raised, so this is help, which any terminal must be able to show

    def format_help(self) -> str:
        from cnnlens.cli.examples import examples

        shown = "".join(f"  {line}\n" for line in examples(self.prog))
        return super().format_help() + (f"\nexamples:\n{shown}" if shown else "")


class _Once(argparse.Action):
    """Keeps the value of an option; of two that contradict each other, the second would win in silence."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, *_: Any) -> None:
        given: set[str] = getattr(namespace, "given", set())
        if self.option_strings and self.dest in given:
            raise argparse.ArgumentError(self, f"it takes one value and was given again, with '{values}'; give it once")
        setattr(namespace, self.dest, values)
        namespace.given = given | {self.dest}


def main(arguments: Sequence[str] | None = None, interrupted: Sequence[int] = ()) -> int:
    """Run one command; the exit code is 0, 1 for a negative result, 2 for an error that the message explains.

    Args:
        interrupted: Holds something once Ctrl-C was pressed: what C code makes of that is no error to tell.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        with in_one_line():
            parser = parser_of_all()
            options = parser.parse_args(given)
            if options.command is None:
                parser.print_help()
                return 0
            _refuse_own_input(options)
            return int(options.command(options) or 0)
    except CnnlensError as error:
        if interrupted:
            raise KeyboardInterrupt from None
        return _refused(error, given)
    except BrokenPipeError:
        # The reader went away (`cnnlens summary … | head`): nothing to say, and nothing to flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        tell("cnnlens: interrupted")
        return 128 + signal.SIGINT


def _refuse_own_input(options: argparse.Namespace) -> None:
    """Refuse to write over one of the files that the command reads, or over another of its own, whichever option names
    it."""
    for own in ("output", "keep", "page"):
        output = getattr(options, own, None)
        if not isinstance(output, str):
            continue
        from cnnlens.output import refuse_read

        values = [value for name, value in vars(options).items() if name not in (own, "name")]
        listed = [one for value in values for one in cast("list[Any]", value if isinstance(value, list) else [value])]
        given = [one for one in listed if isinstance(one, str)]
        # Also what follows NAME=, and the archive of ARCHIVE::MEMBER.
        refuse_read(output, [path for one in given for path in (one, one.partition("=")[2], one.partition("::")[0])])


def _refused(error: CnnlensError, given: Sequence[str]) -> int:
    """Say what is wrong, also to a program that reads JSON."""
    tell(str(error) if isinstance(error, UsageError) else f"cnnlens: {error}")
    if any(len(one) > 3 and "--json".startswith(one) for one in given):
        said = {
            "type": type(error).__name__,
            "message": str(error),
            "backend": error.backend,
            "layer": getattr(error, "layer", None),
        }
        with contextlib.suppress(CnnlensError, BrokenPipeError):  # it may be stdout that cannot be written
            output_json("error", {"error": said})
    return 2


@cache
def parser_of_all() -> argparse.ArgumentParser:
    """Make the parser of the whole command line, once in a process."""
    parser = _Parser(prog="cnnlens", description="See what a convolutional network learned, in any framework.")
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and stop")
    parser.add_argument(
        "--print-completion", action=_Completion, metavar="SHELL", help="print what completes commands in bash or zsh"
    )
    parser.set_defaults(command=None)
    commands = _Commands(parser.add_subparsers(title="commands", metavar="COMMAND"))
    for module in (
        *(show, verify, layouts, check, atlas, backends, record, stats, bench, diff, report, lesson, convert, export),
        demo,
    ):
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
        parser.set_defaults(command=run, name=name)
        return parser


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        import cnnlens

        output_text(f"cnnlens {cnnlens.__version__}\n")
        parser.exit()


class _Completion(argparse.Action):
    """Prints the script by which a shell completes commands, options and files."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option: Any = None) -> NoReturn:
        from cnnlens.cli.completion import completion

        output_text(completion(parser_of_all.__wrapped__(), str(values)))  # which it changes
        parser.exit()
