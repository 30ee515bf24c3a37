"""PyTorch's own models: the operations that torch.export recorded, run by torch, whether from a file or a live module.

Every tensor of the network can be asked for, a module's output and a functional call's alike; what is not needed for
those asked for is not computed, and memory is let go as soon as its last reader has read it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from types import SimpleNamespace
from typing import Any, TypeVar, cast

import numpy as np

from cnnlens.backend import NARROW, check_precision
from cnnlens.backend.reductions import AS_IT_LIES, reduced
from cnnlens.errors import CnnlensError, UnsupportedLayerError
from cnnlens.network.graph import Call
from cnnlens.network.network import Network
from cnnlens.network.weight import Weight
from cnnlens.text import printable
from cnnlens_backends._pytorch_graph import WeightKey, graph_of, run_noting_types
from cnnlens_backends._shared import (
    Array,
    checked_inputs,
    device_named,
    failing,
    precisions_on,
    runnable,
    versions,
    wanted_refs,
)
from cnnlens_backends._torch_graph import write_in_place
from cnnlens_backends._torch_host import send, to_host
from cnnlens_backends._torch_precision import first_calls, gpus, peak, switched, wait

__all__ = ["BACKEND"]

T = TypeVar("T")


class PytorchBackend:
    """See ``cnnlens.backend.seam.Backend``."""

    name = "pytorch"
    requires = ("torch",)
    install = 'pip install "torch>=2.8"'
    layout = "torch"

    def environment(self, device: str, precision: str) -> dict[str, str]:
        if device == "cpu":
            return {"CUDA_VISIBLE_DEVICES": ""}
        return {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"} if precision == "strict" else {}

    def devices(self) -> list[str]:
        return ["cpu", *(f"gpu:{index} {name}" for index, name in enumerate(gpus()))]

    def precisions(self, device: str) -> tuple[str, ...]:
        return precisions_on(device)

    def load(
        self, network: Network, device: str, precision: str, live: Any = None, trust_code: bool = False
    ) -> PytorchSession:
        """Give torch the file's arrays, or take those of the ``live`` module that ``network`` was made from.

        Raises:
            UnsupportedLayerError: a network of another framework or without a graph; an operation that is not run.
            CnnlensError: no such device or precision; the live module is another one.
        """
        runnable(network, self.name, "torch")
        check_precision(precision)
        place, described = device_named(self.name, device, self.devices())
        return PytorchSession(network, place.replace("gpu", "cuda"), described, precision, live)


class PytorchSession:
    """A network ready to run; see ``cnnlens.backend.seam.Session``."""

    def __init__(self, network: Network, target: str, device: str, precision: str, live: Any) -> None:
        self.device = device
        self.versions = versions(PytorchBackend.requires)
        self._network = network
        self._target = target
        self._precision = precision
        self._strict = precision == "strict"
        # What every floating-point weight and input is made before anything is computed: ``module.to(torch.bfloat16)``.
        self._narrow = getattr(import_module("torch"), precision) if precision in NARROW else None
        # oneDNN computes on channels last, and reorders what comes otherwise to and fro around each convolution.
        self._channels_last = target == "cpu" and not self._strict and _may_reorder(network)
        first_calls()
        self._weights = self._tensors(live)
        self._plans: dict[tuple[str, ...], _GraphRunner] = {}
        self._plan([ref.name for ref in network.outputs])  # what cannot run is refused now

    def feature_maps(self, inputs: Sequence[Array], tensors: Sequence[str]) -> dict[str, Array]:
        """One batch: canonical arrays ``(N, C, *spatial)`` in, canonical host arrays by name out, all of one pass.

        Raises:
            CnnlensError: no such tensor; inputs that do not fit; torch failed (memory, most often).
        """
        return self.reduced(inputs, dict.fromkeys(tensors, ""))

    def reduced(self, inputs: Sequence[Array], reductions: Mapping[str, str]) -> dict[str, Array]:
        """One batch, with what it gives reduced on the device; see ``cnnlens.backend.seam.Reducing``."""
        return self._begun(inputs, reductions)()

    def begin(self, inputs: Sequence[Array], reductions: Mapping[str, str]) -> Callable[[], dict[str, Array]] | None:
        """What ``reduced`` gives, begun, on a GPU; see ``cnnlens.backend.seam.Beginning``."""
        return None if self._target == "cpu" else self._begun(inputs, reductions)

    def _begun(self, inputs: Sequence[Array], reductions: Mapping[str, str]) -> Callable[[], dict[str, Array]]:
        def sent(found: list[Any]) -> Callable[[], list[Array]]:
            return send([
                tensor if how == AS_IT_LIES else _reduced(name, how, tensor).contiguous()
                for (name, how), tensor in zip(reductions.items(), found, strict=True)
            ])  # fmt: skip

        fetch = self._on_batch(inputs, list(reductions), sent)

        def finish() -> dict[str, Array]:
            with failing(PytorchBackend.name, inputs):
                return dict(zip(reductions, fetch(), strict=True))

        return finish

    def compute(self, inputs: Sequence[Array], tensors: Sequence[str]) -> int | None:
        """Run one batch and leave it on the device; see ``cnnlens.backend.compute``."""
        self._on_batch(inputs, tensors, lambda _: wait(self._target))
        return None if self._target == "cpu" else peak(self._target)

    def _on_batch(self, inputs: Sequence[Array], tensors: Sequence[str], finish: Callable[[list[Any]], T]) -> T:
        torch = import_module("torch")
        arrays = checked_inputs(self._network, inputs, _input_dtype)
        plan = self._plan(tensors)
        with failing(PytorchBackend.name, arrays), torch.inference_mode(), switched(self._precision):
            return finish(plan([self._input(index, array) for index, array in enumerate(arrays)]))

    def weights(self) -> Mapping[str, Mapping[str, Array]]:
        """The arrays that torch holds: layer name to weight name to array, in torch's layout."""
        found: dict[str, dict[str, Array]] = {}
        for (layer, name), tensor in self._weights.items():
            found.setdefault(layer, {})[name] = to_host([tensor.detach().contiguous()])[0]
        return found

    def close(self) -> None:
        """Let go of weights and graphs."""
        self._plans.clear()
        self._weights = {}

    def _plan(self, tensors: Sequence[str]) -> _GraphRunner:
        key = tuple(tensors)
        if key not in self._plans:
            graph, weights = graph_of(self._network, wanted_refs(self._network, tensors), self._target)
            missing = next((one for one in weights if one not in self._weights), None)
            if missing is not None:
                shown = self._network.by_name[missing[0]].shown
                raise UnsupportedLayerError(f"{shown}: the file has no array for its weight '{printable(missing[1])}'")
            self._plans[key] = _GraphRunner(graph, [self._weights[one] for one in weights], in_place=not self._strict)
        return self._plans[key]

    def _input(self, index: int, array: Array) -> Any:
        torch = import_module("torch")
        # torch warns of arrays that it could write to and must not; a copy of an input costs little.
        tensor = torch.from_numpy(np.require(array, requirements="W")).to(self._target)
        if _input_dtype(self._network.calls_by_name[self._network.inputs[index].call]) == "bfloat16":
            tensor = tensor.to(torch.bfloat16)
        tensor = self._narrowed(tensor)
        return _last(tensor) if self._channels_last else tensor

    def _tensors(self, live: Any) -> dict[WeightKey, Any]:
        held: dict[str, Any] = {}
        if live is not None:
            held.update(live.named_parameters(remove_duplicate=False))
            held.update(live.named_buffers(remove_duplicate=False))
        found: dict[WeightKey, Any] = {}
        for layer in self._network.layers_of_calls:
            for name, weight in layer.stored.items():
                tensor = held.get(weight.stored.place)
                if tensor is None:
                    tensor = self._narrowed(_tensor(weight, self._target))
                    found[layer.name, name] = _last(tensor) if self._channels_last else tensor
                elif tuple(tensor.shape) != weight.stored.shape:
                    raise CnnlensError(
                        f"{layer.shown}: its weight '{printable(name)}' is {weight.stored.shape} in the network and "
                        f"{tuple(tensor.shape)} in the live module; open the module again"
                    )
                else:
                    found[layer.name, name] = self._narrowed(tensor.to(self._target))
        return found

    def _narrowed(self, tensor: Any) -> Any:
        return tensor if self._narrow is None or not tensor.is_floating_point() else tensor.to(self._narrow)


