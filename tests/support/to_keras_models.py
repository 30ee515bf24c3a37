"""PyTorch modules that the conversion to Keras is tested with: every kind of layer and setting, and architectures.

Axis sizes differ wherever the frameworks allow it, and there are square ones where a shape must not help. Settings that
can stand side by side are branches of one module, so that one export serves them all.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

Make = Callable[[], nn.Module]
Shape = tuple[int, ...]
MODELS: dict[str, tuple[Make, tuple[Shape, ...]]] = {}
"""Name to what makes the module, and the shapes of its inputs without the batch."""


def model(*shapes: Shape) -> Callable[[Make], Make]:
    def add(make: Make) -> Make:
        MODELS[make.__name__] = (make, shapes)
        return make

    return add


def randomised(module: nn.Module, seed: int = 0) -> nn.Module:
    """Every parameter and statistic another number; in evaluation."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            shift = 0.2 if parameter.ndim == 1 else 0.0
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4 + shift)
        for name, buffer in module.named_buffers():
            if "var" in name:
                buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
            elif buffer.is_floating_point():
                buffer.copy_(torch.randn(buffer.shape, generator=generator) * 0.3)
    return module.eval()


class Branches(nn.Module):
    """Several modules on the same input; as many outputs."""

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        super().__init__()
        self.each = nn.ModuleList(modules)

    def forward(self, x):
        return tuple(one(x) for one in self.each)


class Function(nn.Module):
    """A function of the module and its inputs; parameters and layers by name."""

    def __init__(self, function, **parts) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, nn.Parameter(part) if isinstance(part, torch.Tensor) else part)

    def forward(self, *inputs):
        return self.function(self, *inputs)


# --- every setting --------------------------------------------------------------------------------------------------


def _convolutions(size: Shape) -> nn.Module:
    settings = itertools.product((1, 2, 3, 4, 5), (1, 2, 3), (0, 1, 2), (1, 2))
    return Branches(
        [
            nn.Conv2d(3, 4, (k, 3), s, p, dilation=d)
            for k, s, p, d in settings
            if (k - 1) * d < size[0] + 2 * p and 2 * d < size[1] + 2 * p
        ]
    )


def _transposed(size: Shape) -> nn.Module:
    settings = itertools.product((1, 2, 3, 4), (1, 2, 3), (0, 1, 2), (0, 1, 2))
    return Branches(
        [
            nn.ConvTranspose2d(3, 2, (k, 3), s, p, extra)
            for k, s, p, extra in settings
            if extra < max(s, 1) and (size[0] - 1) * s - 2 * p + k + extra > 0 and p <= k
        ]
    )


def _poolings(size: Shape) -> nn.Module:
    means = [{}, {"count_include_pad": False}, {"ceil_mode": True}, {"divisor_override": 7}]
    means.append({"ceil_mode": True, "count_include_pad": False})
    maxima = [(3, 2, 1, False), (3, 2, 1, True), (2, 2, 0, True), ((2, 3), (2, 3), 0, True), (3, 1, 1, False)]
    return Branches(
        [
            *(nn.AvgPool2d(3, 2, 1, **one) for one in means),
            *(nn.AvgPool2d((5, 4), 3, (2, 1), **one) for one in means),
            nn.AvgPool2d(2),
            *(nn.MaxPool2d(k, s, p, ceil_mode=up) for k, s, p, up in maxima),
            *(nn.Sequential(nn.ReLU(), nn.MaxPool2d(k, s, p, ceil_mode=up)) for k, s, p, up in maxima),
            *(nn.AdaptiveAvgPool2d(one) for one in ((1, 1), (3, 2), (5, 3), (size[0], size[1]))),
            *(nn.AdaptiveMaxPool2d(one) for one in ((1, 1), (2, 4), 3)),
        ]
    )


for _size in ((9, 8), (10, 7), (8, 8)):
    for _make in (_convolutions, _transposed, _poolings):
        _name = f"{_make.__name__.strip('_')}_{_size[0]}x{_size[1]}"
        MODELS[_name] = ((lambda make=_make, size=_size: make(size)), ((3, *_size),))


