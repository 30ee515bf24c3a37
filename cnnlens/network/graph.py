"""The layers of a model, their canonical weights, and the graph of which feeds which.

It holds no tensors of its own: a layer's arrays are read from the file when they are asked for, so opening a model
costs its index and nothing more. What runs it stands beside it (``cnnlens.network.network``), so that what computes a
graph can be written in terms of one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from cnnlens.errors import CnnlensError, UnsupportedLayerError
from cnnlens.network.kernel import Kernel
from cnnlens.network.masks import Mask
from cnnlens.network.weight import Weight
from cnnlens.page import Shown
from cnnlens.text import nearest, printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from cnnlens.reference import Operation

__all__ = [
    "CONFIG_ERRORS", "OPEN_SIZE", "Call", "Extra", "Graph", "Layer", "Ref", "Shape", "Source", "canonical_axes",
    "convolutions", "find_refs", "fits", "layers_asked", "map_refs", "shown_shape", "without_graph",
]  # fmt: skip

Shape = tuple[int | None, ...]

# What stands for a size of an image that a model leaves open, in pixels, where inputs have to be made for it.
OPEN_SIZE = 96

# Calls that read the same numbers under another shape, which may put the batch together with other axes.
_RESHAPES = frozenset(("reshape", "view", "_unsafe_view", "flatten", "unflatten", "reshape_as", "view_as"))

# The operation of a node of TensorFlow, in JSON or as JSON became.
_OPERATION = re.compile(r"""["']op["']: *["']([A-Za-z0-9_]{1,60})["']""")

# Arguments that are no operands as they stand in a call.
_NO_OPERANDS = ("training", "mask", "query_mask", "value_mask", "key_mask", "attention_mask")

_WRAPPED = 5  # layers in layers that a kind is shown with

# What comes of a config that holds other things than its layer's class would write there.
CONFIG_ERRORS = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


@dataclass(frozen=True)
class Ref:
    """Names a tensor: output ``index`` of the call named ``call``."""

    call: str
    index: int = 0

    @property
    def name(self) -> str:
        """Give the name of its feature map: the call's, with ``[1]`` and so on after the first output."""
        return self.call if self.index == 0 else f"{self.call}[{self.index}]"


class Source(Protocol):
    """Says where a network came from. ``sha256`` is computed when it is asked for: it reads the whole file."""

    @property
    def path(self) -> Path: ...
    @property
    def format(self) -> str: ...
    @property
    def framework(self) -> str: ...
    @property
    def keras_version(self) -> str | None: ...
    @property
    def size(self) -> int: ...
    @property
    def sha256(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Extra:
    """Says what a file holds beside the network: an optimizer, what a checkpoint says of its training, metadata.

    Attributes:
        what: ``optimizer``, ``loss``, ``metrics``, ``training``, ``weights`` (other sets), ``metadata`` or ``entries``.
        says: What it is, for people.
        arrays, numbers: How many arrays it keeps, and how many numbers these hold; None where that is not known.
    """

    what: str
    says: str
    arrays: int | None = None
    numbers: int | None = None


class _Arrays(Mapping[str, NDArray[Any]]):
    """A layer's weights by name, each read from the file when it is asked for."""

    def __init__(self, stored: Mapping[str, Weight], owner: str) -> None:
        self._stored = stored
        self._owner = owner

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name not in self._stored:
            raise KeyError(f"layer '{self._owner}' has no weight '{printable(name)}'; {nearest(name, self._stored)}")
        return self._stored[name].read()

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)

    def _ipython_key_completions_(self) -> list[str]:
        return list(self._stored)

    def __repr__(self) -> str:
        return "{" + ", ".join(f"{name!r}: {w.stored.dtype} {w.stored.shape}" for name, w in self._stored.items()) + "}"


