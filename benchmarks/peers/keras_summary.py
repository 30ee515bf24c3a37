"""What ``cnnlens summary`` prints, the usual way: load the model with Keras, then walk its layers."""

import sys

import keras
import numpy as np

model = keras.models.load_model(sys.argv[1], compile=False)
for layer in model.layers:
    print(layer.name, type(layer).__name__, layer.output.shape)
    for weight in layer.weights:
        array = np.asarray(weight)
        canonical = np.moveaxis(array, (-1, -2), (0, 1)) if array.ndim > 2 else array.T
        print("   ", weight.name, array.shape, canonical.shape, array.mean(), array.std(), array.min(), array.max())
