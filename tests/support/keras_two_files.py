"""Run by tests in a process of its own: outputs of files that Keras 2.13 wrote, by keras-jax.

``python keras_two_files.py FILES FOLDER``: inputs are drawn as FILES' own README says.
"""

import sys
from pathlib import Path

import numpy as np
from cnnlens_backends.keras_jax import BACKEND

import cnnlens

for path in sorted(Path(sys.argv[1]).glob("*.keras")):
    if not path.with_name(path.name + ".out.npz").exists():
        continue
    network = cnnlens.open(path)
    generator = np.random.default_rng(0)
    given = []
    for ref in network.inputs:
        drawn = generator.standard_normal((2, *network.shape(ref)[1:])).astype("float32")
        last = network.calls_by_name[ref.call].channel_axis == -1 and drawn.ndim > 2
        given.append(np.moveaxis(drawn, -1, 1) if last else drawn)
    names = [ref.name for ref in network.outputs]
    maps = BACKEND.load(network, "cpu", "strict").feature_maps(given, names)
    np.savez(Path(sys.argv[2]) / f"{path.stem}.npz", **{str(index): maps[name] for index, name in enumerate(names)})
