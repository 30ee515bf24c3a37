"""What happened to the model as a whole: ambiguous arrays are settled by the others, and a few statements sum up.

A kernel of one tap cannot show a swap and a symmetric one cannot show a flip; where all others of the network agree on
what was done to them, that is what was done to these. Orders of channels are followed into the next layer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, TypeAlias

from cnnlens.differing.cause import Cause, Causes, Kind, Status, tag_of
from cnnlens.differing.finding import Finding
from cnnlens.differing.hypotheses.kinship import LEAST
from cnnlens.differing.investigation import Compared, PartPair

__all__ = ["Outcome", "Statement", "settle", "summary"]

_CLOSE = 0.5  # of a vector's size: as far as training moves one that its kernel went along with
_MOST = 0.5  # the share of arrays from which something is said of the model as a whole
_KINDS = {Status.FINE_TUNED: Kind.FINE_TUNED, Status.ANOTHER: Kind.ANOTHER}
_MARGIN = 2  # times as many sure arrays as for any rival must speak for what settles an array that is not sure
_NO_STRUCTURE = (
    0.1  # of the numbers of the smaller model: with fewer in pairs of one shape, models have nothing in common
)


def settle(found: Sequence[PartPair]) -> None:
    """Let the arrays that are sure decide about those that are not."""
    explained = [one.finding for pair in found for one in pair.arrays if one.finding.status is Status.EXPLAINED]
    sure = Counter(one.causes for one in explained if not one.also)
    loose = Counter(one.causes for one in explained)
    for pair in found:
        for one in pair.arrays:
            one.finding = _settled(one.finding, sure, loose)
    _follow_kernels(found)
    _one_epsilon(found)
    _undone(found)


_Names: TypeAlias = Counter[Causes]


def _settled(finding: Finding, sure: _Names, loose: _Names) -> Finding:
    if finding.status is Status.AMBIGUOUS:
        options = [(sure[causes], loose[causes], causes) for causes in finding.possible]
        best = max(options, key=lambda option: option[:2])
        rivals = [option for option in options if _MARGIN * option[0] > best[0]]
        if best[0] and len(rivals) == 1:
            return replace(finding, status=Status.EXPLAINED, causes=best[2])
    elif finding.also and not sure[finding.causes]:
        best = max(sure[causes] for causes in finding.also)
        known = [causes for causes in finding.also if _MARGIN * sure[causes] > best]
        if len(known) == 1:
            chosen = known[0]
            others = (finding.causes, *(one for one in finding.also if tag_of(one) != tag_of(chosen)))
            return replace(finding, causes=chosen, also=others, settled=True)
    elif finding.also:  # its own name is one of the sure ones
        return replace(finding, settled=all(_MARGIN * sure[one] <= sure[finding.causes] for one in finding.also))
    return finding


def _follow_kernels(found: Sequence[PartPair]) -> None:
    """Vectors too short to tell of themselves go with the kernels: of their own layer, else of the network."""
    whole = _majority(found)
    for pair in found:
        kernel = pair.kernel
        status = kernel.finding.status if kernel is not None else whole
        if status is None or status not in _KINDS:
            continue
        for one in pair.arrays:
            near = one.finding.kinship
            if one.finding.status is not Status.DIFFERS or one is kernel or near is None:
                continue
            if status is Status.ANOTHER or near.distance < _CLOSE or near.correlation > LEAST:
                cause = Cause(_KINDS[status], "", (("distance", near.distance), ("as", "kernels")))
                one.finding = replace(one.finding, status=status, causes=(cause,))


def _majority(found: Sequence[PartPair]) -> Status | None:
    statuses = [one.finding.status for pair in found for one in pair.arrays if one.role == "kernel"]
    told = [status for status in statuses if status not in (Status.DIFFERS, Status.MISSING)]
    for status in _KINDS:
        if told and told.count(status) > _MOST * len(told):
            return status
    return None


def _one_epsilon(found: Sequence[PartPair]) -> None:
    """Where a layer's factors fit several epsilons, the one that fits all layers of the network."""
    folds = [one for pair in found for one in pair.arrays if "epsilon" in one.finding.detail]
    options = [{one.finding.detail["epsilon"], *one.finding.detail["alike"]} for one in folds]
    common: set[float] = set[float]().union(*options)
    for each in options:
        common &= each
    if len(common) != 1:
        return
    epsilon = common.pop()
    for one in folds:
        finding = one.finding
        if finding.detail["epsilon"] == epsilon and finding.detail["alike"]:
            one.finding = replace(finding, causes=finding.certain,
                                  detail={**finding.detail, "alike": []})  # fmt: skip


