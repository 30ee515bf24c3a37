"""The row of the table of layer kinds: what there is to know of a kind, whoever computes, audits or writes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

__all__ = ["Features", "Kind", "Rounding"]


class Rounding(Enum):
    """Says what a faithful float32 computation of a kind may round."""

    NONE = "it picks, moves or compares values"
    ONCE = "one IEEE operation on one or two numbers"
    EACH = "each number for itself, so that operands can be moved one by one"
    PRODUCTS = "a sum of products of its operands"
    SUMS = "a sum or a mean of its operand"
    OTHER = "more than that: a rule of its own, or measured by moving all operands at once"


class Features(Enum):
    """Says what becomes of the features of a flattened map ``(N, F)``, whose order a Dense behind it depends on."""

    ALONE = "each value is treated alike, whatever its place and the others"
    KEPT = "each is where it was, with a vector's entry of its own or beside all others"
    PLACED = "each is where it was, and yet their order matters: to another operand, or to groups of them"
    RESHAPED = "the same values in the same order, in another shape"
    REORDERED = "they are put in another order, or beside others"
    MIXED = "they are mixed, or there are none"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Kind:
    """Holds what a kind of layer, or of operation between layers, is.

    Attributes:
        name: The class in Keras 3, of a layer or of ``keras.ops``; PyTorch's operators go by the class that computes
            the same.
        older: Other names of the same class, of Keras 1 and 2 or by abbreviation.
        layer: Whether it is a layer in Keras.
        home: The module of ``keras.src.ops`` that has it as an operation; empty where it is none there.
        aten: PyTorch's operators that compute it, without namespace and overload.
        weights: The roles of all arrays of its own that it may have, in Keras' order; None where that is not known.
        statistics: Those of them that training measures or sets and no gradient moves.
        cell, gates: Of a recurrent layer, the class of the cell that has its arrays, and the gates of its kernel.
        rounding, features: See there.
        training_only: Whether it is the identity in inference.
        resizes: Whether it gives a picture of another size, a part of what came or made of neighbours.
        takes_masks: Whether a mask that a layer in front of it made changes what the layer computes; ``passes_masks``:
            whether layers behind it may see one.
        at_least_zero: Whether what comes out is never negative.
        activation: What ``keras.activations`` calls the function; empty where it is none of those.
        smooth: Whether the function has no kink and no jump.
        settings: The function's settings with the defaults of ``keras.ops``.
        arguments: PyTorch's arguments as ``(name, setting, default)``.
        torch: The expression in PyTorch: ``{x}`` or ``{a}`` and ``{b}`` its operands, settings and weights by name.
        module: The module of torch.nn that computes it, in the same way; empty where there is none.
        modules: The classes of torch.nn that hold the same weights.
    """

    name: str
    older: tuple[str, ...] = ()
    layer: bool = False
    home: str = ""
    aten: tuple[str, ...] = ()
    weights: tuple[str, ...] | None = ()
    statistics: tuple[str, ...] = ()
    cell: str = ""
    gates: int = 0
    rounding: Rounding = Rounding.OTHER
    features: Features = Features.MIXED
    training_only: bool = False
    resizes: bool = False
    takes_masks: bool = False
    passes_masks: bool = False
    at_least_zero: bool = False
    activation: str = ""
    smooth: bool = False
    settings: Mapping[str, float] = field(default_factory=dict[str, float])
    arguments: tuple[tuple[str, str, float], ...] = ()
    torch: str = ""
    module: str = ""
    modules: tuple[str, ...] = ()

    @property
    def keeps_features(self) -> bool:
        """Whether each feature of a flattened map is behind the kind where it was before."""
        return self.features in (Features.ALONE, Features.KEPT, Features.PLACED)

    @property
    def hands_on(self) -> bool:
        """Whether the kind takes one map's features in any order, and hands them on in the same."""
        return self.features in (Features.ALONE, Features.KEPT)

    @property
    def moves_features(self) -> bool:
        """Whether the kind computes nothing and puts features of a flattened map elsewhere, or picks some of them."""
        mixed = self.features is Features.MIXED and self.rounding is Rounding.NONE
        return mixed or self.features in (Features.RESHAPED, Features.REORDERED)

    @property
    def passes_pictures(self) -> bool:
        """Whether a picture comes out as one: as it was, moved, resized, or each of its numbers changed for itself."""
        kept = self.features is not Features.MIXED or self.rounding is Rounding.NONE
        return (kept or self.training_only or self.resizes) and not self.weights_mix

    @property
    def weights_mix(self) -> bool:
        """Whether it has a table or a kernel."""
        return bool({"kernel", "embeddings"} & set(self.weights or ()))
