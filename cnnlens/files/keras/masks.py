"""Which masks reach which call of a Keras model, and what becomes of them there: Keras' own rules.

A layer that uses masks gets those of its tensors, one that supports them hands its first tensor's on, any other drops
it, and so does every operation that is no layer. Where a file's Keras had another rule than Keras 3.15, or only the
code of a layer knows, the layers behind it that use masks are refused. Source: ``Layer.__call__`` and the
``compute_mask`` of each layer (keras.src.layers).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias, cast

from cnnlens.kinds import UNKNOWN, Kind, kind_of, layer_kind
from cnnlens.network.graph import Call, Ref, Shape, find_refs
from cnnlens.network.masks import Mask
from cnnlens.text import printable

__all__ = ["MaskFlow"]

# What is known of a tensor's mask: the mask, that it has none, or why nobody can say.
_Known: TypeAlias = "Mask | str | None"

_JOINS = ("Add", "Subtract", "Average", "Multiply", "Maximum", "Minimum", "Concatenate")
_HEADS = ("MultiHeadAttention", "GroupQueryAttention")
_LISTED = ("Attention", "AdditiveAttention")
# A tensor carries its mask as an attribute, so it goes on where the very tensor that came in comes out: with each
# backend behind a Cast to the type that it has, with jax behind a Reshape to the shape that it has, and so on.
_PERHAPS_ITSELF = frozenset((
    "Cast", "ConvertToTensor", "StopGradient", "Reshape", "Permute", "Transpose", "Moveaxis", "Swapaxes",
    "Concatenate", "GetItem", "BroadcastTo", "Cropping1D", "Cropping2D", "Cropping3D",
))  # fmt: skip
_MOST_RULES = 64  # of which a mask is made, where joins are joined
_MOST_TAKERS = 1_000
_DEEP = 50  # operations that a mask is made of, one on another
_MERGED = (3, 4)  # the Keras since which joins treat masks as they do today


class MaskFlow:
    """Follows masks through the calls of a model, in order.

    Args:
        calls: All calls, in topological order.
        version: Of the Keras that wrote the file.
        given: Masks that nested models are called with, by the tensor that each belongs to.
    """

    def __init__(self, calls: Sequence[Call], version: tuple[int, ...], given: Mapping[Ref, Any]) -> None:
        self._calls = calls
        self._by_name = {call.name: call for call in calls}
        self._version = version
        self._given = given
        self._known: dict[Ref, _Known] = {}
        self._same: dict[Ref, Ref] = {}  # by what a layer handed on as it came, that
        self._cleared: dict[Ref, list[Call]] = {}
        self._said: dict[Ref, Mask] = {}
        self._behind: dict[str, set[str]] = {}

    def follow(self) -> Iterator[tuple[Call, dict[str, Any]]]:
        """Give, for each call that uses masks and has some, the arguments that they are: why in place of one that
        nobody can say."""
        for call in self._calls:
            row = UNKNOWN if call.layer.container else layer_kind(call.layer.kind, call.layer.module or None)
            operation = ".ops" in call.layer.module and not call.layer.container
            found = self._call(call, UNKNOWN if operation else row, operation)
            if isinstance(found, str):
                yield call, {"mask": f"its mask cannot be followed: {found}"}
            elif found:
                yield call, found

    # -- a call ------------------------------------------------------------------------------------------------------

    def _call(self, call: Call, row: Kind, operation: bool) -> dict[str, Any] | str | None:
        kind, config = row.name, call.layer.config
        wrapped = config.get("layer")
        if kind == "SpectralNormalization" and isinstance(wrapped, Mapping):
            # A mask from inside is on the very tensor that it hands on.
            row, config = _row_and_config(cast("Mapping[str, Any]", wrapped))
            kind = row.name
        first = call.args[0] if call.args else next(iter(call.kwargs.values()), None)
        refs = list(find_refs(first))
        explicit = call.kwargs.get("mask")
        before = self._of(first, call) if explicit is None else self._explicit(explicit)
        said = list(_flat(before))
        made = Ref(call.name)
        if call.layer.container:
            for index, ref in enumerate(refs):
                self._alias(Ref(call.name, index), ref, call)
            return None
        if kind == "Embedding":
            self._known[made] = Mask("nonzero", tuple(refs[:1])) if config.get("mask_zero") and refs else None
            return None
        if kind == "Masking":
            value = config.get("mask_value", 0.0)
            plain = isinstance(value, int | float) and len(refs) == 1
            self._known[made] = (
                Mask("steps", tuple(refs), float(value)) if plain else f"{call.layer.shown} has a mask_value of its own"
            )
            return None
        if kind in ("Lambda", "Expression"):
            # The mask that it is called with its code may use, which an expression stands for, but it hands none on.
            if config.get("mask") is not None:
                self._known[made] = f"{call.layer.shown} makes a mask in code of its own"
            else:
                self._perhaps_itself(call, refs, before)
            return None
        if config.get("mask_zero"):
            self._known[made] = f"{call.layer.shown} makes a mask, and which is said by the call alone"
            return None
        if call.layer.kind in _PERHAPS_ITSELF:
            self._perhaps_itself(call, refs, before)
        if operation:
            return "it is an operation that is called with a mask" if explicit is not None else None
        if explicit is not None and not (row.takes_masks or row.passes_masks):
            return "it is called with a mask, and none is known to its kind"
        if all(one is None for one in said) and not self._others(call, kind):
            return None
        if row is UNKNOWN or (row.training_only and not row.passes_masks):
            self._known[made] = f"whether a mask goes on behind {call.layer.shown} is known to its class alone"
            return None
        found = self._used(call, row, before, said, explicit is not None)
        reason = found if isinstance(found, str) else next((one for one in _flat(found) if isinstance(one, str)), None)
        self._hand_on(call, row, before, said, reason)
        return reason or cast("dict[str, Any] | None", found)

    def _perhaps_itself(self, call: Call, refs: Sequence[Ref], before: Any) -> None:
        """Say that nobody knows whether a mask goes on, where what has one may come out as the very tensor it was."""
        shapes = [shape for ref in refs[:1] for shape in self._by_name[ref.call].shapes[ref.index : ref.index + 1]]
        same = any(_may_be_equal(came, out) for came in shapes for out in call.shapes)
        idle = str(call.layer.config.get("expression", "x")).strip("( )") == "x"
        if same and idle and len(refs) == 1 and any(one is not None for one in _flat(before)):
            self._known[Ref(call.name)] = (
                f"whether one goes on behind {call.layer.shown} depends on Keras' backend: where it changes nothing, "
                "some hand on the very tensor, with its mask"
            )

    def _others(self, call: Call, kind: str) -> bool:
        """Whether attention has masks beside that of its first tensor."""
        said = [call.kwargs.get(f"{name}_mask") for name in ("value", "key", "attention")]
        return kind in _HEADS and any(one is not None for one in (*said, *(self._mask(ref, call) for ref in call.refs)))

    def _used(
        self, call: Call, row: Kind, before: Any, said: Sequence[_Known], explicit: bool
    ) -> dict[str, Any] | str | None:
        """The masks that a layer computes with, by argument; None where it does not."""
        kind, config, old = row.name, call.layer.config, self._version < (3,)
        if not row.takes_masks:
            return None
        if kind in _HEADS:
            if old:
                return "the versions of Keras 2 use masks here in different ways"
            return self._of_heads(call)
        if kind in _LISTED:
            return {"mask": list(said[:2])}
        if kind in _JOINS:
            if self._version < _MERGED:
                return "Keras before 3.4 joined what is masked in another way"
            return {"mask": list(said)}
        if kind == "Softmax" and old:
            return "Keras 2 computed it in another way under a mask"
        if kind == "TimeDistributed":
            inner = config.get("layer")
            if _uses_masks(inner):
                return "what is in it would be called with the mask of a step"
            return None
        if kind == "Bidirectional" and self._version < (2, 4) and _returns_sequences(config):
            return "the versions of Keras 2 fill what is masked in different ways"
        tensors = [one for one in (*call.args, *(call.kwargs[name] for name in call.kwargs if name != "mask"))
                   if any(True for _ in find_refs(one))]  # fmt: skip
        if not tensors:
            return "it is called on no tensor"
        states = len(tensors) > 1 or isinstance(tensors[0], list)
        if states and not explicit:
            # Keras 3 fills in a mask where a call has one tensor, and has no argument for one beside states.
            return "Keras 2 uses the mask beside given states, and Keras 3 does not" if old else None
        return {"mask": said[0]}

    def _of_heads(self, call: Call) -> dict[str, Any]:
        names = ("query", "value", "key")
        given = {**dict(zip(names, call.args, strict=False)), **{n: call.kwargs[n] for n in names if n in call.kwargs}}
        found: dict[str, Any] = {}
        for name, ref in given.items():
            argument = f"{name}_mask"
            mask = self._mask(ref, call) if isinstance(ref, Ref) else None
            if name != "query" and call.kwargs.get(argument) is not None:
                mask = self._explicit(
                    call.kwargs[argument]
                )  # that of the query it takes from the tensor, whatever came
            found[argument] = mask
            if isinstance(ref, Ref) and call.layer.kind == "MultiHeadAttention":
                self._cleared.setdefault(self._root(ref), []).append(call)  # it takes them off its tensors
        found["attention_mask"] = self._explicit(call.kwargs.get("attention_mask"))
        return {name: mask for name, mask in found.items() if mask is not None}

    def _hand_on(self, call: Call, row: Kind, before: Any, said: Sequence[_Known], reason: str | None) -> None:
        made, config = Ref(call.name), call.layer.config
        if not row.passes_masks:
            return
        if row.name in _JOINS:
            self._known[made] = self._joined(call, row.name, said)
        elif row.cell or row.name in ("RNN", "Bidirectional"):
            if _returns_sequences(config):
                self._known[made] = said[0]
                if row.name == "Bidirectional" and config.get("merge_mode", "concat") is None:
                    self._known[Ref(call.name, 1)] = said[0]
        elif _hands_on_itself(call):
            self._alias(made, next(find_refs(call.args[0])), call)
            if call.kwargs.get("mask") is not None and self._known[made] is None:
                self._known[made] = said[0]
        else:
            self._known[made] = reason if reason and row.name == "TimeDistributed" else said[0] if said else None

    def _joined(self, call: Call, kind: str, said: Sequence[_Known]) -> _Known:
        unknown = next((one for one in said if isinstance(one, str)), None)
        if unknown or self._version < _MERGED:
            return unknown or f"{call.layer.shown} joins masks, which Keras before 3.4 did in another way"
        masks = cast("Sequence[Mask | None]", said)
        if kind == "Concatenate":
            axis = call.layer.config.get("axis", -1)
            given = cast("Sequence[Any]", call.args[0]) if call.args and isinstance(call.args[0], list) else ()
            if not isinstance(axis, int) or len(masks) != len(given):
                return f"{call.layer.shown} joins masks on an axis that is not known"
            parts = [part for pair in zip(masks, given, strict=True) for part in pair]
            made = Mask("joined", tuple(parts), axis)
        elif any(one is None for one in masks):
            return None
        else:
            several = tuple(dict.fromkeys(masks))
            made = several[0] if len(several) == 1 else Mask("any", several)
            if made is None:
                return None
        return made if made.size <= _MOST_RULES else f"{call.layer.shown} joins more masks than are followed"

    # -- tensors -----------------------------------------------------------------------------------------------------

    def _of(self, structure: Any, call: Call) -> Any:
        if isinstance(structure, Ref):
            return self._mask(structure, call)
        if isinstance(structure, list | tuple):
            return [self._of(part, call) for part in cast("Sequence[Any]", structure)]
        return None

    def _mask(self, ref: Ref, call: Call) -> _Known:
        """The mask that a tensor has when it is handed to a call: attention may have taken it off before."""
        known = self._known.get(ref)
        if ref in self._given and self._explicit(self._given[ref]) != known:
            return "a nested model is called with a mask of its own"
        takers = [one for one in self._cleared.get(self._root(ref), ()) if one is not call]
        if known is None or not takers:
            return known
        if len(self._behind) > _MOST_TAKERS:
            return "there are more layers that take masks off than are followed"
        if any(call.name in self._calls_behind(taker) for taker in takers):
            return None
        return (
            f"{takers[0].layer.shown} takes the mask off '{printable(ref.name)}', before or after this layer reads it"
        )

    def _explicit(self, mask: Any, depth: int = 0) -> Any:
        """A mask that is a tensor of the graph: Keras writes down what it computed to make it, or its author did."""
        if isinstance(mask, list | tuple):
            return [self._explicit(part, depth) for part in cast("Sequence[Any]", mask)]
        if not isinstance(mask, Ref):
            return None if mask is None else "it is called with a mask of constants"
        if mask not in self._said:
            made = Mask("nonzero", (mask,)) if depth > _DEEP else self._computed(mask, depth)
            self._said[mask] = made if made.size <= _MOST_RULES else Mask("nonzero", (mask,))
        return self._said[mask]

    def _computed(self, mask: Ref, depth: int) -> Mask:
        """What a tensor computes where that is what Keras computes of a mask; else the tensor."""
        maker = self._by_name[mask.call]
        if maker.layer.kind == "ConvertToTensor" and maker.args:
            inner = self._explicit(maker.args[0], depth + 1)
            return inner if isinstance(inner, Mask) else Mask("nonzero", (mask,))
        if ".ops" in maker.layer.module:
            if maker.layer.kind == "NotEqual" and len(maker.args) == 2 and len(maker.refs) == 1 and maker.args[1] == 0:
                return Mask("nonzero", maker.refs)
            if maker.layer.kind == "Any" and maker.layer.config.get("axis", -1) == -1 and len(maker.refs) == 1:
                compared = self._by_name[maker.refs[0].call]
                if compared.layer.kind == "NotEqual" and _is_number(compared.args[1:]) and compared.refs:
                    return Mask("steps", compared.refs[:1], float(compared.args[1]))
            if maker.layer.kind == "LogicalOr":
                parts = [self._explicit(part, depth + 1) for part in maker.args]
                if all(isinstance(part, Mask) for part in parts):
                    return Mask("any", tuple(dict.fromkeys(parts))) if len(set(parts)) > 1 else parts[0]
        return Mask("nonzero", (mask,))

    def _calls_behind(self, taker: Call) -> set[str]:
        """The calls that wait for what a call gives."""
        if taker.name not in self._behind:
            found = {taker.name}
            for call in self._calls:
                if any(ref.call in found for ref in call.refs):
                    found.add(call.name)
            self._behind[taker.name] = found
        return self._behind[taker.name]

    def _root(self, ref: Ref) -> Ref:
        return self._same.get(ref, ref)

    def _alias(self, made: Ref, ref: Ref, call: Call) -> None:
        self._same[made] = self._root(ref)
        self._known[made] = self._mask(ref, call)


def _hands_on_itself(call: Call) -> bool:
    """Whether what comes out is the very tensor that came in."""
    row, activation = kind_of(call.layer.kind), call.layer.config.get("activation")
    named: Any = cast("Mapping[str, Any]", activation).get("config") if isinstance(activation, Mapping) else activation
    idle = row.training_only or row.name in ("Identity", "ActivityRegularization")
    return (idle or (row.name == "Activation" and named == "linear")) and bool(call.args)


def _may_be_equal(a: Shape | None, b: Shape | None) -> bool:
    if a is None or b is None:
        return True
    return len(a) == len(b) and all(x == y or None in (x, y) for x, y in zip(a, b, strict=True))


def _row_and_config(entry: Mapping[str, Any]) -> tuple[Kind, Mapping[str, Any]]:
    """The kind and the config of a layer that another holds."""
    name, module, config = entry.get("class_name"), entry.get("module"), entry.get("config")
    row = layer_kind(name, module if isinstance(module, str) else None) if isinstance(name, str) else UNKNOWN
    return row, cast("Mapping[str, Any]", config) if isinstance(config, Mapping) else {}


def _is_number(values: Sequence[Any]) -> bool:
    return len(values) == 1 and isinstance(values[0], int | float)


def _flat(masks: Any) -> Iterator[_Known]:
    if isinstance(masks, Mapping):
        masks = list(cast("Mapping[str, Any]", masks).values())
    if isinstance(masks, list):
        for part in cast("list[Any]", masks):
            yield from _flat(part)
    else:
        yield masks


def _returns_sequences(config: Mapping[str, Any]) -> bool:
    inner = config.get("layer")
    held: Any = cast("Mapping[str, Any]", inner).get("config") if isinstance(inner, Mapping) else config
    return isinstance(held, Mapping) and bool(cast("Mapping[str, Any]", held).get("return_sequences"))


def _uses_masks(entry: Any) -> bool:
    """Whether a layer, or any inside of it, would compute something else with a mask."""
    queue: list[Any] = [entry]
    while queue:
        one = queue.pop()
        if isinstance(one, list):
            queue.extend(cast("list[Any]", one))
        elif isinstance(one, Mapping):
            body = cast("Mapping[str, Any]", one)
            if _row_and_config(body)[0].takes_masks and "config" in body:
                return True
            queue.extend(part for key, part in body.items() if key in ("config", "layers", "layer"))
    return False
