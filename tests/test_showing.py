"""What a person meets in Python and in a notebook: every object shows itself, briefly, and leaves the page alone."""

from __future__ import annotations

import base64
import io
import json
import re
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import cnnlens
from cnnlens.cli.main import main
from cnnlens.network.network import Network
from cnnlens.page import Page, Table, Tone, Toned
from cnnlens.plot import thumbnail
from cnnlens.progress import telling
from cnnlens.sample import IMAGES, MODEL
from tests.support.notebooks import executed, html_of, text_of

NAME = "<script>alert(1)</script>\x1b[31m\u202e" + "x" * 300  # what a stranger may call a layer


@pytest.fixture(scope="module")
def net() -> Network:
    return cnnlens.open(MODEL)


@pytest.fixture(scope="module")
def shown(net: Network) -> dict[str, Any]:
    """An object of each class that needs no framework."""
    recording = cnnlens.record(net, IMAGES, backend="reference", layers=["conv2d"], progress=False)
    conv = {"conv.weight": net["conv2d"].kernel.to("torch")}  # type: ignore[union-attr]
    return {
        "Network": net,
        "Layer": net["conv2d"],
        "Kernel": net["conv2d"].kernel,
        "Recording": recording,
        "Check": cnnlens.check(net, recordings=[recording], progress=False),
        "Diff": cnnlens.diff(net, conv, progress=False),
        "Stats": cnnlens.stats(net, IMAGES, backend="reference", layers=["conv2d"], progress=False),
    }


class Fragment(HTMLParser):
    """Checks a notebook's output: one div of our class that holds all, nothing that runs, loads or styles others."""

    _EMPTY = ("br", "img", "meta")
    _KNOWN = frozenset("div style p br span table thead tbody tr th td figure figcaption img".split())

    def __init__(self, text: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.roots = 0
        self.styles = self.words = ""
        self.images: list[bytes] = []
        self.feed(text)
        self.close()
        assert not self.stack
        assert self.roots == 1

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in self._KNOWN
        given = dict(attrs)
        if not self.stack:
            self.roots += 1
            assert (tag, given) == ("div", {"class": "cnnlens"})
        if tag == "img":
            kind, _, data = str(given["src"]).partition(",")
            assert kind == "data:image/png;base64"
            self.images.append(base64.b64decode(data))
        else:
            assert set(given) <= {"class", "data-of"}
        if tag not in self._EMPTY:
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.stack[-1:] == ["style"]:
            self.styles += data
        else:
            assert self.stack or not data.strip()
            self.words += data


def fragment(one: Any) -> Fragment:
    return Fragment(one._repr_html_())


@pytest.mark.parametrize("kind", ["Network", "Layer", "Kernel", "Recording", "Check", "Diff"])
def test_an_object_shows_itself_everywhere(shown: dict[str, Any], kind: str) -> None:
    one = shown[kind]
    assert type(one).__name__ == kind
    assert repr(one).count("\n") <= 2
    assert len(repr(one)) <= 400
    table = str(one)
    assert "----" in table
    assert table == table.strip("\n")
    page = fragment(one)
    for word in re.findall(r"\w+", table):
        assert word in page.words
    assert "url(" not in page.styles
    assert "@" not in page.styles
    document = one.html()
    assert document.startswith("<!DOCTYPE html>")
    assert '<meta charset="utf-8">' in document
    assert document.count('<div class="cnnlens">') == 1


def test_styles_are_for_our_own_div_alone(net: Network) -> None:
    selectors = re.findall(r"^([^{}]+)\{", fragment(net).styles.strip(), re.MULTILINE)
    assert len(selectors) > 10
    assert all(re.match(r"div\.cnnlens\b", selector) and "," not in re.sub(r":is\(.*?\)", "", selector)
               for selector in selectors)  # fmt: skip


def test_a_layer_and_a_kernel_have_a_picture_and_a_network_has_none(shown: dict[str, Any]) -> None:
    for kind, count in (("Layer", 1), ("Kernel", 1), ("Network", 0), ("Recording", 0)):
        assert len(fragment(shown[kind]).images) == count
    [png] = fragment(shown["Layer"]).images
    assert Image.open(io.BytesIO(png)).size == thumbnail_size(shown["Kernel"].array)


def thumbnail_size(array: Any) -> tuple[int, int]:
    return Image.open(io.BytesIO(thumbnail(array)[0])).size


def test_what_a_stranger_wrote_is_harmless_wherever_it_is_shown(net: Network) -> None:
    layer = replace(net["conv2d"], name=NAME)
    strange = replace(net, name=NAME, layers=(layer,))
    for one in (layer, strange, strange.summary()):
        for said in (repr(one), str(one), one.html(), one._repr_html_()):
            assert "\x1b" not in said
            assert "\u202e" not in said
            assert len(said) < 10_000 + len(net["conv2d"].html())
        assert "<script" not in one.html() + one._repr_html_()
        assert "<script>alert(1)</script>\\x1b" in fragment(one).words


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((32, 1, 3, 5), "32 kernels; white is 0"),
        ((64, 3, 7, 5), "64 kernels, three input channels as RGB; grey is 0"),
        ((1700, 8, 5, 3), "the first 704 of 1,700 kernels, input channel 0 of 8; white is 0"),
        ((2, 1, 500, 900), "the first 1 of 2 kernels, of each the first 1 × 80 × 320 weights of 1 × 500 × 900"),
        ((24, 2, 3, 5, 4), "24 kernels, depth slices side by side, input channel 0 of 2"),
        ((16, 2, 9), "16 kernels, input channel 0 of 2"),
        ((9, 70), "rows: 9 outputs, columns: 70 inputs"),
        ((5, 8, 1, 1), "rows: 5 outputs, columns: 8 inputs"),
        ((900, 5000), "rows: the first 80 of 900 outputs, columns: the first 320 of 5,000 inputs"),
        ((1, 1), "rows: 1 output, columns: 1 input"),
    ],
)
def test_a_thumbnail_stays_small_and_says_what_it_leaves_out(shape: tuple[int, ...], said: str) -> None:
    array = np.random.default_rng(0).standard_normal(shape, np.float32)
    png, words = thumbnail(array)
    assert words.startswith(said)
    assert len(png) < 140_000  # under 200 kB as base64
    width, height = Image.open(io.BytesIO(png)).size
    assert width <= 660
    assert height <= 180