@dataclass(repr=False)
class Layer(Shown, listing="network.listing", of="layer"):
    """Says what one layer is, what arrays it holds and what feeds it; ``print`` and a notebook show it as a table.

    Attributes:
        name: Its name; inside a nested model, the path to it joined with ``/``.
        kind: Its class, such as ``Conv2D``.
        config: Its configuration as the file gives it.
        inputs: The names of the tensors that feed its first call, in order.
        output_shape: Of its first call, in canonical axes ``(N, C, *spatial)``, None for a size the file leaves open;
            None as a whole where it could not be worked out.
        stored_output_shape: The same in the file's own axes.
        stored: Its arrays by name.
        module: Where its class lives, as the file says it; empty where it does not.
        entry: Its whole entry in the file's config, as a framework would read it back.
        path: Its name and those of the models that it is in, outermost first.
        container: Whether it is a nested model, whose layers are listed before it and whose output is theirs.
        source: Where its network came from.

    >>> import cnnlens.sample
    >>> layer = cnnlens.open(cnnlens.sample.MODEL)["conv2d"]
    >>> layer
    <Layer conv2d: Conv2D (N, 32, 28, 28)>
    >>> layer.config["kernel_size"], layer.parameters
    ([3, 3], 320)
    >>> layer.output_shape, layer.stored_output_shape
    ((None, 32, 28, 28), (None, 28, 28, 32))
    """

    name: str
    kind: str
    config: Mapping[str, Any]
    module: str = ""
    entry: Mapping[str, Any] = field(default_factory=lambda: dict[str, Any](), repr=False)
    container: bool = False
    path: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    output_shape: Shape | None = None
    stored_output_shape: Shape | None = None
    stored: Mapping[str, Weight] = field(default_factory=lambda: dict[str, Weight]())
    make_operation: Callable[[], Operation] | None = field(default=None, repr=False)
    unpack: Callable[[Mapping[str, NDArray[Any]]], dict[str, NDArray[Any]]] | None = field(default=None, repr=False)
    source: Source | None = field(default=None, repr=False, compare=False)

    def __repr__(self) -> str:
        return f"<Layer {printable(self.name)}: {self.shown_kind} {shown_shape(self.output_shape)}>"

    @property
    def shown_kind(self) -> str:
        """Give the kind with what it wraps, as listings and messages say it: ``TimeDistributed(Conv2D)``; a Lambda with
        the expression that was given for it."""
        if self.kind == "Expression" and "expression" in self.config:
            return f"Lambda: {printable(self.config['expression'], 40)}"
        kinds: list[str] = [self.kind]
        if self.kind == "TFOpLambda" and isinstance(self.config.get("function"), str):
            kinds.append(self.config["function"])
        if self.kind == "TensorFlowOpLayer":
            kinds += _OPERATION.findall(str(self.config.get("node_def")))[:1]
        config: Any = self.config
        while len(kinds) < _WRAPPED and isinstance(config, Mapping):
            inner: Any = cast("Mapping[str, Any]", config)
            inner = next((inner[key] for key in ("layer", "cell") if isinstance(inner.get(key), Mapping)), None)
            if inner is None or not isinstance(inner.get("class_name"), str):
                break
            kinds.append(inner["class_name"])
            config = inner.get("config")
        return printable("(".join(kinds) + ")" * (len(kinds) - 1), 60)

    @property
    def shown(self) -> str:
        """Give the name and the kind, as messages say them."""
        return f"layer '{printable(self.name)}' ({self.shown_kind})"

    @property
    def weights(self) -> Mapping[str, NDArray[Any]]:
        """Give its arrays by name, in the axes and dtype of the file, each read when it is asked for.

        >>> import cnnlens.sample
        >>> layer = cnnlens.open(cnnlens.sample.MODEL)["conv2d"]
        >>> layer.weights  # Keras' own axes (H, W, in, out)
        {'kernel': float32 (3, 3, 1, 32), 'bias': float32 (32,)}
        >>> layer.weights["bias"].shape
        (32,)
        """
        return _Arrays(self.stored, self.name)

    @property
    def kernels(self) -> dict[str, Kernel]:
        """Give its kernels by weight name (two for a separable convolution), in canonical axes."""
        return {name: weight.kernel() for name, weight in self.stored.items() if weight.is_kernel}

    @property
    def kernel(self) -> Kernel | None:
        """Give its first kernel in canonical axes ``(out, in / groups, *spatial)``, or None where it has none.

        >>> import cnnlens.sample
        >>> net = cnnlens.open(cnnlens.sample.MODEL)
        >>> net["conv2d"].kernel.axes, net["conv2d"].kernel.shape
        ('OIHW', (32, 1, 3, 3))
        >>> net["max_pooling2d"].kernel is None
        True
        """
        return next((weight.kernel() for weight in self.stored.values() if weight.is_kernel), None)

    def plot(self, weight: str | None = None, *, channel: int | str | None = None) -> Figure:
        """Draw its kernels as one grid, as ``cnnlens kernels`` does.

        Args:
            weight: Which of its arrays: ``pointwise_kernel``, ``backward_layer/kernel``, ``recurrent_kernel:forget``;
                None for its first kernel.
            channel: As ``cnnlens.plot.kernels`` takes it.

        Raises:
            CnnlensError: it has no such array, or no such input channel.

        >>> import cnnlens.sample
        >>> net = cnnlens.open(cnnlens.sample.MODEL)
        >>> cnnlens.plot.save(net["conv2d"].plot(), "kernels.png").name
        'kernels.png'
        """
        from cnnlens.plot import kernels

        return kernels(self, weight=weight, channel=channel)

    def computing_weights(self) -> dict[str, NDArray[Any]]:
        """Read its arrays as its arithmetic wants them: what a quantised file packed is unpacked to float32."""
        return self.unpack(self.weights) if self.unpack is not None else dict(self.weights)

    @property
    def parameters(self) -> int:
        """Count the numbers that it holds."""
        return sum(math.prod(w.stored.shape) for w in self.stored.values())

    @cached_property
    def operation(self) -> Operation:
        """Build what computes it in NumPy, from its configuration.

        Raises:
            UnsupportedLayerError: the reference cannot compute this layer; names it and says why.
        """
        shown = self.shown
        if self.make_operation is None:
            raise UnsupportedLayerError("the file says nothing of its use", shown)
        try:
            return self.make_operation()
        except UnsupportedLayerError as error:
            raise error.of(shown) from None
        except CONFIG_ERRORS as error:
            raise UnsupportedLayerError(f"its config cannot be understood ({printable(error, 200)})", shown) from error


