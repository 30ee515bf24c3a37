"""A page fits the terminal that it is shown in, breaks no word there, and is plain text everywhere else."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from cnnlens import sample
from cnnlens.cli.printing import output_text
from cnnlens.page import Code, Page, Table, Tone, Toned
from tests.support import ROOT
from tests.support.hostile_text import HOSTILE

pty = pytest.importorskip("pty", reason="Windows has no pseudo-terminals")

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
SUMMARY = ("summary", str(sample.MODEL))


def on_a_terminal(command: list[str], columns: int, environment: Mapping[str, str] | None = None) -> str:
    """What a process writes to a terminal of so many columns."""
    import fcntl
    import struct
    import termios

    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    clean = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR", "FORCE_COLOR")}
    process = subprocess.Popen(
        command, stdout=slave, cwd=ROOT, env={**clean, "TERM": "xterm-256color", **(environment or {})}
    )
    os.close(slave)
    pieces: list[bytes] = []
    while True:
        try:
            piece = os.read(master, 1 << 16)
        except OSError:  # how Linux says that nobody writes any more
            break
        if not piece:
            break
        pieces.append(piece)
    os.close(master)
    assert process.wait() == 0
    return b"".join(pieces).decode().replace("\r\n", "\n")


def shown(page: str, columns: int, environment: Mapping[str, str] | None = None) -> str:
    """A page, written in Python, as a terminal of so many columns shows it."""
    code = f"from cnnlens.page import *; from cnnlens.cli.printing import output_text; output_text({page})"
    return on_a_terminal([sys.executable, "-c", code], columns, environment)


def words(text: str) -> set[str]:
    """What no line of a terminal parts: code may be, before a method's dot."""
    return set(re.sub(r"(?<=[)\]])\.(?=[a-zT])", " .", text).split())


