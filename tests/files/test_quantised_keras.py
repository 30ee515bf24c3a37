"""Layers of tensorflow_model_optimization: a mark around one is the layer; what rounds is shown, and not computed."""

from __future__ import annotations

import numpy as np
import pytest

import cnnlens
from cnnlens.errors import UnsupportedLayerError
from cnnlens.files.keras.graph import layer_spec
from cnnlens.opening.findings import needs
from tests.support import ROOT

FILES = ROOT / "tests" / "data" / "quantised"  # by tests/support/make_quantised.py


def test_a_mark_around_a_layer_is_the_layer() -> None:
    network = cnnlens.open(FILES / "annotated.h5")
    conv, head = (network[name] for name in ("quantize_annotate", "quantize_annotate_1"))
    assert [conv.kind, head.kind] == ["Conv2D", "Dense"]
    assert conv.kernel is not None
    assert conv.kernel.shape == (5, 2, 3, 3)
    assert head.stored["kernel"].geometry.flatten == (4, 6, 5)
    [note] = network.notes
    assert "2 layers marked to be quantised" in note
    with np.load(FILES / "annotated.npz") as found:
        x, wanted = found["x"], found["y"]
    made = network.run(np.moveaxis(x, -1, 1), layers=[network.outputs[0].name])[network.outputs[0].name]
    np.testing.assert_allclose(made, wanted, rtol=0, atol=2e-6 * np.abs(wanted).max())


def test_what_rounds_is_shown_with_what_it_wraps_and_not_computed() -> None:
    network = cnnlens.open(FILES / "aware.h5")
    shown = {layer.name: (layer.shown_kind, layer.output_shape) for layer in network.layers}
    assert shown["quantize_layer"] == ("QuantizeLayer", (None, 2, 6, 8))
    assert shown["quant_conv"] == ("QuantizeWrapper(Conv2D)", (None, 5, 4, 6))
    assert shown["quant_deep"] == ("QuantizeWrapper(DepthwiseConv2D)", (None, 5, 3, 4))
    assert shown["quant_head"] == ("QuantizeWrapper(Dense)", (None, 4))
    conv = network["quant_conv"]
    assert conv.stored["kernel"].kind == "Conv2D"
    assert {"kernel_min", "kernel_max", "post_activation_min", "post_activation_max", "optimizer_step"} < set(
        conv.stored
    )
    with pytest.raises(UnsupportedLayerError, match="rounds arrays or outputs to a few bits"):
        network.run(np.ones((1, 2, 6, 8), np.float32))


def test_marks_around_marks_are_read_once() -> None:
    entry: dict[str, object] = {"class_name": "Dense", "config": {"name": "d", "units": 3}}
    for _ in range(60):
        entry = {"class_name": "QuantizeAnnotate", "config": {"name": "q", "layer": entry}}
    assert layer_spec(entry, ("q",)).class_name == "Dense"


def test_neither_is_safe_to_run() -> None:
    for name in ("annotated", "aware"):
        found = needs(cnnlens.open(FILES / f"{name}.h5"))
        assert all("none of Keras'" in one.what for one in found if one.about == "code")
        assert found
