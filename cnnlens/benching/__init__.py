"""bench: how fast a network runs under each backend, and how exact what it gives is: each timed and audited alike."""

from __future__ import annotations

from cnnlens.benching.bencher import bench
from cnnlens.benching.result import Bench
from cnnlens.benching.rows import STAGES, BenchRow, Exactness, Timed

__all__ = ["STAGES", "Bench", "BenchRow", "Exactness", "Timed", "bench"]
