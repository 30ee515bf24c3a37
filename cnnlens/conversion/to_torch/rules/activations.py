"""Activations as functions and as modules, and the layers that do nothing at inference."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from cnnlens.conversion.to_torch.call_site import CallSite, rule
from cnnlens.conversion.to_torch.names import comment, literal
from cnnlens.conversion.to_torch.value import Value, listed
from cnnlens.errors import UnsupportedLayerError
from cnnlens.kinds import ACTIVATIONS, LAYERS, activation_named
from cnnlens.reference.arithmetic.functions import find_activation, number_of
from cnnlens.reference.expression import ExpressionLayer, fold
from cnnlens.reference.keras.activations import Masking
from cnnlens.text import printable

__all__ = ["activated", "applied", "apply_named", "named", "settings_of"]

Settings = Mapping[str, Any]
# A function's name and its settings.
Named = tuple[str, dict[str, Any]]

# Of a function that had another meaning in Keras 2.
_HARD_SIGMOID_KERAS_2 = "torch.clamp(0.2 * {x} + 0.5, 0.0, 1.0)"
_WHOLE_AXIS = ("softmax", "log_softmax", "sparsemax", "glu")


def named(name: str, version: tuple[int, ...]) -> Named | None:
    """Find an activation by its name in a configuration; None for the identity."""
    name = activation_named(name)
    if name == "linear":
        return None
    if name == "hard_sigmoid" and version and version[0] < 3:
        return "hard_sigmoid_keras_2", {}
    return name, {"approximate": False} if name == "gelu" else {}


def settings_of(spec: Any, version: tuple[int, ...]) -> Named | None:
    """Find the activation that a configuration entry names, with its settings; None for the identity.

    Raises:
        UnsupportedLayerError: it is not one of Keras' own.
    """
    find_activation(spec, version)  # refuses what is not Keras' own
    if spec is None:
        return None
    if isinstance(spec, str):
        return named(spec, version)
    entry = cast("Mapping[str, Any]", spec)
    config = entry.get("config")
    if isinstance(config, str):
        return named(config, version)
    return of_layer(str(entry.get("class_name")), cast("Mapping[str, Any]", config), version)


def of_layer(kind: str, config: Mapping[str, Any], version: tuple[int, ...]) -> Named | None:
    """The function of an activation layer, with its settings."""
    if kind == "Activation":
        return settings_of(config.get("activation"), version)
    if kind == "ReLU":
        slope = number_of(config, "negative_slope", default=0.0) or 0.0
        threshold = number_of(config, "threshold", default=0.0) or 0.0
        most = number_of(config, "max_value", default=None)
        return "general_relu", {"negative_slope": slope, "max_value": most, "threshold": threshold}
    if kind == "LeakyReLU":
        return "leaky_relu", {"negative_slope": number_of(config, "negative_slope", "alpha", default=0.3)}
    if kind == "ELU":
        return "elu", {"alpha": number_of(config, "alpha", default=1.0)}
    if kind == "ThresholdedReLU":
        return "threshold", {"threshold": number_of(config, "theta", default=1.0), "default_value": 0.0}
    if kind == "Softmax":
        return "softmax", {"axis": config.get("axis", -1)}
    raise UnsupportedLayerError(f"a layer of kind {printable(kind)} as an activation is not supported")


def activated(site: CallSite, value: Value, spec: Any) -> Value:
    """Write ``value`` after the activation that a layer's configuration names."""
    found = settings_of(spec, site.version)
    return value if found is None else apply_named(site, value, *found)


def apply_named(site: CallSite, value: Value, name: str, settings: Settings) -> Value:
    """Write ``value`` after a function of Keras' with its settings."""
    if name in _WHOLE_AXIS:
        return _over_axis(site, value, name, settings)
    text, _ = _texts(site, name, settings)
    return applied(site, value, text)


def applied(site: CallSite, value: Value, text: Callable[[str], str]) -> Value:
    """Write a formula of ``value``, by a variable where it names that more than once or mixes it with operators."""
    probe = text("\0")
    alone = probe.count("\0") == 1 and ("(\0" in probe and ("\0)" in probe or "\0," in probe))
    return value.new(text(value.text if alone or value.text.isidentifier() else site.let(value.text, "inner")))


