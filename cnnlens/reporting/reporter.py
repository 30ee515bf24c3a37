"""Makes a report: opens the model, computes its feature maps, has it checked, and puts all of it together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cnnlens.checking.checker import check
from cnnlens.errors import CnnlensError, UnsupportedLayerError, in_one_line
from cnnlens.inputs.stream import InputStream, open_inputs
from cnnlens.network.network import Network
from cnnlens.opening.opener import network_given
from cnnlens.output import silent
from cnnlens.progress import Told, telling
from cnnlens.reporting.contents import contents
from cnnlens.reporting.result import Report
from cnnlens.reporting.words import language_named

__all__ = ["MOST_INPUTS", "report"]

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
    layers: Sequence[str | int] | None = None,
    limit: int = MOST_INPUTS,
    scale: str = "auto",
    language: str = "en",
    example: Any = None,
    progress: Told = True,
) -> Report:
    """Make a page of a model: its graph, kernels, weights, feature maps, and what a check of backends found.

    Args:
        model: A path, an open ``Network``, or a live framework model.
        inputs: What ``record`` takes; None shows no feature maps.
        backends: Those that are checked on these inputs, as ``check`` takes them; None checks none.
        layers: Names or indices of the layers whose kernels and maps the page shows; None for all.
        limit: Of how many inputs it shows feature maps: the first ones.
        scale: As ``images.load`` takes it.
        language: Of the page's words: ``en`` or ``ko``.
        example: For a live PyTorch module; see ``record``.
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
    words = language_named(language)
    if limit < 1:
        raise CnnlensError(f"limit: at least one input is shown, not {limit}; without inputs there are no maps")
    network, _ = network_given(model, inputs, example)
    shown = [network[one].name for one in layers] if layers is not None else [one.name for one in network.layers]
    with telling(progress) as told:
        tell = told or silent
        stream, maps, notes = None, {}, list[str]()
        if inputs is not None:
            stream = open_inputs(network, inputs, scale=scale, limit=limit)
            whole = open_inputs(network, inputs, scale=scale).count
            notes += [f"the first {stream.count:,} of {whole:,} inputs"] if whole > stream.count else []
            tell("feature maps")
            try:
                maps = _maps(network, stream, shown)
            except UnsupportedLayerError as error:
                notes.append(str(error))
        found = None
        if backends is not None:
            found = check(model, inputs, backends=backends, example=example, progress=told)
        tell("page")
        data, block = contents(
            network,
            stream,
            maps,
            shown=set(shown),
            check=None if found is None else found.to_json(),
            notes=notes,
            characters=_CHARACTERS[network.parameters <= _SMALL],
        )
    return Report(data, block, words)


def _maps(network: Network, stream: InputStream, shown: Sequence[str]) -> dict[str, Any]:
    """The feature maps of the layers shown, in float64."""
    names = set(shown)
    wanted = [call.name for call in network.calls if call.layer.name in names]
    arrays = dict(zip(stream.names, stream.batch(0, stream.count), strict=True))
    return network.run(arrays, layers=wanted) if wanted else {}
