"""A matplotlib figure measured in pixels, with the looks that all pictures of cnnlens share.

Everything is placed by hand: matplotlib's own layout engines draw a figure twice or more to find out what they could
have been told, and a kernel only looks right if each of its cells is a whole number of pixels.

`pyplot` is never imported, so nothing needs a display and no figure stays alive behind the caller's back. Who has
imported it, with a backend that shows figures (a window, a notebook), expects `plt.show()` to show ours too: then it
makes them, keeps the newest few, and in a notebook forgets each as soon as it was shown, so that none is shown twice.

Of the user's rcParams those are followed that are a matter of taste: `font.family` and `font.sans-serif`, and
`image.cmap` for feature maps. Sizes, origins, interpolation and what `savefig` crops are part of what a picture says.
None is changed.
"""

from __future__ import annotations

import sys
import textwrap
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from functools import cache
from io import BytesIO
from typing import Any, NamedTuple, NoReturn, cast

import matplotlib as mpl
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

from cnnlens.errors import CnnlensError
from cnnlens.plot.values import Note, number, ticks
from cnnlens.text import printable

__all__ = [
    "DPI", "INK", "PALE", "RULE", "Picture", "beside_image", "decorate", "families", "free", "placed", "plain", "put",
    "room", "sheet", "show", "width_of",
]  # fmt: skip

DPI = 150
INK, PALE, RULE = "#1b1f24", "#6a737d", "#c4c9d0"
TITLE, SUBTITLE, SMALL = 12.0, 8.5, 7.5  # points
_POINT = DPI / 72
_MARGIN = 34
_NARROWEST = 560  # pixels: a title needs room even over one small kernel
_BAR_GAP, _BAR_WIDTH, _BAR_LABELS = 26, 15, 84
_FLAT_BAR = 22 + _BAR_WIDTH + 30  # pixels under the picture, where it is too low for a bar at its side
_LOW = 150
_LEAST = 24  # pixels of a side of what is drawn into somebody's axes
_MOST_PIXELS = 20_000  # a side of a picture; no viewer opens a larger one
_UNSHOWN = 20  # pictures that pyplot keeps for us until it is asked to show them

_SIGNS = frozenset("−·×→∗■…±▲▼")  # of our own texts

# Families that hold what DejaVu Sans lacks, where a machine has them.
_OTHER_FAMILIES = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei",
    "PingFang SC", "Hiragino Sans", "Microsoft YaHei", "MS Gothic", "Malgun Gothic", "Arial Unicode MS",
    "Noto Sans Devanagari", "Noto Emoji", "Segoe UI Symbol", "Symbola",
)  # fmt: skip


class Picture(Figure):
    """Is a figure that notebooks show, with pyplot and without it, and once."""

    def _repr_png_(self) -> bytes:
        stream = BytesIO()
        self.savefig(stream, format="png", dpi=self.dpi)
        return stream.getvalue()

    def _ipython_display_(self) -> NoReturn:
        """Is asked by IPython first: what it is about to show, pyplot need not show again at the end of the cell."""
        pyplot = sys.modules.get("matplotlib.pyplot")
        if pyplot is not None and "inline" in pyplot.get_backend():
            pyplot.close(self)
        raise NotImplementedError  # IPython goes on with the formats that its user has chosen


_FILES_ALONE = frozenset(("agg", "cairo", "pdf", "pgf", "ps", "svg", "template"))  # backends that show nothing
_unshown: deque[weakref.ref[Figure]] = deque()


def _new_figure(width: float, height: float, dpi: float = DPI) -> Figure:
    """A figure of so many pixels; pyplot's where that would show it (see the head of this module)."""
    size: dict[str, Any] = {"figsize": (width / dpi, height / dpi), "dpi": dpi, "facecolor": "white"}
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is not None and pyplot.get_backend().lower() not in _FILES_ALONE:
        while len(_unshown) >= _UNSHOWN:
            oldest = _unshown.popleft()()
            if oldest is not None:
                pyplot.close(oldest)
        figure: Figure = pyplot.figure(FigureClass=Picture, edgecolor="white", **size)
        _unshown.append(weakref.ref(figure))
    else:
        figure = Picture(edgecolor="white", **size)
        FigureCanvasAgg(figure)
    figure.set_layout_engine("none")  # whatever the user's own settings ask for
    return figure


