"""Tensors of every type to save, and the comparison that every test of PyTorch's files ends in: bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from cnnlens.network.network import Network
from cnnlens.network.weight import Weight

torch = pytest.importorskip("torch")


def drawn(dtype: str, *shape: int) -> Any:
    """A tensor of any type whose elements have no pattern."""
    kind = getattr(torch, dtype)
    made = torch.empty(shape, dtype=kind)
    if not made.numel():
        return made
    bits = np.random.default_rng(3).integers(0, 2 if dtype == "bool" else 256, made.nbytes, dtype=np.uint8)
    return torch.frombuffer(bytearray(bits), dtype=kind).reshape(shape)


def small(**changed: Any) -> dict[str, Any]:
    """A state dict of one convolution with a bias, all axes different."""
    return {"conv.weight": drawn("float32", 5, 3, 2, 4), "conv.bias": drawn("float32", 5), **changed}


def arrays(network: Network) -> dict[str, Weight]:
    """Every weight by its name in the state dict, without prefixes."""
    return {
        name if layer.name == "(root)" else f"{layer.name}.{name}": weight
        for layer in network
        for name, weight in layer.stored.items()
    }


def assert_same(network: Network, expected: Mapping[str, Any]) -> None:
    """The network has these tensors and no others, bit for bit."""
    found = arrays(network)
    assert list(found) == list(expected)
    for name, value in expected.items():
        array = found[name].read()
        kept = value.float() if value.dtype == torch.bfloat16 else value
        assert array.dtype == kept.numpy().dtype
        assert array.shape == tuple(value.shape)
        assert array.tobytes() == kept.numpy().tobytes()
        assert not array.flags.writeable
        assert found[name].stored.stored_dtype == str(value.dtype).removeprefix("torch.")
