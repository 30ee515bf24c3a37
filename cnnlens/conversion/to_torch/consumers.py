"""Whether what stands behind a Flatten can do with a map that was flattened channels first.

A Dense can, its columns being put in that order once and for all, and so can what treats each feature alike. Anything
else needs Keras' order, and the map is then turned before it is flattened.
"""

from __future__ import annotations

from cnnlens.conversion.to_torch.scopes import Scope, ScopeInput, Source, sources
from cnnlens.kinds import layer_kind
from cnnlens.network.graph import Ref

__all__ = ["keeps_flat"]


def keeps_flat(scope: Scope, source: Source) -> bool:
    """Tell whether all that ``source`` goes to ends in Dense layers, with nothing between that sees an order."""
    if source in scope.outputs:
        return False
    for item in scope.items:
        if source not in sources((item.args, item.kwargs)):
            continue
        if item.inner is not None:
            places = [place for place, one in enumerate(sources(item.args)) if one == source]
            if len(item.inner.inputs) and not all(keeps_flat(item.inner, ScopeInput(place)) for place in places):
                return False
        elif item.layer.kind == "Dense":
            continue
        elif not layer_kind(item.layer.kind, item.layer.module).hands_on or not keeps_flat(scope, Ref(item.name)):
            return False
    return True
