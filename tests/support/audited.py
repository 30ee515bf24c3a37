"""Layers to audit without a framework: a call around the reference, seeded weights, and honest float32 results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from cnnlens.checking import Audit, audit
from cnnlens.checking.faults import explanation
from cnnlens.checking.finding import Cause
from cnnlens.network.graph import Call, Layer, Ref, Shape
from cnnlens.reference import Operation, build

Array = NDArray[Any]


@contextmanager
def unexplained() -> Iterator[None]:
    """Audits that do not look for what a fault is, which is nine tenths of their time: for tests that ask only whether
    there is one, for that is decided before. ``wrong`` and ``suspicious`` are not told apart then."""
    with mock.patch.object(explanation, "explain", return_value=("not looked for", Cause.UNEXPLAINED)):
        yield


class Audited:
    """One layer with weights and inputs; ``honest`` is what float32 gives, ``check`` the audit of an output."""

    def __init__(
        self,
        kind: str,
        shape: Sequence[int] | Sequence[Sequence[int]],
        seed: int = 0,
        *,
        positive: bool = False,
        **config: Any,
    ) -> None:
        self.generator = np.random.default_rng(seed)
        self.listed = not isinstance(shape[0], int)
        self.shapes: list[tuple[int, ...]] = [tuple(one) for one in (shape if self.listed else [shape])]  # type: ignore[union-attr,arg-type]
        self.kind = kind
        self.config = {key: list(value) if isinstance(value, tuple) else value for key, value in config.items()}
        self.operation = self.build()
        layer = Layer("layer", kind, self.config, make_operation=lambda: self.operation)
        refs = [Ref(f"input{number}") for number in range(len(self.shapes))]
        first = self.config.get("data_format") == "channels_first"
        output: tuple[Shape | None, ...] = (None,)
        self.call = Call("layer", layer, (refs,) if self.listed else tuple(refs), {}, output, 1 if first else -1)
        self.inputs = [self.generator.normal(0.1, 1.5, one).astype("float32") for one in self.shapes]
        if positive:
            self.inputs = [np.abs(x) for x in self.inputs]
        if kind == "Embedding":
            indices = self.generator.integers(0, self.config["input_dim"], self.shapes[0])
            self.inputs = [indices.astype("float32")]
        self.weights = {
            name: self._draw(name, sizes) for name, sizes in weight_shapes(kind, self.config, self.shapes[0]).items()
        }

    def build(self, **changed: Any) -> Operation:
        return build(self.kind, None, {**self.config, **changed}, (3, 15, 1))

    def _draw(self, name: str, shape: tuple[int, ...]) -> Array:
        if "kernel" in name:
            fan = int(np.prod(shape[:-2])) if name == "depthwise_kernel" or "Depthwise" in self.kind else None
            deviation = 1 / np.sqrt(fan or max(int(np.prod(shape[:-1])), 1))
            return self.generator.normal(0, deviation, shape).astype("float32")
        value = self.generator.normal(0.3, 0.7, shape).astype("float32")
        return np.abs(value) + np.float32(0.05) if "variance" in name else value

    @property
    def args(self) -> tuple[Any, ...]:
        return (self.inputs,) if self.listed else tuple(self.inputs)

    @property
    def x(self) -> Array:
        return self.inputs[0]

    def run(
        self,
        weights: Mapping[str, Array] | None = None,
        x: Array | None = None,
        operation: Operation | None = None,
        **changed: Any,
    ) -> Array:
        """The layer in float32, with other weights, another input or another configuration where they are given."""
        if changed:
            operation = self.build(**changed)
        args = self.args if x is None else (x.astype("float32"),)
        used = {**self.weights, **(weights or {})}
        with np.errstate(all="ignore"):
            result = (operation or self.operation)({name: np.asarray(a, "float32") for name, a in used.items()}, *args)
        return np.array(result)

    @property
    def honest(self) -> Array:
        return self.run()

    def check(self, output: Array, *, strict: bool = True, explained: bool = True) -> Audit:
        with nullcontext() if explained else unexplained():
            return audit(self.call, self.weights, self.args, {}, output, strict)


_GATES = {"LSTM": 4, "GRU": 3, "SimpleRNN": 1}


def weight_shapes(kind: str, config: Mapping[str, Any], shape: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """The weights that Keras makes for a layer of this kind on inputs of this shape."""
    rank = next((rank for rank in (1, 2, 3) if f"{rank}D" in kind), 0)
    channels = shape[1] if config.get("data_format") == "channels_first" else shape[-1]
    size = config.get("kernel_size", 1)
    taps = tuple(size) if isinstance(size, list | tuple) else (size,) * rank
    filters = config.get("filters", config.get("units", 0))
    multiplier = config.get("depth_multiplier", 1)
    found: dict[str, tuple[int, ...]] = {}
    if kind == "Dense":
        found = {"kernel": (channels, filters), "bias": (filters,)}
    elif kind.endswith("Transpose"):
        found = {"kernel": (*taps, filters, channels), "bias": (filters,)}
    elif kind.startswith("Depthwise"):
        found = {"kernel": (*taps, channels, multiplier), "bias": (channels * multiplier,)}
    elif kind.startswith("Separable"):
        point = (*(1,) * rank, channels * multiplier, filters)
        found = {"depthwise_kernel": (*taps, channels, multiplier), "pointwise_kernel": point, "bias": (filters,)}
    elif kind.startswith("Conv"):
        found = {"kernel": (*taps, channels // config.get("groups", 1), filters), "bias": (filters,)}
    elif kind == "BatchNormalization":
        names = ("gamma", "beta", "moving_mean", "moving_variance")
        found = dict.fromkeys(names, (shape[config.get("axis", -1)],))
    elif kind in ("LayerNormalization", "GroupNormalization", "RMSNormalization"):
        axis = config.get("axis", -1)
        axes = sorted(one % len(shape) for one in (axis if isinstance(axis, list | tuple) else [axis]))
        sizes = tuple(shape[one] for one in axes)
        found = {"scale": sizes} if kind == "RMSNormalization" else {"gamma": sizes, "beta": sizes}
    elif kind == "PReLU":
        shared = config.get("shared_axes") or ()
        found = {"alpha": tuple(1 if place in shared else size for place, size in enumerate(shape) if place)}
    elif kind == "Embedding":
        found = {"embeddings": (config["input_dim"], config["output_dim"])}
    elif kind in _GATES:
        gates, units = _GATES[kind] * config["units"], config["units"]
        rows = (2,) if kind == "GRU" and config.get("reset_after") else ()
        found = {"kernel": (channels, gates), "recurrent_kernel": (units, gates), "bias": (*rows, gates)}
    elif kind == "Bidirectional":
        inner = config["layer"]
        each = weight_shapes(inner["class_name"], inner["config"], shape)
        found = {f"{way}_layer/{name}": sizes for way in ("forward", "backward") for name, sizes in each.items()}
    elif kind == "Normalization" and "mean" not in config:
        found = {"mean": (channels,), "variance": (channels,)}
    unused = {"use_bias": "bias", "scale": "gamma", "center": "beta"}
    return {
        name: sizes for name, sizes in found.items() if all(config.get(k, True) or v != name for k, v in unused.items())
    }


def expect(layer: Audited, output: Array, *said: str) -> None:
    """The audit calls the output wrong, and its sentence has every one of these parts."""
    found = layer.check(output)
    assert found.verdict == "wrong", found
    assert all(part in found.explanation for part in said), found
