"""Counts the house: rooms, arrows, arrows that run back up, circles: ``python -m tests.support.house [FOLDER]``.

A room is a folder or a loose module at the top of ``cnnlens``; an arrow is an import of one room by another, wherever
in the file it stands, for types alone or not. FOLDER is another checkout, an older one say.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from pathlib import Path

Arrows = dict[tuple[str, str], list[str]]


def imports(root: Path, package: str = "cnnlens") -> Iterator[tuple[str, str]]:
    """Every import of a module of ``package`` by another, as the dotted names of both."""
    files = {_dotted(path, root): path for path in sorted((root / package).rglob("*.py"))}
    for module, path in files.items():
        for names in _imported(path.read_text(encoding="utf-8")):
            name = next((name for name in names if name in files), module)
            if name != module:
                yield module, name


@lru_cache(maxsize=4096)
def _imported(text: str) -> tuple[tuple[str, ...], ...]:
    """What each import of a file may mean, the likelier first: ``from a import b`` is ``a.b`` or a name in ``a``."""
    found: list[tuple[str, ...]] = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += [(alias.name,) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [(f"{node.module}.{alias.name}", str(node.module)) for alias in node.names]
    return tuple(found)


def _dotted(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room(module: str) -> str:
    """The room that a module is in: ``layout`` for ``cnnlens.layout.tables``, ``cnnlens`` for the package itself."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def arrows(root: Path) -> Arrows:
    """Which room imports which, with the imports that say so. A public name's own home is no arrow of the package."""
    found: Arrows = {}
    for module, name in imports(root):
        one, other = room(module), room(name)
        if one != other and one != "cnnlens":
            found.setdefault((one, other), []).append(f"{module} imports {name}")
    return found


def circles(edges: Mapping[str, set[str]]) -> list[list[str]]:
    """The strongly connected parts of more than one node (Tarjan's algorithm, without recursion's limit in the way)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(edges.get(node, ())):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            part = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(part) > 1:
                found.append(sorted(part))

    for node in sorted(edges):
        if node not in index:
            visit(node)
    return found


def module_circles(root: Path) -> list[list[str]]:
    """Modules that import each other in a loop; what a package's face hands on is no loop of the package."""
    edges: dict[str, set[str]] = {}
    faces = {_dotted(path.parent / "__init__.py", root) for path in (root / "cnnlens").rglob("__init__.py")}
    for module, name in imports(root):
        if module not in faces and name not in faces:
            edges.setdefault(module, set()).add(name)
    return circles(edges)


def floors(found: Arrows, back: Collection[tuple[str, str]] = ()) -> list[list[str]]:
    """The rooms from the ground up: each stands above all that it imports, but for the arrows that run ``back``."""
    below: dict[str, set[str]] = {name: set() for pair in found for name in pair}
    for one, other in found:
        if (one, other) not in back:
            below[one].add(other)
    made: list[list[str]] = []
    while below:
        floor = sorted(name for name, others in below.items() if not others & below.keys())
        if not floor:
            raise ValueError(f"these rooms import each other in a circle: {', '.join(sorted(below))}")
        made.append(floor)
        for name in floor:
            del below[name]
    return made


def main(root: Path) -> None:
    """Print the counts of the house below ``root``."""
    found = arrows(root)
    rooms = {name for pair in found for name in pair}
    edges: dict[str, set[str]] = {}
    for one, other in found:
        edges.setdefault(one, set()).add(other)
    loops, tied = circles(edges), module_circles(root)
    print(f"{len(rooms)} rooms, {len(found)} arrows, {len(loops)} circles of rooms, {len(tied)} circles of modules")
    for loop in (*loops, *tied):
        print(f"circle: {', '.join(loop)}")
    if not loops:
        print(f"{len(floors(found))} floors")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[2])