@dataclass(frozen=True, repr=False)
class Call:
    """Says where in the graph a layer is used, and on which tensors; a shared layer has several calls.

    Attributes:
        name: The layer's name; ``:1``, ``:2`` … after it from the second call on.
        layer: The layer that is used.
        args, kwargs: What it is called with, a ``Ref`` for each tensor.
        shapes: The shapes of its outputs in the file's own axes; None where not known.
        channel_axis: Where the channels of its outputs stand in the file's own axes: 1 or -1.
        masks: The masks that reach it beside its tensors, by the argument that takes them, where they change what it
            computes; a sentence in place of one that cannot be known.

    >>> import cnnlens.sample
    >>> net = cnnlens.open(cnnlens.sample.MODEL)
    >>> call = net.calls_by_name["conv2d"]
    >>> call, call.layer
    (<Call conv2d: Conv2D of input_layer>, <Layer conv2d: Conv2D (N, 32, 28, 28)>)
    >>> [ref.name for ref in call.refs]
    ['input_layer']
    >>> call.shapes  # in Keras' axes (N, H, W, C)
    ((None, 28, 28, 32),)
    """

    name: str
    layer: Layer
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    shapes: tuple[Shape | None, ...]
    channel_axis: int
    masks: Mapping[str, Any] = field(default_factory=lambda: dict[str, Any]())

    def __repr__(self) -> str:
        taken = ", ".join(printable(ref.name, 40) for ref in self.refs[:4]) + ", …" * (len(self.refs) > 4)
        return f"<Call {printable(self.name)}: {self.layer.shown_kind}{f' of {taken}' if taken else ''}>"

    @property
    def refs(self) -> tuple[Ref, ...]:
        """List the tensors that it takes, in order, and those that its masks are made of behind them."""
        return tuple(find_refs((self.args, dict(self.kwargs), dict(self.masks))))

    def as_taken(self, array: NDArray[Any]) -> NDArray[Any]:
        """Give an input's array of any type as the model takes it: booleans where it says so, which is another mask of
        attention than numbers are."""
        return array != 0 if self.layer.kind == "InputLayer" and self.layer.config.get("dtype") == "bool" else array

    def refuse_unknown(self) -> None:
        """Refuse what the reference cannot compute of the way in which the layer is called.

        Raises:
            UnsupportedLayerError: with the reason.
        """
        if self.kwargs.get("training"):
            raise UnsupportedLayerError(
                "it is called with training=True, and the reference computes inference alone", self.layer.shown
            )
        reason = next((mask for mask in self.masks.values() if isinstance(mask, str)), None)
        if reason is not None:
            raise UnsupportedLayerError(reason, self.layer.shown)

    @property
    def operand_kwargs(self) -> dict[str, Any]:
        """Give the keyword arguments that an operation computes with: all but those that say how it is called, and its
        masks as they were followed."""
        said = {name: value for name, value in self.kwargs.items() if name not in _NO_OPERANDS}
        return {**said, **self.masks}


