"""Holds the plan of the house in docs/design.md against the folders and modules that are there."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parent.parent


def planned() -> list[str]:
    """Read the fenced tree: two blanks of indentation a floor, the first word a name."""
    tree = (ROOT / "docs" / "design.md").read_text(encoding="utf-8").split("```\n")[1]
    path: list[str] = []
    found: list[str] = []
    for line in tree.splitlines():
        path[(len(line) - len(line.lstrip())) // 2 :] = [line.split()[0].rstrip("/")]
        found.append("/".join(path))
    return found


def there() -> set[str]:
    house = ROOT / "cnnlens"
    folders = {one.parent for one in house.rglob("*") if one.is_file() and one.parent.name != "__pycache__"}
    loose = {one for one in house.glob("*.py") if one.name != "__init__.py"}
    return {one.relative_to(ROOT).as_posix() for one in {house, *folders, *loose}}


def test_the_plan_names_each_room_once_and_no_other() -> None:
    plan = planned()
    assert len(plan) == len(set(plan))
    assert set(plan) == there()
