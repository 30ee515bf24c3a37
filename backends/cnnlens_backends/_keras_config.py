"""A stranger's config made into one that only names Keras' own classes, or refused.

A config may name any class or function of any module, and Keras' safe mode is no boundary. So nothing of a config
reaches Keras before it was rewritten here: each class is looked up among Keras' own, the module that the file names is
never imported, initializers, regularizers and constraints (which a trained network does not need) are taken out, and
what older versions of Keras wrote is said as the installed one says it.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import Any, cast

from cnnlens.errors import UnsupportedLayerError
from cnnlens.text import printable

__all__ = ["Cleaner", "Config", "UntrustedError", "function_name", "hard_sigmoid_of_keras_2", "is_bare", "keras_class"]

Config = Mapping[str, Any]

# Keras' own, and still code or files of the author's choice.
_CODE = frozenset({"Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"})
_MODELS = frozenset({"Functional", "Sequential", "Model"})
_PLAIN = frozenset(f"__{name}__" for name in ("tensor", "numpy", "slice", "ellipsis", "bytes", "tuple", "keras_tensor"))
_OPERATIONS = ("numpy", "nn", "math", "core", "image", "linalg", "einops")
_RENAMED = {"BatchNormalizationV1": "BatchNormalization", "BatchNormalizationV2": "BatchNormalization"}

# Arguments that the installed Keras has no more: what they must be to mean nothing. ``...`` is for "whatever it is".
_RETIRED: Mapping[str, tuple[Any, ...]] = {
    "batch_input_shape": (...,), "implementation": (...,), "rng_type": (...,), "input_length": (...,),
    # of separable and depthwise convolutions, beside their own two
    "kernel_initializer": (...,), "kernel_regularizer": (...,), "kernel_constraint": (...,),
    "beta_constraint": (...,), "gamma_constraint": (...,), "time_major": (False,), "groups": (1,), "renorm": (False,),
    "renorm_clipping": (...,), "renorm_momentum": (...,), "virtual_batch_size": (None,), "adjustment": (None,),
    "fused": (...,), "ragged": (False,), "sparse": (False,), "inverse": (False,),
}  # fmt: skip


# Layers that Keras keeps beside the one application that uses them. The path is ours: a file's is never imported.
_APPLICATIONS = {
    "LayerScale": "keras.src.applications.convnext",
    "CustomScaleLayer": "keras.src.applications.inception_resnet_v2",
}


_FLOATING = ("float64", "float32", "bfloat16", "float16", "mixed_bfloat16", "mixed_float16")


class UntrustedError(UnsupportedLayerError):
    """Is raised where the config names what is not Keras' own; with ``trust_code`` it may run all the same."""


def keras_class(kind: str) -> Any:
    """Find Keras' own layer or model of this name, or None. The file's word on the module is not asked."""
    keras = import_module("keras")
    home = keras.models if kind in _MODELS else keras.layers
    if kind == "Functional" or kind in _APPLICATIONS:
        home = import_module(_APPLICATIONS.get(kind, "keras.src.models.functional"))
    found = getattr(home, kind, None)
    return found if inspect.isclass(found) and issubclass(found, keras.Layer) else None


def bare_operation(module: str, kind: str) -> Any:
    """The class of ``keras.ops`` for an operation such as ``x + y``, or None."""
    base = import_module("keras.src.ops.operation").Operation
    named = module.rsplit(".", 1)[-1]
    for place in sorted(_OPERATIONS, key=lambda one: one != named):
        try:
            found = getattr(import_module(f"keras.src.ops.{place}"), kind, None)
        except ImportError:
            continue
        if inspect.isclass(found) and issubclass(found, base) and found.__module__.startswith("keras.src.ops."):
            return found
    return None


def function_name(kind: str) -> str:
    """Name the function of ``keras.ops`` for an operation's class: ``ExpandDims`` is ``expand_dims``."""
    return "".join("_" + char.lower() if char.isupper() and index else char.lower() for index, char in enumerate(kind))


