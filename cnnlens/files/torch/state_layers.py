"""A state dict as a Network: its layers by the prefixes of its names, in the file's order, and no graph.

What a state dict cannot say (which layer feeds which, strides, paddings, activations) is not invented: the network has
no calls, its kinds are called guesses, and the notes say how to get the graph.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Mapping
from dataclasses import replace

from cnnlens.errors import CnnlensError
from cnnlens.files.arrays import StoredArray
from cnnlens.files.torch.state_file import TorchFile, shown_names
from cnnlens.files.torch.state_kinds import Guess, Neighbours, Shapes, guess_kind
from cnnlens.layout import Geometry
from cnnlens.network.graph import Layer
from cnnlens.network.network import Network
from cnnlens.network.weight import Weight

__all__ = ["ROOT", "torch_layers"]

ROOT = "(root)"
"""The name of the layer that holds the arrays without a prefix."""

_NO_GRAPH = (
    "the file holds arrays and no graph: kinds of layers are taken from names and shapes, and nothing can be run; "
    "for the graph save a .pt2 with torch.export.save, or name the module's factory with --arch package.module:factory"
)


def torch_layers(file: TorchFile) -> Network:
    """Make the network of a state dict: layers with weights, ``calls`` empty."""
    groups = _grouped(file.arrays)
    layers: list[Layer] = []
    doubts: dict[str, list[str]] = {}
    unknown: list[str] = []
    grouped: list[str] = []
    for name, guess in _guesses(groups, file.ordered).items():
        if guess.kind == "unknown":
            unknown.append(name or ROOT)
        elif guess.doubt:
            doubts.setdefault(f"{guess.kind} may be {guess.doubt}", []).append(name or ROOT)
        if guess.geometry.groups > 1 and not guess.kind.startswith("ConvTranspose"):
            grouped.append(name)
        layers.append(_layer(name, groups[name], guess))
    notes = [*file.notes, _NO_GRAPH]
    notes += [f"{doubt}: {shown_names(found)}" for doubt, found in doubts.items()]
    if grouped:
        notes.append(f"taken for depthwise, by the channels in front: {shown_names(grouped)}")
    if unknown:
        notes.append(f"of no kind that the arrays tell: {shown_names(unknown)}")
    return Network(file.path.stem, "state dict", file, tuple(layers), notes=tuple(notes))


def _guesses(groups: Mapping[str, Mapping[str, StoredArray]], ordered: bool) -> dict[str, Guess]:
    """The likely kind of every layer. Neighbours count where the order is the model's: elsewhere, numbered siblings."""
    names = list(groups)
    shapes = {name: {each: array.shape for each, array in groups[name].items()} for name in names}
    guesses: dict[str, Guess] = {}
    near = Neighbours()
    for index, name in enumerate(names):
        if index and not ordered and not _are_numbered_siblings(names[index - 1], name):
            near = Neighbours()
        follower = names[index + 1] if index + 1 < len(names) else ""
        normed = 0
        if follower and (ordered or _are_numbered_siblings(name, follower)):
            normed = _normed(groups[follower])
        guess = guess_kind(name, shapes[name], replace(near, normed=normed))
        if guess.spatial is not None:
            near = Neighbours(guess.channels, guess.spatial, 0, guess.kind.startswith("ConvTranspose"))
        elif guess.channels:
            near = replace(near, channels=guess.channels)
        guesses[name] = guess
    if any(guess.kind == "BatchNorm" for guess in guesses.values()):
        _give_axes(names, shapes, guesses)
    return guesses


def _are_numbered_siblings(first: str, second: str) -> bool:
    (parent, _, one), (other, _, two) = first.rpartition("."), second.rpartition(".")
    return parent == other and one.isdecimal() and two.isdecimal()


def _give_axes(names: list[str], shapes: Mapping[str, Shapes], guesses: dict[str, Guess]) -> None:
    """Batch normalisations with nothing in front take the axes of a layer of their channels, close by name."""
    below: dict[tuple[str, int], list[int]] = {}
    anywhere: dict[int, list[int]] = {}
    for place, name in enumerate(names):
        guess = guesses[name]
        if guess.spatial is not None:
            below.setdefault((name.rpartition(".")[0], guess.channels), []).append(place)
            anywhere.setdefault(guess.channels, []).append(place)
    # Where no layer has its channels (they may be concatenated), the axes are those that every convolution here has.
    common = {guess.spatial for guess in guesses.values() if guess.spatial}
    for place, name in enumerate(names):
        guess = guesses[name]
        if guess.kind == "BatchNorm":
            places = below.get((name.rpartition(".")[0], guess.channels)) or anywhere.get(guess.channels)
            spatial = next(iter(common)) if len(common) == 1 else None
            if places:
                after = bisect(places, place)
                closest = min(places[max(0, after - 1) : after + 1], key=lambda each: abs(each - place))
                spatial = guesses[names[closest]].spatial
            guesses[name] = guess_kind(name, shapes[name], Neighbours(0, spatial))


def _grouped(arrays: Mapping[str, StoredArray]) -> dict[str, dict[str, StoredArray]]:
    """Arrays by layer and by their names in it; a parametrized weight belongs to the layer that it is a part of."""
    groups: dict[str, dict[str, StoredArray]] = {}
    for key, array in arrays.items():
        owner, parametrized, rest = key.partition(".parametrizations.")
        if parametrized:
            owner, name = owner, f"parametrizations.{rest}"
        else:
            owner, _, name = key.rpartition(".")
        groups.setdefault(owner, {})[name] = array
    return groups


def _normed(behind: Mapping[str, StoredArray]) -> int:
    """Channels of the layer behind, where it is a normalisation."""
    weight, bias, mean = (behind.get(name) for name in ("weight", "bias", "running_mean"))
    vector = mean or (weight if weight is not None and bias is not None and weight.shape == bias.shape else None)
    return vector.shape[0] if vector is not None and len(vector.shape) == 1 else 0


def _layer(name: str, arrays: Mapping[str, StoredArray], guess: Guess) -> Layer:
    stored = {each: _weight(each, array, guess) for each, array in arrays.items()}
    return Layer(name or ROOT, guess.kind, {}, path=tuple(name.split(".")) if name else (), stored=stored)


def _weight(name: str, array: StoredArray, guess: Guess) -> Weight:
    kind, role = guess.roles.get(name, ("", name))
    weight = Weight(name, kind, role, array, guess.geometry if kind else Geometry(), "torch")
    try:
        _ = weight.canonical_shape, weight.canonical_axes, weight.stored_axes
    except CnnlensError:
        return Weight(name, "", name, array, Geometry(), "torch")
    return weight
