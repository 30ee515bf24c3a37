"""Tests that ship with cnnlens, for whoever writes a backend: inherit ``BackendContract`` and name the backend.

    from cnnlens.testing import BackendContract

    class TestMine(BackendContract):
        backend = "mine"

They need pytest, and run the backend in a worker, as cnnlens itself does.
"""

from __future__ import annotations

from cnnlens.testing.contract import BackendContract
from cnnlens.testing.networks import NETWORKS, MemoryModel, inputs_for, network

__all__ = ["NETWORKS", "BackendContract", "MemoryModel", "inputs_for", "network"]
