"""Statistics of feature maps as text and as plain data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cnnlens.page import Page, Table, Tone, Toned
from cnnlens.statistics.layer import QUANTILES, Exciting, LayerStats
from cnnlens.text import finite_or_null, printable

if TYPE_CHECKING:
    from cnnlens.statistics.comparison import StatsComparison
    from cnnlens.statistics.result import Stats

__all__ = ["as_json", "as_page", "comparison_json", "comparison_page"]

_SHOWN = (0.01, 0.5, 0.99)
_FEW = 8  # channels that a note names
_MOST_INPUTS = 3  # of a channel's exciting ones
_MOST_ROWS = 64  # channels of one layer that the text lists; the JSON has all


def as_json(stats: Stats) -> dict[str, Any]:
    """Give statistics as plain data.

    ``{"count", "wanted", "complete", "run": {...}, "notes", "layers": [{"layer", "kind", "shape", "all": {...},
    "channels": {"mean": [...], ...}, "exciting": [[{"index", "name", "value"}]], "rank_error", "by"}]}``; what is not
    finite is null.
    """
    return {
        "count": stats.count,
        "wanted": stats.wanted,
        "complete": stats.count == stats.wanted,
        "run": stats.info,
        "notes": list(stats.notes),
        "layers": [_layer(one) for one in stats.values()],
    }


def _layer(one: LayerStats) -> dict[str, Any]:
    quantiles = {f"{share:g}": _numbers(one.quantile(share)) for share in QUANTILES}
    return {
        "layer": one.name,
        "kind": one.kind,
        "shape": list(one.shape),
        "values": int(one.values.sum()),
        "all": {
            "mean": finite_or_null(one.all_mean),
            "std": finite_or_null(one.all_std),
            "min": finite_or_null(_least(one)),
            "max": finite_or_null(_most(one)),
            "zeros": finite_or_null(float(one.zeros.mean())),
            "quantiles": {f"{share:g}": finite_or_null(one.all_quantile(share)) for share in QUANTILES},
        },
        "channels": {
            **{name: _numbers(getattr(one, name)) for name in ("mean", "variance", "std", "min", "max", "zeros")},
            "quantiles": quantiles,
            "nan": one.nan.tolist(),
            "infinite": one.infinite.tolist(),
            "dead": np.flatnonzero(one.dead).tolist(),
            "constant": np.flatnonzero(one.constant).tolist(),
        },
        "rank_error": one.rank_error,
        "by": one.by,
        "exciting": [
            [{"index": each.index, "name": each.name, "value": each.value} for each in found] for found in one.exciting
        ],
    }


def _numbers(values: NDArray[np.float64]) -> list[float | None]:
    return [finite_or_null(float(value)) for value in values]


def as_page(stats: Stats) -> Page:
    """Say the same for people: what ran, a row a layer; a row a channel where there is one layer alone."""
    info = stats.info
    seen = f"{stats.count:,}" if stats.count == stats.wanted else f"{stats.count:,} of {stats.wanted:,}"
    versions = ", ".join(f"{printable(name)} {printable(one)}" for name, one in info["versions"].items())
    return Page([
        f"{seen} inputs through {printable(info['backend'])} on {printable(info['device'])}, "
        f"{printable(info['precision'])} precision ({versions})",
        *(f"  {printable(note, 300)}" for note in (*info["inputs"]["notes"], *stats.notes)),
        *(Toned(f"  warning: {printable(line, 300)}", Tone.DOUBT) for line in info["weights"] or ()),
        "",
        *_tables(stats),
    ])  # fmt: skip


def _tables(stats: Stats) -> Iterator[str | Table]:
    layers = list(stats.values())
    heads = ["mean", "std", "min", *(_percent(share) for share in _SHOWN), "max", "zeros"]
    rows: list[list[str]] = [["layer", "kind", "output", *heads]]
    for one in layers:
        numbers = (one.all_mean, one.all_std, _least(one), *map(one.all_quantile, _SHOWN), _most(one))
        shape = f"(N, {', '.join(map(str, one.shape))})"
        cells = [f"{value:.4g}" for value in numbers]
        rows.append([printable(one.name, 40), printable(one.kind, 30), shape, *cells, f"{one.zeros.mean():.1%}"])
    yield Table(rows, right=range(3, 11), give_way=[(2, 1), (1, 0)], unpivot=3)
    if len(layers) == 1:
        yield ""
        measure = "largest activation" if layers[0].by == "max" else "mean activation"
        yield f"each channel, and the inputs that excite it most, by {measure}:"
        yield _channels(layers[0], len(next(iter(stats.info["inputs"]["sources"].values()), ())) == 1)
        if len(layers[0].mean) > _MOST_ROWS:
            yield f"the first {_MOST_ROWS} of {len(layers[0].mean):,} channels; --json has all"
    notes = [line for one in layers for line in _notes(one)]
    error = max((one.rank_error for one in layers), default=0.0)
    if error:
        notes.append(
            f"{_percent(_SHOWN[0])}, median and {_percent(_SHOWN[-1])} are of a sample: in 99 of 100 cases their rank "
            f"is less than {error:.1%} off"
        )
    if notes:
        yield ""
        yield from notes


def _channels(one: LayerStats, one_file: bool) -> Table:
    quantiles = [one.quantile(share) for share in _SHOWN]
    columns = (one.mean, one.std, one.min, *quantiles, one.max)
    shares = [_percent(share) for share in _SHOWN]
    rows = [["channel", "mean", "std", "min", *shares, "max", "zeros", "exciting inputs"]]
    for channel, (found, dead) in enumerate(zip(one.exciting[:_MOST_ROWS], one.dead, strict=False)):
        cells = [f"{column[channel]:.4g}" for column in columns]
        said = ", ".join(f"{_shown(each, one_file)} {each.value:.3g}" for each in found[:_MOST_INPUTS])
        last = Toned("never above 0", Tone.DOUBT) if dead else said
        rows.append([str(channel), *cells, f"{one.zeros[channel]:.1%}", last])
    return Table(rows, right=range(9), fold=(9,), unpivot=1)


def _shown(each: Exciting, one_file: bool) -> str:
    return f"#{each.index}" if one_file else printable(each.name, 24)


def _notes(one: LayerStats) -> Iterator[str]:
    total, name = len(one.mean), printable(one.name, 40)
    constant = one.constant & ~one.dead
    for found, what in ((one.dead, "never above 0"), (constant, "the same everywhere")):
        if found.any():
            which = np.flatnonzero(found)
            few = ", ".join(map(str, which[:_FEW])) + (", …" if len(which) > _FEW else "")
            yield Toned(f"{name}: {len(which):,} of {total:,} channels are {what}: {few}", Tone.DOUBT)
    broken = int(one.nan.sum()), int(one.infinite.sum())
    if any(broken):
        yield Toned(
            f"{name}: {broken[0]:,} NaN and {broken[1]:,} infinities among {int(one.values.sum()):,} values; they are "
            "in no other number",
            Tone.BAD,
        )


def _percent(share: float) -> str:
    return "median" if share == 0.5 else f"{share:.0%}"


def _least(one: LayerStats) -> float:
    return float(np.nanmin(one.min)) if not np.isnan(one.min).all() else float("nan")


def _most(one: LayerStats) -> float:
    return float(np.nanmax(one.max)) if not np.isnan(one.max).all() else float("nan")


# -- several backends --------------------------------------------------------------------------------------------------


def comparison_json(found: StatsComparison) -> dict[str, Any]:
    """Give a comparison as plain data: ``{"apart": [{"layer", "backends", "max_abs", "rel_rms", "worst"}], "kept":
    [{"index", "name"}], "stats": {BACKEND: as_json}, "notes"}``; infinities are null."""
    return {
        "apart": [
            {
                "layer": one.layer,
                "backends": list(one.backends),
                "max_abs": finite_or_null(one.max_abs),
                "rel_rms": finite_or_null(one.rel_rms),
                "worst": {"index": one.worst, "name": one.name} if one.max_abs else None,
            }
            for one in found.apart
        ],
        "kept": [{"index": index, "name": found.names[index]} for index in found.kept],
        "stats": {label: as_json(one) for label, one in found.stats.items()},
        "notes": list(found.notes),
    }


def comparison_page(found: StatsComparison) -> Page:
    """Say the same for people: what ran, and a row a layer with how far the backends are apart."""
    first = next(iter(found.stats.values()))
    seen = f"{first.count:,}" if first.count == first.wanted else f"{first.count:,} of {first.wanted:,}"
    rows = [["layer", "backends", "means", "stds", "largest difference", "relative RMS", "worst input"]]
    for one in found.apart:
        pair = [found.stats[label][one.layer] for label in one.backends]
        rows.append([
            printable(one.layer, 40),
            " / ".join(printable(label, 40) for label in one.backends),
            " / ".join(f"{each.all_mean:.6g}" for each in pair),
            " / ".join(f"{each.all_std:.6g}" for each in pair),
            f"{one.max_abs:.3g}", f"{one.rel_rms:.2g}", printable(one.name, 40) if one.max_abs else "none differs",
        ])  # fmt: skip
    kept = ", ".join(printable(found.names[index], 30) for index in found.kept)
    return Page([
        f"{seen} inputs through each of {', '.join(printable(label, 40) for label in found.stats)}",
        *(f"  {printable(note, 300)}" for note in (*first.info["inputs"]["notes"], *found.notes)),
        "",
        Table(rows, right=(4, 5), fold=(6,), give_way=[(1, 0)], unpivot=2),
        "",
        *([f"the maps of the inputs that differ most are kept: {kept}"] if kept else []),
        "how far they are apart inherits every error before; cnnlens check says which layer is right",
    ])  # fmt: skip
