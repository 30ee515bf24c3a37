"""The scripts of an atlas: they need the framework alone, say what the sweep says, and read like a report."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest

from cnnlens.surveying.drawing import draw
from cnnlens.surveying.networks import branch, network_of
from cnnlens.surveying.scripts import Case, _shows, proved
from cnnlens.surveying.setting import Setting
from cnnlens.surveying.shrinking import Numbers
from cnnlens.surveying.table import FAMILIES
from tests.support import atlas_scripts

VERSIONS = {"keras": "3.15.1", "torch": "2.13.0"}


def _setting(kind: str, framework: str, ones: bool = False, **options: object) -> Setting:
    family = next(one for one in FAMILIES if (one.kind, one.framework) == (kind, framework))
    choice = next(one for one in family.valid() if all(one[name] == value for name, value in options.items()))
    return Setting(family, choice, ones)


def _numbers(setting: Setting) -> Numbers:
    """What is right as what was computed, and one more as what was expected: a script must print the first itself."""
    network = network_of([setting])
    given = [array[:1] for array in draw(network)]
    wide = {
        ref.name: one.astype(np.float64) if one.dtype.kind == "f" else one
        for ref, one in zip(network.inputs, given, strict=True)
    }
    name, ends = branch(0, setting), network.outputs[0]
    made = network.own_axes(ends, np.asarray(network.run(wide, [name])[name]))[0]
    place = tuple(map(int, np.unravel_index(int(np.abs(made).argmax()), made.shape)))
    inputs = tuple(network.own_axes(ref, one) for ref, one in zip(network.inputs, given, strict=True))
    return Numbers(inputs, inputs, 0, place, float(made[place]), float(made[place]) + 1)


def _proved(settings: list[Setting], backend: str) -> dict[str, tuple[str, bool]]:
    cases = [Case(one, _numbers(one), "33 % of the outputs differ") for one in settings]
    return {one.key: said for one, said in zip(settings, proved(cases, backend, VERSIONS), strict=True)}


@pytest.mark.slow
def test_a_script_gives_each_array_to_the_weight_that_it_is_of() -> None:
    weighted: dict[str, Setting] = {}
    for family in FAMILIES:
        if family.framework == "keras":
            for setting in family.settings()[0]:
                key = f"{family.kind} {setting.options.get('layer', setting.options.get('cell', ''))}"
                if family.kind == "LayerNormalization" and setting.options["axis"] != -1:
                    continue  # Keras on torch refuses some of these
                if len(setting.call.weights) > len(weighted[key].call.weights if key in weighted else ()):
                    weighted[key] = setting
    assert {"Bidirectional LSTM", "RNN GRU", "TimeDistributed Conv2D", "MultiHeadAttention "} <= set(weighted)
    said = _proved(list(weighted.values()), "keras-torch")
    assert [key for key, (_, shown) in said.items() if not shown] == []


def test_a_script_shows_the_number_that_was_found_however_small_it_is() -> None:
    """TensorFlow gives 2.6e-40 for the sign of -2.6e-40, of a few examples; of one alone 0, which is no fault."""
    sign, x = _setting("Sign", "keras", shape=(1,)), np.full((1, 1), -2.6e-40, np.float32)
    case = Case(sign, Numbers((x,), (x,), 0, (0,), 2.6e-40, -1.0), "")
    assert not _shows("computed 0.0, expected -1\n", case)
    assert _shows("computed 2.6000e-40, expected -1\n", case)


@pytest.mark.slow
def test_a_script_for_pytorch_calls_what_people_call() -> None:
    settings = [
        _setting("Dense", "torch"), _setting("Conv2D", "torch"), _setting("BatchNormalization", "torch"),
        _setting("ScaledDotProductAttention", "torch"), _setting("Concatenate", "torch"), _setting("Sign", "torch"),
    ]  # fmt: skip
    said = _proved(settings, "pytorch")
    assert [key for key, (_, shown) in said.items() if not shown] == []
    scripts = [script for script, _ in said.values()]
    assert "y = torch.nn.functional.linear(x, weight, bias)" in scripts[0]
    assert "y = torch.sign(x)" in scripts[-1]
    assert not any("numpy" in script for script in scripts[1:] if "Found" not in script)


@pytest.mark.slow
def test_a_script_is_short_and_says_its_versions() -> None:
    pooling = _setting("AveragePooling2D", "keras", padding="same", data_format="channels_last")
    clip = _setting("Clip", "keras")
    endless = Setting(clip.family, {**clip.options, "x_max": float("inf")})
    lanczos = _setting("UpSampling2D", "keras", interpolation="lanczos3", data_format="channels_last")
    refused = (
        "it failed on a batch of 12 (Resizing with Lanczos interpolation is not supported by the PyTorch backend.)"
    )
    cases = [Case(one, _numbers(one), "33 % of the outputs differ") for one in (pooling, endless)]
    cases += [Case(lanczos, None, refused), Case(lanczos, None, "it failed on a batch of 12 (something else)")]
    (pooled, one), (clipped, two), (raising, three), nothing = proved(cases, "keras-torch", VERSIONS)
    assert (one, two, three, nothing) == (True, True, True, ("", False))
    assert 'keras.layers.AveragePooling2D(pool_size=(2, 2), padding="same")' in pooled or "pool_size" not in pooled
    assert "data_format" not in pooled, "the default"
    assert 'print("keras", keras.__version__, "torch", torch.__version__)' in pooled
    assert 'x_max=float("inf")' in clipped
    assert re.search(r"# \(1, .*\) is expected$", raising, re.MULTILINE)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["keras-torch", "pytorch"])
def test_a_script_of_the_page_shows_its_fault_where_cnnlens_is_not(backend: str) -> None:
    script = next(one for one in atlas_scripts.scripts() if one.shown and f" under {backend}:" in one.title)
    assert atlas_scripts.run(script, sys.executable) == ""
    other = re.sub(r"^computed = .*$", "computed = 77.0", script.text, flags=re.MULTILINE)
    assert atlas_scripts.run(script._replace(text=other), sys.executable).startswith("it printed 77.0")


def test_a_fault_of_somebodys_own_backend_is_not_laid_to_pytorch() -> None:
    sign = _setting("Sign", "torch")
    assert proved([Case(sign, _numbers(sign), "33 % of the outputs differ")], "planted-torch", VERSIONS) == [
        ("", False)
    ]


def test_scripts_are_read_from_a_page() -> None:
    page = (
        "## 1. Pad under keras-torch: wrong value\n\n1 where 2 is right\n\n"
        "## 2. Sign under pytorch: NaN or infinity\n\na NaN; 0 where nan is right (3 settings)\n\n"
        "Run alone, it did not show the fault.\n\n```python\nprint(1)\n```\n\n"
        "### full 1. Conv2D under keras-jax: refused\n\nno (1 setting)\n\n```python\nraise ValueError\n```\n"
    )
    first, second = atlas_scripts.scripts(page)
    assert (first.number, first.shown, first.text) == ("2", False, "print(1)\n")
    assert first.numbers is not None
    assert first.numbers[0] == 0
    assert np.isnan(first.numbers[1])
    assert (second.number, second.shown, second.numbers) == ("full 1", True, None)