def test_a_thumbnails_cells_are_the_weights() -> None:
    array = np.zeros((2, 1, 3, 2))
    array[1, 0, 2, 1] = -1.0
    array[0, 0, 0, 1] = 1.0
    image = np.asarray(Image.open(io.BytesIO(thumbnail(array)[0])))
    found = {}
    for name, (red, green, blue) in {"red": (103, 0, 31), "blue": (5, 48, 97)}.items():
        rows, columns = np.nonzero((image[..., 0] == red) & (image[..., 1] == green) & (image[..., 2] == blue))
        found[name] = (rows.min(), columns.min(), rows.max() + 1 - rows.min(), columns.max() + 1 - columns.min())
    tile, cell = 2 * 10 + 4, 10
    assert found == {"red": (1, 1 + cell, cell, cell), "blue": (1 + 2 * cell, 1 + tile + cell, cell, cell)}


def test_ten_thousand_rows_are_not_shown_unasked() -> None:
    rows = [["layer", "verdict"], *([f"layer {number}", Toned("wrong", Tone.BAD)] for number in range(10_000))]
    page = Page([*(f"line {number}" for number in range(500)), "", Table(rows), "the end"])
    for said in (repr(page), fragment(page).words):
        assert len(said) < 12_000
        assert "9,940 of 10,000 rows are left out" in said
        assert "441 of 501 lines are left out" in said
        for kept in ("line 0", "line 499", "layer 0", "layer 9999", "the end"):
            assert kept in said
        assert "layer 5000" not in said
    assert "layer 5000" in str(page)
    assert "layer 5000" in page.html()


