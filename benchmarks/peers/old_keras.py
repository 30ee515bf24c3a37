"""Write small models as an old Keras saved them, and what that Keras itself says of them.

``python old_keras.py keras|tensorflow.keras FOLDER`` runs under the Keras of ``benchmarks.old_versions`` and knows
nothing else, so it keeps to what Python 3.7 and Keras 2.2 have. It leaves FOLDER/MODEL.h5 and what else that version
writes, and FOLDER/truth.npz: MODEL/input, MODEL/output, MODEL/maps/LAYER and MODEL/arrays/LAYER/INDEX:NAME.
"""

import importlib
import os
import sys

import numpy as np

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = ""
keras = importlib.import_module(sys.argv[1].split(".")[0])
keras = getattr(keras, "keras", keras)  # TensorFlow's own
layers = keras.layers
SAID = keras.__version__ if hasattr(keras, "__version__") else importlib.import_module("keras").__version__
VERSION = tuple(int(part) for part in SAID.split("-")[0].split(".")[:2])


def convolutions():
    """A stem, a depthwise and a separable branch of it, joined twice; every axis has another size."""
    given = layers.Input((7, 9, 3))
    stem = layers.Conv2D(4, (3, 2), strides=(2, 1), padding="same", activation="relu")(given)
    stem = layers.BatchNormalization(epsilon=0.01)(stem)
    left = layers.DepthwiseConv2D((2, 3), depth_multiplier=2, padding="same")(stem)
    right = layers.SeparableConv2D(8, (3, 2), padding="same", use_bias=False)(stem)
    joined = layers.concatenate([layers.add([left, right]), stem])
    flat = layers.Flatten()(layers.MaxPooling2D(2)(joined))
    return keras.models.Model(given, layers.Dense(5, activation="softmax")(flat))


def recurrent():
    """Gates in the orders of that version, one direction and both, and an optimizer that has been used."""
    given = layers.Input((7, 3))
    out = layers.LSTM(4, return_sequences=True)(given)
    out = layers.Bidirectional(layers.GRU(2))(out)
    model = keras.models.Model(given, layers.Dense(5)(out))
    model.compile("adam", "mse")
    return model


def arithmetic():
    """Arithmetic in front of a layer, as that version spells it: Lambda, TensorFlowOpLayer, TFOpLambda, operations."""
    given = layers.Input((6, 5, 2))
    out = layers.Lambda(lambda x: x / 4 - 0.5)(given) if VERSION < (2, 3) else given / 4 - 0.5
    out = layers.Conv2D(3, (2, 4), activation="elu")(out)
    return keras.models.Model(given, layers.Dense(4)(layers.GlobalAveragePooling2D()(out)))


def spread(model, random):
    """Draw every array, for those of a new model (0 and 1) would make two of them interchangeable."""
    for layer in model.layers:
        drawn = [random.uniform(-0.6, 0.6, array.shape).astype("float32") for array in layer.get_weights()]
        if "Normalization" in type(layer).__name__:
            drawn[-1] = np.abs(drawn[-1]) + np.float32(0.5)
        layer.set_weights(drawn)


def described(model, random):
    """What this Keras holds and computes."""
    given = random.uniform(-2, 2, (2, *model.input_shape[1:])).astype("float32")
    found = {"input": given, "output": model.predict(given, verbose=0)}
    for layer in model.layers:
        if "Conv" in type(layer).__name__:
            found["maps/" + layer.name] = keras.models.Model(model.input, layer.output).predict(given, verbose=0)
        for index, (weight, array) in enumerate(zip(layer.weights, layer.get_weights())):  # noqa: B905 (Python 3.7)
            name = getattr(weight, "path", weight.name).split("/")[-1].split(":")[0]
            found["arrays/%s/%d:%s" % (layer.name, index, name)] = array  # noqa: UP031
    return found


def main(folder):
    truth = {}
    for make in (convolutions, recurrent, arithmetic):
        random = np.random.RandomState(7)
        name, model = make.__name__, make()
        spread(model, random)
        if name == "recurrent":
            model.train_on_batch(random.uniform(-1, 1, (2, 7, 3)), random.uniform(-1, 1, (2, 5)))
        truth.update({name + "/" + key: array for key, array in described(model, random).items()})
        try:
            model.save(os.path.join(folder, name + ".h5"))
        except ValueError as error:  # Keras 3.0 gives two arrays of a wrapper one name, and leaves what it has written
            print(name + ".h5:", error)
        if VERSION >= (2, 12):
            model.save(os.path.join(folder, name + ".keras"))
        if name == "convolutions":
            if VERSION < (3, 0):  # of Keras 2 the name says which of two formats is meant
                model.save_weights(os.path.join(folder, name + "-weights.h5"))
            if VERSION >= (2, 12):
                model.save_weights(os.path.join(folder, name + ".weights.h5"))
    np.savez(os.path.join(folder, "truth.npz"), **truth)


if __name__ == "__main__":
    main(sys.argv[2])
