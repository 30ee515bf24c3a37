"""Runs every case of ``reference_cases.py`` and ``reference_ops.py`` under Keras, and writes what went in and out.

A script for a process of its own: ``python reference_truth.py FOLDER``. Each case gives ``<index>-<dtype>.npz`` and a
line of ``cases.json`` with the configuration as a .keras file has it. Where TensorFlow on a CPU cannot run
channels_first, the same layer is run channels_last on turned arrays.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
from reference_cases import LAYERS, LayerCase
from reference_ops import OPS, OpCase

ops = keras.ops
AUGMENTATIONS = ("AugMix", "CutMix", "MixUp", "RandAugment")


def inputs_of(case: Any, dtype: str, seed: int) -> list[Any]:
    rng = np.random.default_rng(seed)
    if getattr(case, "kind", "") == "Embedding":
        return [rng.integers(0, case.arguments["input_dim"], case.shapes[0]).astype("int32")]
    arrays = [rng.normal(0.1, 1.5, shape).astype("float32").astype(dtype) for shape in case.shapes]
    if getattr(case, "kind", "") == "Masking":
        arrays[0][1, 2:4] = case.arguments["mask_value"]
    return arrays


def randomise(layer: Any, seed: int) -> dict[str, Any]:
    """Weights that are not trivial; variances positive. In float32's numbers, so that both dtypes see the same."""
    rng = np.random.default_rng(seed + 1)
    found = {}
    for variable in layer.variables:
        if "seed" in variable.name or variable.dtype in ("int32", "uint32"):
            continue
        if layer.__class__.__name__ == "Normalization":
            continue
        value = rng.normal(0.2, 0.7, variable.shape).astype("float32")
        if "variance" in variable.name:
            value = np.abs(value) + 0.3
        variable.assign(value)
        found[variable.name] = np.array(variable)
    return found


def turned(array: Any, back: bool = False) -> Any:
    return np.moveaxis(array, -1, 1) if back else np.moveaxis(array, 1, -1)


def run_layer(case: LayerCase, dtype: str, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    make = getattr(keras.layers, case.kind)
    given = inputs_of(case, dtype, seed)
    layer = make(**case.arguments, dtype=dtype)
    stored = json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))
    try:
        layer.build([x.shape for x in given] if case.listed else given[0].shape)
        weights = randomise(layer, seed)
        if case.kind == "Normalization" and "mean" not in case.arguments:
            layer.adapt(given[0])
            weights = {variable.name: np.array(variable) for variable in layer.variables}
        # Augmentations act unless they are told that this is not training.
        how = {"training": False} if case.kind.startswith("Random") or case.kind in AUGMENTATIONS else {}
        result = np.array(layer(given if case.listed else given[0], **how))
    except Exception:
        if case.arguments.get("data_format") != "channels_first":
            raise
        arguments = {**case.arguments, "data_format": "channels_last"}
        if arguments.get("activation") == "softmax":
            arguments["activation"] = None
        layer = make(**arguments, dtype=dtype)
        layer.build(turned(given[0]).shape)
        weights = randomise(layer, seed)
        result = np.ascontiguousarray(turned(np.array(layer(turned(given[0]))), back=True))
        if case.arguments.get("activation") == "softmax":
            result = np.array(keras.activations.softmax(ops.convert_to_tensor(result)))
    open_shape = [(None, *x.shape[1:]) for x in given]
    shape = make(**case.arguments).compute_output_shape(open_shape if case.listed else open_shape[0])
    entry = {"config": stored["config"], "module": stored["module"], "kind": stored["class_name"], "shape": shape}
    arrays = {f"input{i}": x for i, x in enumerate(given)} | {f"weight:{n}": w for n, w in weights.items()}
    return entry, {**arrays, "output": result}


def run_op(case: OpCase, dtype: str, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    keras.backend.set_floatx(dtype)
    try:
        given = inputs_of(case, dtype, seed)
        tensors = [keras.Input(x.shape[1:]) for x in given]
        scope = {"ops": ops, "np": np, "keras": keras, "dtype": dtype, "x": tensors[0], "y": tensors[-1]}
        result = eval(case.expression, scope)
        model = keras.Model(tensors, result)
        entry = {"model": json.loads(model.to_json()), "shape": result.shape}
        output = np.array(model(given))
    finally:
        keras.backend.set_floatx("float32")
    return entry, {**{f"input{i}": x for i, x in enumerate(given)}, "output": output}


def main() -> None:
    folder = Path(sys.argv[1])
    index: dict[str, Any] = {}
    cases: list[tuple[str, Any, Any]] = [("layer", case, run_layer) for case in LAYERS]
    cases += [("op", case, run_op) for case in OPS]
    for number, (group, case, run) in enumerate(cases):
        for dtype in ("float64", "float32"):
            key = f"{group}/{case.name}/{dtype}"
            try:
                entry, arrays = run(case, dtype, number)
            except Exception as error:
                index[key] = {"error": f"{type(error).__name__}: {error}"[:300]}
                continue
            np.savez(folder / f"{number}-{dtype}.npz", **arrays)
            index[key] = {**entry, "file": f"{number}-{dtype}.npz"}
    (folder / "cases.json").write_text(json.dumps(index))


if __name__ == "__main__":
    main()