class Cleaner:
    """Rewrites the configs of one model.

    Args:
        version: The major version of the Keras that wrote it.
        blank: The initializer that takes the place of every other.
        policy: The dtype policy that takes the place of every other; None leaves each its own.
    """

    def __init__(self, version: int, blank: Any, policy: str | None = None) -> None:
        self.version = version
        self.blank = blank
        self.policy = policy

    def layer(self, kind: str, module: str, config: Config) -> tuple[Any, dict[str, Any]]:
        """Find Keras' class for a layer, and the arguments to make one of it.

        Raises:
            UntrustedError: it is not Keras' own, or names what is not.
            UnsupportedLayerError: this Keras cannot say the same.
        """
        if kind in _CODE:
            raise UntrustedError(f"a {kind} runs code or files that the model's author chose")
        known = keras_class(_RENAMED.get(kind, kind))
        if not _keras_module(module) or known is None:
            if known is None and _keras_module(module) and ">" not in kind:
                raise UntrustedError(f"Keras {import_module('keras').__version__} has no layer of this class")
            raise UntrustedError(f"its class ({printable(module, 60)}.{printable(kind, 60)}) is not Keras' own")
        if isinstance(config.get("vocabulary"), str):
            raise UntrustedError("its vocabulary is a file that the model's author chose")
        cleaned = {key: self.value(value, key) for key, value in config.items()}
        return known, self._arguments(known, cleaned)

    def value(self, value: Any, key: str = "") -> Any:
        """Clean one value of a config, all the way down."""
        if key.endswith("_initializer"):
            return self.blank
        if key.endswith(("_regularizer", "_constraint")):
            return None
        if key.endswith("activation") and value == "hard_sigmoid" and self.version < 3:
            return hard_sigmoid_of_keras_2
        if isinstance(value, (list, tuple)):
            return [self.value(part) for part in cast("list[Any]", value)]
        if not isinstance(value, dict):
            return value
        entry = cast("dict[str, Any]", value)
        if not isinstance(entry.get("class_name"), str) or "config" not in entry:
            return {name: self.value(part, str(name)) for name, part in entry.items()}
        return self._object(entry, key)

    def _object(self, entry: dict[str, Any], key: str) -> Any:
        """A serialised object: a layer inside this one, an activation, a dtype policy, a constant."""
        kind, config, module = str(entry["class_name"]), entry["config"], str(entry.get("module") or "keras.layers")
        registered = entry.get("registered_name")
        if isinstance(registered, str) and ">" in registered:
            raise UntrustedError(f"it names '{printable(registered, 60)}', which is not Keras' own")
        if kind in _PLAIN:
            return {"class_name": kind, "config": self.value(config)}
        if kind == "function":
            name = str(config)
            if not (_keras_module(module) or module == "builtins") or not _is_activation(name):
                raise UntrustedError(f"it names the function {printable(module, 60)}.{printable(name, 60)}")
            if name == "hard_sigmoid" and self.version < 3:
                return hard_sigmoid_of_keras_2
            return import_module("keras").activations.get(name)
        if key == "dtype":
            return _policy(kind, module, config)
        if kind.endswith(("QuantizationConfig", "Quantizer")):
            return _own_class("quantizers", kind, module, cast("dict[str, Any]", config))
        body = cast(
            "dict[str, Any]", config if isinstance(config, dict) else {"layers": config}
        )  # Keras 2's Sequential
        known, arguments = self.operation(kind, module, body) if is_bare(module) else self.layer(kind, module, body)
        found = {"module": known.__module__, "class_name": known.__name__, "config": arguments, "registered_name": None}
        if "inbound_nodes" in entry:  # of a layer in a model that is wrapped whole
            found |= {"name": entry.get("name"), "inbound_nodes": self.value(entry["inbound_nodes"])}
        return found

    def operation(self, kind: str, module: str, config: Config) -> tuple[Any, dict[str, Any]]:
        """Find the class of ``keras.ops`` for an operation without a layer, and the arguments to make one."""
        known = bare_operation(module, kind)
        if known is None:
            raise UntrustedError(f"Keras {import_module('keras').__version__} has no operation of this name")
        cleaned = {key: self.value(value, key) for key, value in config.items()}
        if not {"name", "kwargs"} & set(inspect.signature(known.__init__).parameters):  # Keras 3.10's take no name
            cleaned.pop("name", None)
        return known, cleaned

    def _arguments(self, known: Any, config: dict[str, Any]) -> dict[str, Any]:
        """``config`` without what the class does not take any more."""
        if known.__name__ == "InputLayer" and "batch_input_shape" in config:
            config["batch_shape"] = config.pop("batch_input_shape")
        if known.__name__ == "BatchNormalization" and isinstance(config.get("axis"), list) and len(config["axis"]) == 1:
            config["axis"] = config["axis"][0]
        if known.__name__ == "LeakyReLU" and "alpha" in config:
            config["negative_slope"] = config.pop("alpha")
        if self.policy is not None and known.__name__ != "InputLayer" and not issubclass(known, _model_class()):
            named = config.get("dtype") or "float32"
            # Integers stay integers, and quantised kernels are taken apart as their own policy says.
            if getattr(named, "name", named) in _FLOATING:
                config["dtype"] = self.policy
        config.pop("build_config", None)
        if config.pop("lora_rank", None) is not None:  # the file's kernel has the two merged in
            config.pop("lora_alpha", None)
        if config.get("stateful"):  # each input is a sample of its own here, never the continuation of the last
            config["stateful"] = False
        taken = _parameters(known)
        for name in [name for name in config if name not in taken]:
            allowed = _RETIRED.get(name, ())
            if config[name] is None or ... in allowed or config[name] in allowed:
                del config[name]
            elif allowed:
                version = import_module("keras").__version__
                raise UnsupportedLayerError(f"Keras {version} cannot do {name}={printable(config[name], 60)}")
        # Keras' defaults draw too, which XLA compiles anew for each shape.
        return dict.fromkeys((name for name in taken if name.endswith("_initializer")), self.blank) | config


