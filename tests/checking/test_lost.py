"""Where bits are lost: a wrong number of any kind of layer is lost in its place, and nowhere else."""

from __future__ import annotations

import pytest

from cnnlens.checking.lost import FULL
from tests.support.planted import LAYERS, SIZES, planted_layer


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
def test_a_wrong_number_is_lost_in_its_place(size: str) -> None:
    for number, (kind, _, _) in enumerate(LAYERS):
        layer = planted_layer(number, size, 1.0, 3)
        output = layer.honest.copy()
        place = tuple(axis // 2 for axis in output.shape)
        output[place] += 1000.0
        found = layer.check(output)
        assert found.lost is not None, kind
        canonical = output.shape[1:] if output.ndim < 3 else (output.shape[-1], *output.shape[1:-1])
        assert found.lost.shape == (canonical or (1,)), kind
        first, last = place[1:-1], place[-1:]
        where = (*last, *first) if output.ndim > 1 else (0,)
        assert found.lost[where] > 9, kind
        others = found.lost.copy()
        others[where] = 0
        assert others.max(initial=0) < 8, kind
    assert FULL == 24


def test_nothing_is_lost_of_what_is_right() -> None:
    for number in range(len(LAYERS)):
        layer = planted_layer(number, "many", 1.0, 3)
        assert layer.check(layer.honest).lost is None
