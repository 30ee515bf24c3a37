"""The tool that changes one line at a time changes that line, to something that Python reads, and nothing else."""

from __future__ import annotations

import ast

import pytest

from benchmarks.mutations import EQUIVALENT, ROOMS, ROOT, mutations, sample


@pytest.mark.slow
@pytest.mark.parametrize("room", ROOMS)
def test_each_change_is_one_and_can_be_read(room: str) -> None:
    found = sample(ROOMS[room], 40)
    assert len({(one.file, one.line) for one in found}) == 40
    assert found[:5] == sample(ROOMS[room], 5)
    for one in found:
        source = (ROOT / one.file).read_bytes()
        assert ast.unparse(ast.parse(source[one.start : one.end].decode().strip())) == one.before, one.shown
        assert ast.dump(ast.parse(one.made(source))) != ast.dump(ast.parse(source)), one.shown


@pytest.mark.slow
def test_what_is_argued_to_be_equivalent_is_there() -> None:
    """A line that was changed since takes its argument with it."""
    for one in EQUIVALENT:
        assert one.why
        found = [each for each in mutations(ROOT / one.file) if (each.text, each.after) == (one.line, one.after)]
        assert found, one
