"""The five containers in which Keras keeps a model, each opened into a ``ModelFile``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from cnnlens.errors import FileRefusedError, ForeignFileError
from cnnlens.files.arrays import StoredArray
from cnnlens.files.container import Member, beside, open_archive, open_file, sniff
from cnnlens.files.hdf5.index import Group, Index, open_index
from cnnlens.files.jsontext import decode, mapping
from cnnlens.files.keras.named import is_legacy, resolve_legacy
from cnnlens.files.keras.numbered import CONTAINERS, IGNORED_AT_ROOT, model_layers, resolve_model, resolve_unnamed
from cnnlens.files.keras.resolution import Resolution
from cnnlens.files.keras.training import OPTIMIZER_STATE, left_by_training
from cnnlens.files.limits import LIMITS, check_items, human_bytes, remarks
from cnnlens.files.model_file import ModelFile, check_crc, other_entries
from cnnlens.files.signatures import MODELS, OPENS, foreign_archive, foreign_folder, foreign_text
from cnnlens.network.graph import Extra
from cnnlens.text import nearest, printable

__all__ = ["open_directory", "open_hdf5", "open_shards", "open_zip"]

_TOP = ("layers", "_layer_checkpoint_dependencies", "vars")
_MOST_STEPS = 100  # groups in groups: more than any model has, and fewer than Python can walk through
_Also = Callable[[], Sequence[Extra]]
_CONFIG, _METADATA, _WEIGHTS = "config.json", "metadata.json", "model.weights.h5"


def open_zip(path: Path, data: memoryview) -> ModelFile:
    """Open a `.keras` archive."""
    members = open_archive(path, data)
    if _WEIGHTS not in members:
        inner = next((name for name in members if name.endswith("/" + _WEIGHTS)), None)
        if inner and _CONFIG not in members:
            what = f"its files lie below {printable(inner.removesuffix(_WEIGHTS), 100)}, not at the top of the archive"
            raise FileRefusedError(path, "", what, "zip the files themselves and not their folder")
        foreign = foreign_archive(path, "a zip archive", members)
        raise ForeignFileError(path, foreign)
    others = other_entries(members, lambda name: name not in (_CONFIG, _METADATA, _WEIGHTS))
    return _open_parts(path, "keras", members.get, [("", data)], others)


def open_directory(path: Path) -> ModelFile:
    """Open what ``model.save(path, zipped=False)`` writes: the archive's files in a directory."""
    if not (path / _WEIGHTS).exists():
        names = [entry.name for entry, _ in zip(path.iterdir(), range(10_000), strict=False)]
        foreign = foreign_folder(names)
        if foreign is not None:
            raise ForeignFileError(path, foreign)
        models = [name for name in sorted(names) if name.lower().endswith(MODELS)]
        way_out = f"name one of the files in it: {nearest(path.name, models)}" if models else "name a model file"
        raise FileRefusedError(path, "", "a directory without model.weights.h5", way_out)
    pieces: list[tuple[str, memoryview]] = []

    def part(name: str) -> Member | None:
        file = path / name
        if not file.exists():
            return None
        data = open_file(file)
        pieces.append((name, data))
        return Member(name, data)

    return _open_parts(path, "keras directory", part, pieces)


def _open_parts(
    path: Path,
    format: str,
    part: Callable[[str], Member | None],
    pieces: list[tuple[str, memoryview]],
    others: Sequence[Extra] = (),
) -> ModelFile:
    notes: list[str] = []
    config, version = None, None
    texts: dict[str, dict[str, Any]] = {}
    for name in (_METADATA, _CONFIG):
        member = part(name)
        if member is None:
            notes.append(f"there is no {name} in it")
            continue
        if len(member.data) > LIMITS.json_bytes:
            raise FileRefusedError(
                path, name, f"a JSON text of {human_bytes(len(member.data))}", "save the model again"
            )
        check_crc(path, member)
        texts[name] = decode(path, name, bytes(member.data))
    if _CONFIG in texts:
        config = texts[_CONFIG]
        _check_layers(path, config, sum(len(data) for _, data in pieces))
    found = texts.get(_METADATA, {}).get("keras_version")
    version = found if isinstance(found, str) else None
    weights = part(_WEIGHTS)
    if weights is None:
        raise FileRefusedError(path, _WEIGHTS, "it is missing", "save the model again")
    if sniff_weights(weights) is False:
        raise FileRefusedError(path, _WEIGHTS, "it is no HDF5 file", "save the model again")
    before_read = _checksum_policy(path, weights, notes)
    index = open_index(path, weights, skip=IGNORED_AT_ROOT, before_read=before_read)
    resolution = Resolution()
    _resolve_numbered(index.root, config, resolution)
    compiled = config.get("compile_config") if config is not None else None
    also = _also(path, [weights], compiled, others)
    return _model_file(
        path, format, version, config, resolution, [index], [*notes], pieces, [lambda: check_crc(path, weights)], also
    )


