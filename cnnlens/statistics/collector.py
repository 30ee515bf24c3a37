"""Statistics of feature maps over a data set: the batches of ``record``, a few numbers an input of them kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from typing import Any, overload

from cnnlens.backend.options import RunOptions
from cnnlens.backend.process import refuse_unknown
from cnnlens.errors import CnnlensError, in_one_line
from cnnlens.janitor import temporary_folder
from cnnlens.opening.opener import network_given
from cnnlens.progress import Counted, telling
from cnnlens.recording.streaming import plan, run_batches
from cnnlens.statistics.comparison import Comparing, StatsComparison
from cnnlens.statistics.folding import Folding, Maker, drawable
from cnnlens.statistics.result import Stats
from cnnlens.text import printable

__all__ = ["stats"]

_BY = ("max", "mean")


@overload
def stats(
    model: Any, inputs: Any, *, backend: str | None = None, backends: None = None, **options: Any
) -> Stats: ...  # fmt: skip
@overload
def stats(model: Any, inputs: Any, *, backends: Sequence[str], **options: Any) -> StatsComparison: ...
@in_one_line()
def stats(  # pyright: ignore[reportInconsistentOverload] - ``options`` are these
    model: Any,
    inputs: Any,
    *,
    backend: str | None = None,
    backends: Sequence[str] | None = None,
    layers: Iterable[str | int] | None = None,
    device: str = "cpu",
    precision: str = "native",
    batch: int | None = None,
    top: int = 5,
    by: str = "max",
    draw: str | int | None = None,
    keep: int = 4,
    scale: str = "auto",
    limit: int | None = None,
    allow_nonfinite: bool = False,
    skip_bad: bool = False,
    engine: str | None = None,
    workers: int | None = None,
    example: Any = None,
    trust_code: bool = False,
    timeout: float | None = None,
    progress: Counted = True,
    on_stop: Callable[[Any], object] | None = None,
) -> Stats | StatsComparison:
    """Compute statistics of feature maps over a data set in one pass, in memory that does not grow with it.

    Of each layer and channel: mean, variance, extremes, quantiles, the share of zeros, whether it is dead, and which
    inputs excite it most. No map is kept.

    Args:
        model, inputs, backend, layers, device, precision, batch, engine, workers, example, trust_code, timeout,
            progress: As ``record`` takes them.
        scale, limit, allow_nonfinite, skip_bad: As ``open_inputs`` takes them.
        backends: Two or more, to be compared on the same inputs instead: each gives its statistics, the first is held
            against the others, and the maps of the inputs on which they differ most are kept.
        top: How many exciting inputs are kept of each channel.
        by: What makes an input exciting: ``max``, the largest activation in its map, or ``mean``.
        draw: A layer whose exciting inputs are kept, for ``Stats.draw``.
        keep: With ``backends``: of how many inputs the maps are kept.
        on_stop: Called with the statistics so far where Ctrl-C or an error ends the run, before that is raised.

    Returns:
        The statistics by layer; with ``backends`` a ``StatsComparison``.

    Raises:
        CnnlensError: as ``record`` raises it.

    >>> import cnnlens.sample
    >>> stats = cnnlens.stats(cnnlens.sample.MODEL, cnnlens.sample.IMAGES, layers=["conv2d"], top=1)
    >>> round(float(stats["conv2d"].mean[0]), 4), round(float(stats["conv2d"].zeros[0]), 2)
    (0.0421, 0.42)
    >>> cnnlens.stats(cnnlens.sample.MODEL, cnnlens.sample.IMAGES, layers=["conv"])
    Traceback (most recent call last):
        ...
    cnnlens.errors.CnnlensError: ...: no layer is named 'conv'; did you mean 'conv2d' or 'conv2d_1'?
    """
    for what, value, least in (("top", top, 1), ("keep", keep, 0)):
        if value < least:
            raise CnnlensError(f"{what}: at least {least} was expected, {value} came")
    if by not in _BY:
        raise CnnlensError(f"by '{printable(by)}': max or mean was expected")
    if backends is not None and (backend is not None or len(backends) < 2):
        raise CnnlensError("backends: two or more are compared; name one alone as backend")
    refuse_unknown(backends or ())
    network, live = network_given(model, inputs, example)
    if backends is not None and live is not None:
        raise CnnlensError("a live model runs in the framework it lives in; give its file to compare backends")
    if backends is not None and engine is not None:
        raise CnnlensError("an engine runs one backend; compare backends without it, or run one after the other")
    options = RunOptions(
        device, precision, batch, timeout, trust_code, scale, limit, allow_nonfinite, skip_bad, engine, workers
    )
    what = plan(network, inputs, options, backend=backend, live=live, layers=layers)
    shown = None if draw is None else drawable(what, draw)
    made = Maker(what, top, by)
    with ExitStack() as stack:
        folder = stack.enter_context(temporary_folder())
        bar = stack.enter_context(ExitStack())
        tell = bar.enter_context(telling(progress, "inputs"))
        if backends is None:
            runner = what.start(stack, progress=tell)
            sink: Folding | Comparing = Folding(folder, what.description(runner), made)
        else:
            runners = [what.start_here(stack, spec, tell) for spec in backends]
            sink = Comparing(folder, list(backends), [
                what.description(one, spec) for one, spec in zip(runners, backends, strict=True)
            ], made, keep)  # fmt: skip
            runner = sink.beside(runners)
        try:
            with bar:
                run_batches(what.stream, runner, sink, tell)
        except BaseException:
            if on_stop is not None and sink.done:
                on_stop(sink.result((*made.notes, *runner.notes), what.stream, shown))
            raise
        return sink.result((*made.notes, *runner.notes), what.stream, shown)
