"""``python make_twin.py FOLDER NAME…``: Keras twins of ``support.torch_models.Twin``, FOLDER/NAME.keras of NAME.npz."""

import sys
from pathlib import Path

import numpy as np
from keras import Model, layers

image = layers.Input((8, 8, 3), name="image")
x = layers.Conv2D(3, 3, name="conv")(image)
x = layers.BatchNormalization(epsilon=1e-5, name="norm")(x)
x = layers.ReLU(name="relu")(x)
x = layers.Conv2D(3, 3, use_bias=False, name="second")(x)
x = layers.Flatten(name="flat")(x)
model = Model(image, layers.Dense(4, name="head")(x))
for made in sys.argv[2:]:
    path = Path(sys.argv[1], f"{made}.npz")
    arrays = np.load(path)
    for layer in model.layers:
        names = sorted(name for name in arrays if name.startswith(f"{layer.name}."))
        if names:
            layer.set_weights([arrays[name] for name in names])
    model.save(path.with_suffix(".keras"))
