"""A model carried over to the other framework, and proved before anything of it is kept.

A conversion that is only plausible is worth nothing. The result is opened again from the files that were made, computed
by the float64 reference beside the original, run by the framework that it is for, and audited there; its arrays are
held against the original's bit for bit. When all of that holds the files are moved to their place, and not before.
"""

from __future__ import annotations

import contextlib
import copy
import keyword
import math
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.errors import CnnlensError, UnsupportedLayerError, in_one_line, refuse_without_posix
from cnnlens.network.graph import OPEN_SIZE, Ref, without_graph
from cnnlens.network.network import Network
from cnnlens.output import silent
from cnnlens.page import Result
from cnnlens.progress import Told, telling
from cnnlens.text import printable

if TYPE_CHECKING:
    from cnnlens.backend.options import RunOptions
    from cnnlens.checking.twins import Twins
    from cnnlens.opening.architecture import InputShape

__all__ = ["FRAMEWORKS", "TITLES", "Conversion", "convert", "example_of", "framework_named", "moved"]

FRAMEWORKS: Mapping[str, str] = {"torch": "torch", "pytorch": "torch", "keras": "keras", "tensorflow": "keras"}
"""What a framework may be called here, and which is meant."""

TITLES: Mapping[str, str] = {"torch": "PyTorch", "keras": "Keras"}

_SUFFIXES = {"torch": ".py", "keras": ".keras"}


@dataclass(frozen=True, repr=False)
class Conversion(Result, listing="conversion.listing", name="convert"):
    """Says what ``convert`` wrote, and proves that it computes what the original does.

    Attributes:
        source: The network that was converted.
        result: The converted one, as it was opened again from its files.
        framework: What it was converted to: ``torch`` or ``keras``.
        files: What was written.
        twins: Both run on the same inputs: every layer of each audited, the outputs compared in float64.
        arrays: How many arrays of weights were compared and found equal bit for bit.
        notes: What the person should know, a line each.

    >>> import cnnlens.sample
    >>> made = cnnlens.convert(cnnlens.sample.MODEL, "torch", out="shoes.py")
    >>> made.framework, made.source.name
    ('torch', 'fashion_mnist_cnn')
    >>> made
    <Conversion fashion_mnist_cnn.keras to PyTorch: shoes.py, shoes.safetensors, proved>
    >>> made.result
    <Network FashionMnistCnn 'shoes': 13 layers, 333,526 parameters>
    >>> made.twins.agree
    True
    """

    source: Network
    result: Network
    framework: str
    files: tuple[Path, ...]
    twins: Twins
    arrays: int
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        files = ", ".join(printable(path.name) for path in self.files)
        return f"<Conversion {self.source.shown} to {TITLES[self.framework]}: {files}, proved>"


