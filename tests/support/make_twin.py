"""``python make_twin.py WEIGHTS.npz OUT.keras``: the Keras twin of ``support.torch_models.Twin``, with these arrays."""

import sys

import numpy as np
from keras import Model, layers

arrays = np.load(sys.argv[1])
image = layers.Input((8, 8, 3), name="image")
x = layers.Conv2D(3, 3, name="conv")(image)
x = layers.BatchNormalization(epsilon=1e-5, name="norm")(x)
x = layers.ReLU(name="relu")(x)
x = layers.Conv2D(3, 3, use_bias=False, name="second")(x)
x = layers.Flatten(name="flat")(x)
model = Model(image, layers.Dense(4, name="head")(x))
for layer in model.layers:
    names = sorted(name for name in arrays if name.startswith(f"{layer.name}."))
    if names:
        layer.set_weights([arrays[name] for name in names])
model.save(sys.argv[2])
