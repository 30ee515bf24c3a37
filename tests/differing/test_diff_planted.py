"""Every mistake that the detective promises to name, planted in models of all-different and of square sizes, is named.

Shapes must not decide: in the square models every axis of a kernel has the same size, so that only the values can tell
one mistake from another. Each line of NumPy that is given is run here again, from the JSON, against the right array.
"""

from __future__ import annotations

import json

import numpy as np
import pytest

from cnnlens.differing import listing as diff_listing
from cnnlens.differing.differ import diff
from cnnlens.differing.result import Diff
from cnnlens.network.network import Network
from tests.support.diff_mistakes import MISTAKES, Mistake
from tests.support.diff_models import (
    ARCHITECTURES,
    Architecture,
    Arrays,
    keras_model,
    replay,
    to_torch,
    torch_model,
    weights,
)

pytestmark = pytest.mark.slow

DIRECTIONS = ("wrong torch", "right torch", "wrong keras", "right keras", "wrong torch, right torch")


def models(
    of: Architecture, right: Arrays, wrong: dict[tuple[str, str], Mistake], direction: str
) -> tuple[Network, Network]:
    """A and B in one direction: who holds the mistakes, and in which framework."""
    good_torch = {
        n: {r: np.ascontiguousarray(to_torch(of[n], r, x)) for r, x in roles.items()} for n, roles in right.items()
    }
    bad_torch = {
        n: {r: wrong[n, r].in_torch(of[n], r, right[n][r]) if (n, r) in wrong else x for r, x in roles.items()}
        for n, roles in good_torch.items()
    }
    bad_keras = {
        n: {r: wrong[n, r].in_keras(of[n], r, x) if (n, r) in wrong else x for r, x in roles.items()}
        for n, roles in right.items()
    }
    if direction == "wrong torch":  # the Keras model is right, what was made of it in PyTorch is not
        return keras_model(of, right), torch_model(bad_torch)
    if direction == "right torch":
        return torch_model(bad_torch), keras_model(of, right)
    if direction == "wrong keras":
        return torch_model(good_torch), keras_model(of, bad_keras)
    if direction == "right keras":
        return keras_model(of, right), keras_model(of, bad_keras)
    return torch_model(good_torch), torch_model(bad_torch)


def check(found: Diff, of: Architecture, right: Arrays, wrong: dict[tuple[str, str], Mistake]) -> None:
    """Every planted mistake is named and proven, and nothing else is."""
    said = json.loads(json.dumps(diff_listing.as_json(found), allow_nan=False))
    names = list(right)
    assert [row["a"] for row in said["rows"]] == [layer.name for layer in found.a.layers if layer.stored]
    assert len(said["rows"]) == len(names)
    assert not said["equal"]
    for name, row in zip(names, said["rows"], strict=True):
        a, b = found.a[row["a"]], found.b[row["b"]]
        for one in row["arrays"]:
            mistake = wrong.get((name, one["role"]))
            if mistake is None:
                assert one["status"] == "equal", (name, one)
            else:
                assert one["status"] == "explained", (name, one)
                # Where two names are one and the same rearrangement of this shape, both are given.
                named = {one["tag"], *(other["tag"] for other in one["also"])}
                assert named & set(mistake.tags), (name, one["tag"], one["explanation"], one["also"])
            line = one["line"]
            assert line is not None, (name, one)
            made = replay(line, {one["b"]: b.weights[one["b"]]})
            target = a.weights[one["a"]]
            assert made.shape == target.shape
            if mistake is None or mistake.rounding == 0 or line["holds"] == "bit for bit":
                np.testing.assert_array_equal(made, target)
            elif mistake.rounding > 0:
                np.testing.assert_allclose(made, target, rtol=mistake.rounding, atol=1e-7)
            else:
                assert np.abs(made - target).max() <= 0.51 * np.abs(target).max() / 100


def plantable(of: Architecture, right: Arrays, mistake: Mistake) -> list[tuple[str, str]]:
    return [
        (name, role) for name, roles in right.items() for role, array in roles.items()
        if mistake.happens(of[name], role, array)
    ]  # fmt: skip


@pytest.mark.parametrize("size", ARCHITECTURES)
@pytest.mark.parametrize("name", MISTAKES)
def test_planted_in_every_layer(name: str, size: str) -> None:
    of, mistake = ARCHITECTURES[size], MISTAKES[name]
    for seed, direction in enumerate(DIRECTIONS):
        right = weights(of, seed)
        places = plantable(of, right, mistake)
        if not places:
            pytest.skip("there is no array in this model that it could happen to")
        wrong = dict.fromkeys(places, mistake)
        found = diff(*models(of, right, wrong, direction))
        check(found, of, right, wrong)


@pytest.mark.parametrize("size", ARCHITECTURES)
@pytest.mark.parametrize("name", MISTAKES)
def test_planted_in_one_layer(name: str, size: str) -> None:
    of, mistake = ARCHITECTURES[size], MISTAKES[name]
    for seed in range(2):
        right = weights(of, 10 + seed)
        places = plantable(of, right, mistake)
        if not places:
            pytest.skip("there is no array in this model that it could happen to")
        for number, place in enumerate(places):
            direction = DIRECTIONS[(seed + number) % len(DIRECTIONS)]
            found = diff(*models(of, right, {place: mistake}, direction))
            check(found, of, right, {place: mistake})


@pytest.mark.parametrize("size", ARCHITECTURES)
def test_several_mistakes_in_one_model(size: str) -> None:
    of = ARCHITECTURES[size]
    for seed in range(20):
        random = np.random.default_rng(seed)
        right = weights(of, 100 + seed)
        wrong: dict[tuple[str, str], Mistake] = {}
        for name in random.permutation(list(MISTAKES)):
            places = [place for place in plantable(of, right, MISTAKES[name]) if place not in wrong]
            if places and random.random() < 0.6:
                wrong[places[int(random.integers(len(places)))]] = MISTAKES[name]
        check(diff(*models(of, right, wrong, DIRECTIONS[seed % 5])), of, right, wrong)