def placed(
    draw: Callable[[Axes | None], Figure], *, ax: Axes | None, size: int | tuple[int, int] | None, dpi: float | None
) -> Figure | Axes:
    """Have a picture drawn where, and as large as, it was asked for.

    Args:
        draw: Draws into an axes, or makes a figure as large as what is drawn needs.
        ax: The caller's axes.
        size: Pixels of the whole picture: the width, the picture scaled to it; or width and height, the picture laid
            out anew in them.
        dpi: Dots per inch: without a size, the same picture in more pixels (it is laid out at 150).

    Returns:
        The figure; the caller's axes where it was given, for its figure is shown by whoever made it.

    Raises:
        CnnlensError: They contradict each other, or no such picture can be made.
    """
    if ax is not None:
        if size is not None or dpi is not None:
            raise CnnlensError("size and dpi are those of the figure that ax is in; leave them out, or ax")
        figure = cast(Figure, ax.get_figure(root=True))
        engine = figure.get_layout_engine()
        if engine is not None:
            engine.execute(figure)  # so that the place is the one that the axes will have
        draw(ax)
        return ax
    if dpi is not None and not 10 <= dpi <= 2400:
        raise CnnlensError(f"dpi must be from 10 to 2400, not {dpi:g}")
    if isinstance(size, tuple):
        width, height = size
        if not all(100 <= side <= _MOST_PIXELS for side in size):
            raise CnnlensError(f"size must be from 100 to {_MOST_PIXELS:,} pixels a side, not {width} x {height}")
        figure = _new_figure(width, height, dpi or DPI)
        wide, high = width * DPI / (dpi or DPI), height * DPI / (dpi or DPI)
        margin = _MARGIN / 2
        if min(wide, high) <= 2 * margin + _LEAST:
            raise CnnlensError(f"{width} x {height} pixels at {dpi:g} dpi have no room for a picture; take fewer dpi")
        draw(figure.add_axes((margin / wide, margin / high, 1 - 2 * margin / wide, 1 - 2 * margin / high)))
        return figure
    if size is not None and dpi is not None:
        raise CnnlensError(
            f"size {size} scales the picture to that width, and its dpi with it; give width and height, as in "
            f"{size}x{size * 3 // 4}, or leave dpi out"
        )
    if size is not None and not 100 <= size <= _MOST_PIXELS:
        raise CnnlensError(f"size must be from 100 to {_MOST_PIXELS:,} pixels, not {size}")
    figure = draw(None)
    inches = figure.get_size_inches()
    dots = dpi if size is None else (size + 0.01) / inches[0]
    if dots is not None:
        if max(inches) * dots > _MOST_PIXELS:
            pixels = f"{inches[0] * dots:,.0f} x {inches[1] * dots:,.0f}"
            raise CnnlensError(f"a picture of {pixels} pixels is too large; take fewer dpi")
        figure.set_dpi(dots)
    return figure


def families() -> list[str]:
    """Name the fonts of all text, first to last: the user's own, where rcParams were changed, and DejaVu Sans."""
    own, default = cast(Any, mpl.rcParams), cast(Any, mpl.rcParamsDefault)
    changed = any(own[key] != default[key] for key in ("font.family", "font.sans-serif"))
    return [*own["font.family"], "DejaVu Sans"] if changed else ["DejaVu Sans"]


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
        return shown, families()
    needed = families()
    pieces: list[str] = []
    for char in shown:
        family = next((name for name, characters in _families() if ord(char) in characters), None)
        if family is None:
            pieces.append(char.encode("unicode_escape").decode("ascii"))
            continue
        if family not in needed:
            needed.append(family)
        pieces.append(char)
    drawn = "".join(pieces)
    return printable(drawn, limit), needed


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
    shown, fonts = plain(text, limit)
    ax.text(
        *at,
        shown,
        transform=ax.transAxes + moved,
        fontsize=size,
        color=color,
        family=fonts,
        parse_math=False,
        usetex=False,
        **properties,
    )


def width_of(text: str, size: float) -> float:
    """Measure a line of text of this size in points: its width in pixels."""
    shown, fonts = plain(text, 160)
    if not shown.strip():
        return 0.0
    drawn = TextPath((0, 0), shown, size, prop=font_manager.FontProperties(family=fonts)).vertices
    return float(np.max(drawn[:, 0])) * _POINT


def _lines(text: str, width: float) -> list[str]:
    """``text`` folded to ``width`` pixels at the size of a subtitle, in at most three lines."""
    characters = max(16, int(width / (SUBTITLE * _POINT * 0.54)))
    return textwrap.wrap(printable(text, 600), characters, max_lines=3, placeholder=" …", break_on_hyphens=False)


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


