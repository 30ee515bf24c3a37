"""What a weight looked like before training: draws from the initializer in the file, and its exact density.

Trained weights mean little without the untrained ones beside them. Keras' initializers are re-stated here from their
definitions (keras/src/initializers of Keras 3.15), so that no framework is needed. Draws have exactly Keras'
distribution but come from NumPy's generator: a seed gives the same numbers here each time, not the numbers that Keras
drew.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from cnnlens.errors import CnnlensError
from cnnlens.text import nearest, printable

__all__ = ["Density", "compute_fans", "density", "draw"]

Floats: TypeAlias = NDArray[np.float64]
Spec: TypeAlias = Mapping[str, Any] | str

# The standard deviation of a standard normal cut at two sigma: Keras divides by it, so that the cut draws have the
# deviation that was asked for.
_CUT_DEVIATION = 0.87962566103423978
_CUT_MASS = math.erf(math.sqrt(2.0))


@dataclass(frozen=True)
class Density:
    """Holds the distribution of one entry of a freshly initialized weight.

    Args:
        name: In words: "uniform", "normal", "normal cut at two sigma", "constant", "random orthogonal matrix" ...
        parameters: The numbers, as text: "-0.144 to 0.144".
        support: Smallest and largest possible value (infinite for a normal).
        atoms: Values that have a probability of their own, with it: constants have nothing else.
        pdf: The density of what the atoms leave, over float64 of any shape; its integral is one minus their sum.
    """

    name: str
    parameters: str
    support: tuple[float, float]
    atoms: tuple[tuple[float, float], ...] = ()
    pdf: Callable[[Floats], Floats] = field(default=np.zeros_like, compare=False, repr=False)


@dataclass(frozen=True)
class _Law:
    """One initializer at one shape: how it is drawn (float64), and its density."""

    sample: Callable[[np.random.Generator], Floats]
    density: Density


def draw(spec: Spec, shape: Sequence[int], seed: int | None = None) -> NDArray[np.float32]:
    """Draw a weight as the initializer would make it.

    Args:
        spec: Keras' config entry ``{"class_name": "GlorotUniform", "config": {...}}``, or a name ("glorot_uniform").
        shape: The shape as Keras stores the weight: fans are counted on it.
        seed: Of NumPy's generator; None for other numbers each time.

    Returns:
        float32 of ``shape``. Exactly Keras' distribution, but not the numbers that Keras draws from this seed.

    Raises:
        CnnlensError: Unknown initializer, or one that cannot make this shape.
    """
    shape = tuple(int(size) for size in shape)
    values = _law(spec, shape).sample(np.random.default_rng(seed))
    with np.errstate(over="ignore"):
        return values.astype(np.float32).reshape(shape)


def density(spec: Spec, shape: Sequence[int]) -> Density:
    """Give the exact distribution of each entry that :func:`draw` makes; those of an orthogonal matrix depend on each
    other.

    Raises:
        CnnlensError: As :func:`draw`.
    """
    return _law(spec, tuple(int(size) for size in shape)).density


def compute_fans(
    shape: Sequence[int], input_axes: Sequence[int] | None = None, output_axes: Sequence[int] | None = None
) -> tuple[int, int]:
    """Count inputs and outputs of each unit, as Keras does on a stored shape (``keras.initializers.compute_fans``).

    The last two axes are inputs and outputs and the others a receptive field, also where that is not what they are: a
    depthwise ``(3, 3, 16, 1)`` counts 144 inputs and 9 outputs.
    """
    if input_axes is not None and output_axes is not None:
        return math.prod(shape[axis] for axis in input_axes), math.prod(shape[axis] for axis in output_axes)
    if not shape:
        return 1, 1
    if len(shape) == 1:
        return shape[0], shape[0]
    field_size = math.prod(shape[:-2])
    return shape[-2] * field_size, shape[-1] * field_size


# Reading the spec -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Config:
    """An initializer's arguments, checked as they are read: they come from a file."""

    name: str
    values: Mapping[str, Any]

    def number(self, key: str, default: float) -> float:
        """A finite number."""
        value = self.values.get(key, default)
        # Beyond 1e300 not even the density fits into a float64.
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= 1e300:
            raise CnnlensError(f"initializer {self.name}: {key} is {printable(value)}, where a number was expected")
        return float(value)

    def word(self, key: str, default: str, known: Mapping[str, str]) -> str:
        """One of ``known``'s keys, as the value it stands for."""
        value = self.values.get(key, default)
        if not isinstance(value, str) or value.lower() not in known:
            raise CnnlensError(f"initializer {self.name}: no {key} '{printable(value)}': {nearest(str(value), known)}")
        return known[value.lower()]

    def axes(self, key: str, rank: int) -> tuple[int, ...] | None:
        """Axis numbers within ``rank``, or None."""
        value: object = self.values.get(key)
        if value is None:
            return None
        axes = cast("list[object]", value) if isinstance(value, list) else [value]
        shown = printable(cast("object", value))
        good = tuple(axis for axis in axes if isinstance(axis, int) and -rank <= axis < rank)
        if len(good) != len(axes):
            raise CnnlensError(f"initializer {self.name}: {key} is {shown}, where axes of {rank} were expected")
        return good