class _GraphRunner:
    """A graph, and for each shape of inputs that comes again one that also writes in place."""

    def __init__(self, graph: Any, weights: Sequence[Any], in_place: bool) -> None:
        self._graph = graph
        self._weights = weights
        self._in_place = in_place
        self._plain = _module(graph)
        self._ready: dict[tuple[Any, ...], Any] = {}

    def __call__(self, inputs: Sequence[Any]) -> list[Any]:
        shapes = tuple(tensor.shape for tensor in inputs)
        if not self._in_place:
            return self._plain(*inputs, *self._weights)
        if shapes not in self._ready:
            graph = import_module("torch").fx.Graph()
            module = _module(_copied(self._graph, graph))
            results = run_noting_types(module, [*inputs, *self._weights])
            write_in_place(module.graph)
            module.recompile()
            self._ready[shapes] = module
            return results
        return self._ready[shapes](*inputs, *self._weights)


def _module(graph: Any) -> Any:
    torch = import_module("torch")
    return torch.fx.GraphModule(torch.nn.Module(), graph)


def _copied(graph: Any, into: Any) -> Any:
    into.output(into.graph_copy(graph, {}))
    return into


def _last(tensor: Any) -> Any:
    """The same numbers with the channels last in memory; the axes keep their order."""
    torch = import_module("torch")
    if tensor.dim() not in (4, 5):
        return tensor
    moved = tensor.contiguous(memory_format=torch.channels_last if tensor.dim() == 4 else torch.channels_last_3d)
    if tensor.shape[1] > 1:
        return moved
    # With one channel both orders lie alike in memory, and torch goes by the strides alone.
    steps = list(moved.movedim(1, -1).contiguous().stride())
    return moved.as_strided(tensor.shape, [steps[0], 1, *steps[1:-1]])


