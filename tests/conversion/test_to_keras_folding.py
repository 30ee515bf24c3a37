"""Kernels that a module computes of its weights: audited with the layer that takes them, and constants in Keras."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import cnnlens  # noqa: E402
from cnnlens.checking.auditing import audit_recording  # noqa: E402
from cnnlens.errors import UnsupportedLayerError  # noqa: E402

nn, functional = torch.nn, torch.nn.functional
normed = nn.utils.parametrizations


class Standardised(nn.Conv2d):
    """A scaled-standardised convolution, by mean and variance or by a batch norm of the kernel in training mode."""

    def __init__(self, *sizes: int, by_batch_norm: bool = False) -> None:
        super().__init__(*sizes)
        self.gain = nn.Parameter(torch.rand(self.out_channels, 1, 1, 1) + 0.5)
        self.by_batch_norm = by_batch_norm

    def forward(self, x: Any) -> Any:
        w = self.weight
        if self.by_batch_norm:
            flat, gain = w.reshape(1, self.out_channels, -1), (self.gain * 0.3).view(-1)
            w = functional.batch_norm(flat, None, None, weight=gain, training=True, momentum=0.0).reshape_as(w)
        else:
            mean, variance = w.mean((1, 2, 3), keepdim=True), w.var((1, 2, 3), keepdim=True)
            w = (w - mean) / torch.sqrt(variance + 1e-5) * self.gain
        return functional.conv2d(x, w, self.bias)


FOLDED = {
    "weight norm, 1-D": (lambda: normed.weight_norm(nn.Conv1d(3, 5, 4)), (3, 9)),
    "weight norm, 2-D": (lambda: normed.weight_norm(nn.Conv2d(3, 5, (3, 2))), (3, 9, 8)),
    "weight norm, depthwise": (lambda: normed.weight_norm(nn.Conv2d(6, 6, 3, groups=6)), (6, 9, 8)),
    "weight norm, transposed": (lambda: normed.weight_norm(nn.ConvTranspose1d(3, 5, 4)), (3, 9)),
    "weight norm, linear": (lambda: normed.weight_norm(nn.Linear(9, 5)), (9,)),
    "the older weight norm": (lambda: nn.utils.weight_norm(nn.Conv1d(3, 5, 4)), (3, 9)),
    "spectral norm": (lambda: normed.spectral_norm(nn.Conv2d(3, 5, 3)), (3, 9, 8)),
    "the older spectral norm": (lambda: nn.utils.spectral_norm(nn.Conv2d(3, 5, 3)), (3, 9, 8)),
    "standardised": (lambda: Standardised(3, 5, 3), (3, 9, 8)),
    "standardised by a batch norm": (lambda: Standardised(3, 5, 3, by_batch_norm=True), (3, 9, 8)),
}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", FOLDED)
def test_a_kernel_computed_of_weights_is_audited_and_written(name: str, tmp_path: Path) -> None:
    make, shape = FOLDED[name]
    torch.manual_seed(3)
    module = nn.Sequential(make(), nn.ReLU()).eval()
    example, x = torch.zeros(2, *shape), torch.randn(4, *shape)
    check = cnnlens.check(module, x, example=example)
    assert check.agree
    assert {row.audits["pytorch"].verdict.value for row in check.rows} <= {"exact", "float32"}, check.rows
    made = cnnlens.convert(module, "keras", tmp_path / "made.keras", example=example)
    assert any("which is computed of other weights" in note for note in made.notes)
    kernels = [weight for layer in made.result for weight in layer.stored.values() if weight.is_kernel]
    assert [one.stored.dtype for one in kernels] == [np.dtype("float32")]
    (truth,) = made.source.run(x.numpy(), layers=[made.source.outputs[0].name]).values()
    (found,) = made.result.run(x.numpy(), layers=[made.result.outputs[0].name]).values()
    np.testing.assert_allclose(found, truth, rtol=0, atol=3e-7 * np.abs(truth).max())


@pytest.mark.parametrize("factor", [1.0001, 0.99])
def test_another_kernel_than_the_weights_say_is_seen(factor: float) -> None:
    torch.manual_seed(3)
    module = nn.Sequential(normed.weight_norm(nn.Conv2d(3, 5, 3)), nn.ReLU()).eval()
    network = cnnlens.open(module, example=torch.zeros(2, 3, 9, 8))
    recording = cnnlens.record(network, np.random.default_rng(1).normal(size=(4, 3, 9, 8)).astype("float32"),
                               backend="pytorch", precision="strict")  # fmt: skip
    arrays = {name: np.asarray(recording[name][:]) for name in recording}
    arrays["0.conv2d"] = (arrays["0.conv2d"] * np.float32(factor)).astype("float32")

    class Changed(dict[str, Any]):
        info, count = recording.info, 4

        def altered(self, name: str) -> str | None:
            return None

    changed: Any = Changed(arrays)
    assert dict(audit_recording(network, changed))["0.conv2d"].verdict in ("wrong", "suspicious")


def test_what_cannot_be_folded_says_what_makes_it_a_plain_weight() -> None:
    module = nn.Sequential(normed.orthogonal(nn.Linear(9, 5)), nn.ReLU()).eval()
    with pytest.raises(UnsupportedLayerError, match="remove_parametrizations") as error:
        cnnlens.convert(module, "keras", "never.keras", example=torch.zeros(2, 9))
    said = str(error.value)
    assert "model.get_submodule('0'), 'weight'" in said
    assert "0.linear" not in said  # what takes it is right


class Dropping(nn.Module):
    def forward(self, x: Any) -> Any:
        return functional.dropout(x, 0.5)


def test_who_called_eval_is_not_told_to_call_it_and_no_more() -> None:
    with pytest.raises(UnsupportedLayerError, match=r"training=self\.training"):
        cnnlens.open(Dropping().eval(), example=torch.zeros(2, 9)).run(np.zeros((2, 9)))
    check = cnnlens.check(Dropping().eval(), torch.zeros(2, 9), example=torch.zeros(2, 9))
    assert "training=self.training" in str(check.runs[0].error)