@model((6, 9, 8))
def grouped():
    return Branches(
        [
            nn.Conv2d(6, 4, 3, 2, 1, groups=2),
            nn.Conv2d(6, 12, 3, padding=1, groups=6, bias=False),
            nn.Conv2d(6, 6, (3, 5), (2, 1), (1, 2), groups=6),
            nn.ConvTranspose2d(6, 4, 3, 2, 1, 1, groups=2),
            nn.Conv2d(6, 4, (4, 3), padding="same", dilation=(1, 2)),
            *(
                nn.Conv2d(6, 4, (3, 4), padding=(2, 1), padding_mode=one)
                for one in ("reflect", "replicate", "circular")
            ),
        ]
    )


@model((3, 12))
def one_dimension():
    return nn.Sequential(
        nn.Conv1d(3, 4, 3, padding=2, dilation=2),
        nn.MaxPool1d(3, 2, 1),
        nn.BatchNorm1d(4),
        nn.Conv1d(4, 8, 3, padding=1, groups=4),
        nn.ConvTranspose1d(8, 2, 4, 2, 1),
        nn.AvgPool1d(2),
        nn.Flatten(),
        nn.Linear(12, 5),
    )


@model((3, 5, 4, 6))
def three_dimensions():
    return nn.Sequential(
        nn.Conv3d(3, 4, (3, 2, 3), padding=1),
        nn.BatchNorm3d(4),
        nn.ReLU(),
        nn.MaxPool3d(2, padding=1),
        nn.ConvTranspose3d(4, 2, 2, 2),
        nn.Flatten(),
        nn.Linear(2 * 6 * 6 * 8, 3),
    )


@model((3, 5, 4))
def activations():
    return nn.Sequential(
        nn.Conv2d(3, 8, 1),
        Branches([
            *(nn.LeakyReLU(0.2), nn.ELU(0.7), nn.GELU(), nn.GELU("tanh"), nn.Mish(), nn.Softplus(), nn.Hardtanh(-2, 3)),
            *(nn.Hardtanh(0, 5), nn.Hardtanh(), nn.CELU(0.4), nn.SELU(), nn.Softsign(), nn.Tanhshrink(), nn.SiLU()),
            *(nn.LogSigmoid(), nn.Hardshrink(0.1), nn.Softshrink(0.2), nn.Threshold(0.1, 0.3), nn.GLU(1), nn.PReLU(8)),
            *(nn.PReLU(), nn.LogSoftmax(1), nn.Softmax(2), nn.Tanh(), nn.Sigmoid(), nn.ReLU6(), nn.Hardsigmoid()),
            *(nn.Hardswish(), nn.RReLU(), nn.Dropout(0.3), nn.Dropout2d(0.3), nn.Identity()),
        ]),
    )  # fmt: skip


@model((3, 5, 4))
def normalisations():
    return nn.Sequential(
        nn.Conv2d(3, 8, 1),
        Branches([
            *(nn.BatchNorm2d(8, eps=1e-3, momentum=0.01), nn.BatchNorm2d(8, affine=False), nn.GroupNorm(4, 8)),
            *(nn.InstanceNorm2d(8), nn.InstanceNorm2d(8, affine=True), nn.GroupNorm(2, 8, affine=False)),
            *(nn.LayerNorm([8, 5, 4]), nn.LayerNorm([5, 4]), nn.LayerNorm(4, bias=False), nn.RMSNorm(4, 1e-5)),
            *(nn.RMSNorm([5, 4], 1e-6), nn.LocalResponseNorm(3)),
        ]),
    )  # fmt: skip


@model((3, 5, 4))
def arithmetic():
    def forward(self, x):
        y = (2 * x + 1 - self.c(x) / 3) ** 2 - torch.clamp(x, 0, 1) + x.clamp(min=0.1).sqrt()
        z = (1 - x) + torch.exp(-x.abs()) + self.b * x + self.k
        return y + z, torch.maximum(y, z), torch.where(y > z, y, z), torch.add(y, z, alpha=2), torch.rsub(y, z, alpha=3)

    parts = {"c": nn.Conv2d(3, 3, 1), "b": torch.ones(3, 1, 1), "k": torch.ones(1, 3, 5, 1)}
    return Function(forward, **parts)


