"""Networks as people write them in PyTorch: the shapes of ResNet, MobileNet, DenseNet and U-Net, and awkward ones.

Each comes with the inputs it takes, two at a time, all of whose axes differ in size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


def convolution(ins: int, outs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(ins, outs, 3, 1, 1, bias=False), nn.BatchNorm2d(outs), nn.ReLU(inplace=True))


class Block(nn.Module):
    def __init__(self, ins: int, outs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(ins, outs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outs)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outs, outs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outs)
        self.downsample: nn.Module | None = None
        if stride != 1 or ins != outs:
            self.downsample = nn.Sequential(nn.Conv2d(ins, outs, 1, stride, bias=False), nn.BatchNorm2d(outs))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        y += x if self.downsample is None else self.downsample(x)
        return self.relu(y)


class ResNet(nn.Module):
    def __init__(self, classes: int = 7) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(Block(8, 8), Block(8, 8))
        self.layer2 = nn.Sequential(Block(8, 12, 2), Block(12, 12))
        self.layer3 = nn.Sequential(Block(12, 16, 2), Block(16, 16))
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(16, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(torch.flatten(self.avgpool(x), 1))


class Squeeze(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, 4, 1)
        self.fc2 = nn.Conv2d(4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.fc1(functional.adaptive_avg_pool2d(x, 1)))
        return x * functional.hardsigmoid(self.fc2(y))


class Inverted(nn.Module):
    def __init__(self, ins: int, wide: int, outs: int, size: int, stride: int, squeeze: bool) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.Sequential(nn.Conv2d(ins, wide, 1, bias=False), nn.BatchNorm2d(wide, eps=1e-3), nn.Hardswish()),
            nn.Sequential(
                nn.Conv2d(wide, wide, size, stride, size // 2, groups=wide, bias=False),
                nn.BatchNorm2d(wide),
                nn.ReLU6(),
            ),
            Squeeze(wide) if squeeze else nn.Identity(),
            nn.Sequential(nn.Conv2d(wide, outs, 1, bias=False), nn.BatchNorm2d(outs)),
        )
        self.residual = ins == outs and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x) + x if self.residual else self.block(x)


class MobileNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1),
            Inverted(8, 9, 8, 3, 1, True),
            Inverted(8, 24, 10, 5, 2, True),
            Inverted(10, 30, 10, 3, 1, False),
        )
        self.classifier = nn.Sequential(
            nn.Linear(10, 14), nn.Hardswish(inplace=True), nn.Dropout(0.2), nn.Linear(14, 5)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).mean([2, 3]))


class DenseLayer(nn.Module):
    def __init__(self, ins: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(ins)
        self.conv = nn.Conv2d(ins, 4, 3, padding=1, bias=False)

    def forward(self, maps: list[Tensor]) -> Tensor:
        return self.conv(functional.relu(self.norm(torch.cat(maps, 1)), inplace=True))


class DenseNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.block = nn.ModuleList([DenseLayer(6 + 4 * number) for number in range(3)])
        self.transition = nn.Sequential(nn.BatchNorm2d(18), nn.ReLU(), nn.Conv2d(18, 9, 1), nn.AvgPool2d(2, 2))
        self.classifier = nn.Linear(9, 5)

    def forward(self, x: Tensor) -> Tensor:
        maps = [self.stem(x)]
        for layer in self.block:
            maps.append(layer(maps))
        x = functional.adaptive_avg_pool2d(self.transition(torch.cat(maps, 1)), (1, 1))
        return self.classifier(torch.flatten(x, 1))


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2, self.middle = convolution(3, 6), convolution(6, 10), convolution(10, 12)
        self.rise2 = nn.ConvTranspose2d(12, 10, 2, 2)
        self.up2 = convolution(20, 8)
        self.rise1 = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        self.up1 = convolution(14, 7)
        self.out = nn.Conv2d(7, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.down1(x)
        b = self.down2(functional.max_pool2d(a, 2))
        y = self.rise2(self.middle(functional.max_pool2d(b, 2)))
        y = self.up2(torch.cat([y, b], 1))
        y = self.up1(torch.cat([self.rise1(y), a], 1))
        return torch.sigmoid(self.out(y))


class Shuffle(nn.Module):
    """The batch size goes through ``view``, and a Linear sees a flattened map."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 12, 3, 2, 1)
        self.b = nn.Conv2d(12, 12, 3, 1, 1, groups=3)
        self.fc = nn.Linear(12 * 4 * 5, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.b(self.a(x))
        n, c, h, w = x.shape
        x = x.view(n, 3, c // 3, h, w).transpose(1, 2).contiguous().view(n, c, h, w)
        return self.fc(x.reshape(n, -1))


class TwoByTwo(nn.Module):
    """Two inputs, three outputs in a dict and a tuple, parameters and buffers used directly, chunks."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.lin = nn.Linear(6, 4)
        self.scale = nn.Parameter(torch.rand(4, 1, 1))
        self.mean: Tensor
        self.register_buffer("mean", torch.rand(1, 3, 1, 1))
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, image: Tensor, extra: Tensor) -> Any:
        y = self.conv((image - self.mean) * 2) * self.scale
        y = functional.relu(y + self.lin(extra)[:, :, None, None])
        left, right = y.chunk(2, 1)
        y = torch.cat([right, left], 1)
        return {"map": self.head(y), "rest": (y.mean(dim=(2, 3)), functional.interpolate(y, scale_factor=2))}


class Shared(nn.Module):
    """One convolution twice, one block twice, an activation on maps and on vectors, tied weights."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(5, 5, 3, padding=1)
        self.block = Block(5, 5)
        self.act = nn.LeakyReLU(0.2, inplace=True)
        self.last = nn.ReLU()
        self.fc = nn.Linear(5, 5)
        self.tied = nn.Linear(5, 5)
        self.tied.weight = self.fc.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.conv(x))
        x = self.act(self.conv(x))
        x = functional.relu(self.block(self.block(x)), inplace=True)
        return self.tied(self.last(self.fc(self.last(x).mean((-2, -1)))))


class Flattened(nn.Module):
    """Vectors between a flattened map and the Linear that reads it."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(True), nn.MaxPool2d(2)),
            *(nn.Conv2d(6, 8, 3, padding=1), nn.PReLU(8), nn.MaxPool2d(2)),
        )
        flat = 8 * 3 * 4
        self.classifier = nn.Sequential(
            *(nn.Flatten(), nn.BatchNorm1d(flat), nn.PReLU(flat), nn.Dropout()),
            *(nn.Linear(flat, 9), nn.ReLU(True), nn.Linear(9, 5)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return functional.softmax(self.classifier(self.features(x)), 1)


class InPlace(nn.Module):
    """Results of writes in place that are read under their old names."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Any:
        x = self.conv(x)
        functional.relu_(x)
        x.mul_(2)
        y = x * 1.0
        y.add_(x)
        y.clamp_(0, 6)
        dropped = functional.dropout(y, training=self.training)
        dropped += 1
        return y, dropped


class ThroughView(nn.Module):
    """A write into a slice of a tensor that is read afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        x[:, 1:3].mul_(2.0)
        return x + 1


class Frames(nn.Module):
    """An axis of time folded into the batch and taken out again."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        n, steps = x.shape[:2]
        y = self.conv(x.flatten(0, 1)).mean((2, 3))
        return self.fc(y.view(n, steps, -1)).mean(1)


class NamesCollide(nn.Module):
    """Modules named like inputs, operators and numbered operators."""

    def __init__(self) -> None:
        super().__init__()
        self.x = nn.Conv2d(3, 4, 3)
        self.add = nn.ReLU()
        self.relu_1 = nn.Conv2d(4, 4, 1)
        self.view = nn.Sequential(nn.Conv2d(4, 3, 1))
        self.alpha = nn.Parameter(torch.tensor(0.3))

    def forward(self, x: Tensor) -> Any:
        y = functional.relu(self.add(self.x(x)) + 1)
        y = self.view(functional.relu(self.relu_1(y))) * self.alpha
        return y.view(y.size(0), -1), self.alpha


class Unused(nn.Module):
    """Three dimensions, a batch norm without vectors, a module that is never called, a counter that it keeps."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(2, 3, (3, 2, 1), stride=(1, 2, 1))
        self.norm = nn.BatchNorm3d(3, affine=False)
        self.spare = nn.Linear(3, 4)
        self.count: Tensor
        self.register_buffer("count", torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        self.count.add_(1)
        return functional.elu(self.norm(self.conv(x))) * self.count


class Text(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 6)
        self.conv = nn.Conv1d(6, 4, 3)
        self.fc = nn.Linear(4, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        y = functional.relu(self.conv(self.embed(tokens).permute(0, 2, 1)))
        return self.fc(functional.max_pool1d(y, 5).squeeze(-1))


class Patches(nn.Module):
    """A class token for every input, attention with the batch on the second axis."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 4, 4)
        self.token = nn.Parameter(torch.rand(1, 1, 8))
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = self.encoder(torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1))
        return self.head(x[:, 0])


