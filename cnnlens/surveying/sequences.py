"""What is tried of Keras' layers over sequences and of those that hold others: recurrent, attention, wrappers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cnnlens.surveying.setting import Called, Family, Operand, Options, Shape

__all__ = ["families"]

_GATES = {"LSTM": 4, "GRU": 3, "SimpleRNN": 1}
_SIZES = frozenset({"shape", "units"})
_LIKE_KERAS_3 = {"GRU": {"reset_after": True}}  # a file says it always; what says nothing is an older one's


def _arrays(kind: str, features: int, units: int, options: Options, inside: str = "") -> dict[str, Shape]:
    """The arrays of a recurrent layer's cell."""
    wide = _GATES[kind] * units
    found: dict[str, Shape] = {f"{inside}kernel": (features, wide), f"{inside}recurrent_kernel": (units, wide)}
    if options.get("use_bias", True):
        twice = kind == "GRU" and options.get("reset_after", True)
        found[f"{inside}bias"] = (2, wide) if twice else (wide,)
    return found


def _recurrent(kind: str) -> Family:
    def make(options: Options) -> Called | None:
        config = {name: value for name, value in options.items() if name != "shape"}
        weights = _arrays(kind, options["shape"][1], options["units"], options, "cell/")
        return Called(kind, config, (Operand(options["shape"]),), weights)

    table: dict[str, Any] = {
        "shape": ((7, 5), (1, 1), (3, 8)), "units": (3, 1, 8), "return_sequences": (False, True),
        "go_backwards": (False, True), "use_bias": (True, False), "activation": ("tanh", "relu"),
    }  # fmt: skip
    if kind != "SimpleRNN":
        table["recurrent_activation"] = ("sigmoid", "hard_sigmoid")
    if kind == "GRU":
        table["reset_after"] = (True, False)
    return Family(kind, table, make, _SIZES)


def _entry(kind: str, name: str, **config: Any) -> dict[str, Any]:
    return {"module": "keras.layers", "class_name": kind, "config": {"name": name, "dtype": "float32", **config},
            "registered_name": None}  # fmt: skip


def _cells() -> Family:
    def make(options: Options) -> Called | None:
        kind, units, (steps, features) = options["cell"], options["units"], options["shape"]
        config = {
            "cell": _entry(f"{kind}Cell", "inner", units=units, **_LIKE_KERAS_3.get(kind, {})),
            "return_sequences": options["return_sequences"],
        }
        return Called("RNN", config, (Operand((steps, features)),), _arrays(kind, features, units, {}, "cell/"))

    table = {"shape": ((7, 5), (1, 1)), "units": (3, 1), "cell": tuple(_GATES), "return_sequences": (False, True)}
    return Family("RNN", table, make, _SIZES)


def _bidirectional() -> Family:
    def make(options: Options) -> Called | None:
        kind, units, features = options["layer"], options["units"], options["shape"][1]
        more = {"return_sequences": options["return_sequences"], **_LIKE_KERAS_3.get(kind, {})}
        inner = _entry(kind, "forward_inner", units=units, **more)
        weights = {
            **_arrays(kind, features, units, {}, "forward_layer/cell/"),
            **_arrays(kind, features, units, {}, "backward_layer/cell/"),
        }
        config = {"layer": inner, "merge_mode": options["merge_mode"]}
        return Called("Bidirectional", config, (Operand(options["shape"]),), weights)

    table = {
        "shape": ((7, 5), (1, 1)), "units": (3, 1), "layer": tuple(_GATES),
        "merge_mode": ("concat", "sum", "ave", "mul"), "return_sequences": (False, True),
    }  # fmt: skip
    return Family("Bidirectional", table, make, _SIZES)


def _convolutional(rank: int) -> Family:
    def make(options: Options) -> Called | None:
        *sizes, channels = options["shape"][1:]
        kernel, filters = (options["kernel"],) * rank, options["filters"]
        if options["padding"] == "valid" and min(sizes) < options["kernel"]:
            return None
        config = {
            "filters": filters, "kernel_size": list(kernel), "strides": [options["stride"]] * rank,
            "padding": options["padding"], "return_sequences": options["return_sequences"],
        }  # fmt: skip
        weights = {
            "cell/kernel": (*kernel, channels, 4 * filters), "cell/recurrent_kernel": (*kernel, filters, 4 * filters),
            "cell/bias": (4 * filters,),
        }  # fmt: skip
        return Called(f"ConvLSTM{rank}D", config, (Operand(options["shape"]),), weights)

    shape = (3, *(6, 5, 4)[:rank], 2)
    table = {
        "shape": (shape, (1, *(4, 3, 5)[:rank], 1)), "filters": (2, 1), "kernel": (1, 2, 3), "stride": (1, 2),
        "padding": ("valid", "same"), "return_sequences": (False, True),
    }  # fmt: skip
    return Family(f"ConvLSTM{rank}D", table, make, frozenset({"shape", "filters"}))