class _Margins(NamedTuple):
    """Pixels around the inside of an axes, and the lines of text over and under it."""

    left: int
    right: int
    over: float
    under: float
    lines: list[str]  # of the subtitle
    remarks: list[tuple[str, str | None, bool]]  # text, colour of its sign, whether a note begins here
    flat: bool  # whether the colour bar lies under the picture


_LINE, _NOTE = SUBTITLE * _POINT * 1.45, SMALL * _POINT * 1.6  # pixels that a line takes


def _margins(
    reach: float,
    title: str,
    subtitle: Sequence[str],
    notes: Sequence[Note],
    left: int,
    right: int,
    top: int,
    bottom: int,
    bar: bool,
    flat: bool,
) -> _Margins:
    lines = [line for text in subtitle if text for line in _lines(text, reach)]
    across = max(16, int((reach - 20) / (SMALL * _POINT * 0.55)))
    remarks = [
        (line, colour, place == 0)
        for text, colour in notes
        for place, line in enumerate(textwrap.wrap(printable(text, 600), across, max_lines=3, placeholder=" …"))
    ]
    over = (TITLE * _POINT * 1.5 if title else 0) + _LINE * len(lines) + (12 if title or lines else 0) + top
    under = bottom + (_FLAT_BAR if bar and flat else 0) + (_NOTE * len(remarks) + 10 if remarks else 0)
    if bar and not flat and not under:
        under = 10  # half of what the lowest name of the colour bar is high
    beside = right + (_BAR_GAP + _BAR_WIDTH + _BAR_LABELS if bar and not flat else 0)
    return _Margins(left, beside, over, under, lines, remarks, flat)


def free(
    ax: Axes,
    *,
    title: str,
    subtitle: Sequence[str],
    notes: Sequence[Note] = (),
    left: int = 0,
    right: int = 0,
    top: int = 0,
    bottom: int = 0,
    bar: bool = False,
    flat: bool = False,
) -> tuple[int, int]:
    """Measure width and height in pixels that are left in the caller's axes for a picture dressed like this."""
    return _inside(ax, _margins(room(ax)[0], title, subtitle, notes, left, right, top, bottom, bar, flat))


def _inside(ax: Axes, said: _Margins) -> tuple[int, int]:
    wide, high = room(ax)
    inside = int(wide - said.left - said.right), int(high - said.over - said.under)
    if min(inside) < _LEAST:
        needed = [round(have - got + 4 * _LEAST) for have, got in zip((wide, high), inside, strict=True)]
        raise CnnlensError(
            f"an axes of {wide} x {high} pixels (at {DPI} dpi) has no room for a picture beside its texts; "
            f"{max(wide, needed[0])} x {max(high, needed[1])} has"
        )
    return inside


