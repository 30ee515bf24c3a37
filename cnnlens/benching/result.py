"""What a bench found, as it is handed out: shown as a table, as plain data or as a figure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Unpack, overload

from cnnlens.benching.rows import Measurements
from cnnlens.page import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from cnnlens.plot.front import Look

__all__ = ["Bench"]


@dataclass(frozen=True, repr=False)
class Bench(Result, Measurements, listing="benching.listing", name="bench"):
    """Holds what a bench found; printed, it is a table. ``Measurements`` says what its attributes are.

    >>> import cnnlens.sample
    >>> result = cnnlens.bench(
    ...     cnnlens.sample.MODEL, backends=["reference"], precisions=["strict", "tf32"], batches=[2], seconds=0.1
    ... )
    >>> [(row.precision, row.error) for row in result.rows]
    [('strict', ''), ('tf32', "it has no precision 'tf32' on the device 'cpu'; it has strict, native")]
    >>> result.rows[0].exactness.verdict, sorted(result.rows[0].stages)
    (<Verdict.FLOAT32: 'float32'>, ['capture', 'copy', 'forward', 'write'])
    """

    @overload
    def figure(self, *, ax: Axes, **look: Unpack[Look]) -> Axes: ...
    @overload
    def figure(self, *, ax: None = None, **look: Unpack[Look]) -> Figure: ...
    def figure(self, *, ax: Axes | None = None, **look: Unpack[Look]) -> Figure | Axes:
        """Draw how fast each configuration gives its feature maps on the host, the most exact ones first.

        Args:
            ax, look: As ``cnnlens.plot.kernels`` takes them.

        Raises:
            CnnlensError: nothing was measured.
        """
        from cnnlens.benching.listing import as_figure

        return as_figure(self, ax, look)

    def __repr__(self) -> str:
        ran = [row for row in self.rows if row.stages]
        text = f"<Bench {self.model}: {len(ran)} of {len(self.rows)} rows measured in {self.rounds} rounds"
        if not ran:
            return text + ">"
        best = max(ran, key=lambda row: row.rate("forward") or 0.0)
        return f"{text},\n fastest forward {best.rate('forward'):,.0f} images/s: {best.label}, batch {best.batch}>"