def _time_distributed() -> Family:
    def make(options: Options) -> Called | None:
        steps, *shape = options["shape"]
        if options["layer"] == "Dense":
            inner, weights = _entry("Dense", "inner", units=3), {"layer/kernel": (shape[-1], 3), "layer/bias": (3,)}
        else:
            inner = _entry("Conv2D", "inner", filters=3, kernel_size=[2, 2], padding="same")
            weights = {"layer/kernel": (2, 2, shape[-1], 3), "layer/bias": (3,)}
            if len(shape) != 3:
                return None
        return Called("TimeDistributed", {"layer": inner}, (Operand((steps, *shape)),), weights)

    table = {"shape": ((3, 5), (4, 6, 5, 2)), "layer": ("Dense", "Conv2D")}
    return Family("TimeDistributed", table, make)


def _spectral() -> Family:
    def make(options: Options) -> Called | None:
        inner = _entry("Conv2D", "inner", filters=3, kernel_size=[2, 2], padding=options["padding"])
        weights = {"layer/kernel": (2, 2, 4, 3), "layer/bias": (3,), "vector_u": (1, 3)}
        return Called("SpectralNormalization", {"layer": inner, "power_iterations": 1}, (Operand((6, 5, 4)),), weights)

    return Family("SpectralNormalization", {"padding": ("valid", "same")}, make)


def _heads(config: Mapping[str, Any], query: Shape, value: Shape, biased: bool) -> dict[str, Shape]:
    heads = config.get("num_heads") or config["num_query_heads"]
    shared = config.get("num_key_value_heads", heads)
    width = config.get("key_dim") or config["head_dim"]
    kernels = {
        "query": (query[-1], heads, width), "key": (value[-1], shared, width), "value": (value[-1], shared, width),
    }  # fmt: skip
    found: dict[str, Shape] = {}
    for name, shape in kernels.items():
        found |= {f"{name}_dense/kernel": shape, f"{name}_dense/bias": shape[1:]}
    found |= {"output_dense/kernel": (heads, width, query[-1]), "output_dense/bias": (query[-1],)}
    return found if biased else {name: shape for name, shape in found.items() if not name.endswith("bias")}


def _attention(kind: str, base: Mapping[str, Any]) -> Family:
    def make(options: Options) -> Called | None:
        query, value = options["query"], options["value"]
        if options["use_causal_mask"] and query[0] != value[0]:
            return None
        config = {**base, "use_bias": options["use_bias"]}
        named = {"use_causal_mask": True} if options["use_causal_mask"] else {}
        weights = _heads(base, query, value, options["use_bias"])
        return Called(kind, config, (Operand(query), Operand(value)), weights, named=named)

    table = {
        "query": ((6, 5), (1, 5)), "value": ((7, 5), (6, 5), (1, 5)), "use_bias": (True, False),
        "use_causal_mask": (False, True),
    }  # fmt: skip
    return Family(kind, table, make)


def _scored(kind: str) -> Family:
    def make(options: Options) -> Called | None:
        query, value, concat = options["query"], options["value"], options.get("score_mode") == "concat"
        config = {
            "use_scale": options["use_scale"],
            **({"score_mode": options["score_mode"]} if kind == "Attention" else {}),
        }
        weights: dict[str, Shape] = {}
        if options["use_scale"]:
            weights["scale"] = () if kind == "Attention" else (query[-1],)
        if concat:
            weights["concat_score_weight"] = ()
        return Called(kind, config, (Operand(query), Operand(value)), weights, listed=True)

    table: dict[str, Any] = {"query": ((6, 5), (1, 5)), "value": ((7, 5), (1, 5)), "use_scale": (False, True)}
    if kind == "Attention":
        table["score_mode"] = ("dot", "concat")
    return Family(kind, table, make)


def families() -> Iterator[Family]:
    """Give the tables."""
    yield from map(_recurrent, _GATES)
    yield from (_cells(), _bidirectional())
    yield from map(_convolutional, (1, 2, 3))
    yield from (_time_distributed(), _spectral())
    yield _attention("MultiHeadAttention", {"num_heads": 2, "key_dim": 3})
    yield _attention("GroupQueryAttention", {"head_dim": 3, "num_query_heads": 4, "num_key_value_heads": 2})
    yield from map(_scored, ("Attention", "AdditiveAttention"))
