"""The harness of ``python -m benchmarks``: which parts are meant, and what a row says of its goal."""

from __future__ import annotations

import ast
import json

import pytest

from benchmarks.__main__ import chosen
from benchmarks.harness import Report, Row, in_turn, keep_figures
from benchmarks.parts import DEFAULT, PARTS
from tests.support import ROOT


def test_a_time_is_to_be_at_most_its_goal_and_a_rate_at_least():
    assert [Row.of("x", [one], [1.0], "s", 0.8).verdict for one in (0.7, 0.9)] == ["ok", "SHORT"]
    assert [Row.of("x", [one], [1.0], "images/s", 0.8).verdict for one in (0.7, 0.9)] == ["SHORT", "ok"]
    assert Row.of("x", [3.0], [1.0], "s").verdict == "no goal"


def test_the_ratio_is_the_median_of_the_rounds_own():
    row = Row.of("x", [1.0, 8.0, 3.0], [2.0, 8.0, 2.0], "s", 1.2)
    assert (row.ratio, row.spread, row.verdict) == (1.0, (0.5, 1.5), "ok, unsure")
    assert Row.limit("x", 3.0, 4.0, "GB").verdict == "ok"


def test_sides_take_turns_and_nobody_is_always_first():
    order: list[str] = []
    taken = in_turn({name: lambda name=name: len(order.append(name) or order) for name in "ab"}, 2)
    assert order == ["a", "b", "a", "b", "b", "a"]
    assert taken == {"a": [3, 6], "b": [4, 5]}


def test_parts_and_their_names():
    assert chosen([], "cpu") == dict.fromkeys(DEFAULT, ())
    assert chosen([], "gpu") == {"gpu": ()}
    given = ["applications", "VGG16", "ResNet50", "diff", "memory", "stats", "growth"]
    assert chosen(given, "cpu") == {
        "applications": ("VGG16", "ResNet50"), "diff": (), "memory": ("stats",), "growth": (),
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"no VGG17 here; there are .*VGG16.* diff"):
        chosen(["applications", "VGG17"], "cpu")
    with pytest.raises(ValueError, match="diff measures the CPU alone"):
        chosen(["diff"], "gpu")


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_every_part_has_who_answers_it(part):
    """Read, not imported: some import a framework."""
    for path in filter(None, (part.runner, part.named)):
        module, _, name = path.partition(".")
        tree = ast.parse((ROOT / "benchmarks" / f"{module}.py").read_text())
        known = {one.name for one in tree.body if isinstance(one, ast.FunctionDef)}
        for one in tree.body:
            targets = (
                one.targets if isinstance(one, ast.Assign) else [one.target] if isinstance(one, ast.AnnAssign) else []
            )
            known |= {target.id for target in targets if isinstance(target, ast.Name)}
        assert name in known


def test_a_report_is_as_good_as_its_worst_row(capsys):
    report = Report()
    report.row(Row.of("fast", [1.0], [2.0], "s", 1))
    assert report.good
    report.row(Row.of("slow", [3.0], [2.0], "s", 1))
    assert not report.good
    assert [row["verdict"] for row in json.loads(json.dumps(report.to_json()))["rows"]] == ["ok", "SHORT"]
    assert "goal" in capsys.readouterr().out.splitlines()[0]


def test_figures_are_kept_in_order_beside_those_of_before(tmp_path):
    path = tmp_path / "figures.json"
    keep_figures(path, {"b": 1}, "abc")
    keep_figures(path, {"a": 2, "b": 3}, "abc")
    assert list(json.loads(path.read_text()).items()) == [("a", 2), ("b", 3)]
