"""Run by tests in a process of its own: Keras loads what cnnlens wrote, and says whether it is the model it should be.

``python load_written_keras.py WRITTEN ORIGINAL`` compares every WRITTEN/NAME.keras with ORIGINAL/NAME.keras, variable
by variable, bit for bit. Prints a JSON object: name to "equal" or to what differs.
"""

import json
import sys
from pathlib import Path

import keras


def compare(written, original):
    ours = keras.saving.load_model(written, compile=False)
    try:
        theirs = keras.saving.load_model(original, compile=False)
    except Exception as error:
        return f"original: {type(error).__name__}"
    if len(ours.weights) != len(theirs.weights):
        return f"{len(ours.weights)} variables, {len(theirs.weights)} in the original"
    for one, other in zip(ours.weights, theirs.weights, strict=True):
        a, b = keras.ops.convert_to_numpy(one), keras.ops.convert_to_numpy(other)
        if "seed_generator" in one.path:
            continue
        if a.dtype != b.dtype or a.shape != b.shape or a.tobytes() != b.tobytes():
            return f"{one.path} differs"
    return "equal"


def main(written, original):
    found = {}
    for path in sorted(Path(written).glob("*.keras")):
        try:
            found[path.stem] = compare(path, Path(original) / path.name)
        except Exception as error:
            found[path.stem] = f"{type(error).__name__}: {str(error)[:300]}"
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
