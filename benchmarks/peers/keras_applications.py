"""Save ``keras.applications`` models with non-trivial statistics, and what Keras computes at every layer.

``python -m benchmarks.peers.keras_applications FOLDER NAME …`` writes FOLDER/NAME.keras (weights=None; gammas, betas,
means, variances and biases drawn with a fixed seed, for the initial ones would hide a swap), FOLDER/NAME.input.npy and
FOLDER/NAME/INDEX.npy, one array a layer or bare operation in the order of FOLDER/NAME/names.json.
"""

import json
import sys
from pathlib import Path

import keras
import numpy as np

# The range that each application's own preprocessing makes; those not listed take -1..1, or rescale 0..255 themselves.
_RESCALING = ("MobileNetV3Small", "EfficientNetB0", "EfficientNetV2B0", "ConvNeXtTiny")
_RANGES = {"ResNet50": (-120, 130), "VGG16": (-120, 130), **dict.fromkeys(_RESCALING, (0, 255))}
_SHARED = {
    "gamma": (0.6, 1.4),
    "beta": (-0.2, 0.2),
    "moving_mean": (-0.2, 0.2),
    "moving_variance": (0.6, 1.4),
    "bias": (-0.1, 0.1),
}


def spread(model: keras.Model, generator: np.random.Generator) -> None:
    """Draw every vector whose initial value (0 or 1) would make two of them interchangeable."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            spread(layer, generator)
            continue
        for weight in layer.weights:
            name = weight.path.rsplit("/", 1)[-1]
            if name in _SHARED:
                weight.assign(generator.uniform(*_SHARED[name], weight.shape).astype("float32"))


def main(folder: Path, names: list[str]) -> None:
    for name in names:
        keras.backend.clear_session()
        keras.utils.set_random_seed(0)
        model = getattr(keras.applications, name)(weights=None)
        generator = np.random.default_rng(0)
        spread(model, generator)
        model.save(folder / f"{name}.keras")
        low, high = _RANGES.get(name, (-1, 1))
        image = generator.uniform(low, high, (1, *(size or 224 for size in model.input_shape[1:]))).astype("float32")
        np.save(folder / f"{name}.input.npy", image)
        np.save(folder / f"{name}.canonical.npy", np.ascontiguousarray(np.moveaxis(image, -1, 1)))
        outputs = keras.Model(model.inputs, [one.output for one in model.operations])(image, training=False)
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "names.json").write_text(json.dumps([one.name for one in model.operations]))
        for index, output in enumerate(outputs):
            np.save(folder / name / f"{index}.npy", keras.ops.convert_to_numpy(output))
        print(name, len(model.operations), "layers", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
