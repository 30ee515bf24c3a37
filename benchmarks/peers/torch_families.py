"""torchvision's and timm's families with random weights, and a converted Keras file held against one of them.

``python torch_families.py NAME FILE.keras``, in a process with ``KERAS_BACKEND`` set: Keras loads the file, torch runs
the module in float32 and in float64 on inputs that the conversion never saw, and what is apart is printed as JSON.
Knows nothing of cnnlens, and stops if it was imported.
"""

import importlib
import json
import re
import sys

import numpy as np
import torch
from torch import nn

# By family: the name in timm, or torchvision's; then the size of the images.
VISION = {
    **dict.fromkeys(
        "resnet18 mobilenet_v3_small efficientnet_b0 shufflenet_v2_x0_5 squeezenet1_1 googlenet regnet_x_400mf "
        "densenet121 convnext_tiny mnasnet0_5".split(),
        64,
    ),
    "lraspp_mobilenet_v3_large": 96,
    "deeplabv3_mobilenet_v3_large": 96,
}
TIMM = dict.fromkeys(
    "ghostnet_100 repvgg_a0 mobileone_s0 hrnet_w18_small dm_nfnet_f0 mobilevit_xxs efficientvit_b0 "
    "res2net50_26w_4s".split(),
    64,
)
SIZES = {**VISION, **TIMM}
_SEGMENTS = ("lraspp_mobilenet_v3_large", "deeplabv3_mobilenet_v3_large")


def _torchvision():
    """torchvision; where its compiled part is of another build than torch, operators that nobody calls are declared."""
    for _ in range(20):
        try:
            return importlib.import_module("torchvision")
        except RuntimeError as error:
            missing = re.search(r"operator (torchvision::\w+) does not exist", str(error))
            if missing is None:
                raise
            torch.library.define(missing[1], "(Tensor x) -> Tensor")
            for name in [name for name in sys.modules if name.startswith("torchvision")]:
                del sys.modules[name]
    raise RuntimeError("torchvision is of another build than torch")


def made(name):
    """A family's module in inference mode, its batch norms with statistics and scales of their own."""
    torch.manual_seed(0)
    vision = _torchvision()  # timm imports it, too
    if name in TIMM:
        import timm

        module = timm.create_model(name, pretrained=False)
    else:
        home = vision.models.segmentation if name in _SEGMENTS else vision.models
        own = {"weights_backbone": None} if name in _SEGMENTS else {"init_weights": True} if name == "googlenet" else {}
        module = getattr(home, name)(weights=None, **own)
    _live(module, images(name, 8, 11))
    return module.eval()


def _live(module, x):
    """Give batch norms about the statistics of what comes in, and scales of their own: with others the signal dies on
    the way, the output is the last bias whatever the image, and a comparison of it shows nothing."""
    norms = [one for one in module.modules() if isinstance(one, nn.modules.batchnorm._BatchNorm)]
    momenta = [one.momentum for one in norms]
    for one in norms:
        one.momentum = 1.0
        if one.affine:
            nn.init.uniform_(one.weight, 0.6, 1.4)
            nn.init.uniform_(one.bias, -0.2, 0.2)
    with torch.no_grad():
        module.train()(x)
        for one, momentum in zip(norms, momenta, strict=True):
            one.momentum = momentum
            one.running_mean += torch.empty_like(one.running_mean).uniform_(-0.2, 0.2) * one.running_var.sqrt()
            one.running_var *= torch.empty_like(one.running_var).uniform_(0.5, 2.0)


def images(name, count, seed):
    return torch.randn(count, 3, SIZES[name], SIZES[name], generator=torch.Generator().manual_seed(seed))


def _outputs(found):
    """Tensors of nested results in order."""
    if isinstance(found, torch.Tensor):
        return [found]
    parts = found.values() if isinstance(found, dict) else found
    return [one for part in parts for one in _outputs(part)]


def main(name, path):
    import keras

    module, x = made(name), images(name, 3, 7)
    model = keras.saving.load_model(path, compile=False)
    with torch.inference_mode():
        single = [one.double().numpy() for one in _outputs(module(x))]
        truth = [one.numpy() for one in _outputs(module.double()(x.double()))]
    results = model(x.permute(0, 2, 3, 1).numpy(), training=False)
    results = results if isinstance(results, (list, tuple)) else [results]
    found = [keras.ops.convert_to_numpy(one).astype(np.float64) for one in results]
    found = [np.moveaxis(one, -1, 1) if one.ndim > 2 else one for one in found]
    assert "cnnlens" not in sys.modules
    shapes = [one.shape for one in truth]
    if [one.shape for one in found] != shapes:
        print(json.dumps({"says": f"shapes {[one.shape for one in found]} where torch gives {shapes}"}))
        return
    # In units of how much the output differs from image to image: a large constant would hide everything else.
    spreads = [float(one.std(axis=0).max()) for one in truth]
    apart = [
        max(float(np.abs(a - b).max()) / spread for a, b, spread in zip(one, truth, spreads, strict=True))
        for one in (found, single)
    ]
    spread = min(spread / float(np.abs(one).max()) for one, spread in zip(truth, spreads, strict=True))
    print(json.dumps({"keras": apart[0], "torch": apart[1], "spread": spread, "backend": keras.backend.backend()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
