"""Three models as a person writes them in PyTorch: a small CNN for 28 x 28 images, a ResNet-18 and a MobileNetV2.

Random weights, but batch norms with statistics of their own, so that none of them is the identity.
"""

import torch
from torch import nn


class Small(nn.Module):
    """Two convolutions and a dense layer: the sample's architecture."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 32, 3, padding=1), nn.Conv2d(32, 64, 3, padding=1)
        self.relu, self.pool = nn.ReLU(), nn.MaxPool2d(2)
        self.head = nn.Linear(64 * 7 * 7, 10)

    def forward(self, x):
        x = self.pool(self.relu(self.conv1(x)))
        x = self.pool(self.relu(self.conv2(x)))
        return self.head(torch.flatten(x, 1))


class Block(nn.Module):
    """Two convolutions, and their input added."""

    def __init__(self, channels, filters, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, filters, 3, stride, 1, bias=False), nn.BatchNorm2d(filters)
        self.conv2, self.bn2 = nn.Conv2d(filters, filters, 3, 1, 1, bias=False), nn.BatchNorm2d(filters)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or channels != filters:
            projection = nn.Conv2d(channels, filters, 1, stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(filters))

    def forward(self, x):
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        y += x if self.downsample is None else self.downsample(x)
        return self.relu(y)


class ResNet18(nn.Module):
    def __init__(self, classes=1000, width=64):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width)
        self.relu, self.maxpool = nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)
        for number, (channels, filters, stride) in enumerate([(1, 1, 1), (1, 2, 2), (2, 4, 2), (4, 8, 2)]):
            blocks = Block(width * channels, width * filters, stride), Block(width * filters, width * filters, 1)
            setattr(self, f"layer{number + 1}", nn.Sequential(*blocks))
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(width * 8, classes)

    def forward(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


class Inverted(nn.Module):
    """Wider, a depthwise convolution, and narrow again."""

    def __init__(self, channels, filters, stride, expansion):
        super().__init__()
        wide = channels * expansion
        parts = [normed(channels, wide, 1)] if expansion != 1 else []
        parts += [normed(wide, wide, 3, stride, groups=wide)]
        parts += [nn.Conv2d(wide, filters, 1, bias=False), nn.BatchNorm2d(filters)]
        self.conv = nn.Sequential(*parts)
        self.residual = stride == 1 and channels == filters

    def forward(self, x):
        return x + self.conv(x) if self.residual else self.conv(x)


def normed(channels, filters, size, stride=1, groups=1):
    conv = nn.Conv2d(channels, filters, size, stride, size // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(filters), nn.ReLU6(inplace=True))


class MobileNetV2(nn.Module):
    SETTING = (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    )

    def __init__(self, classes=1000):
        super().__init__()
        parts, channels = [normed(3, 32, 3, 2)], 32
        for expansion, filters, count, stride in self.SETTING:
            for number in range(count):
                parts.append(Inverted(channels, filters, 1 if number else stride, expansion))
                channels = filters
        self.features = nn.Sequential(*parts, normed(channels, 1280, 1))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, classes))

    def forward(self, x):
        x = nn.functional.adaptive_avg_pool2d(self.features(x), (1, 1))
        return self.classifier(torch.flatten(x, 1))


def made(name):
    """One of them by name, in inference mode."""
    torch.manual_seed(0)
    module = {"Small": Small, "ResNet18": ResNet18, "MobileNetV2": MobileNetV2}[name]().eval()
    for one in module.modules():
        if isinstance(one, nn.BatchNorm2d):
            nn.init.uniform_(one.running_mean, -0.2, 0.2)
            nn.init.uniform_(one.running_var, 0.5, 2.0)
    return module
