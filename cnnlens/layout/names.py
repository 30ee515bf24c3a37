"""The names that people give a kind of layer or a framework, as the table of layouts has them.

A porter says Conv2d where a Keras user says Conv2D, and tensorflow where the table says keras; which of them came is
no reason to refuse.
"""

from __future__ import annotations

from collections.abc import Mapping

from cnnlens.errors import CnnlensError
from cnnlens.kinds import LAYERS
from cnnlens.layout.feature_maps import MAPS
from cnnlens.layout.lookup import KINDS, resolve_kind
from cnnlens.layout.tables import ALIASES, FRAMEWORKS, TRANSPARENT
from cnnlens.text import nearest, printable

__all__ = ["PYTORCH_KINDS", "framework_named", "kind_named", "maps_named", "side_named"]

PYTORCH_KINDS: Mapping[str, str] = {module: row.name for row in LAYERS for module in row.modules if module != row.name}
"""PyTorch's modules by their class names, as the Keras kinds that hold the same weights; those named alike are absent.

Keras has an ``RNN`` too, a wrapper without a layout; where a layout is asked for, PyTorch's is the one that is meant.
"""

_FRAMEWORKS = {"pytorch": "torch", "tensorflow": "keras", "tf": "keras", "tf.keras": "keras"}


def framework_named(name: str) -> str:
    """Find which of :data:`~cnnlens.layout.tables.FRAMEWORKS` a person named, in upper or lower case.

    Raises:
        CnnlensError: There is none; the nearest is named.
    """
    found = _FRAMEWORKS.get(name.lower(), name.lower())
    if found not in FRAMEWORKS:
        raise CnnlensError(f"no framework '{printable(name)}': {nearest(name, (*FRAMEWORKS, *_FRAMEWORKS))}")
    return found


def maps_named(name: str) -> str | None:
    """Find which layout of feature maps a person named, in upper or lower case, or None where it is no such name.

    >>> maps_named("nhwc"), maps_named("NCL"), maps_named("Conv2D")
    ('NHWC', 'NCW', None)
    """
    found = name.upper().replace("L", "W")  # PyTorch's L is the length of a sequence
    return found if found in MAPS else None


def side_named(name: str) -> str:
    """Find what one side of a conversion is: a layout of feature maps, or a framework.

    Raises:
        CnnlensError: It is neither; the nearest framework is named.
    """
    return maps_named(name) or framework_named(name)


def kind_named(name: str) -> str:
    """Find the Keras class name of a kind with a layout: from that name, an older one, or PyTorch's, in any case.

    Raises:
        CnnlensError: There is none; the nearest is named, or it is said to be a wrapper without a layout.
    """
    known: dict[str, str] = {kind.lower(): kind for kind in KINDS}
    known |= {alias.lower(): resolve_kind(alias) for alias in ALIASES}
    known |= {module.lower(): kind for module, kind in PYTORCH_KINDS.items()}
    name = name.rpartition(".")[2] or name  # nn.Linear, keras.layers.Dense
    found = PYTORCH_KINDS.get(name) or known.get(name.lower())
    if found is not None:
        return found
    wrappers = {wrapper.lower(): wrapper for wrapper in TRANSPARENT}
    if name.lower() in wrappers:
        raise CnnlensError(
            f"{wrappers[name.lower()]} has no layout of its own: the layer that it wraps is stored as that layer alone "
            "would be"
        )
    raise CnnlensError(f"no layout for kind '{printable(name)}': {nearest(name, (*KINDS, *PYTORCH_KINDS))}")
