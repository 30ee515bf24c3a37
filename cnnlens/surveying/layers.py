"""What is tried of Keras' other layers: products, normalisation, activations, merges, shapes, identities."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from cnnlens.kinds import ACTIVATIONS, LAYERS
from cnnlens.surveying.setting import Called, Family, Operand, Options, Shape, as_json, each

__all__ = ["VECTORS", "families", "plain"]

SIZES = frozenset({"shape", "units", "second"})

# Lengths below, at and beyond a vector register's, and its tail.
VECTORS: tuple[Shape, ...] = ((6, 5), (1,), (64,))
_MAPS: tuple[Shape, ...] = ((6, 5, 4), (1, 1, 6), (3, 2), (7, 2, 12))


def plain(kind: str, options: Mapping[str, Sequence[Any]], **more: Any) -> Family:
    """Make a layer of one input ``shape`` whose options are its settings, with ``weights`` of the options."""
    weights: Callable[[Options], Mapping[str, Shape] | None] = more.pop("weights", _none)
    below: int = more.pop("below", 0)
    module: str = more.pop("module", "keras.layers")
    fixed: Mapping[str, Any] = more.pop("fixed", {})
    named: tuple[str, ...] = more.pop("named", ())
    assert not more, more

    def make(options: Options) -> Called | None:
        arrays = weights(options)
        if arrays is None:
            return None
        config = {name: as_json(v) for name, v in options.items() if name not in ("shape", *named)}
        called = {name: options[name] for name in named if options[name] is not None}
        return Called(kind, {**fixed, **config}, (Operand(options["shape"], below),), arrays, module, named=called)

    return Family(kind, options, make, SIZES)


def _none(options: Options) -> dict[str, Shape]:
    return {}


def _axes(options: Options, name: str = "axis") -> list[int] | None:
    """The axes that are meant, the batch being 0; None where one is not there or stands twice."""
    axes = each(options[name])
    rank = len(options["shape"]) + 1
    found = [axis % rank for axis in axes if -rank <= axis < rank]
    return sorted(found) if len(set(found)) == len(axes) and 0 not in found else None


def _of_axes(options: Options, *roles: tuple[str, str]) -> dict[str, Shape] | None:
    """Arrays over the axes, each where its option says that it is there."""
    axes = _axes(options)
    if axes is None:
        return None
    shape = tuple(options["shape"][axis - 1] for axis in axes)
    return {role: shape for role, option in roles if not option or options[option]}


_AFFINE = (("gamma", "scale"), ("beta", "center"))
_BOTH: dict[str, Any] = {"scale": (False, True), "center": (False, True)}


def _affine(options: Options) -> dict[str, Shape] | None:
    return _of_axes(options, *_AFFINE)


def _embedding(options: Options) -> dict[str, Shape]:
    return {"embeddings": (9, options["output_dim"])}


def _batch_norm(options: Options) -> dict[str, Shape] | None:
    return _of_axes(options, *_AFFINE, ("moving_mean", ""), ("moving_variance", ""))


def _group_norm(options: Options) -> dict[str, Shape] | None:
    axes = _axes(options)
    if axes is None:
        return None
    channels = options["shape"][axes[0] - 1]
    if options["groups"] > 0 and channels % options["groups"]:
        return None
    return _of_axes(options, *_AFFINE)


def _rms(options: Options) -> dict[str, Shape] | None:
    """Keras spreads the scale over the last axes whatever ``axis`` says, and fails where that does not fit."""
    axes, rank = _axes(options), len(options["shape"])
    return (
        None
        if axes is None or axes != list(range(rank + 1 - len(axes), rank + 1))
        else _of_axes(options, ("scale", ""))
    )


def _normalization(options: Options) -> dict[str, Shape] | None:
    found = _of_axes(options, ("mean", ""), ("variance", ""))
    return None if found is None else {**found, "count": ()}


def _prelu(options: Options) -> dict[str, Shape] | None:
    shared = options["shared_axes"] or ()
    if any(axis > len(options["shape"]) for axis in shared):
        return None
    return {"alpha": tuple(1 if axis in shared else n for axis, n in enumerate(options["shape"], 1))}


def _only_valid_axes(options: Options) -> dict[str, Shape] | None:
    return None if _axes(options) is None else {}


def _normalizations() -> Iterator[Family]:
    axes = (-1, 1, 2)
    epsilon = (1e-3, 1e-6)
    yield plain("BatchNormalization", {"shape": _MAPS, "axis": axes, "epsilon": epsilon, **_BOTH}, weights=_batch_norm)
    several = (-1, 1, (1, 2), (1, 2, 3), (2, 3))
    yield plain(
        "LayerNormalization", {"shape": _MAPS, "axis": several, "epsilon": epsilon, **_BOTH},
        weights=_affine,
    )  # fmt: skip
    yield plain(
        "GroupNormalization", {"shape": _MAPS, "groups": (1, 2, -1), "axis": axes, "epsilon": epsilon, **_BOTH},
        weights=_group_norm,
    )  # fmt: skip
    yield plain("RMSNormalization", {"shape": _MAPS, "axis": (-1, (2, 3), (1, 2, 3)), "epsilon": epsilon}, weights=_rms)
    yield plain("UnitNormalization", {"shape": _MAPS, "axis": several}, weights=_only_valid_axes)
    yield plain(
        "Normalization", {"shape": _MAPS, "axis": (-1, 1, (1, 2)), "invert": (False, True)}, weights=_normalization
    )
    yield plain("Rescaling", {"shape": _MAPS, "scale": (0.5, 1 / 255, -3.0), "offset": (0.0, -0.5)})
    yield plain("PReLU", {"shape": _MAPS, "shared_axes": (None, (1,), (1, 2))}, weights=_prelu)


def _activations() -> Iterator[Family]:
    names = ("relu", "linear", *(one for one in ACTIVATIONS if one not in ("relu", "glu", "threshold")))
    yield plain("Activation", {"shape": VECTORS, "activation": names})
    yield plain(
        "ReLU", {"shape": VECTORS, "max_value": (None, 1.5), "negative_slope": (0.0, 0.2), "threshold": (0.0, 0.3)}
    )
    yield plain("LeakyReLU", {"shape": VECTORS, "negative_slope": (0.3, 0.05, 1.5)})
    yield plain("ELU", {"shape": VECTORS, "alpha": (1.0, 0.4)})
    yield plain("Softmax", {"shape": _MAPS, "axis": (-1, 1, (1, 2))}, weights=_only_valid_axes)


def _dense() -> Iterator[Family]:
    def dense(options: Options) -> dict[str, Shape]:
        kernel = {"kernel": (options["shape"][-1], options["units"])}
        return {**kernel, "bias": (options["units"],)} if options["use_bias"] else kernel

    table = {
        "shape": ((5,), (6, 5), (1,), (3, 4, 7), (130,)), "units": (3, 1, 33), "activation": ("linear", "relu"),
        "use_bias": (False, True),
    }  # fmt: skip
    yield plain("Dense", table, weights=dense)

    equations = (
        ("ab,bc->ac", 6, "c", (5,), (5, 6)), ("abc,cd->abd", (None, 7), "d", (4, 5), (5, 7)),
        ("abc,cde->abde", (None, 2, 7), "de", (4, 5), (5, 2, 7)), ("abc,bd->adc", (7, 5), "d", (4, 5), (4, 7)),
        ("abde,dec->abc", (None, 7), "c", (4, 2, 5), (2, 5, 7)), ("...x,xy->...y", 7, "y", (4, 5), (5, 7)),
        ("abcd,bcde->ae", 7, "e", (4, 2, 5), (4, 2, 5, 7)),
    )  # fmt: skip

    def einsum(options: Options) -> Called | None:
        equation, output, axes, shape, kernel = next(one for one in equations if one[0] == options["equation"])
        letters = equation.partition("->")[2].replace("...", "")
        sizes = dict(zip(letters[1:] if "." not in equation else letters, each(output), strict=False))
        config = {"equation": equation, "output_shape": as_json(output),
                  "bias_axes": axes if options["bias"] else None, "activation": options["activation"]}  # fmt: skip
        bias = {"bias": _bias_shape(letters, axes, sizes)} if options["bias"] else {}
        return Called("EinsumDense", config, (Operand(shape),), {"kernel": kernel, **bias})

    choices = {"equation": [one[0] for one in equations], "bias": (False, True), "activation": ("linear", "relu")}
    yield Family("EinsumDense", choices, einsum)

    def dot(options: Options) -> Called | None:
        first, second, axes = options["operands"]
        config = {"axes": as_json(axes), "normalize": options["normalize"]}
        return Called("Dot", config, (Operand(first), Operand(second)), listed=True)

    operands = (
        ((4,), (4,), 1), ((2, 4), (5, 4), -1), ((2, 4), (4, 5), (2, 1)), ((4, 2), (4,), (1, 1)),
        ((7, 6, 4), (4, 5), (3, 1)),
    )  # fmt: skip
    yield Family("Dot", {"operands": operands, "normalize": (False, True)}, dot)


def _bias_shape(letters: str, axes: str, sizes: Mapping[str, int | None]) -> Shape:
    """Keras' own: the size of each letter of the output from the first that the bias has, 1 where it has none."""
    first = min(letters.index(one) for one in axes)
    return tuple((sizes.get(one) or 1) if one in axes else 1 for one in letters[first:])


