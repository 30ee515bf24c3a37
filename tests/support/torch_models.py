"""Modules as people write them in PyTorch, with everything between modules that they write there, for the tests."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional


class Functional(nn.Module):
    """Calls between modules: cat, chunk, mean, interpolate, pad, gelu, a residual sum in place, flatten."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, (3, 5), padding=(1, 2))
        self.norm = nn.BatchNorm2d(6)
        self.act = nn.ReLU(inplace=True)
        self.second = nn.Conv2d(6, 6, 3, padding=1, groups=2)
        self.up = nn.ConvTranspose2d(6, 4, (3, 2), stride=(2, 3), padding=1, output_padding=(1, 2))
        self.prelu = nn.PReLU(4)
        self.pool = nn.AvgPool2d(3, 2, 1)
        self.head = nn.Linear(10 * 3 * 2, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.act(self.norm(self.first(x)))
        y += self.second(y)
        left, right = y.chunk(2, 1)
        y = torch.cat([right, functional.gelu(left)], 1)
        y = functional.interpolate(y, scale_factor=2.0, mode="bilinear", align_corners=False)
        y = functional.max_pool2d(functional.pad(y, (1, 2, 0, 1)), 3, 2)
        z = self.pool(self.prelu(self.up(y)))
        y = functional.adaptive_avg_pool2d(y, (3, 2))
        z = functional.adaptive_avg_pool2d(z, (3, 2)) * torch.sigmoid(z.mean((2, 3), keepdim=True))
        return functional.softmax(self.head(torch.flatten(torch.cat([y, z], 1), 1)), -1)


class Spoilt(nn.Module):
    """Square kernels, so that no shape gives a fault away."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 5, 3, padding=1)
        self.norm = nn.BatchNorm2d(5)
        self.act = nn.ReLU(inplace=True)
        self.second = nn.Conv2d(5, 5, 3, padding=1)
        self.pool = nn.AvgPool2d(3, 2, 1)
        self.gelu = nn.GELU()
        self.up = nn.Upsample(scale_factor=2.0, mode="bilinear", align_corners=False)
        self.head = nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.act(self.norm(self.conv(x)))
        y = y + self.second(y)
        return self.head(self.up(self.gelu(self.pool(y))).mean((2, 3)))


class Twin(nn.Module):
    """What both frameworks can say: square kernels on as many channels, and a Linear that sees a flattened map."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3)
        self.norm = nn.BatchNorm2d(3)
        self.second = nn.Conv2d(3, 3, 3, bias=False)
        self.head = nn.Linear(3 * 4 * 4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.conv(x)))
        return self.head(torch.flatten(self.second(x), 1))


def seeded(made: type[nn.Module], *args: Any, **kwargs: Any) -> Any:
    """One of them in evaluation, with batch norms that are not the identity."""
    torch.manual_seed(7)
    module = made(*args, **kwargs).eval()
    for one in module.modules():
        if isinstance(one, nn.BatchNorm2d):
            nn.init.uniform_(one.running_mean, -0.3, 0.3)
            nn.init.uniform_(one.running_var, 0.5, 2.0)
            nn.init.uniform_(one.weight, 0.5, 2.0)
            nn.init.uniform_(one.bias, -0.3, 0.3)
    return module


def hooked(module: nn.Module, x: torch.Tensor) -> dict[str, Any]:
    """What forward hooks see of every submodule's calls, copied before anything writes over it; ``name:1`` and on."""
    found: dict[str, Any] = {}

    def keep(name: str) -> Any:
        def hook(_: Any, __: Any, output: torch.Tensor) -> None:
            calls = sum(one == name or one.startswith(f"{name}:") for one in found)
            found[f"{name}:{calls}" if calls else name] = output.clone().numpy()

        return hook

    handles = [one.register_forward_hook(keep(name)) for name, one in module.named_modules() if name]
    with torch.inference_mode():
        module(x)
    for handle in handles:
        handle.remove()
    return found
