"""Do backends agree? Every layer of every run held against the float64 reference, on that run's own inputs.

A check runs backends side by side, or takes recordings that were made elsewhere, and gives each layer of each run a
verdict that needs no guessed tolerance (``cnnlens.numerics``). Runs are compared with each other too, but those numbers
inherit every error before them and decide nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cnnlens import numerics
from cnnlens.errors import CnnlensError, UnsupportedLayerError
from cnnlens.handover import network_hash
from cnnlens.network import Call, Network, Ref, map_refs
from cnnlens.numerics import Audit, Comparison
from cnnlens.text import printable

__all__ = ["Check", "Row", "Run", "check", "default_inputs"]

# What a run may be by its arithmetic. A model whose own dtype policy asks for less precision may have it as well.
_ROUNDING = {
    "strict": frozenset({"exact", "float32"}),
    "native": frozenset({"exact", "float32", "tf32", "float16", "bfloat16"}),
}
_POLICIES = {"mixed_float16": "float16", "float16": "float16", "mixed_bfloat16": "bfloat16", "bfloat16": "bfloat16"}

# Inputs that the audit looks at are so many that this many numbers go into the network, and at least one.
_INPUT_NUMBERS = 200_000
_MOST_INPUTS = 8
_OPEN_SIZE = 96  # pixels, where a model leaves its image size open


@dataclass(frozen=True)
class Run:
    """One side of the check: a backend that ran here, or a recording.

    Attributes:
        label: How it is named in tables: the backend, with a number or device where two would be alike.
        weights: Arrays that differ from the file's, one line each; None where the run does not say.
        repeats: How far a second run was from the first (0 where every bit is the same), by tensor; None if not asked.
        error: Why there is no result, in one line; everything else is empty then.
    """

    label: str
    backend: str
    versions: Mapping[str, str] = field(default_factory=lambda: dict[str, str]())
    device: str = ""
    precision: str = ""
    weights: tuple[str, ...] | None = None
    repeats: Mapping[str, float] | None = None
    error: str | None = None


@dataclass(frozen=True)
class Row:
    """One layer call and its audit in each run, by the run's label."""

    name: str
    kind: str
    audits: Mapping[str, Audit]


@dataclass(frozen=True)
class Check:
    """The result. ``agree``: every audited layer of every run is rounding, and its weights are the file's bit for bit."""

    network: Network
    inputs: str
    runs: tuple[Run, ...]
    rows: tuple[Row, ...]
    pairs: Mapping[tuple[str, str], Mapping[str, Comparison]]

    @property
    def agree(self) -> bool:
        """Whether nothing but rounding stands between the runs and the reference."""
        return all(self.problem(run) is None for run in self.runs)

    @property
    def could_check(self) -> bool:
        """Whether every run gave a result, and at least one layer of each could be audited."""
        audited = {label for row in self.rows for label, audit in row.audits.items() if audit.verdict != "not audited"}
        return all(run.error is None and run.label in audited for run in self.runs)

    def problem(self, run: Run) -> tuple[str, Audit] | str | None:
        """What is wrong with a run: its error, the first layer that is not rounding with its audit, or None."""
        if run.error is not None:
            return run.error
        for row in self.rows:
            audit = row.audits.get(run.label)
            if audit is not None and not self.is_rounding(run, row, audit):
                return row.name, audit
        if run.weights:
            return f"{len(run.weights)} weights differ from the file's: {run.weights[0]}"
        if run.repeats is not None and run.precision == "strict" and any(run.repeats.values()):
            name = max(run.repeats, key=lambda one: run.repeats[one] if run.repeats else 0.0)
            return (
                f"it does not repeat itself: {printable(name)} is {run.repeats[name]:.2g} off at most in a second run"
            )
        return None

    def is_rounding(self, run: Run, row: Row, audit: Audit) -> bool:
        """Whether a verdict is no fault, at the run's precision and the layer's own dtype policy."""
        layer = self.network.calls_by_name[row.name].layer
        allowed = _ROUNDING.get(run.precision, _ROUNDING["strict"])
        return audit.verdict in allowed or audit.verdict in ("not audited", policy_verdict(layer.config))


