"""A batch that memory does not hold, computed in parts: a long run goes on, slower, and says how.

What is asked for stays whole: the parts are put together on the host, so that no chunk and no statistic has another
shape for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cnnlens.backend.reductions import begun, computed, remaining

if TYPE_CHECKING:
    from cnnlens.backend.seam import Session
    from cnnlens.network.network import Network

__all__ = ["Halving", "ran_out_of_memory"]

Array = NDArray[Any]

# What frameworks call it, by class or in words; none of them raises Python's MemoryError.
_CLASSES = ("OutOfMemoryError", "ResourceExhaustedError")
_WORDS = ("RESOURCE_EXHAUSTED", "out of memory", "can't allocate memory", "OOM when allocating", "bad_alloc")


def ran_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error, or one that it comes from, says that a device's or the host's memory is used up."""
    return any(
        isinstance(one, MemoryError)
        or type(one).__name__ in _CLASSES
        or any(words.lower() in str(one).lower() for words in _WORDS)
        for one in _causes(error)
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


class Halving:
    """Computes batches of a network, half of what did not fit at a time, as long as memory runs out.

    Attributes:
        most: How many inputs go through at once since; None: whole batches.
    """

    def __init__(self, network: Network) -> None:
        self.most: int | None = None
        self._beside = True  # whether a batch is begun before the one before is here
        self._network = network

    def computed(
        self, session: Session, inputs: Sequence[Array], wanted: Mapping[str, str | None]
    ) -> tuple[Mapping[str, Array], dict[str, Callable[[Array], Array]]]:
        """Compute tensors of a batch: what ``cnnlens.backend.reductions.computed`` gives, and what is ``remaining``."""
        while True:
            try:
                return self._in_parts(session, inputs, wanted), remaining(session, self._network, inputs, wanted)
            except Exception as error:
                size = min(self.most or len(inputs[0]), len(inputs[0]))
                if size < 2 or not ran_out_of_memory(error) or not self._divides(wanted):
                    raise
            self.most = (size + 1) // 2  # behind the handler, which holds on to what the failed batch took

    def begin(
        self, session: Session, inputs: Sequence[Array], wanted: Mapping[str, str | None]
    ) -> Callable[[], tuple[Mapping[str, Array], dict[str, Callable[[Array], Array]]]] | None:
        """Begin what ``computed`` gives, and give what waits for it; None where it is to be computed by itself: where
        the session begins nothing, and since memory did not hold two batches."""
        waiting: Callable[[], Mapping[str, Array]] | None = None
        try:
            waiting = begun(session, self._network, inputs, wanted) if self._beside else None
        except Exception as error:
            if not ran_out_of_memory(error):
                raise
        self._beside = waiting is not None
        if waiting is None:
            return None
        held = [waiting]  # let go of before the batch is computed once more

        def finish() -> tuple[Mapping[str, Array], dict[str, Callable[[Array], Array]]]:
            try:
                return held.pop()(), remaining(session, self._network, inputs, wanted)
            except Exception as error:
                if not ran_out_of_memory(error):
                    raise
            self._beside = False
            return self.computed(session, inputs, wanted)

        return finish

    def _in_parts(
        self, session: Session, inputs: Sequence[Array], wanted: Mapping[str, str | None]
    ) -> Mapping[str, Array]:
        count = len(inputs[0])
        step = min(self.most or count, count)
        if step == count:
            return computed(session, self._network, inputs, wanted)
        parts = [
            computed(session, self._network, [array[start : start + step] for array in inputs], wanted)
            for start in range(0, count, step)
        ]
        axes = {name: self._network.batch_axis(self._network.tensors[name]) or 0 for name in wanted}
        return {name: np.concatenate([part[name] for part in parts], axes[name]) for name in wanted}

    def _divides(self, wanted: Mapping[str, str | None]) -> bool:
        """Whether inputs come in any number, and each has its own rows in what is wanted."""
        network = self._network
        shapes = [network.shape(ref) for ref in network.inputs]
        return all(shape is None or not shape or shape[0] is None for shape in shapes) and all(
            network.batch_axis(network.tensors[name]) is not None for name in wanted
        )
