"""Attention: what each token takes from others, by how well its query goes with their keys.

``attend`` is the arithmetic, of Keras' layers here and of PyTorch's operators. Source: ``keras.src.layers.attention``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np

from cnnlens.kinds import layer_kind
from cnnlens.memory import refuse_beyond
from cnnlens.reference.arithmetic.functions import find_activation
from cnnlens.reference.operation import Array, Weights, normalise_axis, register, whole
from cnnlens.reference.stepwise import EXACT, Rounding, Stepwise, dense
from cnnlens.text import printable

__all__ = ["HeadAttention", "PlainAttention", "attend"]

_SOFTMAX, _SIGMOID, _TANH = (cast("Any", find_activation(name, (3,))) for name in ("softmax", "sigmoid", "tanh"))


def attend(
    query: Array,
    key: Array,
    value: Array,
    factor: float,
    *,
    causal: bool = False,
    masks: Sequence[Array] = (),
    rounding: Rounding = EXACT,
    alone: Callable[[Array], Array] | None = None,
) -> tuple[Array, Array]:
    """Compute ``softmax(factor query key^T) value``.

    Args:
        query: ``(..., T, F)``; ``key``: ``(..., S, F)``; ``value``: ``(..., S, V)``; of one floating dtype, that of
            the results.
        causal: Whether a token takes nothing from those behind it.
        masks: What else it takes nothing from, where boolean and False; others are added to the scores.
        alone: Makes of the scores those of a token that may take nothing from any; None where it takes nothing.

    Returns:
        ``(..., T, V)``, and the shares ``(..., T, S)`` of which each row sums up to 1.
    """
    _fits((*query.shape[:-1], key.shape[-2]), query.itemsize)
    turned = np.swapaxes(key, -1, -2)
    scores = rounding.product(query, turned, np.matmul(query, turned)) * query.dtype.type(factor)
    return _taken(scores, value, causal, masks, rounding, alone)


def _fits(scores: tuple[int, ...], itemsize: int) -> None:
    # Scores, what the softmax makes of them, and one more while it does.
    what = f"attention with scores of shape {scores}"
    refuse_beyond(3 * math.prod(scores) * itemsize, what, "give fewer or smaller inputs")


def _taken(
    scores: Array,
    value: Array,
    causal: bool,
    masks: Sequence[Array],
    rounding: Rounding,
    alone: Callable[[Array], Array] | None = None,
) -> tuple[Array, Array]:
    none, all_scores = scores.dtype.type(-np.inf), scores
    if causal:
        scores = np.where(np.triu(np.ones(scores.shape[-2:], np.bool_), 1), none, scores)
    for one in masks:
        scores = np.where(one, scores, none) if one.dtype == np.bool_ else scores + one
    # Scores that are infinite of their own give NaN.
    barred: Array = np.logical_and(_nothing(scores), np.logical_not(_nothing(all_scores)))
    if alone is not None:
        scores = np.where(barred, alone(all_scores), scores)
    top: Array = np.asarray(scores.max(axis=-1, keepdims=True))
    none_at_all: Array = np.logical_and(barred, np.isneginf(top))
    shares = np.exp(scores - np.where(none_at_all, 0, top))
    total = shares.sum(axis=-1, keepdims=True)
    # A row that may look at nothing gives zeros.
    shares = rounding.function(_SOFTMAX, scores, shares / np.where(total == 0, 1, total))
    return rounding.average(shares, value, np.matmul(shares, value)), shares


def _nothing(scores: Array) -> Array:
    return np.asarray(np.isneginf(scores).all(axis=-1, keepdims=True))


def _lowered(scores: Array) -> Array:
    """Scores of which 1e9 is taken in float32, which leaves little of what they were."""
    return (scores.astype(np.float32) - np.float32(1e9)).astype(scores.dtype)


class _Attention(Stepwise):
    """Attention as Keras calls it: masks and words beside the tensors."""

    alike = True

    def _asks(self, kwargs: Mapping[str, Any]) -> tuple[bool, bool]:
        """Whether a call asks for the causal mask, and for the shares beside the output."""
        causal = bool(kwargs.get("use_causal_mask") or self.config.get("causal"))
        return causal, bool(kwargs.get("return_attention_scores"))


@register("MultiHeadAttention", "GroupQueryAttention")
class HeadAttention(_Attention):
    """Projects queries, keys and values to several heads, attends in each, and projects what they took together.

    Attributes:
        heads: Of the queries; ``shared``: of keys and values, each of which serves ``heads / shared`` of the queries'.
        width, value_width: Of a head.
        use_bias, use_gate: Whether the projections have biases; whether a gate is put on what the heads took.
        made: The sizes that come out behind the tokens; None for those of the query.
    """

    def __init__(self, kind: str, config: Mapping[str, Any], keras_version: tuple[int, ...]) -> None:
        super().__init__(kind, config, keras_version)
        names = ("num_heads", "num_heads", "key_dim")
        if layer_kind(kind, None).name == "GroupQueryAttention":
            names = ("num_query_heads", "num_key_value_heads", "head_dim")
        self.heads, self.shared, self.width = (whole(config.get(name), name) for name in names)
        if min(self.heads, self.shared, self.width) < 1 or self.heads % self.shared:
            raise self.refuse(f"{self.heads} heads of width {self.width} cannot share {self.shared}")
        self.value_width = whole(config.get("value_dim") or self.width, "value_dim")
        self.use_bias = bool(config.get("use_bias", True))
        self.use_gate = bool(config.get("use_gate"))
        if config.get("sliding_window") is not None:
            raise self.refuse("its tokens take from near ones alone (sliding_window)")
        made: Any = config.get("output_shape")
        sizes: list[Any] = list(cast("Sequence[Any]", made)) if isinstance(made, list | tuple) else [made]
        self.made = tuple(whole(size, "output_shape") for size in sizes) if made else None
        axes: Any = config.get("attention_axes")
        self._axes: list[Any] | None = None
        if axes is not None:
            self._axes = list(cast("Sequence[Any]", axes)) if isinstance(axes, list | tuple) else [axes]

    def tokens(self, rank: int) -> tuple[int, ...]:
        """Give the axes of an input of ``rank`` whose places are tokens of each other."""
        if rank < 3:
            raise self.refuse(f"it needs an input (N, T, C), not one of {rank} axes")
        if self._axes is None:
            return tuple(range(1, rank - 1))
        found = tuple(normalise_axis(axis, rank, "attention_axes") for axis in self._axes)
        if 0 in found or rank - 1 in found or len(set(found)) < len(found):
            raise self.refuse(f"attention_axes {found} are none of an input of {rank} axes between batch and channels")
        return found

    def operands(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, Any, Any, bool, bool]:
        """Give query, key and value of a call, whether it is causal, and whether it wants the shares too."""
        given = dict(zip(("query", "value", "key"), args, strict=False)) | {
            name: kwargs[name] for name in ("query", "value", "key") if kwargs.get(name) is not None
        }
        if len(args) > 3 or "query" not in given or given.get("value") is None:
            raise self.refuse("it is called on something other than a query, a value and a key")
        causal, shares = self._asks(kwargs)
        query, value = given["query"], given["value"]
        key = value if given.get("key") is None else given["key"]
        if causal and len(getattr(query, "shape", query)) != 3:
            raise self.refuse("a causal mask is known for an input (N, T, C) alone")
        return query, key, value, causal, shares

    def output_shape(self, *args: Any, **kwargs: Any) -> Any:
        query, key, _, _, shares = self.operands(args, kwargs)
        axes = self.tokens(len(query))
        made = (*query[:-1], *(self.made or query[-1:]))
        if not shares:
            return made
        others = [size for axis, size in enumerate(query[:-1]) if axis not in axes]
        return [made, (*others, self.heads, *(query[axis] for axis in axes), *(key[axis] for axis in axes))]

    def rounded(self, rounding: Rounding, weights: Weights, *args: Any, **kwargs: Any) -> Any:
        query, key, value, causal, wanted = self.operands(args, kwargs)
        axes = self.tokens(query.ndim)
        others = [axis for axis in range(query.ndim - 1) if axis not in axes]
        rank = query.ndim
        masks = self._masks(kwargs, rank)
        # Keras' backends put large negative numbers where a token may not look, which a softmax of them alone levels;
        # the layer's own softmax, which it takes for dropout, shares and more axes, makes such rows zero.
        levels = not (wanted or self.config.get("dropout") or rank != 3)
        order = (*others, rank - 1, *axes, rank)

        def projected(name: str, x: Array, heads: int, width: int) -> Array:
            kernel, bias = self._arrays(weights, name, (x.shape[-1],), (heads, width))
            rows = dense(x.reshape(-1, x.shape[-1]), kernel, bias, rounding)
            return rows.reshape(*x.shape[:-1], heads, width)

        def laid(x: Array, heads: int, width: int) -> Array:
            """``(*others, heads, tokens, width)``, heads that are shared repeated."""
            turned = np.transpose(x, order)
            flat = turned.reshape(*turned.shape[: len(others) + 1], -1, width)
            return flat if heads == self.heads else np.repeat(flat, self.heads // heads, axis=-3)

        taken, shares = attend(
            laid(projected("query", query, self.heads, self.width), self.heads, self.width),
            laid(projected("key", key, self.shared, self.width), self.shared, self.width),
            laid(projected("value", value, self.shared, self.value_width), self.shared, self.value_width),
            1 / math.sqrt(self.width),
            causal=causal,
            masks=masks,
            rounding=rounding,
            alone=np.zeros_like if levels else None,
        )
        sizes = tuple(query.shape[axis] for axis in axes)
        taken = taken.reshape(*taken.shape[:-2], *sizes, self.value_width)
        taken = np.transpose(taken, np.argsort(order))
        if self.use_gate:
            gate = projected("gate", query, self.heads, self.value_width)
            taken = rounding.value(taken * rounding.function(_SIGMOID, gate, _SIGMOID.apply(gate.copy())))
        made = self.made or query.shape[-1:]
        kernel, bias = self._arrays(weights, "output", (self.heads, self.value_width), made)
        output = dense(np.ascontiguousarray(taken).reshape(-1, kernel.shape[0]), kernel, bias, rounding)
        output = output.reshape(*query.shape[:-1], *made)
        if not wanted:
            return output
        return [output, shares.reshape(*shares.shape[:-2], *sizes, *(key.shape[axis] for axis in axes))]

    def _masks(self, kwargs: Mapping[str, Any], rank: int) -> list[Array]:
        """Where tokens may look, to be spread over ``(N, heads, T, S)``: of booleans."""
        places = {"query_mask": (1, 3), "value_mask": (1, 2), "key_mask": (1, 2), "attention_mask": (1,)}
        found: list[Array] = []
        for name, axes in places.items():
            mask = kwargs.get(name)
            if mask is None:
                continue
            if rank != 3 or mask.ndim != (3 if name == "attention_mask" else 2):
                raise self.refuse("a mask is known for an input (N, T, C) alone")
            found.append(np.expand_dims(mask != 0, axes))
        return found

    def _arrays(
        self, weights: Weights, name: str, inner: tuple[int, ...], outer: tuple[int, ...]
    ) -> tuple[Array, Array | None]:
        """A projection's kernel as a matrix, and its bias as a vector."""
        kernel = weights[f"{name}_dense/kernel"]
        if kernel.shape != (*inner, *outer):
            raise ValueError(f"a {name} kernel of shape {(*inner, *outer)} was expected, {kernel.shape} came")
        bias = weights[f"{name}_dense/bias"].reshape(-1) if self.use_bias else None
        return kernel.reshape(math.prod(inner), math.prod(outer)), bias


