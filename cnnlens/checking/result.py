"""What a check found: what ran, a row a layer, and which verdicts are no fault."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

from cnnlens.backend import NARROW
from cnnlens.checking.finding import Objection, Verdict
from cnnlens.checking.pairs import Comparison
from cnnlens.checking.verdict import Audit
from cnnlens.errors import UnsupportedLayerError
from cnnlens.network.graph import Layer
from cnnlens.network.network import Network
from cnnlens.page import Result
from cnnlens.reference.operation import LinearOperation
from cnnlens.text import printable

__all__ = ["Check", "LayerCheck", "Problem", "Run", "policy_verdict", "stored_halves"]

_POLICIES = {
    "mixed_float16": Verdict.FLOAT16, "float16": Verdict.FLOAT16, "mixed_bfloat16": Verdict.BFLOAT16,
    "bfloat16": Verdict.BFLOAT16,
}  # fmt: skip


@dataclass(frozen=True)
class Run:
    """Says what one side of a check was: a backend that ran here, or a recording.

    Attributes:
        label: How it is named in tables: the backend, with a number or device where two would be alike.
        weights: Arrays that differ from the file's, one line each; None where the run does not say.
        inputs: How many inputs it ran on; ``audited``: how many of them were looked at.
        repeats: How far a second run was from the first (0 where every bit is the same), by tensor; None if not asked.
        error: Why there is no result, in one line; everything else is empty then. ``reason``: without the backend's
            name in front.
    """

    label: str
    backend: str
    versions: Mapping[str, str] = field(default_factory=lambda: dict[str, str]())
    device: str = ""
    precision: str = ""
    weights: tuple[str, ...] | None = None
    inputs: int = 0
    audited: int = 0
    repeats: Mapping[str, float] | None = None
    error: str | None = None
    reason: str = ""

    @property
    def is_reference(self) -> bool:
        """Tell whether the reference itself ran, which what it gives is held against: it proves no framework right."""
        return self.backend == "reference"


class Problem(NamedTuple):
    """Says what speaks against a run.

    Attributes:
        layer: The first layer that is not rounding, or the tensor that a second run gives farthest off; empty for
            weights and errors, which are the run's.
        audit: Of that layer.
        objection: Which of these it is.
    """

    layer: str
    audit: Audit | None
    objection: Objection


@dataclass(frozen=True, repr=False)
class LayerCheck:
    """Holds the audit of one layer call in each run, by the run's label."""

    name: str
    kind: str
    audits: Mapping[str, Audit]

    def __repr__(self) -> str:
        said = ", ".join(f"{label} {audit.verdict}" for label, audit in self.audits.items())
        return f"<LayerCheck {printable(self.name)}: {printable(said, 200)}>"