Shape: TypeAlias = tuple[int, ...]


def _law(spec: Spec, shape: Shape) -> _Law:
    class_name: object = spec if isinstance(spec, str) else spec.get("class_name")
    if not isinstance(class_name, str):
        raise CnnlensError(f"an initializer's name or config was expected, not {printable(spec)}")
    # GlorotUniform, glorot_uniform and Keras 1's uniform, normal, zero, one.
    name = class_name.rpartition(">")[2].replace("_", "").lower()
    config: object = {} if isinstance(spec, str) else spec.get("config") or {}
    if name not in _INITIALIZERS:
        raise CnnlensError(f"no initializer '{printable(class_name)}': {nearest(class_name, _NAMES)}")
    if not isinstance(config, Mapping):
        raise CnnlensError(f"initializer {printable(class_name)}: its config is {printable(config)}, not a mapping")
    return _INITIALIZERS[name](_Config(printable(class_name), cast("Mapping[str, Any]", config)), shape)


# The laws -------------------------------------------------------------------------------------------------------------


def _atoms(name: str, values: Floats, shape: Shape, sample: Callable[[], Floats] | None = None) -> _Law:
    """Fixed numbers, each distinct one with its share; without a ``sample``, ``values`` broadcast to ``shape``."""
    distinct, counts = np.unique(values, return_counts=True)
    shares = tuple((float(value), float(count) / values.size) for value, count in zip(distinct, counts, strict=True))
    text = ", ".join(f"{value:.4g}" for value in distinct[:4]) + (" ..." if distinct.size > 4 else "")
    make = sample or (lambda: np.broadcast_to(values, shape))
    return _Law(lambda generator: make(), Density(name, text, (float(distinct[0]), float(distinct[-1])), shares))


def _uniform(low: float, high: float, shape: Shape, fans: str = "") -> _Law:
    if low > high:
        raise CnnlensError(f"a uniform initializer from {low:g} to {high:g} is empty")
    if low == high:
        return _atoms("constant", np.array(low), shape)
    height = 1.0 / (high - low)

    def pdf(x: Floats) -> Floats:
        return np.where((x >= low) & (x <= high), height, 0.0)

    parameters = f"{low:.4g} to {high:.4g}{fans}"
    return _Law(
        lambda generator: generator.uniform(low, high, shape), Density("uniform", parameters, (low, high), (), pdf)
    )


def _bell(z: Floats) -> Floats:
    """The standard normal density, zero where it is below the smallest float."""
    return np.exp(-0.5 * np.square(np.clip(z, -40.0, 40.0))) / math.sqrt(2.0 * math.pi)


def _normal(mean: float, deviation: float, shape: Shape, fans: str = "") -> _Law:
    if deviation < 0:
        raise CnnlensError(f"a normal initializer's stddev is {deviation:g}, which is negative")
    if deviation == 0:
        return _atoms("constant", np.array(mean), shape)

    def pdf(x: Floats) -> Floats:
        # A file may ask for a deviation of 1e-310: the density is then infinite or zero, as it should be.
        with np.errstate(over="ignore"):
            return _bell((x - mean) / deviation) / deviation

    parameters = f"mean {mean:.4g}, standard deviation {deviation:.4g}{fans}"
    shown = Density("normal", parameters, (-math.inf, math.inf), (), pdf)
    return _Law(lambda generator: generator.normal(mean, deviation, shape), shown)


