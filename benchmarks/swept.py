"""What the atlas' sweep draws, as false alarms and planted faults: ``python -m benchmarks truth swept``.

Of each family some settings (``--mutants N`` of each, other ones with another ``--seed``), on all classes of inputs:
what the reference gives in float32, and Keras under PyTorch and PyTorch itself, must pass, but for what the atlas knows
of these; and the faults of ``truth`` that fit any setting, planted in what the reference gives on an ordinary class,
must be seen and truly named. ``python -m benchmarks.swept KEY`` does one setting alone, by its key.
"""

from __future__ import annotations

import os
import sys
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import get_context
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import Options
from cnnlens.backend.worker import close_all
from cnnlens.checking.auditing import audit_recording
from cnnlens.checking.finding import Verdict
from cnnlens.checking.known import with_known
from cnnlens.errors import CnnlensError
from cnnlens.network.graph import Ref, map_refs
from cnnlens.reference.executor import Executor
from cnnlens.surveying.drawing import CLASSES, draw, rows_of
from cnnlens.surveying.networks import branch, network_of
from cnnlens.surveying.running import AT_ONCE, Kept, Under, computed
from cnnlens.surveying.setting import Setting
from cnnlens.surveying.table import FAMILIES
from tests.support.audited import Audited
from tests.support.planted import Fault, Planting, faults_of, judged, relative, visible

__all__ = ["MISTAKES", "SIGHT", "swept", "unseen"]

Array = NDArray[Any]

SIGHT = 10.0
"""Bits above the honest rounding from which a fault must be seen: what convolutions by Winograd's algorithm, sums in
another order and few outputs may cost an honest backend lies below."""
BACKENDS = {"keras": "keras-torch", "torch": "pytorch"}
PLANTED_ON = ("normal", "spread")
_EACH = 1  # settings of a family
# Made for the settings of ``truth`` alone.
_OWN = (
    "the padding counts", "up-sampling off by one", "up-sampling off by one in front", "the other interpolation",
    "flattened channels first", "two groups", "variance of n - 1", "unbiased", "no forget bias", "the other reset",
    "no recurrent bias", "gates of the bias",
)  # fmt: skip
_NOT_SO = (TypeError, ValueError, KeyError, IndexError, AttributeError, StopIteration, CnnlensError)


class Swept(Audited):
    """One setting with its inputs of one class."""

    def __init__(self, setting: Setting, inputs: str) -> None:
        network = network_of([setting])
        self.call = network.calls_by_name[branch(0, setting)]
        layer = self.call.layer
        self.kind, self.config, self.operation = layer.kind, dict(layer.config), layer.operation
        self.weights = dict(layer.computing_weights())
        rows = slice(*rows_of(inputs))
        drawn = zip(network.inputs, draw(network), strict=True)
        own = {ref: network.own_axes(ref, array)[rows] for ref, array in drawn}
        self._places = {ref: place for place, ref in enumerate(self.call.refs)}
        self.inputs = [own[ref] for ref in self.call.refs]
        self.listed = setting.call.listed
        self.shapes = [x.shape for x in self.inputs]

    def given(self, inputs: Sequence[Array]) -> tuple[Sequence[Any], Mapping[str, Any]]:
        def array(ref: Ref) -> Array:
            return inputs[self._places[ref]]

        return map_refs(self.call.args, array), map_refs(self.call.operand_kwargs, array)

    @property
    def args(self) -> tuple[Any, ...]:
        return tuple(self.given(self.inputs)[0])

    def computed(self, weights: Mapping[str, Array], inputs: Sequence[Array], **changed: Any) -> Array:
        operation = self.build(**changed) if changed else self.operation
        args, kwargs = self.given(inputs)
        with np.errstate(all="ignore"):
            return np.asarray(operation(weights, *args, **kwargs))

    def float32(self, weights: Mapping[str, Array] | None = None, inputs: Any = None, **changed: Any) -> Array:
        used = {name: as_float(array, np.float32) for name, array in {**self.weights, **(weights or {})}.items()}
        return self.computed(used, self.inputs if inputs is None else inputs, **changed)

    def exact(self) -> Array:
        wide = {name: as_float(array, np.float64) for name, array in self.weights.items()}
        return self.computed(wide, [as_float(x, np.float64) for x in self.inputs])


