"""Each message that ``docs/limitations.md`` quotes stands in the code."""

from __future__ import annotations

import ast
import re

import pytest

from tests.support import ROOT


def texts() -> str:
    """Every text of core, a line each; what a formatted one fills in is ``…``."""
    found: list[str] = []
    for path in (ROOT / "cnnlens").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values]
                found.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(found)


@pytest.mark.slow
def test_messages_that_are_quoted_are_said() -> None:
    quoted = re.findall(r'"([^"]+)"', (ROOT / "docs" / "limitations.md").read_text(encoding="utf-8"))
    assert len(quoted) > 50
    said = texts()
    assert [message for message in quoted if message not in said] == []
