"""Which axis is which, in every framework, and how to get from one to another.

The conventions are data (:mod:`cnnlens.layout.tables`); what is here looks a line up, derives the steps between two of
its patterns and runs them on an array, on a shape, or as a line of NumPy to show. Canonical order is PyTorch's wherever
PyTorch has the layer, with output channels first for every kernel: ``(out, in / groups, *spatial)``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from cnnlens.errors import CnnlensError
from cnnlens.layout.feature_maps import MAP_TRAPS, MAPS, channels_first, maps_of, other_maps
from cnnlens.layout.geometry import Geometry
from cnnlens.layout.lookup import CANONICAL, KINDS, NDIM, gates_as_called, look_up, pattern_of, resolve_kind
from cnnlens.layout.patterns import SPATIAL, Pattern, Step, apply, parse, rearrangement, solve, stepped_shape, steps
from cnnlens.layout.patterns import expression as _expression
from cnnlens.layout.tables import FRAMEWORKS, NORMAL_NAMES, ROWS, TRANSPARENT, Absent, Row
from cnnlens.layout.traps import TRAPS
from cnnlens.text import nearest, printable

__all__ = [
    "Convention", "Description", "arrange", "arranged_shape", "arranged_shapes", "canonical_axes", "canonical_shape",
    "canonicalise", "completed", "convention", "describe", "expression", "split_axes", "stored_axes",
]  # fmt: skip

_NOT_SAID = Geometry()


@dataclass(frozen=True)
class Convention:
    """Says how one framework stores one weight: its axes, and the way there from Keras and back.

    Args:
        kind: The Keras class name.
        weight: The Keras name of the weight.
        framework: One of :data:`FRAMEWORKS`, or ``"canonical"``.
        axes: The axes as letters (``HWIO``), or None where the framework has no such weight.
        flipped: The letters along which it is stored backwards (Flax's transposed convolutions).
        name: What the framework calls this weight; empty where it has no fixed name.
        gates: The order of the gates of a recurrent layer in the framework's own letters, such as ``ifco``; empty
            otherwise.
        from_keras, to_keras: The steps between Keras' array and this one.
        numpy: ``from_keras`` as one line of NumPy; letters stand for sizes.
        numpy_back: ``to_keras`` likewise.
        einops, einops_back: The same two lines as einops writes them.
        reason: Why there is no such weight, where ``axes`` is None.
        traps: What goes wrong around this kind of layer although the axes are right.

    >>> import cnnlens
    >>> keras = cnnlens.layout.convention("Conv2D", "kernel", "keras")
    >>> keras.axes, keras.name
    ('HWIO', 'kernel')
    """

    kind: str
    weight: str
    framework: str
    axes: str | None
    flipped: tuple[str, ...] = ()
    name: str = ""
    gates: str = ""
    from_keras: tuple[Step, ...] = ()
    to_keras: tuple[Step, ...] = ()
    numpy: str | None = None
    numpy_back: str | None = None
    einops: str | None = None
    einops_back: str | None = None
    reason: str | None = None
    traps: tuple[str, ...] = ()


@dataclass(frozen=True)
class Description:
    """Holds one line of the table in full: a weight of a kind, in canonical order and in every framework.

    ``condition`` says when this line holds ("behind a Flatten"); empty where it always does.

    >>> import cnnlens
    >>> line = cnnlens.layout.describe("Dense")[0]
    >>> line.weight, line.canonical
    ('kernel', 'OI')
    >>> [(one.framework, one.axes) for one in line.conventions][:2]
    [('keras', 'IO'), ('torch', 'OI')]
    """

    kind: str
    weight: str
    condition: str
    canonical: str
    conventions: tuple[Convention, ...]
    traps: tuple[str, ...]


def _plan(
    kind: str, weight: str, geometry: Geometry, source: str, target: str, shape: Sequence[int]
) -> tuple[tuple[Step, ...], dict[str, int]]:
    """The steps from ``source`` to ``target`` and the sizes they need, for an array of ``shape``."""
    row, spatial = look_up(kind, weight, geometry, source, len(shape))
    try:
        before, after = (pattern_of(row, each, spatial, geometry.groups) for each in (source, target))
        known = {**geometry.known(row.hints, spatial), **row.fixed}
        if before.gates[0]:
            known["Q"] = len(before.gates[1])
        return steps(before, after), solve(before, after, shape, known)
    except CnnlensError as error:
        lacks = f" ({target} has {row.lacks[target]})" if target in row.lacks else ""
        what = f"{printable(kind)} {printable(weight)} from {source} to {target}"
        raise CnnlensError(f"{what}: {error}{lacks}") from None


def canonicalise(
    kind: str, weight: str, stored: NDArray[Any], geometry: Geometry = _NOT_SAID, framework: str = "keras"
) -> NDArray[Any]:
    """Turn an array as a framework stores it into canonical axes.

    Args:
        kind: Keras class name of the layer; an unknown kind's arrays pass unchanged.
        weight: Keras name of the weight (``kernel``, ``depthwise_kernel``, ``gamma`` ...); unknown ones pass unchanged.
        stored: The array as ``framework`` stores it, any dtype.
        geometry: What the shape does not say; needed for weights behind a Flatten and for merged axes.
        framework: Who stored it.

    Returns:
        The same numbers in canonical order, same dtype: ``(out, in / groups, *spatial)`` for a kernel, ``(out, in)``
        for a Dense, where NumPy can a view of ``stored``.

    Raises:
        CnnlensError: The framework has no such weight, or the shape does not fit the kind or the geometry.

    >>> import cnnlens
    >>> import numpy as np
    >>> stored = np.zeros((3, 5, 4, 8), np.float32)  # Keras: (H, W, in, out)
    >>> cnnlens.layout.canonicalise("Conv2D", "kernel", stored).shape  # (out, in, H, W)
    (8, 4, 3, 5)
    >>> cnnlens.layout.canonicalise("Conv2D", "kernel", stored[0])
    Traceback (most recent call last):
        ...
    cnnlens.errors.CnnlensError: Conv2D kernel from keras to canonical: has 3 axes, (5, 4, 8), where HWIO has 4
    """
    todo, sizes = _plan(kind, weight, geometry, framework, CANONICAL, stored.shape)
    return _applied(todo, stored, sizes, kind, weight)


def arrange(
    kind: str, weight: str, canonical: NDArray[Any], framework: str, geometry: Geometry = _NOT_SAID
) -> NDArray[Any]:
    """Turn a canonical array into the axes in which ``framework`` stores it; the inverse of :func:`canonicalise`.

    Same dtype, and a view of ``canonical`` where NumPy can make one. The geometry must say
    what the canonical shape does not: ``groups`` or ``depth_multiplier`` of a depthwise convolution, ``flatten``,
    ``heads`` and so on; :func:`completed` takes them from a stored shape.

    Raises:
        CnnlensError: The framework has no such weight, or the shape does not fit the kind or the geometry.

    >>> import cnnlens
    >>> import numpy as np
    >>> canonical = np.zeros((8, 4, 3, 5), np.float32)  # (out, in, H, W)
    >>> cnnlens.layout.arrange("Conv2D", "kernel", canonical, "keras").shape  # (H, W, in, out)
    (3, 5, 4, 8)
    >>> cnnlens.layout.arrange("Conv2D", "kernel", canonical[0], "keras")
    Traceback (most recent call last):
        ...
    cnnlens.errors.CnnlensError: Conv2D kernel from canonical to keras: has 3 axes, (4, 3, 5), where OIHW has 4
    """
    todo, sizes = _plan(kind, weight, geometry, CANONICAL, framework, canonical.shape)
    return _applied(todo, canonical, sizes, kind, weight)


def _applied(todo: Sequence[Step], array: NDArray[Any], sizes: dict[str, int], kind: str, weight: str) -> NDArray[Any]:
    try:
        return apply(todo, array, sizes)
    except CnnlensError as error:
        raise CnnlensError(f"{printable(kind)} {printable(weight)} {error}") from None


def canonical_shape(
    kind: str, weight: str, shape: Sequence[int], geometry: Geometry = _NOT_SAID, framework: str = "keras"
) -> tuple[int, ...]:
    """Give the shape that :func:`canonicalise` makes of a stored array of ``shape``, without the array.

    >>> import cnnlens
    >>> cnnlens.layout.canonical_shape("Conv2D", "kernel", (3, 5, 4, 8))
    (8, 4, 3, 5)
    >>> cnnlens.layout.canonical_shape("DepthwiseConv2D", "kernel", (3, 5, 4, 2))
    (8, 1, 3, 5)
    """
    todo, sizes = _plan(kind, weight, geometry, framework, CANONICAL, shape)
    return stepped_shape(todo, shape, sizes)


def arranged_shape(
    kind: str, weight: str, canonical_shape: Sequence[int], framework: str, geometry: Geometry = _NOT_SAID
) -> tuple[int, ...]:
    """Give the shape that :func:`arrange` makes of a canonical array of ``canonical_shape``, without the array.

    >>> import cnnlens
    >>> cnnlens.layout.arranged_shape("Conv2D", "kernel", (8, 4, 3, 5), "tflite")
    (8, 3, 5, 4)
    """
    todo, sizes = _plan(kind, weight, geometry, CANONICAL, framework, canonical_shape)
    return stepped_shape(todo, canonical_shape, sizes)


def arranged_shapes(
    kind: str, weight: str, canonical_shape: Sequence[int], geometry: Geometry = _NOT_SAID
) -> dict[str, tuple[int, ...] | None]:
    """Give the shape in each of :data:`FRAMEWORKS`; None where one has no such weight or cannot express this one.

    >>> import cnnlens
    >>> for framework, shape in cnnlens.layout.arranged_shapes("Conv2D", "kernel", (8, 4, 3, 5)).items():
    ...     print(framework, shape)
    keras (3, 5, 4, 8)
    torch (8, 4, 3, 5)
    flax (3, 5, 4, 8)
    onnx (8, 4, 3, 5)
    tflite (8, 3, 5, 4)
    """
    shapes: dict[str, tuple[int, ...] | None] = {}
    for framework in FRAMEWORKS:
        try:
            shapes[framework] = arranged_shape(kind, weight, canonical_shape, framework, geometry)
        except CnnlensError:
            shapes[framework] = None
    return shapes


def completed(
    kind: str, weight: str, shape: Sequence[int], geometry: Geometry = _NOT_SAID, framework: str = "keras"
) -> Geometry:
    """Add to the geometry what a stored shape says and a canonical one does not, so that the way back is certain.

    Keras' depthwise ``(H, W, C, M)`` gives groups = C and the depth multiplier, an attention kernel its heads, an
    EinsumDense its shape.

    >>> import cnnlens
    >>> cnnlens.layout.completed("DepthwiseConv2D", "kernel", (3, 5, 4, 2)).depth_multiplier
    2
    """
    row, spatial = look_up(kind, weight, geometry, framework, len(shape))
    stored = row.stored(framework)
    if isinstance(stored, Absent) or len(parse(stored, spatial).axes) != len(shape):
        return geometry
    axes = parse(stored, spatial).axes
    sizes = {axis[0]: int(size) for axis, size in zip(axes, shape, strict=True) if len(axis) == 1}
    found: dict[str, Any] = {}
    for letters, name in row.hints:
        wanted = letters.replace("*", spatial)
        if name == "flatten" or not all(letter in sizes for letter in wanted):
            continue
        values = tuple(sizes[letter] for letter in wanted)
        found[name] = values if name in ("kernel_shape", "positions", "kernel_size") else values[0]
    return replace(geometry, **found) if found else geometry


def canonical_axes(kind: str, weight: str = "kernel", geometry: Geometry = _NOT_SAID, rank: int | None = None) -> str:
    """Give the letters of the canonical array, such as ``OIHW``; by position (``ab``) for an unknown kind.

    >>> import cnnlens
    >>> cnnlens.layout.canonical_axes("Conv2D"), cnnlens.layout.canonical_axes("Dense")
    ('OIHW', 'OI')
    """
    row, spatial = look_up(kind, weight, geometry, CANONICAL, rank)
    return str(pattern_of(row, CANONICAL, spatial, geometry.groups))


def stored_axes(
    kind: str, weight: str = "kernel", framework: str = "keras", geometry: Geometry = _NOT_SAID, rank: int | None = None
) -> str:
    """Give the letters of the array as ``framework`` stores it, such as ``HWIO``; ``rank`` is its number of axes.

    Raises:
        CnnlensError: The framework has no such weight.

    >>> import cnnlens
    >>> for framework in ("keras", "torch"):
    ...     print(framework, cnnlens.layout.stored_axes("Conv2D", framework=framework))
    keras HWIO
    torch OIHW
    """
    row, spatial = look_up(kind, weight, geometry, framework, rank)
    return str(pattern_of(row, framework, spatial, geometry.groups))


def split_axes(letters: str) -> tuple[str, ...]:
    """Split letters axis by axis: ``(CM)1HW`` is ``("(CM)", "1", "H", "W")``.

    >>> import cnnlens
    >>> cnnlens.layout.split_axes("(CM)1HW")
    ('(CM)', '1', 'H', 'W')
    """
    return tuple(re.findall(r"\(.*?\)|.", letters))


def convention(
    kind: str, weight: str = "kernel", framework: str = "keras", ndim: int | None = None, geometry: Geometry = _NOT_SAID
) -> Convention:
    """Look up how ``framework`` stores a weight: axes, steps from and to Keras, the NumPy line, traps.

    Args:
        kind: Keras class name.
        weight: Keras name of the weight.
        framework: One of :data:`FRAMEWORKS`, or ``"canonical"``.
        ndim: Number of axes of the weight as Keras stores it, where the kind does not say it (a PReLU's, a layer
            norm's).
        geometry: As for :func:`canonicalise`; ``flatten`` chooses the line for weights behind a Flatten.

    Raises:
        CnnlensError: No such framework.

    >>> import cnnlens
    >>> torch = cnnlens.layout.convention("Conv2D", "kernel", "torch")
    >>> torch.axes, torch.name
    ('OIHW', 'weight')
    >>> torch.numpy  # from Keras' array to this one
    'kernel.transpose(3, 2, 0, 1)'
    >>> torch.numpy_back
    'kernel.transpose(2, 3, 1, 0)'
    >>> cnnlens.layout.convention("Conv2D", "kernel", "caffe")
    Traceback (most recent call last):
        ...
    cnnlens.errors.CnnlensError: no framework 'caffe': there are 'keras', 'torch', 'flax', 'onnx', 'tflite'
    """
    row, spatial = look_up(kind, weight, geometry, framework if ndim is None else "keras", ndim)
    return _convention(row, resolve_kind(kind), weight, framework, spatial, geometry.groups)


def _convention(row: Row, kind: str, weight: str, framework: str, spatial: str, groups: int) -> Convention:
    stored = row.stored(framework)
    traps = TRAPS.get(kind, ())
    if isinstance(stored, Absent):
        return Convention(kind, weight, framework, None, reason=f"{framework} has {stored.reason}", traps=traps)
    pattern, keras = (pattern_of(row, each, spatial, groups) for each in (framework, "keras"))
    short = weight.rpartition("/")[2]
    name = (
        weight if framework == "keras" else row.names.get(framework) or NORMAL_NAMES.get(short, {}).get(framework, "")
    )
    return convention_between(kind, weight, framework, keras, pattern, short, name, traps)


def convention_between(
    kind: str,
    weight: str,
    framework: str,
    keras: Pattern,
    pattern: Pattern,
    variable: str,
    name: str,
    traps: tuple[str, ...],
) -> Convention:
    """Make the convention of a framework that stores as ``pattern`` what Keras stores as ``keras``."""
    there, back = steps(keras, pattern), steps(pattern, keras)
    return Convention(
        kind, weight, framework, str(pattern),
        flipped=tuple(letter for letter in pattern.letters if letter in pattern.flipped),
        name=name,
        gates=gates_as_called(framework, pattern.gates[1]),
        from_keras=there,
        to_keras=back,
        numpy=_expression(there, variable),
        numpy_back=_expression(back, variable),
        einops=rearrangement(keras, pattern, variable),
        einops_back=rearrangement(pattern, keras, variable),
        traps=traps,
    )  # fmt: skip


def expression(
    kind: str,
    weight: str,
    source: str,
    target: str,
    geometry: Geometry = _NOT_SAID,
    shape: Sequence[int] | None = None,
    name: str | None = None,
) -> str:
    """Write the line of NumPy that turns the weight as ``source`` stores it into what ``target`` stores.

    Args:
        kind, weight: Keras class name of the layer and Keras name of the weight.
        source, target: Frameworks, or ``"canonical"``.
        shape: The shape in ``source``: reshapes then have numbers; without it they have letters (``C*M``).
        name: The variable; the weight's own name if not given.

    Raises:
        CnnlensError: One of the two has no such weight, or the shape does not fit.

    >>> import cnnlens
    >>> cnnlens.layout.expression("Conv2D", "kernel", "keras", "torch")
    'kernel.transpose(3, 2, 0, 1)'
    >>> cnnlens.layout.expression("DepthwiseConv2D", "kernel", "keras", "torch", shape=(3, 5, 4, 2))
    'kernel.transpose(2, 3, 0, 1).reshape(8, 1, 3, 5)'
    """
    variable = name or weight.rpartition("/")[2]
    if shape is not None:
        todo, sizes = _plan(kind, weight, geometry, source, target, shape)
        return _expression(todo, variable, sizes)
    row, spatial = look_up(kind, weight, geometry, source, None)
    before, after = (pattern_of(row, each, spatial, geometry.groups) for each in (source, target))
    return _expression(steps(before, after), variable)


def describe(kind: str) -> tuple[Description, ...]:
    """List every line of the table for ``kind``, weights behind a Flatten last; or of feature maps, such as ``NHWC``.

    Raises:
        CnnlensError: No such kind; the message names the nearest, or says that it is a transparent wrapper.

    >>> import cnnlens
    >>> [(line.weight, line.canonical, line.condition) for line in cnnlens.layout.describe("Dense")]
    [('kernel', 'OI', ''), ('bias', 'O', ''), ('kernel', 'O(CHW)', 'behind a Flatten')]
    >>> cnnlens.layout.describe("Conv2")
    Traceback (most recent call last):
        ...
    cnnlens.errors.CnnlensError: no layout for kind 'Conv2': did you mean 'Conv2D' or 'Conv3D' or 'Conv1D'?
    """
    kind = resolve_kind(kind)
    if kind in MAPS:
        return (_maps_described(kind),)
    if kind in TRANSPARENT:
        raise CnnlensError(
            f"{kind} has no layout of its own: the layer that it wraps is stored as that layer alone would be"
        )
    if kind not in KINDS:
        raise CnnlensError(f"no layout for kind '{printable(kind)}': {nearest(kind, KINDS)}")
    found: list[Description] = []
    rows = sorted((row for row in ROWS if kind in row.kinds), key=lambda row: row.flat)
    for row in rows:
        named = NDIM.search(kind)
        spatial = SPATIAL[int(named[1]) if named else 2]
        for weight in row.weights:
            each = tuple(_convention(row, kind, weight, framework, spatial, 1) for framework in FRAMEWORKS)
            canonical = str(pattern_of(row, CANONICAL, spatial))
            condition = "behind a Flatten" if row.flat else ""
            if row.reset_after is not None:
                condition = f"reset_after={row.reset_after}"
            found.append(Description(kind, weight, condition, canonical, each, TRAPS.get(kind, ())))
    return tuple(found)


def _maps_described(layout: str) -> Description:
    """A layout of feature maps as a line of the table."""
    canonical = layout if channels_first(layout) else other_maps(layout)
    keras = parse(maps_of("keras", layout))
    conventions = tuple(
        convention_between(
            layout, "maps", each, keras, parse(maps_of(each, layout)), "maps",
            "data_format='channels_last'" if each == "keras" else "", MAP_TRAPS,
        )
        for each in FRAMEWORKS
    )  # fmt: skip
    return Description(layout, "feature maps", "", canonical, conventions, MAP_TRAPS)