def as_float(array: Array, dtype: Any) -> Array:
    return array.astype(dtype) if array.dtype.kind == "f" else array


def planted_in(setting: Setting) -> Iterator[dict[str, Any]]:
    """Plant every fault that fits, on inputs of one class: a row each."""
    inputs = PLANTED_ON[zlib.crc32(setting.key.encode()) % len(PLANTED_ON)]
    layer = Swept(setting, inputs)
    honest = layer.float32()
    if honest.dtype != np.float32 or setting.call.operands[0].below:
        return  # indices, and what is true or false
    bench, exact = Planting(layer, layer.float32, honest), layer.exact()
    for fault in _fitting(layer):
        try:
            output = fault.make(bench)
        except _NOT_SO:
            continue
        if output is None or output.shape != honest.shape:
            continue
        above = visible(honest, exact, output)
        if not above > 0:
            continue  # it changes nothing here
        audit = layer.check(np.ascontiguousarray(output, np.float32))
        yield {
            "setting": setting.key, "kind": setting.family.kind, "inputs": inputs, "fault": fault.name,
            "above": round(above, 1), "verdict": str(audit.verdict), "relative": relative(exact, output),
            "sees": audit.sees, "judged": judged(fault, audit) if audit.verdict.fault else None,
            "says": audit.explanation,
        }  # fmt: skip


def _fitting(layer: Swept) -> Iterator[Fault]:
    """The faults that a layer may have and whose sentences are true of it: of channels that stand last."""
    if layer.call.channel_axis == -1:
        yield from (fault for fault in faults_of(layer.kind) if fault.name not in _OWN)


def _chunk(chosen: Sequence[tuple[int, Mapping[str, Any]]], kept: Mapping[str, Kept]) -> list[dict[str, Any]]:
    """The honest outputs of settings as rows, and the faults planted in each; by their families' places, for a family
    crosses to no other process."""
    np.seterr(all="ignore")
    settings = [Setting(FAMILIES[place], options) for place, options in chosen]
    network = network_of(settings)
    names = [branch(number, one) for number, one in enumerate(settings)]
    given = draw(network)
    made = Executor(network, dtype="float32", layers=names).run(given)
    info = {"backend": "reference", "precision": "strict", "versions": {}, "device": "cpu"}
    maps = {**dict(zip((ref.name for ref in network.inputs), given, strict=True)), **made}
    rows: list[dict[str, Any]] = []
    for arithmetic, one in {"reference": Kept(maps, info), **kept}.items():
        for inputs in ("", *CLASSES):
            part = replace(one, rows=rows_of(inputs)) if inputs else one
            for setting, (_, audit) in zip(settings, audit_recording(network, part), strict=True):
                known = with_known(network, audit, part).known
                rows.append({
                    "setting": setting.key, "kind": setting.family.kind, "inputs": inputs or "all", "fault": None,
                    "arithmetic": arithmetic, "verdict": str(audit.verdict), "says": audit.explanation,
                    "known": None if known is None else known.see,
                })  # fmt: skip
    for setting in settings:
        rows += planted_in(setting)
    return rows


def _by_backend(settings: Sequence[Setting]) -> Iterator[tuple[Sequence[Setting], dict[str, Kept]]]:
    """What the framework gives, of as many settings at once as it does not refuse."""
    under = Under(BACKENDS[settings[0].family.framework])
    try:
        kept = computed(network_of(settings), under)
    except CnnlensError:
        if len(settings) == 1:
            yield settings, {}
            return
        half = len(settings) // 2
        for some in (settings[:half], settings[half:]):
            yield from _by_backend(some)
        return
    yield settings, {under.backend: replace(kept, info={**kept.info, "backend": under.backend})}


