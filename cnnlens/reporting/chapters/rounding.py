"""Rounding beside bugs: one convolution of the sample in several arithmetics, and with several faults, each audited.

What runs is the audit of ``cnnlens check``, on outputs made here: from operands rounded to a format as a GPU does it,
or with a fault in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnlens.checking import Verdict, audit
from cnnlens.checking.noise.formats import BFLOAT16, FLOAT16, FLOAT32, TF32, to_format
from cnnlens.network.network import Network

__all__ = ["rounding"]

Array = NDArray[Any]

_TOLERANCES = (1e-5, 1e-3, 1e-2)
_FACTOR = 1.002  # on one channel: smaller than what bfloat16 rounds away, and a bug
_CHANNEL = 7


def rounding(network: Network, maps: Mapping[str, Array], layer: str) -> dict[str, Any]:
    """Compute ``layer`` from its own inputs in each way, and audit what comes out.

    Returns:
        ``rows``: ``name``, ``bug`` (or rounding), ``bits``, ``channel_bits`` of the worst channel, ``error`` (the
        largest absolute one), ``close`` (what ``np.allclose`` says at each of ``tolerances``), ``verdict``, ``says``.
    """
    call = network.calls_by_name[layer]
    x = np.moveaxis(maps[call.refs[0].call], 1, -1).astype(np.float32)
    weights = dict(call.layer.weights)
    exact = _run(call.layer, weights, x, np.float64)
    rows: list[dict[str, Any]] = []
    for name, (bug, output) in _made(call.layer, weights, x).items():
        found = audit(call, weights, [x], {}, output)
        close = [bool(np.allclose(output, exact, rtol=one, atol=one)) for one in _TOLERANCES]
        rows.append({
            "name": name, "bug": bug, "bits": max(found.bits, 0.0), "channel_bits": max(found.channel_bits, 0.0),
            "error": float(np.abs(output - exact).max()), "close": close, "verdict": str(found.verdict),
            "says": found.explanation if found.verdict is Verdict.WRONG else "",
        })  # fmt: skip
    by_name = {row["name"]: row for row in rows}
    return {
        "rows": rows,
        "tolerances": list(_TOLERANCES),
        "places": {
            "outputs": f"{exact.size:,}",
            "pictures": str(len(exact)),
            "channels": str(exact.shape[-1]),
            **{f"bits_{one.name}": str(one.mantissa + 1) for one in (FLOAT32, TF32, BFLOAT16)},  # with the hidden one
            "float32": f"{by_name['float32']['bits']:.1f}",
            "tf32": f"{by_name['tf32']['bits']:.1f}",
            "float16": f"{by_name['float16']['bits']:.1f}",
            "bfloat16": f"{by_name['bfloat16']['bits']:.1f}",
            "factor": str(_FACTOR),
            "channel": str(_CHANNEL),
            "error_scaled": f"{by_name['scaled']['error']:.2g}",
            "error_bfloat16": f"{by_name['bfloat16']['error']:.2g}",
        },
    }


def _run(layer: Any, weights: Mapping[str, Array], x: Array, dtype: Any) -> Array:
    return np.asarray(layer.operation({role: array.astype(dtype) for role, array in weights.items()}, x.astype(dtype)))


def _made(layer: Any, weights: Mapping[str, Array], x: Array) -> dict[str, tuple[bool, Array]]:
    """The layer's outputs by what they were made with, and whether that is a bug."""
    single = _run(layer, weights, x, np.float32)
    made = {"float32": (False, single)}
    for one in (TF32, FLOAT16, BFLOAT16):
        # Tensor cores round the operands of products alone; a layer in half precision its bias and its results, too.
        rounded = {
            role: to_format(array, one) if role == "kernel" or one is not TF32 else array
            for role, array in weights.items()
        }
        output = _run(layer, rounded, to_format(x, one), np.float64)
        made[one.name] = (False, (output if one is TF32 else to_format(output, one)).astype(np.float32))
    scaled = single.copy()
    scaled[..., _CHANNEL] *= np.float32(_FACTOR)
    swapped = {**weights, "kernel": np.ascontiguousarray(weights["kernel"].transpose(1, 0, 2, 3))}
    without = {**weights, "bias": np.zeros_like(weights["bias"])}
    return made | {
        "scaled": (True, scaled),
        "no_bias": (True, _run(layer, without, x, np.float32)),
        "swapped": (True, _run(layer, swapped, x, np.float32)),
    }