@model((6, 9, 8))
def moving_values():
    def forward(self, x):
        y = self.c(x)
        first, second = y.chunk(2, 1)
        a, b, c = torch.split(y, [1, 2, 3], 1)
        outputs = [torch.cat([second, F.relu(first)], 1), torch.cat([b, a, c], 2 - 1), y[:, 1:, ::2, -3:] + 1]
        outputs += [y[:, 1] * x[:, 2].sum(1, keepdim=True), torch.stack([x, y], 2).flatten(1, 2)]
        outputs += [y.flip(3), y.roll(2, 1), F.pad(y, [1, 2, 0, 3]), F.pad(y, [1, 0, 2, 1], value=0.7)]
        outputs += [F.pad(y, [-1, -2, 1, 0]), y.mean((1, 2)), y.amax(1), y.var((2, 3)), y.std(1, correction=0)]
        outputs += [y.unsqueeze(2).squeeze(2).transpose(1, 3), y.permute(0, 3, 1, 2), y.reshape(y.shape[0], 2, -1)]
        return tuple(outputs)

    return Function(forward, c=nn.Conv2d(6, 6, 1))


@model((6, 9, 8))
def shuffles():
    return nn.Sequential(
        nn.ChannelShuffle(3),
        nn.Conv2d(6, 8, 1),
        nn.PixelShuffle(2),
        nn.Conv2d(2, 2, 1),
        nn.PixelUnshuffle(2),
        Function(lambda self, x: x.view(x.shape[0], 2, 4, 9, 8).transpose(1, 2).reshape(x.shape[0], 8, 9, 8)),
        nn.Conv2d(8, 3, 1),
    )


@model((3, 5, 4))
def resizing():
    return Branches(
        [
            nn.Upsample(scale_factor=2),
            nn.Upsample(scale_factor=(3, 2), mode="bilinear", align_corners=False),
            Function(lambda self, x: F.interpolate(x, size=(7, 9), mode="bilinear", align_corners=False)),
        ]
    )


@model((3, 5, 4), (6,))
def two_inputs():
    def forward(self, x, y):
        return self.c(x).mean((2, 3)) + self.l(y)

    return Function(forward, c=nn.Conv2d(3, 4, 1), l=nn.Linear(6, 4))


@model((4, 6))
def linear_over_sequences():
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.LayerNorm(5), nn.Linear(5, 3))


@model((5, 6))
def recurrent():
    def forward(self, x):
        y, _ = self.gru(x)
        z, _ = self.lstm(y)
        return z[:, -1], self.rnn(z)[0].mean(1)

    return Function(
        forward,
        gru=nn.GRU(6, 4, num_layers=2, batch_first=True, bidirectional=True),
        lstm=nn.LSTM(8, 3, batch_first=True, bias=False),
        rnn=nn.RNN(3, 2, batch_first=True, bias=False),
    )


@model((4, 6))
def constants_and_products():
    def forward(self, x):
        y = (x - self.mean) / self.spread
        return torch.einsum("abc,cd->abd", y, self.weight), F.normalize(y, dim=2), torch.bmm(y, y.transpose(1, 2))

    made = Function(forward, weight=torch.ones(6, 5))
    made.register_buffer("mean", torch.ones(6))
    made.register_buffer("spread", torch.ones(6))
    return made


# --- flattening -----------------------------------------------------------------------------------------------------


def _flatten_chain(size: Shape) -> nn.Module:
    features = 6 * size[0] * size[1]
    return nn.Sequential(
        nn.Conv2d(3, 6, 1),
        nn.Flatten(),
        nn.BatchNorm1d(features),
        nn.Dropout(),
        nn.PReLU(features),
        nn.Linear(features, 7),
        nn.ReLU(),
        nn.Linear(7, 4),
    )


MODELS["flatten_chain"] = (lambda: _flatten_chain((5, 4)), ((3, 5, 4),))
MODELS["flatten_chain_square"] = (lambda: _flatten_chain((6, 6)), ((3, 6, 6),))


@model((3, 5, 4))
def flattened_and_seen():
    """Flattened maps that are outputs, or meet what knows the order: those stay in PyTorch's."""

    def forward(self, x):
        y = self.c(x)
        flat = y.flatten(1)
        return flat, F.softmax(x.flatten(1), 1), self.l(torch.cat([x.flatten(1), flat], 1)), self.m(y.view(-1, 40))

    return Function(forward, c=nn.Conv2d(3, 2, 1), l=nn.Linear(100, 4), m=nn.Linear(40, 3))