@in_one_line()
def convert(
    model: Any,
    to: str | None = None,
    out: str | os.PathLike[str] | None = None,
    *,
    inputs: Any = None,
    backend: str | None = None,
    example: Any = None,
    timeout: float | None = None,
    progress: Told = True,
) -> Conversion:
    """Write a model for the other framework.

    To PyTorch: a Python file with an ``nn.Module`` and, beside it, its ``.safetensors`` state dict; together they need
    torch and safetensors alone. To Keras: a functional Keras 3 ``.keras`` file, channels last.

    Args:
        model: A path, an open ``Network``, or a live framework model; it must have a graph.
        to: ``torch`` (or ``pytorch``), or ``keras`` (or ``tensorflow``); None: the one that it is not of.
        out: The ``.py`` or ``.keras`` file, or a folder; None names it after the model, in the current folder. A file
            that is there is overwritten where ``out`` names it, and never otherwise.
        inputs: What the proof is made on, as ``record`` takes it; None draws a few from seed 0.
        backend: What runs the result: ``pytorch``, or one of Keras' (None: the first that is installed).
        example: For a live PyTorch module, what it is called with.
        timeout: Seconds that the backend may be silent.
        progress: As ``check`` takes it.

    Returns:
        What was written and the proof: both models run on the same inputs, in float64 and in the framework.

    Raises:
        UnsupportedLayerError: layers that the other framework cannot express, or the reference cannot compute, so that
            nothing could be proved; names them and says why.
        CnnlensError: a file is in the way that ``out`` does not name; the result does not agree with the original, or
            what should run it is not installed. In either case nothing is written.

    >>> import cnnlens.sample
    >>> made = cnnlens.convert(cnnlens.sample.MODEL, "torch", out="shoes.py")
    >>> [path.name for path in made.files]
    ['shoes.py', 'shoes.safetensors']
    >>> made.arrays  # of weights, equal bit for bit
    8
    >>> cnnlens.convert(cnnlens.sample.MODEL, "keras")
    Traceback (most recent call last):
        ...
    cnnlens.errors.CnnlensError: ...fashion_mnist_cnn.keras: it is a model of Keras already; convert it to torch
    """
    from cnnlens.backend.options import RunOptions
    from cnnlens.backend.process import refuse_unknown
    from cnnlens.janitor import temporary_folder
    from cnnlens.opening.opener import network_given

    refuse_without_posix("convert")
    refuse_unknown([] if backend is None else [backend])
    if to is not None:
        _warm(FRAMEWORKS.get(to.lower()), backend, timeout)  # before the model is opened: a live one is exported first
    network, _ = network_given(model, inputs, example)
    framework = framework_named(to, network)
    if not network.calls:
        raise without_graph(network)
    target = _target(out, network, framework)
    for ref in network.outputs:
        if network.batch_axis(ref) is None:
            raise UnsupportedLayerError(
                f"{printable(network.source.path, 300)}: output '{printable(ref.name)}' has no row for each input, but "
                "is made of all that come at once, which no proof covers; convert the model without that last step"
            )
    backends = [_that_runs(framework, backend)] if backend is not None else _installed(framework)
    _warm(framework, backends[0], timeout)
    with ExitStack() as stack:
        say = stack.enter_context(telling(progress)) or silent
        folder = stack.enter_context(temporary_folder())
        say(f"writing it for {TITLES[framework]}")
        made = (_to_torch if framework == "torch" else _to_keras)(network, folder, target.name, timeout)
        arrays = made.arrays()
        options = RunOptions(precision="strict", timeout=timeout)
        twins, objections = _proved(network, made, inputs, backends, options, say)
        files = [(path, target.with_suffix(path.suffix)) for path in made.files]
        _move(files)
    notes = (*made.notes, *_rounding_notes(made, twins), *objections)
    written = moved(made.network, target)
    twins = replace(twins, checks=(twins.checks[0], replace(twins.checks[1], network=written)))
    return Conversion(network, written, framework, tuple(place for _, place in files), twins, arrays, notes)


def moved(network: Network, place: Path) -> Network:
    """Give the network of a file that was written elsewhere and now lies beside ``place``: it names no other path."""
    source: Any = copy.copy(network.source)
    source.path = place.parent / Path(source.path).name
    if hasattr(source, "arch"):
        source.arch = str(place.parent / Path(source.arch).name)
    return replace(network, source=source)


def _rounding_notes(made: _Made, found: Twins) -> list[str]:
    if not made.roundings:
        return []
    moved = max((one.apart or 0.0 for one in found.outputs), default=0.0)
    more = f" and {len(made.roundings) - 3} more" if len(made.roundings) > 3 else ""
    return [
        f"Keras needs numbers that PyTorch computes as it goes, and holds them rounded to float32: "
        f"{'; '.join(made.roundings[:3])}{more}. Before rounding both are one model to 2**-40; rounded, they move the "
        f"output by {moved:.2g} of its largest value"
    ]


