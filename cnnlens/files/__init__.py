"""Model files of Keras and PyTorch, read without either and without executing anything."""

from __future__ import annotations

from cnnlens.files.arrays import StoredArray
from cnnlens.files.keras.quantised import dequantise
from cnnlens.files.model_file import ModelFile
from cnnlens.files.opener import network, read

__all__ = ["ModelFile", "StoredArray", "dequantise", "network", "read"]
