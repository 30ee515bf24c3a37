"""Makes the lesson: a course on what a convolutional network learned, as one page that needs no install to be read."""

from __future__ import annotations

from cnnlens.errors import in_one_line
from cnnlens.reporting.result import Report
from cnnlens.reporting.words import language_named

__all__ = ["Lesson", "lesson"]


class Lesson(Report, listing="reporting.listing", of="lesson", name="lesson"):
    """Holds the lesson's data, and writes the page that teaches it; a notebook shows that page.

    Attributes:
        data: What the chapters show, every number computed from the bundled sample.
        block: The arrays that ``data["arrays"]`` tells of, packed, as base64.
        words: Those of the page.

    >>> import cnnlens
    >>> made = cnnlens.lesson("ko")
    >>> made
    <Lesson in ko: 9 chapters>
    >>> made.to_json()["format"], made.save("lesson.html").name
    ('cnnlens.lesson/1', 'lesson.html')
    """

    def __repr__(self) -> str:
        return f"<Lesson in {self.words.language}: {len(self.data['chapters'])} chapters>"

    def html(self) -> str:
        """Write the page: one HTML document that loads nothing and runs nothing but its own script."""
        from cnnlens.reporting.writing import written

        return written("lesson", self.to_json(), self.block, self.words)


@in_one_line()
def lesson(language: str = "en") -> Lesson:
    """Make the lesson: nine chapters with exercises, from what a kernel is to how rounding is told from a bug.

    Its numbers and pictures are those of the bundled sample, computed here in float64; no framework is needed.

    Args:
        language: Of its words: ``en`` or ``ko``.

    Returns:
        The lesson: ``save`` writes its page, a notebook shows it.

    Raises:
        CnnlensError: there is no such language; one line.

    >>> import cnnlens
    >>> cnnlens.lesson().save("lesson.html").name
    'lesson.html'
    """
    from cnnlens.reporting.chapters.course import course

    words = language_named(language, "lesson")
    data, block = course()
    return Lesson(data, block, words)
