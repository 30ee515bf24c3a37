"""Sweeps every kind of layer under every backend, and makes each disagreement small enough to be reported."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from cnnlens.backend import check_precision, get, installed
from cnnlens.backend.process import parse_spec, refuse_unknown
from cnnlens.backend.worker import threads
from cnnlens.errors import CnnlensError, in_one_line
from cnnlens.kinds import KINDS
from cnnlens.output import silent
from cnnlens.progress import Told, telling
from cnnlens.surveying import scripts, shrinking
from cnnlens.surveying.log import Log
from cnnlens.surveying.machine import machine
from cnnlens.surveying.result import Atlas, Cell, Finding, Side
from cnnlens.surveying.running import AT_ONCE, Outcome, Under, computed, run, together
from cnnlens.surveying.setting import Family, Setting
from cnnlens.surveying.table import FAMILIES, UNSWEPT
from cnnlens.testing.networks import network
from cnnlens.text import nearest, printable

__all__ = ["LEVELS", "atlas"]

LEVELS = {"quick": (2, ("strict",)), "full": (3, ("strict", "native"))}
"""Of each level how many values must stand together in a setting, and the precisions."""

_WORTH = 20.0  # seconds that are left where one more worker, which imports its framework first, ends sooner

Tell = Callable[[str], object]


@in_one_line()
def atlas(
    kinds: Iterable[str] | None = None,
    *,
    backends: Sequence[str] | None = None,
    level: str = "quick",
    precisions: Sequence[str] | None = None,
    device: str = "cpu",
    timeout: float | None = None,
    log: str | Path | None = None,
    progress: Told = True,
) -> Atlas:
    """Sweep kinds of layers over their settings under backends, audit each alone, and shrink what disagrees.

    Args:
        kinds: Names of kinds, as ``docs/kinds.md`` lists them; None for all that can be swept.
        backends: Names as ``cnnlens backends`` lists them, or ``name@interpreter``; None for all that are installed.
        level: ``quick``: settings that cover all pairs of options' values, in strict precision; ``full``: all triples,
            in strict and native precision.
        precisions: In place of the level's own: see ``record``.
        device: As ``record`` takes it.
        timeout: Seconds that a backend may be silent before it is ended, and the setting found; None for 120.
        log: A file that outcomes are kept in while the sweep goes on; the same call goes on from there after an
            interruption, and whoever has the result removes it.
        progress: As ``check`` takes it.

    Returns:
        A cell for each kind under each backend, and each disagreement with its smallest case and its script.

    Raises:
        CnnlensError: no such kind, level or backend, none that runs any of the kinds, or all of them fail. One that
            fails beside others is no exception: its ``Side`` says why.

    >>> import cnnlens
    >>> result = cnnlens.atlas(["AveragePooling2D"], backends=["reference"])
    >>> result.agree, len(result.findings)
    (True, 0)
    >>> cnnlens.atlas(["AvgPool2D"], backends=["reference"]).cells[0].kind
    'AveragePooling2D'
    """
    if level not in LEVELS:
        raise CnnlensError(f"level '{printable(level)}': {' or '.join(LEVELS)} was expected")
    families = _chosen(kinds)
    sides = _sides(backends, LEVELS[level][1] if precisions is None else precisions, families)
    families = [family for family in families if family.framework in {side.framework for side in sides}]
    began = time.monotonic()
    count = max(len({one.backend for one in sides}), 1)
    with telling(progress) as tell:
        swept = _Sweep(families, LEVELS[level][0], Log(None if log is None else Path(log)), tell or silent)
        driving: list[Future[Any]] = []
        with threads(count, driving) as lent:
            unders = [Under(one.backend, one.precision, device, timeout or 120.0) for one in sides]
            swept_by = [lent.submit(swept.side, one, under) for one, under in zip(sides, unders, strict=True)]
            driving += [*swept_by, *(lent.submit(swept.help) for _ in range(count))]  # who has no side any more helps
            found = [one.result() for one in swept_by]
    together.cache_clear()
    if all(one.side.error for one in found):
        raise CnnlensError(f"nothing was swept: {found[0].side.label}: {found[0].side.error}")
    ran = [each for one in found for each in one.findings]
    frameworks = {one.side.framework for one in found if not one.side.error}
    return Atlas(
        level,
        date.today().isoformat(),
        time.monotonic() - began,
        machine(),
        tuple(one.side for one in found),
        tuple(cell for one in found for cell in one.cells()),
        tuple(_merged(ran, [one.side for one in found if not one.side.error])),
        sum(len(swept.settings[one]) for one in frameworks),
        sum(each.audited for one in found for each in one.outcomes.values()),
        sum(one.resumed for one in found),
        sum(swept.covered[one] for one in frameworks),
        {} if kinds is not None else dict(UNSWEPT),
    )


@dataclass(frozen=True)
class _Swept:
    """What one backend gave."""

    side: Side
    outcomes: Mapping[Setting, Outcome]
    findings: Sequence[Finding]
    resumed: int = 0

    def cells(self) -> Iterable[Cell]:
        by_kind: dict[str, list[Outcome]] = defaultdict(list)
        for setting, outcome in self.outcomes.items():
            by_kind[setting.family.kind].append(outcome)
        for kind, several in by_kind.items():
            faults = Counter(one.fault for one in several if one.fault and one.fault != "not audited")
            unaudited = sum(one.fault == "not audited" for one in several)
            yield Cell(kind, self.side.label, len(several), unaudited, dict(faults))


class _Share:
    """The settings of one backend that are left, and those who run them: its own thread, and others that have ended."""

    def __init__(self, settings: Sequence[Setting], under: Under, said: Callable[[Setting, Outcome], object]) -> None:
        self._left = deque(settings[start : start + AT_ONCE] for start in range(0, len(settings), AT_ONCE))
        self._under, self._said = under, said
        self._changed = threading.Condition()
        self._busy = self._done = 0
        self._seconds = 0.0
        self._error: BaseException | None = None

    @property
    def wants(self) -> float:
        """Estimate the seconds that what is left takes; 0 where one more worker would wait for the cores."""
        each = self._seconds / max(self._done, 1)
        return each * len(self._left) if self._busy < (os.cpu_count() or 1) else 0.0

    def work(self) -> None:
        """Run what is left, with a worker of its own."""
        with self._changed:
            self._busy += 1
        try:
            while self._left:
                with self._changed:
                    some = self._left.popleft() if self._left else ()
                began = time.monotonic()
                run(some, self._under, self._said)
                with self._changed:
                    self._done, self._seconds = self._done + 1, self._seconds + time.monotonic() - began
        except BaseException as error:
            self._left.clear()
            self._error = error
            raise
        finally:
            with self._changed:
                self._busy -= 1
                self._changed.notify_all()

    def wait(self) -> None:
        """Wait for those who help."""
        with self._changed:
            self._changed.wait_for(lambda: not self._busy)
        if self._error is not None:
            raise self._error


class _Sweep:
    """The settings, and one backend's way through them."""

    def __init__(self, families: Sequence[Family], strength: int, log: Log, tell: Tell) -> None:
        self.settings: dict[str, list[Setting]] = defaultdict(list)
        self.covered = Counter[str]()
        for family in families:
            chosen, covered = family.settings(strength)
            self.settings[family.framework] += chosen
            self.covered[family.framework] += covered
        self.log, self._tell = log, tell
        self._shares: list[_Share] = []

    def help(self) -> None:
        """Run settings of the backend that needs most time yet, until none needs much."""
        while (share := max(self._shares, key=lambda one: one.wants, default=None)) and share.wants > _WORTH:
            share.work()

    def side(self, side: Side, under: Under) -> _Swept:
        """Run everything that a backend can run."""
        self._tell(f"{side.label}: starting")
        try:
            info = computed(network("signal", side.framework), under, _warm(side.framework)).info
        except CnnlensError as error:
            return _Swept(replace(side, error=error.without_backend), {}, [])
        side = replace(side, versions=info["versions"], device=str(info["device"]))
        settings = self.settings[side.framework]
        known = self.log.known(under, side.versions)
        outcomes = {one: known[one.key] for one in settings if one.key in known}
        resumed = sum(one.audited for one in outcomes.values())
        left = [one for one in settings if one not in outcomes]

        def said(setting: Setting, outcome: Outcome) -> None:
            self.log.add(under, side.versions, setting, outcome)
            done = len(outcomes) + 1
            outcomes[setting] = outcome
            if done % 50 == 0:
                self._tell(f"{side.label}: {done:,} of {len(settings):,} settings")

        share = _Share(left, under, said)
        self._shares.append(share)
        share.work()
        share.wait()
        outcomes = {one: outcomes[one] for one in settings}
        return _Swept(side, outcomes, self._findings(side, under, outcomes), resumed)

    def _findings(self, side: Side, under: Under, outcomes: Mapping[Setting, Outcome]) -> list[Finding]:
        """Each disagreement once, made small, with its script."""
        groups: dict[tuple[str, str, str], list[Setting]] = defaultdict(list)
        for setting, outcome in outcomes.items():
            if outcome.fault and outcome.fault != "not audited":
                groups[setting.family.kind, outcome.fault, outcome.alike].append(setting)
        plainest = {min(some, key=shrinking.size): some for some in groups.values()}
        if plainest:
            self._tell(f"{side.label}: making {len(plainest)} disagreements small")
        small = shrinking.shrink({one: outcomes[one] for one in plainest}, under)
        by_case: dict[tuple[Setting, str], list[Setting]] = defaultdict(list)
        for one, (case, outcome) in small.items():
            by_case[case, outcome.fault].append(one)
        found: list[Finding] = []
        cases: dict[int, scripts.Case] = {}
        for (case, fault), examples in by_case.items():
            example = min(examples, key=lambda one: len(outcomes[one].text))
            outcome = small[example][1]
            # Few numbers hide what the backend does, which the example may name; what is counted is the small case's.
            named = outcome.disagrees and not outcomes[example].counted
            said = outcomes[example].text if named else outcome.text
            numbers = _numbers(case, outcome, under) if outcome.disagrees else None
            if numbers is not None or fault == "refused":
                cases[len(found)] = scripts.Case(case, numbers, said)
            settings = sum(len(plainest[one]) for one in examples)
            found.append(
                Finding(
                    case.family.kind, (side.label,), fault, said, settings, example.key, case.key,
                    dict(case.options), outcome.inputs,
                )
            )  # fmt: skip
        self._tell(f"{side.label}: running {len(cases)} scripts")
        proofs = scripts.proved(list(cases.values()), under.backend, side.versions)
        for (place, case), (script, shown) in zip(cases.items(), proofs, strict=True):
            numbers = case.numbers
            found[place] = replace(
                found[place],
                computed=numbers and numbers.computed,
                expected=numbers and numbers.expected,
                script=script,
                shown=shown,
            )
        return found


