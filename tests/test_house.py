"""The house: which room may know which. Whoever adds an arrow says so here, and no room comes to know one above it."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.house import arrows, floors, imports, module_circles, room

# A room, and the rooms whose modules its own may import, for types alone or inside a function too.
MAY_IMPORT = {
    "__main__": "cli",
    "cli": "backend benching checking cnnlens conversion differing errors inputs layout network opening output plot "
    "page progress recording reporting sample statistics surveying text",
    "surveying": "backend checking errors files janitor kinds network output page progress reference testing text",
    "benching": "backend checking errors inputs janitor network opening output page plot progress recording text",
    "reporting": "backend checking differing errors inputs layout network opening output page plot progress reference "
    "sample text",
    "conversion": "backend checking differing errors files janitor kinds layout network opening output page progress "
    "reference text",
    "differing": "checking errors inputs kinds layout network opening output page progress reference text",
    "checking": "backend errors inputs janitor kinds network opening output page progress recording reference text",
    "statistics": "backend errors inputs janitor memory opening output page plot progress recording text",
    "recording": "backend errors inputs janitor layout memory network opening page progress text",
    "testing": "backend errors files janitor layout network",
    "backend": "errors files janitor layout network page reference text",
    "opening": "errors files janitor kinds network text",
    "files": "errors kinds layout memory network output reference text",
    "plot": "errors inputs layout network text",
    "inputs": "errors memory network text",
    "reference": "errors kinds memory network text",
    "network": "errors kinds layout page text",
    "layout": "errors kinds page text",
    "memory": "errors",
    "output": "errors text",
    "errors": "text",
    "page": "text",
    "progress": "text",
}
# The arrows that run back up, and why: whoever has a network gives it pictures, runs it and draws it by its methods,
# and what does that reads the network.
BACK = {
    ("network", "reference"): "Network.run, and the type of Layer.operation",
    ("network", "inputs"): "Network.read",
    ("network", "plot"): "Layer.plot, and the small picture of a kernel in a notebook",
}
GROUND = {"cnnlens", "janitor", "kinds", "sample", "text"}


def breaches(root: Path) -> list[str]:
    """Every import between rooms that the table does not allow."""
    return [
        said
        for (one, other), all_said in arrows(root).items()
        if other not in MAY_IMPORT.get(one, "").split() and (one, other) not in BACK
        for said in all_said
    ]


def test_no_room_imports_one_that_it_may_not() -> None:
    assert not breaches(ROOT)


def test_the_table_allows_nothing_that_is_not_there() -> None:
    allowed = {(one, other) for one, others in MAY_IMPORT.items() for other in others.split()} | set(BACK)
    assert not allowed - set(arrows(ROOT))


def test_every_room_stands_above_those_that_it_imports() -> None:
    found = floors(arrows(ROOT), BACK)
    assert set(found[0]) == GROUND
    assert found[-1] == ["__main__"]


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert not module_circles(ROOT)


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of the package whose files a test may spoil."""
    shutil.copytree(ROOT / "cnnlens", tmp_path / "cnnlens", ignore=shutil.ignore_patterns("__pycache__", "sample"))
    return tmp_path


@pytest.mark.parametrize(
    "line",
    [
        "from cnnlens.cli.main import main",
        "from cnnlens import plot",
        "import cnnlens.checking.twins",
        "def later():\n    from cnnlens.recording import recorder",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from cnnlens.backend import Session",
    ],
)
def test_a_planted_breach_is_seen(copied: Path, line: str) -> None:
    with open(copied / "cnnlens" / "layout" / "tables.py", "a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")
    assert [said for said in breaches(copied) if said.startswith("cnnlens.layout.tables imports ")]
    with pytest.raises(ValueError, match="in a circle"):
        floors(arrows(copied), BACK)


def test_a_planted_circle_of_modules_is_seen(copied: Path) -> None:
    with open(copied / "cnnlens" / "layout" / "geometry.py", "a", encoding="utf-8") as file:
        file.write("\nfrom cnnlens.layout import lookup\nfrom cnnlens.layout.conversions import describe\n")
    assert any("cnnlens.layout.geometry" in circle for circle in module_circles(copied))


def test_a_rooms_init_is_its_face() -> None:
    """It hands on what others may use and does nothing; rooms inside rooms may fill their own tables there."""
    for path in (ROOT / "cnnlens").glob("*/__init__.py"):
        if path.parent.name == "sample":  # data, and where it lies
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            is_all = isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
            assert isinstance(node, ast.ImportFrom) or is_docstring or (is_all and node.targets[0].id == "__all__"), (
                path
            )


def test_inside_a_room_the_face_is_not_used() -> None:
    """What a room's own modules take from each other they take at the source, so that no face is a circle."""
    rooms = {f"cnnlens.{path.parent.name}" for path in (ROOT / "cnnlens").glob("*/__init__.py")}
    inside = [
        f"{module} imports {name}"
        for module, name in imports(ROOT)
        if name in rooms and module.startswith(name + ".") and room(module) != "cnnlens"
    ]
    assert not inside