# -- orders of channels ------------------------------------------------------------------------------------------------


def _undone(found: Sequence[PartPair]) -> None:
    """Say of every permuted layer whether the next one takes its channels in the new order."""
    for place, pair in enumerate(found):
        kernel = pair.kernel
        order: Any = kernel.finding.detail.get("out_order") if kernel is not None else None
        if kernel is None or not order or order == list(range(len(order))):
            continue
        detail = {**kernel.finding.detail, "undone": _followers(found, place, order)}
        kernel.finding = replace(kernel.finding, detail=detail)


def _followers(found: Sequence[PartPair], place: int, order: list[int]) -> bool | None:
    """Whether the vectors up to the next kernel, and its inputs, stand in ``order``; None where there is no next."""
    for pair in found[place + 1 :]:
        kernel = pair.kernel
        if pair.a is None or pair.b is None:
            continue
        if kernel is None:
            for one in pair.arrays:
                if one.a is not None and one.a.shape == (len(order),) and not _in_order(one, order):
                    return False
            continue
        if kernel.a is None or len(kernel.a.shape) < 2:
            continue
        if kernel.a.shape[1] == 1 and kernel.a.shape[0] == len(order):  # depthwise: it hands the order on
            return kernel.finding.detail.get("out_order") == order
        if kernel.finding.causes and kernel.finding.causes[0].kind in _KINDS.values():
            return None
        inputs = kernel.finding.detail.get("in_order") or list(range(kernel.a.shape[1]))
        return _blocks(inputs, order)
    return None


def _in_order(one: Compared, order: list[int]) -> bool:
    """Whether a vector stands in the order: one that is the same in any order does."""
    if one.finding.detail.get("out_order") == order:
        return True
    if not one.finding.equal or one.a is None:
        return False
    values = one.a.stored.reshape(-1)
    return bool((values == values[order]).all())


def _blocks(inputs: list[int], order: list[int]) -> bool:
    """Whether the inputs' order is the channels' order, of a flattened map (C, H, W) in blocks."""
    if len(inputs) % len(order):
        return False
    each = len(inputs) // len(order)
    return inputs == [entry * each + step for entry in order for step in range(each)]


# -- the verdict -------------------------------------------------------------------------------------------------------


class Outcome(StrEnum):
    """Names what one statement about two models says."""

    EMPTY = "no arrays"
    STRANGERS = "no common structure"
    EQUAL = "equal"
    ROUNDED = "rounded"
    ANOTHER = "another"
    FINE_TUNED = "fine-tuned"
    CHANGED = "changed"
    ALONE = "alone"
    EXPLAINED = "explained"


