"""What the three Keras backends share: a Network run by Keras, whichever framework is under it.

The session walks the network's own calls with Keras' layers instead of rebuilding a ``keras.Model``: every tensor then
has the name that the network gives it, only what is asked for is computed, and a live model takes the same way as a
file. The framework's own file adds how to compile that walk, its precision switches, and its devices.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from typing import Any, TypeVar

import numpy as np

from cnnlens.backend import NARROW, check_precision
from cnnlens.backend.reductions import AS_IT_LIES
from cnnlens.errors import CnnlensError
from cnnlens.network.network import Network
from cnnlens_backends._keras_layers import input_dtype, make_layers
from cnnlens_backends._keras_live import live_layers
from cnnlens_backends._keras_variables import find, host
from cnnlens_backends._keras_walk import Compiled, CompiledWalk, LayerCall, Walk, is_stored_order, reducing, walk_of
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

__all__ = ["KerasBackend", "KerasSession"]

T = TypeVar("T")

_KEPT = 4  # sets of tensors whose compiled walks outlive a run
_SHAPES = 8  # of inputs that such a walk is compiled for at most: each takes 2 to 3 MB under XLA


class KerasBackend(ABC):
    """Runs networks in one framework under Keras; see ``cnnlens.backend.seam.Backend`` for what core asks of it."""

    layout = "keras"
    compiles = True  # whether a new batch shape costs a compilation
    copies_beside = True  # whether a GPU computes while it copies what it computed before

    def __init__(self, framework: str, distributions: str, needed: str) -> None:
        self.name = f"keras-{framework}"
        self.framework = framework
        self.requires = ("keras", distributions)
        # What the extra of this name in pyproject.toml asks for: cnnlens itself may be of no index.
        self.install = f'pip install "keras>=3.10" "{needed}"'

    # -- what a framework's file fills in ------------------------------------------------------------------------------

    @abstractmethod
    def compiled(
        self, walk: Walk, moves: Sequence[bool], variables: Sequence[Any], device: str, precision: str, chained: bool
    ) -> Compiled:
        """Compile ``walk``, from NumPy to NumPy in canonical axes, in one pass and one copy back.

        Args:
            walk: What to compute.
            moves: For each of its results, whether the channels must be moved from the last axis to axis 1.
            variables: Those that it reads.
            device: Such as ``cpu`` and ``gpu:0``.
            precision: For what differs beyond ``switched`` and the layers' own dtype policies.
            chained: Whether a layer reads what another one computes.
        """

    @abstractmethod
    def peak(self, device: str) -> int:
        """Count the bytes that it has held at most on a GPU such as ``gpu:0``."""

    @abstractmethod
    def gpus(self) -> list[str]:
        """List the names of its GPUs, in its order."""

    @abstractmethod
    def switched(self, precision: str) -> AbstractContextManager[None]:
        """Hold float32 to ``strict`` or ``tf32`` while it is open; closed, all is as before.

        Strict is float32 and nothing less, in runs that repeat themselves.
        """

    # -- what core asks ------------------------------------------------------------------------------------------------

    def environment(self, device: str, precision: str) -> dict[str, str]:
        """Say what must stand in the environment before a worker's Python starts."""
        settings = {
            "KERAS_BACKEND": self.framework,
            # The person's own keras.json (default dtype, channel order) must not change what a file's model computes.
            "KERAS_HOME": os.devnull,
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "TF_FORCE_GPU_ALLOW_GROWTH": "true",
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        }
        if device == "cpu":
            settings |= {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}
        elif precision == "strict":
            flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_deterministic_ops=true"
            settings |= {"CUBLAS_WORKSPACE_CONFIG": ":4096:8", "XLA_FLAGS": flags.strip()}
        return settings

    def devices(self) -> list[str]:
        """List ``cpu`` and each GPU, as ``gpu:0 NVIDIA H100``. Imports the framework."""
        return ["cpu", *(f"gpu:{index} {name}" for index, name in enumerate(self.gpus()))]

    def precisions(self, device: str) -> tuple[str, ...]:
        """List the precisions that it has on ``cpu`` or ``gpu``."""
        return precisions_on(device)

    def load(
        self, network: Network, device: str, precision: str, live: Any = None, trust_code: bool = False
    ) -> KerasSession:
        """Make the network's layers with Keras and give them the file's arrays, or take those of a ``live`` model.

        A live model's layers compute as their own dtype policies say: in a narrow precision they are made again.

        Raises:
            UnsupportedLayerError: a layer is not Keras' own (without ``trust_code``), or this Keras has no such layer.
            CnnlensError: no such device; Keras runs on another framework in this process; arrays and layers differ.
        """
        runnable(network, self.name, "keras")
        found = import_module("keras").backend.backend()
        if found != self.framework:
            raise CnnlensError(
                f"Keras runs on {found} in this process and cannot change; use keras-{found}, or start Python with "
                f"KERAS_BACKEND={self.framework}",
                self.name,
            )
        check_precision(precision)
        place, described = device_named(self.name, device, self.devices())
        with import_module("keras").device(place):
            own = live is not None and precision not in NARROW
            layers = live_layers(live, network) if own else make_layers(network, trust_code, precision)
        return KerasSession(self, network, layers, place, described, precision)


