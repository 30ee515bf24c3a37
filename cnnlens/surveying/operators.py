"""What is tried of PyTorch's operators, which the backend ``pytorch`` runs: the kinds as ATen has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from cnnlens.kinds import LAYERS, OPERATIONS
from cnnlens.reference.bare.table import BINARY, UNARY
from cnnlens.surveying.layers import VECTORS
from cnnlens.surveying.setting import Called, Family, Operand, Options, Shape, as_json, each

__all__ = ["families"]

_SIZES = frozenset({"shape", "size", "channels", "filters"})
_MAPS: tuple[Shape, ...] = ((6, 5, 4), (1, 3), (3, 1, 7))
_BATCHED = {1: ((9,), (8,), (2,)), 2: ((7, 9), (6, 8), (2, 3)), 3: ((5, 4, 7), (2, 3, 2))}
_PLAIN = ("shape", "units")  # options that are no arguments
_NO_ATEN = ("softsign", "tanhshrink")  # which torch itself writes with other operators
Weights = Callable[[Options], Mapping[str, Shape] | None]


def _op(
    kind: str,
    target: str,
    table: Mapping[str, Sequence[Any]],
    first: str | Sequence[str] = "self",
    weights: Weights | None = None,
    valid: Callable[[Options], bool] | None = None,
    **fixed: Any,
) -> Family:
    """An operator whose options, ``shape`` aside, are its arguments.

    Args:
        first: The name of the argument that is the input, or of several of one shape.
        fixed: More arguments.
    """
    names = [first] if isinstance(first, str) else list(first)

    def make(options: Options) -> Called | None:
        arrays: Mapping[str, Shape] | None = {} if weights is None else weights(options)
        if arrays is None or (valid is not None and not valid(options)):
            return None
        given = {name: as_json(v) for name, v in options.items() if name not in _PLAIN}
        tensors: dict[str, Any] = {name: {"tensor": place} for place, name in enumerate(names)}
        operands = (Operand(options["shape"], channel_axis=1),) * len(names)
        return Called(target, {**tensors, **fixed, **given}, operands, arrays, "torch")

    return Family(kind, table, make, _SIZES, "torch")


def _axes_there(options: Options) -> bool:
    axes = each(options["dim"])
    rank = len(options["shape"]) + 1
    return all(-rank < axis < rank and axis != 0 for axis in axes) and len({one % rank for one in axes}) == len(axes)


_VALUES: Mapping[str, Sequence[Any]] = {
    "negative_slope": (0.01, 1.5), "alpha": (1.0, 0.4), "lambd": (0.5, 0.0), "min_val": (-1.0, 0.1),
    "threshold": (0.0, 0.3),
}  # fmt: skip


def _single() -> Iterator[Family]:
    """Functions of single numbers, and of two."""
    of_two = {name: f"{name}.default" for name in "maximum minimum fmax fmin atan2 hypot logaddexp logical_and "
              "logical_or "
              "logical_xor floor_divide".split()}  # fmt: skip
    for row in OPERATIONS:
        name = row.aten[0] if row.aten else ""
        if not name or name in _NO_ATEN:
            continue
        if row.activation and name not in ("softmax", "log_softmax", "glu", "gelu"):
            asked = {one: _VALUES[one] for one, _, _ in row.arguments if one in _VALUES}
            fixed: dict[str, Any] = {"value": 2.0} if name == "threshold" else {}
            yield _op(row.name, f"{name}.default", {"shape": VECTORS, **asked}, **fixed)
        elif row.name in UNARY and name not in ("clone",):
            yield _op(row.name, f"{name}.default", {"shape": VECTORS})
        elif row.name in BINARY:
            target = of_two.get(name, f"{name}.Tensor_Tensor" if name == "pow" else f"{name}.Tensor")
            yield _op(row.name, target, {"shape": VECTORS}, ("self", "exponent" if name == "pow" else "other"))
    yield _op("Gelu", "gelu.default", {"shape": VECTORS, "approximate": ("none", "tanh")})
    for kind, name in (("Add", "add"), ("Subtract", "sub"), ("Multiply", "mul")):
        yield _op(kind, f"{name}.Tensor", {"shape": VECTORS}, ("self", "other"))
    for kind in ("Maximum", "Minimum"):
        yield _op(kind, f"{kind.lower()}.default", {"shape": VECTORS}, ("self", "other"))
    yield _op("Lerp", "lerp.Scalar", {"shape": VECTORS, "weight": (0.3, 1.0)}, ("self", "end"))
    yield _op("Addcmul", "addcmul.default", {"shape": VECTORS, "value": (1.0, 0.7)}, ("self", "tensor1", "tensor2"))
    yield _op("Clip", "clamp.default", {"shape": VECTORS, "min": (-0.5, 0.1), "max": (0.9, 0.1)})


def _reductions() -> Iterator[Family]:
    several = (-1, 1, (1, 2))
    for kind, target in (
        ("Mean", "mean.dim"), ("Sum", "sum.dim_IntList"), ("Amax", "amax.default"), ("Amin", "amin.default"),
        ("Logsumexp", "logsumexp.default"),
    ):  # fmt: skip
        yield _op(kind, target, {"shape": _MAPS, "dim": list(map(each, several)),
                                 "keepdim": (False, True)}, valid=_axes_there)  # fmt: skip
    for kind in ("Var", "Std"):
        table = {
            "shape": ((6, 5, 4), (3, 2, 7)),
            "dim": ((1,), (-1,), (1, 2)),
            "correction": (1, 0),
            "keepdim": (False, True),
        }
        yield _op(kind, f"{kind.lower()}.correction", table, valid=_axes_there)
    for kind in ("Argmax", "Argmin"):
        yield _op(kind, f"{kind.lower()}.default", {"shape": _MAPS, "dim": (-1, 1), "keepdim": (False, True)})
    yield _op("Prod", "prod.dim_int", {"shape": _MAPS, "dim": (-1, 1), "keepdim": (False, True)})
    for kind in ("Cumsum", "Cumprod"):
        yield _op(kind, f"{kind.lower()}.default", {"shape": _MAPS, "dim": (-1, 1)})
    norms = {"shape": _MAPS, "ord": (2, 1, float("inf"), 3.0), "dim": ((-1,), (1,)), "keepdim": (False, True)}
    yield _op("Norm", "linalg_vector_norm.default", norms)
    for kind, name in (("Softmax", "softmax"), ("LogSoftmax", "log_softmax")):
        yield _op(kind, f"{name}.int", {"shape": _MAPS, "dim": (-1, 1)})
    yield _op("Glu", "glu.default", {"shape": ((6, 4), (2, 2, 8)), "dim": (-1, 1)})
    yield _op("CosineSimilarity", "cosine_similarity.default", {"shape": _MAPS, "dim": (1, -1), "eps": (1e-8, 1e-3)},
              ("x1", "x2"))  # fmt: skip


def _image(options: Options) -> Operand:
    return Operand((options["channels"], *options["size"]), channel_axis=1)


def _windowed(
    kind: str, target: str, table: Mapping[str, Sequence[Any]], first: str,
    made: Callable[[Options], Mapping[str, Any] | None],
    weights: Weights | None = None,
) -> Family:  # fmt: skip
    def make(options: Options) -> Called | None:
        arguments = made(options)
        arrays: Mapping[str, Shape] | None = {} if weights is None else weights(options)
        if arguments is None or arrays is None:
            return None
        return Called(target, {first: {"tensor": 0}, **arguments}, (_image(options),), arrays, "torch")

    return Family(kind, table, make, _SIZES, "torch")


def _lists(options: Options, *names: str) -> dict[str, Any]:
    return {name: as_json(options[name]) for name in names}


def _each(rank: int, *values: int) -> list[Shape]:
    return [(one,) * rank for one in values]


def _long_enough(options: Options, dilation: str | None = "dilation") -> bool:
    spread = options[dilation] if dilation else (1,) * len(options["size"])
    reach = [(k - 1) * d + 1 for k, d in zip(options["kernel_size"], spread, strict=True)]
    padded = [n + 2 * p for n, p in zip(options["size"], options["padding"], strict=True)]
    return all(r <= n for r, n in zip(reach, padded, strict=True))


def _convolutions(rank: int) -> Iterator[Family]:
    shared = {
        "size": _BATCHED[rank], "channels": (4, 1), "filters": (4, 1), "kernel_size": _each(rank, 1, 3, 2),
        "stride": _each(rank, 1, 2, 3), "padding": _each(rank, 0, 1, 2), "dilation": _each(rank, 1, 2),
        "bias": (False, True),
    }  # fmt: skip

    def bias(options: Options) -> dict[str, Shape]:
        return {"bias": (options["filters"],)} if options["bias"] else {}

    def conv(options: Options) -> dict[str, Any] | None:
        groups = options["groups"]
        if options["channels"] % groups or options["filters"] % groups or not _long_enough(options):
            return None
        return _lists(options, "stride", "padding", "dilation", "groups")

    yield _windowed(
        f"Conv{rank}D", f"conv{rank}d.default", {**shared, "groups": (1, 2, 4)}, "input", conv,
        lambda o: {"weight": (o["filters"], o["channels"] // o["groups"], *o["kernel_size"]), **bias(o)},
    )  # fmt: skip

    def transposed(options: Options) -> dict[str, Any] | None:
        groups, more = options["groups"], options["output_padding"]
        if options["channels"] % groups or options["filters"] % groups:
            return None
        if any(m and m >= max(s, d) for m, s, d in zip(more, options["stride"], options["dilation"], strict=True)):
            return None
        sizes = zip(options["size"], options["stride"], options["padding"], options["kernel_size"], options["dilation"],
                    more, strict=True)  # fmt: skip
        if any((n - 1) * s - 2 * p + d * (k - 1) + m + 1 < 1 for n, s, p, k, d, m in sizes):
            return None
        return _lists(options, "stride", "padding", "output_padding", "groups", "dilation")

    yield _windowed(
        f"Conv{rank}DTranspose", f"conv_transpose{rank}d.{'default' if rank == 1 else 'input'}",
        {**shared, "groups": (1, 2), "output_padding": _each(rank, 0, 1)}, "input", transposed,
        lambda o: {"weight": (o["channels"], o["filters"] // o["groups"], *o["kernel_size"]),
                   **({"bias": (o["filters"],)} if o["bias"] else {})},
    )  # fmt: skip


def _poolings(rank: int) -> Iterator[Family]:
    shared = {
        "size": _BATCHED[rank], "channels": (3, 1), "kernel_size": _each(rank, 2, 3, 1), "stride": _each(rank, 2, 1, 3),
        "padding": _each(rank, 0, 1), "ceil_mode": (False, True),
    }  # fmt: skip

    def pooled(*names: str, dilated: bool) -> Callable[[Options], dict[str, Any] | None]:
        def made(options: Options) -> dict[str, Any] | None:
            if any(2 * p > k for p, k in zip(options["padding"], options["kernel_size"], strict=True)):
                return None
            if not _long_enough(options, "dilation" if dilated else None):
                return None
            return _lists(options, "kernel_size", "stride", "padding", "ceil_mode", *names)

        return made

    yield _windowed(f"MaxPooling{rank}D", f"max_pool{rank}d.default", {**shared, "dilation": _each(rank, 1, 2)}, "self",
                    pooled("dilation", dilated=True))  # fmt: skip
    counted = {**shared, "count_include_pad": (True, False)}
    yield _windowed(f"AveragePooling{rank}D", f"avg_pool{rank}d.default", counted, "self",
                    pooled("count_include_pad", dilated=False))  # fmt: skip
    adaptive = {"size": _BATCHED[rank], "channels": (3, 1), "output_size": _each(rank, 1, 2, 5)}
    for which, name in (("Max", "max"), ("Average", "avg")):
        yield _windowed(f"Adaptive{which}Pooling{rank}D", f"adaptive_{name}_pool{rank}d.default", adaptive, "self",
                        lambda o: _lists(o, "output_size"))  # fmt: skip
    methods = {1: ("nearest", "linear"), 2: ("nearest", "bilinear", "bicubic"), 3: ("nearest", "trilinear")}[rank]
    for method in methods:
        table: dict[str, Sequence[Any]] = {
            "size": _BATCHED[rank],
            "channels": (3, 1),
            "output_size": _each(rank, 4, 1, 13),
            "mode": (method,),
        }
        names = ["output_size"]
        if method != "nearest":
            table["align_corners"], names = (False, True), [*names, "align_corners"]
        yield _windowed(f"UpSampling{rank}D", f"upsample_{method}{rank}d.vec", table, "input",
                        lambda o, names=names: {**_lists(o, *names), "scale_factors": None})  # fmt: skip


def _normalizations() -> Iterator[Family]:
    epsilon = (1e-5, 1e-2)
    shapes: tuple[Shape, ...] = ((6, 5, 4), (4, 3), (2, 1, 7))
    off: dict[str, Any] = {"cudnn_enabled": False}

    def channels(*roles: str) -> Weights:
        return lambda o: dict.fromkeys(roles, (o["shape"][0],))

    yield _op("BatchNormalization", "batch_norm.default", {"shape": shapes, "eps": epsilon}, "input",
              channels("weight", "bias", "running_mean", "running_var"), training=False, momentum=0.1,
              **off)  # fmt: skip
    yield _op("GroupNormalization", "group_norm.default", {"shape": shapes, "num_groups": (1, 2), "eps": epsilon},
              "input", channels("weight", "bias"), lambda o: o["shape"][0] % o["num_groups"] == 0,
              **off)  # fmt: skip

    def layer(*roles: str) -> Weights:
        def found(options: Options) -> Mapping[str, Shape] | None:
            over: Shape = options["normalized_shape"]
            return dict.fromkeys(roles, over) if options["shape"][-len(over) :] == over else None

        return found

    over = {"shape": ((6, 5, 4), (1, 4), (3, 1, 7)), "normalized_shape": ((4,), (5, 4), (7,), (1, 7)), "eps": epsilon}
    yield _op("LayerNormalization", "layer_norm.default", over, "input", layer("weight", "bias"), cudnn_enable=False)
    yield _op("RMSNormalization", "rms_norm.default", over, "input", layer("weight"))
    yield _op("InstanceNorm", "instance_norm.default", {"shape": ((6, 5, 4), (2, 3, 7)), "eps": epsilon}, "input",
              channels("weight", "bias"), running_mean=None, running_var=None, use_input_stats=True, momentum=0.1,
              **off)  # fmt: skip
    yield _op("PReLU", "prelu.default", {"shape": shapes}, "self", channels("weight"))
    yield _op("Dense", "linear.default", {"shape": ((5,), (6, 5), (130,)), "units": (3, 33)}, "input",
              lambda o: {"weight": (o["units"], o["shape"][-1]), "bias": (o["units"],)})  # fmt: skip
    yield _op("Matmul", "matmul.default", {"shape": ((5, 5), (3, 4, 4), (1, 1))}, ("self", "other"))
    yield _op("ScaledDotProductAttention", "scaled_dot_product_attention.default",
              {"shape": ((2, 6, 4), (1, 1, 3)), "is_causal": (False, True), "scale": (None, 0.3)},
              ("query", "key", "value"))  # fmt: skip


def _moves() -> Iterator[Family]:
    shape: tuple[Shape, ...] = ((6, 5, 4), (4, 3, 2))
    yield _op("Flatten", "flatten.using_ints", {"shape": shape, "start_dim": (1, 2), "end_dim": (-1, 2)},
              valid=lambda o: o["start_dim"] == 1 or o["end_dim"] == -1)  # fmt: skip
    yield _op("Transpose", "permute.default", {"shape": shape, "dims": ((0, 3, 1, 2), (0, 2, 1, 3))})
    yield _op("Flip", "flip.default", {"shape": shape, "dims": ((1,), (2, 3))})
    yield _op("Roll", "roll.default", {"shape": shape, "shifts": ((1,), (-2,)), "dims": ((1,), (-1,))})
    yield _op("Tile", "repeat.default", {"shape": shape, "repeats": ((1, 1, 1, 1), (1, 2, 3, 1))})
    yield _op("Pad", "pad.default", {"shape": shape, "pad": ((1, 1, 1, 1), (1, 0, 0, 1)), "mode": ("constant",
                                                                                          "reflect",
                                                                                          "replicate")})  # fmt: skip
    yield _op("ExpandDims", "unsqueeze.default", {"shape": shape, "dim": (1, -1)})
    yield _op("Moveaxis", "movedim.int", {"shape": shape, "source": (1,), "destination": (3, 2)})
    yield _op("Reshape", "pixel_shuffle.default", {"shape": ((8, 3, 5), (4, 1, 2)), "upscale_factor": (2, 1)})
    yield _op("Permute", "channel_shuffle.default", {"shape": ((6, 5, 4), (4, 3, 2)), "groups": (2, 1)})
    yield _op("Concatenate", "cat.default", {"shape": shape, "dim": (1, -1)}, ("first", "second"))
    yield _op("Stack", "stack.default", {"shape": shape, "dim": (1, -1)}, ("first", "second"))


def _listed(family: Family) -> Family:
    """The same with its operands as the list that the operator takes."""

    def make(options: Options) -> Called | None:
        made = family.make(options)
        if made is None:
            return None
        config = {name: value for name, value in made.config.items() if name not in ("first", "second")}
        tensors = [{"tensor": 0}, {"tensor": 1}]
        return Called(made.name, {"tensors": tensors, **config}, made.operands, {}, "torch")

    return Family(family.kind, family.options, make, family.sizes, "torch")


def families() -> Iterator[Family]:
    """Give the tables."""
    for rank in (1, 2, 3):
        yield from _convolutions(rank)
        yield from _poolings(rank)
    yield from _normalizations()
    yield from _single()
    yield from _reductions()
    for family in _moves():
        yield _listed(family) if family.kind in ("Concatenate", "Stack") else family
    for name in ("Dropout", "AlphaDropout"):
        row = next(one for one in LAYERS if one.name == name)
        yield _op(name, f"{row.aten[0]}.default", {"shape": ((6, 5),)}, "input", p=0.5, train=False)