@dataclass(frozen=True)
class Statement:
    """Says one thing about the models as a whole.

    Attributes:
        outcome: Which.
        fields: What is needed to say it, as plain data.
        members: The arrays of which it is said, where it is of a group with one change.
    """

    outcome: Outcome
    fields: Mapping[str, Any] = field(default_factory=lambda: dict[str, Any]())
    members: tuple[Compared, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """What is said as plain data, without words."""
        return {"outcome": self.outcome, **self.fields}


def summary(found: Sequence[PartPair]) -> list[Statement]:
    """Find the one to three statements that sum up what happened to the model."""
    pairs = [pair for pair in found if pair.a is not None and pair.b is not None]
    alone = [pair for pair in found if pair.a is None or pair.b is None]
    if not found:
        return [Statement(Outcome.EMPTY)]
    if _strangers(found):
        return [Statement(Outcome.STRANGERS, {"nearest": _nearest(found)})]
    arrays = [one for pair in pairs for one in pair.arrays]
    unexplained = [pair for pair in alone if pair.folded is None]
    if all(one.finding.equal for one in arrays) and not alone:
        roundings = sorted({(cause.of, cause["side"]) for each in arrays for cause in each.finding.causes
                            if cause.kind is Kind.ROUNDED})  # fmt: skip
        if roundings:
            return [Statement(Outcome.ROUNDED, dict(zip(("format", "side"), roundings[0], strict=True)))]
        stored = sorted({one.finding.stored for one in arrays if one.finding.stored is not None})
        return [Statement(Outcome.EQUAL, {"stored": stored})]
    said = _statements(pairs)
    if unexplained:
        names = [[part.name for part in side if part is not None]
                 for side in ((pair.a for pair in unexplained), (pair.b for pair in unexplained))]  # fmt: skip
        said.append(Statement(Outcome.ALONE, {"a": names[0], "b": names[1]}))
    return said[:3] if said else [Statement(Outcome.EXPLAINED)]


def _strangers(found: Sequence[PartPair]) -> bool:
    sizes = [0, 0]
    common = 0
    for pair in found:
        sizes[0] += pair.a.size if pair.a is not None else 0
        sizes[1] += pair.b.size if pair.b is not None else 0
        for one in pair.arrays:
            if one.a is not None and one.b is not None and one.finding.status is not Status.ANOTHER_SHAPE:
                common += one.a.size
    return common < _NO_STRUCTURE * min(sizes) or (min(sizes) > 0 and not common)


def _nearest(found: Sequence[PartPair]) -> list[dict[str, Any]]:
    """The pairs that come nearest where nothing fits."""
    scored: list[tuple[float, dict[str, Any]]] = []
    sides = [[pair.a for pair in found if pair.a is not None], [pair.b for pair in found if pair.b is not None]]
    for a in sides[0]:
        for b in sides[1]:
            one, other = a.main, b.main
            if one is None or other is None or not one.size or not other.size:
                continue
            same = sum((Counter(one.sizes) & Counter(other.sizes)).values())
            score = same + (a.family == b.family) + min(one.size, other.size) / max(one.size, other.size)
            scored.append((score, {"a": a.name, "shape_a": one.shape, "b": b.name, "shape_b": other.shape}))
    scored.sort(key=lambda each: -each[0])
    return [fields for _, fields in scored[:3]]


def _statements(pairs: Sequence[PartPair]) -> list[Statement]:
    """What holds of most arrays first."""
    kernels = [(pair, one) for pair in pairs for one in pair.arrays if one.role == "kernel" and one.a is not None]
    voting = kernels or [(pair, one) for pair in pairs for one in pair.arrays]
    another = [one for _, one in voting if one.finding.status is Status.ANOTHER]
    told = [one for _, one in voting if one.finding.status is not Status.DIFFERS]
    if another and len(another) > _MOST * max(len(told), 1):
        return [Statement(Outcome.ANOTHER, {"kernels": len(another), "of": len(voting)})]
    said: list[Statement] = []
    tuned = [one for _, one in voting if one.finding.status is Status.FINE_TUNED]
    if tuned and len(tuned) > _MOST * max(len(told), 1):
        far = [one.finding.residual for one in tuned]
        after = {cause.tag for one in tuned for cause in one.finding.causes if cause.kind is not Kind.FINE_TUNED}
        said.append(Statement(Outcome.FINE_TUNED, {"kernels": len(tuned), "of": len(voting), "least": min(far),
                                                   "most": max(far), "after": sorted(after)}))  # fmt: skip
    groups: dict[tuple[str, str], list[tuple[PartPair, Compared]]] = {}
    for pair in pairs:
        for one in pair.arrays:
            if not one.finding.equal and (one.finding.status is not Status.FINE_TUNED or not said):
                groups.setdefault((one.finding.tag or one.finding.status, one.role), []).append((pair, one))
    ordered = sorted(groups.items(), key=lambda group: (group[0][1] != "kernel", -len(group[1])))
    for (tag, role), members in ordered:
        if role != "kernel" and members[0][1].finding.has(Kind.FOLDED, Kind.FINE_TUNED):
            continue
        said.append(_group(tag, role, members, pairs))
    return said


def _group(tag: str, role: str, members: list[tuple[PartPair, Compared]], pairs: Sequence[PartPair]) -> Statement:
    first = members[0][0].a
    family, name = (first.family, first.name) if first is not None else ("", "")
    tellable = [
        one
        for pair in pairs
        if pair.a is not None and pair.a.family == family
        for one in pair.arrays
        if one.role == role
        and one.a is not None
        and one.finding.status is not Status.MISSING
        and not _hides(one, members[0][1].finding.causes)
    ]
    same = all(pair.a is not None and pair.a.family == family for pair, _ in members)
    fields = {"tag": tag, "role": role, "layers": len(members), "first": name, "family": family if same else None,
              "every": same and len(members) == len(tellable)}  # fmt: skip
    return Statement(Outcome.CHANGED, fields, tuple(one for _, one in members))


def _hides(one: Compared, causes: Causes) -> bool:
    """Whether an array is equal and would be with the mistake as well: a flip of one tap."""
    spatial = one.a.shape[2:] if one.a is not None else ()
    turned = bool(causes) and causes[0].kind in (Kind.FLIPPED, Kind.SWAPPED)
    return one.finding.equal and turned and all(size == 1 for size in spatial)
