"""Networks that are hard to show on a page, made here without a file or a framework."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlens.files.keras.network import keras_network
from cnnlens.files.memory import MemoryModel
from cnnlens.network.network import Network
from cnnlens.testing.networks import conv_entry, input_entry, layer_entry, sequential

__all__ = ["HARD", "NAME", "hard_network"]

NAME = "</script><script>window.owned = 1</script><img src=x onerror=owned=1>\x1b[31m\u202e\u2028" + "x" * 10_000

Layers = tuple[list[dict[str, Any]], Mapping[str, Mapping[str, NDArray[Any]]]]
_DRAWN = np.random.default_rng(13)


def _normal(*shape: int) -> NDArray[Any]:
    return _DRAWN.normal(0, 1, shape).astype(np.float32)


def _hostile() -> Layers:
    """Names that end a script, colour a terminal, turn a line, and go on for 10,000 letters."""
    name = NAME.replace("/", "|")  # Keras allows no slash
    conv = conv_entry("Conv2D", name, (3, 2), filters=4, groups=1, activation="relu")
    return [input_entry("photo", 7, 6, 2), conv], {name: {"kernel": _normal(3, 2, 2, 4), "bias": _normal(4)}}


def _wide() -> Layers:
    """10,000 channels of 1 x 1 kernels."""
    conv = conv_entry("Conv2D", "wide", (1, 1), filters=10_000, groups=1, use_bias=False)
    return [input_entry("photo", 3, 4, 2), conv], {"wide": {"kernel": _normal(1, 1, 2, 10_000)}}


def _volume() -> Layers:
    """Kernels with three spatial axes."""
    conv = conv_entry("Conv3D", "conv", (2, 3, 4), filters=5, padding="same", groups=1)
    return [input_entry("scan", 6, 5, 4, 2), conv], {"conv": {"kernel": _normal(2, 3, 4, 2, 5), "bias": _normal(5)}}


def _broken() -> Layers:
    """A kernel that is NaN, one that is infinite, one of zeros, whose map is constant."""
    kernel = _normal(3, 2, 2, 4)
    kernel[0, 0, 0, 0], kernel[1, 1, 1, 1], kernel[..., 2] = np.nan, np.inf, 0
    conv = conv_entry("Conv2D", "conv", (3, 2), filters=4, groups=1)
    return [input_entry("photo", 7, 6, 2), conv], {"conv": {"kernel": kernel, "bias": np.zeros(4, np.float32)}}


def _weightless() -> Layers:
    return [input_entry("photo", 7, 6, 2), layer_entry("Flatten", "flat", data_format="channels_last")], {}


def _empty() -> Layers:
    """No layer but the input."""
    return [input_entry("photo", 7, 6, 2)], {}


def _deep() -> Layers:
    """3,000 layers in a row."""
    return [input_entry("photo", 4, 3, 2), *(layer_entry("ReLU", f"relu_{place}") for place in range(3_000))], {}


def _refused() -> Layers:
    """A layer of its author's own between two that are known."""
    own = {**layer_entry("MyOwnAttention", "attention", heads=2), "module": "mine", "registered_name": "Custom>MyOwn"}
    before = conv_entry("Conv2D", "before", (3, 2), filters=4, groups=1)
    after = conv_entry("Conv2D", "after", (1, 2), filters=3, groups=1)
    weights = {
        "before": {"kernel": _normal(3, 2, 2, 4), "bias": _normal(4)},
        "after": {"kernel": _normal(1, 2, 4, 3), "bias": _normal(3)},
    }
    return [input_entry("photo", 7, 6, 2), before, own, after], weights


HARD: Mapping[str, Callable[[], Layers]] = {
    "hostile": _hostile, "wide": _wide, "volume": _volume, "broken": _broken, "weightless": _weightless,
    "empty": _empty, "deep": _deep, "refused": _refused,
}  # fmt: skip


def hard_network(name: str) -> Network:
    """Build one of ``HARD``."""
    layers, weights = HARD[name]()
    arrays = {(layer,): dict(found) for layer, found in weights.items()}
    return keras_network(MemoryModel(sequential(name, layers), arrays))
