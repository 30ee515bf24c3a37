"""Writes tests/data/tensorflow_ops with the TensorFlow that is installed: 2.1 or 2.3, whose layers of operations nobody
else writes. ``python make_tensorflow_ops.py FOLDER`` under Python 3.7 or 3.8 with tensorflow-cpu==2.3.4 (2.1.4),
protobuf<3.21, numpy<1.19 and h5py<3 gives FOLDER/tensorflow-VERSION.h5, and beside it what TensorFlow computes.
"""

import sys

import numpy as np
import tensorflow as tf

keras, layers = tf.keras, tf.keras.layers


def outputs_of(x):
    """One operation, or several, for each output; sizes all differ."""
    scaled = tf.nn.relu(x * 2.0 + 1.0) - tf.reduce_mean(x, axis=[1, 2], keepdims=True)
    resized = tf.image.resize(scaled, (12, 20), method="bilinear")
    joined = tf.concat([resized[..., :2], tf.nn.depth_to_space(x, 2)], axis=-1)
    padded = tf.pad(joined, [[0, 0], [1, 2], [0, 0], [0, 0]])
    turned = tf.reshape(tf.transpose(padded, [0, 2, 1, 3]), [-1, 20, 15 * 4])
    found = [
        tf.sigmoid(turned) / 3.0,
        tf.clip_by_value(x, -0.5, 0.25),
        tf.math.l2_normalize(x, axis=-1),
        tf.nn.softmax(x),
        tf.split(x, 2, axis=-1)[1],
        tf.expand_dims(x, 1),
        tf.squeeze(tf.reduce_max(x, axis=1, keepdims=True), 1),
        tf.cast(x > 0.1, tf.float32),
        tf.stack([x, 1.0 - x], axis=1),
        tf.image.resize(x, (12, 25), method="nearest"),
        tf.image.resize(x, (9, 15), method="bicubic"),
        tf.nn.conv2d(x, tf.reshape(tf.range(96.0) / 50.0 - 1.0, (2, 2, 8, 3)), strides=2, padding="SAME"),
        tf.nn.avg_pool2d(x, 2, 3, "VALID"),
        tf.nn.max_pool2d(x, (3, 2), 1, "SAME"),
        tf.nn.space_to_depth(x, 2),
        tf.square(x) ** 0.5,
        tf.maximum(x, 0.1),
        tf.strided_slice(x, [0, 1, 0, 0], [0, 5, 8, 8], [1, 2, 1, 1], begin_mask=1, end_mask=1),
        x[:, 2, ::-1, tf.newaxis],
        tf.nn.leaky_relu(x),
        tf.nn.bias_add(x, tf.range(8.0)),
        tf.matmul(x, x, transpose_b=True),
        tf.tile(x, [1, 2, 1, 1]),
        tf.gather(x, [0, 2], axis=3),
        tf.argmax(x, -1),
        tf.where(x > 0, x, tf.exp(x)),
    ]
    if tf.__version__ < "2.3":
        return found[:1] + found[3:7]  # it cannot save two operations of one name
    return [*found, tf.einsum("nhwc,nhwd->ncd", x, x)]


def main():
    np.random.seed(1)
    image = keras.Input((6, 10, 3), name="image")
    x = layers.Conv2D(8, 3, padding="same", name="conv", bias_initializer="glorot_uniform")(image)
    model = keras.Model(image, outputs_of(x))
    model.set_weights([np.random.normal(0.05, 0.4, w.shape).astype("float32") for w in model.get_weights()])
    version = tf.__version__.rsplit(".", 1)[0]
    model.save(f"{sys.argv[1]}/tensorflow-{version}.h5", include_optimizer=False)
    given = np.random.normal(0, 1, (2, 6, 10, 3)).astype("float32")
    made = model.predict(given)
    arrays = {f"y{number}": value for number, value in enumerate(made)}
    np.savez_compressed(f"{sys.argv[1]}/tensorflow-{version}.npz", x=given, **arrays)


main()
