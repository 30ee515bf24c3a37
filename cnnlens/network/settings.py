"""What a layer is set to, in one vocabulary: Keras' configs and the arguments of PyTorch's calls name the same things
differently, and both hold much that says nothing of what is computed.

A line of ``_SETTINGS`` is one setting: how files spell it, how it is said, and which values go without saying. What no
line knows is said by its own name; what is bookkeeping (``_BOOKKEEPING``) is left out.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple, cast

from cnnlens.network.graph import Layer
from cnnlens.text import printable

__all__ = ["epsilon_of", "in_words", "settings_of"]


class _Setting(NamedTuple):
    name: str
    spelt: str  # as files have it, words apart
    said: str  # {} is the value; where it is left out, the setting is said by this alone
    unsaid: tuple[Any, ...] = (None,)  # the values that go without saying


# A line a setting, in the order in which they are said.
_SETTINGS = (
    _Setting("filters", "filters", "{} filters"),
    _Setting("units", "units output_dim", "{} units"),
    _Setting("kernel_size", "kernel_size", "kernel {}"),
    _Setting("pool_size", "pool_size", "pool {}"),
    _Setting("size", "size", "size {}"),
    _Setting("output_size", "output_size", "to {}"),
    _Setting("target_shape", "target_shape", "to {}"),
    _Setting("stride", "strides stride", "stride {}", (None, 1)),
    _Setting("padding", "padding", "padding {}", (None, 0, "valid")),
    _Setting("output_padding", "output_padding", "output padding {}", (None, 0)),
    _Setting("dilation", "dilation_rate dilation", "dilation {}", (None, 1)),
    _Setting("groups", "groups", "{} groups", (None, 1)),
    _Setting("depth_multiplier", "depth_multiplier", "depth multiplier {}", (None, 1)),
    _Setting("use_bias", "use_bias", "no bias", (None, True)),
    _Setting("center", "center", "no center", (None, True)),
    _Setting("scale", "scale", "no scale", (None, True)),
    _Setting("rate", "rate", "rate {}"),
    _Setting("epsilon", "epsilon eps", "epsilon {}"),
    _Setting("axis", "axis", "axis {}", (None, -1)),
    _Setting("interpolation", "interpolation", "{}"),
    _Setting("merge_mode", "merge_mode", "merged by {}"),
    _Setting("return_sequences", "return_sequences", "sequences", (None, False)),
    _Setting("return_state", "return_state", "states", (None, False)),
    _Setting("go_backwards", "go_backwards", "backwards", (None, False)),
    _Setting("dropout", "dropout", "dropout {}", (None, 0)),
    _Setting("recurrent_dropout", "recurrent_dropout", "recurrent dropout {}", (None, 0)),
    _Setting("num_heads", "num_heads", "{} heads"),
    _Setting("start_dim", "start_dim", "from axis {}", (None, 1)),
    _Setting("end_dim", "end_dim", "to axis {}", (None, -1)),
    _Setting("reset_after", "reset_after", "reset before", (None, True)),
    _Setting("data_format", "data_format", "{}", (None, "channels_last")),
    _Setting("recurrent_activation", "recurrent_activation", "gates {}", (None, "sigmoid")),
    _Setting("activation", "activation", "{}", (None, "linear")),
    _Setting("dtype", "dtype", "{}", (None, "float32")),
    _Setting("trainable", "trainable", "frozen", (None, True)),
)
_BY_SPELLING = {spelling: one for one in _SETTINGS for spelling in one.spelt.split()}
_BY_NAME = {one.name: one for one in _SETTINGS}
_EPSILON = _BY_NAME["epsilon"].spelt.split()
_ORDER = {name: place for place, name in enumerate(_BY_NAME)}

# Names, what training alone uses, how a layer is made or called, and where its numbers lie.
_BOOKKEEPING = frozenset(
    "name batch_shape batch_input_shape input_shape input_dtype sparse ragged optional seed momentum noise_shape "
    "synchronized fused renorm renorm_clipping renorm_momentum virtual_batch_size adjustment unit_forget_bias unroll "
    "time_major zero_output_for_mask stateful use_cudnn implementation autocast dropout_seed flash_attention "
    "quantization_config gptq_unpacked_column_size lora_rank lora_alpha training train cudnn_enabled inplace "
    "memory_format pin_memory layout device non_blocking bias function node_def constants expression input_dim "
    "build_config registered_name module class_name arguments output_shape mask function_type module_type "
    "output_shape_type output_shape_module mask_type mask_module layer layers cell cells backward_layer "
    "forward_layer".split()
)
_MADE = ("_initializer", "_regularizer", "_constraint", "_quantizer")

_WINDOWS = ("kernel_size", "pool_size", "size")  # said without a word where they have several axes
_MOST = 8  # numbers of a list that are written out
_DEEP = 4  # layers in layers


def settings_of(layer: Layer) -> dict[str, Any]:
    """Give a layer's settings by name, whichever framework's file says them.

    Sizes, strides and the like are numbers, one an axis; an activation is its name. A convolution's kernel size and
    filters, and a dense layer's units, are taken from its arrays where the file says no more. A wrapper has those of
    the layer in it too.

    >>> import cnnlens.sample
    >>> settings_of(cnnlens.open(cnnlens.sample.MODEL)["conv2d"])["kernel_size"]
    [3, 3]
    >>> settings_of(cnnlens.open(cnnlens.sample.MODEL)["dense_1"])
    {'units': 10, 'use_bias': True, 'activation': 'softmax', 'dtype': 'float32', 'trainable': True}
    """
    found: dict[str, Any] = {}
    for config in _configs(layer):
        for key, value in config.items():
            known = _BY_SPELLING.get(key)
            name = known.name if known is not None else key
            if key in _BOOKKEEPING or key.endswith(_MADE) or name in found:
                continue
            plain = _plain(value)
            if plain is not None:
                found[name] = plain
    _of_arrays(layer, found)
    if "pool_size" in found and not found.get("stride"):
        found["stride"] = found["pool_size"]
    rank = len(layer.stored_output_shape or ())
    if found.get("axis") in (rank - 1, [rank - 1], [-1]):
        found["axis"] = -1
    if isinstance(layer.config.get("trainable"), bool):
        found["trainable"] = layer.config["trainable"]
    return dict(sorted(found.items(), key=lambda item: _ORDER.get(item[0], len(_ORDER))))


def epsilon_of(layer: Layer) -> Any:
    """Give the setting ``epsilon`` alone, or None: of ten thousand layers it is found in no time.

    >>> import cnnlens.sample
    >>> print(epsilon_of(cnnlens.open(cnnlens.sample.MODEL)["conv2d"]))
    None
    """
    found = (_plain(value) for config in _configs(layer) for key, value in config.items() if key in _EPSILON)
    return next((value for value in found if value is not None), None)


def _configs(layer: Layer) -> Iterator[Mapping[str, Any]]:
    """What its file says of a layer, then of the layer in it, and so on."""
    config = _mapping(None if layer.container else layer.config)
    for _ in range(_DEEP):
        if not config:
            return
        yield config
        config = _mapping(_mapping(config.get("layer") or config.get("cell")).get("config"))


def _mapping(value: Any) -> Mapping[str, Any]:
    """A mapping as it is, and whatever else a stranger wrote in its place as an empty one."""
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def _of_arrays(layer: Layer, found: dict[str, Any]) -> None:
    """What its arrays say of its settings; PyTorch calls a pool's window a kernel."""
    kernels = [one for one in layer.stored.values() if one.is_kernel]
    if not kernels:
        if "kernel_size" in found and "pool" in layer.kind.lower():
            found["pool_size"] = found.pop("kernel_size")
        return
    out, _, *sides = kernels[0].canonical_shape
    if sides and kernels[0].canonical_axes:
        found.setdefault("kernel_size", sides)
        found.setdefault("filters", kernels[-1].canonical_shape[0] if len(kernels) > 1 else out)
    elif len(kernels) == 1 and not found.get("units"):
        found["units"] = out
    if len(kernels) == 1 or sides:
        found.setdefault("use_bias", any(one.role.endswith("bias") for one in layer.stored.values()))


