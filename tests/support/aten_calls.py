"""A real call of a PyTorch operator as the reference is told of it, and the reference's answer to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cnnlens.checking import Audit, audit
from cnnlens.network.graph import Call, Layer, Ref
from cnnlens.reference.aten import Tensor, Translation, translate

torch = pytest.importorskip("torch")
torch.set_num_threads(1)

Array = NDArray[Any]
WEIGHTS = ("weight", "bias", "running_mean", "running_var")


@dataclass
class AtenCall:
    """One call with numbers.

    Attributes:
        op: The operator, such as ``torch.ops.aten.conv2d.default``.
        arguments: As a layer's entry holds them; ``weights`` and ``tensors`` are the arrays, float64.
        fixed: Whether the batch is a number in the shapes that the reference is told, not None.
    """

    op: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    arguments: dict[str, Any]
    weights: dict[str, Array]
    tensors: list[Array]
    fixed: bool

    @property
    def shapes(self) -> list[tuple[int | None, ...]]:
        return [x.shape if self.fixed or not x.ndim else (None, *x.shape[1:]) for x in self.tensors]

    def translation(self, arguments: Mapping[str, Any] | None = None) -> Translation:
        target = f"aten.{self.op._schema.name.split('::')[1]}.{self.op._schema.overload_name or 'default'}"
        shapes = {name: array.shape for name, array in self.weights.items()}
        return translate(target, self.arguments if arguments is None else arguments, shapes, self.shapes)

    def torch(self, dtype: str = "float64") -> Any:
        """What PyTorch gives: an array, or a list of them."""

        def cast(value: Any) -> Any:
            if isinstance(value, torch.Tensor):
                return value.to(getattr(torch, dtype)) if value.is_floating_point() else value
            return [cast(item) for item in value] if isinstance(value, list | tuple) else value

        with torch.no_grad():
            result = self.op(*cast(self.args), **{name: cast(value) for name, value in self.kwargs.items()})
        return [x.numpy() for x in result] if isinstance(result, list | tuple) else result.numpy()

    def reference(self, translation: Translation | None = None) -> Any:
        found = translation or self.translation()
        with np.errstate(all="ignore"):
            return found.operation(found.unpack(self.weights), *fill(found.args, self.tensors))

    def audited(self, output: Array | Sequence[Array], inputs: Sequence[Array] | None = None) -> Audit:
        """The audit of what float32 gave for these weights and inputs."""
        found = self.translation()
        weights = {name: _narrow(array) for name, array in found.unpack(self.weights).items()}
        layer = Layer("layer", "Layer", {}, make_operation=lambda: found.operation)
        refs = [Ref(f"input{number}") for number in range(len(self.tensors))]
        call = Call("layer", layer, fill(found.args, refs), {}, (None,), 1)
        args = fill(found.args, [_narrow(x) for x in (self.tensors if inputs is None else inputs)])
        return audit(call, weights, args, {}, output)


def _narrow(array: Array) -> Array:
    return array.astype(np.float32) if array.dtype.kind == "f" else array


def fill(args: Any, values: Sequence[Any]) -> Any:
    """``args`` with values in place of markers, which must stand in order."""
    seen: list[int] = []

    def walk(value: Any) -> Any:
        if isinstance(value, Tensor):
            seen.append(value.index)
            return values[value.index]
        return type(value)(walk(item) for item in value) if isinstance(value, list | tuple) else value

    filled = walk(args)
    assert seen == sorted(seen)
    return filled


def called(op: Any, *args: Any, weights: Sequence[str] = WEIGHTS, fixed: bool = False, **kwargs: Any) -> AtenCall:
    """A call of an operator with these arguments; arrays are tensors, or weights where they stand for one of those."""
    given = {argument.name: value for argument, value in zip(op._schema.arguments, args, strict=False)} | kwargs
    tensors: list[Array] = []
    arrays: dict[str, Array] = {}

    def told(name: str, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            if name in weights:
                arrays[name] = value.numpy()
                return {"weight": name}
            tensors.append(value.numpy())
            return {"tensor": len(tensors) - 1}
        if isinstance(value, list | tuple):
            return [told(name, item) for item in value]
        return str(value) if isinstance(value, torch.dtype) else value

    arguments = {name: told(name, value) for name, value in given.items()}
    return AtenCall(op, args, kwargs, arguments, arrays, tensors, fixed)


def draw(*shape: int, seed: int = 0, positive: bool = False, rounded: bool = True) -> Any:
    """Seeded numbers in float64 that float32 holds exactly."""
    x = np.random.default_rng([seed, *shape]).normal(0.1, 1.3, shape)
    x = np.abs(x) + 0.05 if positive else x
    return torch.from_numpy(x.astype(np.float32).astype(np.float64) if rounded else x)


def near(got: Any, wanted: Any, tolerance: float = 1e-12) -> None:
    """Both agree to ``tolerance`` of the largest number, lists one by one."""
    if isinstance(wanted, list):
        assert isinstance(got, list)
        assert len(got) == len(wanted)
        for one, other in zip(got, wanted, strict=True):
            near(one, other, tolerance)
        return
    assert not isinstance(got, list), "one array was expected"
    assert got.shape == wanted.shape
    if wanted.dtype.kind != "f":
        np.testing.assert_array_equal(got, wanted)
        return
    largest = np.abs(wanted[np.isfinite(wanted)]).max(initial=1e-30)
    np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance * largest)


def agrees(call: AtenCall, tolerance: float = 1e-12, *, first: bool = False) -> None:
    """The reference gives what PyTorch gives in float64, and says the shape beforehand."""
    wanted = call.torch()
    if first and isinstance(wanted, list):
        wanted = wanted[0]
    found = call.translation()
    near(call.reference(found), wanted, tolerance)
    told = found.operation.output_shape(*fill(found.args, call.shapes))
    for shape, array in zip(
        told if isinstance(told, list) else [told], wanted if isinstance(wanted, list) else [wanted], strict=True
    ):
        assert len(shape) == array.ndim
        assert all(size is None or size == have for size, have in zip(shape, array.shape, strict=True)), shape
        assert None not in shape[1:], shape
        assert not call.fixed or None not in shape
