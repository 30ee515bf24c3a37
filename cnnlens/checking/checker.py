"""Do backends agree? Every layer of every run held against the float64 reference, on that run's own inputs.

A check runs backends side by side, or takes recordings that were made elsewhere, and gives each layer of each run a
verdict that needs no guessed tolerance (``cnnlens.checking``). Runs are compared with each other too, but those numbers
inherit every error before them and decide nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cnnlens.backend import Found, installed, suited
from cnnlens.backend.handover import network_hash
from cnnlens.backend.options import RunOptions
from cnnlens.backend.process import refuse_unknown
from cnnlens.checking.auditing import Recorded, audit_recording, audited_calls, audited_inputs
from cnnlens.checking.known import with_known
from cnnlens.checking.pairs import Comparison, pairwise
from cnnlens.checking.result import Check, LayerCheck, Run
from cnnlens.checking.verdict import Audit
from cnnlens.errors import CnnlensError, in_one_line
from cnnlens.inputs.drawn import drawn_stream
from cnnlens.inputs.stream import without_graph
from cnnlens.janitor import temporary_folder
from cnnlens.network.network import Network
from cnnlens.opening.live import backend_of
from cnnlens.output import silent
from cnnlens.progress import Told, telling
from cnnlens.text import harmless, printable

__all__ = ["check", "check_network"]


# -- the check -------------------------------------------------------------------------------------------------------


@in_one_line()
def check(
    model: Any,
    inputs: Any = None,
    *,
    backends: Sequence[str] | None = None,
    recordings: Sequence[Any] = (),
    precision: str = "strict",
    device: str = "cpu",
    repeat: int = 1,
    sample: int | None = None,
    example: Any = None,
    timeout: float | None = None,
    trust_code: bool = False,
    allow_nonfinite: bool = False,
    progress: Told = True,
) -> Check:
    """Run backends side by side, or take recordings, and audit every layer of each.

    Args:
        model: A path, an open ``Network``, or a live framework model.
        inputs: What ``record`` takes; None draws a few from a fixed seed.
        backends: Names as ``cnnlens backends`` lists them, or ``name@interpreter``. None: where no recordings are
            given, the installed ones that run models of this framework, and for a live model the one it lives in.
        recordings: Recordings of the same model, made anywhere: paths or open ones.
        precision, device: For the backends that run here; see ``record``.
        repeat: 2 runs every backend twice and says whether it repeats itself bit for bit.
        sample: How many of the inputs are audited, spread evenly; None audits all. An audit computes every layer in
            float64, which takes as long as a few plain runs; what was left out is said.
        example: For a live PyTorch module; see ``record``.
        timeout: Seconds that a backend may be silent.
        trust_code: Run layers whose code comes with the file. Only for files of your own.
        allow_nonfinite: Take inputs that hold NaN or infinity.
        progress: True says how far it is where somebody waits: a line in a terminal (on standard error) or a notebook,
            which goes when it is over. None or False says nothing. Or what is called with a line of text whenever a
            backend gets on.

    Returns:
        What ran, a row a layer with its verdict and effective bits in each run, and how far the runs are apart.

    Raises:
        CnnlensError: nothing to check, an unknown backend, a recording of another model, inputs that do not fit. A
            backend that fails is no exception: its ``Run`` holds the error and the others' results stand.

    >>> import cnnlens.sample
    >>> result = cnnlens.check(cnnlens.sample.MODEL, cnnlens.sample.IMAGES, backends=["reference"])
    >>> result.agree
    True
    >>> for row in result.rows[:3]:
    ...     print(row.name, row.audits["reference"].verdict)
    conv2d float32
    max_pooling2d exact
    conv2d_1 float32
    >>> cnnlens.check(cnnlens.sample.MODEL, recordings=["nowhere.zarr"])
    Traceback (most recent call last):
        ...
    cnnlens.errors.FileRefusedError: nowhere.zarr: does not exist; check the name
    """
    from cnnlens.opening.opener import network_given

    network, live = network_given(model, inputs, example)
    with telling(progress) as tell:
        return check_network(
            network,
            inputs,
            RunOptions(device, precision, timeout=timeout, trust_code=trust_code, allow_nonfinite=allow_nonfinite),
            live=live,
            backends=backends,
            recordings=recordings,
            repeat=repeat,
            sample=sample,
            progress=tell,
        )


def check_network(
    network: Network,
    inputs: Any,
    options: RunOptions,
    *,
    live: Any = None,
    backends: Sequence[str] | None = None,
    recordings: Sequence[Any] = (),
    repeat: int = 1,
    sample: int | None = None,
    progress: Callable[[str], object] | None = None,
) -> Check:
    """Audit an open network, as ``check`` audits what it has opened.

    Args:
        live: The live model that ``network`` was made from, where there is one.
        inputs, backends, recordings, repeat, sample: As ``check`` takes them.
        progress: Called with a line of text; None for nobody.
    """
    from cnnlens.recording.recorder import runs_here
    from cnnlens.recording.recording import Recording

    if sample is not None and sample < 1:
        raise CnnlensError(f"sample: at least 1 input was expected, {sample} came")
    if backends is None:
        backends = [] if recordings else _installed(network) if live is None else [backend_of(live)]
    if not backends and not recordings:
        raise CnnlensError("there is nothing to check; name backends, or give recordings")
    refuse_unknown(one for one in backends if not runs_here(live, one))
    say = progress or silent
    taken = [one if isinstance(one, Recording) else Recording.open(one) for one in recordings]
    expected = network_hash(network)
    for recording in taken:
        _refuse_unfit(recording, expected, network)
        recording.verify()  # a flipped bit would be laid to a layer that is right
    labels = _labels([*backends, *(str(one.info["backend"]) for one in taken)])
    described, inputs = ("the recordings' own inputs", None) if not backends else _inputs(network, inputs)

    runs: dict[str, Run] = {}
    audits: dict[str, dict[str, Audit]] = {}
    kept: dict[str, Any] = {}
    if backends:
        say(f"running {', '.join(backends)}")
    with temporary_folder() as folder:
        start = _Starter(network, live, inputs, folder, repeat, sample, options)
        with ThreadPoolExecutor(max(len(backends), 1)) as pool:
            pending: dict[Future[Any], str] = {
                pool.submit(start, backend, label): label for backend, label in zip(backends, labels, strict=False)
            }
            for label, recording in zip(labels[len(backends) :], taken, strict=True):
                runs[label], kept[label] = _run_of(label, recording, sample), recording
                audits[label] = _audited(network, recording, sample, _teller(say, label))
            try:
                for done in as_completed(pending):
                    label = pending[done]
                    try:
                        runs[label], kept[label] = done.result()
                    except CnnlensError as error:
                        runs[label] = Run(label, label, error=str(error), reason=error.without_backend)
                        say(f"{label}: failed")
                        continue
                    say(f"{label}: ran, auditing")
                    audits[label] = _audited(network, kept[label], sample, _teller(say, label))
            except BaseException:
                for future in pending:
                    future.cancel()
                start.stop(pending)
                raise
        rows = tuple(
            LayerCheck(
                call.name,
                call.layer.shown_kind,
                {label: audits[label][call.name] for label in labels if label in audits},
            )
            for call in audited_calls(network)
        )
        pairs = _pairs(network, {label: kept[label] for label in labels if label in kept})
    return Check(network, described, tuple(runs[label] for label in labels), rows, pairs)


# -- running ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Starter:
    """Runs one backend into a recording of its own; called from a thread a backend."""

    network: Network
    live: Any
    inputs: Any
    folder: Path
    repeat: int
    sample: int | None
    options: RunOptions

    def __call__(self, backend: str, label: str) -> tuple[Run, Any]:
        from cnnlens.recording.recorder import record_network, runs_here

        made = [
            record_network(
                self.network,
                self.inputs,
                self.options,
                backend=backend,
                # A live model itself runs where it lives; any other backend is given its graph and its arrays.
                live=self.live if runs_here(self.live, backend) else None,
                out=self.folder / f"{abs(hash(label))}-{number}.zarr",
                durable=False,
            )
            for number in range(max(self.repeat, 1))
        ]
        run = _run_of(label, made[0], self.sample)
        if len(made) > 1:
            run = replace(run, repeats=dict(_repeats(self.network, made[0], made[1:])))
        return run, made[0]

    def stop(self, pending: Collection[Future[Any]]) -> None:
        from cnnlens.backend import worker

        worker.close_all(pending)


def _repeats(network: Network, first: Recorded, others: Sequence[Recorded]) -> Iterator[tuple[str, float]]:
    for name in network.tensors:
        if name in first:
            yield name, max(_apart(first[name], other[name]) for other in others)


def _apart(a: Any, b: Any) -> float:
    """How far two runs' tensors are apart at most; 5e-324, the smallest number, where bits alone differ."""
    found = pairwise(a, b)
    if found.max_abs:
        return found.max_abs
    step = max(len(a) // max(a.nbytes >> 26, 1), 1)
    pieces = (slice(start, start + step) for start in range(0, len(a), step))
    return 0.0 if all(a[one].tobytes() == b[one].tobytes() for one in pieces) else 5e-324


def _run_of(label: str, recording: Recorded, sample: int | None) -> Run:
    info = recording.info
    return Run(
        label=label,
        backend=str(info["backend"]),
        versions=dict(info["versions"]),
        device=str(info["device"]),
        precision=str(info["precision"]),
        weights=None if info.get("weights") is None else tuple(info["weights"]),
        inputs=recording.count,
        audited=len(audited_inputs(recording.count, sample)),
    )


def _audited(
    network: Network, recording: Recorded, sample: int | None, progress: Callable[[str], object]
) -> dict[str, Audit]:
    found = audit_recording(network, recording, sample, progress)
    return {name: with_known(network, audit, recording) for name, audit in found}


def _teller(say: Callable[[str], object], label: str) -> Callable[[str], object]:
    return lambda line: say(f"{label}: {line}")


def _installed(network: Network) -> list[str]:
    """The backends that suit the model; the reference alone would be held against itself."""
    found = suited(network.source.framework)
    if found != ["reference"]:
        return found
    framework = printable(network.source.framework)
    commands = dict.fromkeys(one.backend.install for one in installed() if _could(one, network.source.framework))
    raise CnnlensError(
        f"nothing was compared: no backend that runs models of {framework} is installed, and the reference held "
        f"against itself proves nothing; install one ({' or '.join(commands) or 'cnnlens backends says which'}), or "
        "record elsewhere with one and give the recording: cnnlens check MODEL RUN.zarr"
    )


def _could(found: Found, framework: str) -> bool:
    return found.problem is None and found.backend.layout == framework


def _labels(names: Sequence[str]) -> list[str]:
    """The names, with ``#2`` and so on after one that was there before."""
    seen: dict[str, int] = {}
    labels: list[str] = []
    for name in map(harmless, names):
        seen[name] = seen.get(name, 0) + 1
        labels.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return labels


def _refuse_unfit(recording: Any, expected: str, network: Network) -> None:
    if not recording.complete:
        raise CnnlensError(
            f"{printable(recording.path, 300)}: it was cut short, {recording.recorded:,} of {recording.count:,} inputs "
            "are recorded; go on with the same record command, then check it"
        )
    found = recording.info["model"]["network_hash"]
    if found != expected:
        raise CnnlensError(
            f"{printable(recording.path, 300)}: it is a recording of another model (its hash is {found[:12]}…, that of "
            f"{printable(network.source.path, 200)} is {expected[:12]}…); record this model, or check that one"
        )
    reasons = [recording.altered(call.name) for call in audited_calls(network) if call.name in recording]
    if reasons and None not in reasons:
        raise CnnlensError(
            f"{printable(recording.path, 300)}: nothing in it can be audited ({reasons[0]}, and so are all layers); "
            "record whole maps of some layers, as they come"
        )


def _pairs(network: Network, kept: Mapping[str, Any]) -> dict[tuple[str, str], dict[str, Comparison]]:
    pairs: dict[tuple[str, str], dict[str, Comparison]] = {}
    labels = list(kept)
    for index, a in enumerate(labels):
        for b in labels[index + 1 :]:
            one, two = kept[a], kept[b]
            if one.info["inputs"]["sha256"] != two.info["inputs"]["sha256"]:
                continue  # runs on different inputs have nothing to compare
            names = [call.name for call in audited_calls(network) if call.name in one and call.name in two]
            names = [name for name in names if one.altered(name) == two.altered(name)]
            pairs[a, b] = {name: pairwise(one[name], two[name]) for name in names}
    return pairs


# -- inputs ----------------------------------------------------------------------------------------------------------


def _inputs(network: Network, inputs: Any) -> tuple[str, Any]:
    if not network.calls:
        raise without_graph(network)
    if inputs is not None:
        return "the inputs given", inputs
    drawn = drawn_stream(network)
    return drawn.notes[0], drawn
