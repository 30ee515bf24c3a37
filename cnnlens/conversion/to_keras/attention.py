"""Attention: PyTorch's function as the operations that it stands for, and its whole module as Keras' layer.

``nn.MultiheadAttention`` puts tokens in front of the batch and heads into it, which Keras, whose batch is in front, has
no tensors for. So the module's calls are taken together: what goes in, what comes out, and its arrays make a
``MultiHeadAttention``. That they compute what the layer computes is not read from them; the conversion's proof says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cnnlens import layout
from cnnlens.conversion.to_keras.call_site import CallSite, aten, operator_name
from cnnlens.conversion.to_keras.elementwise import constant
from cnnlens.conversion.to_keras.products import as_in_torch
from cnnlens.conversion.to_keras.value import Value, identity
from cnnlens.errors import UnsupportedLayerError
from cnnlens.kinds import Features, operator_kind
from cnnlens.network.graph import Call, Ref
from cnnlens.network.network import Network
from cnnlens.reference.aten.arguments import Tensor, WeightName

__all__ = ["HeadModule", "gives_truths", "head_attention", "head_modules"]

# Added to a score that counts for nothing: its share is 0, and no sum with it is infinite.
_NOTHING = float(np.finfo(np.float32).min) / 2


# -- the function ------------------------------------------------------------------------------------------------------


@aten("scaled_dot_product_attention")
def _attention(site: CallSite) -> Value:
    args = site.args
    if args.flag("enable_gqa"):
        raise UnsupportedLayerError("its heads share keys and values (enable_gqa); repeat them in front of it")
    query, key, value = (as_in_torch(site, args.get(name)) for name in ("query", "key", "value"))
    rank = query.rank
    turned = (*range(rank - 2), rank - 1, rank - 2)
    key = site.builder.turned(key, turned)
    # In Keras the key's last two axes have changed places: its rows are features now.
    shape = (*query.shape[:-1], key.shape[-2])
    axes = identity(rank)
    weights = site.operate("Matmul", [query, key], shape=shape, axes=axes, name="_products")
    factor = args.get("scale")
    scale = float(factor) if factor is not None else 1 / math.sqrt(cast(int, query.shape[-1]))
    weights = site.operate("Multiply", [weights, scale], shape=shape, axes=axes, name="_scaled")
    counts = _counting(site)
    if counts is not None:
        weights = site.operate("Where", [counts, weights, _NOTHING], shape=shape, axes=axes, name="_counting")
    for mask in _masks(site, shape):
        weights = site.operate("Add", [weights, mask], shape=shape, axes=axes, name="_masked")
    weights = site.layer("Softmax", weights, {"axis": -1}, shape=shape, name="_softmax")
    if counts is not None:  # where nothing counts, PyTorch gives zeros
        weights = site.operate("Where", [counts, weights, 0.0], shape=shape, axes=axes, name="_shares")
    return site.operate("Matmul", [weights, value], axes=axes)


def _masks(site: CallSite, shape: Sequence[int | None]) -> Iterator[Value | NDArray[Any]]:
    """What is added to the scores of ``shape`` ``(..., T, S)``."""
    given = site.args.get("attn_mask")
    known = _known(site, given)
    if site.args.flag("is_causal"):
        if None in shape[-2:]:
            raise UnsupportedLayerError("a causal mask for a number of tokens that is not known")
        known = np.tri(*cast("tuple[int, int]", tuple(shape[-2:])), dtype=np.bool_)
    if known is not None:
        yield constant(site, site.builder.rounded(_added(known), "its mask"), identity(len(shape)))
    elif given is not None and not site.tensor(given).truths:
        yield as_in_torch(site, given)


def _counting(site: CallSite) -> Value | None:
    """A mask of True and False that depends on an input."""
    given = site.args.get("attn_mask")
    if not isinstance(given, Tensor) or _known(site, given) is not None or not site.tensor(given).truths:
        return None
    mask = as_in_torch(site, given)
    return site.operate("NotEqual", [mask, 0.0], shape=mask.shape, axes=mask.axes, name="_counts")


def _known(site: CallSite, value: Any) -> NDArray[Any] | None:
    """A mask that depends on no input."""
    if isinstance(value, WeightName):
        return site.call.layer.weights[value.name]
    return site.tensor(value).constant if isinstance(value, Tensor) else None


def _added(mask: NDArray[Any]) -> NDArray[Any]:
    """Numbers to add for a mask ``(..., T, S)``: 0 for True, and next to minus infinity for False and for -inf.

    Raises:
        UnsupportedLayerError: a token may look at nothing, where PyTorch gives zeros.
    """
    added = np.where(mask, 0.0, -np.inf) if mask.dtype == np.bool_ else np.asarray(mask, np.float64)
    if (added == -np.inf).all(axis=-1).any() or np.isnan(added).any():
        raise UnsupportedLayerError("its mask leaves a token nothing to look at")
    return np.where(added == -np.inf, _NOTHING, added)


# What gives True and False, of whatever.
_TRUTHS = frozenset((
    "Greater", "GreaterEqual", "Less", "LessEqual", "Equal", "NotEqual", "LogicalAnd", "LogicalOr", "LogicalXor",
    "LogicalNot", "Isnan", "Isinf", "Isfinite", "Any", "All",
))  # fmt: skip


def gives_truths(call: Call, tensors: Sequence[Value]) -> bool:
    """Whether what a call of PyTorch's gives is of True and False, which attention takes otherwise than numbers."""
    if call.layer.kind == "InputLayer":
        return call.layer.config.get("dtype") == "bool"
    name, _ = operator_name(call.layer.entry)
    row = operator_kind(name)
    if row.name in _TRUTHS or name == "bool":
        return True
    if row.name == "Cast":
        return str(getattr(call.layer.operation, "settings", {}).get("dtype")) == "bool"
    moved = row.features in (Features.RESHAPED, Features.REORDERED) or row.name == "Identity"
    taken = [tensors[place] for place in _places(call) if place < len(tensors)]
    return moved and bool(taken) and all(one.truths for one in taken)


