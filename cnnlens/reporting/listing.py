"""What a report or a lesson says of itself to whoever made it: what it shows, and what had no room in it."""

from __future__ import annotations

from typing import Any

from cnnlens.page import Page, Tone, Toned
from cnnlens.reporting.lesson import Lesson
from cnnlens.reporting.result import Report
from cnnlens.text import printable

__all__ = ["as_json", "as_page", "lesson_json", "lesson_page"]


def as_json(report: Report) -> dict[str, Any]:
    """Give the report's data; the packed arrays that ``arrays`` tells of are in its page alone."""
    return report.data


def as_page(report: Report) -> Page:
    """Say what the page shows, and which numbers it holds as colours or not at all."""
    data = report.data
    fed = data["inputs"]
    lines: list[str] = [
        Toned(printable(data["model"]["file"], 300), Tone.STRONG),
        f"{sum(row['shown'] for row in data['layers']):,} of {len(data['layers']):,} layers with their pictures, "
        + ("no inputs" if fed is None else f"{fed['count']:,} input{'s' * (fed['count'] != 1)}"),
        *data["notes"],
    ]
    if fed is not None and fed["count"] < fed["of"]:
        lines.append(f"feature maps are of the first {fed['count']:,} of {fed['of']:,} inputs")
    checks: list[Any] = [data["check"]] if data["twins"] is None else data["twins"]["checks"]
    for check in filter(None, checks):
        lines += [Toned(one["text"], Tone(one["tone"])) if one["tone"] else one["text"] for one in check["said"]]
    if data["diff"] is not None:
        lines += [Toned(one, Tone.STRONG) for one in data["diff"]["verdict"]]
    drawn = [one for row in data["layers"] for one in (*row["weights"], *row["maps"]) if one.get("view")]
    coloured = sum(one["array"] is not None and not one["exact"] for one in drawn)
    missing = sum(one["array"] is None for one in drawn)
    if coloured:
        lines.append(f"{coloured:,} of {len(drawn):,} arrays are 8-bit colours: there is no room for all exact numbers")
    if missing:
        lines.append(f"{missing:,} of {len(drawn):,} arrays are left out: there is no room for them")
    return Page(lines)


def lesson_json(lesson: Lesson) -> dict[str, Any]:
    """Give the lesson's data; the packed arrays that ``arrays`` tells of are in its page alone."""
    return lesson.data


def lesson_page(lesson: Lesson) -> Page:
    """Say which chapters the lesson has."""
    words = lesson.words.table
    titles = [words[f"lesson.{name}.title"].replace("`", "") for name in lesson.data["chapters"]]
    return Page([
        Toned(words["lesson.title"], Tone.STRONG), *(f"{place}  {title}" for place, title in enumerate(titles, 1)),
    ])  # fmt: skip