def _cut_normal(mean: float, sigma: float, shape: Shape, fans: str = "") -> _Law:
    """A normal whose draws beyond two ``sigma`` are drawn again."""
    if sigma < 0:
        raise CnnlensError(f"a normal initializer's stddev is {sigma:g}, which is negative")
    if sigma == 0:
        return _atoms("constant", np.array(mean), shape)

    def sample(generator: np.random.Generator) -> Floats:
        z = generator.standard_normal(math.prod(shape))
        beyond = np.flatnonzero(np.abs(z) > 2.0)
        while beyond.size:
            z[beyond] = generator.standard_normal(beyond.size)
            beyond = beyond[np.abs(z[beyond]) > 2.0]
        return mean + sigma * z.reshape(shape)

    def pdf(x: Floats) -> Floats:
        with np.errstate(over="ignore"):
            z = (x - mean) / sigma
            return np.where(np.abs(z) <= 2.0, _bell(z) / (sigma * _CUT_MASS), 0.0)

    low, high = mean - 2.0 * sigma, mean + 2.0 * sigma
    parameters = (
        f"mean {mean:.4g}, standard deviation {sigma * _CUT_DEVIATION:.4g}, cut at {low:.4g} and {high:.4g}{fans}"
    )
    return _Law(sample, Density("normal cut at two sigma", parameters, (low, high), (), pdf))


def _variance_scaling(config: _Config, shape: Shape, scale: float, mode: str, distribution: str) -> _Law:
    """Variance ``scale`` over a fan (Glorot 2010, He 2015, LeCun 1998)."""
    if scale <= 0:
        raise CnnlensError(f"initializer {config.name}: scale is {scale:g}, where a positive number was expected")
    axes = config.axes("input_axes", len(shape)), config.axes("output_axes", len(shape))
    fan_in, fan_out = compute_fans(shape, *axes)
    fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2.0}[mode]
    variance = scale / max(1.0, fan)
    fans = f" (fan in {fan_in}, fan out {fan_out})"
    match distribution:
        case "uniform":
            limit = math.sqrt(3.0 * variance)
            return _uniform(-limit, limit, shape, fans)
        case "normal":
            return _normal(0.0, math.sqrt(variance), shape, fans)
        case _:
            return _cut_normal(0.0, math.sqrt(variance) / _CUT_DEVIATION, shape, fans)


def _general_scaling(config: _Config, shape: Shape) -> _Law:
    modes = {mode: mode for mode in ("fan_in", "fan_out", "fan_avg")}
    kinds = {"uniform": "uniform", "truncated_normal": "cut", "normal": "cut", "untruncated_normal": "normal"}
    mode = config.word("mode", "fan_in", modes)
    distribution = config.word("distribution", "truncated_normal", kinds)
    return _variance_scaling(config, shape, config.number("scale", 1.0), mode, distribution)


def _scaled(scale: float, mode: str, distribution: str) -> Callable[[_Config, Shape], _Law]:
    return lambda config, shape: _variance_scaling(config, shape, scale, mode, distribution)


def _constant(config: _Config, shape: Shape) -> _Law:
    value: object = config.values.get("value", 0.0)
    if isinstance(value, Mapping):
        # Keras writes a tensor as {"class_name": "__tensor__", "config": {"value": [...], "dtype": ...}}.
        inner: object = cast("Mapping[str, object]", value).get("config")
        value = cast("Mapping[str, object]", inner).get("value") if isinstance(inner, Mapping) else None
    try:
        numbers = np.array(value, dtype=np.float64)
        np.broadcast_to(numbers, shape)
    except (TypeError, ValueError, OverflowError):
        raise CnnlensError(
            f"initializer {config.name}: value is {printable(value)}, where numbers were expected"
        ) from None
    if not numbers.size:
        raise CnnlensError(f"initializer {config.name}: value is empty, where numbers were expected")
    return _atoms("constant", numbers, shape)


def _identity(config: _Config, shape: Shape) -> _Law:
    if len(shape) != 2:
        raise CnnlensError(f"initializer {config.name} makes matrices; the weight has shape {shape}")
    gain = config.number("gain", 1.0)
    law = _atoms("identity matrix", np.array([0.0, gain]), shape, lambda: gain * np.eye(*shape))
    size, ones = max(math.prod(shape), 1), min(shape) if gain else 0
    shares = tuple(atom for atom in sorted([(0.0, 1.0 - ones / size), (gain, ones / size)]) if atom[1] > 0)
    return replace(law, density=replace(law.density, atoms=shares))


