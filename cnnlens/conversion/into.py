"""Weights put into a model that exists already in another framework, and proved before the file is kept.

Where both models have a graph they are one model afterwards or the transfer is refused; where one of them is a bare
state dict there is nothing to run on that side, and that is said.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.errors import CnnlensError, in_one_line
from cnnlens.network.graph import Layer
from cnnlens.network.network import Network
from cnnlens.network.weight import Stored, Weight
from cnnlens.page import Result
from cnnlens.text import printable

if TYPE_CHECKING:
    from cnnlens.checking.result import Check
    from cnnlens.checking.twins import Twins
    from cnnlens.conversion.into_files import Written
    from cnnlens.conversion.transfer import Applied
    from cnnlens.opening.architecture import InputShape

__all__ = ["Transfer", "put_into"]


@dataclass(frozen=True, repr=False)
class Transfer(Result, listing="conversion.listing", of="transfer", name="transfer"):
    """Says what was written, and how it was proved.

    Attributes:
        source, target: The networks that the weights came from, and whose copy got them.
        written: The file and the pairs of layers.
        proof: Both models held together where both have a graph; an audit of the result alone where only that has
            one; None where neither can be run.
    """

    source: Network
    target: Network
    written: Written
    proof: Twins | Check | None

    def __repr__(self) -> str:
        proved = "not proved" if self.proof is None else "proved"
        return f"<Transfer {self.source.shown} into {printable(self.written.path.name)}: {proved}>"


@in_one_line()
def put_into(
    model: Network,
    into: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    inputs: Any = None,
    shapes: Sequence[InputShape] | None = None,
    timeout: float | None = None,
) -> Transfer:
    """Put a model's weights into a copy of another.

    Args:
        model: Where the weights come from.
        into: A Keras file, a PyTorch state dict or ``.pt2``, or an architecture (``package.module:factory``), whose
            code is then run.
        out: The file to write: of the target's kind, or ``.safetensors`` for PyTorch. None: named after the target,
            with ``-filled``, in the current folder. A file that is there is overwritten where ``out`` names it, and
            never otherwise; neither model is.
        inputs: What the proof is made on; see ``convert``.
        shapes: Of the inputs of an architecture, where its module does not say them.

    Raises:
        CnnlensError: a file is in the way; the models do not match, or what came out does not compute what ``model``
            does; nothing is written.
    """
    from cnnlens.checking.result import Check
    from cnnlens.conversion.converter import moved
    from cnnlens.conversion.into_files import check_name, write_into
    from cnnlens.conversion.transfer import apply
    from cnnlens.janitor import temporary_folder
    from cnnlens.opening.architecture import names_code
    from cnnlens.output import refuse_taken, replacing

    spec = os.fspath(into)
    is_code = not Path(spec).exists() and names_code(spec)
    target = _opened(spec, None, is_code, shapes)
    place = _place(out, target, is_code)
    check_name(place, target)
    refuse_taken([place], out is not None and not Path(out).is_dir(), [model.source.path, target.source.path])
    applied = apply(model, target)
    with ExitStack() as stack:
        part = stack.enter_context(temporary_folder()) / place.name
        written = write_into(model, target, part, applied)
        # A state dict is a model again with the code, or the graph, that it is for.
        result = _opened(spec, part, True, shapes) if is_code else _opened(os.fspath(part), None, False, None)
        if target.calls and not result.calls:
            result = _filled(target, result)
        proof, more = _proof(model, result, applied, inputs, timeout)
        shutil.copyfile(part, stack.enter_context(replacing(place)))
    if isinstance(proof, Check):
        proof = replace(proof, network=moved(proof.network, place))
    elif proof is not None:
        proof = replace(proof, checks=(proof.checks[0], replace(proof.checks[1], network=moved(result, place))))
    return Transfer(model, target, replace(written, path=place, notes=(*written.notes, *more)), proof)


def _opened(spec: str, state: Path | None, is_code: bool, shapes: Sequence[InputShape] | None) -> Network:
    if is_code:
        from cnnlens.opening.architecture import open_architecture

        return open_architecture(spec, state, shapes)
    from cnnlens.opening.opener import open as open_model

    return open_model(spec)


def _filled(graph: Network, state: Network) -> Network:
    """``graph`` with the arrays of a state dict, by its keys; an array that is no part of the state stays."""
    held = {weight.stored.place: weight.stored for layer in state.layers for weight in layer.stored.values()}
    return replace(_with_arrays(graph, lambda layer, weight: held.get(weight.stored.place)), source=state.source)


def _with_arrays(graph: Network, found: Callable[[Layer, Weight], Stored | None]) -> Network:
    """``graph`` with the arrays that are found in place of its own."""

    def with_arrays(layer: Layer) -> Layer:
        stored = {
            name: replace(weight, stored=found(layer, weight) or weight.stored) for name, weight in layer.stored.items()
        }
        return replace(layer, stored=stored)

    layers = {layer.name: with_arrays(layer) for layer in (*graph.layers, *graph.layers_of_calls)}
    return replace(
        graph,
        layers=tuple(layers[layer.name] for layer in graph.layers),
        calls=tuple(replace(call, layer=layers[call.layer.name]) for call in graph.calls),
    )


def _place(out: str | os.PathLike[str] | None, target: Network, is_code: bool) -> Path:
    from cnnlens.output import file_name, stem_of

    own = Path(target.source.path)
    suffix = ".safetensors" if target.source.framework == "torch" else own.suffix or ".keras"
    stem = own.name.rpartition(":")[2] if is_code else stem_of(own)
    name = file_name(f"{stem}-filled") + suffix
    if out is None:
        return Path(name)
    return Path(out) / name if Path(out).is_dir() else Path(out)


def _proof(
    model: Network, result: Network, applied: Applied, inputs: Any, timeout: float | None
) -> tuple[Twins | Check | None, tuple[str, ...]]:
    """What the result is held against, and what there is to say about it.

    Raises:
        CnnlensError: it does not agree.
    """
    from cnnlens.backend import seam as backend
    from cnnlens.backend.options import RunOptions
    from cnnlens.checking import checker as checking
    from cnnlens.checking import twins
    from cnnlens.checking.listing import why_failed, why_not

    if not result.calls:
        return None, ()
    suited = backend.suited(result.source.framework)[:1]
    options = RunOptions(precision="strict", timeout=timeout)
    if not model.calls:
        check = checking.check_network(result, inputs, options, backends=suited)
        if check.agree and check.could_check:
            return check, ()
        raise CnnlensError(
            f"{printable(model.source.path, 300)}: nothing was written, for the result fails: {why_failed(check)}"
        )
    found = twins.check_twin_networks((model, result), inputs, options, backends=[*suited, "reference"])
    if found.exact and found.agree and found.could_check:
        return found, ()
    if found.could_check and applied.exact and all(one.agree for one in found.checks):
        exact = _with_arrays(result, lambda layer, weight: _exactly(applied, layer, weight))
        if max(twins.exactly_apart(model, exact, inputs), default=math.inf) <= twins.LIMIT:
            names = ", ".join(printable(f"{layer}/{name}") for layer, name in list(applied.exact)[:3])
            moved = max((one.apart or 0.0 for one in found.outputs), default=0.0)
            more = f" and {len(applied.exact) - 3} more" if len(applied.exact) > 3 else ""
            return found, (
                f"{names}{more} lost digits in the target's dtype (two biases become their sum, say): before that "
                f"both are one model to 2**-40; rounded, they move the output by {moved:.2g} of its largest value",
            )
    raise CnnlensError(
        f"{printable(model.source.path, 300)}: nothing was written, for with these weights the target does not compute "
        f"the same: {why_not(found)}; cnnlens diff --inputs random names the layer"
    )


def _exactly(applied: Applied, layer: Layer, weight: Weight) -> Stored | None:
    """An array before it was rounded, where it was."""
    from cnnlens.files.arrays import StoredArray

    array = applied.exact.get((layer.name, weight.name))
    return array if array is None else StoredArray(
        array.shape, array.dtype, array.dtype.name, weight.stored.place, array.view
    )  # fmt: skip
