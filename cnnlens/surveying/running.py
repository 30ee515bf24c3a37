"""Settings run under backends: one worker each, one network of many settings at a time, every branch audited alone.

A backend that refuses, crashes or falls silent at one setting takes the whole network with it; the network is then cut
in two until the setting stands alone, and that is what is said of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray

from cnnlens.backend import handover
from cnnlens.backend.worker import WorkerError, pool
from cnnlens.checking.auditing import audit_recording
from cnnlens.checking.evidence import Predictions
from cnnlens.checking.finding import Cause, FaultClass, Verdict
from cnnlens.checking.verdict import Audit
from cnnlens.errors import CnnlensError
from cnnlens.janitor import temporary_folder
from cnnlens.network.network import Network
from cnnlens.surveying.drawing import CLASSES, draw, rows_of
from cnnlens.surveying.networks import branch, network_of
from cnnlens.surveying.setting import Setting

__all__ = ["AT_ONCE", "Kept", "Outcome", "Under", "computed", "run", "together"]

AT_ONCE = 16  # settings in one network: a failure costs these again, and XLA makes fewer cost more


@dataclass(frozen=True)
class Under:
    """Says what settings run under: a backend as ``cnnlens backends`` names it, a precision, a device."""

    backend: str
    precision: str = "strict"
    device: str = "cpu"
    timeout: float = 120.0


@dataclass(frozen=True)
class Outcome:
    """Says what became of one setting under one backend.

    Attributes:
        fault: ``wrong value``, ``lost precision``, ``NaN or infinity``, ``shape``, ``refused``, ``crashed``, ``hung``;
            empty where there is none, and ``not audited`` where nothing could be said.
        text: What is wrong, in one sentence.
        inputs: The classes of inputs that show it.
        bits: Effective bits, of the worst class.
    """

    fault: str = ""
    text: str = ""
    inputs: tuple[str, ...] = ()
    bits: float = float("inf")

    @property
    def disagrees(self) -> bool:
        """Tell whether numbers came that are not the reference's."""
        return self.fault in tuple(FaultClass)


_ENDED = ("it was closed", "it was interrupted")


@dataclass(frozen=True)
class Kept:
    """Holds what a network gave, in memory, for the audit to read as it reads a recording."""

    maps: Mapping[str, NDArray[Any]]
    info: Mapping[str, Any]
    rows: tuple[int, int | None] = (0, None)

    @property
    def count(self) -> int:
        return len(self[next(iter(self.maps))])

    def altered(self, name: str) -> str | None:
        return None

    def __contains__(self, name: str) -> bool:
        return name in self.maps

    def __getitem__(self, name: str) -> Any:
        return self.maps[name][slice(*self.rows)]


class Together(NamedTuple):
    """Holds what settings are under every backend: a network, its inputs, and by class of these what it must give."""

    network: Network
    inputs: Sequence[NDArray[Any]]
    known: Mapping[str, Predictions]


@lru_cache(maxsize=128)
def together(settings: tuple[Setting, ...]) -> Together:
    """Make the network of settings; the same one again for the backends that come later, while there is room."""
    network = network_of(settings)
    return Together(network, draw(network), defaultdict(dict))


def run(
    settings: Sequence[Setting],
    under: Under,
    said: Callable[[Setting, Outcome], object] | None = None,
    only: Mapping[Setting, str] | None = None,
) -> dict[Setting, Outcome]:
    """Run settings of one framework under a backend, and audit each.

    Args:
        said: Called with each outcome when it is there.
        only: The one class of inputs that a setting is audited on; None for all, and what is wrong on each by itself.
    """
    found: dict[Setting, Outcome] = {}
    for start in range(0, len(settings), AT_ONCE):
        for setting, outcome in _outcomes(settings[start : start + AT_ONCE], under, only):
            found[setting] = outcome
            if said is not None:
                said(setting, outcome)
    return found


