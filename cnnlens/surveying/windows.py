"""What is tried of Keras' layers that look through a window: convolutions of every sort, poolings, padding, cropping.

What Keras refuses stands in each function as a choice that makes nothing; the sizes of arrays are Keras 3's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from cnnlens.surveying.setting import Called, Family, Operand, Options, Shape, as_json

__all__ = ["families", "image"]

# Odd, even and prime, no two axes alike; and one smaller than the larger kernels.
_SIZES: Mapping[int, tuple[Shape, ...]] = {
    1: ((9,), (8,), (2,)),
    2: ((7, 9), (6, 8), (2, 3)),
    3: ((5, 4, 7), (4, 6, 5), (2, 3, 2)),
}
_FORMATS = ("channels_last", "channels_first")
_LIKE_SIZES = frozenset({"size", "channels", "filters"})


def image(options: Options) -> Operand:
    """Make the input that ``size``, ``channels`` and ``data_format`` describe."""
    size, channels = options["size"], options["channels"]
    first = options.get("data_format") == "channels_first"
    return Operand((channels, *size) if first else (*size, channels), channel_axis=1 if first else -1)


def _each(rank: int, *values: int | tuple[int, ...]) -> list[Shape]:
    """Values for each axis, alike or not."""
    return [(one,) * rank if isinstance(one, int) else one[:rank] for one in values]


def _fits(options: Options, window: Shape) -> bool:
    """Whether a window without padding finds room."""
    return options["padding"] != "valid" or all(w <= n for w, n in zip(window, options["size"], strict=True))


def _reach(options: Options) -> Shape:
    return tuple((k - 1) * d + 1 for k, d in zip(options["kernel_size"], options["dilation_rate"], strict=True))


def _steps_once(options: Options) -> bool:
    """Keras takes strides or dilation, and not both."""
    return set(options["strides"]) == {1} or set(options["dilation_rate"]) == {1}


def _config(options: Options, *names: str, **more: Any) -> dict[str, Any]:
    return {**{one: as_json(options[one]) for one in names}, **more}


def _bias(options: Options, shape: Shape, **weights: Shape) -> dict[str, Shape]:
    return {**weights, "bias": shape} if options["use_bias"] else weights


_SHARED = ("kernel_size", "strides", "padding", "dilation_rate", "data_format", "activation", "use_bias")


def _of(rank: int, **more: Any) -> dict[str, Any]:
    """The options that all convolutions have, the plainest value of each first."""
    return {
        "size": _SIZES[rank],
        "channels": (4, 1, 6),
        "kernel_size": _each(rank, 1, 3, (4, 2, 3)),
        "strides": _each(rank, 1, 2, (1, 3, 2)),
        "padding": ("valid", "same", *(["causal"] if rank == 1 else [])),
        "dilation_rate": _each(rank, 1, 2),
        "data_format": _FORMATS,
        "activation": ("linear", "relu"),
        "use_bias": (False, True),
        **more,
    }


def _conv(rank: int) -> Family:
    def make(options: Options) -> Called | None:
        kernel, groups, filters = options["kernel_size"], options["groups"], options["filters"]
        channels = options["channels"]
        causal_first = options["padding"] == "causal" and options["data_format"] == "channels_first"
        if channels % groups or filters % groups or not _steps_once(options) or not _fits(options, _reach(options)):
            return None
        if causal_first:
            return None
        config = _config(options, *_SHARED, "groups", "filters")
        weights = _bias(options, (filters,), kernel=(*kernel, channels // groups, filters))
        return Called(f"Conv{rank}D", config, (image(options),), weights)

    return Family(f"Conv{rank}D", _of(rank, filters=(4, 1), groups=(1, 2)), make, _LIKE_SIZES)


def _transposed(rank: int) -> Family:
    def make(options: Options) -> Called | None:
        if not _steps_once(options) or (options["output_padding"] is not None and set(options["strides"]) == {1}):
            return None
        if options["output_padding"] is not None and min(options["strides"]) <= options["output_padding"]:
            return None
        config = _config(options, *_SHARED, "filters")
        if options["output_padding"] is not None:
            config["output_padding"] = [options["output_padding"]] * rank
        kernel = (*options["kernel_size"], options["filters"], options["channels"])
        weights = _bias(options, (options["filters"],), kernel=kernel)
        return Called(f"Conv{rank}DTranspose", config, (image(options),), weights)

    table = _of(rank, filters=(3, 1), output_padding=(None, 0, 1), padding=("valid", "same"))
    return Family(f"Conv{rank}DTranspose", table, make, _LIKE_SIZES)


def _depthwise(rank: int) -> Family:
    def make(options: Options) -> Called | None:
        if not _steps_once(options) or not _fits(options, _reach(options)):
            return None
        channels, times = options["channels"], options["depth_multiplier"]
        config = _config(options, *_SHARED, "depth_multiplier")
        weights = _bias(options, (channels * times,), kernel=(*options["kernel_size"], channels, times))
        return Called(f"DepthwiseConv{rank}D", config, (image(options),), weights)

    table = _of(rank, depth_multiplier=(1, 2), padding=("valid", "same"))
    return Family(f"DepthwiseConv{rank}D", table, make, _LIKE_SIZES)


def _separable(rank: int) -> Family:
    def make(options: Options) -> Called | None:
        if not _steps_once(options) or not _fits(options, _reach(options)):
            return None
        channels, times, filters = options["channels"], options["depth_multiplier"], options["filters"]
        config = _config(options, *_SHARED, "depth_multiplier", "filters")
        weights = {
            "depthwise_kernel": (*options["kernel_size"], channels, times),
            "pointwise_kernel": (*(1,) * rank, channels * times, filters),
        }
        return Called(f"SeparableConv{rank}D", config, (image(options),), _bias(options, (filters,), **weights))

    table = _of(rank, depth_multiplier=(1, 2), filters=(5, 1), padding=("valid", "same"))
    return Family(f"SeparableConv{rank}D", table, make, _LIKE_SIZES)


def _pooling(kind: str, rank: int) -> Family:
    def make(options: Options) -> Called | None:
        if not _fits(options, options["pool_size"]):
            return None
        config = _config(options, "pool_size", "strides", "padding", "data_format")
        return Called(f"{kind}{rank}D", config, (image(options),))

    table = {
        "size": _SIZES[rank], "channels": (3, 1), "pool_size": _each(rank, 2, 3, (4, 2, 3)),
        "strides": (None, *_each(rank, 1, 2, (1, 3, 2))), "padding": ("valid", "same"), "data_format": _FORMATS,
    }  # fmt: skip
    return Family(f"{kind}{rank}D", table, make, _LIKE_SIZES)


def _global(kind: str, rank: int) -> Family:
    def make(options: Options) -> Called | None:
        return Called(f"{kind}{rank}D", _config(options, "keepdims", "data_format"), (image(options),))

    table = {"size": _SIZES[rank], "channels": (3, 1), "keepdims": (False, True), "data_format": _FORMATS}
    return Family(f"{kind}{rank}D", table, make, _LIKE_SIZES)


def _adaptive(kind: str, rank: int) -> Family:
    def make(options: Options) -> Called | None:
        if any(wanted > n for wanted, n in zip(options["output_size"], options["size"], strict=True)):
            return None
        return Called(f"{kind}{rank}D", _config(options, "output_size", "data_format"), (image(options),))

    sizes = _each(rank, 1, 2, (3, 4, 2))
    table = {"size": _SIZES[rank], "channels": (3, 1), "output_size": sizes, "data_format": _FORMATS}
    return Family(f"{kind}{rank}D", table, make, _LIKE_SIZES)


def _edges(kind: str, setting: str, rank: int) -> Family:
    """Padding with zeros and cropping, before and behind each axis."""

    def make(options: Options) -> Called | None:
        edges = options[setting]
        if setting == "cropping" and any(sum(one) >= n for one, n in zip(edges, options["size"], strict=True)):
            return None
        config = {setting: [list(one) for one in edges] if rank > 1 else list(edges[0])}
        if rank > 1 or setting == "padding":
            config["data_format"] = options["data_format"]
        return Called(f"{kind}{rank}D", config, (image(options),))

    edges = [tuple([one] * rank) for one in ((1, 1), (0, 0))] + [((1, 2), (3, 0), (0, 1))[:rank]]
    formats = _FORMATS if rank > 1 or setting == "padding" else _FORMATS[:1]
    table = {"size": _SIZES[rank], "channels": (3, 1), setting: edges, "data_format": formats}
    return Family(f"{kind}{rank}D", table, make, _LIKE_SIZES)


def _up_sampling(rank: int) -> Family:
    def make(options: Options) -> Called | None:
        config = {"size": options["factor"][0] if rank == 1 else list(options["factor"])}
        if rank > 1:
            config["data_format"] = options["data_format"]
        if rank == 2:
            config["interpolation"] = options["interpolation"]
        return Called(f"UpSampling{rank}D", config, (image(options),))

    methods = ("nearest", "bilinear", "bicubic", "lanczos3", "lanczos5") if rank == 2 else ("nearest",)
    table = {
        "size": _SIZES[rank], "channels": (3, 1), "factor": _each(rank, 1, 2, 3, (2, 3, 1)),
        "interpolation": methods, "data_format": _FORMATS if rank > 1 else _FORMATS[:1],
    }  # fmt: skip
    return Family(f"UpSampling{rank}D", table, make, _LIKE_SIZES)


def _resizing() -> Family:
    def make(options: Options) -> Called | None:
        ratio = options["aspect"]
        config = _config(options, "interpolation", "antialias", "data_format")
        height, width = options["wanted"]
        more = {} if ratio is None else {f"{ratio}_to_aspect_ratio": True}
        return Called("Resizing", {"height": height, "width": width, **config, **more}, (image(options),))

    table = {
        "size": _SIZES[2], "channels": (3, 1), "wanted": ((8, 11), (4, 5), (7, 9), (1, 1)),
        "interpolation": ("nearest", "bilinear", "bicubic", "lanczos3", "lanczos5"), "antialias": (False, True),
        "aspect": (None, "crop", "pad"), "data_format": _FORMATS,
    }  # fmt: skip
    return Family("Resizing", table, make, _LIKE_SIZES)


def _center_crop() -> Family:
    def make(options: Options) -> Called | None:
        height, width = options["wanted"]
        config = _config(options, "data_format", height=height, width=width)
        return Called("CenterCrop", config, (image(options),))

    wanted = ((2, 3), (4, 5), (5, 4), (8, 3), (1, 1))
    return Family(
        "CenterCrop", {"size": _SIZES[2], "channels": (3, 1), "wanted": wanted, "data_format": _FORMATS}, make,
        _LIKE_SIZES,
    )  # fmt: skip


def families() -> Iterator[Family]:
    """Give the table of each kind that looks through a window."""
    by_rank: list[tuple[Callable[[int], Family], str]] = [
        (_conv, "123"), (_transposed, "123"), (_depthwise, "12"), (_separable, "12"), (_up_sampling, "123"),
    ]  # fmt: skip
    for made, ranks in by_rank:
        yield from (made(int(rank)) for rank in ranks)
    for rank in (1, 2, 3):
        for which in ("Max", "Average"):
            yield _pooling(f"{which}Pooling", rank)
            yield _global(f"Global{which}Pooling", rank)
            yield _adaptive(f"Adaptive{which}Pooling", rank)
        yield _edges("ZeroPadding", "padding", rank)
        yield _edges("Cropping", "cropping", rank)
    yield _resizing()
    yield _center_crop()