def sheet(
    width: int,
    height: int,
    *,
    ax: Axes | None,
    title: str,
    subtitle: Sequence[str],
    notes: Sequence[Note] = (),
    left: int = 0,
    right: int = 0,
    top: int = 0,
    bottom: int = 0,
    bar: ScalarMappable | None = None,
    bar_ticks: Sequence[float] | Sequence[tuple[float, str]] = (),
    stretch: bool = False,
    margin: int = _MARGIN,
) -> Axes:
    """Make an axes whose inside is exactly ``width`` x ``height`` pixels, dressed; or dress the caller's ``ax``.

    All that belongs to the picture is put inside the place that the caller's axes had: it becomes smaller by title,
    subtitle, labels, colour bar and notes, and keeps the proportions of ``width`` and ``height`` unless it may
    ``stretch``.

    Args:
        width, height: Pixels at `DPI`.
        title: One bold line. It and everything else may come from a file and passes `plain`.
        subtitle: Lines under the title, each folded where it is too long.
        notes: Lines under the picture, likewise.
        left, right, top, bottom: Pixels that labels outside the axes need.
        bar: What the colour bar shows: at the right, or under a picture that is low and wide.
        bar_ticks: Values that the colour bar names, with their names if these are not the numbers; none chooses round
            ones.
        margin: Pixels around everything, in a figure of its own.
    """
    flat = width > 6 * height or (ax is None and height < _LOW)
    beside = _BAR_GAP + _BAR_WIDTH + _BAR_LABELS if bar is not None and not flat else 0
    reach = max(width + right + beside, _NARROWEST - left) if ax is None else room(ax)[0]
    said = _margins(reach, title, subtitle, notes, left, right, top, bottom, bar is not None, flat)
    x: float
    y: float
    if ax is None:
        whole_width = 2 * margin + left + reach
        whole_height = round(2 * margin + said.over + height + said.under)
        parent: Any = _new_figure(whole_width, whole_height)
        x, y, wide, high = margin + left, round(margin + said.under), width, height
        place = (x / whole_width, y / whole_height, wide / whole_width, high / whole_height)
        ax = cast(Axes, parent.add_axes(place))
        part = (1 / whole_width, 1 / whole_height)
    else:
        parent = ax.get_figure(root=False)
        inside = _inside(ax, said)
        grown = min(inside[0] / width, inside[1] / height)
        wide, high = inside if stretch else (width * grown, height * grown)
        box = ax.get_position(original=True)
        part = (box.width / reach, box.height / room(ax)[1])
        x, y = box.x0 / part[0] + left, box.y1 / part[1] - said.over - high
        ax.set_position((x * part[0], y * part[1], wide * part[0], high * part[1]))

    if bar is not None:
        # A bar under the picture is as wide as it, one at its side as high, unless that were a very long bar.
        length = wide if flat else high if high <= 1100 else 620
        if flat:
            box = (x * part[0], (y - bottom - 22 - _BAR_WIDTH) * part[1], length * part[0], _BAR_WIDTH * part[1])
        else:
            start = (x + wide + right + _BAR_GAP) * part[0], (y + high - length) * part[1]
            box = (*start, _BAR_WIDTH * part[0], length * part[1])
        _dress_bar(parent, bar, bar_ticks, parent.add_axes(box), length, flat)

    ax.set_facecolor("white")
    ax.grid(visible=False)
    ax.tick_params(length=0, labelsize=SMALL, labelcolor=PALE, pad=3, labelfontfamily=cast(Any, families()))
    up = top + 12 + _LINE * (len(said.lines) - 1)
    for index, text in enumerate(said.lines):
        put(ax, text, shift=(-left, up - _LINE * index), size=SUBTITLE, limit=600)
    if title:
        characters = max(12, int(reach / (TITLE * _POINT * 0.64)))
        put(
            ax, title, shift=(-left, up + _LINE + 2), size=TITLE, color=INK, fontweight="bold",
            limit=min(characters, 120),
        )  # fmt: skip
    below = bottom + (_FLAT_BAR if bar is not None and flat else 0)
    for index, (text, colour, first) in enumerate(said.remarks):
        down = -below - 10 - _NOTE * (index + 0.7)
        if colour is not None and first:
            put(ax, "■", at=(0, 0), shift=(0, down), color=colour)
        put(ax, text, at=(0, 0), shift=(0 if colour is None else 20, down), limit=600)
    return ax


def _dress_bar(parent: Any, bar: ScalarMappable, named: Sequence[Any], cax: Axes, length: float, flat: bool) -> None:
    """Draw a colour bar into ``cax``, with as many names as its ``length`` in pixels has room for."""
    low, high = cast(float, bar.norm.vmin), cast(float, bar.norm.vmax)
    names: list[tuple[float, str]] = [one if isinstance(one, tuple) else (one, number(one)) for one in named]
    names = names or ticks(low, high, max(2, min(7, int(length / (110 if flat else 60)))))
    while len(names) > 2 and length < (80 if flat else 40) * len(names):  # names that would touch
        names = names[:: 2 if len(names) % 2 else len(names) - 1]
    drawn = parent.colorbar(bar, cax=cax, ticks=[place for place, _ in names], extendfrac=min(0.05, 14 / length),
                            orientation="horizontal" if flat else "vertical")  # fmt: skip
    drawn.outline.set_visible(False)
    (cax.set_xticks if flat else cax.set_yticks)([place for place, _ in names], [text for _, text in names])
    drawn.ax.minorticks_off()
    drawn.ax.grid(visible=False)
    drawn.ax.tick_params(length=0, labelsize=SMALL, labelcolor=PALE, pad=5, labelfontfamily=cast(Any, families()))


def beside_image(ax: Axes, texts: Sequence[tuple[float, str]]) -> None:
    """Write texts at the right of an image, each at its place in the numbers of the axes."""
    for place, text in texts:
        ax.annotate(
            text, (1, place), (6, 0), xycoords=("axes fraction", "data"), textcoords="offset points", va="center",
            fontsize=6.5, color=PALE, family=families(),
        )  # fmt: skip


def decorate(
    ax: Axes, rows: Sequence[tuple[float, str]], columns: Sequence[tuple[float, str]], *, above: bool = True
) -> None:
    """Put row labels left and column labels above (or below) an image, at the given places in its pixels."""
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.set_yticks([place for place, _ in rows], [text for _, text in rows])
    ax.set_xticks([place for place, _ in columns], [text for _, text in columns])
    ax.tick_params(top=False, bottom=False, labeltop=above, labelbottom=not above)
