"""Whole models of PyTorch whose tensors have no row for each input in front: first states, last states, ranges."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import cnnlens  # noqa: E402
from cnnlens.checking.auditing import audit_recording  # noqa: E402

nn = torch.nn
LAYERS = ("LSTM", "GRU", "RNN")


class Sequences(nn.Module):  # type: ignore[misc, name-defined]
    """A recurrent layer without initial states, and a Linear on its sequence or on its last layer's last state."""

    def __init__(self, kind: str, last: bool, **settings: Any) -> None:
        super().__init__()
        self.rnn = getattr(nn, kind)(5, 7, **settings)
        self.last = last
        self.head = nn.Linear(14 if settings.get("bidirectional") and not last else 7, 3)

    def forward(self, x: Any) -> Any:
        sequence, state = self.rnn(x)
        return self.head((state[0] if isinstance(state, tuple) else state)[-1] if self.last else sequence)


class Positions(nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(6, 5), nn.Linear(5, 3)

    def forward(self, x: Any) -> Any:
        return self.head(x + self.table(torch.arange(x.shape[1])))


def _check(module: Any) -> Any:
    torch.manual_seed(3)
    return cnnlens.check(module.eval(), torch.randn(4, 6, 5), example=torch.zeros(2, 6, 5))


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("settings", [{}, {"num_layers": 2, "bidirectional": True}], ids=["one", "stacked"])
@pytest.mark.parametrize("kind", LAYERS)
def test_a_recurrent_layer_without_states_simply_agrees(kind: str, settings: dict[str, Any], last: bool) -> None:
    check = _check(Sequences(kind, last, batch_first=True, **settings))
    verdicts = {row.name: str(row.audits["pytorch"].verdict.value) for row in check.rows}
    assert check.agree
    assert set(verdicts.values()) <= {"exact", "float32"}, verdicts
    assert {"rnn", "head"} <= set(verdicts)


def test_positions_that_no_input_changes_are_no_rows_of_their_own() -> None:
    check = _check(Positions())
    assert [row.name for row in check.rows] == ["add", "head"]
    assert {row.audits["pytorch"].verdict.value for row in check.rows} <= {"exact", "float32"}


def test_a_state_of_another_value_is_seen_where_it_is_read() -> None:
    """The reference makes first states and positions again: what a backend has there instead shows in their reader."""
    module = Sequences("GRU", True, batch_first=True).eval()
    network = cnnlens.open(module, example=torch.zeros(2, 6, 5))
    x = np.random.default_rng(1).normal(size=(4, 6, 5)).astype(np.float32)
    recording = cnnlens.record(network, x, backend="pytorch", precision="strict")
    assert recording["rnn[1]"].shape == (4, 1, 7)  # a row an input; the layer's own order is (layers, N, C)
    arrays = {name: np.asarray(recording[name][:]) for name in recording}
    with torch.no_grad():
        wrong, state = module.rnn(torch.from_numpy(x), torch.full((1, 4, 7), 0.01))
    arrays["rnn"], arrays["rnn[1]"] = wrong.numpy(), state.numpy().transpose(1, 0, 2)

    class Changed(dict[str, Any]):
        info, count = recording.info, 4

        def altered(self, name: str) -> str | None:
            return None

    changed: Any = Changed(arrays)
    found = dict(audit_recording(network, changed))
    assert found["rnn"].verdict in ("wrong", "suspicious"), found["rnn"]


class Windows(nn.Module):
    """Takes its map apart into windows of two by two and mixes each, as transformers of windows do."""

    def __init__(self, axis: int = 0) -> None:
        super().__init__()
        self.conv, self.mix, self.axis = nn.Conv2d(3, 5, 1), nn.Linear(5, 6), axis

    def forward(self, x: Any) -> Any:
        y = self.conv(x)
        n, c, h, w = y.shape
        if self.axis:  # channels in front: the batch is inside of the rows
            return y.transpose(0, 1).reshape(c * n, h, w) * 2
        apart = y.view(n, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 3, 5, 1).reshape(-1, 4, c)
        return self.mix(apart).reshape(n, -1, 6).mean(1)


def test_several_rows_an_input_are_recorded_and_audited() -> None:
    torch.manual_seed(3)
    module, x = Windows().eval(), torch.randn(4, 3, 6, 8)
    check = cnnlens.check(module, x, example=torch.zeros(2, 3, 6, 8))
    assert check.agree
    assert {row.audits["pytorch"].verdict.value for row in check.rows} <= {"exact", "float32"}, check.rows
    recording = cnnlens.record(module, x, backend="pytorch", layers=["mix"], batch=3, example=torch.zeros(2, 3, 6, 8))
    assert recording["mix"].shape == (4, 12, 4, 6)  # two batches, three inputs and one
    with torch.no_grad():
        y = module.conv(x).view(4, 5, 3, 2, 4, 2).permute(0, 2, 4, 3, 5, 1).reshape(-1, 4, 5)
        np.testing.assert_allclose(np.asarray(recording["mix"][:]).reshape(48, 4, 6), module.mix(y), atol=1e-6)


def test_a_batch_inside_of_the_rows_is_not_taken_for_rows() -> None:
    check = _check_maps(Windows(1))
    verdicts = {row.name: row.audits["pytorch"] for row in check.rows}
    assert check.agree
    assert verdicts["conv"].verdict == "float32"
    assert "is not in the recording" in verdicts["reshape"].reason


def _check_maps(module: Any) -> Any:
    torch.manual_seed(3)
    return cnnlens.check(module.eval(), torch.randn(4, 3, 6, 8), example=torch.zeros(2, 3, 6, 8))


class Attending(nn.Module):
    """Reshapes what has several rows an input to a batch that no operand shows, as attention of windows does."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.qkv = nn.Conv2d(3, 4, 1), nn.Linear(4, 12)

    def forward(self, x: Any) -> Any:
        y = self.conv(x)
        n, c, h, w = y.shape
        rows = y.view(n, c, h // 2, 2, w // 2, 2).permute(0, 3, 5, 2, 4, 1).reshape(n * 4, h * w // 4, c)
        query, key, value = self.qkv(rows).reshape(rows.shape[0], -1, 3, 2, 2).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = nn.functional.scaled_dot_product_attention(query, key, value).transpose(1, 2)
        return mixed.reshape(n, -1, c).mean(1)


def test_a_batch_that_no_operand_shows_is_known_in_each_process(tmp_path: Any) -> None:
    torch.manual_seed(3)
    module, example = Attending().eval(), torch.zeros(2, 3, 6, 8)
    made = cnnlens.convert(module, "keras", tmp_path / "made.keras", example=example)
    assert made.twins.agree
    check = cnnlens.check(module, torch.randn(3, 3, 6, 8), backends=["pytorch", "reference"], example=example)
    assert check.agree
    verdicts = {audit.verdict.value for row in check.rows for audit in row.audits.values()}
    assert verdicts <= {"exact", "float32"}, check.rows
