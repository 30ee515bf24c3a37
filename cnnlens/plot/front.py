"""What Python draws by: whatever a person has, an array, a Kernel, a Layer or a Network, as the picture of it.

The command line's options are the arguments here, under the same names, and its titles are these pictures' titles.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, Unpack, cast, overload

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from cnnlens.errors import CnnlensError
from cnnlens.network.graph import Layer, convolutions
from cnnlens.network.kernel import Kernel
from cnnlens.network.network import Network
from cnnlens.plot import activations, beside, distribution, of_models, weights
from cnnlens.plot.distribution import Density
from cnnlens.plot.of_models import drawn
from cnnlens.text import printable

__all__ = ["Look", "Size", "feature_maps", "histogram", "image", "kernel_and_map", "kernels", "typed"]

Size = int | tuple[int, int] | None

_OF_A_LAYER = "is for a layer, as net['conv2d']; an array is drawn as it is"
_OF_A_NETWORK = "is for a network, which is run; an array is drawn as it is"


class Look(TypedDict, total=False):
    """Holds what every picture takes: its texts, and how large it is."""

    title: str | None
    subtitle: str | None
    size: Size
    dpi: float | None


class _Coloured(Look, total=False):
    vmin: float | None
    vmax: float | None
    cmap: str | Colormap | None


class _Tiles(_Coloured, total=False):
    channels: Sequence[int] | str | None
    limits: str | None
    columns: int | None


class _Kernels(_Tiles, total=False):
    weight: str | None
    channel: int | str | None
    untrained: bool
    seed: int | None


class _Histogram(Look, total=False):
    weight: str | None
    untrained: bool
    seed: int | None
    density: Density | None
    bins: int | None
    counts: bool


class _Maps(_Tiles, total=False):
    layer: str | int | None
    axes: str | None
    index: int | None
    scale: str
    labels: Sequence[str] | None


class _Beside(Look, total=False):
    layer: str | int | None
    kernel: int | None
    index: int
    scale: str
    cmap: str | Colormap | None
    bias: float | None
    activation: str | None


class _Image(_Coloured, total=False):
    index: int


@overload
def kernels(source: ArrayLike | Kernel | Layer, *, ax: Axes, **options: Unpack[_Kernels]) -> Axes: ...
@overload
def kernels(source: ArrayLike | Kernel | Layer, *, ax: None = None, **options: Unpack[_Kernels]) -> Figure: ...
def kernels(
    source: ArrayLike | Kernel | Layer,
    *,
    weight: str | None = None,
    channel: int | str | None = None,
    channels: Sequence[int] | str | None = None,
    untrained: bool = False,
    seed: int | None = None,
    limits: str | None = None,
    vmin: float | None = None,
    vmax: float | None = None,
    cmap: str | Colormap | None = None,
    columns: int | None = None,
    title: str | None = None,
    subtitle: str | None = None,
    size: Size = None,
    dpi: float | None = None,
    ax: Axes | None = None,
) -> Figure | Axes:
    """Draw the kernels of one layer, red above zero and blue below, white at zero.

    Args:
        source: A layer, a ``Kernel``, or canonical weights, real numbers: ``(out, in / groups, *spatial)``, one to
            three spatial axes (one tile a kernel, for volumes its depth slices side by side; one-dimensional kernels
            as one row each), or ``(out, in)`` or ``(n,)`` (one cell a weight).
        weight: Which array of a layer: ``pointwise_kernel``, ``backward_layer/kernel``, ``recurrent_kernel:forget``;
            None takes its first kernel.
        channel: Which input channel: an index, ``"all"`` for a grid of output rows and input columns, ``"rgb"`` for
            three channels as one colour picture. None takes ``"rgb"`` where there are three and else channel 0, and
            draws kernels of one cell (1 x 1) as one matrix. Matrices and vectors are always drawn whole.
        channels: Which kernels (output channels), as numbers or as ``"0-15,20"``; None draws all.
        untrained: Of a layer, draw the same array as its initializer makes it, from ``seed`` (0).
        limits: ``"shared"``: full colour at the largest magnitude; ``"each"``: every kernel over its own. None: shared,
            but where the largest magnitude is more than 1.5 times the one that 99 of 100 weights do not exceed, full
            colour at that one: the weights beyond it carry a small triangle, and the colour bar ends in arrows.
        vmin, vmax: Weights that get the full colours; one alone gives the other with the other sign.
        cmap: A colour map of matplotlib's in the place of red and blue.
        columns: Tiles in a row; None chooses.
        title, subtitle: In the place of ours, which say layer and layout. They may come from a file: unsafe characters
            are escaped.
        size: Pixels of the whole picture: its width, to which it is scaled, or width and height, into which it is laid
            out.
        dpi: Dots per inch; without ``size`` the same picture in more pixels (150 is what it is laid out at).
        ax: Draw into the place of this axes, title and colour bar too, instead of into a new figure.

    Returns:
        The figure, with one image for the grid and one colour bar (none for RGB); or ``ax``, where that was given. A
        notebook shows a figure once, and ``matplotlib.pyplot.show()`` shows it where pyplot was imported before it
        was drawn.

    Raises:
        CnnlensError: No such channel, nothing to draw, no real numbers, too many tiles for one picture, or options that
            contradict each other.

    >>> import cnnlens.sample
    >>> net = cnnlens.open(cnnlens.sample.MODEL)
    >>> figure = cnnlens.plot.kernels(net["conv2d"], columns=16, vmin=-0.5, vmax=0.5)
    >>> cnnlens.plot.save(figure, "kernels.png").name
    'kernels.png'
    >>> figure = cnnlens.plot.kernels(net["conv2d"], untrained=True)
    >>> figure = cnnlens.plot.kernels(net["conv2d"].kernel.array[:8])
    >>> cnnlens.plot.kernels(net["conv2d"], channel=1)
    Traceback (most recent call last):
        ...
    cnnlens.errors.CnnlensError: there is no input channel 1; the layer has channel 0 only
    """
    look = {
        "channels": channels, "limits": limits, "vmin": vmin, "vmax": vmax, "cmap": cmap, "columns": columns,
        "title": title, "subtitle": subtitle, "size": size, "dpi": dpi, "ax": ax,
    }  # fmt: skip
    typed({**look, "seed": seed})
    if isinstance(source, Layer):
        options: dict[str, Any] = {"weight": weight, "channel": channel, "untrained": untrained, "seed": seed}
        return of_models.kernels(source, **options, look=look)[0]
    _unfit(_OF_A_LAYER, {"weight": weight, "untrained": untrained or None, "seed": seed})
    array, said = _array(source)
    return drawn(weights.kernels, said, look, array, channel=channel)


@overload
def histogram(
    source: ArrayLike | Mapping[str, ArrayLike] | Kernel | Layer | Network, *, ax: Axes, **options: Unpack[_Histogram]
) -> Axes: ...
@overload
def histogram(
    source: ArrayLike | Mapping[str, ArrayLike] | Kernel | Layer | Network,
    *,
    ax: None = None,
    **options: Unpack[_Histogram],
) -> Figure: ...
def histogram(
    source: ArrayLike | Mapping[str, ArrayLike] | Kernel | Layer | Network,
    *,
    weight: str | None = None,
    untrained: bool = False,
    seed: int | None = None,
    density: Density | None = None,
    bins: int | None = None,
    counts: bool = False,
    title: str | None = None,
    subtitle: str | None = None,
    size: Size = None,
    dpi: float | None = None,
    ax: Axes | None = None,
) -> Figure | Axes:
    """Draw how the values of one or more arrays are distributed, as densities (each area is 1) or as counts.

    Args:
        source: A layer, a ``Kernel``, a network (all its kernels on one page), weights of any shape, or several arrays
            by name, such as ``{"trained": a, "untrained": b}``.
        weight: Which array of a layer, as `kernels` takes it.
        untrained: Of a layer: beside it the same array as its initializer draws it, from ``seed`` (0), and the exact
            density.
        density: Of arrays: the exact distribution of the last one, drawn as a line: ``pdf``, ``support`` and ``name``.
        bins: So many for each array over its own range, as ``numpy.histogram`` makes them. None takes one width for
            all arrays, by the number of values (twice its cube root, 20 to 120 bins); where a density ends, as a
            uniform one does, bins end too.
        counts: How many values are in a bin, instead of the density.
        title, subtitle, size, dpi, ax: As in `kernels`.

    Returns:
        The figure, or ``ax``. Mean and standard deviation of each array stand in the legend.

    Raises:
        CnnlensError: No values, no finite values, no real numbers, or options that contradict each other.

    >>> import cnnlens.sample
    >>> net = cnnlens.open(cnnlens.sample.MODEL)
    >>> figure = cnnlens.plot.histogram(net["conv2d"], untrained=True)
    >>> figure = cnnlens.plot.histogram(net["conv2d"], bins=10, counts=True)  # as matplotlib's hist(kernel) draws it
    >>> cnnlens.plot.save(figure, "weights.png").name
    'weights.png'
    >>> cnnlens.plot.histogram([])
    Traceback (most recent call last):
        ...
    cnnlens.errors.CnnlensError: weights: the array of shape (0,) has no values to draw
    """
    look = {"title": title, "subtitle": subtitle, "size": size, "dpi": dpi, "ax": ax}
    typed({**look, "bins": bins, "seed": seed})
    if isinstance(source, Layer):
        if density is not None:
            raise CnnlensError("density is for arrays; a layer's own is drawn with untrained=True")
        options: dict[str, Any] = {"weight": weight, "untrained": untrained, "seed": seed}
        return of_models.histogram(source, **options, bins=bins, counts=counts, look=look)[0]
    _unfit(_OF_A_LAYER, {"weight": weight, "untrained": untrained or None, "seed": seed})
    if isinstance(source, Network):
        if counts or density is not None:
            raise CnnlensError("a page of all kernels has no scale for counts or a density; name one of its layers")
        return of_models.histograms(source, bins=bins, look=look)[0]
    if isinstance(source, Mapping):
        arrays, said = source, dict[str, Any]()
    else:
        arrays, said = _array(source)
    options = {"density": density, "bins": bins, "counts": counts}
    return drawn(distribution.histogram, said, look, arrays, **options)


@overload
def feature_maps(source: ArrayLike | Network, image: Any = None, *, ax: Axes, **options: Unpack[_Maps]) -> Axes: ...
@overload
def feature_maps(
    source: ArrayLike | Network, image: Any = None, *, ax: None = None, **options: Unpack[_Maps]
) -> Figure: ...
def feature_maps(
    source: ArrayLike | Network,
    image: Any = None,
    *,
    layer: str | int | None = None,
    axes: str | None = None,
    index: int | None = None,
    scale: str = "auto",
    channels: Sequence[int] | str | None = None,
    labels: Sequence[str] | None = None,
    limits: str | None = None,
    vmin: float | None = None,
    vmax: float | None = None,
    cmap: str | Colormap | None = None,
    columns: int | None = None,
    title: str | None = None,
    subtitle: str | None = None,
    size: Size = None,
    dpi: float | None = None,
    ax: Axes | None = None,
) -> Figure | Axes:
    """Draw the feature maps of one layer for one input: dark to bright, or blue and red where they have both signs.

    Args:
        source: Activations in canonical axes, real numbers, as ``Network.run`` and recordings give them: ``(N, C, H,
            W)``, ``(N, C, D, H, W)`` (at most eight depth slices side by side), ``(N, C)`` (a bar a channel); or of one
            example ``(C, H, W)``, ``(C,)``. Or a network, which is run on ``image``.
        image: Of a network: what ``images.load`` takes, or a mapping of such by input name.
        layer: Of a network: which layer, by name or index; None takes the first convolution.
        axes: What the axes of an array are, where that is not so: ``"CDHW"`` for the maps of one volume, ``"NCL"`` or
            ``"CL"`` for signals (a row a channel).
        index: Which example, or which image of ``image``; without it there must be one.
        scale: As ``images.load`` takes it.
        channels: Which channels, in this order and each once, as numbers or as ``"0-15,20"``; None draws all.
        labels: What the channels of a ``(C,)`` mean, such as the classes of a classifier; of more than 40 the 20
            largest are drawn.
        limits: ``"each"`` (as None): every map from its smallest to its largest value, which is written over it; maps
            with values below 0 over ± their largest magnitude, white at 0. ``"shared"``: one range for all, so that
            channels compare.
        vmin, vmax: Ends of the colours for all maps.
        cmap: A colour map of matplotlib's; None takes ``image.cmap`` of your rcParams, where you changed that, for maps
            without a sign.
        columns, title, subtitle, size, dpi, ax: As in `kernels`.

    Returns:
        The figure, with one image for the grid and one colour bar; or ``ax``.

    Raises:
        CnnlensError: No such channel, nothing to draw, no real numbers, axes that can be read in two ways, several
            examples and none is chosen, or too many tiles for one picture.

    >>> import cnnlens.sample
    >>> import numpy as np
    >>> net = cnnlens.open(cnnlens.sample.MODEL)
    >>> figure = cnnlens.plot.feature_maps(net, cnnlens.sample.IMAGES, layer="conv2d", index=9)
    >>> images = cnnlens.images.load(cnnlens.sample.IMAGES, shape=(1, 28, 28))
    >>> figure = cnnlens.plot.feature_maps(net.run(images.array)["conv2d"], index=9, channels="0-7")
    >>> len(figure.axes)  # the grid and its colour bar
    2
    >>> cnnlens.plot.feature_maps(np.zeros((10, 32, 28, 28)))
    Traceback (most recent call last):
        ...
    cnnlens.errors.CnnlensError: (10, 32, 28, 28) read as N, C, H, W: 10 examples, and one is drawn; name it with ...
    """
    look = {
        "channels": channels, "limits": limits, "vmin": vmin, "vmax": vmax, "cmap": cmap, "columns": columns,
        "title": title, "subtitle": subtitle, "size": size, "dpi": dpi, "ax": ax,
    }  # fmt: skip
    typed({**look, "index": index})
    if isinstance(source, Network):
        if axes is not None:
            raise CnnlensError("axes are those of an array; a network knows its own")
        return _run(source, image, layer, index or 0, scale, None, labels, look)
    _unfit(_OF_A_NETWORK, {"image": image, "layer": layer, "scale": None if scale == "auto" else scale})
    if isinstance(source, Mapping):
        name = printable(next(iter(cast("Mapping[str, Any]", source)), "conv2d"), 60)
        raise CnnlensError(f"feature maps: those of one layer are drawn, and this holds them by name; give ['{name}']")
    one, said = activations.one_example(source, axes, index)
    return drawn(activations.feature_maps, {"subtitle": said}, look, one, labels=labels)


@overload
def kernel_and_map(
    source: ArrayLike | Network,
    image: Any,
    feature_map: ArrayLike | None = None,
    *,
    ax: Axes,
    **options: Unpack[_Beside],
) -> Axes: ...
@overload
def kernel_and_map(
    source: ArrayLike | Network,
    image: Any,
    feature_map: ArrayLike | None = None,
    *,
    ax: None = None,
    **options: Unpack[_Beside],
) -> Figure: ...
def kernel_and_map(
    source: ArrayLike | Network,
    image: Any,
    feature_map: ArrayLike | None = None,
    *,
    layer: str | int | None = None,
    kernel: int | None = None,
    index: int = 0,
    scale: str = "auto",
    bias: float | None = None,
    activation: str | None = None,
    cmap: str | Colormap | None = None,
    title: str | None = None,
    subtitle: str | None = None,
    size: Size = None,
    dpi: float | None = None,
    ax: Axes | None = None,
) -> Figure | Axes:
    """Draw what goes in, the kernel that it meets, and the feature map that comes out, side by side.

    Args:
        source: A network, which is run on ``image``; or one kernel of a layer, ``(in, H, W)``.
        image: Of a network: what ``images.load`` takes. Else ``(C, H, W)``, what the layer saw: grey (C = 1), in colour
            (C = 3), each over its own range, or a grid; None leaves it out.
        feature_map: ``(H, W)``, what the kernel made of it.
        layer, kernel: Of a network: which layer (None takes the first convolution), and which of its kernels (0).
        index, scale: Of a network: as `feature_maps` takes them.
        bias, activation: Of arrays: what is added to the sum, and what it then passes; a network knows its own.
        cmap: Colours of the feature map.
        title, subtitle, size, dpi, ax: As in `kernels`.

    Returns:
        The figure: an axes a panel, with a colour bar under the kernel and under the map; or ``ax``. A small kernel has
        its numbers in its cells.

    Raises:
        CnnlensError: An array of another rank, nothing to draw, no real numbers, or the layer has no such kernel.

    >>> import cnnlens.sample
    >>> net = cnnlens.open(cnnlens.sample.MODEL)
    >>> figure = cnnlens.plot.kernel_and_map(net, cnnlens.sample.IMAGES, layer="conv2d", kernel=5)
    >>> image = cnnlens.images.load(cnnlens.sample.IMAGES, shape=(1, 28, 28), limit=1).array
    >>> maps = net.run(image, layers=["conv2d"])["conv2d"]
    >>> figure = cnnlens.plot.kernel_and_map(net["conv2d"].kernel.array[5], image[0], maps[0, 5])
    >>> cnnlens.plot.save(figure, "kernel-5.png").name
    'kernel-5.png'
    """
    look = {"cmap": cmap, "title": title, "subtitle": subtitle, "size": size, "dpi": dpi, "ax": ax}
    typed({**look, "kernel": kernel, "index": index, "bias": bias})
    if isinstance(source, Network):
        own = {"feature_map": feature_map, "bias": bias, "activation": activation}
        _unfit("is for arrays; a network computes its own", own)
        return _run(source, image, layer, index, scale, kernel or 0, None, look)
    _unfit(_OF_A_NETWORK, {"layer": layer, "kernel": kernel, "scale": None if scale == "auto" else scale})
    if feature_map is None:
        raise CnnlensError("a kernel is drawn beside the map that it made; give it as the third argument")
    return drawn(beside.kernel_and_map, {}, look, source, image, feature_map, bias=bias, activation=activation)


@overload
def image(source: Any, *, ax: Axes, **options: Unpack[_Image]) -> Axes: ...
@overload
def image(source: Any, *, ax: None = None, **options: Unpack[_Image]) -> Figure: ...
def image(
    source: Any,
    *,
    index: int = 0,
    vmin: float | None = None,
    vmax: float | None = None,
    cmap: str | Colormap | None = None,
    title: str | None = None,
    subtitle: str | None = None,
    size: Size = None,
    dpi: float | None = None,
    ax: Axes | None = None,
) -> Figure | Axes:
    """Draw one image as it is stored: grey, in colour, or a grid of its channels.

    Args:
        source: What ``images.load`` takes: PNG, JPEG, ``.npy``, ``.npz``, IDX, a folder, or an array ``(H, W)``, ``(N,
            H, W)``, ``(N, H, W, C)`` or ``(N, C, H, W)``.
        index: Which image, where there are several.
        vmin, vmax: Numbers that are black and white; None takes 0, or the smallest, and the largest.
        cmap: A colour map for images of one channel, such as ``"gray_r"``; None takes ``"gray"``.
        title, subtitle, size, dpi, ax: As in `kernels`.

    Returns:
        The figure, or ``ax``.

    Raises:
        CnnlensError: It cannot be read, is no picture, or there are not so many.

    >>> import cnnlens.sample
    >>> figure = cnnlens.plot.image(cnnlens.sample.IMAGES, index=9, cmap="gray_r")
    >>> cnnlens.plot.save(figure, "boot.png").name
    'boot.png'
    """
    look = {"vmin": vmin, "vmax": vmax, "cmap": cmap, "title": title, "subtitle": subtitle}
    typed({**look, "index": index, "size": size, "dpi": dpi, "ax": ax})
    return of_models.image(source, index=index, look={**look, "size": size, "dpi": dpi, "ax": ax})[0]


def _run(
    network: Network,
    image: Any,
    layer: str | int | None,
    index: int,
    scale: str,
    kernel: int | None,
    labels: Sequence[str] | None,
    look: Mapping[str, Any],
) -> Figure | Axes:
    if image is None:
        raise CnnlensError("a network makes feature maps of an image; give one as the second argument")
    found = convolutions(network) if layer is None else [network[layer]]
    if not found:
        raise CnnlensError("the network has no convolution; name a layer")
    options: dict[str, Any] = {"index": index, "scale": scale, "kernel": kernel, "labels": labels, "look": look}
    return of_models.feature_maps(network, found[:1], image, **options)[0][1]


def _array(source: object) -> tuple[Any, dict[str, Any]]:
    """The array of what is no layer, and its titles."""
    if isinstance(source, Kernel):
        stored = f"stored {source.layout}, " if source.layout else ""
        shown = f"{stored}drawn as {source.axes} {source.shape}"
        return source.array, {"title": f"{source.kind}: {source.weight}", "subtitle": shown}
    if isinstance(source, Network):
        raise CnnlensError("this is a network, and the kernels of one layer are drawn; name it as net['conv2d']")
    return source, {}


_WHOLE = ("columns", "bins", "index", "seed", "kernel")
_REAL = ("vmin", "vmax", "dpi", "bias")


def typed(options: Mapping[str, Any]) -> None:
    """Refuse options of a type that no picture can be drawn with, before anything is read or drawn."""
    for name, one in options.items():
        if one is None:
            continue
        if name in _WHOLE and not _is_whole(one):
            needed = "a whole number"
        elif name in _REAL and not _is_real(one):
            needed = "a number"
        elif name == "size" and not (_is_whole(one) or _is_pair(one)):
            needed = "a width in whole pixels, or a tuple of width and height"
        elif name == "cmap" and not isinstance(one, str | Colormap):
            needed = "the name of a colour map, or a Colormap"
        elif name == "ax" and not isinstance(one, Axes):
            needed = "an Axes of matplotlib's"
        else:
            continue
        raise CnnlensError(f"{name} must be {needed}, not {printable(repr(one), 60)}")


def _is_whole(value: Any) -> bool:
    try:
        operator.index(value)
    except TypeError:
        return False
    return not isinstance(value, bool | np.bool_)


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple) and len(pair := cast(tuple[Any, ...], value)) == 2 and all(map(_is_whole, pair))


def _is_real(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return not isinstance(value, bool | np.bool_ | str | bytes)


def _unfit(said: str, options: Mapping[str, Any]) -> None:
    """Refuse an option that is not for such a source."""
    name = next((name for name, one in options.items() if one is not None), None)
    if name is not None:
        raise CnnlensError(f"{name} {said}")