def _outcomes(
    settings: Sequence[Setting], under: Under, only: Mapping[Setting, str] | None
) -> Iterator[tuple[Setting, Outcome]]:
    """What became of each; on a failure of those that it names alone, or of each half."""
    if not settings:
        return
    shared = together(tuple(settings))
    network = shared.network
    try:
        kept = computed(network, under, shared.inputs)
    except CnnlensError as error:
        if str(error).endswith(_ENDED):
            raise  # it was ended from here, because somebody interrupted the sweep
        if len(settings) == 1:
            yield settings[0], _failed(error)
            return
        text = str(error)
        named = [one for number, one in enumerate(settings) if f"'{branch(number, one)}'" in text]
        if 0 < len(named) < len(settings):
            first, rest = named, [one for one in settings if one not in named]
        else:
            first, rest = settings[: len(settings) // 2], settings[len(settings) // 2 :]
        yield from _outcomes(first, under, only)
        yield from _outcomes(rest, under, only)
        return
    names = {branch(number, one): one for number, one in enumerate(settings)}
    if only is None:
        yield from zip(settings, _audited(shared, kept, list(names)), strict=True)
        return
    for inputs in dict.fromkeys(only[one] for one in settings):
        some = {name: one for name, one in names.items() if only[one] == inputs}
        for name, audit in audit_recording(network.part(some), _rows(kept, inputs)):
            yield some[name], _outcome(audit, (inputs,) if inputs else (), under.precision)


def _rows(kept: Kept, inputs: str) -> Kept:
    return replace(kept, rows=rows_of(inputs)) if inputs else kept


def computed(network: Network, under: Under, inputs: Sequence[NDArray[Any]] | None = None) -> Kept:
    """Compute all branches of a network.

    Raises:
        CnnlensError: the backend refuses, crashes or hangs.
    """
    given = draw(network) if inputs is None else list(inputs)
    wanted = [ref.name for ref in network.outputs]
    with pool(under.backend, under.device, under.precision, under.timeout) as worker, temporary_folder() as folder:
        handover.write(network, Path(folder))
        loaded = worker.load(Path(folder), False)
        maps = worker.feature_maps(given, wanted)
    info = {"precision": under.precision, "versions": dict(loaded.versions), "device": loaded.device}
    return Kept({**dict(zip((ref.name for ref in network.inputs), given, strict=True)), **maps}, info)


def _audited(shared: Together, kept: Kept, names: Sequence[str]) -> list[Outcome]:
    """Say of each branch what became of it: audited on all inputs at once, and where that is a fault on each class."""
    network, known = shared.network, shared.known
    audits = dict(audit_recording(network, kept, known=known[""]))
    precision = str(kept.info["precision"])
    bad = [name for name in names if not audits[name].verdict.passes(precision)]
    shown: dict[str, dict[str, Audit]] = {name: {} for name in bad}
    for one in CLASSES if bad else ():
        for name, audit in audit_recording(network.part(bad), _rows(kept, one), known=known[one]):
            if not audit.verdict.passes(precision):
                shown[name][one] = audit
    made: list[Outcome] = []
    for name in names:
        classes = shown.get(name) or {}
        audit = min(classes.values(), key=_unclear) if classes else audits[name]
        made.append(_outcome(audit, tuple(classes), precision))
    return made


def _unclear(audit: Audit) -> tuple[bool, bool]:
    """Orders audits: what finite inputs show says more, and what has a name."""
    return audit.cause in (Cause.NONFINITE, Cause.OVERFLOW), audit.cause is Cause.UNEXPLAINED


def _outcome(audit: Audit, inputs: tuple[str, ...], precision: str) -> Outcome:
    if audit.verdict is Verdict.NOT_AUDITED:
        return Outcome("not audited", audit.reason)
    if audit.verdict.passes(precision):
        return Outcome(bits=audit.bits)
    return Outcome(str(audit.fault_class), audit.explanation, inputs, audit.bits)


def _failed(error: CnnlensError) -> Outcome:
    """A framework that raises has refused, whatever became of its process afterwards."""
    text = error.without_backend
    if not isinstance(error, WorkerError) or text.startswith("failed while"):
        return Outcome("refused", text)
    silent = text.startswith(("gave no answer", "took no request"))
    return Outcome("hung" if silent else "crashed", text)
