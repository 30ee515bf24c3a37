"""The atlas: what it covers, that a planted fault is found and made small, and that no backend can end it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

import cnnlens
from cnnlens.checking.auditing import audit_recording
from cnnlens.checking.evidence import Predictions
from cnnlens.cli.main import main
from cnnlens.cli.terminal import on_terminal
from cnnlens.errors import CnnlensError
from cnnlens.kinds import LAYERS, OPERATIONS
from cnnlens.output import writable
from cnnlens.surveying import comparing, listing, surveyor
from cnnlens.surveying.drawing import CLASSES
from cnnlens.surveying.log import Log
from cnnlens.surveying.networks import branch, network_of
from cnnlens.surveying.result import Cell, Finding, Side
from cnnlens.surveying.running import Kept, Outcome, Under, together
from cnnlens.surveying.setting import Family, Setting
from cnnlens.surveying.surveyor import _merged
from cnnlens.surveying.table import FAMILIES, UNSWEPT
from tests.support.browser import chromium

SWEPT = {family.kind for family in FAMILIES}


# -- what is tried ---------------------------------------------------------------------------------------------------


def test_every_kind_is_swept_or_says_why_not() -> None:
    kinds = {row.name for row in (*LAYERS, *OPERATIONS)}
    assert kinds - SWEPT == set(UNSWEPT)
    assert not SWEPT - kinds


def _pairs(choice: dict[str, object]) -> set[tuple[tuple[str, str], ...]]:
    return set(combinations([(name, repr(value)) for name, value in choice.items()], 2))


@pytest.mark.parametrize("kind", ["Conv2D", "Conv2DTranspose", "LSTM", "Resizing", "GroupNormalization"])
def test_any_two_values_that_can_stand_together_do_so(kind: str) -> None:
    family = next(one for one in FAMILIES if one.kind == kind)
    valid = family.valid()
    settings, count = family.settings()
    can = set().union(*map(_pairs, valid))
    assert can == set().union(*(_pairs(dict(one.options)) for one in settings))
    assert count == len(can)
    assert len(settings) < len(valid) / 10


def test_what_keras_refuses_is_no_setting() -> None:
    family = next(one for one in FAMILIES if one.kind == "Conv2D")
    assert not [one for one in family.valid() if set(one["strides"]) != {1} and set(one["dilation_rate"]) != {1}]
    assert not [one for one in family.valid() if one["channels"] % one["groups"]]


@pytest.mark.slow
def test_all_settings_are_networks_and_no_two_have_one_key() -> None:
    settings = [one for family in FAMILIES for one in family.settings()[0]]
    assert len({one.key for one in settings}) == len(settings)
    for framework in ("keras", "torch"):
        some = [one for one in settings if one.family.framework == framework]
        calls = network_of(some).calls_by_name
        assert all(branch(number, one) in calls for number, one in enumerate(some))


# -- what is found ---------------------------------------------------------------------------------------------------


def test_a_planted_fault_is_found_and_made_as_small_as_it_is(plant: Path) -> None:
    plant.write_text("shift")
    made = cnnlens.atlas(["Conv1D", "Conv2D", "Dense"], backends=["planted-reference"], progress=False)
    assert {one.kind for one in made.findings} == {"Conv1D", "Conv2D"}
    for one in made.findings:
        assert (one.fault, one.sides, one.everywhere) == ("wrong value", ("planted-reference",), False)
        odd = {name for name, value in one.options.items() if value != _plainest(one.kind)[name]}
        assert odd - {"size", "channels", "filters"} == {"kernel_size", "padding", "dilation_rate"}
        assert one.options["kernel_size"][-1] % 2 == 0
        assert one.options["channels"] == one.options["filters"] == 1
        assert one.computed != one.expected
        assert one.script == "", "nobody knows how a backend of somebody's own is called"
    cells = {cell.kind: cell for cell in made.cells}
    assert cells["Dense"].faults == {}
    assert cells["Conv2D"].faults == {"wrong value": made.findings[1].settings}
    assert "Conv2D" in str(made)
    assert json.loads(json.dumps(made.to_json()))["format"] == "cnnlens.atlas/1"


def _plainest(kind: str) -> dict[str, object]:
    family = next(one for one in FAMILIES if one.kind == kind)
    return {name: values[0] for name, values in family.options.items()}


@pytest.mark.parametrize(("planted", "fault", "timeout"), [("crash", "crashed", 60), ("hang", "hung", 6)])
@pytest.mark.slow
def test_a_backend_that_crashes_or_hangs_at_a_setting_is_a_cell(
    plant: Path, planted: str, fault: str, timeout: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = next(one for one in FAMILIES if one.kind == "SeparableConv1D")
    # Few: a worker that hangs is waited for, and each that ends is started again.
    table = {name: values[:1] for name, values in family.options.items()}
    table |= {"kernel_size": ((4,),), "padding": ("valid", "same"), "dilation_rate": ((1,), (2,))}
    monkeypatch.setattr(surveyor, "FAMILIES", (replace(family, options=table, sizes=frozenset()),))
    plant.write_text(planted)
    made = cnnlens.atlas(["SeparableConv1D"], backends=["planted-reference"], timeout=timeout, progress=False)
    (cell,) = made.cells
    assert (cell.faults, cell.settings) == ({fault: 1}, 4)
    (found,) = made.findings
    assert (found.options["padding"], found.options["dilation_rate"]) == ("same", (2,))
    assert made.agree, "no number came that is wrong"


def test_those_who_help_run_each_setting_once_and_end_together() -> None:
    settings = [one for family in FAMILIES if family.kind in ("Relu", "Tanh", "Add") for one in family.settings()[0]]
    settings = [one for one in settings if one.family.framework == "keras"] * 9
    said: list[Setting] = []
    share = surveyor._Share(settings, Under("reference"), lambda one, _: said.append(one))
    with ThreadPoolExecutor(2) as two:
        list(two.map(lambda _: share.work(), range(2)))
    share.wait()
    assert Counter(said) == Counter(settings)

    def full(_: Setting, outcome: object) -> None:
        raise CnnlensError("atlas.log: it cannot be written")

    share = surveyor._Share(settings, Under("reference"), full)
    with pytest.raises(CnnlensError, match="cannot be written"):
        share.work()
    assert share.wants == 0, "nobody else begins"
    with pytest.raises(CnnlensError, match="cannot be written"):
        share.wait()


def test_all_inputs_of_a_class_stand_where_it_is_said() -> None:
    from cnnlens.surveying.drawing import draw, rows_of

    family = next(one for one in FAMILIES if one.kind == "ReLU")
    (x,) = draw(network_of(family.settings()[0][:1]))
    assert len(x) == sum(count for count, _ in CLASSES.values())
    assert np.isnan(x).any(axis=tuple(range(1, x.ndim))).nonzero()[0].tolist() == [rows_of("one NaN")[0]]


@pytest.mark.slow
def test_what_a_network_must_give_is_computed_once_and_hides_nothing() -> None:
    kinds = ("Conv1D", "LSTM", "MaxPooling2D", "Gelu")
    some = [one for family in FAMILIES if family.kind in kinds for one in family.settings()[0][:2]]
    network, inputs, _ = together(tuple(one for one in some if one.family.framework == "keras"))
    names = [ref.name for ref in network.outputs]
    with np.errstate(all="ignore"):
        maps = {name: np.float32(array) for name, array in network.run(inputs, names).items()}
    given = dict(zip((ref.name for ref in network.inputs), inputs, strict=True))
    honest = Kept({**given, **maps}, {"precision": "strict"})
    known: Predictions = {}
    first = dict(audit_recording(network, honest, known=known))
    assert {name for name, *_ in known} == {name for name in names if "MaxPooling" not in name}
    off = Kept({**given, **{name: array * np.float32(1.01) for name, array in maps.items()}}, honest.info)
    for kept in (honest, off):
        again, plain = (dict(audit_recording(network, kept, known=one)) for one in (known, None))
        assert repr(again) == repr(plain)  # NaN is unlike itself
        unnamed = dict(audit_recording(network, kept, explained=False))
        assert {n: a.verdict.passes("strict") for n, a in unnamed.items()} == {
            n: a.verdict.passes("strict") for n, a in plain.items()
        }
        assert not any(one.explanation for one in unnamed.values() if one.verdict.fault)
    assert all(one.verdict.passes("strict") for one in first.values())


# -- what is said of it ----------------------------------------------------------------------------------------------


def test_what_was_refused_was_not_audited_and_a_value_alone_is_no_pair(tmp_path: Path) -> None:
    kinds = ["Relu", "Concatenate"]
    first = cnnlens.atlas(kinds, backends=["reference"], progress=False)
    families = [one for one in FAMILIES if one.kind in kinds]
    can = [set().union(*(_pairs(dict(each)) for each in one.valid())) for one in families]
    assert first.covered == sum(map(len, can))
    assert first.audits == first.settings == sum(cell.settings for cell in first.cells)
    log = tmp_path / "atlas.log"
    setting, *_ = families[0].settings()[0]
    for one in families[0].settings()[0][:2]:
        fault = "refused" if one == setting else ""
        Log(log).add(Under("reference"), first.sides[0].versions, one, Outcome(fault, "it failed"))
    again = cnnlens.atlas(kinds, backends=["reference"], log=log, progress=False)
    assert again.audits == again.settings - 1 == sum(cell.audited for cell in again.cells)
    assert again.resumed == 1
    head = str(listing.as_page(cnnlens.atlas(["Identity"], backends=["reference"], progress=False))).splitlines()
    assert head[0].startswith("1 kind, 1 setting, 1 output audited in ")
    assert head[1].endswith(": no kind has two options")


def test_settings_of_a_backend_that_did_not_start_are_not_counted(plant: Path) -> None:
    plant.write_text("")
    made = cnnlens.atlas(["Relu"], backends=["planted-reference", "pytorch@/bin/false"], progress=False)
    assert [bool(side.error) for side in made.sides] == [False, True]
    assert made.settings == made.audits == sum(cell.settings for cell in made.cells)


def test_a_cell_says_of_how_many_settings_nothing_can_be_said() -> None:
    for faults, said in (({}, "12 agree, 3 not audited"), ({"refused": 2}, "2 refused, 3 not audited of 15")):
        assert listing._cell(Cell("Dense", "a", 15, 3, faults), {}) == said


# -- goes on, compares, refuses --------------------------------------------------------------------------------------


def test_what_was_found_is_not_run_again(plant: Path, tmp_path: Path) -> None:
    log = tmp_path / "atlas.log"
    plant.write_text("shift")
    first = cnnlens.atlas(["Conv1D"], backends=["planted-reference"], log=log, progress=False)
    lines = log.read_text().splitlines()
    assert len(lines) == first.settings
    last = [line for line in lines if "wrong value" not in line][-3:]
    log.write_text("\n".join(line for line in lines if line not in last) + '\n["cut off')
    plant.write_text("")  # whatever is run from now on agrees
    again = cnnlens.atlas(["Conv1D"], backends=["planted-reference"], log=log, progress=False)
    assert len(log.read_text().splitlines()) == len(lines) + 1
    assert again.cells[0].faults["wrong value"] == first.cells[0].faults["wrong value"], "as the log says"


@pytest.mark.slow
def test_a_sweep_that_ctrl_c_ended_goes_on_to_the_same_atlas(tmp_path: Path) -> None:
    kinds, out = ["Conv1D", "Conv2D", "SeparableConv2D"], tmp_path / "atlas.json"
    log = tmp_path / "atlas.json.log"
    arguments = ["atlas", *kinds, "-b", "reference", "-o", str(out)]
    process = subprocess.Popen(
        [sys.executable, "-m", "cnnlens", *arguments], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    while not log.exists() and process.poll() is None:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert said.endswith("atlas.json.log; the same command goes on from there\ncnnlens: interrupted\n")
    assert not out.exists()
    before = len(log.read_text().splitlines())
    assert main(arguments) == 0
    found, whole = json.loads(out.read_text()), cnnlens.atlas(kinds, backends=["reference"], progress=False).to_json()
    assert 0 < found["resumed"] == before < found["audits"]
    assert not log.exists()
    own = {"seconds": 0, "resumed": 0, "changed": None}
    assert {**found, **own} == {**json.loads(json.dumps(whole)), **own}


def test_what_hung_is_tried_again_where_it_is_waited_for_longer(tmp_path: Path) -> None:
    path = tmp_path / "atlas.log"
    hung, slow = next(one for one in FAMILIES if one.kind == "Relu").settings()[0][:2]
    Log(path).add(Under("reference", timeout=30), {}, hung, Outcome("hung", "gave no answer for 30 s"))
    Log(path).add(Under("reference", timeout=30), {}, slow, Outcome())
    assert set(Log(path).known(Under("reference", timeout=30), {})) == {hung.key, slow.key}
    assert set(Log(path).known(Under("reference", timeout=20), {})) == {hung.key, slow.key}
    assert set(Log(path).known(Under("reference", timeout=60), {})) == {slow.key}
    Log(path).add(Under("reference", timeout=60), {}, hung, Outcome(bits=22.0))
    assert Log(path).known(Under("reference", timeout=90), {})[hung.key].fault == ""


def test_two_sweeps_may_write_one_log(tmp_path: Path) -> None:
    """Each line is whole, however long; and what one has removed at its end, the other makes anew."""
    path, under = tmp_path / "atlas.log", Under("reference")
    settings = next(one for one in FAMILIES if one.kind == "Conv2D").settings()[0]
    with ThreadPoolExecutor(2) as two:
        for log in (Log(path), Log(path)):
            two.map(lambda one, log=log: log.add(under, {}, one, Outcome("refused", "x" * 20_000)), settings)
    assert set(Log(path).known(under, {})) == {one.key for one in settings}
    assert len(path.read_text().splitlines()) == 2 * len(settings)
    path.unlink()
    log.add(under, {}, settings[0], Outcome())
    assert set(Log(path).known(under, {})) == {settings[0].key}


def test_what_another_version_of_cnnlens_audited_is_audited_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, under, setting = tmp_path / "atlas.log", Under("reference"), FAMILIES[0].settings()[0][0]
    Log(path).add(under, {}, setting, Outcome("wrong value", "a fault of the reference, since mended"))
    assert Log(path).known(under, {})
    monkeypatch.setattr("cnnlens.surveying.log.version", lambda name: f"the next {name}")
    assert not Log(path).known(under, {})


def test_a_file_of_somebodys_own_is_no_log(tmp_path: Path) -> None:
    """It would be written to, and removed at the end."""
    own = tmp_path / "train.log"
    own.write_text("epoch 1, loss 0.3\n")
    assert main(["atlas", "Relu", "-b", "reference", "-o", str(tmp_path / "train")]) == 2
    assert own.read_text() == "epoch 1, loss 0.3\n"
    with pytest.raises(CnnlensError, match=r"(?s)it cannot be read"):
        Log(tmp_path)


def test_a_line_of_a_log_that_no_sweep_wrote_is_left_out(tmp_path: Path) -> None:
    path, under = tmp_path / "atlas.log", Under("reference")
    setting = next(one for one in FAMILIES if one.kind == "Relu").settings()[0][0]
    Log(path).add(under, {}, setting, Outcome("wrong value", "so", ("normal",), 3.0))
    (line,) = path.read_text().splitlines()
    path.write_text(
        line.replace("wrong value", "\\u001b[31mhacked") + "\n" + line.replace("normal", "odd") + "\n" + "[" * 99999
    )
    assert not Log(path).known(under, {})
    path.write_text(line + "\n")
    assert Log(path).known(under, {})[setting.key].inputs == ("normal",)
    assert not Log(path).known(under, {"numpy": "1.0"})


@pytest.mark.parametrize("name", ["a_folder", "mine.keras", "a_folder/nowhere/atlas.html"])
def test_where_nothing_can_be_written_nothing_is_swept(name: str, tmp_path: Path) -> None:
    (tmp_path / "a_folder").mkdir()
    (tmp_path / "mine.keras").write_text("a model")
    assert main(["atlas", "Relu", "-b", "reference", "-o", str(tmp_path / name)]) == 2
    assert not list(tmp_path.rglob("*.log"))
    ends = os.pipe()
    for end in ends:
        with pytest.raises(CnnlensError, match="a device or a pipe is not written to"):
            writable(f"/dev/fd/{end}")  # as /dev/stdout is, in front of a pipe
        os.close(end)
    assert (tmp_path / "mine.keras").read_text() == "a model"


def test_another_fault_in_a_cell_of_the_same_counts_is_a_change() -> None:
    def made(text: str, device: str = "cpu", kind: str = "ReLU") -> dict[str, object]:
        side = {"label": "k@/a b/python", "backend": "k@/a b/python", "versions": {"keras": "3"}, "device": device}
        cell = {"kind": kind, "side": side["label"], "settings": 6, "unaudited": 0, "faults": {"NaN or infinity": 2}}
        finding = {"kind": kind, "fault": "NaN or infinity", "sides": [side["label"]], "text": text}
        return {"level": "quick", "machine": {}, "sides": [side], "cells": [cell], "findings": [finding]}

    hides, makes = (f"NaN in output channel 0, which the backend {what} (1 output)" for what in ("hides", "makes"))
    found = comparing.compared(made(makes), made(hides, "gpu"))
    assert not found["cells"]
    assert found["faults"] == [
        ["ReLU", "k", "NaN or infinity", "NaN: makes it", "old"],
        ["ReLU", "k", "NaN or infinity", "NaN: hides it", "new"],
    ]
    assert found["versions"] == [["k", "device", "cpu", "gpu"]]
    assert "of 1 cells that both have none changed" in str(comparing.as_page(found))
    same = comparing.compared(made(hides), made(hides))
    assert not same["faults"]
    assert not same["versions"]
    other = comparing.compared(made(hides), made(hides, kind="ELU"))
    assert "nothing was compared" in str(comparing.as_page(other))
    unsaid = made(hides)
    unsaid["cells"][0]["unaudited"] = 4  # type: ignore[index]
    assert comparing.compared(made(hides), unsaid)["cells"]


def test_two_atlases_are_compared(plant: Path, tmp_path: Path) -> None:
    plant.write_text("shift")
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    arguments = ["atlas", "Conv1D", "-b", "planted-reference"]
    assert main([*arguments, "-o", str(old)]) == 1
    changed = json.loads(old.read_text())
    changed["sides"][0]["versions"]["numpy"] = "1.0"
    old.write_text(json.dumps(changed))
    plant.write_text("")
    assert main([*arguments, "--compare", str(old), "-o", str(new)]) == 0
    found = json.loads(new.read_text())["changed"]
    assert [one[:3] for one in found["versions"]] == [["planted-reference", "numpy", "1.0"]]
    assert [one[0] for one in found["cells"]] == ["Conv1D"]
    assert "numpy 1.0 then" in str(comparing.as_page(found))
    assert not list(tmp_path.glob("*.log"))


def test_a_line_of_a_log_that_holds_a_number_beyond_floats_is_passed_over(tmp_path: Path) -> None:
    from cnnlens.surveying import log

    path = tmp_path / "atlas.log"
    path.write_text(f"{log._BEGINS}\n{json.dumps(['o', 'k', '', '', [], 10**400, 1.0])}\n")
    log.Log(path)


@pytest.mark.parametrize(("where", "key", "value"), [("findings", "kind", 1), ("cells", "settings", "many")])
def test_an_atlas_of_other_types_is_refused_before_the_sweep(
    tmp_path: Path, where: str, key: str, value: object
) -> None:
    old = json.loads((Path(__file__).parents[2] / "benchmarks/results/older-atlas/today.keras-torch.json").read_text())
    old[where][0][key] = value
    path = tmp_path / "old.json"
    path.write_text(json.dumps(old))
    with pytest.raises(CnnlensError, match="cut short or changed"):
        comparing.read(path)


def test_several_releases_stand_beside_each_other(plant: Path) -> None:
    plant.write_text("shift")
    kinds = ["Conv1D", "Dense"]
    old = cnnlens.atlas(kinds, backends=["planted-reference"], progress=False).to_json()
    plant.write_text("")
    new = cnnlens.atlas(["Dense", "Conv1D", "ReLU"], backends=["planted-reference"], progress=False).to_json()
    old, new = json.loads(json.dumps(old)), json.loads(json.dumps(new))
    label = "planted-reference@/elsewhere/bin/python"
    old = json.loads(json.dumps(old).replace('"planted-reference"', json.dumps(label)))
    old["sides"][0]["versions"]["keras"] = "3.12.4"
    absent = {
        "kind": "Dense",
        "fault": "refused",
        "text": "layer 'x': Keras 3.12.4 has no layer of this class; view it",
    }
    old["findings"].append({**old["findings"][0], **absent})
    found = comparing.by_release([new, old])
    assert list(found) == ["planted-reference"]
    (row,) = found["planted-reference"]["rows"]
    settings = next(cell["settings"] for cell in new["cells"] if cell["kind"] == "Conv1D")
    assert row[:2] == ["Conv1D", "wrong value"]
    assert row[3] == f"0 of {settings}"
    assert row[4] == f"{old['findings'][0]['settings']} of {settings}"
    assert found["planted-reference"]["counts"] == [{"both": 0, "new": 0, "gone": 1, "absent": 1}]
    text = "\n".join(comparing.release_tables(found))
    assert "- **keras 3.12.4**: 2 kinds" in text
    assert "| Conv1D | wrong value |" in text
    assert comparing.compared(old, new)["cells"], "the same backend, under another Python"


def test_it_is_written_as_a_page_and_as_markdown(tmp_path: Path) -> None:
    made = cnnlens.atlas(["Dense", "Relu"], backends=["reference"], progress=False)
    assert "| Dense |" in listing.as_markdown(made)
    assert "<td>Dense</td>" in made.html()
    finding = Finding(
        "Dense", ("a",), "refused", "it failed (an <i>object</i>, [*, 3] or [*, 4], __init__())", 1, "", "", {}, (),
        script="x = 1\n\n" + "y = " + "1 + " * 60 + "x\n",
    )  # fmt: skip
    told = replace(made, findings=(finding,))
    assert "(an \\<i>object\\</i>, \\[\\*, 3\\] or \\[\\*, 4\\], \\_\\_init\\_\\_())" in listing.as_markdown(told)
    assert '<td class="fold" data-of="what is otherwise">it failed (an &lt;i&gt;' in told.html(), (
        "no sentence is scrolled to"
    )
    assert f"<pre>{finding.script.rstrip()}</pre>" in told.html(), "to be copied"
    assert finding.script in on_terminal(listing.as_page(told), 60)
    assert repr(made).startswith("<Atlas quick: 2 kinds, ")
    cell = replace(made.cells[0], kind="Dense", side="a", settings=5, faults={"refused": 2, "wrong value": 1})
    sides = (replace(made.sides[0], label="a"),)
    told = replace(told, cells=(cell,), sides=sides, findings=(replace(finding, fault="wrong value"), finding))
    page, plain, markdown = told.html(), str(told), listing.as_markdown(told)
    assert "2 refused [2], 1 wrong value [1] of 5" in plain
    assert '<a href="#finding-2">2 refused</a> [<a href="#finding-2">2</a>]' in page
    for place in re.findall('href="#([^"]+)"', page):
        assert page.count(f' id="{place}"') == 1, "each leads somewhere"
    assert "[2 refused](#2-dense-under-a-refused) \\[[2](#2-dense-under-a-refused)\\], [1 wrong value]" in markdown
    anchors = [re.sub(r"[^\w -]", "", line[3:].lower()).replace(" ", "-") for line in re.findall("## .+", markdown)]
    assert set(re.findall(r"\]\(#([^)]+)\)", markdown)) <= set(anchors)


def test_no_column_is_hidden_on_a_narrow_page_or_on_paper() -> None:
    made = cnnlens.atlas(["Dense", "Relu"], backends=["reference"], progress=False)
    options = {"units": 1, "use_bias": False, "activation": "linear", "channels": 2, "more": "channels_first"}
    short = Finding("Dense", ("reference",), "wrong value", "so " * 16, 1, "", "", options, ("normal",))
    findings = [short, replace(short, text="so " * 60, options={}), replace(short, sides=("a" * 40, "b" * 40))]
    cells = [replace(made.cells[0], side=side.label, faults={"wrong value": 2, "refused": 3}) for side in made.sides]
    page = replace(made, findings=tuple(findings), cells=tuple(cells), sides=made.sides).html()
    wide = "[...document.querySelectorAll('.wide')].filter(one => one.scrollWidth > one.clientWidth).length"
    with chromium() as browser:
        for width, media in ((390, "screen"), (720, "print"), (1280, "screen")):
            opened = browser.new_page(viewport={"width": width, "height": 800})
            opened.emulate_media(media=media)
            opened.set_content(page)
            assert opened.evaluate(wide) == 0, (width, media)
            assert opened.evaluate("document.documentElement.scrollWidth") <= width
    assert 'data-of="what is otherwise">so so' in page, "where a row is lines, each says its column"


def test_where_nothing_was_audited_nothing_was_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = cnnlens.atlas(["Relu"], backends=["reference"], progress=False)
    (cell, *_), path = made.cells, tmp_path / "atlas.json"
    for faults, unaudited, code in (
        ({"refused": 3, "hung": cell.settings - 3}, 0, 2),
        ({"refused": cell.settings - 2}, 2, 2),
        ({"crashed": cell.settings - 2}, 1, 0),
    ):
        one = replace(made, cells=(replace(cell, faults=faults, unaudited=unaudited),))
        monkeypatch.setattr(surveyor, "atlas", lambda *_, one=one, **__: one)
        assert main(["atlas", "Relu", "-o", str(path)]) == code
        assert json.loads(path.read_text())["could_audit"] is (code == 0)
        said = capsys.readouterr().err
        assert ("nothing was audited" in said) is (code == 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["Conv9D"], "no kind is named 'Conv9D'; did you mean"),
        (["Lambda"], "Lambda: it is not in the sweep: it holds its author's own code"),
        (["--level", "deep"], "level 'deep': quick or full was expected"),
        (["Conv2D", "-b", "pytorch9"], "no backend is named 'pytorch9'"),
        (["Relu", "-b", ","], "no backend is named; leave it out, or name one"),
        (["Relu", "-b", "reference", "--precision", ","], "no precision is named; leave it out, or name one"),
        (["Relu", "-b", "reference", "--precision", "float8"], "precision 'float8': strict, native"),
        (["AdditiveAttention", "-b", "pytorch"], "no backend of pytorch runs AdditiveAttention"),
        (["Conv2D", "--compare", "nowhere.json"], "nowhere.json: it cannot be read"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["atlas", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_file_that_is_no_atlas_is_refused(tmp_path: Path) -> None:
    cut = {"format": "cnnlens.atlas/1", "sides": [{"label": "a", "backend": "a", "versions": ["x"]}]}
    for text in (
        "",
        "[]",
        '{"format": "cnnlens.bench/1"}',
        '{"format": "cnnlens.atlas/1"}',
        "[" * 99_999,
        json.dumps(cut),
    ):
        (tmp_path / "old.json").write_text(text)
        with pytest.raises(CnnlensError, match=r"old\.json: (this is no atlas|it is cut short)"):
            comparing.read(tmp_path / "old.json")


def test_a_setting_says_itself() -> None:
    family = Family("ReLU", {"shape": ((3,), (5,)), "threshold": (0.0, 0.3)}, FAMILIES[0].make)
    assert Setting(family, {"shape": (5,), "threshold": 0.3}).unlike_plain == ["shape", "threshold"]


def test_one_small_case_of_two_backends_is_one_finding_where_both_do_the_same() -> None:
    sides = [Side("a", "a", "strict", "keras"), Side("b", "b", "strict", "keras")]
    texts = ("bicubic weights computed with a = -0.5 and weights of the edge scaled to one",
             "bicubic weights computed with a = -0.75 and the edge repeated")  # fmt: skip
    one, other = (
        Finding("Resizing", (side.label,), "wrong value", text, 2, "", "small", {}, ())
        for side, text in zip(sides, texts, strict=True)
    )
    assert [each.text for each in _merged([one, other], sides)] == list(texts)
    (both,) = _merged([one, replace(other, text=texts[0])], sides)
    assert (both.sides, both.everywhere) == (("a", "b"), True)
    twice = [sides[0], replace(sides[1], backend="a@/elsewhere/python", precision="native")]
    (both,) = _merged([one, replace(other, text=texts[0])], twice)
    assert (both.sides, both.everywhere) == (("a", "b"), False), "one backend tells nothing of others"


# -- what the sweep draws, as false alarms and planted faults (python -m benchmarks truth swept) ---------------------


@pytest.mark.slow
def test_honest_outputs_of_settings_pass_and_planted_faults_are_named() -> None:
    from benchmarks.swept import _chunk, _places, mistake

    kinds = ("Conv2D", "LayerNormalization", "Add", "Cumsum")
    families = [next(one for one in FAMILIES if (one.kind, one.framework) == (kind, "keras")) for kind in kinds]
    last = [[one for one in family.settings()[0] if one.call.operands[0].channel_axis == -1] for family in families]
    rows = _chunk(_places([several[3] for several in last]), {})
    assert not [row for row in rows if mistake(row)]
    honest = [row for row in rows if row["fault"] is None]
    assert len(honest) == len(kinds) * (1 + len(CLASSES))
    planted = {row["kind"]: row["fault"] for row in rows if row["fault"] is not None and row["judged"] != "described"}
    assert set(planted) == set(kinds)
    assert mistake({**honest[0], "verdict": "wrong"}) == "false_alarms"
    seen = next(row for row in rows if row.get("judged") == "named" and row["above"] > 15)
    assert mistake({**seen, "verdict": "float32", "sees": None}) == "false_passes"
    assert mistake({**seen, "judged": "false"}) == "false_sentences"
