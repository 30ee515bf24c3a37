"""Models made here from configs and arrays, without Keras, and what runs their conversions under PyTorch.

A converted file is executed as its owner would execute it, its state loaded strictly, and its outputs are held against
the reference in float64; no two sizes of an array are equal unless a case asks for it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnnlens.conversion import to_torch
from cnnlens.files.keras.network import keras_network
from cnnlens.network.network import Network
from cnnlens.testing import MemoryModel
from tests.support.reference_cases import LayerCase

Arrays = Mapping[tuple[str, ...], Mapping[str, np.ndarray]]


def entry(kind: str, name: str, /, **config: Any) -> dict[str, Any]:
    """A layer's entry in a config; ``module`` as a keyword for a bare op."""
    module = config.pop("module", "keras.layers")
    return {"module": module, "class_name": kind, "config": {"name": name, **config}, "name": name}


def given(name: str, *shape: int | None) -> dict[str, Any]:
    return {**entry("InputLayer", name, batch_shape=[None, *shape]), "inbound_nodes": []}


def tensor(name: str, node: int = 0, index: int = 0) -> dict[str, Any]:
    config = {"shape": None, "dtype": "float32", "keras_history": [name, node, index]}
    return {"class_name": "__keras_tensor__", "config": config}


def called(layer: dict[str, Any], *calls: Sequence[Any], **kwargs: Any) -> dict[str, Any]:
    """``layer`` called once for each of ``calls``, each being its positional arguments."""
    return {**layer, "inbound_nodes": [{"args": list(call), "kwargs": kwargs} for call in calls]}


def functional(
    layers: Sequence[dict[str, Any]], outputs: Sequence[str], arrays: Arrays | None = None, version: str = "3.10.0"
) -> Network:
    """A functional model of entries that say what they are called on."""
    inputs = [[one["name"], 0, 0] for one in layers if one["class_name"] == "InputLayer"]
    config = {
        "class_name": "Functional",
        "config": {
            "name": "model", "layers": list(layers), "input_layers": inputs,
            "output_layers": [[name, 0, 0] for name in outputs],
        },
    }  # fmt: skip
    return keras_network(MemoryModel(config, arrays or {}, keras_version=version))


def functional_entry(name: str, layers: Sequence[dict[str, Any]], output: str) -> dict[str, Any]:
    """The entry of a functional model of one output inside another."""
    inputs = [[one["name"], 0, 0] for one in layers if one["class_name"] == "InputLayer"]
    config = {"name": name, "layers": list(layers), "input_layers": inputs, "output_layers": [[output, 0, 0]]}
    return {"module": "keras", "class_name": "Functional", "config": config, "name": name}


def sequential(layers: Sequence[dict[str, Any]], arrays: Arrays | None = None, version: str = "3.10.0") -> Network:
    config = {"class_name": "Sequential", "config": {"name": "model", "layers": list(layers)}}
    return keras_network(MemoryModel(config, arrays or {}, keras_version=version))


def weights_of(case: LayerCase, random: np.random.Generator) -> dict[str, np.ndarray]:
    """Arrays of the shapes that Keras gives a layer, from its arguments and the shape of its input."""
    shapes = {name: shape for name, shape in _shapes(case).items() if shape is not None}
    found = {name: np.asarray(random.normal(0.2, 0.7, shape), np.float32) for name, shape in shapes.items()}
    for name in ("moving_variance", "variance"):
        if name in found:
            found[name] = np.asarray(np.abs(found[name]) + np.float32(0.3))
    return found