def _model_class() -> Any:
    return import_module("keras").Model


def _parameters(known: Any) -> set[str]:
    """The names of what a class can be made with: its own arguments, and every layer's."""
    keras = import_module("keras")
    found: set[str] = set(_BASE_ARGUMENTS)
    for base in known.__mro__:
        if base is keras.Layer:
            break
        found |= set(inspect.signature(base.__init__).parameters)
    if issubclass(known, keras.Model):
        found |= {"layers", "input_layers", "output_layers", "build_input_shape"}
    return found - {"self", "args", "kwargs"}


_BASE_ARGUMENTS = ("name", "dtype", "trainable", "autocast", "activity_regularizer")


def is_bare(module: str) -> bool:
    """Tell whether an entry of this module is an operation such as ``x + y`` rather than a layer."""
    return (module + ".").startswith(("keras.src.ops.", "keras.ops."))


def _keras_module(module: str) -> bool:
    """Whether a file's word for a module is one of Keras' (legacy files have none)."""
    return module in ("", "keras") or module.startswith(
        ("keras.", "tf_keras.", "tensorflow.keras", "tensorflow.python.keras")
    )


def _is_activation(name: str) -> bool:
    return name in import_module("keras.src.activations").ALL_OBJECTS_DICT


def _policy(kind: str, module: str, config: Any) -> Any:
    if kind in ("Policy", "PolicyV1"):  # Keras 2
        return cast("dict[str, Any]", config)["name"]
    return _own_class("dtype_policies", kind, module, cast("dict[str, Any]", config))


def _own_class(home: str, kind: str, module: str, config: dict[str, Any]) -> Any:
    found: Any = getattr(getattr(import_module("keras"), home), kind, None)
    if not inspect.isclass(found) or not _keras_module(module) or not _is_plain(config):
        raise UntrustedError(f"its {home.replace('_', ' ')} entry {printable(kind, 60)} is not Keras' own")
    return cast("Any", found).from_config(dict(config))


def _is_plain(value: Any) -> bool:
    """Whether a config names no class, other than dtype policies, in turn."""
    if isinstance(value, dict):
        entry = cast("dict[str, Any]", value)
        own = "class_name" not in entry or hasattr(import_module("keras").dtype_policies, str(entry["class_name"]))
        return own and all(_is_plain(part) for part in entry.values())
    return not isinstance(value, list) or all(_is_plain(part) for part in cast("list[Any]", value))


def hard_sigmoid_of_keras_2(x: Any) -> Any:
    """Compute ``clip(0.2 x + 0.5, 0, 1)``; Keras 3's function of that name is ``relu6(x + 3) / 6``."""
    ops = import_module("keras").ops
    return ops.clip(0.2 * x + 0.5, 0.0, 1.0)
