"""Files that PyTorch writes, small: state dicts, whole modules, TorchScript, exports, numbers of every type.

``FILES`` maps a format, as ``tests/support/honest_files.py`` has them and ``pt2``, to what makes the bytes of some.
"""

from __future__ import annotations

import argparse
import io
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

FILES: dict[str, Callable[[], Iterator[bytes]]] = {}


def _kind(make: Callable[[], Iterator[bytes]]) -> Callable[[], Iterator[bytes]]:
    FILES[make.__name__.strip("_").replace("_", "-")] = make
    return make


def bytes_of(save: Callable[..., Any], *values: Any, **options: Any) -> bytes:
    """What ``save`` writes."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        save(*values, buffer, **options)
    return buffer.getvalue()


def small_net() -> nn.Sequential:
    """Convolution, norm, pooling and a head; in inference."""
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(3, 5, (3, 2), padding=1), nn.BatchNorm2d(5), nn.Sequential(nn.ReLU(), nn.MaxPool2d(2)), nn.Flatten(),
        nn.Linear(5 * 4 * 4, 3),
    ).eval()  # fmt: skip


EXAMPLE = (torch.rand(2, 3, 8, 8),)


def checkpoint() -> dict[str, Any]:
    """What training leaves: weights, an optimizer, numbers and settings."""
    model = small_net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    optimizer.zero_grad()
    loss: Any = model(EXAMPLE[0]).sum()
    loss.backward()
    optimizer.step()
    return {
        "model": {**model.state_dict(), "t.weight": torch.ones(4, 3).T, "h.bias": torch.ones(3, dtype=torch.bfloat16)},
        "optimizer": optimizer.state_dict(), "best": np.float64(1), "array": np.ones((2, 3)), "epoch": 3,
        "args": argparse.Namespace(lr=0.1),
    }  # fmt: skip


@_kind
def _torch_zip() -> Iterator[bytes]:
    for protocol in (2, 4):
        yield bytes_of(torch.save, checkpoint(), pickle_protocol=protocol)


@_kind
def _torch_legacy() -> Iterator[bytes]:
    for protocol in (2, 4):
        yield bytes_of(torch.save, checkpoint(), pickle_protocol=protocol, _use_new_zipfile_serialization=False)


@_kind
def _module() -> Iterator[bytes]:
    for zipped in (True, False):
        yield bytes_of(torch.save, small_net(), _use_new_zipfile_serialization=zipped)
    layer = nn.TransformerEncoderLayer(6, 2, 8, batch_first=True)
    yield bytes_of(torch.save, {"model": nn.ModuleDict({"a": layer, "b": nn.LSTM(3, 4, 2)}), "ema": small_net()})


@_kind
def _torchscript() -> Iterator[bytes]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for made in (torch.jit.script(small_net()), torch.jit.trace(small_net(), EXAMPLE)):
            yield bytes_of(torch.jit.save, made)


@_kind
def _numbers() -> Iterator[bytes]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        w = torch.randn(5, 3, 2, 4)
        scales, zeros = torch.rand(5) + 0.1, torch.zeros(5)
        forms = {
            "q": torch.quantize_per_tensor(w, 0.1, 3, torch.quint8), "few": torch.relu(w[0, 0] - 1).to_sparse(),
            "channels": torch.quantize_per_channel(w, scales, zeros, 0, torch.qint8),
            "csr": torch.relu(w[0, 0] - 1).to_sparse_csr(), "eight": w.to(torch.float8_e4m3fn),
            "complex": w.to(torch.complex64), "bsr": torch.ones(4, 6).to_sparse_bsr((2, 3)),
        }  # fmt: skip
        yield bytes_of(torch.save, forms)
        dynamic = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(7, 4)), {nn.Linear})
        yield bytes_of(torch.save, dynamic.state_dict())
        yield bytes_of(torch.save, dynamic)


@_kind
def _pt2() -> Iterator[bytes]:
    yield bytes_of(torch.export.save, torch.export.export(small_net(), EXAMPLE))