# -- the module --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class HeadModule:
    """Holds the calls in one call of an ``nn.MultiheadAttention``.

    Attributes:
        call: The module's own, whose outputs are theirs.
        inside: Those that lead to it, in order.
        given: Query, key and value; a tensor that is several of them stands for each. Empty where that is not known.
        shares_used: Whether something takes the weights of the attention, the module's second output.
    """

    call: Call
    inside: tuple[Call, ...]
    given: tuple[Ref, ...]
    shares_used: bool

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """Read its arrays by PyTorch's names, in PyTorch's axes."""
        return {name: array for call in self.inside for name, array in call.layer.weights.items()}


def head_modules(network: Network) -> dict[str, HeadModule]:
    """Find the calls of ``nn.MultiheadAttention``, by name; not those with calls inside that others take from."""
    found: dict[str, HeadModule] = {}
    for call in network.calls:
        if not call.layer.container or call.layer.kind != "MultiheadAttention":
            continue
        names: set[str] = set()
        path, left = call.layer.path, [call]
        while left:
            for ref in left.pop().refs:
                inner = network.calls_by_name[ref.call]
                below = len(inner.layer.path) > len(path) and inner.layer.path[: len(path)] == path
                if below and inner.name not in names:
                    names.add(inner.name)
                    left.append(inner)
        inside = tuple(one for one in network.calls if one.name in names)
        taken = [ref for one in network.calls if one.name not in names for ref in one.refs if one is not call]
        taken += network.outputs
        if names and not any(ref.call in names for ref in taken):
            shares_used = any(ref.call == call.name and ref.index for ref in taken)
            found[call.name] = HeadModule(call, inside, _given(network, inside, names), shares_used)
    return found


def _given(network: Network, inside: Sequence[Call], names: set[str]) -> tuple[Ref, ...]:
    """Query, key and value: what each operand of the products is made of, but for constants.

    Empty where that is not one tensor (N, T, C) each, or where more comes in, as a mask does.
    """
    by_name = {call.name: call for call in inside}
    products = [[call.refs[place] for place in _places(call)] for call in inside if _is_product(call)]
    if not products:
        return ()
    # The function has all three; else the last product is that of what the tokens take with the values.
    first = products[0] if len(products) == 1 else [*products[0][-2:], products[-1][-1]]
    every = {ref for call in inside for ref in (call.refs[place] for place in _places(call)) if ref.call not in names}
    found: list[set[Ref]] = []
    for operand in first[:3]:
        sources: set[Ref] = set()
        left, seen = [operand], set[str]()
        while left:
            ref = left.pop()
            if ref.call not in names:
                sources.add(ref)
            elif ref.call not in seen:
                seen.add(ref.call)
                left.extend(by_name[ref.call].refs[place] for place in _places(by_name[ref.call]))
        found.append({ref for ref in sources if None in (network.shape(ref) or (None,))})
    rest = {ref for ref in every if None in (network.shape(ref) or (None,))}.difference(*found)
    plain = len(found) == 3 and not rest and all(len(one) == 1 for one in found)
    refs = tuple(next(iter(one)) for one in found) if plain else ()
    return refs if all(len(network.shape(ref) or ()) == 3 for ref in refs) else ()


def _is_product(call: Call) -> bool:
    return operator_name(call.layer.entry)[0] in ("scaled_dot_product_attention", "bmm", "baddbmm")


def _places(call: Call) -> list[int]:
    """Where the tensors that a call computes with stand among those that it takes; the others say a batch's size."""
    arguments = cast("Mapping[str, Any]", call.layer.entry.get("arguments") or {})
    values: list[Any] = []
    for value in arguments.values():
        values += cast("list[Any]", value) if isinstance(value, list) else [value]
    places = [cast("Mapping[str, Any]", one) for one in values if isinstance(one, Mapping)]
    return [one["tensor"] for one in places if "batch" not in one and isinstance(one.get("tensor"), int)]