def _shapes(case: LayerCase) -> dict[str, Any]:
    given, kind, shape = case.arguments, case.kind, case.shapes[0]
    first = given.get("data_format") == "channels_first"
    channels = shape[1 if first else -1]
    rank = next((rank for rank in (1, 2, 3) if f"{rank}D" in kind), 0)
    size = given.get("kernel_size", 1)
    taps = (size,) * rank if isinstance(size, int) else tuple(size)
    bias = given.get("use_bias", True)
    filters = given.get("filters", 0)
    multiplier = given.get("depth_multiplier", 1)
    if kind.endswith("Transpose"):
        return {"kernel": (*taps, filters, channels), "bias": (filters,) if bias else None}
    if kind.startswith("Depthwise"):
        return {"kernel": (*taps, channels, multiplier), "bias": (channels * multiplier,) if bias else None}
    if kind.startswith("Separable"):
        kernels = {
            "depthwise_kernel": (*taps, channels, multiplier),
            "pointwise_kernel": (*(1,) * rank, channels * multiplier, filters),
        }
        return {**kernels, "bias": (filters,) if bias else None}
    if kind.startswith("Conv"):
        kernel = (*taps, channels // given.get("groups", 1), filters)
        return {"kernel": kernel, "bias": (filters,) if bias else None}
    if kind == "Dense":
        return {"kernel": (shape[-1], given["units"]), "bias": (given["units"],) if bias else None}
    if kind == "EinsumDense":
        return _einsum_shapes(given, shape)
    if kind == "Embedding":
        return {"embeddings": (given["input_dim"], given["output_dim"])}
    if kind == "PReLU":
        shared = given.get("shared_axes") or []
        return {"alpha": tuple(1 if axis in shared else size for axis, size in enumerate(shape[1:], 1))}
    axis = given.get("axis", -1)
    axes = () if axis is None else tuple(axis) if isinstance(axis, tuple) else (axis,)
    places = [place % len(shape) for place in axes]
    if kind in ("BatchNormalization", "GroupNormalization", "LayerNormalization"):
        vector = tuple(shape[place] for place in places)
        found: dict[str, Any] = {
            "gamma": vector if given.get("scale", True) else None,
            # Keras makes no beta beside its old flag.
            "beta": vector if given.get("center", True) and not given.get("rms_scaling") else None,
        }
        return found | (dict.fromkeys(("moving_mean", "moving_variance"), vector) if kind[0] == "B" else {})
    if kind == "RMSNormalization":
        return {"scale": tuple(shape[place] for place in places)}
    if kind == "Normalization" and "mean" not in given:
        vector = tuple(shape[place] for place in sorted(places))
        return {"mean": vector, "variance": vector}
    return {}


def _einsum_shapes(arguments: Mapping[str, Any], shape: Sequence[int]) -> dict[str, Any]:
    inputs, kernel, made = arguments["equation"].replace("->", ",").split(",")
    stated = arguments["output_shape"]
    wanted = list(stated) if isinstance(stated, tuple) else [stated]
    plain, out = inputs.replace("...", ""), made.replace("...", "")
    known = shape[-len(plain) :] if inputs.startswith("...") else shape[: len(plain)]
    sizes = dict(zip(plain, known, strict=True))
    for letter, size in zip(reversed(out), reversed(wanted), strict=False):
        if size is not None:
            sizes.setdefault(letter, size)
    axes = arguments["bias_axes"]
    if axes is None:
        return {"kernel": tuple(sizes[letter] for letter in kernel)}
    first = min(out.index(letter) for letter in axes)
    bias = [sizes[letter] if letter in axes else 1 for letter in out[first:]]
    return {"kernel": tuple(sizes[letter] for letter in kernel), "bias": (*bias, *(1,) * _elided(inputs, shape))}


def _elided(inputs: str, shape: Sequence[int]) -> int:
    return len(shape) - len(inputs.replace("...", "")) if inputs.endswith("...") else 0


def network_of_case(case: LayerCase, random: np.random.Generator) -> Network:
    """One layer of ``reference_cases`` on its inputs."""
    names = [f"image{index}" for index in range(len(case.shapes))]
    tensors = [tensor(name) for name in names]
    layer = called(entry(case.kind, "layer", **_plain(case.arguments)), [tensors] if case.listed else tensors)
    inputs = [given(name, *shape[1:]) for name, shape in zip(names, case.shapes, strict=True)]
    weights = weights_of(case, random)
    return functional([*inputs, layer], ["layer"], {("layer",): weights} if weights else {})


def _plain(value: Any) -> Any:
    """Arguments as JSON has them."""
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, (list, tuple)) else value


# -- running what was converted --------------------------------------------------------------------------------------


def module_of(program: to_torch.Program, source: str | None = None, **more: Any) -> Any:
    """The module of a program in float64, its state loaded strictly, ready for inference."""
    import torch

    space: dict[str, Any] = {"__name__": "converted", **more}
    exec(compile(source or program.source, "converted.py", "exec"), space)
    module = space[program.class_name]().double()
    module.load_state_dict({key: torch.from_numpy(np.array(array)) for key, array in program.state.items()})
    return module.eval()


def outputs_of(program: to_torch.Program, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    import torch

    torch.set_num_threads(1)
    with torch.no_grad():
        found = module_of(program)(*[torch.from_numpy(np.asarray(x, np.float64)) for x in inputs])
    return [one.numpy() for one in (found if isinstance(found, tuple) else (found,))]


def inputs_of(network: Network, open_size: int = 9, count: int = 2) -> list[np.ndarray]:
    """Canonical inputs; open sizes are ``open_size``."""
    random = np.random.default_rng(7)
    shapes = [network.canonical_shape(ref) or () for ref in network.inputs]
    return [random.normal(0.1, 1.5, (count, *(size or open_size for size in shape[1:]))) for shape in shapes]


def agree(network: Network, inputs: Sequence[np.ndarray] | None = None, loose: float = 1e-10) -> to_torch.Program:
    """Convert, run, and hold every output against the reference in float64."""
    program = to_torch.program(network)
    values = inputs_of(network) if inputs is None else list(inputs)
    ours = outputs_of(program, values)
    theirs = network.run(values if len(values) > 1 else values[0], layers=list(program.output_names))
    for name, got in zip(program.output_names, ours, strict=True):
        wanted = theirs[name]
        assert got.shape == wanted.shape, name
        assert np.isfinite(wanted).all()
        if wanted.dtype.kind == "f":
            np.testing.assert_allclose(got, wanted, rtol=0, atol=loose * np.abs(wanted).max(initial=1e-30))
        else:
            np.testing.assert_array_equal(got, wanted)
    return program


def words(source: str) -> str:
    """The text of all comments, joined over line ends."""
    return re.sub(r"\s+", " ", " ".join(line.strip()[2:] for line in source.splitlines() if line.strip()[:2] == "# "))
