"""Worked sums in a browser: each number of a map that the page computes is the reference's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import cnnlens
from cnnlens.files.keras.network import keras_network
from cnnlens.network.network import Network
from cnnlens.reference.receptive import receptive_fields
from cnnlens.reporting.working import field_said, working_said
from cnnlens.sample import IMAGES, MODEL
from cnnlens.testing import MemoryModel, inputs_for, network
from tests.support.browser import browser
from tests.support.random_networks import random_network

__all__ = ["browser"]

NUMBERS = 10  # of each layer, that are computed

NORMAL = ("gamma", "beta", "moving_mean", "moving_variance")
FIRST = {"data_format": "channels_first"}
MODELS: Mapping[str, tuple[tuple[int, ...], list[tuple[str, dict[str, Any], dict[str, tuple[int, ...]]]]]] = {
    "strided, dilated, grouped, channels first": (
        (3, 13, 10),
        [
            ("Conv2D", {"filters": 8, "kernel_size": [3, 4], "strides": [2, 3], "padding": "same", **FIRST},
             {"kernel": (3, 4, 3, 8), "bias": (8,)}),
            ("Conv2D", {"filters": 6, "kernel_size": [2, 3], "dilation_rate": [2, 1], "padding": "same", "groups": 2,
                        "activation": "silu", "use_bias": False, **FIRST}, {"kernel": (2, 3, 4, 6)}),
            ("MaxPooling2D", {"pool_size": [3, 2], "strides": [2, 3], "padding": "same", **FIRST}, {}),
        ],
    ),
    "depthwise, transposed, pooled, dense": (
        (9, 12, 2),
        [
            ("DepthwiseConv2D", {"kernel_size": [3, 2], "strides": [2, 2], "padding": "same", "depth_multiplier": 3,
                                 "activation": "selu"}, {"kernel": (3, 2, 2, 3), "bias": (6,)}),
            ("BatchNormalization", {"epsilon": 1e-3}, dict.fromkeys(NORMAL, (6,))),
            ("PReLU", {"shared_axes": [1, 2]}, {"alpha": (1, 1, 6)}),
            ("ReLU", {}, {}),
            ("Conv2DTranspose", {"filters": 5, "kernel_size": [3, 4], "strides": [2, 3], "padding": "same",
                                 "activation": "tanh"}, {"kernel": (3, 4, 5, 6), "bias": (5,)}),
            ("AveragePooling2D", {"pool_size": [3, 4], "strides": [2, 3], "padding": "same"}, {}),
            ("Flatten", {}, {}),
            ("Dense", {"units": 7, "activation": "softplus"}, {"kernel": (150, 7), "bias": (7,)}),
            ("Dense", {"units": 4, "activation": "softmax"}, {"kernel": (7, 4), "bias": (4,)}),
        ],
    ),
}  # fmt: skip


def entry(kind: str, **config: Any) -> dict[str, Any]:
    return {"module": "keras.layers", "class_name": kind, "config": config}


def made(name: str) -> Network:
    shape, rows = MODELS[name]
    random = np.random.default_rng(7)
    entries = [
        {
            "module": "keras.layers",
            "class_name": "InputLayer",
            "config": {"batch_shape": [None, *shape], "name": "image"},
        }
    ]
    arrays: dict[tuple[str, ...], dict[str, NDArray[Any]]] = {}
    for place, (kind, config, shapes) in enumerate(rows):
        of = f"l{place}"
        entries.append(
            {"module": "keras.layers", "class_name": kind, "config": {"name": of, "dtype": "float32", **config}}
        )
        arrays[of,] = {role: random.normal(0, 0.5, size).astype(np.float32) for role, size in shapes.items()}
        if "moving_variance" in shapes:
            arrays[of,]["moving_variance"] **= 2
    config = {"class_name": "Sequential", "config": {"name": "made", "layers": entries}}
    return keras_network(MemoryModel(config, arrays))  # type: ignore[arg-type]


CHOOSE = """(section, [k, place, width, height]) => {
  const press = (element, key) => element.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
  const maps = section.querySelector(".maps [role=slider]");
  press(maps, "Home");
  for (let step = 0; step < k; step++) press(maps, "ArrowRight");
  const map = section.querySelector(".working .pick");
  if (map) {
    const box = map.getBoundingClientRect();
    const at = (index, count) => ((index + 0.5) / count);
    map.dispatchEvent(new PointerEvent("pointerdown", {
      clientX: box.left + map.clientLeft + map.clientWidth * at(place % width, width),
      clientY: box.top + map.clientTop + map.clientHeight * at(Math.floor(place / width), height),
    }));
  }
  const [computed, reference] = [".computed", ".reference"].map((name) => section.querySelector(`.working ${name}`));
  return [computed.value, reference.value].map(Number);
}"""


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.parametrize("name", ["sample", *MODELS])
def test_ten_numbers_of_each_layer_are_those_of_the_reference(browser: Any, name: str, tmp_path: Path) -> None:
    net = cnnlens.open(MODEL) if name == "sample" else made(name)
    inputs: Any = IMAGES if name == "sample" else inputs_for(net, 2)[0]
    path = cnnlens.report(net, inputs=inputs, progress=False).save(tmp_path / "report.html")
    truth: dict[str, NDArray[Any]] = net.run(inputs)
    random = np.random.default_rng(3)
    page = browser.new_page(viewport={"width": 1000, "height": 800})
    page.goto(path.as_uri())
    page.locator("#inputs button").nth(1).click()
    held = 0
    for place, layer in enumerate(net.layers):
        section = page.locator(f"#layer-{place}")
        section.scroll_into_view_if_needed()
        if layer.kind in ("Flatten", "Dropout", "PReLU"):
            section.get_by_text("not computed here").wait_for()  # said in a line
            continue
        section.locator(".computed").wait_for()
        maps: NDArray[Any] = truth[layer.name][1]
        for _ in range(NUMBERS):
            k = int(random.integers(len(maps)))
            depth, height, width = (1, 1, 1, *maps.shape[1:])[-3:]
            at = int(random.integers(height * width * depth))
            computed, reference = section.evaluate(CHOOSE, [k, at, width, height])
            true: Any = maps[k].reshape(-1)[at]
            assert abs(reference - true) <= 1e-7 * np.abs(maps).max()
            assert abs(computed - true) <= 1e-6 * np.abs(maps).max(), (layer, k, at)
            held += 1
    page.close()
    assert held >= 3 * NUMBERS


@pytest.mark.parametrize("name", ["volume", "signal"])
def test_a_kernel_is_found_in_each_framework_and_rank(name: str) -> None:
    for framework in ("keras", "torch"):
        net = network(name, framework)
        found = [working_said(net, call, {}) for call in net.calls]
        assert any(one is not None and one.get("kernel") == 0 for one in found), framework
    branches = network("branches")
    found = [working_said(branches, call, {}) for call in branches.calls]
    assert {"how": "sum", "of": ["left", "right"], "axes": []} in found


@pytest.mark.parametrize("seed", range(20))
def test_a_field_is_said_in_full(seed: int) -> None:
    """By size, stride and offset or by every position: what is said is what was worked out."""
    for fields in receptive_fields(random_network(seed)).values():
        said = field_said(fields)
        assert isinstance(fields, dict)
        assert isinstance(said, dict)
        for name, field in fields.items():
            for axis, first, last in zip(said[name], field.first, field.last, strict=True):
                if "size" in axis:
                    begin = axis["offset"] + axis["stride"] * np.arange(len(first))
                    assert (np.maximum(begin, 0) == first).all()
                    assert (np.minimum(begin + axis["size"] - 1, axis["edge"]) == last).all()
                else:
                    seen = last >= first
                    assert (np.where(seen, first, 0) == axis["first"]).all()
                    assert (np.where(seen, last, -1) == axis["last"]).all()
