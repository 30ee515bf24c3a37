"""Runs a converted model as its owner would, in an environment that has torch and safetensors alone.

``python -I converted.py FOLDER INPUT.npy`` imports FOLDER/model.py, loads the weights beside it, and writes
FOLDER/output.npy; then runs FOLDER/watched.py, the same text with a call behind each layer, and writes each layer's
array to FOLDER/seen. Prints what it saw as JSON.
"""

import importlib.util
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch


def module_of(path, **given):
    """The module of a file, with ``given`` in its namespace."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    module.__dict__.update(given)
    spec.loader.exec_module(module)
    return module


def main(folder, inputs):
    for absent in ("cnnlens", "keras", "tensorflow", "jax"):
        if importlib.util.find_spec(absent) is not None:
            raise SystemExit(f"{absent} can be imported here, which proves nothing")
    torch.set_num_threads(1)
    x = torch.from_numpy(np.load(inputs))
    model = module_of(folder / "model.py").load()
    started = time.perf_counter()
    with torch.inference_mode():
        output = model(x)
    seconds = time.perf_counter() - started
    np.save(folder / "output.npy", output.numpy())
    state, name = model.state_dict(), type(model).__name__
    seen = {}
    (folder / "seen").mkdir()

    def watch(names, tensor):
        free = next(one for one in names if one not in seen)
        seen[free] = len(seen)
        np.save(folder / "seen" / f"{seen[free]}.npy", tensor.numpy())

    watched = getattr(module_of(folder / "watched.py", watch=watch), name)()
    watched.load_state_dict(state)
    with torch.inference_mode():
        again = watched.eval()(x)
    if not torch.equal(again, output):
        raise SystemExit("the watched file gives another output")
    print(json.dumps({"layers": seen, "seconds": seconds}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
