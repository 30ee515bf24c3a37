"""What the tests of workers share: a small network handed over, and a look at whether it was computed right."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from cnnlens.backend import handover, worker
from cnnlens.backend.worker import Worker
from cnnlens.network.network import Network
from cnnlens.testing import inputs_for, network


@pytest.fixture
def chain() -> Network:
    return network("chain")


@pytest.fixture
def handed(chain: Network, tmp_path: Path) -> Path:
    folder = tmp_path / "handed"
    folder.mkdir()
    handover.write(chain, folder)
    return folder


@contextmanager
def ended() -> Iterator[None]:
    """End the workers that are started inside; others stay warm for tests behind, with the frameworks they imported."""
    before = set(worker._workers)
    try:
        yield
    finally:
        for one in worker._workers - before:
            one.close()


def use(process: Worker, handed: Path, chain: Network) -> dict[str, np.ndarray]:
    process.load(handed)
    return process.feature_maps(inputs_for(chain, 5), ["first", "head"])


def use_all(process: Worker, handed: Path, chain: Network) -> None:
    process.devices()
    use(process, handed, chain)
    process.weights()


def agree(found: dict[str, np.ndarray], chain: Network, count: int = 5) -> None:
    wanted = chain.run(inputs_for(chain, count), list(found), dtype="float32")
    for name, array in wanted.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=1e-6)