def _also(path: Path, members: Sequence[Member], compiled: Any, others: Sequence[Extra] = ()) -> _Also:
    """What the file holds beside the model; an optimizer's state is looked for when somebody asks."""

    def state() -> list[StoredArray]:
        indices = [open_index(path, member, only=OPTIMIZER_STATE) for member in members]
        return [array for index in indices for array in index.root.arrays_below()]

    return lambda: [*left_by_training(compiled, state), *others]


def _check_layers(path: Path, config: Any, stored: int) -> None:
    """Refuse a config with far more layers than a file of so many bytes has, models in models and wrappers included."""
    count = 0
    pending: list[Any] = [config]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            entry = cast("dict[str, Any]", value)
            pending += entry.values()
            lists = [entry[key] for key in ("layers", "config", "cells") if isinstance(entry.get(key), list)]
            count += sum(map(len, lists))
        elif isinstance(value, list):
            pending += cast("list[Any]", value)
    check_items(path, count, "layers in its config", stored)


def sniff_weights(member: Member) -> bool:
    """Whether a member begins as HDF5 does."""
    return bytes(member.data[:8]) == b"\x89HDF\r\n\x1a\n"


def _checksum_policy(path: Path, weights: Member, notes: list[str]) -> Callable[[], None] | None:
    """Compares the checksum now where that takes no time, else leaves it to the first read."""
    if weights.crc is None:
        return None
    if len(weights.data) <= LIMITS.crc_at_open_bytes:
        check_crc(path, weights)
        return None
    if len(weights.data) <= LIMITS.crc_at_read_bytes:
        return lambda: check_crc(path, weights)
    notes.append(f"the checksum of {human_bytes(len(weights.data))} of weights is only compared by verify()")
    return None


def _separate(root: Group) -> None:
    """Take apart the names of groups that Windows wrote, where a path is one name: ``layers\\conv2d`` is two groups.

    Names in this layout are classes and attributes, in which no backslash can be.
    """
    for name in [name for name in root.groups if "\\" in name]:
        *way, last = name.split("\\", _MOST_STEPS)
        into = root
        for step in way:
            into = into.groups.setdefault(step, Group(f"{into.place}/{step}".lstrip("/")))
        found = root.groups.pop(name)
        known = into.groups.setdefault(last, found)
        if known is not found:  # made for what lies below it
            known.groups.update(found.groups)
            known.arrays.update(found.arrays)
    for name in IGNORED_AT_ROOT:
        root.groups.pop(name, None)


def _leave_training_out(root: Group, resolution: Resolution) -> None:
    """Take out what training keeps of a model inside the model, which has an optimizer and metrics of its own."""
    arrays = 0
    pending = [root]
    while pending:
        group = pending.pop()
        if any(name in group.groups for name in CONTAINERS):
            left = [group.groups.pop(name) for name in IGNORED_AT_ROOT if name in group.groups]
            arrays += sum(len(list(one.arrays_below())) for one in left)
        pending += group.groups.values()
    if arrays:
        resolution.note(f"{arrays} arrays of the optimizers and metrics of models in the model are left out")


def _resolve_numbered(root: Group, config: Mapping[str, Any] | None, resolution: Resolution) -> None:
    _separate(root)
    _leave_training_out(root, resolution)
    if config is not None and model_layers(config) is not None:
        resolve_model(root, config, resolution)
    else:
        resolve_unnamed(root, (), resolution)


def open_hdf5(path: Path, data: memoryview, config: Mapping[str, Any] | None) -> ModelFile:
    """Open a legacy `.h5` file or a `.weights.h5` file."""
    index = open_index(path, Member("", data), skip=IGNORED_AT_ROOT)
    root = index.root
    resolution = Resolution()
    own = root.attributes.get("model_config")
    if isinstance(own, str):
        found: dict[str, Any] | None = decode(path, "model_config", own)
        _check_layers(path, found, len(data))
    else:
        found = dict(config) if config is not None else None
    weights = root.groups.get("model_weights")
    legacy = weights if weights is not None and is_legacy(weights) else root
    if is_legacy(legacy):
        resolve_legacy(legacy, found, resolution)
        version = legacy.attributes.get("keras_version", root.attributes.get("keras_version"))
        format = "hdf5"
    else:
        if isinstance(own, str):
            remark = "a whole model without its group model_weights: the file was not written to its end"
            resolution.note(remark, contradicts=True)
        elif not any(name.split("\\")[0] in _TOP for name in root.groups):
            _refuse_foreign_hdf5(path, root)
        version = root.attributes.get("keras_version")
        format = "hdf5" if isinstance(own, str) else "weights hdf5"
        _resolve_numbered(root, found, resolution)
    training = root.attributes.get("training_config")
    try:
        compiled = decode(path, "training_config", training) if isinstance(training, str) else None
    except FileRefusedError:
        compiled = None  # the model is whole without it
    return _model_file(
        path,
        format,
        version if isinstance(version, str) else None,
        found,
        resolution,
        [index],
        [] if found is not None else ["the file holds weights only: no graph, and layers by the names in the file"],
        [("", data)],
        [],
        _also(path, [Member("", data)], compiled),
    )