def policy_verdict(config: Mapping[str, Any]) -> str:
    """The verdict that a layer's own dtype policy asks for: ``float16`` for ``mixed_float16``, else ``float32``."""
    policy: Any = config.get("dtype")
    if isinstance(policy, Mapping):
        policy = policy.get("config", {}).get("name")
    return _POLICIES.get(policy if isinstance(policy, str) else "", "float32")


class Recorded(Protocol):
    """What a check needs of a recording."""

    @property
    def info(self) -> Mapping[str, Any]: ...
    @property
    def count(self) -> int: ...
    def __contains__(self, name: str) -> bool: ...
    def __getitem__(self, name: str) -> Any: ...


# -- the check -------------------------------------------------------------------------------------------------------


def check(
    model: Any,
    inputs: Any = None,
    *,
    backends: Sequence[str] = (),
    recordings: Sequence[Any] = (),
    precision: str = "strict",
    device: str = "cpu",
    repeat: int = 1,
    timeout: float | None = None,
    trust_code: bool = False,
    allow_nonfinite: bool = False,
    progress: Callable[[str], object] | None = None,
) -> Check:
    """Run backends side by side, or take recordings, and audit every layer of each.

    Args:
        model: A path, an open ``Network``, or a live framework model.
        inputs: What ``record`` takes; None draws a few from a fixed seed.
        backends: Names as ``cnnlens backends`` lists them, or ``name@interpreter``.
        recordings: Recordings of the same model, made anywhere: paths or open ones.
        precision, device: For the backends that run here; see ``record``.
        repeat: 2 runs every backend twice and says whether it repeats itself bit for bit.
        timeout: Seconds that a backend may be silent.
        trust_code: Run layers whose code comes with the file. Only for files of your own.
        allow_nonfinite: Take inputs that hold NaN or infinity.
        progress: Called with a line of text whenever a backend gets on.

    Raises:
        CnnlensError: nothing to check, an unknown backend, a recording of another model, inputs that do not fit. A
            backend that fails is no exception: its ``Run`` holds the error and the others' results stand.
    """
    from cnnlens import open as open_model
    from cnnlens.recording import Recording

    network = model if isinstance(model, Network) else open_model(model)
    if not backends and not recordings:
        raise CnnlensError("there is nothing to check; name backends, or give recordings")
    say = progress or (lambda _: None)
    taken = [one if isinstance(one, Recording) else Recording.open(one) for one in recordings]
    expected = network_hash(network)
    for recording in taken:
        _refuse_other_model(recording, expected, network)
    labels = _labels([*backends, *(str(one.info["backend"]) for one in taken)])
    described, given = ("the recordings' own inputs", None) if not backends else _inputs(network, inputs)

    runs: dict[str, Run] = {}
    audits: dict[str, dict[str, Audit]] = {}
    kept: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="cnnlens-check-") as folder:
        start = _Starter(network, given, Path(folder), precision, device, repeat, timeout, trust_code, allow_nonfinite)
        with ThreadPoolExecutor(max(len(backends), 1)) as pool:
            pending: dict[Future[Any], str] = {
                pool.submit(start, backend, label): label for backend, label in zip(backends, labels, strict=False)
            }
            for label, recording in zip(labels[len(backends) :], taken, strict=True):
                runs[label], kept[label] = _run_of(label, recording), recording
                audits[label] = dict(audit_recording(network, recording))
            try:
                for done in as_completed(pending):
                    label = pending[done]
                    try:
                        runs[label], kept[label] = done.result()
                    except CnnlensError as error:
                        runs[label] = Run(label, label, error=str(error))
                        say(f"{label}: failed")
                        continue
                    say(f"{label}: ran, auditing")
                    audits[label] = dict(audit_recording(network, kept[label]))
            except BaseException:
                for future in pending:
                    future.cancel()
                start.stop()
                raise
        rows = tuple(
            Row(call.name, call.layer.kind, {label: audits[label][call.name] for label in labels if label in audits})
            for call in _audited_calls(network)
        )
        pairs = _pairs(network, {label: kept[label] for label in labels if label in kept})
    return Check(network, described, tuple(runs[label] for label in labels), rows, pairs)


