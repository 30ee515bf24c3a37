"""Write small models as an old PyTorch saved them, and what that PyTorch itself says of them.

``python -c "import old_torch; old_torch.main('FOLDER')"`` runs under the torch of ``benchmarks.old_versions`` and knows
nothing else, so it keeps to what Python 3.8 and torch 1.4 have. Imported so, its classes are pickled as those of a
module ``old_torch`` that is nowhere else. FOLDER/truth.npz has MODEL/input, MODEL/output, MODEL/maps/LAYER and
MODEL/arrays/NAME.
"""

import copy
import os

import numpy as np
import torch
from torch import nn

VERSION = tuple(int(part) for part in torch.__version__.split(".")[:2])


class Block(nn.Module):
    """A residual block with a depthwise convolution."""

    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, (3, 5), padding=(1, 2), groups=channels, bias=False)
        self.bn = nn.BatchNorm2d(channels, eps=0.01)
        self.act = nn.LeakyReLU(0.2)

    def forward(self, x):
        return x + self.act(self.bn(self.conv(x)))


class Detector(nn.Module):
    """A stem, blocks, and two branches that are joined."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, (3, 2), stride=(2, 1))
        self.blocks = nn.Sequential(Block(4), Block(4))
        self.left = nn.Conv2d(4, 6, (1, 3), padding=(0, 1))
        self.right = nn.Conv2d(4, 2, 1)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = self.blocks(torch.relu(self.stem(x)))
        x = torch.cat([self.left(x), self.right(x)], 1)
        return self.head(x.mean([2, 3]))


def sequential():
    """Stock layers alone; every axis has another size."""
    return nn.Sequential(
        nn.Conv2d(3, 4, (3, 2), stride=(2, 1), padding=(1, 0)),
        nn.BatchNorm2d(4, eps=0.01),
        nn.LeakyReLU(0.2),
        nn.Conv2d(4, 8, (2, 3), groups=4, bias=False),
        nn.ReLU(),
        nn.MaxPool2d((1, 2)),
        nn.AdaptiveAvgPool2d((2, 3)),
        nn.Flatten(),
        nn.Linear(48, 5),
        nn.Softmax(1),
    )


def detector():
    return Detector()


def spread(model):
    """Draw every array, for those of a new model (0 and 1) would make two of them interchangeable."""
    random = np.random.RandomState(7)
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            drawn = random.uniform(-0.6, 0.6, tuple(tensor.shape)).astype("float32")
            tensor.copy_(torch.from_numpy(np.abs(drawn) + np.float32(0.5) if "var" in name else drawn))
    return model.eval()


def arrays(state):
    """Every tensor by its name, a quantised one as the numbers that it stands for."""
    found = {}
    for name, value in state.items():
        parts = enumerate(value) if isinstance(value, tuple) else [("", value)]  # a packed layer's kernel and bias
        for place, part in parts:
            if torch.is_tensor(part):
                plain = part.dequantize() if part.is_quantized else part
                found["arrays/" + name + str(place)] = plain.detach().numpy()
    return found


def described(model, given):
    """What this PyTorch holds and computes."""
    found = {"input": given.numpy(), **arrays(model.state_dict())}

    def seen(name):
        def keep(_module, _given, out):
            found["maps/" + name] = out.numpy()

        return keep

    hooks = [one.register_forward_hook(seen(n)) for n, one in model.named_modules() if isinstance(one, nn.Conv2d)]
    with torch.no_grad():
        found["output"] = model(given).numpy()
    for hook in hooks:
        hook.remove()
    return found


def quantised(model, given):
    """The same, its weights as signed bytes with a scale for each channel, and fused as a server has them."""
    model = copy.deepcopy(model)
    model = nn.Sequential(torch.quantization.QuantStub(), *model, torch.quantization.DeQuantStub()).eval()
    torch.backends.quantized.engine = "fbgemm"
    model.qconfig = torch.quantization.get_default_qconfig("fbgemm")
    model[-2].qconfig = model[2].qconfig = None  # softmax, and a batch norm that nothing was fused with
    model = torch.quantization.fuse_modules(model, [["1", "2"]])
    prepared = torch.quantization.prepare(model)
    prepared(given)
    return torch.quantization.convert(prepared)


def save(value, path, zipped=True):
    """Save as this version does if nobody says otherwise, which is a zip archive since 1.6; or as one of the two."""
    torch.save(value, path, _use_new_zipfile_serialization=zipped)


def main(folder):
    truth = {}
    given = torch.from_numpy(np.random.RandomState(8).uniform(-2, 2, (2, 3, 11, 9)).astype("float32"))
    models = {}
    for make in (sequential, detector):
        models[make.__name__] = model = spread(make())
        truth.update({make.__name__ + "/" + key: array for key, array in described(model, given).items()})

    def at(name):
        return os.path.join(folder, name)

    stock, own = models["sequential"], models["detector"]
    usual = VERSION >= (1, 6)
    save(stock.state_dict(), at("state-zip.pt"))
    save(stock.state_dict(), at("state-legacy.pt"), False)
    save(stock, at("sequential.pt"), usual)
    save(own, at("detector.pt"), usual)
    torch.jit.save(torch.jit.trace(own, given), at("traced.pt"))
    torch.jit.save(torch.jit.script(own), at("scripted.pt"))

    trained = copy.deepcopy(own).train()
    optimizer = torch.optim.Adam(trained.head.parameters(), lr=0.01)
    trained(given).sum().backward()
    optimizer.step()
    trained.zero_grad()
    checkpoint = {"epoch": 3, "model": trained.eval(), "ema": copy.deepcopy(own).half(), "optimizer": None}
    checkpoint["optimizer"] = optimizer.state_dict()
    save(checkpoint, at("checkpoint.pt"), usual)
    truth.update({"checkpoint/" + key: array for key, array in arrays(trained.state_dict()).items()})
    truth.update({"ema/" + key: array for key, array in arrays(checkpoint["ema"].state_dict()).items()})

    small = quantised(stock, given)
    save(small.state_dict(), at("quantised.pt"), usual)
    truth.update({"quantised/" + key: array for key, array in arrays(small.state_dict()).items()})
    if VERSION >= (2, 1):
        torch.export.save(torch.export.export(own, (given,)), at("exported.pt2"))
    np.savez(at("truth.npz"), **truth)