@register("Attention", "AdditiveAttention")
class PlainAttention(_Attention):
    """Attends without projections: scores are products of query and key, or sums of tanh over the sums of both.

    Attributes:
        added: Whether scores are such sums; ``use_scale``: whether there is a weight for them.
    """

    def __init__(self, kind: str, config: Mapping[str, Any], keras_version: tuple[int, ...]) -> None:
        super().__init__(kind, config, keras_version)
        additive = kind == "AdditiveAttention"
        mode = config.get("score_mode", "dot")
        if mode not in ("dot", "concat"):
            raise self.refuse(f"no such score_mode: {printable(mode)}")
        self.added = additive or mode == "concat"
        self.use_scale = bool(config.get("use_scale", additive))

    def operands(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, Any, Any, bool, bool]:
        """Give query, key and value of a call, whether it is causal, and whether it wants the shares too."""
        given: Any = args[0] if args else kwargs.get("inputs")
        listed: list[Any] = list(cast("Sequence[Any]", given)) if isinstance(given, list) else []
        if len(args) > 1 or len(listed) not in (2, 3):
            raise self.refuse("it is called on something other than a list of a query, a value and a key")
        return listed[0], listed[-1], listed[1], *self._asks(kwargs)

    def output_shape(self, *args: Any, **kwargs: Any) -> Any:
        query, key, value, _, shares = self.operands(args, kwargs)
        made = (*query[:-1], value[-1])
        return [made, (*query[:-1], key[-2])] if shares else made

    def rounded(self, rounding: Rounding, weights: Weights, *args: Any, **kwargs: Any) -> Any:
        query, key, value, causal, wanted = self.operands(args, kwargs)
        scale = weights["scale"] if self.use_scale else None
        seen, valued = (*(kwargs.get("mask") or ()), None, None)[:2]
        masks = [] if valued is None else [(valued != 0)[:, None, :]]
        if not self.added:
            if scale is not None:
                query = rounding.value(query * scale)
            made = attend(query, key, value, 1.0, causal=causal, masks=masks, rounding=rounding, alone=_lowered)
        else:
            _fits((*query.shape[:-1], *key.shape[-2:]), query.itemsize)
            both = rounding.value(query[..., :, None, :] + key[..., None, :, :])
            # Attention has its one scale inside of the tanh, AdditiveAttention one for each feature outside.
            inside = self.kind != "AdditiveAttention"
            if inside and scale is not None:
                both = rounding.value(both * scale)
            terms = rounding.function(_TANH, both, np.tanh(both))
            factors = weights["concat_score_weight"] if inside else scale
            if factors is not None:
                terms = terms * factors

            def spread() -> Array:
                return np.sqrt(np.square(terms).sum(axis=-1))

            scores = rounding.total(terms.sum(axis=-1), spread)
            made = _taken(scores, value, causal, masks, rounding, _lowered)
        if seen is not None:
            made = np.where((seen != 0)[..., None], made[0], made[0].dtype.type(0)), made[1]
        return list(made) if wanted else made[0]