def find_refs(structure: Any) -> Iterator[Ref]:
    """Find every ``Ref`` in nested lists, tuples and dicts, in order."""
    if isinstance(structure, Ref):
        yield structure
    elif isinstance(structure, Mask):
        yield from structure.tensors()
    elif isinstance(structure, (list, tuple)):
        for part in structure:  # pyright: ignore[reportUnknownVariableType]
            yield from find_refs(part)
    elif isinstance(structure, Mapping):
        for part in structure.values():  # pyright: ignore[reportUnknownVariableType]
            yield from find_refs(part)


def map_refs(structure: Any, change: Callable[[Ref], Any]) -> Any:
    """Rebuild ``structure`` with ``change(ref)`` in place of every ``Ref``; a mask of arrays becomes one."""
    if isinstance(structure, Ref):
        return change(structure)
    if isinstance(structure, Mask):
        return structure.of(change)
    if isinstance(structure, list):
        return [map_refs(part, change) for part in structure]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(structure, tuple):
        return tuple(map_refs(part, change) for part in structure)  # pyright: ignore[reportUnknownVariableType]
    if isinstance(structure, Mapping):
        return {name: map_refs(part, change) for name, part in structure.items()}  # pyright: ignore
    return structure


@dataclass(repr=False)
class Graph:
    """Holds a model's layers, what each holds, and which feeds which: all of a ``Network`` but running it.

    Attributes:
        name: The model's name.
        kind: Its class: ``Sequential``, ``Functional`` …
        source: The file it came from.
        layers: In topological order; the layers of a nested model stand before the model itself.
        calls: Every use of every layer, in topological order; empty where the file holds no graph.
        inputs: The network's inputs; ``outputs``: its outputs.
        notes: What the person should know about how the file was understood, a line each.
    """

    name: str
    kind: str
    source: Source
    layers: tuple[Layer, ...]
    calls: tuple[Call, ...] = ()
    inputs: tuple[Ref, ...] = ()
    outputs: tuple[Ref, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for layer in self.layers:  # so that a layer that is looked at alone can say whose it is
            layer.source = layer.source or self.source

    def needed(self, names: Iterable[str]) -> list[Call]:
        """List the calls that the calls named depend on, themselves among them, in the network's order."""
        found: set[str] = set()
        queue = list(names)
        while queue:
            name = queue.pop()
            if name not in found:
                found.add(name)
                queue.extend(ref.call for ref in self.calls_by_name[name].refs)
        return [call for call in self.calls if call.name in found]

    @cached_property
    def by_name(self) -> dict[str, Layer]:
        return {layer.name: layer for layer in self.layers}

    @cached_property
    def calls_by_name(self) -> dict[str, Call]:
        return {call.name: call for call in self.calls}

    @cached_property
    def _calls_by_layer(self) -> dict[str, list[Call]]:
        found: dict[str, list[Call]] = {}
        for call in self.calls:
            found.setdefault(call.layer.name, []).append(call)
        return found

    def calls_of(self, layer: Layer) -> list[Call]:
        """List the uses of a layer, in the network's order; none where there is no graph."""
        return self._calls_by_layer.get(layer.name, [])

    @property
    def layers_of_calls(self) -> tuple[Layer, ...]:
        """List every layer that is called, implicit input layers included; the listed ones where there is no graph."""
        return tuple({call.layer.name: call.layer for call in self.calls}.values()) or self.layers

    @cached_property
    def tensors(self) -> dict[str, Ref]:
        """Give every tensor by the name under which its feature map is given."""
        refs = (Ref(call.name, index) for call in self.calls for index in range(len(call.shapes)))
        return {ref.name: ref for ref in refs}

    def batch_axis(self, ref: Ref) -> int | None:
        """Find the axis along which a tensor has an entry for each input, or several; None where it has no such axis.

        >>> import cnnlens.sample
        >>> network = cnnlens.open(cnnlens.sample.MODEL)
        >>> network.batch_axis(network.outputs[0])
        0
        """
        shape = self.shape(ref)
        if shape is None:
            return 0
        batches = [given[0] for one in self.inputs if (given := self.shape(one))]
        # A recurrent layer's states are (layers, N, C): the one open size is the batch where all inputs lead with it.
        alone = shape.count(None) == 1 and set(batches) == {None}
        leads = bool(shape) and (shape[0] is None or shape[0] in batches)
        axis = 0 if leads else shape.index(None) if alone else None
        call = self.calls_by_name[ref.call]
        if call.layer.kind.lower() not in _RESHAPES or not call.refs or axis is None:
            return axis
        # (C, N, H) read as (C * N, H) has the batch inside of its rows, and not one row or several for each input.
        return axis if axis == self.batch_axis(call.refs[0]) else None

    def __getitem__(self, wanted: str | int) -> Layer:
        """Find a layer by its name or its index; negative ones count from the end.

        Raises:
            CnnlensError: there is none; names the nearest.

        >>> import cnnlens.sample
        >>> net = cnnlens.open(cnnlens.sample.MODEL)
        >>> net["conv2d"], net[-1]
        (<Layer conv2d: Conv2D (N, 32, 28, 28)>, <Layer dense_1: Dense (N, 10)>)
        >>> net[8]
        Traceback (most recent call last):
            ...
        cnnlens.errors.CnnlensError: ...fashion_mnist_cnn.keras: there is no layer 8; the model has 8, numbered 0 to 7
        """
        if isinstance(wanted, str):
            if wanted in self.by_name:
                return self.by_name[wanted]
            raise CnnlensError(
                f"{printable(self.source.path, 300)}: no layer is named '{printable(wanted)}'; "
                f"{nearest(wanted, self.by_name)}"
            )
        if -len(self.layers) <= wanted < len(self.layers):
            return self.layers[wanted]
        raise CnnlensError(
            f"{printable(self.source.path, 300)}: there is no layer {wanted}; "
            f"the model has {len(self.layers)}, numbered 0 to {len(self.layers) - 1}"
        )

    def __repr__(self) -> str:
        what = f"{printable(self.kind)} '{printable(self.name)}'"
        return f"<Network {what}: {len(self.layers)} layers, {self.parameters:,} parameters>"

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers)

    def __contains__(self, wanted: object) -> bool:
        return wanted in self.by_name if isinstance(wanted, str) else any(layer is wanted for layer in self.layers)

    def _ipython_key_completions_(self) -> list[str]:
        return list(self.by_name)

    @property
    def shown(self) -> str:
        """Give the name of its file, as lines that speak of several models say it."""
        return printable(Path(self.source.path).name)

    @property
    def parameters(self) -> int:
        """Count the numbers that it holds; those of a shared layer, or of an array that two layers share, once."""
        arrays = {id(weight.stored): weight.stored for layer in self.layers for weight in layer.stored.values()}
        return sum(math.prod(array.shape) for array in arrays.values())

    @property
    def also(self) -> tuple[Extra, ...]:
        """List what its file holds beside it, as far as that is looked at: an optimizer, other weights, metadata.

        >>> import cnnlens.sample
        >>> cnnlens.open(cnnlens.sample.MODEL).also
        ()
        """
        return getattr(self.source, "also", ())

    @property
    def input_shapes(self) -> dict[str, Shape | None]:
        """Give each input's shape by name, in canonical axes ``(N, C, *spatial)``; None is a size left open."""
        return {ref.name: self.canonical_shape(ref) for ref in self.inputs}

    def shape(self, ref: Ref) -> Shape | None:
        """Give a tensor's shape in the file's own axes, or None where it is not known."""
        shapes = self.calls_by_name[ref.call].shapes
        return shapes[ref.index] if ref.index < len(shapes) else None

    def own_axes(self, ref: Ref, array: NDArray[Any]) -> NDArray[Any]:
        """View an array for an input in the file's own axes.

        Canonical axes come first; one example may come without its batch, and one channel without its axis.

        Raises:
            CnnlensError: it fits in no way.
        """
        stored, canonical = self.shape(ref), self.canonical_shape(ref)
        if stored is None or canonical is None:
            return array
        moved = len(stored) > 2 and self.calls_by_name[ref.call].channel_axis != 1
        for candidate in (array, *((array[:, None],) if array.ndim else ()), array[None]):
            if fits(candidate.shape, canonical):
                return np.moveaxis(candidate, 1, -1) if moved else candidate
            if fits(candidate.shape, stored):
                return candidate
        if fits((*array.shape, 1), stored):
            return array[..., None]
        raise CnnlensError(
            f"input '{printable(ref.name)}': {shown_shape(canonical)} was expected, {array.shape} came; give arrays of "
            "the model's size (images are resized when they are given as files or as whole numbers)"
        )

    def canonical_shape(self, ref: Ref) -> Shape | None:
        """Give a tensor's shape in canonical axes ``(N, C, *spatial)``, or None where it is not known."""
        shape = self.shape(ref)
        return None if shape is None else canonical_axes(shape, self.calls_by_name[ref.call].channel_axis)