def _plain(value: Any) -> Any:
    """A setting as plain data: the name of what Keras writes as an object, N for the batch; else None."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, Mapping):
        entry = _mapping(value)
        if "batch" in entry:
            return "N" if entry["batch"] == 1 else f"{entry['batch']}N"
        inner = _mapping(entry.get("config")).get("name") or entry.get("config")
        named = inner if isinstance(inner, str) and entry.get("class_name") in ("function", "DTypePolicy") else None
        name = named or entry.get("class_name") or inner
        return name if isinstance(name, str) else None
    if isinstance(value, (list, tuple)):
        parts = [_plain(part) for part in cast("list[Any]", value)]
        return None if any(part is None for part in parts) else parts
    return None


def in_words(settings: Mapping[str, Any], without: Collection[str] = ()) -> str:
    """Say settings in a few words; those that go without saying are left out.

    Args:
        settings: As :func:`settings_of` gives them.
        without: Names of those that are said elsewhere.

    >>> in_words({"kernel_size": [3, 5], "stride": [2, 2], "padding": "same", "groups": 1, "activation": "relu"})
    '3×5, stride 2, padding same, relu'
    >>> in_words({"pool_size": [2, 2], "stride": [2, 2], "padding": [0, 0]})
    '2×2, stride 2'
    """
    said: list[str] = []
    for name, value in settings.items():
        if name in without:
            continue
        one = _BY_NAME.get(name) or _Setting(
            name, name, printable(name, 40).replace("{", "{{").replace("}", "}}") + " {}"
        )
        alike = _alike(value)
        is_default = any(alike == known and isinstance(alike, bool) == isinstance(known, bool) for known in one.unsaid)
        if is_default and not (name == "stride" and "pool_size" in settings):
            continue
        sizes = cast("list[Any]", value) if isinstance(value, list) else []
        if name not in _BY_NAME:
            own = printable(name, 40)
            said += [f"{own} {_shown(alike)}"] if not isinstance(value, bool) else [own] if value else []
        elif name == "scale" and not isinstance(value, bool):
            said.append(f"scale {_shown(value)}")
        elif name in _WINDOWS and len(sizes) > 1:
            said.append(_size(sizes))
        else:
            said.append(one.said.format(_size(sizes) if name == "output_size" and sizes else _shown(alike)))
    return ", ".join(said)


def _alike(value: Any) -> Any:
    """One number for a list of equal ones."""
    if not isinstance(value, list):
        return value
    items = [_alike(part) for part in cast("list[Any]", value)]
    if items and all(item == items[0] for item in items):
        return items[0]
    return items


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return _size(cast("list[Any]", value))
    if isinstance(value, float):
        return f"{value:.6g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else printable(value, 40)


def _size(values: list[Any]) -> str:
    """Sizes, one an axis: ``3×5``; those before and behind ``0+1``; of what is no size a list."""
    if len(values) > _MOST:
        return f"{len(values):,} values"
    shown = [
        "+".join(map(_shown, cast("list[Any]", value))) if isinstance(value, list) else _shown(value)
        for value in values
    ]
    sizes = not any(isinstance(value, (str, float)) or (isinstance(value, int) and value < 0) for value in values)
    return "×".join(shown) if sizes else f"({', '.join(shown)})"