@model((3, 5, 4))
def shared_layers():
    def forward(self, x):
        y = self.b(self.c(x))
        z = self.b(self.c(y))
        return self.l(y.flatten(1)) + self.l(z.flatten(1))

    return Function(forward, c=nn.Conv2d(3, 3, 3, padding=1), b=nn.BatchNorm2d(3), l=nn.Linear(60, 3))


# --- architectures --------------------------------------------------------------------------------------------------


class BasicBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 8, 7, 2, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)
        )
        self.layer1 = nn.Sequential(BasicBlock(8, 8, 1), BasicBlock(8, 8, 1))
        self.layer2 = nn.Sequential(BasicBlock(8, 12, 2), BasicBlock(12, 12, 1))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(12, 5)

    def forward(self, x):
        return self.fc(torch.flatten(self.pool(self.layer2(self.layer1(self.stem(x)))), 1))


MODELS["resnet_even"] = (ResNet, ((3, 32, 40),))
MODELS["resnet_odd"] = (ResNet, ((3, 33, 33),))


class Squeeze(nn.Module):
    def __init__(self, channels: int, linear: bool) -> None:
        super().__init__()
        layer = nn.Linear if linear else (lambda i, o: nn.Conv2d(i, o, 1))
        self.linear = linear
        self.fc1, self.fc2 = layer(channels, channels // 2), layer(channels // 2, channels)

    def forward(self, x):
        if not self.linear:
            return x * F.hardsigmoid(self.fc2(F.relu(self.fc1(F.adaptive_avg_pool2d(x, 1)))))
        n, c, _, _ = x.shape
        return x * torch.sigmoid(self.fc2(F.relu(self.fc1(x.mean((2, 3)).view(n, c))))).view(n, c, 1, 1)


@model((3, 32, 30))
def mobilenet():
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8, eps=1e-3, momentum=0.01), nn.Hardswish()),
        nn.Sequential(
            *(nn.Conv2d(8, 16, 1), nn.Hardswish(), nn.Conv2d(16, 16, 5, 2, 2, groups=16), Squeeze(16, linear=False)),
            nn.Conv2d(16, 8, 1),
        ),
        *(Squeeze(8, linear=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 12), nn.Hardswish()),
        *(nn.Dropout(0.2), nn.Linear(12, 5)),
    )


@model((3, 10, 8))
def densenet():
    def forward(self, x):
        found = [x]
        for layer in self.layers:
            found.append(layer(torch.cat(found, 1)))
        pooled = F.avg_pool2d(torch.cat(found, 1), 2, 2)
        return self.head(pooled.view(x.size(0), -1))

    layers = [
        nn.Sequential(nn.BatchNorm2d(3 + 4 * n), nn.ReLU(), nn.Conv2d(3 + 4 * n, 4, 3, padding=1)) for n in range(3)
    ]
    return Function(forward, layers=nn.ModuleList(layers), head=nn.Linear(15 * 5 * 4, 3))


def _unet(up: nn.Module) -> nn.Module:
    def forward(self, x):
        a = self.down1(x)
        b = self.up(self.down2(a))
        b = F.pad(b, [0, a.shape[3] - b.shape[3], 0, a.shape[2] - b.shape[2]])
        return self.out(torch.cat([a, b], 1))

    return Function(
        forward,
        down1=nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()),
        down2=nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(4, 6, 3, padding=1), nn.ReLU()),
        up=up,
        out=nn.Conv2d(8, 2, 3, padding=1),
    )


@model((3, 9, 12))
def unet():
    return _unet(nn.ConvTranspose2d(6, 4, 2, 2))


@model((3, 9, 13))
def unet_bilinear():
    return _unet(nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(6, 4, 1)))


@model((4, 9, 8))
def convnext_block():
    def forward(self, x):
        y = self.depthwise(x).permute(0, 2, 3, 1)
        y = self.gamma * self.down(F.gelu(self.up(self.norm(y))))
        return x + self.scale * y.permute(0, 3, 1, 2)

    return Function(
        forward,
        depthwise=nn.Conv2d(4, 4, 7, padding=3, groups=4),
        norm=nn.LayerNorm(4, eps=1e-6),
        up=nn.Linear(4, 16),
        down=nn.Linear(16, 4),
        gamma=torch.ones(4),
        scale=torch.ones(4, 1, 1),
    )


