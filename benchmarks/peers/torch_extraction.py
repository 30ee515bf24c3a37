"""Feature maps of a few layers of a native PyTorch module, by every good way there is, a batch whenever it is told.

``python -m benchmarks.peers.torch_extraction MODEL LAYERS BATCH SIDE DEVICE``: SIDE ``plain`` has the adapter and
loops with forward hooks, ``torchlens`` has TorchLens, which wraps every function of torch and therefore runs in a
process of its own. Prints its ways as JSON, then, for each line ``WAY`` or ``WAY FILE`` on its input, the seconds of a
batch; with FILE the feature maps are saved there too. All begin with the same NumPy images and end with contiguous
NumPy arrays. ``save MODEL FILE`` exports one to a ``.pt2`` file instead.
"""

import json
import sys
import time

import numpy as np
import torch

from benchmarks.peers.torch_modules import made

SHAPES = {"Small": (1, 28, 28), "ResNet18": (3, 224, 224), "MobileNetV2": (3, 224, 224)}


def with_hooks(module, layers, device, memory_format):
    """A person's loop; an output that a layer behind it writes over must be copied, and the others need not be."""
    module = module.to(device, memory_format=memory_format)
    found = {}

    def keep(name):
        return lambda _, __, output: found.__setitem__(name, output.contiguous().cpu().numpy())

    for name in layers:
        module.get_submodule(name).register_forward_hook(keep(name))

    def run(images):
        with torch.inference_mode():
            module(torch.from_numpy(images).to(device, memory_format=memory_format))
        return [found[name] for name in layers]

    return run


def by_adapter(module, layers, device):
    from cnnlens_backends.pytorch import BACKEND

    import cnnlens

    example = torch.zeros((2, *SHAPES[type(module).__name__]))
    network = cnnlens.open(module, example=example)
    session = BACKEND.load(network, device.replace("cuda", "gpu"), "native")
    alive = BACKEND.load(network, device.replace("cuda", "gpu"), "native", live=module.to(device))
    return {
        "adapter": lambda images: list(session.feature_maps([images], layers).values()),
        "adapter, live module": lambda images: list(alive.feature_maps([images], layers).values()),
    }


def by_torchlens(module, layers, device):
    """Its three ways to the outputs of named modules: predicates on the way (the fastest), extract, and trace."""
    import torchlens

    module = module.to(device)
    selector = torchlens.module(layers[0])
    for name in layers[1:]:
        selector = selector | torchlens.module(name)

    def arrays(found):
        return [one.contiguous().cpu().numpy() for one in found]

    def record(images):
        with torch.inference_mode():
            found = torchlens.record(module, torch.from_numpy(images).to(device), save=selector)
            return arrays([found.activations_by_address(name)[0].ram_payload for name in layers])

    def extract(images):
        with torch.inference_mode():
            found = torchlens.extract(module, torch.from_numpy(images).to(device), {name: name for name in layers})
            return arrays([found[name] for name in layers])

    def trace(images):
        with torch.inference_mode():
            found = torchlens.trace(module, torch.from_numpy(images).to(device), save=selector)
            return arrays([found[name].out for name in layers])

    return {"TorchLens record": record, "TorchLens extract": extract, "TorchLens trace": trace}


def main(name, wanted, batch, side, device):
    layers = wanted.split(",")
    shape = SHAPES[name]
    images = np.random.default_rng(0).standard_normal((int(batch), *shape), np.float32)
    if side == "plain":
        ways = {
            "hooks": with_hooks(made(name), layers, device, torch.contiguous_format),
            "hooks, channels last": with_hooks(made(name), layers, device, torch.channels_last),
            **by_adapter(made(name), layers, device),
        }
    else:
        ways = by_torchlens(made(name), layers, device)
    print(json.dumps(list(ways)), flush=True)
    for line in sys.stdin:
        way, _, path = line.rstrip("\n").partition("\t")
        start = time.perf_counter()
        found = ways[way](images)
        seconds = time.perf_counter() - start
        assert all(one.flags.c_contiguous for one in found), way
        if path:
            np.savez(path, *found)
        print(seconds, flush=True)


def save(name, path):
    example = (torch.zeros(2, *SHAPES[name]),)
    program = torch.export.export(made(name), example, dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.export.save(program, path)


if __name__ == "__main__":
    if sys.argv[1] == "save":
        save(*sys.argv[2:])
    else:
        main(*sys.argv[1:])