@dataclass(frozen=True, repr=False)
class Check(Result, listing="checking.listing", name="check"):
    """Holds what a check found: what ran, a row a layer, and how far the runs are from each other.

    Attributes:
        network: The model that was checked.
        inputs: What it was checked on, in words.
        runs: What ran, or was recorded: label, versions, device, and the error where there is no result.
        rows: A row a layer call, in the network's order: its audit in each run, by label. An audit says the verdict
            (``exact``, ``float32``, ``tf32``, ``wrong`` …) and the effective bits, log2 of value over error.
        pairs: How far two runs are from each other, by their labels and then by layer call; it decides nothing.

    >>> import cnnlens.sample
    >>> result = cnnlens.check(cnnlens.sample.MODEL, cnnlens.sample.IMAGES, backends=["reference"])
    >>> result
    <Check fashion_mnist_cnn.keras: reference is within rounding; no framework was compared>
    >>> [run.label for run in result.runs]
    ['reference']
    >>> result.rows[0].name, result.rows[0].kind
    ('conv2d', 'Conv2D')
    >>> result.agree, result.could_check
    (True, True)
    """

    network: Network
    inputs: str
    runs: tuple[Run, ...]
    rows: tuple[LayerCheck, ...]
    pairs: Mapping[tuple[str, str], Mapping[str, Comparison]]

    def __repr__(self) -> str:
        shown = ", ".join(f"{run.label} {self._came_to(run)}" for run in self.runs)
        alone = "" if self.compared else "; no framework was compared"
        return f"<Check {self.network.shown}: {printable(shown, 200)}{alone}>"

    def _came_to(self, run: Run) -> str:
        if run.error is not None:
            return "could not be checked"
        if self.problem(run) is not None:
            return "does not agree"
        return "is within rounding" if run.is_reference else "agrees"

    @property
    def compared(self) -> tuple[str, ...]:
        """List the runs of frameworks that gave a result, by label: none where the reference alone was audited.

        >>> import cnnlens.sample
        >>> cnnlens.check(cnnlens.sample.MODEL, cnnlens.sample.IMAGES, backends=["reference"]).compared
        ()
        """
        return tuple(run.label for run in self.runs if run.error is None and not run.is_reference)

    @property
    def agree(self) -> bool:
        """Tell whether every audited layer of every run is rounding, and its weights are the file's bit for bit.

        >>> import cnnlens.sample
        >>> cnnlens.check(cnnlens.sample.MODEL, cnnlens.sample.IMAGES, backends=["reference"]).agree
        True
        """
        return all(self.problem(run) is None for run in self.runs)

    @property
    def could_check(self) -> bool:
        """Tell whether every run gave a result, and at least one layer of each could be audited."""
        audited = {
            label
            for row in self.rows
            for label, audit in row.audits.items()
            if audit.verdict is not Verdict.NOT_AUDITED
        }
        return all(run.error is None and run.label in audited for run in self.runs)

    def problem(self, run: Run) -> Problem | None:
        """Say what is wrong with a run: its error, the first layer that is not rounding with its audit, or None.

        >>> import cnnlens.sample
        >>> result = cnnlens.check(cnnlens.sample.MODEL, cnnlens.sample.IMAGES, backends=["reference"])
        >>> print(result.problem(result.runs[0]))
        None
        """
        if run.error is not None:
            return Problem("", None, Objection.ERROR)
        for row in self.rows:
            audit = row.audits.get(run.label)
            if audit is not None and not self.is_rounding(run, row, audit):
                return Problem(row.name, audit, Objection.LAYER)
        if run.weights:
            return Problem("", None, Objection.WEIGHTS)
        if run.repeats is not None and run.precision == "strict" and any(run.repeats.values()):
            return Problem(max(run.repeats, key=run.repeats.__getitem__), None, Objection.REPEATS)
        return None

    def finer(self, run: Run) -> list[LayerCheck]:
        """List the layers that a run in tf32, bfloat16 or float16 computed with more bits than it was asked for.

        In tf32 only matrix products and convolutions are asked for; whatever only moves numbers is exact, and is none.

        >>> import cnnlens.sample
        >>> result = cnnlens.check(cnnlens.sample.MODEL, cnnlens.sample.IMAGES, backends=["reference"])
        >>> result.finer(result.runs[0])
        []
        """
        if run.precision not in ("tf32", *NARROW):
            return []
        asked = Verdict(run.precision)
        return [
            row
            for row in self.rows
            if (audit := row.audits.get(run.label)) is not None
            and Verdict.EXACT.rank < audit.verdict.rank < asked.rank
            and (asked is not Verdict.TF32 or _is_product(self.network.calls_by_name[row.name].layer))
        ]

    def is_rounding(self, run: Run, row: LayerCheck, audit: Audit) -> bool:
        """Tell whether a verdict is no fault, at the run's precision and the layer's own dtype policy."""
        if audit.verdict.passes(run.precision):
            return True
        # A model whose own dtype policy asks for less precision may have it.
        own = policy_verdict(self.network.calls_by_name[row.name].layer.config)
        return audit.verdict is own or audit.verdict in stored_halves(self.network)


def _is_product(layer: Layer) -> bool:
    try:
        return isinstance(layer.operation, LinearOperation)
    except UnsupportedLayerError:
        return False


def stored_halves(network: Network) -> frozenset[Verdict]:
    """Find the narrow types that a PyTorch model's weights are stored in: what flows between its layers has them too.

    Keras keeps such a choice in each layer's dtype policy instead (``policy_verdict``).
    """
    if network.source.framework != "torch":
        return frozenset()
    stored = {weight.stored.stored_dtype for layer in network.layers for weight in layer.stored.values()}
    return frozenset(verdict for verdict in _POLICIES.values() if verdict in stored)


def policy_verdict(config: Mapping[str, Any]) -> Verdict:
    """Give the verdict that a layer's own dtype policy asks for: ``float16`` for ``mixed_float16``, or ``float32``."""
    policy: Any = config.get("dtype")
    if isinstance(policy, Mapping):
        inner: Any = cast("Mapping[str, Any]", policy).get("config")
        policy = cast("Mapping[str, Any]", inner).get("name") if isinstance(inner, Mapping) else None
    return _POLICIES.get(policy if isinstance(policy, str) else "", Verdict.FLOAT32)
