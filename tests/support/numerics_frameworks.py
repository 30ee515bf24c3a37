"""Run by a test in a process of its own: PyTorch computes layers in float32, bfloat16 and float16 on the CPU.

``python numerics_frameworks.py FOLDER`` reads FOLDER/NAME.npz (x and weights in Keras' layout) for every case below and
writes FOLDER/NAME.FORMAT.npy in Keras' axes. A last case is Keras' own average pooling on this backend.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

FORMATS = ("float32", "bfloat16", "float16")
# Name -> (kind, input shape, configuration).
CASES: dict[str, tuple[str, tuple[int, ...], dict[str, Any]]] = {
    "wide": ("Conv2D", (2, 14, 13, 64), {"filters": 48, "kernel_size": 3}),
    "deep": ("Conv2D", (1, 7, 9, 512), {"filters": 64, "kernel_size": 3}),
    "image": ("Conv2D", (1, 56, 50, 3), {"filters": 32, "kernel_size": 7, "strides": 2}),
    "point": ("Conv2D", (2, 14, 12, 256), {"filters": 64, "kernel_size": 1, "activation": "relu"}),
    "depthwise": ("DepthwiseConv2D", (2, 20, 18, 32), {"kernel_size": 3}),
    "gelu": ("Dense", (64, 2048), {"units": 100, "activation": "gelu"}),
    "sigmoid": ("Dense", (64, 300), {"units": 50, "activation": "sigmoid"}),
    "softmax": ("Dense", (64, 512), {"units": 100, "activation": "softmax"}),
    "tanh": ("Conv2D", (2, 14, 13, 32), {"filters": 24, "kernel_size": 5, "activation": "tanh"}),
    "silu": ("Conv2D", (2, 14, 13, 32), {"filters": 24, "kernel_size": 3, "activation": "silu"}),
    "batch": ("BatchNormalization", (3, 20, 18, 32), {}),
    "layer": ("LayerNormalization", (3, 20, 96), {}),
    "mean": ("AveragePooling2D", (3, 20, 18, 8), {"pool_size": 3}),
    "global": ("GlobalAveragePooling2D", (3, 20, 18, 64), {}),
}
POOLING = ("AveragePooling2D", (2, 8, 6, 5), {"pool_size": 3, "strides": 2, "padding": "same"})


def main(folder: Path) -> None:
    import numpy as np
    import torch
    import torch.nn.functional as F  # noqa: N812

    activations = {
        "relu": F.relu,
        "gelu": F.gelu,
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
        "silu": F.silu,
        "softmax": lambda y: F.softmax(y, -1),
    }

    def layer(kind: str, config: dict[str, Any], x: Any, weights: dict[str, Any]) -> Any:
        if kind == "Dense":
            y = F.linear(x, weights["kernel"].T, weights["bias"])
        elif kind == "LayerNormalization":
            return F.layer_norm(x, x.shape[-1:], weights["gamma"], weights["beta"], 1e-3)
        else:
            x = x.permute(0, 3, 1, 2).contiguous()
            if kind == "Conv2D":
                kernel = weights["kernel"].permute(3, 2, 0, 1).contiguous()
                y = F.conv2d(x, kernel, weights["bias"], config.get("strides", 1))
            elif kind == "DepthwiseConv2D":
                kernel = weights["kernel"].permute(2, 3, 0, 1).contiguous()
                y = F.conv2d(x, kernel, weights["bias"], groups=x.shape[1])
            elif kind == "BatchNormalization":
                statistics = (weights["moving_mean"], weights["moving_variance"], weights["gamma"], weights["beta"])
                y = F.batch_norm(x, *statistics, eps=1e-3)
            elif kind == "AveragePooling2D":
                y = F.avg_pool2d(x, config["pool_size"])
            else:
                return x.mean(dim=(2, 3))
            y = y.permute(0, 2, 3, 1)
        name = config.get("activation")
        return activations[name](y) if name else y

    torch.set_num_threads(1)
    with torch.inference_mode():
        for name, (kind, _, config) in CASES.items():
            with np.load(folder / f"{name}.npz") as stored:
                arrays = {key: torch.from_numpy(stored[key]) for key in stored}
            for wanted in FORMATS:
                cast = {key: array.to(getattr(torch, wanted)) for key, array in arrays.items()}
                result = layer(kind, config, cast.pop("x"), cast).float().numpy()
                np.save(folder / f"{name}.{wanted}.npy", np.ascontiguousarray(result))
    os.environ["KERAS_BACKEND"] = "torch"
    import keras

    with np.load(folder / "pooling.npz") as stored:
        result = keras.layers.AveragePooling2D(**POOLING[2])(stored["x"])
    np.save(folder / "pooling.npy", keras.ops.convert_to_numpy(result))
    (folder / "keras.txt").write_text(keras.__version__)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
