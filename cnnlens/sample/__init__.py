"""Small networks that this project trained, and ten test images, so that everything can be tried at once.

The networks were trained on Fashion-MNIST by `benchmarks/train_sample.py`; the images are the first test image of each
class. See README.md in this folder for the numbers and the licence.

>>> import cnnlens.sample
>>> cnnlens.sample.MODEL.name
'fashion_mnist_cnn.keras'
>>> len(list(cnnlens.sample.IMAGES.glob("*.png"))), len(cnnlens.sample.LABELS)
(10, 10)
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["AVERAGE", "IMAGES", "LABELS", "MODEL", "NAMES", "PAIR"]

_HERE = Path(__file__).resolve().parent

MODEL = _HERE / "fashion_mnist_cnn.keras"
"""The network: Conv2D 32 - MaxPooling - Conv2D 64 - MaxPooling - Flatten - Dense 100 - Dropout - Dense 10."""

PAIR = _HERE / "pair.keras"
"""A network with two inputs, a separable convolution and an LSTM: do both pictures show the same kind of clothing?"""

AVERAGE = _HERE / "average.keras"
"""An untrained network that averages at asymmetric padding, where the backends of Keras 3.15 disagree."""

IMAGES = _HERE / "images"
"""A folder of ten PNG files of 28 x 28 grey pixels, one a class, in the order of `LABELS`."""

LABELS = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
"""What the ten outputs of the network mean (https://github.com/zalandoresearch/fashion-mnist)."""

NAMES = LABELS
"""What the images in `IMAGES` show, in their order: one of each class."""