Case = tuple[Callable[[], nn.Module], tuple[Tensor, ...]]


def _maps(*sizes: int) -> Tensor:
    return torch.rand(2, *sizes, generator=torch.Generator().manual_seed(sum(sizes))) * 2 - 1


CASES: dict[str, Case] = {
    "resnet": (ResNet, (_maps(3, 33, 41),)),
    "mobilenet": (MobileNet, (_maps(3, 32, 40),)),
    "densenet": (DenseNet, (_maps(3, 12, 14),)),
    "unet": (UNet, (_maps(3, 12, 16),)),
    "shuffle": (Shuffle, (_maps(3, 8, 10),)),
    "two inputs": (TwoByTwo, (_maps(3, 6, 7), _maps(6))),
    "shared": (Shared, (_maps(5, 6, 7),)),
    "flattened": (Flattened, (_maps(3, 12, 16),)),
    "in place": (InPlace, (_maps(3, 7, 9),)),
    "frames": (Frames, (_maps(5, 3, 6, 7),)),
    "names": (NamesCollide, (_maps(3, 6, 7),)),
    "unused": (Unused, (_maps(2, 7, 8, 5),)),
    "text": (Text, (torch.tensor([[1, 4, 0, 9, 10, 3, 2, 7], [5, 5, 8, 6, 0, 1, 10, 2]]),)),
    "patches": (Patches, (_maps(3, 8, 12),)),
}


