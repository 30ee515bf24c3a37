"""Writes tests/data/quantised: models of tensorflow_model_optimization, marked to be quantised and made aware of it.

``python make_quantised.py FOLDER`` under Python 3.8 with tensorflow-cpu==2.3.4, tensorflow-model-optimization==0.5.0,
protobuf<3.21, numpy<1.19 and h5py<3; beside the marked one is what TensorFlow computes.
"""

import sys

import numpy as np
import tensorflow as tf
import tensorflow_model_optimization as tfmot

keras, layers, quantize = tf.keras, tf.keras.layers, tfmot.quantization.keras


def annotated():
    image = keras.Input((6, 8, 2), name="image")
    x = quantize.quantize_annotate_layer(layers.Conv2D(5, 3, activation="relu", name="conv"))(image)
    return keras.Model(image, quantize.quantize_annotate_layer(layers.Dense(4, name="head"))(layers.Flatten()(x)))


def aware():
    plain = keras.Sequential(
        [
            layers.Conv2D(5, 3, activation="relu", input_shape=(6, 8, 2), name="conv"),
            layers.DepthwiseConv2D((2, 3), name="deep"),
            layers.BatchNormalization(name="norm"),
            layers.ReLU(name="relu"),
            layers.Flatten(name="flat"),
            layers.Dense(4, name="head"),
        ]
    )
    return quantize.quantize_model(plain)


def main():
    folder = sys.argv[1]
    np.random.seed(2)
    model = annotated()
    model.set_weights([np.random.normal(0.05, 0.4, w.shape).astype("float32") for w in model.get_weights()])
    model.save(folder + "/annotated.h5", include_optimizer=False)
    given = np.random.normal(0, 1, (3, 6, 8, 2)).astype("float32")
    np.savez_compressed(folder + "/annotated.npz", x=given, y=model.predict(given))
    aware().save(folder + "/aware.h5", include_optimizer=False)


main()
