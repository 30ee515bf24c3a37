"""Feature maps of some layers by ``keras.Model.predict`` over one array; prints the images a second of each run."""

import sys
import time

import keras
import numpy as np

model = keras.models.load_model(sys.argv[1], compile=False)
images = np.load(sys.argv[2])  # (N, H, W, 1), float32
names, batch, repeats = sys.argv[3].split(","), int(sys.argv[4]), int(sys.argv[5])
cut = keras.Model(model.inputs, [model.get_layer(name).output for name in names])
cut.predict(images[:batch], batch_size=batch, verbose=0)
for _ in range(repeats):
    start = time.perf_counter()
    cut.predict(images, batch_size=batch, verbose=0)
    print(len(images) / (time.perf_counter() - start), flush=True)