def framework_named(to: str | None, network: Network) -> str:
    """Find the framework that is meant, which must be another than the network's.

    Raises:
        CnnlensError: there is no such framework here, or the model is one of it already.
    """
    own = network.source.framework
    if to is None:
        return "keras" if own == "torch" else "torch"
    found = FRAMEWORKS.get(to.lower())
    shown = printable(network.source.path, 300)
    if found is None:
        raise CnnlensError(f"torch or keras was expected to convert to, '{printable(to)}' came")
    if found == own:
        raise CnnlensError(f"{shown}: it is a model of {TITLES[found]} already; convert it to {_other(found)}")
    return found


def _other(framework: str) -> str:
    return "keras" if framework == "torch" else "torch"


def _warm(framework: str | None, backend: str | None, timeout: float | None) -> None:
    """Have what will run the result start and import its framework, while the model is opened and written."""
    from cnnlens.backend.worker import warm

    with contextlib.suppress(CnnlensError):  # said when it is needed
        if framework is not None:
            warm(backend or _installed(framework)[0], "cpu", "strict", timeout or 600.0)


def _that_runs(framework: str, spec: str) -> str:
    """The backend asked for, if it runs models of ``framework``."""
    from cnnlens.backend import seam
    from cnnlens.backend.process import parse_spec

    if seam.get(parse_spec(spec)[0]).layout not in (framework, seam.STORED):
        raise CnnlensError(
            f"--backend {printable(spec, 200)}: the result is a model of {TITLES[framework]}, which this backend does "
            f"not run; {' or '.join(_installed(framework))} does"
        )
    return spec


def _installed(framework: str) -> list[str]:
    """The backends here that run models of ``framework``.

    Raises:
        CnnlensError: none is installed; names the command that installs one.
    """
    from cnnlens.backend import seam as backend

    suited = [
        one for one in backend.installed() if one.problem is None and one.name != "reference"
        and one.backend.layout == framework
    ]  # fmt: skip
    here = [one.name for one in suited if not one.missing]
    if here:
        return here
    commands = " or ".join(one.backend.install for one in suited)
    raise CnnlensError(
        f"the result must be run by {TITLES[framework]} before it is written, which is not installed here: {commands}"
    )


def _target(out: str | os.PathLike[str] | None, network: Network, framework: str) -> Path:
    """Where the result goes.

    Raises:
        CnnlensError: the name's ending is another framework's, or a file is there that nobody named.
    """
    from cnnlens.output import file_name, refuse_taken, stem_of

    suffix = _SUFFIXES[framework]
    stem = file_name(stem_of(network.source.path))
    if framework == "torch":
        stem = "".join(char if f"_{char}".isidentifier() else "_" for char in stem)  # so that Python can import it
        stem = stem if stem.isidentifier() and not keyword.iskeyword(stem) else f"model_{stem}"
    named = out is not None and not Path(out).is_dir()
    path = Path(out or "") if named else Path(out or "") / (stem + suffix)
    if path.suffix != suffix:
        raise CnnlensError(
            f"{printable(path, 300)}: a name that ends in {suffix} was expected for a model of {TITLES[framework]}"
        )
    written = [path, path.with_suffix(".safetensors")] if framework == "torch" else [path]
    refuse_taken(written, named, [network.source.path])
    return path


# -- making it -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Made:
    """A converted model in the temporary folder.

    ``turned`` gives the result's canonical inputs for the original's; ``arrays`` compares the weights and counts them.
    ``exact`` is the same model before some of its numbers were rounded, where there are such, and ``roundings`` says
    which.
    """

    network: Network
    files: tuple[Path, ...]
    turned: Callable[[Mapping[str, Any]], dict[str, Any]]
    arrays: Callable[[], int]
    notes: tuple[str, ...] = ()
    exact: Network | None = None
    roundings: tuple[str, ...] = ()


def _to_torch(network: Network, folder: Path, name: str, timeout: float | None) -> _Made:
    from cnnlens.conversion import same_arrays
    from cnnlens.conversion.to_torch import program
    from cnnlens.opening import architecture

    made = program(network)
    files = made.write(folder / name)
    result = architecture.open_architecture(
        f"{files[0]}:{made.class_name}",
        state=files[1] if made.state else None,  # a file of no arrays is none to open
        example_shapes=[example_of(network, ref) for ref in network.inputs],
        timeout=timeout or architecture.TIMEOUT,
    )

    def turned(inputs: Mapping[str, Any]) -> dict[str, Any]:
        return {ours.name: inputs[theirs.name] for ours, theirs in zip(result.inputs, network.inputs, strict=True)}

    return _Made(result, files, turned, lambda: same_arrays.in_torch(network, made, result))