def build(name: str) -> nn.Module:
    """The module of a case, in evaluation, with arrays that no layer starts with: a swapped pair would show."""
    torch.manual_seed(len(name))
    module = CASES[name][0]().eval()
    for one in module.modules():
        if isinstance(one, nn.modules.batchnorm._BatchNorm):
            assert one.running_mean is not None
            assert one.running_var is not None
            one.running_mean.uniform_(-0.5, 0.5)
            one.running_var.uniform_(0.5, 2)
            if one.affine:
                nn.init.uniform_(one.weight, 0.5, 1.5)
                nn.init.uniform_(one.bias)
    return module


def exported(module: nn.Module, inputs: tuple[Tensor, ...], dynamic: bool, strict: bool = False) -> Any:
    """``torch.export.export`` as a person calls it."""
    shapes = tuple({0: torch.export.Dim("batch")} for _ in inputs) if dynamic else None
    return torch.export.export(module, inputs, dynamic_shapes=shapes, strict=strict)


def outputs_of_modules(module: nn.Module, inputs: tuple[Tensor, ...]) -> dict[str, Any]:
    """What forward hooks see: each submodule's output by its name, ``name:1`` for its second call."""
    found: dict[str, Any] = {}
    calls: dict[str, int] = {}

    def hook(name: str) -> Any:
        def see(_: nn.Module, __: Any, output: Any) -> None:
            number = calls[name] = calls.get(name, -1) + 1
            output = output[0] if isinstance(output, tuple) else output
            found[f"{name}:{number}" if number else name] = output.detach().clone().numpy()

        return see

    handles = [one.register_forward_hook(hook(name)) for name, one in module.named_modules() if name]
    with torch.no_grad():
        module(*inputs)
    for handle in handles:
        handle.remove()
    return found
