"""Settings run under backends: one worker each, one network of many settings at a time, every branch audited alone.

A backend that refuses, crashes or falls silent at one setting takes the whole network with it; the network is then cut
in two until the setting stands alone, and that is what is said of it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
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

    @property
    def audited(self) -> bool:
        """Tell whether numbers came, and something could be said of them."""
        return not self.fault or self.disagrees

    @property
    def counted(self) -> bool:
        """Tell whether its text only counts what is off, instead of naming what the backend does."""
        return "; besides, " not in self.text and any(phrase in self.text for phrase in _COUNTED)

    @property
    def alike(self) -> str:
        """Give what its text says, without its numbers: faults of one kind that are alike are made small once."""
        found = next((phrase for phrase in _COUNTED if phrase in self.text), None)
        return found or re.sub(r"[\d.,+-]+", "#", self.text)[:60]


_COUNTED = ("which the backend hides", "which the backend makes", "outputs differ", "off by up to")
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
        some = [name for name, one in names.items() if only[one] == inputs]
        audits = dict(_audits(shared, kept, some, inputs, False))
        # Which sort of fault a stray is is known; of others it hangs on whether they have a name.
        unnamed = [name for name in some if audits[name].cause is Cause.UNEXPLAINED]
        audits |= _audits(shared, kept, unnamed, inputs, True)
        for name in some:
            yield names[name], _outcome(audits[name], (inputs,) if inputs else (), under.precision)


def _audits(
    shared: Together, kept: Kept, names: Sequence[str], inputs: str, explained: bool
) -> Iterator[tuple[str, Audit]]:
    """Audit branches on one class of inputs, or on all."""
    if not names:
        return iter(())
    rows = replace(kept, rows=rows_of(inputs)) if inputs else kept
    return audit_recording(shared.network.part(names), rows, known=shared.known[inputs], explained=explained)


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
    """Say of each branch what became of it: audited on all inputs at once, and where that is a fault on each class.

    A fault is searched for its name, which takes longest, on one class after the other until it has one.
    """
    precision = str(kept.info["precision"])
    audits = dict(_audits(shared, kept, names, "", False))
    bad = [name for name in names if not audits[name].verdict.passes(precision)]
    shown: dict[str, dict[str, Audit]] = {name: {} for name in bad}
    for one in CLASSES:
        for name, audit in _audits(shared, kept, bad, one, False):
            if not audit.verdict.passes(precision):
                shown[name][one] = audit
    told: dict[str, Audit] = {}
    # What finite inputs show says more, and what has a name.
    for stray, one in product((False, True), CLASSES):
        unclear = [name for name in bad if name not in told or (not stray and told[name].cause is Cause.UNEXPLAINED)]
        asked = [name for name in unclear if one in shown[name] and (shown[name][one].cause in _STRAY) is stray]
        for name, audit in _audits(shared, kept, asked, one, True):
            if audit.verdict.passes(precision):  # with the arithmetic of others in mind
                del shown[name][one]
            elif name not in told or audit.cause is not Cause.UNEXPLAINED:
                told[name] = audit
    told |= _audits(shared, kept, [name for name in bad if name not in told], "", True)
    return [_outcome(told.get(name, audits[name]), tuple(shown.get(name, ())), precision) for name in names]


_STRAY = (Cause.NONFINITE, Cause.OVERFLOW)


def _outcome(audit: Audit, inputs: tuple[str, ...], precision: str) -> Outcome:
    if audit.verdict is Verdict.NOT_AUDITED:
        return Outcome("not audited", audit.reason)
    if audit.verdict.passes(precision):
        return Outcome(bits=audit.bits)
    return Outcome(str(audit.fault_class), audit.explanation, inputs, audit.bits)


_OUR_NAME = re.compile(r"^layer 's\d+_\w+': (?=it failed)")  # of a layer in a network that nobody knows


def _failed(error: CnnlensError) -> Outcome:
    """A framework that raises has refused, whatever became of its process afterwards."""
    text = _OUR_NAME.sub("", error.without_backend)
    if not isinstance(error, WorkerError) or text.startswith("failed while"):
        return Outcome("refused", text)
    silent = text.startswith(("gave no answer", "took no request"))
    return Outcome("hung" if silent else "crashed", text)