def example_of(network: Network, ref: Ref) -> InputShape:
    """Make what the module is exported with: whole numbers where the model looks rows up."""
    from cnnlens.opening.architecture import InputShape

    shape = network.canonical_shape(ref) or ()
    rows = any(ref in call.refs and call.layer.kind == "Embedding" for call in network.calls)
    sizes = tuple(OPEN_SIZE if size is None else size for size in shape[1:])
    return InputShape(sizes, "int64" if rows else "float32")


def _to_keras(network: Network, folder: Path, name: str, timeout: float | None) -> _Made:
    import numpy as np

    from cnnlens.conversion import same_arrays
    from cnnlens.conversion.to_keras import model
    from cnnlens.opening.opener import open as open_model

    made = model(network)
    path = folder / name
    made.write(path)
    result = open_model(path)

    def turned(inputs: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for ref in network.inputs:
            twin = made.names[ref.name]
            found[twin.name] = np.transpose(inputs[ref.name], np.argsort(twin.axes))
        return found

    exact: Network | None = None
    if made.roundings:
        before = model(network, exact=True)
        exact = before.network if same_arrays.rounded_once(before, made) else None

    def arrays() -> int:
        return same_arrays.in_keras(network, made, result)

    return _Made(result, (path,), turned, arrays, made.notes, exact, made.roundings)


# -- proving it ------------------------------------------------------------------------------------------------------


def _proved(
    network: Network,
    made: _Made,
    inputs: Any,
    backends: Sequence[str],
    options: RunOptions,
    say: Callable[[str], object],
) -> tuple[Twins, list[str]]:
    """Both models on the same inputs, the result under the first of ``backends`` whose arithmetic holds; and a line for
    each before it whose does not.

    Raises:
        CnnlensError: they do not agree; says where.
    """
    from cnnlens.backend.worker import WorkerError
    from cnnlens.checking import twins
    from cnnlens.checking.listing import why_not

    shown = printable(network.source.path, 300)
    objections: list[str] = []
    for backend in backends:
        say(f"running the original in the reference, the result under {backend}")
        try:
            found = twins.check_twin_networks(
                (network, made.network), inputs, options, sides=(["reference"], [backend]), turned=made.turned
            )
        except WorkerError as error:
            if backend == backends[-1] and not objections:
                raise
            objections.append(str(error))
            continue
        sound = found.could_check and found.checks[0].agree
        if not sound or not (found.exact or _rounding_alone(network, made, inputs)):
            raise CnnlensError(f"{shown}: nothing was written, for the result does not agree: {why_not(found)}")
        if found.checks[1].agree:
            return found, [f"{one}; {backend} proved it instead" for one in objections]
        objections.append(f"in float64 both are one model, but {why_not(found)}")
    raise CnnlensError(
        f"{shown}: nothing was written, for no backend here runs the result right: {'; '.join(objections)}"
    )


def _rounding_alone(network: Network, made: _Made, inputs: Any) -> bool:
    """Whether nothing but the numbers that were rounded on the way sets the two apart: with them in float64 both are
    one model, and the file's are those, rounded."""
    from cnnlens.checking import twins

    if made.exact is None:
        return False
    return max(twins.exactly_apart(network, made.exact, inputs, made.turned), default=math.inf) <= twins.LIMIT


def _move(files: list[tuple[Path, Path]]) -> None:
    """Put every file in its place, or none: all are beside their places before the first is moved."""
    from cnnlens.output import replacing

    with ExitStack() as stack:
        for path, place in files:
            shutil.copyfile(path, stack.enter_context(replacing(place)))