def _audited_calls(network: Network) -> list[Call]:
    """Calls that compute something; inputs and nested models (which hand on) have nothing to audit."""
    return [call for call in network.calls if call.layer.kind != "InputLayer" and not call.layer.container]


def audit_recording(network: Network, recording: Recorded, count: int | None = None) -> Iterator[tuple[str, Audit]]:
    """Each call's audit, on the inputs that the recording holds for it.

    Args:
        count: How many of the recording's examples to look at; None takes as many as make 200,000 input numbers.
    """
    inputs = [network.tensors[ref.name] for ref in network.inputs]
    first = next((recording[ref.name] for ref in inputs if ref.name in recording), None)
    size = int(np.prod(first.shape[1:], dtype=np.int64)) if first is not None else _INPUT_NUMBERS
    looked = min(recording.count, count or max(_INPUT_NUMBERS // max(size, 1), 1), 64)
    for call in _audited_calls(network):
        yield call.name, _audit(network, call, recording, looked, recording.info["precision"] != "native")


def _audit(network: Network, call: Call, recording: Recorded, count: int, strict: bool) -> Audit:
    outputs = [Ref(call.name, index) for index in range(len(call.shapes))]
    missing = [ref.name for ref in (*call.refs, *outputs) if _recorded(network, ref).name not in recording]
    if missing:
        reason = f"'{printable(missing[0])}' is not in the recording"
        return Audit(call.name, call.layer.kind, "not audited", reason=reason)

    def stored(ref: Ref) -> NDArray[Any]:
        where = _recorded(network, ref)
        array = np.asarray(recording[where.name][:count])
        axis = network.calls_by_name[where.call].channel_axis
        return array if array.ndim < 3 or axis == 1 else np.moveaxis(array, 1, -1)

    arguments = map_refs(call.args, stored)
    keywords = map_refs(dict(call.kwargs), stored)
    results = [stored(ref) for ref in outputs]
    try:
        weights = call.layer.computing_weights()
    except UnsupportedLayerError as error:
        return Audit(call.name, call.layer.kind, "not audited", reason=str(error))
    return numerics.audit(call, weights, arguments, keywords, results if len(results) > 1 else results[0], strict)


def _recorded(network: Network, ref: Ref) -> Ref:
    """Where a tensor's values are: a nested model hands on what its last layer gave."""
    call = network.calls_by_name[ref.call]
    while call.layer.container:
        ref = call.refs[ref.index]
        call = network.calls_by_name[ref.call]
    return ref


# -- running ---------------------------------------------------------------------------------------------------------


class _Starter:
    """Runs one backend into a recording of its own; called from a thread a backend."""

    def __init__(
        self,
        network: Network,
        inputs: Any,
        folder: Path,
        precision: str,
        device: str,
        repeat: int,
        timeout: float | None,
        trust_code: bool,
        allow_nonfinite: bool,
    ) -> None:
        self.network, self.inputs, self.folder = network, inputs, folder
        self.precision, self.device, self.repeat, self.timeout = precision, device, repeat, timeout
        self.trust_code, self.allow_nonfinite = trust_code, allow_nonfinite

    def __call__(self, backend: str, label: str) -> tuple[Run, Any]:
        from cnnlens.recorder import record

        made = [
            record(
                self.network,
                self.inputs,
                backend=backend,
                device=self.device,
                precision=self.precision,
                out=self.folder / f"{abs(hash(label))}-{number}.zarr",
                timeout=self.timeout,
                trust_code=self.trust_code,
                allow_nonfinite=self.allow_nonfinite,
            )
            for number in range(max(self.repeat, 1))
        ]
        run = _run_of(label, made[0])
        if len(made) > 1:
            run = Run(**{**run.__dict__, "repeats": dict(_repeats(self.network, made[0], made[1:]))})
        return run, made[0]

    def stop(self) -> None:
        from cnnlens import worker

        worker.close_all()


def _repeats(network: Network, first: Recorded, others: Sequence[Recorded]) -> Iterator[tuple[str, float]]:
    for name in network.tensors:
        if name in first:
            one = np.asarray(first[name][:])
            worst = 0.0
            for other in others:
                two = np.asarray(other[name][:])
                if one.tobytes() != two.tobytes():
                    worst = max(worst, float(np.nanmax(np.abs(one.astype(np.float64) - two), initial=5e-324)))
            yield name, worst


def _run_of(label: str, recording: Recorded) -> Run:
    info = recording.info
    return Run(
        label=label,
        backend=str(info["backend"]),
        versions=dict(info["versions"]),
        device=str(info["device"]),
        precision=str(info["precision"]),
        weights=None if info.get("weights") is None else tuple(info["weights"]),
    )


def _labels(names: Sequence[str]) -> list[str]:
    """The names, with ``#2`` and so on after one that was there before."""
    seen: dict[str, int] = {}
    labels: list[str] = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        labels.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return labels


def _refuse_other_model(recording: Any, expected: str, network: Network) -> None:
    if not recording.complete:
        raise CnnlensError(
            f"{printable(recording.path, 300)}: it was cut short, {recording.recorded:,} of {recording.count:,} inputs are "
            "recorded; go on with the same record command, then check it"
        )
    found = recording.info["model"]["network_hash"]
    if found != expected:
        raise CnnlensError(
            f"{printable(recording.path, 300)}: it is a recording of another model (its hash is {found[:12]}…, that of "
            f"{printable(network.source.path, 200)} is {expected[:12]}…); record this model, or check that one"
        )


def _pairs(network: Network, kept: Mapping[str, Any]) -> dict[tuple[str, str], dict[str, Comparison]]:
    pairs: dict[tuple[str, str], dict[str, Comparison]] = {}
    labels = list(kept)
    for index, a in enumerate(labels):
        for b in labels[index + 1 :]:
            one, two = kept[a], kept[b]
            if one.info["inputs"]["sha256"] != two.info["inputs"]["sha256"]:
                continue  # runs on different inputs have nothing to compare
            names = [call.name for call in _audited_calls(network) if call.name in one and call.name in two]
            pairs[a, b] = {
                name: numerics.pairwise(np.asarray(one[name][:64]), np.asarray(two[name][:64])) for name in names
            }
    return pairs


# -- inputs ----------------------------------------------------------------------------------------------------------


def _inputs(network: Network, inputs: Any) -> tuple[str, Any]:
    if inputs is not None:
        return "the inputs given", inputs
    drawn = default_inputs(network)
    shapes = ", ".join(str(array.shape) for array in drawn.values())
    return f"{shapes} drawn from seed 0", drawn


def default_inputs(network: Network, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Canonical inputs from a fixed seed: uniform in 0..1, in 0..255 for a model that rescales, rows of an embedding.

    Raises:
        CnnlensError: the file leaves the rank of an input open.
    """
    from cnnlens.pictures import rescales

    generator = np.random.default_rng(seed)
    drawn: dict[str, NDArray[Any]] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for ref in network.inputs:
        shape = network.canonical_shape(ref)
        if shape is None:
            raise CnnlensError(f"the file does not say the shape of input '{printable(ref.name)}'; give inputs")
        shapes[ref.name] = tuple(_OPEN_SIZE if size is None else size for size in shape[1:])
    largest = max((int(np.prod(shape, dtype=np.int64)) for shape in shapes.values()), default=1)
    count = int(np.clip(_INPUT_NUMBERS // max(largest, 1), 1, _MOST_INPUTS))
    for ref in network.inputs:
        rows = [
            call.layer.config.get("input_dim")
            for call in network.calls
            if ref in call.refs and call.layer.kind == "Embedding"
        ]
        if rows and isinstance(rows[0], int):
            drawn[ref.name] = generator.integers(0, rows[0], (count, *shapes[ref.name])).astype(np.float32)
            continue
        values = generator.random((count, *shapes[ref.name]), np.float32)
        drawn[ref.name] = np.floor(values * 256).astype(np.float32) if rescales(network) else values
    return drawn
