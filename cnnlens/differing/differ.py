"""Why do two models differ? Layer by layer what explains it, each with the line of NumPy that proves it.

The question of whoever moves a model between frameworks. Layers are paired by what they hold and not by their names,
every explanation is tried on the numbers, and the line that is given was run before it was given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from cnnlens.differing import listing
from cnnlens.differing.cause import Status
from cnnlens.differing.consensus import settle, summary
from cnnlens.differing.investigation import Compared, PartPair, investigate
from cnnlens.differing.maps import Activations
from cnnlens.differing.proof import Line
from cnnlens.differing.result import Diff
from cnnlens.differing.rows import ArrayDiff, LayerDiff
from cnnlens.errors import in_one_line
from cnnlens.network.network import Network
from cnnlens.opening.opener import networks_compared
from cnnlens.output import silent
from cnnlens.progress import Told, telling

__all__ = ["diff"]

_WORST = (Status.ANOTHER_SHAPE, Status.ANOTHER, Status.MISSING, Status.DIFFERS, Status.AMBIGUOUS, Status.FINE_TUNED,
          Status.EXPLAINED, Status.STORED_OTHERWISE, Status.EQUAL)  # fmt: skip


@in_one_line()
def diff(a: Any, b: Any, inputs: Any = None, *, progress: Told = True) -> Diff:
    """Compare two models: pair their layers by what they hold, and explain each difference.

    Args:
        a, b: Paths, live framework models, open Networks, or what ``module.state_dict()`` gives (tensors or arrays by
            name, in PyTorch's layouts): Keras or PyTorch, in any combination.
        inputs: What to run both on to compare their feature maps too, as ``record`` takes it, in A's axes; ``"random"``
            draws a few from a fixed seed. None compares the weights alone.
        progress: As ``check`` takes it.

    Returns:
        A row a pair of layers that hold arrays; where a difference can be undone, with the line of NumPy that turns
        B's stored array into A's, which was run before it was given.

    Raises:
        CnnlensError: A model cannot be read, or inputs do not fit; one line.

    >>> import cnnlens.sample
    >>> net = cnnlens.open(cnnlens.sample.MODEL)
    >>> cnnlens.diff(net, net).verdict
    ("equal: every array of A is B's",)
    >>> ported = {"conv.weight": net["conv2d"].kernel.to("torch"), "conv.bias": net["conv2d"].weights["bias"]}
    >>> row = cnnlens.diff(net, ported).rows[0]
    >>> row.a, row.b, row.explanation
    ('conv2d', 'conv', 'equal, stored as HWIO / OIHW')
    >>> row.line.expression
    'weight.transpose(2, 3, 1, 0)'
    """
    with telling(progress) as tell:
        return _diff(*networks_compared(a, b), inputs, tell or silent)


def _diff(one: Network, other: Network, inputs: Any, say: Callable[[str], object]) -> Diff:
    found = investigate(one, other, say)
    settle(found)
    activations: Activations | None = None
    statements = summary(found)
    said = listing.verdict(statements)
    if inputs is not None:
        from cnnlens.differing.activations import compare

        say("running both, and each layer of B on A's inputs")
        maps = compare(one, other, inputs, found)
        activations = replace(maps, text=listing.feature_maps(maps))
        said = [*said, activations.text]
    return Diff(one, other, tuple(_row(pair) for pair in found), tuple(said), activations, tuple(statements))


def _row(pair: PartPair) -> LayerDiff:
    arrays = tuple(_array(one) for one in pair.arrays)
    a, b = pair.a, pair.b
    if a is None or b is None:
        status = Status.EXPLAINED if pair.folded is not None else Status.MISSING
    else:
        status = min((one.finding.status for one in arrays), key=_WORST.index, default=Status.EQUAL)
    return LayerDiff(
        a.name if a is not None else None,
        b.name if b is not None else None,
        a.layer.shown_kind if a is not None else "",
        b.layer.shown_kind if b is not None else "",
        status,
        listing.layer(pair),
        _line(arrays),
        pair.how,
        arrays,
        tuple(pair.notes),
    )


def _array(one: Compared) -> ArrayDiff:
    def shape(item: Any) -> tuple[int, ...] | None:
        return None if item is None else tuple(item.weight.stored.shape)

    def axes(item: Any) -> str:
        return item.letters if item is not None else ""

    return ArrayDiff(
        one.role,
        None if one.a is None else one.a.place,
        None if one.b is None else one.b.place,
        shape(one.a),
        shape(one.b),
        axes(one.a),
        axes(one.b),
        one.finding,
        listing.explanation(one),
        None if one.a is None else one.a.weight,
        None if one.b is None else one.b.weight,
    )


def _line(arrays: tuple[ArrayDiff, ...]) -> Line | None:
    """The line of the kernel, or of the first array that is not simply equal."""
    ordered = sorted(arrays, key=lambda one: (one.finding.status is Status.EQUAL, one.role != "kernel"))
    return next((one.finding.line for one in ordered if one.finding.line is not None), None)