def _refuse_foreign_hdf5(path: Path, root: Group) -> None:
    if not any(True for _ in _variables(root)):
        raise FileRefusedError(path, "", "an HDF5 file that Keras did not write (no layers in it)", OPENS)


def _variables(group: Group) -> Iterator[StoredArray]:
    for name, below in group.groups.items():
        if name == "vars":
            yield from below.arrays.values()
        yield from _variables(below)


def open_shards(path: Path, data: memoryview, config: Mapping[str, Any] | None) -> ModelFile:
    """Open the `.weights.json` of ``save_weights(..., max_shard_size=…)`` and the shards beside it."""
    foreign = foreign_text(bytes(data[:4096]))
    if foreign is not None:
        raise ForeignFileError(path, foreign)
    if len(data) > LIMITS.json_bytes:
        raise FileRefusedError(path, "", f"a JSON text of {human_bytes(len(data))}", OPENS)
    listed = mapping(decode(path, "", bytes(data)).get("weight_map"))
    if not listed:
        raise FileRefusedError(path, "", "a JSON file that maps no weights to shards (no weight_map)", OPENS)
    names: set[str] = set()
    for place, value in listed.items():
        items = cast("list[Any]", value) if isinstance(value, list) else [value]
        if not items or not all(isinstance(item, str) for item in items):
            raise FileRefusedError(path, place, "a weight_map that names no file for it", OPENS)
        names.update(items)
    if len(names) > LIMITS.shards:
        raise FileRefusedError(path, "", f"{len(names)} shards, {LIMITS.shards} at most", OPENS)
    indices: list[Index] = []
    members: list[Member] = []
    pieces: list[tuple[str, memoryview]] = [(path.name, data)]
    root = Group("")
    for name in sorted(names):
        if name in ("", ".", "..") or "/" in name or "\\" in name or "\x00" in name:
            raise FileRefusedError(path, name, "a shard that does not lie beside its list", "save the weights again")
        where = beside(path, name)
        shard = open_file(where)
        if sniff(where, shard) != "hdf5":
            raise FileRefusedError(where, "", "a shard that is no HDF5 file", "save the weights again")
        members.append(Member(name, shard))
        index = open_index(path, members[-1], skip=IGNORED_AT_ROOT)
        pieces.append((name, shard))
        indices.append(index)
        stored = sum(len(piece) for _, piece in pieces)
        check_items(path, sum(one.objects for one in indices), "objects in its shards", stored)
        _merge(path, root, index.root)
    resolution = Resolution()
    _resolve_numbered(root, config, resolution)
    notes = [] if config is not None else ["the file holds weights only: no graph, and layers by the names in the file"]
    found = dict(config) if config is not None else None
    also = _also(path, members, None)
    return _model_file(path, "weights hdf5", None, found, resolution, indices, notes, pieces, [], also, root)


def _merge(path: Path, into: Group, other: Group) -> None:
    for name, array in other.arrays.items():
        if name in into.arrays:
            raise FileRefusedError(path, array.place, "an array that two shards hold", "save the weights again")
        into.arrays[name] = array
    for name, group in other.groups.items():
        if name in into.groups:
            _merge(path, into.groups[name], group)
        else:
            into.groups[name] = group


def _model_file(
    path: Path,
    format: str,
    version: str | None,
    config: dict[str, Any] | None,
    resolution: Resolution,
    indices: list[Index],
    notes: list[str],
    pieces: list[tuple[str, memoryview]],
    verify: list[Callable[[], None]],
    also: _Also,
    root: Group | None = None,
) -> ModelFile:
    arrays: list[StoredArray] = [array for index in indices for array in index.root.arrays_below()]
    if root is not None:
        known = {id(array) for array in arrays}
        arrays += [array for array in root.arrays_below() if id(array) not in known]
    unmatched = resolution.unmatched(arrays)
    shown = [*notes, *(note for index in indices for note in index.notes), *remarks(resolution.notes)]
    contradictions = tuple(resolution.contradictions)
    return ModelFile(
        path, format, version, config, resolution.weights, unmatched, shown, pieces, verify, contradictions, also
    )