def pages() -> dict[str, Page]:
    """Pages of what the commands say: short tables, sentences, columns that give way, columns that become rows."""
    import cnnlens
    from cnnlens.layout import listing as layouts
    from cnnlens.network import summary
    from cnnlens.testing.networks import network

    runs = ["keras-tensorflow", "keras-jax", "keras-torch", "pytorch"]
    return {
        "sample": summary.as_page(cnnlens.open(sample.MODEL)),
        "branches": summary.as_page(network("branches")),
        "shared": summary.as_page(network("shared")),
        "nested": summary.as_page(network("nested")),
        "runs": Page([
            Table(
                [["layer", "kind", *runs], *[["conv2d", "Conv2D", *["24.4 / 23.8  float32"] * 4]] * 3],
                give_way=[(1, 0)], unpivot=2,
            )
        ]),
        "sentences": Page([
            Table([["A", "what explains it"], ["conv", "kernel: equal, stored as HWIO / OIHW " * 4]], fold=[1]),
            "note: a sentence that goes on for longer than a line of any terminal that somebody would read it in is",
        ]),
        **{f"layouts {kind or 'of all'}": layouts.as_page(kind) for kind in (None, "Conv2D", "GRU")},
        "no columns": Page([Table([["#", "layer", "shape"], ["1", "a" * 40, "(N, 2048, 1, 1)"]])]),
    }  # fmt: skip


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_every_page_fits_and_no_word_is_broken(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from cnnlens.cli.terminal import on_terminal

    for name, page in pages().items():
        text = _COLOUR.sub("", on_terminal(page, columns))
        digest = next((line for line in text.splitlines() if re.fullmatch(r" *(sha256 )?[0-9a-f]{64}", line)), "")
        assert max(len(line) for line in text.splitlines() if line != digest) <= columns, (name, text)
        rules = {word for word in words(str(page)) if set(word) == {"-"}}
        assert words(str(page)) - rules <= words(text), (name, words(str(page)) - words(text))
        for shape in re.findall(r"\([N?\d, ]+\)", str(page)):
            assert shape in text, (name, shape)


def test_the_sample_has_a_line_for_each_layer_and_array_at_80_columns() -> None:
    text = _COLOUR.sub("", on_a_terminal([sys.executable, "-m", "cnnlens", *SUMMARY], 80))
    layers, arrays = (part.splitlines() for part in text.split("\n\n")[1:3])
    assert len(layers) == 2 + 8
    assert len(arrays) == 2 + 8
    assert max(map(len, [*layers, *arrays])) <= 80


def test_the_columns_that_give_way_keep_their_row() -> None:
    rows = [
        ["#", "layer", "kind", "output"],
        ["0", "conv2d", "Conv2D 3×3, relu", "(N, 32, 28, 28)"],
        ["1", "x", "", "?"],
    ]
    page = f"Page([Table({rows}, right=[0], fold=[2], give_way=[(2, 1)])])"
    assert _COLOUR.sub("", shown(page, 40)).split("\n") == [
        "   layer",
        "#  kind              output",
        "------------------------------------",
        "0  conv2d            (N, 32, 28, 28)",
        "   Conv2D 3×3, relu",
        "1  x                 ?",
        "",
    ]


def test_a_tone_is_a_colour_where_there_is_one() -> None:
    page = 'Page([Toned("wrong", Tone.BAD), Table([["verdict"], [Toned("exact", Tone.GOOD)]])])'
    text = shown(page, 80)
    assert "\x1b[1;31mwrong\x1b[0m" in text
    assert "\x1b[32mexact\x1b[0m" in text
    assert "3" not in "".join(re.findall(r"\x1b\[([0-9;]*)m", shown(page, 80, {"NO_COLOR": "1"})))
    assert "\x1b" not in shown(page, 80, {"TERM": "dumb"})


def test_where_columns_have_no_room_their_names_alone_are_dim() -> None:
    head, first = "['#', 'layer', 'weight', 'mean']", "['0', 'conv', 'k' * 20, '1.5']"
    text = shown(f"Page([Table([{head}, {first}, ['1', 'top', 'b', Toned('-', Tone.BAD)]])])", 30)
    dim = re.findall(r"\x1b\[2m(.*?)\x1b\[0m", text)
    assert set(dim) == {"weight ", "mean "}
    assert "\x1b[1;31m-\x1b[0m" in text  # a value has its own tone
    assert [line.split() for line in _COLOUR.sub("", text).splitlines()] == [
        ["0", "conv"], ["weight", "k" * 20], ["mean", "1.5"], ["1", "top", "weight", "b", "mean", "-"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("columns", "lines"),
    [
        (99, ["kernel = weight.reshape(7, 7, 64).transpose(1, 2, 0).reshape(3136, 100)"]),
        (50, ["kernel = weight.reshape(7, 7, 64)", ".transpose(1, 2, 0).reshape(3136, 100)"]),
        (30, ["kernel =", "weight.reshape(7,", "7, 64)", ".transpose(1, 2,", "0).reshape(3136,", "100)"]),
    ],
)  # fmt: skip
def test_code_is_folded_between_calls_and_inside_one_only_at_last(columns: int, lines: list[str]) -> None:
    code = Code("kernel = weight.reshape(7, 7, 64).transpose(1, 2, 0).reshape(3136, 100)")
    text = shown(f"Page([Table([['a', 'b', ''], ['0', 'x' * 7, Code({code!r})]], fold=[2])])", columns)
    assert [line[12:].rstrip() for line in _COLOUR.sub("", text).splitlines()[2:]] == lines
    assert str(Page([Table([[""], [code]])])).splitlines()[-1] == code


def test_what_a_stranger_wrote_is_obeyed_by_no_terminal(tmp_path: Path) -> None:
    import numpy as np
    from safetensors.numpy import save_file  # pyright: ignore[reportUnknownVariableType]

    name = f"[bold red]{HOSTILE}[/] :smile:"
    save_file({f"{name}.weight": np.zeros((3, 5, 2), np.float32)}, tmp_path / "x.safetensors", {"a": name})
    text = on_a_terminal([sys.executable, "-m", "cnnlens", "summary", str(tmp_path / "x.safetensors")], 100)
    assert "[bold red]" in text
    plain = _COLOUR.sub("", text)
    assert plain.replace("\n", "").isprintable()


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_a_terminal_without_the_signs_has_others(encoding: str) -> None:
    text = on_a_terminal(
        [sys.executable, "-m", "cnnlens", *SUMMARY], 80, {"PYTHONIOENCODING": encoding, "TERM": "dumb"}
    )
    assert ("Conv2D 3x3" if encoding == "ascii" else "Conv2D 3×3") in text
    assert "?" not in text


def test_a_pipe_and_a_file_have_plain_text_at_its_own_width(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = Page([Toned("a " * 100, Tone.BAD), Table([["x"], [Toned("y " * 100, Tone.GOOD)]])])
    output_text(page)
    output_text(page, str(tmp_path / "x.txt"))
    printed = capsys.readouterr().out
    assert printed == (tmp_path / "x.txt").read_text(encoding="utf-8") == str(page)
    assert max(map(len, printed.splitlines())) == 200
    code = (
        "import sys; from cnnlens.cli.main import main; "
        f"main({list(SUMMARY)!r}); sys.exit(any(name.split('.')[0] == 'rich' for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.DEVNULL).returncode == 0
