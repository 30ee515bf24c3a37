"""What is tried of the functions of ``keras.ops`` that stand between layers, those that no layer computes as well."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cnnlens.kinds import KINDS, OPERATIONS, Kind
from cnnlens.reference.bare.table import BINARY, UNARY
from cnnlens.surveying.layers import VECTORS
from cnnlens.surveying.setting import Called, Family, Operand, Options, Shape, as_json, each

__all__ = ["families"]

_SIZES = frozenset({"shape"})
_MAPS: tuple[Shape, ...] = ((6, 5, 4), (1, 3), (3, 1, 7))
_VALUES: Mapping[str, Sequence[Any]] = {
    "negative_slope": (0.2, 1.5), "alpha": (1.0, 0.4), "approximate": (True, False), "axis": (-1, 1), "b": (4, 0),
    "threshold": (0.5, 0.0), "default_value": (0.0, 2.0),
}  # fmt: skip
_REDUCTIONS = "Mean Sum Max Min Prod Var Std Any All Amax Amin Logsumexp".split()
_MODULES = {
    "Add",
    "Subtract",
    "Multiply",
    "Maximum",
    "Minimum",
    "Concatenate",
    "Reshape",
    "Softmax",
}  # layers are swept


def _op(kind: str, table: Mapping[str, Sequence[Any]], operands: int = 1, **more: Any) -> Family:
    """An operation whose options other than ``shape`` are its settings.

    Args: ``listed``, ``extra``: as ``Called`` has them; ``below``: as ``Operand`` has it; ``valid``: whether it takes a
        choice; ``fixed``: more settings.
    """
    listed, extra, below = more.pop("listed", False), more.pop("extra", ()), more.pop("below", 0)
    valid = more.pop("valid", _has_axis)
    fixed: Mapping[str, Any] = more.pop("fixed", {})
    home = KINDS[kind].home

    def make(options: Options) -> Called | None:
        if not valid(options):
            return None
        config = {name: as_json(v) for name, v in options.items() if name != "shape"}
        inputs = (Operand(options["shape"], below),) * operands
        return Called(kind, {**fixed, **config}, inputs, {}, f"keras.src.ops.{home}", listed, extra)

    return Family(kind, table, make, _SIZES)


def _has_axis(options: Options) -> bool:
    """Whether the axes that are named are there, and none of them is the batch."""
    rank = len(options["shape"]) + 1
    for name in ("axis", "axis1", "axis2", "source", "destination"):
        axes = options.get(name)
        for axis in () if axes is None else each(axes):
            if not -rank < axis < rank or axis == 0:
                return False
    return True


def _single(row: Kind) -> Family | None:
    """A function of single numbers, of two, or an activation with its settings."""
    if row.name in UNARY:
        return _op(row.name, {"shape": VECTORS})
    if row.name in BINARY or row.name == "DivideNoNan":
        return _of_two(row)
    if row.activation:
        settings = [*(row.settings or dict.fromkeys(setting for _, setting, _ in row.arguments))]
        settings = [name for name in settings if name in _VALUES and row.home == "nn"]
        shapes = ((6, 4), (2, 2, 8)) if row.name == "Glu" else VECTORS
        return _op(row.name, {"shape": shapes, **{name: _VALUES[name] for name in settings}})
    return None


def _of_two(row: Kind) -> Family:
    def make(options: Options) -> Called | None:
        shape = options["shape"]
        module = f"keras.src.ops.{row.home}"
        if options["second"] == "number":
            return Called(row.name, {}, (Operand(shape),), {}, module, extra=(2.5,))
        other = shape if options["second"] == "same" else (*(1,) * (len(shape) - 1), shape[-1])
        return Called(row.name, {}, (Operand(shape), Operand(other)), {}, module)

    second = ("same", "last") if row.name.startswith("Logical") else ("same", "last", "number")
    return Family(row.name, {"shape": VECTORS, "second": second}, make, _SIZES)


def _clip(options: Options) -> bool:
    return options["x_min"] <= options["x_max"]


def _pool(kind: str) -> Family:
    def make(options: Options) -> Called | None:
        window, shape = options["pool_size"], options["shape"]
        if options["padding"] == "valid" and any(w > n for w, n in zip(window, shape[:-1], strict=True)):
            return None
        strides = list(window) if options["strides"] is None else [options["strides"]] * 2
        config = {
            "pool_size": list(window),
            "strides": strides,
            "padding": options["padding"],
            "data_format": "channels_last",
        }
        return Called(kind, config, (Operand(shape),), {}, "keras.src.ops.nn")

    table = {"shape": ((6, 8, 3), (7, 5, 1), (2, 3, 2)), "pool_size": ((2, 2), (3, 2), (5, 3)), "strides": (None, 1, 2),
             "padding": ("valid", "same")}  # fmt: skip
    return Family(kind, table, make, _SIZES)


def _adaptive(kind: str) -> Family:
    sizes = ((1, 1), (2, 3), (4, 5))
    return _op(kind, {"shape": ((6, 8, 3), (7, 5, 1)), "output_size": sizes}, fixed={"data_format": "channels_last"})


def _others() -> Iterator[Family]:
    several = (-1, 1, (1, 2), 2)
    for kind in _REDUCTIONS:
        yield _op(kind, {"shape": _MAPS, "axis": several, "keepdims": (False, True)})
    for kind in ("Argmax", "Argmin"):
        yield _op(kind, {"shape": _MAPS, "axis": (-1, 1, 2), "keepdims": (False, True)})
    yield _op("Norm", {"shape": _MAPS, "ord": (None, 1, 2), "axis": (-1, 1), "keepdims": (False, True)})
    yield _op("Normalize", {"shape": _MAPS, "axis": (-1, 1), "order": (2, 1), "epsilon": (1e-12, 1e-3)})
    yield _op("Cumsum", {"shape": _MAPS, "axis": (-1, 1)})
    yield _op("Round", {"shape": VECTORS, "decimals": (0, 1)})
    yield _op("Clip", {"shape": VECTORS, "x_min": (-0.5, 0.1), "x_max": (0.9, 0.1)}, valid=_clip)
    yield _op("Cast", {"shape": VECTORS, "dtype": ("float32", "bool")})  # whole numbers of NaN are whatever comes
    yield _op("Flip", {"shape": _MAPS, "axis": (-1, 1)})
    yield _op("Roll", {"shape": _MAPS, "shift": (1, -2), "axis": (-1, 1)})
    yield _op("Transpose", {"shape": ((6, 5, 4),), "axes": ((0, 3, 1, 2), (0, 2, 1, 3), (0, 1, 2, 3))})
    yield _op("Moveaxis", {"shape": ((6, 5, 4),), "source": (1, -1), "destination": (3, 1, 2)})
    yield _op("Swapaxes", {"shape": ((6, 5, 4),), "axis1": (1, -1), "axis2": (2, 3)})
    yield _op("ExpandDims", {"shape": _MAPS, "axis": (1, -1, 2)})
    yield _op("Squeeze", {"shape": ((1, 5), (1, 3, 4)), "axis": (1,)})
    yield _op("Stack", {"shape": _MAPS, "axis": (1, -1)}, 2, listed=True)
    yield _op("Repeat", {"shape": _MAPS, "repeats": (1, 3), "axis": (-1, 1)})
    yield _op("Tile", {"shape": ((6, 5),), "repeats": ((1, 1, 1), (1, 2, 3))})
    yield _op("Take", {"shape": _MAPS, "axis": (-1, 1)}, extra=(0,))
    yield _op("Pad", {"shape": ((6, 5, 4),), "mode": ("constant", "reflect", "symmetric")},
              fixed={"pad_width": [[0, 0], [1, 2], [3, 0], [0, 1]]})  # fmt: skip
    yield _op("OneHot", {"shape": ((5,), (1,)), "num_classes": (4, 9), "axis": (-1, 1)}, below=4)
    yield _op("Matmul", {"shape": ((5, 5), (3, 4, 4), (1, 1))}, 2)
    yield _op("Einsum", {"shape": ((6, 5, 4), (1, 1, 1))}, 2, fixed={"subscripts": "nhwc,nhwc->nhc"})
    yield _op("Where", {"shape": VECTORS}, 3)
    yield _op("Resize", {"shape": ((6, 8, 3), (7, 5, 1), (2, 3, 2)), "size": ((8, 11), (4, 3)),
                         "interpolation": ("nearest", "bilinear", "bicubic"), "antialias": (False, True)},
              fixed={"data_format": "channels_last"})  # fmt: skip
    for kind in ("DepthToSpace", "SpaceToDepth"):
        yield _op(kind, {"shape": ((4, 6, 8), (2, 2, 4)), "block_size": (2,)}, fixed={"data_format": "channels_last"})
    yield from map(_pool, ("MaxPool", "AveragePool"))
    yield from map(_adaptive, ("AdaptiveMaxPool", "AdaptiveAveragePool"))


def families() -> Iterator[Family]:
    """Give the tables, in the order of the kinds."""
    hand = {family.kind: family for family in _others()}
    for row in OPERATIONS:
        if row.name in hand:
            yield hand[row.name]
        elif row.home and row.name not in _MODULES and (made := _single(row)) is not None:
            yield made