def _numbers(case: Setting, outcome: Outcome, under: Under) -> shrinking.Numbers | None:
    try:
        return shrinking.numbers(case, outcome, under)
    except CnnlensError:
        return None


def _warm(framework: str) -> list[Any]:
    from cnnlens.testing.networks import inputs_for

    return inputs_for(network("signal", framework), 2)


def _merged(findings: Sequence[Finding], sides: Sequence[Side]) -> list[Finding]:
    """The same small case under several backends as one finding, where what is said of it is the same."""
    together: dict[tuple[str, str, str], list[Finding]] = defaultdict(list)
    for one in findings:
        together[one.small, one.fault, Outcome(one.fault, one.text).alike].append(one)
    by_label = {side.label: side for side in sides}
    made: list[Finding] = []
    for several in together.values():
        labels = tuple(label for one in several for label in one.sides)
        best = max(several, key=lambda one: (one.shown, bool(one.script)))
        framework = by_label[labels[0]].framework
        every = len(labels) == sum(side.framework == framework for side in sides)
        # One backend in several precisions, or under several Pythons, tells nothing of others.
        others = len({by_label[label].backend.partition("@")[0] for label in labels}) > 1
        settings = max(one.settings for one in several)
        made.append(replace(best, sides=labels, everywhere=every and others, settings=settings))
    return sorted(made, key=lambda one: (not one.disagrees, one.kind, one.sides))


