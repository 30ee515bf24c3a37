"""Keras builds ResNet50 with random numbers in all its arrays and saves it: ``keras_diff_models FILE SEED``."""

import sys

import keras
import numpy as np

path, seed = sys.argv[1], int(sys.argv[2])
random = np.random.default_rng(seed)
model = keras.applications.ResNet50(weights=None)
for variable in model.variables:
    shape = tuple(variable.shape)
    if variable.path.endswith("moving_variance") or variable.path.endswith("gamma"):
        variable.assign(random.uniform(0.5, 1.5, shape).astype("float32"))
    elif variable.dtype == "float32":
        variable.assign((random.standard_normal(shape, np.float32) * 0.05).astype("float32"))
model.save(path)