def _texts(site: CallSite, name: str, settings: Settings) -> tuple[Callable[[str], str], str]:
    """The function of an elementwise activation as text, and its module's text (empty where there is none)."""
    if name == "general_relu":
        return _general_relu(site, settings)
    if name == "hard_sigmoid_keras_2":
        _explain(site, name)
        return lambda x: _HARD_SIGMOID_KERAS_2.format(x=x), ""
    if name == "gelu":
        approximate = bool(settings.get("approximate", True))
        site.note(
            f"gelu {approximate}",
            "GELU by its tanh approximation." if approximate else "The exact GELU (erf), as Keras' activation is.",
        )
        more = ', approximate="tanh"' if approximate else ""
        return lambda x: f"F.gelu({x}{more})", 'nn.GELU(approximate="tanh")' if approximate else "nn.GELU()"
    row = ACTIVATIONS.get(name)
    if row is not None and row.torch:
        _explain(site, name)
        known = {**row.settings, **{setting: default for _, setting, default in row.arguments if not row.settings}}
        values = {key: literal(float(settings.get(key, default))) for key, default in known.items()}
        if name == "leaky_relu":
            site.note("leaky", f"Keras' slope is {values['negative_slope']} here; PyTorch's own default is 0.01.")
        return lambda x: row.torch.format(x=x, **values), row.module.format(**values)
    raise UnsupportedLayerError(f"the activation '{printable(name)}' has no PyTorch code")


def _explain(site: CallSite, name: str) -> None:
    if name == "hard_sigmoid_keras_2":
        site.note("hard_sigmoid", "Keras 2's hard_sigmoid; Keras 3 and PyTorch have relu6(x + 3) / 6 under that name.")
    if name == "softplus":
        site.note("softplus", "PyTorch's softplus is linear from 20 on, which float64 would notice; 40 hides nothing.")


def _general_relu(site: CallSite, settings: Settings) -> tuple[Callable[[str], str], str]:
    slope = float(settings.get("negative_slope") or 0.0)
    threshold = float(settings.get("threshold") or 0.0)
    most = settings.get("max_value")
    if threshold == 0.0 and most is None:
        return _texts(site, "leaky_relu", {"negative_slope": slope}) if slope else _texts(site, "relu", {})
    if threshold == 0.0 and slope == 0.0:
        if most == 6:
            return _texts(site, "relu6", {})
        return lambda x: f"torch.clamp({x}, 0.0, {literal(float(cast('float', most)))})", ""
    helper = site.helper("keras_relu")
    top = "None" if most is None else literal(float(most))
    return lambda x: f"{helper}({x}, {literal(slope)}, {top}, {literal(threshold)})", ""


def _over_axis(site: CallSite, value: Value, name: str, settings: Settings) -> Value:
    axis = settings.get("axis", -1)
    if axis is None:
        raise UnsupportedLayerError("it goes over all values of the batch at once (axis=None)")
    axes = [int(item) for item in cast("Sequence[Any]", axis)] if isinstance(axis, (list, tuple)) else [int(axis)]
    if value.flat is not None and (name == "glu" or any(one % value.rank != 1 for one in axes)):
        value = value.plain()
    if value.rank > 2 and value.place(axes[0]) != axes[0] % value.rank:
        site.note("axis", "Keras' axis, counted in the order in which the tensor is held here.")
    if len(axes) > 1:
        if name == "glu":
            raise UnsupportedLayerError("glu works on one axis")
        helper = site.helper("softmax_over")
        text = f"{helper}({value.text}, ({listed(value.places(axes))}))"
        return value.new(f"torch.log({text})" if name == "log_softmax" else text)
    dim = value.place(axes[0])
    if name == "sparsemax":
        site.note("sparsemax", "Keras' sparsemax: its threshold is not that of the paper.")
        return value.new(f"{site.helper('sparsemax')}({value.text}, dim={dim})")
    return value.new(f"F.{name}({value.text}, dim={dim})")


# -- layers ----------------------------------------------------------------------------------------------------------


@rule("Activation", "ReLU", "LeakyReLU", "ELU", "ThresholdedReLU", "Softmax")
def activation(site: CallSite) -> Value:
    found = of_layer(site.kind, site.config, site.version)
    x = site.x
    if found is None:
        return x
    name, settings = found
    if name in _WHOLE_AXIS:
        return _axis_layer(site, x, name, settings)
    text, module = _texts(site, name, settings)
    if module:
        return x.new(f"{site.module(module)}({x.text})")
    return applied(site, x, text)


def _axis_layer(site: CallSite, x: Value, name: str, settings: Settings) -> Value:
    result = _over_axis(site, x, name, settings)
    if name == "glu":
        return Value(result.text, site.shape, result.order, result.axis, None)
    return result


