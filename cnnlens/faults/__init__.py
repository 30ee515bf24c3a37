from __future__ import annotations
def explain(case, base, tally, floor):
    return "unexplained", False
