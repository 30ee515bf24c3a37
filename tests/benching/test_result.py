"""What follows from the times of a bench: intervals, what cannot be told apart, the table, JSON and the figure."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cnnlens.benching import STAGES, Bench, BenchRow, Exactness, Timed
from cnnlens.benching.rows import LEAST, interval
from cnnlens.checking.finding import Verdict
from cnnlens.errors import CnnlensError

FLOAT32 = Exactness("conv", 22.5, Verdict.FLOAT32, True, "agrees")
BRAIN = Exactness("head", 8.5, Verdict.BFLOAT16, True, "agrees")
WRONG = Exactness("pool", 2.25, Verdict.WRONG, False, "(jax 1, cpu, native) does not agree: 'pool' is wrong")


def row(
    name: str, seconds: list[float], batch: int = 32, exactness: Exactness | None = FLOAT32, **more: Any
) -> BenchRow:
    backend, precision = name.split()
    stages = {
        stage: Timed(tuple(one * (1 + index) for one in seconds), tuple(range(len(seconds))))
        for index, stage in enumerate(STAGES)
    }
    given: dict[str, Any] = {"load": 1.5, "first": 0.75, "bytes": 4_000_000, "host_peak": 321_000_000, "ran_on": "cpu"}
    return BenchRow(
        backend, "cpu", precision, batch, stages=stages, exactness=exactness, **(given | more)
    )  # fmt: skip


def bench(*rows: BenchRow, rounds: int = 8, **more: Any) -> Bench:
    given: dict[str, Any] = {"interrupted": False, "audited": 8, "layers": ("conv", "pool", "head")}
    return Bench("model.keras", "ab" * 32, "(8, 3, 13, 11) drawn", rows=rows, rounds=rounds, **(given | more))


def wobbling(times: float, seed: int, count: int = 8, noise: float = 0.01, drift: float = 0.0) -> list[float]:
    draws = np.random.default_rng(seed).normal(1, noise, count)
    return [float(times * one * (1 + drift * index)) for index, one in enumerate(draws)]


# -- intervals -------------------------------------------------------------------------------------------------------


def test_an_interval_holds_the_median_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    for count in (6, 9, 12):
        held = 0
        for draws in generator.normal(0, 1, (4000, count)):
            low, high = interval(list(draws))
            held += low <= 0 <= high
        assert 0.95 <= held / 4000 <= 0.995


def test_an_interval_of_few_is_their_range() -> None:
    for values in ([3.0], [3.0, 1.0], [4.0, 1.0, 3.0, 2.0, 2.5]):
        assert interval(values) == (min(values), max(values))


def test_times_become_rates() -> None:
    one = row("jax strict", [0.5, 0.25, 0.5, 1.0, 0.5, 0.5])
    assert one.rate("forward") == 64
    assert one.rate("copy") == pytest.approx(64 / 3)
    assert one.bandwidth("write") == 2_000_000
    assert one.stages["forward"].interval == (0.25, 1.0)
    assert one.stages["forward"].spread == 0.75
    bare = BenchRow("jax", "cpu", "tf32", 32, error="no")
    assert bare.rate("forward") is None
    assert bare.bandwidth("copy") is None


# -- what cannot be told apart ---------------------------------------------------------------------------------------


def test_what_drifts_together_is_told_apart_round_by_round() -> None:
    """The machine slows down threefold, and one row is slower by a tenth throughout."""
    fast, slow = wobbling(1.0, 1, drift=0.25), wobbling(1.1, 2, drift=0.25)
    a, b = row("a strict", fast), row("b strict", slow)
    assert a.stages["forward"].interval[1] > b.stages["forward"].interval[0]
    assert bench(a, b).undecided("forward") == []


def test_what_is_too_noisy_is_said() -> None:
    a, b = row("a strict", wobbling(1.0, 1, noise=0.2)), row("b strict", wobbling(1.02, 2, noise=0.2))
    (found,) = bench(b, a).undecided("forward")
    assert found.low < 1 < found.high
    assert "too noisy to tell apart, forward, batch 32: " in str(bench(b, a))


def test_few_rounds_tell_nothing_apart() -> None:
    a, b = row("a strict", [1.0] * (LEAST - 1)), row("b strict", [9.0] * (LEAST - 1))
    few = bench(a, b, rounds=LEAST - 1)
    assert len(few.undecided("forward")) == 1
    assert "no two rows can be told apart" in str(few)
    assert "told apart" not in str(replace(few, rows=few.rows[:1]))  # where there is but one
    assert bench(row("a strict", [1.0] * LEAST), row("b strict", [9.0] * LEAST)).undecided("forward") == []


def test_only_rounds_of_both_are_compared() -> None:
    """The second row was timed in every other round, when the machine was slow, and is faster than the first then."""

    def timed(*rounds: int) -> BenchRow:
        return replace(row("b strict", [2.9]), stages={"forward": Timed((2.9,) * len(rounds), rounds)})

    every = row("a strict", [1.0, 3.0] * 6)
    assert bench(every, timed(1, 3, 5, 7, 9, 11), rounds=12).undecided("forward") == []
    (few,) = bench(every, timed(1, 3, 5, 7, 9), rounds=12).undecided("forward")
    assert few.rounds == 5
    assert "(5 rounds of both)" in str(bench(every, timed(1, 3, 5, 7, 9), rounds=12))
    (never,) = bench(row("a strict", [1.0]), timed(1), rounds=12).undecided("forward")
    assert never.rounds == 0


def test_rows_of_other_batches_are_not_compared() -> None:
    assert bench(row("a strict", [1.0] * 8, 1), row("a strict", [1.0] * 8, 32)).undecided("forward") == []


# -- how it is shown -------------------------------------------------------------------------------------------------


def full() -> Bench:
    refused = [BenchRow("jax", "cpu", "tf32", size, error="it has no precision 'tf32'") for size in (1, 32)]
    return bench(
        row("jax strict", wobbling(0.010, 3), 1), row("jax strict", wobbling(0.1, 4), 32),
        row("jax bfloat16", wobbling(0.002, 5), 1, BRAIN), row("jax bfloat16", wobbling(0.03, 6), 32, BRAIN),
        row("torch native", wobbling(0.005, 7), 1, WRONG), row("torch native", wobbling(0.05, 8), 32, WRONG),
        *refused,
    )  # fmt: skip


def test_the_table_has_a_row_each_with_its_bits() -> None:
    lines = str(full()).splitlines()
    strict = next(line for line in lines if line.startswith("jax      strict"))
    assert "22.5  conv float32" in strict
    assert next(line for line in lines if line.startswith("torch    native")).endswith("2.2  pool wrong")
    refused = [line for line in lines if "tf32" in line]
    assert len(refused) == 1
    assert "1, 32" in refused[0]
    assert refused[0].endswith("it has no precision 'tf32'")
    assert "torch cpu native: (jax 1, cpu, native) does not agree: 'pool' is wrong" in lines
    assert sum(line.endswith("321          -") for line in lines) == 6  # memory, of the rows that ran


def test_a_device_is_named_where_there_are_several() -> None:
    assert "device  " not in str(full()).split("sha256")[1].split("what it took")[0].splitlines()[4]
    gpu = BenchRow("jax", "gpu", "strict", 1, error="it has no device 'gpu' here; it has cpu")
    shown = str(bench(row("jax strict", [0.1] * 8, 1), gpu))
    assert "jax      gpu     strict" in shown
    assert "it has no device 'gpu' here; it has cpu" in shown


def test_of_one_round_no_spread_is_claimed() -> None:
    assert "±" not in str(bench(row("jax strict", [0.1]), rounds=1)).split("interval")[1].split("what it took")[0]


def test_json_is_plain_and_whole() -> None:
    found = json.loads(json.dumps(full().to_json(), allow_nan=False))
    assert len(found["rows"]) == 8
    first = found["rows"][0]
    assert set(first["stages"]) == set(STAGES)
    assert len(first["stages"]["forward"]["rounds"]) == 8
    assert first["stages"]["forward"]["images_s"] == pytest.approx(1 / first["stages"]["forward"]["seconds"])
    assert (first["bits"], first["layer"], first["verdict"]) == (22.5, "conv", "float32")
    assert found["rows"][-1]["error"] == "it has no precision 'tf32'"
    assert found["rows"][-1]["stages"] == {}
    assert found["agree"] is False
    exact = Exactness("pool", math.inf, Verdict.EXACT, True, "agrees")
    assert bench(row("jax strict", [1.0], exactness=exact)).to_json()["rows"][0]["bits"] is None


def test_it_is_shown_in_at_most_three_lines() -> None:
    said = repr(full())
    assert len(said.splitlines()) <= 3
    assert "6 of 8 rows measured in 8 rounds" in said
    assert "jax cpu bfloat16, batch 32" in said
    assert repr(bench(BenchRow("jax", "cpu", "tf32", 1, error="no"), rounds=0)).endswith("0 rounds>")


def test_the_figure_has_a_row_a_configuration_the_exact_ones_first() -> None:
    figure = full().figure()
    FigureCanvasAgg(figure).draw()
    (ax,) = figure.axes
    places = {text.get_text(): text.get_position()[1] for text in ax.texts}
    assert places["float32"] < places["jax strict"] < places["bfloat16"] < places["jax bfloat16"] < places["wrong"]
    assert {"22.5", "8.5", "2.2", "torch native"} < set(places)
    drawn = [np.asarray(line.get_xdata(), np.float64) for line in ax.lines if line.get_marker() in ("o", "x")]
    places_of_points = np.sort(np.concatenate(drawn))
    rates = np.sort([row.rate("copy") or 0 for row in full().rows if row.stages])
    # To the right by the logarithm, and nothing else.
    slopes = np.diff(places_of_points) / np.diff(np.log(rates))
    np.testing.assert_allclose(slopes, slopes[0], rtol=1e-6)
    assert slopes[0] > 0


def test_the_figure_is_drawn_where_and_as_large_as_is_asked() -> None:
    figure = full().figure(size=700, title="mine")
    assert round(figure.get_size_inches()[0] * figure.dpi) == 700
    ax = Figure(figsize=(8, 5)).subplots()
    assert full().figure(ax=ax) is ax
    assert "jax strict" in {text.get_text() for text in ax.texts}


def test_a_figure_of_nothing_is_refused() -> None:
    with pytest.raises(CnnlensError, match="nothing was both timed and audited"):
        bench(BenchRow("jax", "cpu", "tf32", 1, error="no")).figure()