def _merges() -> Iterator[Family]:
    def merge(kind: str) -> Family:
        def make(options: Options) -> Called | None:
            shape, count = options["shape"], options["count"]
            other = {"same": shape, "last": (*(1,) * (len(shape) - 1), shape[-1]), "ones": (1,) * len(shape),
                     "fewer": shape[-1:]}[options["second"]]  # fmt: skip
            if kind == "Subtract" and count > 2:
                return None
            return Called(kind, {}, (Operand(shape), *(Operand(other),) * (count - 1)), listed=True)

        table = {"shape": _MAPS, "second": ("same", "last", "ones", "fewer"), "count": (2, 3)}
        return Family(kind, table, make, frozenset({"shape"}))

    yield from map(merge, ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum"))

    def concatenate(options: Options) -> Called | None:
        axes = _axes(options)
        if axes is None:
            return None
        other = tuple(n + 2 if place == axes[0] else n for place, n in enumerate(options["shape"], 1))
        return Called(
            "Concatenate", {"axis": options["axis"]}, (Operand(options["shape"]), Operand(other)), listed=True
        )

    yield Family("Concatenate", {"shape": _MAPS, "axis": (-1, 1, 2)}, concatenate, frozenset({"shape"}))


def _shapes() -> Iterator[Family]:
    def reshape(options: Options) -> dict[str, Shape] | None:
        known = math.prod(n for n in options["target_shape"] if n > 0)
        size = math.prod(options["shape"])
        fits = size % known == 0 if -1 in options["target_shape"] else size == known
        return {} if fits else None

    def permute(options: Options) -> dict[str, Shape] | None:
        return {} if len(options["dims"]) == len(options["shape"]) else None

    formats = ("channels_last", "channels_first")
    yield plain("Flatten", {"shape": _MAPS, "data_format": formats})
    targets = ((-1,), (120,), (-1, 10), (10, 12), (2, 3), (4, 5, 6))
    yield plain("Reshape", {"shape": ((6, 5, 4), (120,), (3, 2), (1, 6)), "target_shape": targets}, weights=reshape)
    yield plain("Permute", {"shape": _MAPS, "dims": ((1, 2, 3), (2, 1), (3, 1, 2), (2, 1, 3))}, weights=permute)
    yield plain("RepeatVector", {"shape": ((5,), (1,)), "n": (1, 4)})
    yield plain("Masking", {"shape": ((6, 5), (1, 1)), "mask_value": (0.0, 0.7)})
    yield plain("Embedding", {"shape": ((5,), (1,), (3, 4)), "output_dim": (4, 1)}, below=9, fixed={"input_dim": 9},
                weights=_embedding)  # fmt: skip


# What the layers that compute nothing at inference need to be made; the others need nothing.
_NEEDED: dict[str, dict[str, Any]] = {
    **{kind: {"rate": 0.4} for kind in "Dropout SpatialDropout1D SpatialDropout2D SpatialDropout3D GaussianDropout "
       "AlphaDropout".split()},
    **{kind: {"factor": 0.3} for kind in "RandomBrightness RandomColorDegeneration RandomContrast RandomHue "
       "RandomRotation RandomSaturation RandomSharpness".split()},
    "GaussianNoise": {"stddev": 0.4}, "ActivityRegularization": {"l2": 0.1}, "RandomPosterization": {"factor": 4},
    "RandomColorJitter": {"brightness_factor": 0.3}, "RandomZoom": {"height_factor": 0.2},
    "RandomTranslation": {"height_factor": 0.2, "width_factor": 0.3},
}  # fmt: skip
_RANK = {"SpatialDropout1D": ((5, 3),), "SpatialDropout3D": ((4, 5, 6, 2),)}


def _identities() -> Iterator[Family]:
    kinds = ["Identity", "ActivityRegularization", *(row.name for row in LAYERS if row.training_only)]
    for kind in kinds:
        yield plain(kind, {"shape": _RANK.get(kind, ((7, 6, 3),))}, fixed=_NEEDED.get(kind, {}))


def families() -> Iterator[Family]:
    """Give the tables."""
    for several in (_dense, _normalizations, _activations, _merges, _shapes, _identities):
        yield from several()