class KerasSession:
    """Runs a network that Keras has loaded; see ``cnnlens.backend.seam.Session``."""

    def __init__(
        self,
        backend: KerasBackend,
        network: Network,
        layers: Mapping[str, Any],
        place: str,
        device: str,
        precision: str,
    ) -> None:
        self.device = device
        self.versions = versions(backend.requires)
        self._backend = backend
        self._network = network
        self._layers = dict(layers)
        self._place = place
        self._precision = precision
        self._plans: dict[tuple[Any, ...], CompiledWalk] = {}

    def feature_maps(self, inputs: Sequence[Array], tensors: Sequence[str]) -> dict[str, Array]:
        """Run one batch through the network.

        Args:
            inputs: Canonical arrays ``(N, C, *spatial)``, one for each of ``network.inputs``.
            tensors: Names of the tensors wanted, such as ``conv2d``; see ``network.tensors``.

        Returns:
            Canonical host arrays by name, all of one pass.

        Raises:
            CnnlensError: no such tensor; inputs that do not fit; the framework failed (memory, most often).
        """
        return self.reduced(inputs, dict.fromkeys(tensors, ""))

    def reduced(self, inputs: Sequence[Array], reductions: Mapping[str, str]) -> dict[str, Array]:
        """Run one batch, and reduce what it gives on the device; see ``cnnlens.backend.seam.Reducing``."""
        return self._named(reductions, self._on_batch(inputs, reductions, CompiledWalk.run))

    def begin(self, inputs: Sequence[Array], reductions: Mapping[str, str]) -> Callable[[], dict[str, Array]] | None:
        """Begin what ``reduced`` gives, on a GPU; see ``cnnlens.backend.seam.Beginning``."""
        if self._place == "cpu" or not self._backend.copies_beside:
            return None
        fetch = self._on_batch(inputs, reductions, CompiledWalk.begin)

        def finish() -> dict[str, Array]:
            with failing(self._backend.name, inputs, self._layers):
                return self._named(reductions, fetch())

        return finish

    def _named(self, reductions: Mapping[str, str], results: Sequence[Array]) -> dict[str, Array]:
        return {
            name: self._as_it_lies(name, array) if how == AS_IT_LIES else np.require(array, requirements="C")
            for (name, how), array in zip(reductions.items(), results, strict=True)
        }

    def compute(self, inputs: Sequence[Array], tensors: Sequence[str]) -> int | None:
        """Run one batch and leave it on the device; see ``cnnlens.backend.compute``."""
        self._on_batch(inputs, dict.fromkeys(tensors, ""), CompiledWalk.compute)
        return None if self._place == "cpu" else self._backend.peak(self._place)

    def _on_batch(self, inputs: Sequence[Array], reductions: Mapping[str, str], run: Callable[..., T]) -> T:
        batch = checked_inputs(self._network, inputs, lambda call: input_dtype(call.layer))
        stored = tuple(
            is_stored_order(ref, array, self._network) for ref, array in zip(self._network.inputs, batch, strict=True)
        )
        arrays = [
            np.moveaxis(array, 1, -1) if flag else np.ascontiguousarray(array)
            for array, flag in zip(batch, stored, strict=True)
        ]
        with self._scope():
            key = (tuple(reductions.items()), stored)
            if key not in self._plans:
                self._plans[key] = self._plan(reductions, stored)
            with failing(self._backend.name, arrays, self._layers):
                return run(self._plans[key], arrays)

    def weights(self) -> Mapping[str, Mapping[str, Array]]:
        """Give the arrays that the framework holds: layer name to weight name to array, in Keras' layout."""
        found: dict[str, dict[str, Array]] = {}
        for name, made in self._layers.items():
            layer = self._network.calls_by_name[name].layer
            arrays = {
                weight.name: _read(find(made, weight.owner, weight.role), weight) for weight in layer.stored.values()
            }
            if arrays:
                found[name] = arrays
        return found

    def renew(self) -> None:
        """Be as just loaded; see ``cnnlens.backend.seam.Renewing``."""
        few = [(key, plan) for key, plan in self._plans.items() if len(plan.shapes) <= _SHAPES]
        self._plans = dict(few[-_KEPT:])
        for plan in self._plans.values():
            plan.renew()

    def close(self) -> None:
        """Let go of layers and compiled functions."""
        self._plans.clear()
        self._layers = {}

    # -- how it runs ---------------------------------------------------------------------------------------------------

    @contextmanager
    def _scope(self) -> Generator[None]:
        with import_module("keras").device(self._place):
            if self._precision in ("strict", "tf32"):
                with self._backend.switched(self._precision):
                    yield
            else:
                yield

    def _as_it_lies(self, name: str, array: Array) -> Array:
        last = self._network.calls_by_name[self._network.tensors[name].call].channel_axis != 1
        return np.moveaxis(array, -1, 1) if last and array.ndim > 2 else array

    def _plan(self, reductions: Mapping[str, str], stored: Sequence[bool]) -> CompiledWalk:
        wanted = wanted_refs(self._network, list(reductions))
        calls = self._network.needed(ref.call for ref in wanted)
        narrow = self._precision if self._precision in NARROW else None
        steps = [LayerCall(call, self._layers, narrow) for call in calls if call.refs]
        walk = walk_of(self._network, steps, wanted, stored)
        last = [self._network.calls_by_name[ref.call].channel_axis != 1 for ref in wanted]
        if any(reductions.values()):
            walk = reducing(walk, list(reductions.values()), last)
        moves = [flag and not how for flag, how in zip(last, reductions.values(), strict=True)]
        variables = {id(one): one for step in steps for one in getattr(step.operation, "variables", ())}
        whole = any(shape is None or not shape or shape[0] is not None for step in steps for shape in step.call.shapes)
        made = {step.call.name for step in steps}
        chained = any(ref.call in made for step in steps for ref in step.call.refs)
        run = self._backend.compiled(walk, moves, list(variables.values()), self._place, self._precision, chained)
        return CompiledWalk(run, pads=self._backend.compiles and not whole)


def _read(variable: Any, weight: Any) -> Array:
    array = host(variable)
    wanted = weight.stored.dtype
    # Counters are wider in some versions' files; a number is the same in every width.
    return array.astype(wanted) if array.dtype.kind in "iu" and np.dtype(wanted).kind in "iu" else array
