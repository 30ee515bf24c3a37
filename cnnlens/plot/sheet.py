"""A matplotlib figure measured in pixels, with the looks that all pictures of cnnlens share.

Everything is placed by hand: matplotlib's own layout engines draw a figure twice or more to find out what they could
have been told, and a kernel only looks right if each of its cells is a whole number of pixels. `pyplot` is never
imported, so nothing needs a display and no figure stays alive behind the caller's back.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from functools import cache
from io import BytesIO
from typing import Any, cast

import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.textpath import TextPath
from matplotlib.transforms import Affine2D, ScaledTranslation
from numpy.typing import NDArray

from cnnlens.plot.values import Note
from cnnlens.text import printable

__all__ = [
    "DPI",
    "INK",
    "PALE",
    "RULE",
    "Picture",
    "decorate",
    "number",
    "plain",
    "put",
    "room",
    "sheet",
    "show",
    "width_of",
]

DPI = 150
INK, PALE, RULE = "#1b1f24", "#6a737d", "#c4c9d0"
TITLE, SUBTITLE, SMALL = 12.0, 8.5, 7.5  # points
_POINT = DPI / 72
_MARGIN = 34
_NARROWEST = 780  # pixels: a title needs room even over one small kernel
_BAR_GAP, _BAR_WIDTH, _BAR_LABELS = 26, 15, 84

_SIGNS = frozenset("−·×→∗■…±")  # of our own texts

# Families that hold what DejaVu Sans lacks, where a machine has them.
_OTHER_FAMILIES = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei",
    "PingFang SC", "Hiragino Sans", "Microsoft YaHei", "MS Gothic", "Malgun Gothic", "Arial Unicode MS",
    "Noto Sans Devanagari", "Noto Emoji", "Segoe UI Symbol", "Symbola",
)  # fmt: skip


class Picture(Figure):
    """Is a figure that notebooks show without pyplot."""

    def _repr_png_(self) -> bytes:
        stream = BytesIO()
        self.savefig(stream, format="png", dpi=self.dpi)
        return stream.getvalue()


@cache
def _families() -> list[tuple[str, frozenset[int]]]:
    """The font of all text and those of the others that are installed, with what their faces can draw, bold or not."""
    faces: dict[str, list[str]] = {}
    for entry in font_manager.fontManager.ttflist:
        if entry.style == "normal" and entry.weight in (400, 700, "normal", "regular", "bold"):
            faces.setdefault(entry.name, []).append(entry.fname)
    names = ["DejaVu Sans", *(name for name in _OTHER_FAMILIES if name in faces)]
    held = {name: [frozenset(font_manager.get_font(face).get_charmap()) for face in faces[name]] for name in names}
    return [(name, frozenset.intersection(*characters)) for name, characters in held.items()]


def plain(text: object, limit: int = 80) -> tuple[str, list[str]]:
    """Make ``text`` safe to draw on one line, and name the font families that it needs.

    A character that no installed font can draw is shown as its ``\\u....`` escape, so that two names stay two names.
    """
    shown = printable(text, limit)
    if all(char < "\u0180" or char in _SIGNS for char in shown):  # so that most pictures need not look fonts over
        return shown, ["DejaVu Sans"]
    families = ["DejaVu Sans"]
    pieces: list[str] = []
    for char in shown:
        family = next((name for name, characters in _families() if ord(char) in characters), None)
        if family is None:
            pieces.append(char.encode("unicode_escape").decode("ascii"))
            continue
        if family not in families:
            families.append(family)
        pieces.append(char)
    drawn = "".join(pieces)
    return printable(drawn, limit), families


def put(
    ax: Axes,
    text: object,
    *,
    at: tuple[float, float] = (0.0, 1.0),
    shift: tuple[float, float] = (0.0, 0.0),
    size: float = SMALL,
    color: str = PALE,
    limit: int = 160,
    **properties: Any,
) -> None:
    """Write text at ``at`` (fractions of the axes) moved by ``shift`` pixels (right, up); never as mathematics."""
    figure = cast(Figure, ax.get_figure(root=True))
    moved = ScaledTranslation(shift[0] / DPI, shift[1] / DPI, figure.dpi_scale_trans)
    shown, families = plain(text, limit)
    ax.text(
        *at,
        shown,
        transform=ax.transAxes + moved,
        fontsize=size,
        color=color,
        family=families,
        parse_math=False,
        usetex=False,
        **properties,
    )


def width_of(text: str, size: float) -> float:
    """Measure a line of text of this size in points: its width in pixels."""
    shown, families = plain(text, 160)
    if not shown.strip():
        return 0.0
    drawn = TextPath((0, 0), shown, size, prop=font_manager.FontProperties(family=families)).vertices
    return float(np.max(drawn[:, 0])) * _POINT


def _lines(text: str, width: int) -> list[str]:
    """``text`` folded to ``width`` pixels at the size of a subtitle, in at most two lines."""
    characters = max(20, int(width / (SUBTITLE * _POINT * 0.54)))
    return textwrap.wrap(printable(text, 600), characters, max_lines=2, placeholder=" …", break_on_hyphens=False)


class _Pixels(AxesImage):
    """Draws the nearest pixel for each of the canvas, which is itself where a figure is drawn at its own size.

    matplotlib makes floating-point numbers of a picture before it picks its pixels, eight times and more its bytes.
    """

    def make_image(
        self, renderer: Any, magnification: float = 1.0, unsampled: bool = False
    ) -> tuple[NDArray[np.uint8], float, float, Affine2D]:
        if unsampled:  # files of vectors take it as it is
            return super().make_image(renderer, magnification, unsampled)
        pixels = np.asarray(self.get_array())
        left, right, bottom, top = self.get_extent()
        clip = self.get_clip_box() or self.axes.bbox
        places: list[NDArray[np.intp]] = []
        starts: list[float] = []
        corners = self.get_transform().transform([(left, top), (right, bottom)])
        for axis, size in ((0, pixels.shape[1]), (1, pixels.shape[0])):
            first, last = corners[:, axis] * magnification
            ends = (max(min(first, last), clip.min[axis] * magnification),
                    min(max(first, last), clip.max[axis] * magnification))  # fmt: skip
            start, stop = (round(float(end)) for end in ends)
            inside = (np.arange(start, stop) + 0.5 - first) / (last - first) * size
            places.append(np.clip(inside.astype(np.intp), 0, size - 1))
            starts.append(start / magnification)
        drawn = np.full((len(places[1]), len(places[0]), 4), 255, np.uint8)
        drawn[..., :3] = pixels[places[1]][:, places[0]]
        return drawn, starts[0], starts[1], Affine2D()


def show(ax: Axes, image: NDArray[np.uint8], columns: float = 0, rows: float = 0) -> None:
    """Show a picture ``(H, W, 3)`` in an axes, whose numbers are pixels or else end at ``columns`` and ``rows``."""
    extent = (0, columns or image.shape[1], rows or image.shape[0], 0)
    shown = _Pixels(ax, interpolation="none", origin="upper", extent=extent, resample=False)
    shown.set_data(image)
    shown.set_clip_path(ax.patch)
    ax.set_aspect("auto" if columns else "equal")
    shown.set_extent(extent)
    ax.add_image(shown)


def room(ax: Axes) -> tuple[int, int]:
    """Measure width and height in pixels (at `DPI`) of an axes that the caller brought."""
    figure = cast(Figure, ax.get_figure(root=True))
    box = ax.get_window_extent()
    return int(box.width * DPI / figure.dpi), int(box.height * DPI / figure.dpi)


def sheet(
    width: int,
    height: int,
    *,
    ax: Axes | None,
    title: str,
    subtitle: Sequence[str],
    notes: Sequence[Note] = (),
    left: int = 0,
    top: int = 0,
    bottom: int = 0,
    bar: ScalarMappable | None = None,
    bar_ticks: Sequence[float] = (),
    margin: int = _MARGIN,
) -> Axes:
    """Make an axes whose inside is exactly ``width`` x ``height`` pixels, dressed; or dress the caller's ``ax``.

    Args:
        width, height: Pixels at `DPI`. Not obeyed where `ax` is given.
        title: One bold line. It and everything else may come from a file and passes `plain`.
        subtitle: Lines under the title, each folded where it is too long.
        notes: Lines under the picture.
        left, top, bottom: Pixels that labels outside the axes need.
        bar: What the colour bar at the right shows.
        bar_ticks: Values that the colour bar names.
        margin: Pixels around everything.
    """
    room_right = _BAR_GAP + _BAR_WIDTH + _BAR_LABELS if bar is not None else 0
    reach = max(width + room_right, _NARROWEST - left) if ax is None else room(ax)[0]  # what a line of text may fill
    folded = [line for text in subtitle if text for line in _lines(text, reach)]
    small, line = SUBTITLE * _POINT * 1.45, SMALL * _POINT * 1.6
    head = (TITLE * _POINT * 1.5 if title else 0) + small * len(folded) + (12 if title or folded else 0)
    foot = line * len(notes) + (10 if notes else 0)

    if ax is None:
        whole_width = 2 * margin + left + max(width + room_right, _NARROWEST - left)
        whole_height = round(2 * margin + head + top + height + bottom + foot)
        figure: Figure = Picture(
            figsize=(whole_width / DPI, whole_height / DPI), dpi=DPI, facecolor="white", edgecolor="white"
        )
        figure.set_layout_engine("none")  # whatever the user's own settings ask for
        FigureCanvasAgg(figure)
        x, y = margin + left, round(margin + foot + bottom)
        ax = figure.add_axes((x / whole_width, y / whole_height, width / whole_width, height / whole_height))
        if bar is not None:
            bar_height = height if height <= 900 else 620
            if bar_height < 40 * len(bar_ticks):  # names that would touch: the ends alone
                bar_ticks = [*bar_ticks[:1], *bar_ticks[-1:]]
            box = (
                (x + width + _BAR_GAP) / whole_width,
                (y + height - bar_height) / whole_height,
                _BAR_WIDTH / whole_width,
                bar_height / whole_height,
            )
            _dress_bar(figure, bar, bar_ticks, cax=figure.add_axes(box))
    else:
        figure = cast(Figure, ax.get_figure(root=True))
        if bar is not None:
            _dress_bar(figure, bar, bar_ticks, ax=ax)

    ax.set_facecolor("white")
    ax.grid(visible=False)
    ax.tick_params(length=0, labelsize=SMALL, labelcolor=PALE, pad=3, labelfontfamily="DejaVu Sans")
    up = top + 12 + small * (len(folded) - 1)
    for index, text in enumerate(folded):
        put(ax, text, shift=(0, up - small * index), size=SUBTITLE, limit=600)
    if title:
        characters = max(12, int(reach / (TITLE * _POINT * 0.64)))
        put(
            ax, title, shift=(0, up + small + 2), size=TITLE, color=INK, fontweight="bold", limit=min(characters, 120)
        )  # fmt: skip
    for index, (text, colour) in enumerate(notes):
        down = -bottom - 10 - line * (index + 0.7)
        if colour is not None:
            put(ax, "■", at=(0, 0), shift=(0, down), color=colour)
        put(ax, text, at=(0, 0), shift=(0 if colour is None else 20, down), limit=int(reach / (SMALL * _POINT * 0.53)))
    return ax


def _dress_bar(figure: Figure, bar: ScalarMappable, ticks: Sequence[float], **where: Any) -> None:
    drawn = figure.colorbar(bar, ticks=list(ticks) or None, **where)
    drawn.outline.set_visible(False)  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue]
    if ticks:
        drawn.ax.set_yticks(list(ticks), [number(tick) for tick in ticks])
    drawn.ax.minorticks_off()
    drawn.ax.grid(visible=False)
    drawn.ax.tick_params(length=0, labelsize=SMALL, labelcolor=PALE, pad=5, labelfontfamily="DejaVu Sans")


def number(value: float) -> str:
    """Write three digits with a true minus sign."""
    return f"{value:.3g}".replace("-", "−")


def decorate(
    ax: Axes, rows: Sequence[tuple[float, str]], columns: Sequence[tuple[float, str]], *, above: bool = True
) -> None:
    """Put row labels left and column labels above (or below) an image, at the given places in its pixels."""
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.set_yticks([place for place, _ in rows], [text for _, text in rows])
    ax.set_xticks([place for place, _ in columns], [text for _, text in columns])
    ax.tick_params(top=False, bottom=False, labeltop=above, labelbottom=not above)
