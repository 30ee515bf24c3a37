"""What a report holds: numbers that unpack to those of the model, indices that name them, names that stay data."""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Sequence
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import cnnlens
from cnnlens.cli.main import main
from cnnlens.reporting.lanes import lanes
from cnnlens.reporting.packing import LEVELS, levels
from cnnlens.reporting.result import Report
from cnnlens.reporting.words import LANGUAGES, language_named
from cnnlens.reporting.writing import in_page
from cnnlens.sample import IMAGES, MODEL

HOSTILE = "</script><script>alert(1)</script>&\u2028<!--"


@pytest.fixture(scope="module")
def made() -> Report:
    return cnnlens.report(MODEL, inputs=IMAGES, progress=False)


class Elements(HTMLParser):
    """Finds the texts of a page's elements by their id, and all of its tags."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.texts: dict[str | None, str] = {}
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._id: str | None = None
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._id = dict(attrs).get("id", tag)

    def handle_data(self, data: str) -> None:
        self.texts[self._id] = self.texts.get(self._id, "") + data


def unpacked(page: str, name: str) -> NDArray[Any]:
    """An array of a page, by what docs/json.md says and nothing else."""
    texts = Elements(page).texts
    about = json.loads(texts["data"])["arrays"][name]
    packed = base64.b64decode(texts["block"])[about["at"] :][: about["bytes"]]
    dtype = np.dtype(about["dtype"])
    planes = np.frombuffer(zlib.decompress(packed, -15), np.uint8).reshape(dtype.itemsize, -1)
    return planes.T.copy().view(dtype).reshape(about["shape"])


@pytest.mark.slow
def test_the_page_has_the_numbers_of_the_model_bit_for_bit(made: Report) -> None:
    page, net = made.html(), cnnlens.open(MODEL)
    layers = made.to_json()["layers"]
    kernel = net["conv2d_1"].kernel
    assert kernel is not None
    assert (unpacked(page, layers[2]["weights"][0]["array"]) == kernel.array).all()
    assert (unpacked(page, layers[2]["weights"][1]["array"]) == net["conv2d_1"].weights["bias"]).all()
    maps = net.run(IMAGES, layers=["conv2d_1"])["conv2d_1"]
    assert (unpacked(page, layers[2]["maps"][0]["array"]) == maps.reshape(640, 14, 14).astype(np.float32)).all()
    whole = net["conv2d"].kernel
    assert whole is not None
    mean, std, low, high, broken = unpacked(page, layers[0]["weights"][0]["statistics"])[5]
    stats = cnnlens.Kernel.from_stored("Conv2D", whole.array[5:6], framework="torch").stats()
    assert (mean, std, low, high, broken) == (stats.mean, stats.std, stats.min, stats.max, 0)


@pytest.mark.slow
def test_an_index_names_the_same_number_in_each_framework(made: Report) -> None:
    net = cnnlens.open(MODEL)
    for name, index in (("conv2d_1", {"O": 5, "I": 3, "H": 2, "W": 1}), ("dense", {"O": 7, "H": 6, "W": 2, "C": 50})):
        row = next(one for one in made.to_json()["layers"] if one["name"] == name)
        kernel = net[name].kernel
        assert kernel is not None
        found = {
            one["framework"]: tuple(
                sum(index[letter] * one["steps"][letter] for letter in axis) // stride
                for axis, stride in zip(one["axes"], one["strides"], strict=True)
            )
            for one in row["weights"][0]["notation"]
        }
        value = kernel.array[found["canonical"]]
        assert kernel.to("keras")[found["keras"]] == kernel.to("torch")[found["torch"]] == value


@pytest.mark.slow
def test_the_histogram_is_that_of_the_command(made: Report, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["hist", str(MODEL), "--layer", "conv2d", "--untrained", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    here = made.to_json()["layers"][0]["weights"][0]["histogram"]
    for draw in ("trained", "untrained"):
        assert {key: here[draw][key] for key in ("counts", "edges")} == said[draw]["histogram"]


def test_names_of_a_file_end_no_element_and_the_policy_names_the_script(made: Report) -> None:
    data = {**made.data, "model": {**made.data["model"], "name": HOSTILE}}
    page = Report(data, made.block, made.words).html()
    elements = Elements(page)
    assert json.loads(elements.texts["data"])["model"]["name"] == HOSTILE
    assert sorted(tag for tag, _ in elements.tags if tag == "script") == ["script"] * 4
    assert not [attrs for _, attrs in elements.tags if any(name == "style" or name.startswith("on") for name in attrs)]
    policy = next(str(attrs["content"]) for _, attrs in elements.tags if "http-equiv" in attrs)
    assert re.match(r"default-src 'none'; script-src 'sha256-[\w+/=]{44}'; style-src 'sha256-", policy)


@given(st.text())
def test_what_is_in_the_page_is_what_was_put_there(data: str) -> None:
    text = str(in_page(data))
    assert json.loads(text) == data
    assert text.isascii()
    assert not set("<>&") & set(text)


def test_levels_are_within_half_a_level() -> None:
    values = np.random.default_rng(0).normal(size=(5, 3, 7)).astype(np.float32)
    low, high = values.min(axis=(1, 2)), values.max(axis=(1, 2))
    back = low[:, None, None] + levels(values, low, high) / LEVELS * (high - low)[:, None, None]
    assert np.abs(back - values).max() <= ((high - low).max() / LEVELS / 2) * 1.001
    broken = levels(np.array([[np.nan, np.inf, -np.inf, 0.5]]), np.array(0.0), np.array(1.0))
    assert broken.tolist() == [[254, 255, 255, round(LEVELS / 2)]]


@st.composite
def graphs(draw: st.DrawFn) -> Sequence[Sequence[int]]:
    count = draw(st.integers(1, 12))
    return [draw(st.lists(st.integers(0, call - 1), max_size=3, unique=True)) if call else [] for call in range(count)]


@given(graphs())
def test_each_tensor_has_a_lane_of_its_own_to_the_last_that_takes_it(feeds: Sequence[Sequence[int]]) -> None:
    rows = lanes(feeds)
    for source, row in enumerate(rows):
        takers = [call for call, sources in enumerate(feeds) if source in sources]
        assert row["out"] == bool(takers)
        for below in range(source + 1, max(takers, default=source) + 1):
            if below < takers[-1]:
                assert row["lane"] in rows[below]["through"]
            assert (row["lane"] in rows[below]["from"]) == (below in takers)
    for row in rows:
        assert row["lane"] not in row["through"]


def test_what_a_script_imports_is_exported() -> None:
    folder = files("cnnlens.reporting") / "pages"
    scripts = {one.name: one.read_text(encoding="utf-8") for one in folder.iterdir() if one.name.endswith(".js")}
    for name, text in scripts.items():
        for wanted, other in re.findall(r'^import \{(.*?)\} from "\./(\w+\.js)";$', text, re.MULTILINE):
            given = re.findall(r"^export (?:async )?(?:function|class|const) (\w+)", scripts[other], re.MULTILINE)
            assert {one.strip() for one in wanted.split(",")} <= set(given), (name, other)


def test_the_languages_have_the_same_words() -> None:
    tables = [language_named(language, "lesson").table for language in LANGUAGES]
    for table in tables:
        assert table.keys() == tables[0].keys()
        for key, text in table.items():
            assert set(re.findall(r"\{\w+\}", text)) == set(re.findall(r"\{\w+\}", tables[0][key])), key
    with pytest.raises(cnnlens.CnnlensError, match="no pages in 'fr'"):
        language_named("fr")


def test_what_cannot_be_made_is_a_line_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(MODEL)]) == 2
    assert main(["report", str(MODEL), "-o", str(tmp_path / "x" / "report.html")]) == 2
    assert main(["report", str(MODEL), "-o", "s3://bucket/report.html"]) == 2
    assert "this is an address" in (said := capsys.readouterr().err)
    assert len(said.splitlines()) == 3
    assert main(["report", str(MODEL), "-l", "conv", "-o", str(tmp_path / "report.html")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_page_is_written_over_nothing_that_is_read_and_is_named_as_one(tmp_path: Path) -> None:
    model = tmp_path / "model.html"
    model.write_bytes(MODEL.read_bytes())
    given = [str(model), "--inputs", str(IMAGES), "--backend", "reference", "--report", str(model)]
    assert main(["record", *given, "-o", str(tmp_path / "run.zarr")]) == 2
    assert main(["report", str(model), "-o", str(model)]) == 2
    other = tmp_path / "model.keras"
    other.write_bytes(MODEL.read_bytes())
    assert main(["lesson", "-o", str(other)]) == 2
    assert model.read_bytes() == other.read_bytes() == MODEL.read_bytes()
    assert {one.name for one in tmp_path.iterdir()} == {"model.html", "model.keras"}


def test_inputs_may_be_drawn() -> None:
    made = cnnlens.report(MODEL, inputs="random", layers=[0], backends=["reference"], progress=False)
    assert made.data["inputs"]["labels"][0] == "random [0]"
    assert made.data["inputs"]["notes"] == ["(8, 1, 28, 28) drawn from seed 0"]
    assert made.data["layers"][0]["maps"][0]["shape"] == [8, 32, 28, 28]
    assert any("(8, 1, 28, 28) drawn from seed 0" in one["text"] for one in made.data["check"]["said"])


def test_weights_without_a_graph_have_a_page_of_their_difference(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    net = cnnlens.open(MODEL)
    save_file({"conv.weight": net["conv2d"].kernel.to("torch").copy()}, tmp_path / "a.safetensors")
    page = tmp_path / "diff.html"
    given = ["diff", str(tmp_path / "a.safetensors"), str(MODEL), "--inputs", str(IMAGES), "-o", str(page)]
    assert main(given) == 1
    assert "they need a graph, and A holds weights alone" in page.read_text(encoding="utf-8")
