"""One model in two frameworks: each side audited under its own backends, and the outputs of both held together.

The audits say that each framework computes what its own file says. That both files say the same is another question,
and float64 answers it: the reference runs both on the same inputs, and where they are one model nothing but rounding of
float64 is between them, or of the weights where one file holds the other's numbers rounded. Shapes alone decide
nothing, for a swapped square kernel has the right one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlens.backend import get, suited
from cnnlens.backend.options import RunOptions
from cnnlens.backend.process import parse_spec, refuse_unknown
from cnnlens.backend.worker import threads
from cnnlens.checking.auditing import audited_inputs, recorded_ref
from cnnlens.checking.checker import check_network
from cnnlens.checking.likeness import LIMIT, apart, as_other, limit_for, rounding_moves, views
from cnnlens.checking.pairs import Comparison, pairwise
from cnnlens.checking.result import Check
from cnnlens.errors import CnnlensError, UnsupportedLayerError, in_one_line
from cnnlens.inputs.drawn import default_inputs
from cnnlens.inputs.stream import CanonicalStream, open_inputs
from cnnlens.janitor import temporary_folder
from cnnlens.network.graph import fits, shown_shape, without_graph
from cnnlens.network.network import Network
from cnnlens.opening.live import backend_of
from cnnlens.opening.opener import network_given
from cnnlens.output import silent
from cnnlens.page import Result
from cnnlens.progress import Told, telling
from cnnlens.recording.recorder import record_network, runs_here
from cnnlens.recording.recording import Recording
from cnnlens.reference.executor import Executor
from cnnlens.text import printable

__all__ = ["LIMIT", "Output", "Twins", "check_twin_networks", "check_twins", "exactly_apart", "translated"]

Array = NDArray[Any]

_MOST_NUMBERS = 1 << 28  # of the inputs, which both models are given at once; one gigabyte


@dataclass(frozen=True)
class Output:
    """Compares one output of both models.

    Attributes:
        names, shapes: On either side, the shapes in canonical axes with the inputs' number in front.
        apart: The largest difference in float64 as a part of the largest value; infinite where shapes differ, or NaN
            and infinities stand at other places; None where the reference cannot compute one of the models.
        recorded: The outputs as recorded, for each pair of runs (labels of one side and of the other).
    """

    names: tuple[str, str]
    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    apart: float | None
    recorded: Mapping[tuple[str, str], Comparison]


@dataclass(frozen=True, repr=False)
class Twins(Result, listing="checking.listing", of="twins", name="twins"):
    """Holds a check of each model, and a row an output.

    Attributes:
        checks: Of either model.
        outputs: Compared, in order.
        reason: Why float64 could not compare them.
        moves: How far rounding the weights once more moves an output, as a part of its largest value, where the files
            hold the same weights but for rounding; else 0.
    """

    checks: tuple[Check, Check]
    outputs: tuple[Output, ...]
    reason: str = ""
    moves: float = 0.0

    def __repr__(self) -> str:
        one, other = (check.network.shown for check in self.checks)
        return f"<Twins {one} and {other}: {'they agree' if self.agree else 'they do not agree'}>"

    @property
    def limit(self) -> float:
        """Say how far outputs of one model may be apart."""
        return limit_for(self.moves)

    @property
    def agree(self) -> bool:
        """Tell whether both audits pass and every output is the same in float64 but for rounding."""
        same = all(one.apart is not None and one.apart <= self.limit for one in self.outputs)
        return same and all(one.agree for one in self.checks)

    @property
    def exact(self) -> bool:
        """Tell whether every output is the same in float64 with the weights as they are, rounded as they may be."""
        return all(one.apart is not None and one.apart <= LIMIT for one in self.outputs)

    @property
    def could_check(self) -> bool:
        """Tell whether both models ran and could be audited, and float64 could compare them."""
        return not self.reason and all(one.could_check for one in self.checks)


@in_one_line()
def check_twins(
    a: Any,
    b: Any,
    inputs: Any = None,
    *,
    backends: Sequence[str] | None = None,
    sample: int | None = None,
    precision: str = "strict",
    device: str = "cpu",
    timeout: float | None = None,
    trust_code: bool = False,
    allow_nonfinite: bool = False,
    progress: Told = True,
) -> Twins:
    """Audit two models and compare their outputs on the same inputs.

    Args:
        a, b: Each a path, an open ``Network``, or a live framework model.
        inputs: What ``record`` takes for ``a``; ``b`` is given the same in its own axes. None draws a few.
        backends: Each runs the model of its own framework, the reference both. None: those that suit each.
        sample: How many of the inputs the models are compared on, spread evenly; None takes all.
        precision, device, timeout, trust_code, allow_nonfinite, progress: As ``check`` takes them.

    Raises:
        CnnlensError: inputs or outputs that cannot belong to one model, a backend that fails; one line.
    """
    (one, live), (other, other_live) = network_given(a, inputs), network_given(b, inputs)
    with telling(progress) as tell:
        return check_twin_networks(
            (one, other),
            inputs,
            RunOptions(device, precision, timeout=timeout, trust_code=trust_code, allow_nonfinite=allow_nonfinite),
            lives=(live, other_live),
            backends=backends,
            sample=sample,
            progress=tell,
        )


def check_twin_networks(
    networks: tuple[Network, Network],
    inputs: Any,
    options: RunOptions,
    *,
    lives: tuple[Any, Any] = (None, None),
    backends: Sequence[str] | None = None,
    sides: tuple[Sequence[str], Sequence[str]] | None = None,
    sample: int | None = None,
    progress: Callable[[str], object] | None = None,
    turned: Callable[[Mapping[str, Array]], Mapping[str, Array]] | None = None,
) -> Twins:
    """Compare two open networks, as ``check_twins`` compares what it has opened.

    Args:
        lives: The live models that the networks were made from, where there are such.
        inputs, backends, sample, progress: As ``check_twins`` takes them.
        sides: What runs the one and what the other, instead of ``backends``.
        turned: The second's canonical inputs, by name, for those of the first, where it is known how they correspond;
            None takes them in order, and their axes as they fit.
    """
    for network in networks:
        if not network.calls:
            raise without_graph(network)
    specs = sides or [_specs(network, live, backends) for network, live in zip(networks, lives, strict=True)]
    for live, names in zip(lives, specs, strict=True):
        refuse_unknown(one for one in names if not runs_here(live, one))
    described, given, first = _inputs(networks[0], inputs, options.allow_nonfinite, sample)
    canonical = first, dict(turned(first)) if turned is not None else translated(first, networks)
    if len(networks[0].outputs) != len(networks[1].outputs):
        counts = " and ".join(str(len(one.outputs)) for one in networks)
        raise CnnlensError(f"the models have {counts} outputs, so they are not one model; cnnlens diff says more")
    driving: list[Future[Recording]] = []
    with temporary_folder() as folder, threads(5, driving) as pool:

        def made(side: int, spec: str) -> Recording:
            live = lives[side] if runs_here(lives[side], spec) else None
            found = record_network(
                networks[side],
                CanonicalStream(canonical[side], described),
                options,
                backend=spec,
                live=live,
                out=folder / f"{side}-{specs[side].index(spec)}.zarr",
                durable=False,
            )
            (progress or silent)(f"{spec}: ran")
            return found

        pending = [[pool.submit(made, side, spec) for spec in specs[side]] for side in (0, 1)]
        driving += [one for side in pending for one in side]
        proof = pool.submit(_exact, networks, canonical)  # while frameworks start and compile
        recordings: list[list[Recording]] = []
        checks: list[Check] = []
        for network, side in zip(networks, pending, strict=True):
            recordings.append(found := [one.result() for one in side])
            one = check_network(network, None, options, recordings=found, progress=progress)
            runs = tuple(replace(run, inputs=given) for run in one.runs)
            checks.append(replace(one, inputs=described, runs=runs))
        exact, reason = proof.result()
        outputs = tuple(_output(networks, number, exact, checks, recordings) for number in range(len(exact)))
    far = [math.inf if one.apart is None else one.apart for one in outputs]
    moves = rounding_moves(*networks, list(canonical[0].values()), far)
    return Twins((checks[0], checks[1]), outputs, reason, moves)


def exactly_apart(
    a: Network, b: Network, inputs: Any, turned: Callable[[Mapping[str, Array]], Mapping[str, Array]] | None = None
) -> list[float]:
    """Measure how far two networks' outputs are apart in float64, each as a part of its largest value; no more.

    Args:
        inputs, turned: As ``check_twin_networks`` takes them.

    Raises:
        UnsupportedLayerError: the reference cannot compute one of them.
    """
    _, _, first = _inputs(a, inputs, False)
    other = dict(turned(first)) if turned is not None else translated(first, (a, b))
    pairs, reason = _exact((a, b), (first, other))
    if reason:
        raise UnsupportedLayerError(reason)
    return [math.inf if pair is None else apart(*pair) for pair in pairs]


def _specs(network: Network, live: Any, wanted: Sequence[str] | None) -> list[str]:
    framework = network.source.framework
    if wanted is None:
        return suited(framework) if live is None else [backend_of(live)]
    named = {one: parse_spec(one)[0] for one in wanted}
    found = [one for one, name in named.items() if name == "reference" or get(name).layout == framework]
    if not found:
        raise CnnlensError(
            f"none of {', '.join(printable(one) for one in wanted)} runs models of {printable(framework)}; "
            "name one for each of the two models"
        )
    return found


# -- inputs ----------------------------------------------------------------------------------------------------------


def _inputs(
    network: Network, inputs: Any, allow_nonfinite: bool, sample: int | None = None
) -> tuple[str, int, dict[str, Array]]:
    """What the inputs are, how many were given, and those that are taken."""
    if inputs is None:
        drawn = default_inputs(network)
        count = len(next(iter(drawn.values())))
        return f"{', '.join(str(array.shape) for array in drawn.values())} drawn from seed 0", count, drawn
    stream = open_inputs(network, inputs, allow_nonfinite=allow_nonfinite)
    chosen = audited_inputs(stream.count, sample)
    sizes = [math.prod(one.shape[1:]) for one in stream.batch(0, 1)]
    if len(chosen) * sum(sizes) > _MOST_NUMBERS:
        raise CnnlensError(
            f"inputs of at most {_MOST_NUMBERS:,} numbers were expected, which both models are given at once, and "
            f"{len(chosen):,} of {sum(sizes):,} each came; compare on some with --sample N (in Python: sample=N)"
        )
    if len(chosen) == stream.count:
        batches = [stream.batch(0, stream.count)]
    else:
        batches = [stream.batch(number, number + 1) for number in chosen.tolist()]
    arrays = [np.concatenate(parts) for parts in zip(*batches, strict=True)]
    return "the inputs given", stream.count, dict(zip(stream.names, arrays, strict=True))


def translated(canonical: Mapping[str, Array], networks: tuple[Network, Network]) -> dict[str, Array]:
    """The inputs of one network as canonical ones of the other, input by input in order."""
    mine, theirs = (network.inputs for network in networks)
    if len(mine) != len(theirs):
        raise CnnlensError(f"the models have {len(mine)} and {len(theirs)} inputs, so they are not one model")
    found: dict[str, Array] = {}
    for one, other in zip(mine, theirs, strict=True):
        array, wanted = canonical[one.name], networks[1].canonical_shape(other)
        fitting = [view for view in views(array) if fits(view.shape, wanted)]
        if not fitting:
            raise CnnlensError(
                f"input '{printable(one.name)}' is {array.shape[1:]}, and '{printable(other.name)}' of the other model "
                f"takes {shown_shape(wanted)}, so they are not one model"
            )
        found[other.name] = np.ascontiguousarray(fitting[0])
    return found


# -- outputs ---------------------------------------------------------------------------------------------------------


def _exact(
    networks: tuple[Network, Network], canonical: tuple[dict[str, Array], dict[str, Array]]
) -> tuple[list[tuple[Array, Array] | None], str]:
    """Each output of both in float64, or None for each and the reason why the reference cannot."""
    sides: list[list[Array]] = []
    for network, arrays in zip(networks, canonical, strict=True):
        names = [recorded_ref(network, ref).name for ref in network.outputs]
        try:
            found = Executor(network, layers=list(dict.fromkeys(names))).run(arrays)
        except UnsupportedLayerError as error:
            return [None] * len(names), str(error)
        sides.append([found[name] for name in names])
        lost = next((name for name in names if found[name].size and not np.isfinite(found[name]).any()), None)
        if lost is not None:
            return [None] * len(names), f"output '{printable(lost)}' holds no finite number, and tells nothing"
    return list(zip(*sides, strict=True)), ""


def _output(
    networks: tuple[Network, Network],
    number: int,
    exact: Sequence[tuple[Array, Array] | None],
    checks: Sequence[Check],
    recordings: Sequence[Sequence[Recording]],
) -> Output:
    refs = [recorded_ref(network, network.outputs[number]) for network in networks]
    runs = [
        [(run.label, np.asarray(recording[ref.name][:])) for run, recording in zip(one.runs, found, strict=True)]
        for one, found, ref in zip(checks, recordings, refs, strict=True)
    ]
    recorded: dict[tuple[str, str], Comparison] = {}
    for label, array in runs[0]:
        for other, theirs in runs[1]:
            alike = as_other(array, theirs)
            if alike is not None:
                recorded[label, other] = pairwise(array, alike)
    pair = exact[number]
    left, right = pair or (runs[0][0][1], runs[1][0][1])
    shapes: tuple[tuple[int, ...], tuple[int, ...]] = left.shape, right.shape
    return Output((refs[0].name, refs[1].name), shapes, None if pair is None else apart(*pair), recorded)
