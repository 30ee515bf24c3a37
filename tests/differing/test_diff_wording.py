"""Words are for people: with every sentence reworded, a diff finds the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from cnnlens.differing import differ, listing, wording
from cnnlens.differing.cause import Kind
from cnnlens.differing.consensus import Outcome
from cnnlens.differing.differ import diff
from cnnlens.differing.result import Diff
from cnnlens.errors import UnsupportedLayerError
from tests.differing.test_diff import changed, folded
from tests.support.diff_models import ARCHITECTURES, Array, Arrays, keras_model, torch_arrays, torch_model, weights

OF = ARCHITECTURES["square"]
WORDS = "altogether other words"


def as_it_is(array: Array, kernel: bool) -> Array:
    return array


def flipped(array: Array, kernel: bool) -> Array:
    return array[:, :, ::-1] if kernel and array.ndim == 4 else array


def swapped_and_scaled(array: Array, kernel: bool) -> Array:
    return array.swapaxes(2, 3) * np.float32(1.5) if kernel and array.ndim == 4 else array


def trained(array: Array, kernel: bool) -> Array:
    noise = np.random.default_rng(array.size).normal(size=array.shape)
    return (array + 0.05 * float(array.std()) * noise).astype(np.float32)


def narrow(array: Array, kernel: bool) -> Array:
    return array.astype(np.float16)


def permuted(array: Array, kernel: bool) -> Array:
    return array[np.random.default_rng(1).permutation(len(array))] if kernel else array


def unrelated(array: Array, kernel: bool) -> Array:
    return np.random.default_rng(array.size).normal(size=array.shape).astype(np.float32)


CHANGES = (as_it_is, flipped, swapped_and_scaled, trained, narrow, permuted, unrelated)


def pairs() -> Iterator[tuple[Arrays, Arrays]]:
    arrays = weights(OF, 0)
    for change in CHANGES:
        yield arrays, changed(torch_arrays(OF, arrays), lambda _, role, array, of=change: of(array, role == "kernel"))
    yield arrays, torch_arrays(OF, folded(arrays, 1e-3))
    # One kernel that two flips turn alike: alone it is open, beside others it is settled.
    mirrored = weights(OF, 3)
    kernel = mirrored["conv1"]["kernel"]
    mirrored["conv1"]["kernel"] = (kernel + kernel[::-1, ::-1]).astype(np.float32)
    for names in (("conv1",), ("conv0", "conv1", "conv2", "depth")):
        wrong = torch_arrays(OF, mirrored)
        for name in names:
            wrong[name]["kernel"] = wrong[name]["kernel"][:, :, ::-1]
        yield mirrored, wrong


def told(found: Diff) -> list[Any]:
    """All that programs go by: what is equal (the exit code), the statuses, what was found, how much is said."""
    rows = [
        (row.a, row.b, row.status, [(one.role, one.finding.tag, one.finding.to_json()) for one in row.arrays])
        for row in found.rows
    ]
    return [found.equal, [one.to_json() for one in found.statements], rows]


def reword(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put other words in the place of all that the room says."""
    for module in (listing, wording):
        for name, value in list(vars(module).items()):
            if isinstance(value, dict) and name in ("_SAID", "_BRIEFLY", "_STATED"):
                monkeypatch.setattr(module, name, dict.fromkeys(value, lambda one: WORDS))
    for name in ("explanation", "layer"):
        monkeypatch.setattr(listing, name, lambda one: WORDS)
    assert differ.listing is listing


@pytest.mark.slow
def test_reworded_sentences_change_no_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    models = [(keras_model(OF, a), torch_model(b)) for a, b in pairs()]
    before = [diff(a, b) for a, b in models]
    assert {one.finding.status for found in before for row in found.rows for one in row.arrays} >= {
        "equal", "equal, stored otherwise", "explained", "ambiguous", "fine-tuned", "another"
    }  # fmt: skip
    reword(monkeypatch)
    after = [diff(a, b) for a, b in models]
    assert all(sentence == WORDS for found in after for sentence in found.verdict)
    assert all(one.explanation == WORDS for found in after for row in found.rows for one in (row, *row.arrays))
    assert [told(found) for found in after] == [told(found) for found in before]


def test_every_cause_has_words() -> None:
    assert set(wording._SAID) == set(Kind)
    assert set(listing._STATED) == set(Outcome)


def test_the_data_has_the_fields() -> None:
    arrays = weights(OF, 0)
    wrong = changed(torch_arrays(OF, arrays), lambda _, role, array: flipped(array, role == "kernel"))
    data = diff(keras_model(OF, arrays), torch_model(wrong)).to_json()
    one = next(one for row in data["rows"] for one in row["arrays"] if one["tag"] == "flip:H")
    assert one["finding"]["status"] == one["status"] == "explained"
    assert one["finding"]["causes"] == [{"kind": "flip", "of": "H"}]
    assert data["statements"][0]["tag"] == "flip:H"
    assert json.dumps(data["rows"])


def test_a_refusal_carries_its_layer() -> None:
    bare = UnsupportedLayerError("no such thing")
    named = bare.of("layer 'a' (B)")
    assert (named.layer, named.reason, str(named)) == ("layer 'a' (B)", "no such thing", "layer 'a' (B): no such thing")
    assert named.of("layer 'outer' (Model)") is named