def _orthogonal(config: _Config, shape: Shape) -> _Law:
    """Columns (or rows) of a uniformly random orthogonal matrix of size n, times the gain.

    Each is a uniformly random point of the sphere in n dimensions, whose coordinates have the density
    ``Gamma(n/2) / (sqrt(pi) Gamma((n-1)/2)) (1 - x^2)^((n-3)/2)`` on [-1, 1]: Archimedes' hat-box theorem at n = 3.
    """
    gain = config.number("gain", 1.0)
    if len(shape) < 2:
        raise CnnlensError(f"initializer {config.name} makes two axes or more; the weight has shape {shape}")
    rows, columns = math.prod(shape[:-1]), shape[-1]
    n, few = max(rows, columns), min(rows, columns)
    if gain == 0 or few == 0:
        return _atoms("constant", np.array(0.0), shape)

    def sample(generator: np.random.Generator) -> Floats:
        q, r = np.linalg.qr(generator.standard_normal((n, few)))
        # Without the signs of R's diagonal Q would depend on how QR is computed (Mezzadri 2007).
        q *= np.sign(np.diagonal(r))
        return gain * (q if rows >= columns else q.T).reshape(shape)

    reach = abs(gain)
    if n == 1:
        ends = Density("random sign", f"{-reach:.4g} or {reach:.4g}", (-reach, reach), ((-reach, 0.5), (reach, 0.5)))
        return _Law(sample, ends)
    height = math.exp(math.lgamma(n / 2) - math.lgamma((n - 1) / 2)) / (math.sqrt(math.pi) * reach)

    def pdf(x: Floats) -> Floats:
        inside = np.abs(x) < reach
        left = np.where(inside, 1.0 - np.square(np.where(inside, x, 0.0) / reach), 1.0)
        return np.where(inside, height * left ** ((n - 3) / 2), 0.0)

    parameters = f"size {n}, gain {gain:.4g}, standard deviation {reach / math.sqrt(n):.4g}"
    return _Law(sample, Density("random orthogonal matrix", parameters, (-reach, reach), (), pdf))


_OWN_NAMES: Mapping[str, Callable[[_Config, Shape], _Law]] = {
    "glorotuniform": _scaled(1.0, "fan_avg", "uniform"),
    "glorotnormal": _scaled(1.0, "fan_avg", "cut"),
    "heuniform": _scaled(2.0, "fan_in", "uniform"),
    "henormal": _scaled(2.0, "fan_in", "cut"),
    "lecununiform": _scaled(1.0, "fan_in", "uniform"),
    "lecunnormal": _scaled(1.0, "fan_in", "cut"),
    "variancescaling": _general_scaling,
    "randomnormal": lambda config, shape: _normal(config.number("mean", 0.0), config.number("stddev", 0.05), shape),
    "randomuniform": lambda config, shape: _uniform(
        config.number("minval", -0.05), config.number("maxval", 0.05), shape
    ),
    "truncatednormal": lambda config, shape: _cut_normal(
        config.number("mean", 0.0), config.number("stddev", 0.05), shape
    ),
    "zeros": lambda config, shape: _atoms("constant", np.array(0.0), shape),
    "ones": lambda config, shape: _atoms("constant", np.array(1.0), shape),
    "constant": _constant,
    "identity": _identity,
    "orthogonal": _orthogonal,
}
_INITIALIZERS = {
    **_OWN_NAMES,
    "normal": _OWN_NAMES["randomnormal"],
    "uniform": _OWN_NAMES["randomuniform"],
    "zero": _OWN_NAMES["zeros"],
    "one": _OWN_NAMES["ones"],
    "identityinitializer": _OWN_NAMES["identity"],
    "orthogonalinitializer": _OWN_NAMES["orthogonal"],
}
_NAMES = (
    "GlorotUniform", "GlorotNormal", "HeUniform", "HeNormal", "LecunUniform", "LecunNormal", "VarianceScaling",
    "RandomNormal", "RandomUniform", "TruncatedNormal", "Zeros", "Ones", "Constant", "Identity", "Orthogonal",
)  # fmt: skip