def head_attention(site: CallSite, module: HeadModule, tensors: Mapping[Ref, Value]) -> list[Value]:
    """Write a call of the module as Keras' layer.

    Args:
        site: The module's call, on its query, key and value.
        tensors: What the conversion has of the calls inside: those that depend on no input.

    Raises:
        UnsupportedLayerError: Keras' layer is without something that the module has.
    """
    arrays = module.arrays
    if "bias_k" in arrays:
        raise UnsupportedLayerError("it has a key and a value of its own (add_bias_kv), which Keras' layer has not")
    if not module.given:
        raise UnsupportedLayerError("it has a mask that the model computes, or its sequences have no batch")
    if module.shares_used:
        raise UnsupportedLayerError("its attention weights are used, which Keras' layer gives for each head alone")
    before = [_batch_first(site.builder.plain(one)) for one in site.tensors]
    query, key, value = (site.builder.turned(x, axes) for x, axes in zip(site.tensors, before, strict=True))
    products, shapes = _products(module)
    tokens = [cast(int, x.shape[x.axes[1]]) for x in (query, key)]
    if shapes[0][0] is not None or [shapes[0][-2], shapes[1][-2]] != tokens:
        raise UnsupportedLayerError(
            "its tokens are not those that it is given (add_zero_attn, or a batch that is not where its module says)"
        )
    width = cast(int, shapes[0][-1])
    heads = math.prod(arrays["out_proj.weight"].shape[1:]) // width
    names = ("q_proj_weight", "k_proj_weight", "v_proj_weight")
    kernels = [arrays[name] for name in names] if names[0] in arrays else np.split(arrays["in_proj_weight"], 3)
    biases = np.split(arrays["in_proj_bias"], 3) if "in_proj_bias" in arrays else []
    roles = ("query", "key", "value", "attention_output")
    geometry = layout.Geometry(heads=heads)
    written: dict[str, NDArray[Any]] = {}
    kernels.append(arrays["out_proj.weight"])
    biases += [arrays["out_proj.bias"]] if biases else []
    for kind, given in (("kernel", kernels), ("bias", biases)):
        for role, array in zip(roles, given, strict=False):
            weight = f"{role}/{kind}"
            canonical = layout.canonicalise("MultiHeadAttention", weight, array, geometry, "torch")
            attribute = f"{role.removeprefix('attention_')}_dense/{kind}"
            written[attribute] = layout.arrange("MultiHeadAttention", weight, canonical, "keras", geometry)
    config = {
        "num_heads": heads, "key_dim": width, "value_dim": width, "dropout": 0.0, "use_bias": bool(biases),
        "output_shape": None, "attention_axes": None,
    }  # fmt: skip
    kwargs = {"use_causal_mask": True} if _is_causal(products, tensors, tokens) else {}
    operands = [query, value] if key is value else [query, value, key]
    axes = _batch_first(Value("", 0, 0, site.shape, identity(3)))
    return [site.layer("MultiHeadAttention", operands, config, written, axes=axes, apart=True, kwargs=kwargs)]


def _batch_first(x: Value) -> tuple[int, ...]:
    """The order of a sequence's axes with the batch in front, wherever PyTorch has it."""
    if x.rank != 3 or x.shape.count(None) != 1 or x.shape[2] is None:
        raise UnsupportedLayerError(f"sequences (N, T, C) or (T, N, C) were expected, one has the shape {x.shape}")
    return (0, 1, 2) if x.shape[0] is None else (1, 0, 2)


def _products(module: HeadModule) -> tuple[Call, list[Sequence[int | None]]]:
    """The call that multiplies queries and keys, and the shapes of both, ``(..., T, F)``."""
    by_name = {call.name: call for call in module.inside}
    for call in module.inside:
        if _is_product(call):
            name, _ = operator_name(call.layer.entry)
            refs = call.refs[1:] if name == "baddbmm" and len(call.refs) > 2 else call.refs
            shapes = [list(by_name[ref.call].shapes[ref.index] or ()) for ref in refs[:2]]
            if name != "scaled_dot_product_attention":
                shapes[1][-2:] = shapes[1][:-3:-1]
            return call, cast("list[Sequence[int | None]]", shapes)
    raise UnsupportedLayerError("no product of queries and keys was found in it")


def _is_causal(products: Call, tensors: Mapping[Ref, Value], tokens: Sequence[int]) -> bool:
    """Whether a token takes nothing from those behind it.

    Raises:
        UnsupportedLayerError: it has another mask.
    """
    arguments = cast("Mapping[str, Any]", products.layer.entry.get("arguments") or {})
    if arguments.get("is_causal"):
        return True
    name, _ = operator_name(products.layer.entry)
    given: Any = arguments.get("self" if name == "baddbmm" else "attn_mask")
    if given is None:
        return False
    place = cast("Mapping[str, Any]", given).get("tensor")
    if isinstance(place, int):
        value = tensors.get(products.refs[place])
        mask = None if value is None else value.constant
    else:
        mask = products.layer.weights[given["weight"]]
    causal = np.where(np.tri(*tokens, dtype=np.bool_), 0.0, _NOTHING)
    if mask is None or not (_added(mask) == causal).all():
        raise UnsupportedLayerError(
            "it has a mask that is not the causal one, which Keras' layer takes with its inputs"
        )
    return True
