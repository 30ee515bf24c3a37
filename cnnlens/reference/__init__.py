"""The NumPy reference: every layer kind as an operation on arrays, without a framework."""

from __future__ import annotations

from cnnlens.reference.builder import build
from cnnlens.reference.operation import LinearOperation, Operation, Shape, Weights, known_kinds

__all__ = ["LinearOperation", "Operation", "Shape", "Weights", "build", "known_kinds"]