def layers_asked(layers: Iterable[str | int] | None) -> list[str | int] | None:
    """List the names or indices of layers that a person gave; None where there were none.

    Raises:
        CnnlensError: it is one name, whose letters would be taken for names.
    """
    if isinstance(layers, str):
        raise CnnlensError(f"layers: a list of names was expected, as ['{printable(layers, 60)}'], and a text came")
    return None if layers is None else list(layers)


def without_graph(network: Graph) -> UnsupportedLayerError:
    """Make the error to raise where a network is to be run whose file holds weights alone; it says the way out."""
    way_out = (
        "open a .pt2 file (torch.export.save), or name what builds the module with --arch PACKAGE.MODULE:FACTORY"
        if network.source.framework == "torch"
        else "open the whole model (a .keras file, or .h5 saved with model.save)"
    )
    return UnsupportedLayerError(
        f"{printable(network.source.path, 300)}: it holds weights without a graph, so nothing can be run; {way_out}"
    )


def fits(shape: tuple[int, ...], wanted: Shape | None) -> bool:
    """Tell whether an array of ``shape`` is as wanted behind the batch, where a size that is left open takes any."""
    if wanted is None:
        return True
    return len(shape) == len(wanted) and all(w in (None, s) for s, w in zip(shape[1:], wanted[1:], strict=True))


def shown_shape(shape: Shape | None) -> str:
    """Write a shape as ``(N, 32, 28, 28)``: a size that the file leaves open is ``N`` in front and ``?`` elsewhere."""
    if shape is None:
        return "?"
    sizes = [
        "N" if not index and size is None else "?" if size is None else str(size) for index, size in enumerate(shape)
    ]
    return f"({', '.join(sizes)})"


def canonical_axes(shape: Shape, channel_axis: int) -> Shape:
    """Move the channel axis of ``shape`` to position 1; with fewer than three axes there is nothing to move."""
    if len(shape) < 3 or channel_axis == 1:
        return shape
    return (shape[0], shape[-1], *shape[1:-1])


def convolutions(network: Graph) -> list[Layer]:
    """List the layers whose kernels have spatial axes, in the network's order."""
    return [
        layer
        for layer in network.layers
        if any(one.is_kernel and len(one.canonical_shape) > 2 for one in layer.stored.values())
    ]
