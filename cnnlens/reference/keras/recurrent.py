"""Recurrent layers: a cell that goes over the time axis step by step, forwards, backwards or both ways.

States begin at zero, or as the call gives them; a stateful layer is computed as after a reset. A step that a mask
leaves out changes no state, and its output is the one before, or zero. Source: ``RNN`` and ``Bidirectional`` of Keras
(``keras.src.layers.rnn``) and ``rnn`` of its backend for TensorFlow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np

from cnnlens.errors import UnsupportedLayerError
from cnnlens.kinds import CELLS, KINDS, kind_of
from cnnlens.reference.keras.cells import Config, States, below, make_cell, own_entry
from cnnlens.reference.operation import Array, Shape, Weights, normalise_axis, register
from cnnlens.reference.stepwise import Rounding, Stepwise
from cnnlens.text import printable

__all__ = ["Bidirectional", "Recurrent"]


@register("RNN", *(row.name for row in CELLS.values()))
class Recurrent(Stepwise):
    """Runs a cell over the time axis (axis 1).

    Called with the sequence, alone or in a list with its initial states after it, or with ``initial_state``. Gives the
    last output, or all of them (``return_sequences``; backwards ones in the order in which they were made), and with
    ``return_state`` a list of it and the last states.
    """

    def __init__(self, kind: str, config: Config, keras_version: tuple[int, ...]) -> None:
        super().__init__(kind, config, keras_version)
        if config.get("time_major"):
            raise self.refuse("its sequences have time in front (time_major)")
        if config.get("num_constants"):
            raise self.refuse("its cell takes constants")
        entry = config.get("cell") if kind == "RNN" else {"class_name": KINDS[kind].cell, "config": config}
        self.cell = make_cell(entry, keras_version)
        self.sequences = bool(config.get("return_sequences"))
        self.with_state = bool(config.get("return_state"))
        self.backwards = bool(config.get("go_backwards"))
        self.zero_where_masked = bool(config.get("zero_output_for_mask"))

    def output_shape(self, *args: Any, **kwargs: Any) -> Any:
        shape, _ = _sequence_and_states(args, kwargs)
        if len(shape) < 3:
            raise self.refuse(f"it needs a sequence (N, T, ...), not an input of {len(shape)} axes")
        step = (shape[0], *shape[2:])
        made = self.cell.feature_shape(step)
        output = (made[0], shape[1], *made[1:]) if self.sequences else made
        return [output, *self.cell.state_shapes(step)] if self.with_state else output

    def rounded(self, rounding: Rounding, weights: Weights, *args: Any, **kwargs: Any) -> Any:
        x, initial = _sequence_and_states(args, kwargs)
        output, states = self.run(weights, cast("Array", x), cast("States", initial), rounding, _mask(x, kwargs))
        return [output, *states] if self.with_state else output

    def run(
        self, weights: Weights, x: Array, initial: States, rounding: Rounding, mask: Array | None = None
    ) -> tuple[Array, States]:
        """Compute the output and the states after the last step; ``mask`` ``(N, T)`` is False at steps to leave out."""
        shapes = cast("list[tuple[int, ...]]", self.cell.state_shapes((x.shape[0], *x.shape[2:])))
        if initial and [state.shape for state in initial] != shapes:
            raise ValueError(f"states of shapes {shapes} were expected, {[state.shape for state in initial]} came")
        # A file may name the arrays by their place in the layer, or in a wrapper around it.
        weights = {name.removeprefix("layer/").removeprefix("cell/"): array for name, array in weights.items()}
        states = [state.astype(x.dtype, copy=False) for state in initial] or [np.zeros(one, x.dtype) for one in shapes]
        projected = self.cell.project(weights, x, rounding)
        outputs: list[Array] = []
        output = states[0]
        last: Array | None = None
        steps = range(x.shape[1] - 1, -1, -1) if self.backwards else range(x.shape[1])
        for time in steps:
            output, after = self.cell.step(weights, projected[:, time], states, rounding)
            if mask is not None:
                before = np.zeros_like(output) if last is None or self.zero_where_masked else last
                output, *after = (_where(mask[:, time], new, old) for new, old in
                                  zip((output, *after), (before, *states), strict=True))  # fmt: skip
            last, states = output, after
            if self.sequences:
                outputs.append(output)
        return (np.stack(outputs, axis=1) if self.sequences else output), states


def _sequence_and_states(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, list[Any]]:
    """The sequence and the initial states of a call: Keras 2 gives them in one list, Keras 3 apart."""
    first = args[0]
    if isinstance(first, list):
        sequence, *states = cast("list[Any]", first)
    else:
        sequence, states = first, []
    initial = args[1] if len(args) > 1 else kwargs.get("initial_state")
    if kwargs.get("constants"):
        raise UnsupportedLayerError("it is called with constants")
    return sequence, [*states, *_flat(initial)]


def _mask(x: Any, kwargs: Mapping[str, Any]) -> Array | None:
    """The mask of a call, which must have an entry for each step of each sequence."""
    mask = kwargs.get("mask")
    if mask is None:
        return None
    if mask.shape != x.shape[:2]:
        raise UnsupportedLayerError(
            f"a mask for each of its steps, {x.shape[:2]}, is known, and one of shape {mask.shape} came"
        )
    return np.asarray(mask != 0)


def _where(mask: Array, new: Array, old: Array) -> Array:
    return np.where(mask.reshape(-1, *(1,) * (new.ndim - 1)), new, old)


def _flat(states: Any) -> Iterator[Any]:
    """Arrays, or shapes, in nested lists."""
    if states is None:
        return
    leaf = isinstance(states, np.ndarray) or (
        isinstance(states, tuple) and not any(isinstance(one, np.ndarray | list | tuple) for one in cast("Any", states))
    )
    if leaf:
        yield states
        return
    for state in cast("Sequence[Any]", states):
        yield from _flat(state)


_MERGES: Mapping[str, Callable[[Array, Array], Array]] = {
    "concat": lambda forward, backward: np.concatenate([forward, backward], axis=-1),
    "sum": lambda forward, backward: forward + backward,
    "ave": lambda forward, backward: (forward + backward) / 2,
    "mul": lambda forward, backward: forward * backward,
}


@register("Bidirectional")
class Bidirectional(Stepwise):
    """Runs a recurrent layer forwards and one backwards, and merges them; of sequences the latter is turned."""

    def __init__(self, kind: str, config: Config, keras_version: tuple[int, ...]) -> None:
        super().__init__(kind, config, keras_version)
        self.mode = cast("str | None", config.get("merge_mode", "concat"))
        if self.mode is not None and self.mode not in _MERGES:
            raise self.refuse(f"no such merge_mode: {printable(self.mode)}")
        forward, settings = self._layer(config.get("layer"))
        self.forward = forward(settings)
        if config.get("backward_layer"):
            backward, settings = self._layer(config.get("backward_layer"))
            self.backward = backward(settings)
        else:
            self.backward = forward({**settings, "go_backwards": not settings.get("go_backwards")})
        for half in (self.forward, self.backward):
            half.zero_where_masked = half.sequences  # it sets both so, whatever they say

    def _layer(self, entry: Any) -> tuple[Callable[[Config], Recurrent], Config]:
        kind, config = own_entry(entry, "layer")
        if not (kind_of(kind).cell or kind == "RNN"):
            raise self.refuse(f"it wraps {printable(kind)}, which is no recurrent layer of Keras' own")
        return (lambda settings: Recurrent(kind, settings, self.keras_version)), config

    def output_shape(self, *args: Any, **kwargs: Any) -> Any:
        sequence, _ = _sequence_and_states(args, kwargs)
        made = self.forward.output_shape(sequence)
        output, *states = cast("list[Shape]", made) if isinstance(made, list) else [cast("Shape", made)]
        outputs = [output, output]
        if self.mode is not None:
            last = output[-1]
            outputs = [(*output[:-1], None if last is None else 2 * last)] if self.mode == "concat" else [output]
        found = [*outputs, *states, *states]
        return found if len(found) > 1 else found[0]

    def rounded(self, rounding: Rounding, weights: Weights, *args: Any, **kwargs: Any) -> Any:
        x, initial = _sequence_and_states(args, kwargs)
        half, mask = len(initial) // 2, _mask(x, kwargs)
        forward, states = self.forward.run(below(weights, "forward_layer/"), x, initial[:half], rounding, mask)
        backward, others = self.backward.run(below(weights, "backward_layer/"), x, initial[half:], rounding, mask)
        if self.forward.sequences:
            backward = np.flip(backward, axis=normalise_axis(1, backward.ndim))
        outputs = [forward, backward] if self.mode is None else [_MERGES[self.mode](forward, backward)]
        found = [*outputs, *states, *others] if self.forward.with_state else outputs
        return found if len(found) > 1 else found[0]
