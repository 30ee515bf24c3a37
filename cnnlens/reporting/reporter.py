"""Makes a report: opens the model, computes its feature maps, has it checked and compared, and puts it together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from cnnlens.backend.options import RunOptions
from cnnlens.checking.checker import check_network
from cnnlens.checking.result import Check
from cnnlens.checking.twins import Twins
from cnnlens.differing.differ import diff as compared
from cnnlens.differing.result import Diff
from cnnlens.errors import CnnlensError, UnsupportedLayerError, in_one_line
from cnnlens.inputs.stream import open_inputs
from cnnlens.network.graph import Graph
from cnnlens.network.network import Network
from cnnlens.opening.opener import network_given
from cnnlens.output import silent
from cnnlens.progress import Told, telling
from cnnlens.reporting.contents import Fed, contents
from cnnlens.reporting.result import Report
from cnnlens.reporting.words import language_named

__all__ = ["MOST_INPUTS", "report", "report_network"]

MOST_INPUTS = 12
"""Of which a page shows feature maps, where nobody says another number."""

_CHARACTERS = {True: 4_500_000, False: 23_000_000}  # of packed arrays, by whether the model is a small one
_SMALL = 2_000_000  # parameters


@in_one_line()
def report(
    model: Any,
    *,
    inputs: Any = None,
    backends: Sequence[str] | None = None,
    recordings: Sequence[Any] = (),
    against: Any = None,
    layers: Sequence[str | int] | None = None,
    limit: int = MOST_INPUTS,
    scale: str = "auto",
    language: str = "en",
    example: Any = None,
    precision: str = "strict",
    device: str = "cpu",
    sample: int | None = None,
    timeout: float | None = None,
    trust_code: bool = False,
    allow_nonfinite: bool = False,
    progress: Told = True,
) -> Report:
    """Make a page of a model: its graph, kernels, weights, feature maps, what a check found, and why another differs.

    Args:
        model: A path, an open ``Network``, or a live framework model.
        inputs: What ``record`` takes; None shows no feature maps.
        backends: Those that are checked, on all of the inputs, as ``check`` takes them; None checks none.
        recordings: Recordings of the model that are checked, as ``check`` takes them.
        against: Another model, as ``diff`` takes it: the page says why it differs, and draws what differs.
        layers: Names or indices of the layers whose kernels and maps the page shows; None for all.
        limit: Of how many inputs it shows feature maps: the first ones.
        scale: As ``images.load`` takes it.
        language: Of the page's words: ``en`` or ``ko``.
        example: For a live PyTorch module; see ``record``.
        precision, device, sample, timeout, trust_code, allow_nonfinite: As ``check`` takes them.
        progress: As ``check`` takes it.

    Returns:
        The report: ``save`` writes it, a notebook shows it, ``to_json`` gives its data.

    Raises:
        CnnlensError: the model or the inputs are refused, or there is no such layer or language; one line.

    >>> import cnnlens.sample
    >>> made = cnnlens.report(cnnlens.sample.MODEL, inputs=cnnlens.sample.IMAGES, layers=["conv2d"])
    >>> made
    <Report fashion_mnist_cnn.keras: 8 layers, 10 inputs>
    >>> made.save("report.html").name
    'report.html'
    """
    network, live = network_given(model, inputs, example)
    options = RunOptions(device, precision, timeout=timeout, trust_code=trust_code, allow_nonfinite=allow_nonfinite)
    with telling(progress) as tell:
        given = None
        if inputs is not None:
            given = open_inputs(network, inputs, scale=scale, allow_nonfinite=allow_nonfinite)
        found = None
        if backends is not None or recordings:
            found = check_network(
                network, given, options, live=live, backends=backends, recordings=recordings, sample=sample,
                progress=tell,
            )  # fmt: skip
        return report_network(
            network,
            given,
            check=found,
            diff=None if against is None else compared(network, against, progress=tell),
            layers=layers,
            limit=limit,
            language=language,
            tell=tell or silent,
        )


def report_network(
    network: Network,
    inputs: Any,
    *,
    check: Check | None = None,
    twins: Twins | None = None,
    diff: Diff | None = None,
    layers: Sequence[str | int] | None = None,
    limit: int = MOST_INPUTS,
    scale: str = "auto",
    language: str = "en",
    allow_nonfinite: bool = False,
    tell: Callable[[str], object] = silent,
) -> Report:
    """Make a page of an open network, with what was found out about it already.

    Args:
        inputs, layers, limit, scale, language, allow_nonfinite: As ``report`` takes them.
        check, twins, diff: What the page says of its backends, of a model that should be the same, of another.
        tell: Is called with a line of text.
    """
    words = language_named(language)
    if limit < 1:
        raise CnnlensError(f"limit: at least one input is shown, not {limit}; without inputs there are no maps")
    shown = [network[one].name for one in layers] if layers is not None else [one.name for one in network.layers]
    fed, maps, notes = None, dict[str, NDArray[Any]](), list[str]()
    if inputs is not None:
        stream = open_inputs(network, inputs, scale=scale, allow_nonfinite=allow_nonfinite)
        fed = Fed(stream, dict(zip(stream.names, stream.batch(0, min(limit, stream.count)), strict=True)))
        tell("feature maps")
        maps, notes = _maps(network, fed.arrays, set(shown))
    tell("page")
    data, block = contents(
        network,
        fed,
        maps,
        shown=set(shown),
        check=check,
        twins=twins,
        diff=diff,
        notes=notes,
        characters=_CHARACTERS[network.parameters <= _SMALL],
    )
    return Report(data, block, words)


def _maps(
    network: Network, arrays: Mapping[str, NDArray[Any]], shown: set[str]
) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """The feature maps of the layers shown, in float64, as far as the reference computes them; and where it does not,
    why."""
    refused: dict[str, str] = {}  # calls that the reference cannot compute, not those behind them
    for call in network.calls:
        try:
            call.refuse_unknown()
            _ = call.layer.operation
        except UnsupportedLayerError as error:
            refused[call.name] = str(error)
    while True:
        behind = _behind(network, refused)
        wanted = [one.name for one in network.calls if one.layer.name in shown and one.name not in behind]
        notes = list(dict.fromkeys(refused.values()))
        if refused:
            lost = len({one.layer.name for one in network.calls if one.name in behind} & shown)
            notes.append(f"{lost:,} of {len(shown):,} layers have no feature maps for that reason")
        try:
            return (network.run(arrays, layers=wanted) if wanted else {}), notes
        except UnsupportedLayerError as error:  # what only the numbers show
            failed = {one.name: str(error) for one in network.calls if one.layer.shown == error.layer}
            if failed.keys() <= refused.keys():
                return {}, [*notes, str(error)]
            refused.update(failed)


def _behind(network: Graph, refused: Mapping[str, str]) -> set[str]:
    """The calls that were refused and those that take, at any remove, what they give."""
    found = set(refused)
    for call in network.calls:
        if any(ref.call in found for ref in call.refs):
            found.add(call.name)
    return found