def test_of_ten_thousand_layers_those_that_are_shown_are_read(net: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    from cnnlens.network import summary
    from cnnlens.network.weight import Weight

    asked: Counter[str] = Counter()

    def counted(name: str, function: Any) -> Any:
        return lambda *given: asked.update([name]) or function(*given)

    monkeypatch.setattr(Weight, "stats", counted("arrays", Weight.stats))
    monkeypatch.setattr(summary, "settings_of", counted("layers", summary.settings_of))
    large = replace(net, layers=tuple(replace(net["conv2d"], name=f"layer {number}") for number in range(10_000)))
    for show in (lambda: repr(large.summary()), lambda: fragment(large).words):
        said = show()
        assert "layer 9999" in said
        assert "19,940 of 20,000 rows are left out" in said
        assert asked["arrays"] == 60
        assert asked["layers"] <= 61  # and the input's dtype
        asked.clear()
    assert "0.233" in str(net.summary())
    assert asked["arrays"] == 8


def test_what_hangs_on_an_object_is_brief_too(net: Network, shown: dict[str, Any]) -> None:
    images = cnnlens.images.load(IMAGES, shape=(1, 28, 28))
    audits, diffs = shown["Check"].rows[0], shown["Diff"].rows[0]
    for one in (net.calls[1], net["conv2d"].stored["kernel"], images, net.read(IMAGES), audits, diffs, *diffs.arrays):
        assert "\n" not in repr(one)
        assert len(repr(one)) <= 400


# -- names -------------------------------------------------------------------------------------------------------------


def test_dir_lists_the_public_names_and_a_star_leaves_open_alone() -> None:
    assert {"check", "convert", "diff", "open", "plot", "record"} <= set(dir(cnnlens))
    assert not {"Any", "import_module", "annotations", "TYPE_CHECKING"} & set(dir(cnnlens))
    assert all(hasattr(cnnlens, name) for name in dir(cnnlens))
    code = "from cnnlens import *; assert open is __builtins__.open; assert check.__doc__"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_names_complete_and_are_found(net: Network, shown: dict[str, Any]) -> None:
    assert "conv2d" in net
    assert net["conv2d"] in net
    assert "conv3d" not in net
    assert 3 not in net
    assert net._ipython_key_completions_() == [layer.name for layer in net]
    assert shown["Recording"]._ipython_key_completions_() == ["input_layer", "conv2d"]
    assert net["conv2d"].weights._ipython_key_completions_() == ["kernel", "bias"]  # type: ignore[attr-defined]


def test_summary_and_plot_are_what_the_commands_give(net: Network, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summary", str(MODEL)]) == 0
    printed = capsys.readouterr().out
    assert str(net.summary()) == printed
    assert repr(net.summary()) == printed.rstrip("\n")
    drawn = net["conv2d"].plot()
    assert drawn.axes[0].get_images()
    with pytest.raises(cnnlens.CnnlensError, match="has no kernel to draw"):
        net["flatten"].plot()


@pytest.mark.parametrize(
    ("kind", "command"),
    [
        ("Recording", None),
        ("Check", ["check", str(MODEL), "{run}"]),
        ("Diff", ["diff", str(MODEL), str(MODEL)]),
        ("Stats", ["stats", str(MODEL), "-i", str(IMAGES), "-b", "reference", "-l", "conv2d"]),
    ],
)
def test_to_json_is_what_the_command_prints(
    shown: dict[str, Any], kind: str, command: list[str] | None, capsys: pytest.CaptureFixture[str]
) -> None:
    one = cnnlens.diff(MODEL, MODEL) if kind == "Diff" else shown[kind]
    data = one.to_json()
    assert next(iter(data)) == "format"
    json.dumps(data, allow_nan=False)
    if command is not None:
        main([part.format(run=shown["Recording"].path) for part in command] + ["--json"])
        assert data == {"format": data["format"], **json.loads(capsys.readouterr().out)}


# -- inputs ------------------------------------------------------------------------------------------------------------


def test_run_scales_what_record_scales(net: Network) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (6, 28, 28), np.uint8)
    recorded = cnnlens.record(net, pixels, backend="reference", layers=["conv2d"], progress=False)["conv2d"][:]
    for given in (pixels, list(pixels), {"input_layer": pixels}, pixels[..., None], [pixels[:, None]]):
        assert np.array_equal(net.run(given, ["conv2d"], dtype="float32")["conv2d"], recorded)
    assert net.read(pixels).notes[-1] == "0..255 divided by 255, now 0..1"


def test_run_takes_paths(net: Network) -> None:
    images = cnnlens.images.load(IMAGES, shape=(1, 28, 28))
    wanted = net.run(images.array, ["dense_1"])["dense_1"]
    assert np.array_equal(net.run(IMAGES, ["dense_1"])["dense_1"], wanted)
    paths = sorted(Path(IMAGES).glob("*.png"))
    assert np.allclose(net.run(paths[2:4], ["dense_1"])["dense_1"], wanted[2:4], rtol=1e-12, atol=0)


def test_real_numbers_are_taken_bit_for_bit(net: Network) -> None:
    array = np.random.default_rng(2).normal(0, 300, (4, 1, 28, 28))
    array[0, 0, 0, 0] = np.nan
    read = net.read(array)
    assert read.arrays["input_layer"] is array or np.shares_memory(read.arrays["input_layer"], array)
    assert read.arrays["input_layer"].dtype == np.float64
    with pytest.raises(cnnlens.CnnlensError, match=r"\(N, 1, 28, 28\) was expected, \(4, 27, 28\) came"):
        net.run(np.zeros((4, 27, 28)))
    assert net.read(np.zeros((4, 28, 28)), scale="0..1").arrays["input_layer"].shape == (4, 1, 28, 28)


def test_whole_numbers_that_are_no_pixels_stay(net: Network) -> None:
    rows = np.array([[3, 1, 2], [0, 2, (1 << 24) + 1]])  # of an Embedding, say; float32 does not hold the last
    call = replace(net.calls_by_name["input_layer"], shapes=((None, 3),))
    network = replace(net, calls=(call,), outputs=net.inputs)
    assert network.read(rows).arrays["input_layer"] is rows
    assert network.run(rows, ["input_layer"])["input_layer"].tolist() == rows.tolist()


# -- in a notebook -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_notebook_of_every_object(tmp_path: Path) -> None:
    outputs = executed(
        tmp_path,
        "import cnnlens, cnnlens.sample, numpy as np\nnet = cnnlens.open(cnnlens.sample.MODEL)\nnet",
        "net.summary()",
        "net['conv2d']",
        "net['dense'].kernel",
        "recording = cnnlens.record(net, cnnlens.sample.IMAGES, backend='reference', out='run.zarr')\nrecording",
        "cnnlens.check(net, recordings=[recording])",
        "cnnlens.diff(net, {'conv.weight': net['conv2d'].kernel.to('torch')})",
        "import cnnlens.progress\ncnnlens.progress._AFTER = 0.0\n"
        "again = cnnlens.record(net, cnnlens.sample.IMAGES, backend='reference', batch=3)",
        "quiet = cnnlens.record(net, cnnlens.sample.IMAGES, backend='reference', progress=False)",
        "told = cnnlens.diff(net, net)",
    )
    *objects, counted, quiet, told = outputs
    for cell in objects:
        Fragment(html_of(cell))
    for cell in (objects[0], *objects[2:]):
        assert text_of(cell).count("\n") <= 2
    assert '<progress max="1" value="1.0000">' in html_of(counted)
    assert "10/10 inputs" in html_of(counted)
    assert quiet == []
    assert html_of(told) == ""  # what only said what came next is gone


@pytest.mark.framework
def test_a_notebook_of_what_needs_a_framework(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    made, twins = executed(
        tmp_path,
        "import cnnlens, cnnlens.sample\nmade = cnnlens.convert(cnnlens.sample.MODEL, 'torch', 'shoes.py')\nmade",
        "made.twins",
    )
    for cell, said in ((made, "<Conversion fashion_mnist_cnn.keras to PyTorch"), (twins, "<Twins fashion_mnist_cnn")):
        Fragment(html_of(cell))
        assert text_of(cell).startswith(said)
        assert text_of(cell).count("\n") <= 2


# -- who waits ---------------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_who_waits_at_a_terminal_is_told_and_nobody_else(
    net: Network, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("cnnlens.progress._AFTER", 0.0)

    def record(**options: Any) -> None:
        cnnlens.record(net, IMAGES, backend="reference", layers=["conv2d"], batch=4, **options)

    record()
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    for nobody in (False, None):
        record(progress=nobody)
    assert terminal.getvalue() == ""
    record()
    assert "10/10 inputs" in terminal.getvalue()
    assert terminal.getvalue().endswith("\n")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    cnnlens.diff(net, net)
    assert terminal.getvalue().startswith("\rcomparing layer 1 of 4")
    assert terminal.getvalue().endswith(" \r")  # and the line is free again


def test_a_line_that_came_early_is_shown_when_it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnnlens.progress._AFTER", 0.05)
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with telling(True) as tell:
        assert tell is not None
        tell("running keras-jax")
        assert terminal.getvalue() == ""
        time.sleep(0.3)
        assert terminal.getvalue() == "\rrunning keras-jax"
    assert terminal.getvalue().endswith(" \r")


def test_what_is_over_soon_is_not_told(net: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnnlens.progress._AFTER", 60.0)
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    cnnlens.diff(net, net)
    assert terminal.getvalue() == ""