def _chosen(kinds: Iterable[str] | None) -> list[Family]:
    if kinds is None:
        return [*FAMILIES]
    known = {family.kind: None for family in FAMILIES}
    chosen: dict[str, None] = {}
    for kind in [kinds] if isinstance(kinds, str) else kinds:
        name = KINDS[kind].name if kind in KINDS else kind
        if name in UNSWEPT:
            raise CnnlensError(f"{name}: it is not in the sweep: {UNSWEPT[name]}")
        if name not in known:
            raise CnnlensError(f"no kind is named '{printable(kind)}'; {nearest(kind, known)}")
        chosen[name] = None
    return [family for family in FAMILIES if family.kind in chosen]


def _sides(backends: Sequence[str] | None, precisions: Sequence[str], families: Sequence[Family]) -> list[Side]:
    if backends is None:
        backends = [
            one.name for one in installed() if one.problem is None and not one.missing and one.name != "reference"
        ]
        if not backends:
            commands = dict.fromkeys(one.backend.install for one in installed() if one.problem is None and one.missing)
            raise CnnlensError(f"nothing was swept: no backend of a framework is installed; {' or '.join(commands)}")
    backends, precisions = list(dict.fromkeys(backends)), list(dict.fromkeys(precisions))
    refuse_unknown(backends)
    for precision in precisions:
        check_precision(precision)
    wanted = dict.fromkeys(family.framework for family in families)
    sides = [
        Side(" ".join([spec, *runs[1:], *([] if precision == "strict" else [precision])]), spec, precision, runs[0])
        for spec in backends
        for runs in _runs(spec)
        if runs[0] in wanted
        for precision in precisions
    ]
    for what, named in (("kind", families), ("backend", backends), ("precision", precisions)):
        if not named:
            raise CnnlensError(f"no {what} is named; leave it out, or name one")
    if not sides:
        named = ", ".join(dict.fromkeys(family.kind for family in families))
        raise CnnlensError(f"no backend of {', '.join(map(printable, backends))} runs {printable(named, 200)}")
    return sides


def _runs(spec: str) -> list[tuple[str, ...]]:
    """Which framework's kinds a backend runs; the reference runs all, PyTorch's in a column of their own."""
    layout = get(parse_spec(spec)[0]).layout
    return [(layout,)] if layout in ("keras", "torch") else [("keras",), ("torch", "torch")]
