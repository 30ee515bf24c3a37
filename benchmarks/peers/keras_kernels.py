"""A layer's kernels as a picture, the usual notebook recipe: load with Keras, one ``plt.subplots`` axes a filter."""

import sys

import keras
import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

model = keras.models.load_model(sys.argv[1], compile=False)
weights = model.layers[0].weights[0].numpy()
figure, axes = plt.subplots(2, 16, figsize=(15, 2))
for row in range(2):
    for column in range(16):
        axes[row, column].imshow(weights[:, :, 0, row * 16 + column], vmin=-0.5, vmax=0.5)
        axes[row, column].axis("off")
plt.savefig(sys.argv[2])
