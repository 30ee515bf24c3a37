"""Keras -> PyTorch: a network as one readable Python file and a ``.safetensors`` state dict.

    program = to_torch.program(cnnlens.open("model.keras"))
    program.write("model.py")  # and model.safetensors

What the two need to run is torch and safetensors, nothing of ours. ``program`` converts and writes nothing.
"""

from __future__ import annotations

from cnnlens.conversion.to_torch.program import Program, program
from cnnlens.conversion.to_torch.rules import REFUSED

__all__ = ["REFUSED", "Program", "program"]
