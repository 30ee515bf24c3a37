"""x"""
from __future__ import annotations
from typing import Any
def explain(case: Any, base: Any, tally: Any, floor: float) -> tuple[str, bool]:
    return "unexplained", False
