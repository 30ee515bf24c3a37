"""Pairs of PyTorch models with the same weights of which one computes something else, as porters make them.

Each is A's and B's part in the middle of one small network, the step of A that must be named, and words of the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

import cnnlens
from cnnlens.network.network import Network

Part = Callable[[], Any]
SHAPE = (2, 3, 13, 12)


class Step(nn.Module):
    """A function as a module of its own."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Any) -> Any:
        return self.function(x)


class Net(nn.Module):
    """A convolution, a batch norm, the part under test, another convolution and a head."""

    def __init__(self, middle: Any, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.bn = nn.BatchNorm2d(8, epsilon)
        self.mid = middle if isinstance(middle, nn.Module) else Step(middle)
        self.conv2 = nn.Conv2d(8, 5, 3)
        self.head = nn.Linear(5, 4)

    def forward(self, x: Any) -> Any:
        x = self.conv2(self.mid(self.bn(self.conv(x)))).relu()
        return self.head(x.mean((2, 3)))


class Shuffle(nn.Module):
    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Any) -> Any:
        n, c, h, w = x.shape
        return x.reshape(n, self.groups, c // self.groups, h, w).transpose(1, 2).reshape(n, c, h, w)


class HomeMadeNorm(nn.Module):
    """A GroupNorm by hand, as many repositories have it: weights of shape (1, C, 1, 1)."""

    def __init__(self, unbiased: bool, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.unbiased, self.epsilon = unbiased, epsilon
        self.weight, self.bias = (nn.Parameter(torch.ones(1, 8, 1, 1)) for _ in range(2))

    def forward(self, x: Any) -> Any:
        n, c, h, w = x.shape
        x = x.view(n, 2, -1)
        variance = x.var(-1, keepdim=True, unbiased=self.unbiased)
        x = (x - x.mean(-1, keepdim=True)) / torch.sqrt(variance + self.epsilon)
        return x.view(n, c, h, w) * self.weight + self.bias


class ChannelsFirst(nn.LayerNorm):
    """A layer norm over the channels of each position of a map, as ConvNeXt has it."""

    def __init__(self) -> None:
        super().__init__(8)

    def forward(self, x: Any) -> Any:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def zero_padded(x: Any) -> Any:
    return functional.max_pool2d(functional.pad(x, (1, 1, 1, 1)), 3, 2)


# A's part and B's, the step of A that is named first, and words of what is said of it.
MISTAKES: dict[str, tuple[Part, Part, str, str]] = {
    "zeros around a max pool": (
        lambda: nn.MaxPool2d(3, 2, 1), lambda: zero_padded, "mid", "the padding counts as zeros, not as nothing",
    ),
    "zeros around A's max pool": (
        lambda: zero_padded, lambda: nn.MaxPool2d(3, 2, 1), "mid.max_pool2d",
        "in A the padding counts as zeros, not as nothing",
    ),
    "channel shuffle in the other order": (
        lambda: Shuffle(2), lambda: Shuffle(4), "mid.reshape_1", "shuffled by 4 groups where A's are shuffled by 2",
    ),
    "channel shuffle left out": (
        lambda: Shuffle(2), lambda: nn.Identity(), "conv2", "A has its channels shuffled by 2 groups",
    ),
    "home-made GroupNorm": (
        lambda: nn.GroupNorm(2, 8), lambda: HomeMadeNorm(True), "mid", "the variance is divided by n - 1 instead of n",
    ),
    "home-made GroupNorm, other epsilon": (
        lambda: nn.GroupNorm(2, 8), lambda: HomeMadeNorm(False, 1e-3), "mid", "epsilon 0.001 where A says 1e-05",
    ),
    "LeakyReLU's slope": (lambda: nn.LeakyReLU(0.2), lambda: nn.LeakyReLU(0.01), "mid", "-1 gives -0.01"),
    "GELU's other approximation": (
        lambda: nn.GELU(), lambda: lambda x: x * torch.sigmoid(1.702 * x), "mid", "activation is quick gelu",
    ),
    "A's GELU's other approximation": (
        lambda: lambda x: x * torch.sigmoid(1.702 * x), lambda: nn.GELU(), "mid.mul_1",
        "in A the activation is quick gelu",
    ),
    "LayerNorm for GroupNorm": (
        lambda: nn.GroupNorm(1, 8), lambda: ChannelsFirst(), "mid", "each position is normalised by itself",
    ),
    "GroupNorm for LayerNorm": (
        lambda: ChannelsFirst(), lambda: nn.GroupNorm(1, 8), "mid.layer_norm", "all positions are normalised together",
    ),
    "GELU's tanh": (lambda: nn.GELU(), lambda: nn.GELU("tanh"), "mid", "activation is gelu"),
    "Keras 2's hard sigmoid": (
        lambda: nn.Hardsigmoid(), lambda: lambda x: torch.clamp(0.2 * x + 0.5, 0, 1), "mid", "hard_sigmoid of Keras 2",
    ),
    "zeros counted in a mean": (
        lambda: nn.AvgPool2d(3, 2, 1), lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False), "mid",
        "count_include_pad is False where A's is True",
    ),
    "ceil mode": (
        lambda: nn.MaxPool2d(3, 2, ceil_mode=True), lambda: nn.MaxPool2d(3, 2), "mid",
        "ceil_mode is False where A's is True",
    ),
    "align_corners": (
        lambda: nn.Upsample(scale_factor=2, mode="bilinear"),
        lambda: nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True), "mid", "align_corners is True",
    ),
    "softmax over the last axis": (
        lambda: nn.Softmax(1), lambda: nn.Softmax(3), "mid", "softmax over axis 3 where A's is softmax over axis 1",
    ),
    "instance for layer normalisation": (
        lambda: nn.GroupNorm(1, 8), lambda: nn.InstanceNorm2d(8, affine=True), "mid", "groups is -1 where A's is 1",
    ),
    "a scale left out": (
        lambda: lambda x: x / 255, lambda: nn.Identity(), "conv2", "A has a factor 0.00392157",
    ),
    "a residual left out": (
        lambda: lambda x: x + x.tanh(), lambda: lambda x: x.tanh(), "conv2", "A has add ('mid.add') in front of it",
    ),
    "concatenated in another order": (
        lambda: lambda x: torch.cat([x[:, :4].tanh(), x[:, 4:]], 1),
        lambda: lambda x: torch.cat([x[:, 4:], x[:, :4].tanh()], 1), "mid.cat", "taken in the order 2, 1",
    ),
    "a difference for a sum": (
        lambda: lambda x: x + 3, lambda: lambda x: x - 3, "mid", "it is Step: Subtract where A's is Step: Add",
    ),
    "reflected for padded with zeros": (
        lambda: nn.Sequential(nn.ReflectionPad2d(1), nn.AvgPool2d(3, 1)),
        lambda: nn.Sequential(nn.ZeroPad2d(1), nn.AvgPool2d(3, 1)), "mid.0", "ZeroPad2d",
    ),
}  # fmt: skip


def settled(module: Any, seed: int = 0) -> Any:
    """The module with weights as a training leaves them: none is zero or one."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, array in module.state_dict().items():
            if array.is_floating_point():
                array.copy_(
                    torch.rand(array.shape, generator=random) + (0.3 if "var" in name or array.ndim < 2 else -0.5)
                )
    return module.eval()


def opened(module: Any, shape: tuple[int, ...] = SHAPE) -> Network:
    return cnnlens.open(module.eval(), example=torch.randn(shape, generator=torch.Generator().manual_seed(1)).numpy())


def same_weights(source: Any, target: Any) -> None:
    """Copy by name what has as many numbers in both."""
    given = source.state_dict()
    with torch.no_grad():
        for name, array in target.state_dict().items():
            if name in given and array.numel() == given[name].numel():
                array.copy_(given[name].reshape(array.shape))