def _may_reorder(network: Network) -> bool:
    """Whether its convolutions are worth channels last, and give the right numbers so.

    ``as_strided`` looks at the memory itself. And oneDNN (torch 2.13, AVX-512) reads beyond a one-channel input in this
    order where the stride is more than one along the last axis alone: another wrong result each time, up to NaN.
    """
    found = False
    for layer in network.layers_of_calls:
        target = str(layer.entry.get("target"))
        if "strided" in target:
            return False
        if "conv" in target:
            found = True
            shapes = [weight.stored.shape for weight in layer.stored.values() if len(weight.stored.shape) > 2]
            if any(shape[1] == 1 for shape in shapes) and not _steps_by_one(layer.entry.get("arguments")):
                return False
    return found


def _steps_by_one(arguments: Any) -> bool:
    """Whether a convolution moves on by one, or is depthwise: many groups have many channels."""
    settings = cast("dict[str, Any]", arguments if isinstance(arguments, Mapping) else {})
    stride = settings.get("stride", 1)
    steps = cast("list[Any]", stride if isinstance(stride, list) else [stride])
    return settings.get("groups", 1) != 1 or all(one == 1 for one in steps)


def _input_dtype(call: Call) -> str:
    dtype = call.layer.config.get("dtype")
    return dtype.removeprefix("torch.") if isinstance(dtype, str) else "float32"


def _tensor(weight: Weight, target: str) -> Any:
    """An array of the file as torch's, in the type that it has there."""
    torch = import_module("torch")
    tensor = torch.from_numpy(np.array(weight.read(), order="C"))  # the file's own is mapped, and not to be written to
    return tensor.to(target, torch.bfloat16 if weight.stored.stored_dtype == "bfloat16" else None)


def _reduced(name: str, how: str, tensor: Any) -> Any:
    return reduced(how, tensor, _ops(), name=name) if how else tensor


def _ops() -> SimpleNamespace:
    """What reductions are made of, in torch; its functions take NumPy's names of arguments too."""
    torch = import_module("torch")

    def cast(tensor: Any, dtype: str) -> Any:
        return tensor.to(getattr(torch, dtype))

    return SimpleNamespace(
        mean=torch.mean, max=torch.amax, reshape=torch.reshape, moveaxis=torch.moveaxis, square=torch.square,
        stack=torch.stack, top_k=torch.topk, cast=cast,
    )  # fmt: skip


BACKEND = PytorchBackend()