@model((3, 8, 12))
def vision_transformer():
    def forward(self, x):
        tokens = self.embed(x).flatten(2).transpose(1, 2) + self.position
        n, count, width = tokens.shape
        q, k, v = self.qkv(self.norm(tokens)).reshape(n, count, 3, 2, width // 2).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, count, width)
        return self.head((tokens + self.out(mixed)).mean(1))

    return Function(
        forward,
        embed=nn.Conv2d(3, 8, 4, 4),
        norm=nn.LayerNorm(8),
        qkv=nn.Linear(8, 24),
        out=nn.Linear(8, 8),
        head=nn.Linear(8, 3),
        position=torch.ones(1, 6, 8),
    )


@model((7, 12), (5, 12), (5, 6), (5, 8))
def attention_modules():
    """Attention to itself, crossed and causal, two of its three alike, the batch in front and behind, called twice."""

    def forward(self, x, y, key, value):
        x = self.same(x, x, x)[0]
        ahead = torch.full((7, 7), -torch.inf).triu(1)
        x = x + self.same(x, x, x, attn_mask=ahead, need_weights=False)[0]
        turned = x.transpose(0, 1)
        x = self.behind(turned, turned, turned, attn_mask=torch.ones(7, 7).triu(1).bool())[0].transpose(0, 1)
        x = x - self.ahead(x, x, x, need_weights=False, is_causal=True, attn_mask=ahead)[0]
        x = x + self.ahead(x, x, x.tanh(), need_weights=False)[0]  # as DETR gives its values without their places
        x = x + self.ahead(x, x.tanh(), x)[0]
        return self.crossed(x, y, y, need_weights=False)[0], self.other(x, key, value)[0]

    return Function(
        forward,
        same=nn.MultiheadAttention(12, 3, batch_first=True),
        behind=nn.MultiheadAttention(12, 2),
        ahead=nn.MultiheadAttention(12, 4, batch_first=True),
        crossed=nn.MultiheadAttention(12, 6, bias=False, batch_first=True),
        other=nn.MultiheadAttention(12, 3, kdim=6, vdim=8, batch_first=True),
    )


@model((3, 7, 4))
def attention_masked():
    """Scores with a mask of numbers, of True and False, with one that the model computes, and the causal one."""

    def forward(self, x):
        computed = x.mean(-1, keepdim=True) * torch.ones(7)
        seen = torch.arange(7).reshape(7, 1) >= torch.arange(7) - 2
        # The last row of the third leaves its token nothing to look at.
        which = (x.mean(-1) > 0.1)[:, :, None].expand(-1, -1, 7, -1).logical_and(torch.arange(7)[:, None] < 6)
        masks = (self.position, seen, which, computed)
        made = [F.scaled_dot_product_attention(x, x * 2, x + 1, attn_mask=mask) for mask in masks]
        return *made, F.scaled_dot_product_attention(x, x, x, is_causal=True, scale=0.3)

    return Function(forward, position=torch.ones(1, 7, 7))


@model((7, 12), (5, 12))
def transformer():
    return nn.Transformer(12, 4, 1, 1, 20, batch_first=True, activation="gelu")


@model((4, 5, 6))
def spread_means():
    """Means spread over the map that they are of, two axes of size 1 after the other, and a transpose."""

    def forward(self, x):
        x = self.conv(x)
        spread = x.mean((2, 3))[:, :, None, None].repeat(1, 1, 5, 6)
        return spread + x, x.transpose(2, 3)

    return Function(forward, conv=nn.Conv2d(4, 3, 3, padding=1))


@model((5, 6))
def repeated():
    """A token of the model's own put before each example's, by expand and by repeat, and tensors that are repeated."""

    def forward(self, x):
        n = x.shape[0]
        first, second = self.token.expand(n, -1, -1), self.other.repeat(n, 2, 1)
        tokens = torch.cat([first, x, second], 1)
        spread = x.mean(1, keepdim=True).expand(-1, 5, -1) * x
        return tokens, spread, x.repeat(1, 2, 3), self.token.expand(n, 4, 6) + 0 * x[:, :4]

    return Function(forward, token=torch.ones(1, 1, 6), other=torch.ones(1, 1, 6))