@rule("PReLU")
def prelu(site: CallSite) -> Value:
    x = site.x
    alpha = site.weights.shape("alpha")
    if len(alpha) != x.rank - 1:
        raise site.refuse(f"its slopes have {len(alpha)} axes and its input has {x.rank}")
    wide = [axis for axis, size in enumerate(alpha, 1) if size != 1]
    if x.flat is not None and alpha[0] != 1:
        entry = site.weights.arranged("alpha", "PReLU", x.flat)
        text = site.module(f"nn.PReLU({alpha[0]})", {"weight": entry}, comments=flat_vectors(site, x))
        return x.new(f"{text}({x.text})")
    if len(wide) <= 1:
        # One slope, or one a place on one axis, which nn.PReLU looks for at axis 1.
        x = x.first([0, wide[0]]) if wide else x
        count = alpha[wide[0] - 1] if wide else 1
        entry = site.weights.entry("alpha", lambda array: array.reshape(-1))
        return x.new(f"{site.module(f'nn.PReLU({count})', {'weight': entry})}({x.text})")
    order = [axis - 1 for axis in x.order[1:]] if x.order[0] == 0 else None
    if order is None:
        x, order = x.canonical(), [axis - 1 for axis in x.canonical().order[1:]]
    slopes = [alpha[axis] for axis in order]
    entry = site.weights.entry("alpha", lambda array: array.transpose(order))
    helper = site.helper("PReLUMap")
    comments = site.remark("prelu-map", "A slope for each position, which nn.PReLU does not have.")
    return x.new(f"{site.module(f'{helper}({listed(slopes)})', {'weight': entry}, comments=comments)}({x.text})")


def flat_vectors(site: CallSite, x: Value) -> list[str]:
    """The comment on a vector that has an entry for each place of a flattened map."""
    if x.flat is None:
        return []
    return site.remark(
        "flat-vectors", "Between a Flatten and a Dense: the vectors are in the order in which this file flattens."
    )


@rule("Masking")
def masking(site: CallSite) -> Value:
    operation = cast("Masking", site.operation)
    x = site.x
    value = literal(float(operation.value or 0.0))
    site.note("masking", "Steps whose every feature is the mask's value become zero; the mask itself goes no further.")
    text = x.text if x.text.isidentifier() else site.let(x.text, "steps")
    keep = site.let(f"({text} != {value}).any(dim={x.place(-1)}, keepdim=True)", "keep")
    return x.new(f"torch.where({keep}, {text}, 0.0)")


# Those that PyTorch has too.
_DROPS = ("Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "AlphaDropout")


@rule(*_DROPS)
def dropout(site: CallSite) -> Value:
    x = site.x
    rate = site.config.get("rate", 0.5)
    if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 <= rate <= 1:
        raise site.refuse("its rate is no number between 0 and 1")
    number = literal(float(rate))
    if site.kind == "AlphaDropout":
        return x.new(f"{site.module(f'nn.AlphaDropout({number})')}({x.text})")
    spatial = site.kind.startswith("Spatial")
    if spatial and x.flat is None:
        turned = x.canonical()
        return turned.new(f"{site.module(f'nn.Dropout{site.kind[-2]}d({number})')}({turned.text})")
    return x.new(f"{site.module(f'nn.Dropout({number})')}({x.text})")


@rule(*(row.name for row in LAYERS if row.training_only and row.name not in _DROPS))
def training_only(site: CallSite) -> Value:
    site.comments.append(f"{site.kind} acts in training alone, and is left out.")
    return site.x


@rule("Identity", "ActivityRegularization")
def identity(site: CallSite) -> Value:
    return site.x


_EXPRESSION = {
    "Add": "{} + {}", "Subtract": "{} - {}", "Multiply": "{} * {}", "Divide": "{} / {}", "Power": "{} ** {}",
    "Negative": "-{}", "Absolute": "{}.abs()", "Exp": "torch.exp({})", "Log": "torch.log({})",
    "Sqrt": "torch.sqrt({})", "Tanh": "torch.tanh({})", "Sigmoid": "torch.sigmoid({})", "Relu": "torch.relu({})",
    "Minimum": "torch.minimum({}, {})", "Maximum": "torch.maximum({}, {})", "Clip": "{}.clamp({}, {})",
}  # fmt: skip
_SIMPLE = re.compile(r"[\w.]+|torch\.\w+\([^()]*\)")


@rule("Expression")
def expression(site: CallSite) -> Value:
    """What a person said that a Lambda computes."""
    operation = cast("ExpressionLayer", site.operation)
    base = site.x.text if site.x.text.isidentifier() else site.let(site.x.text, "x")
    site.note(f"expression {site.key}", f"A Lambda of Keras, as its owner says: {comment(site.config['expression'])}.")

    def make(kind: str, operands: Sequence[Any]) -> str:
        texts = [one if _SIMPLE.fullmatch(str(one)) else f"({one})" for one in operands]
        if kind in ("Minimum", "Maximum") and any(isinstance(one, float) for one in operands):
            number = next(one for one in operands if isinstance(one, float))
            other = next(str(text) for text, one in zip(texts, operands, strict=True) if one is not number)
            return f"{other}.clamp({'max' if kind == 'Minimum' else 'min'}={number})"
        called = _EXPRESSION[kind].startswith("torch.")
        return _EXPRESSION[kind].format(*(operands if called else texts))

    text = str(fold(operation.node, base, make))
    return site.x.new(text)
