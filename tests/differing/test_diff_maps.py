"""Feature maps of PyTorch models with the same weights: what a porter did otherwise is named, the rest inherits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from cnnlens.differing.differ import diff  # noqa: E402
from cnnlens.differing.maps import Activations, Parting, Standing  # noqa: E402
from tests.support.diff_map_mistakes import MISTAKES, Net, Step, opened, same_weights, settled  # noqa: E402


def compared(a: Any, b: Any) -> Activations:
    same_weights(a, b)
    found = diff(opened(a), opened(b), "random")
    assert found.activations is not None
    return found.activations


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named_where_it_is_and_the_rest_inherits(name: str) -> None:
    one, other, first, words = MISTAKES[name]
    found = compared(settled(Net(one())), Net(other()))
    assert found.outcome is Parting.PARTS
    assert [own.a for own in found.own] == [first], found.text  # and no other
    assert words in found.own[0].explanation, found.text
    standing = {tensor.a: tensor.standing for tensor in found.tensors}
    assert standing["bn"] is Standing.SAME
    assert standing["head"] is Standing.INHERITS, standing
    assert Standing.OWN in standing.values()


def test_behind_the_first_difference_the_next_own_one_is_found() -> None:
    one, other = settled(Net(nn.LeakyReLU(0.3))), Net(nn.LeakyReLU(0.1), epsilon=1e-2)
    found = compared(one, other)
    assert [own.a for own in found.own] == ["bn", "mid"], found.text
    assert "epsilon is 0.01 where A's is 1e-05" in found.text
    assert "and of their own, given A's inputs, 'mid' (B: 'mid'): activation is leaky_relu" in found.text
    standing = {tensor.a: tensor.standing for tensor in found.tensors}
    assert [standing[name] for name in ("conv", "bn", "mid", "conv2", "head")] == [
        "same", "own", "own", "inherits", "inherits",
    ]  # fmt: skip


def test_weights_behind_a_difference_still_explain_their_own() -> None:
    one, other = settled(Net(nn.ReLU())), Net(nn.ReLU(), epsilon=1e-2)
    same_weights(one, other)
    with torch.no_grad():
        other.conv2.weight.copy_(other.conv2.weight.flip(2))
    found = diff(opened(one), opened(other), "random").activations
    assert found is not None
    assert [own.a for own in found.own] == ["bn", "conv2"], found.text
    assert "its weights differ (kernel: flipped on H)" in found.own[1].explanation


def test_a_layer_written_by_hand_is_the_layer() -> None:
    from tests.support.diff_map_mistakes import HomeMadeNorm

    one, other = settled(Net(nn.GroupNorm(2, 8))), Net(HomeMadeNorm(False))
    same_weights(one, other)
    for a, b in ((one, other), (other, one)):
        found = diff(opened(a), opened(b), "random")
        assert found.equal, found
        assert len(found.rows) == 5


@pytest.mark.parametrize("norm", [nn.utils.weight_norm, nn.utils.parametrizations.weight_norm])
@pytest.mark.filterwarnings("ignore:.*weight_norm.*")
def test_a_normed_kernel_is_what_it_comes_to(norm: Any) -> None:
    plain, normed = settled(Net(nn.ReLU())), Net(nn.ReLU())
    same_weights(plain, normed)
    normed.conv2 = norm(normed.conv2)
    for a, b in ((plain, normed), (normed, plain)):
        for found in (diff(opened(a), opened(b), "random"), diff(a.state_dict(), b.state_dict())):
            assert found.equal, found
            assert "the same model, to float32's rounding" in found.verdict[0]
    size = next(array for name, array in normed.state_dict().items() if name.endswith(("_g", "original0")))
    direction = next(array for name, array in normed.state_dict().items() if name.endswith(("_v", "original1")))
    with torch.no_grad():
        size.mul_(2)
        direction.mul_(3)  # its length says nothing
    found = diff(plain.state_dict(), normed.state_dict())
    assert "A is 0.5 times B" in str(found)
    copied = {**plain.state_dict(), "conv2.weight": direction}
    found = diff(copied, normed.state_dict())
    assert "A holds " in found.rows[2].explanation
    assert "alone: " in found.rows[2].explanation
    assert "is left out" in found.rows[2].explanation


def test_rounded_weights_leave_rounded_maps() -> None:
    one, other = settled(Net(nn.ReLU())), Net(nn.ReLU())
    same_weights(one, other)
    with torch.no_grad():
        for array in other.state_dict().values():
            if array.is_floating_point():
                array.copy_(torch.from_numpy(np.nextafter(array.numpy(), np.float32(9))))
    found = diff(opened(one), opened(other), "random")
    assert found.equal, found
    assert found.activations.outcome is Parting.ROUNDED
    assert "rounding the weights once more moves them by" in found.activations.text


def test_maps_without_a_number_are_not_compared() -> None:
    one, other = settled(Net(nn.ReLU())), Net(Step(lambda x: x.tanh()))
    same_weights(one, other)
    for module in (one, other):
        module.head.bias.data.fill_(float("nan"))
    found = diff(opened(one), opened(other), "random")
    assert found.activations.outcome is Parting.NOT_COMPUTED
    assert "holds no finite number" in found.activations.text


def test_sequences_agree_in_either_order_of_axes() -> None:
    """(N, T, C) and (N, C, T) are one sequence, square or not."""
    for steps in (6, 5):
        channels_last = nn.Sequential(nn.Linear(5, 5), nn.Tanh())
        settled(channels_last)

        class Turned(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.conv = nn.Conv1d(5, 5, 1)

            def forward(self, x: Any) -> Any:
                return self.conv(x.transpose(1, 2)).tanh()

        other = Turned()
        with torch.no_grad():
            other.conv.weight.copy_(channels_last[0].weight[..., None])
            other.conv.bias.copy_(channels_last[0].bias)
        found = diff(opened(channels_last, (2, steps, 5)), opened(other, (2, steps, 5)), "random")
        assert found.equal, found