def drawn(each: int, seed: int, families: int | None = None) -> list[list[Setting]]:
    """Draw settings, in networks of one framework."""
    by_framework: dict[str, list[Setting]] = {}
    for family in FAMILIES[:families]:
        some = family.settings()[0]
        chosen = [some[(seed * each + number) % len(some)] for number in range(min(each, len(some)))]
        by_framework.setdefault(family.framework, []).extend(chosen)
    return [
        several[start : start + AT_ONCE]
        for several in by_framework.values()
        for start in range(0, len(several), AT_ONCE)
    ]


def _places(settings: Sequence[Setting]) -> list[tuple[int, Mapping[str, Any]]]:
    return [(FAMILIES.index(one.family), one.options) for one in settings]


def swept(options: Options) -> dict[str, Any]:
    """Audit and plant; give counts, and every mistake."""
    started = time.perf_counter()
    chunks = drawn(options.mutants or _EACH, options.seed, 4 if options.small else None)
    os.environ["OMP_NUM_THREADS"] = "1"
    rows: list[dict[str, Any]] = []
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        pending = [pool.submit(_chunk, _places(some), kept) for chunk in chunks for some, kept in _by_backend(chunk)]
        close_all()
        for one in as_completed(pending):
            for row in one.result():
                rows.append(row)
                if name := mistake(row):
                    print(name.replace("_", " "), shown(row), flush=True)
    honest, faults = ([row for row in rows if (row["fault"] is None) == plain] for plain in (True, False))
    return {
        "settings": sum(map(len, chunks)),
        "honest": dict(Counter(row["arithmetic"] for row in honest)),
        "known_to_the_atlas": dict(Counter(row["known"] for row in honest if row["known"])),
        "planted": len(faults),
        "seen": sum(Verdict(row["verdict"]).fault for row in faults),
        "below_sight": sum(not Verdict(row["verdict"]).fault and unseen(row) for row in faults),
        "sentences": dict(Counter(row["judged"] for row in faults if row["judged"])),
        **{name: [row for row in rows if mistake(row) == name] for name in MISTAKES},
        "by_fault": {
            name: dict(Counter(row["judged"] or "not seen" for row in faults if row["fault"] == name))
            for name in dict.fromkeys(row["fault"] for row in faults)
        },
        "seconds": time.perf_counter() - started,
    }


MISTAKES = ("false_passes", "false_alarms", "false_sentences")


def mistake(row: Mapping[str, Any]) -> str:
    """Say which mistake a row is, if any."""
    fault = Verdict(row["verdict"]).fault
    if row["fault"] is None:
        return "false_alarms" if fault and not row["known"] else ""
    if not fault:
        return "" if unseen(row) else "false_passes"
    return "false_sentences" if row["judged"] == "false" else ""


def unseen(row: Mapping[str, Any]) -> bool:
    """Whether a fault is near honest rounding, or smaller than what the audit itself says that it sees."""
    return row["above"] < SIGHT or (row["sees"] is not None and row["relative"] < row["sees"])


def shown(row: Mapping[str, Any]) -> str:
    what = row["arithmetic"] if row["fault"] is None else f"{row['fault']!r}, {row['above']} bits"
    return f"{row['setting']} on {row['inputs']} ({what}): {row['verdict']}: {row['says']}"


if __name__ == "__main__":
    for family in FAMILIES:
        for one in family.settings()[0] if sys.argv[1].startswith(f"{family.framework} {family.kind}(") else ():
            if one.key == sys.argv[1]:
                for row in _chunk(_places([one]), next(_by_backend([one]))[1]):
                    print(shown(row), row.get("judged"), row.get("known"))
