"""What there is to know of a model file before anybody runs it: what it would need, and what in it is not as it should.

Two questions are kept apart. *Viewing* executes nothing, whatever the file holds. *Running* hands it to a framework,
which may execute code that the file carries, import what it names and open what it points to; ``needs`` lists that,
for ``verify`` and for the line above ``summary``'s table. ``examine`` adds what is wrong with numbers and bytes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np

from cnnlens.errors import CnnlensError, FileRefusedError, ForeignFileError
from cnnlens.files import network as open_network
from cnnlens.files.container import open_archive, open_file, sniff
from cnnlens.files.hdf5.index import stated_end
from cnnlens.files.jsontext import decode, mapping, text
from cnnlens.files.limits import human_bytes
from cnnlens.files.signatures import MODELS, UNTOLD, Foreign, pickled_names
from cnnlens.files.torch.pickle_vocabulary import CALLS, CONSTANTS
from cnnlens.kinds import ACTIVATIONS, CELLS, UNKNOWN, activation_named, kind_of
from cnnlens.network.graph import Extra
from cnnlens.network.network import Network
from cnnlens.network.weight import Weight
from cnnlens.text import printable

__all__ = ["Finding", "Report", "examine", "needs", "needs_line"]

# How the readers of PyTorch's files end what they say of bytes that belong to nothing.
_UNREAD = ("behind the last storage are not read", "behind the end of the pickle are not read")

RUNNING = ("code", "file")
"""What a :class:`Finding` is about where running the model would execute or open what its author chose."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Says one thing of a file that a person should know.

    Attributes:
        about: "code", "file" (another one, that it needs), "numbers", "arrays", "bytes" or "config".
        where: The layer, or the place in the file; empty for the file as a whole.
        what: The sentence's rest: ``Python bytecode``, ``the class mine.Net``.
    """

    about: str
    where: str
    what: str


@dataclass
class Report:
    """Says what is in a file, and whether it is safe to view and to run.

    Attributes:
        path: The file or folder.
        format, written_by: What it is, and what wrote it as far as it says so; empty where it could not be read.
        size: Its bytes; ``parameters``: how many numbers its layers hold; None where it could not be read.
        sha256: As ``Network.source`` has it.
        findings: What to look at.
        notes: Remarks that are nobody's fault.
        also: What the file holds beside the network.
        refused: Why it cannot be read; empty where it can.
        foreign: What it is where that is a kind that cnnlens does not open, and not a damaged file.
    """

    path: Path
    format: str = ""
    written_by: str = ""
    size: int | None = None
    parameters: int | None = None
    sha256: str = ""
    findings: list[Finding] = field(default_factory=list[Finding])
    notes: tuple[str, ...] = ()
    also: tuple[Extra, ...] = ()
    refused: str = ""
    foreign: Foreign | None = None

    @property
    def verdict(self) -> str:
        """Give ``safe to run``, ``safe to view`` or ``cannot be read``."""
        if self.refused:
            return "cannot be read"
        return "safe to view" if any(one.about in RUNNING for one in self.findings) else "safe to run"

    @property
    def named_like_a_model(self) -> bool:
        """Tell whether its name is that of a file that cnnlens opens."""
        return self.path.name.lower().endswith(MODELS)

    @property
    def code(self) -> int:
        """Give the exit code: 0 where all is well, 1 where there is something to look at, 2 where it cannot be read."""
        return 2 if self.refused else 1 if self.findings else 0


def examine(path: str | os.PathLike[str]) -> Report:
    """Read a model file as a whole, execute nothing, and say what is in it.

    Every checksum is compared and every array read, one at a time.

    >>> import cnnlens.sample
    >>> report = examine(cnnlens.sample.MODEL)
    >>> report.verdict, report.format, report.parameters
    ('safe to run', 'keras', 333526)
    """
    where = Path(path)
    report = Report(where)
    try:
        network = open_network(where)
        source: Any = network.source
        report.format, report.size, report.parameters = source.format, source.size, network.parameters
        report.sha256, report.notes = source.sha256, network.notes
        report.also = network.also
        getattr(source, "verify", lambda: None)()
        report.findings += needs(network)
        report.findings += _numbers(network)
        report.findings += _arrays(source)
        report.findings += [Finding("config", "", remark) for remark in getattr(source, "contradictions", ())]
        if not where.is_dir():
            report.findings += _bytes(where)
        report.written_by = _written_by(where, source)
        report.findings += [Finding("bytes", "", note) for note in report.notes if note.endswith(_UNREAD)]
        said = {one.what for one in report.findings}
        report.notes = tuple(note for note in report.notes if note not in said)
    except CnnlensError as error:
        report.refused = str(error).removeprefix(f"{printable(where, 300)}: ")
        report.foreign = error.foreign if isinstance(error, ForeignFileError) else None
        if report.foreign is None and not where.is_dir():
            report.findings = list(dict.fromkeys(_pickled(where)))
    return report


# --- what it would take to run it -----------------------------------------------------------------------------------


def needs(network: Network) -> list[Finding]:
    """List what running the model would execute, import or open that is neither Keras' nor PyTorch's own.

    >>> import cnnlens.sample
    >>> needs(cnnlens.open(cnnlens.sample.MODEL))
    []
    """
    config: Any = getattr(network.source, "config", None)
    is_config = isinstance(config, dict)
    found = _of_config(cast("dict[str, Any]", config)) if is_config else _pickled(network.source.path)
    return list(dict.fromkeys((*found, *_operators(network))))


def needs_line(found: list[Finding]) -> str:
    """Say in one line what ``needs`` found; empty where that is nothing."""
    if not found:
        return ""
    shown = [one.what + (f" ('{printable(one.where, 40)}')" if one.where else "") for one in found[:2]]
    more = f" and {len(found) - 2} more (cnnlens verify lists them)" if len(found) > 2 else ""
    return "safe to view, not to run: it holds or names " + ", ".join(shown) + more


_KERAS = ("keras", "tf_keras", "tensorflow", "keras_hub", "keras_cv", "keras_nlp")
# Where Keras has functions that compute: those of its other modules fetch files and change settings.
_FUNCTIONS = tuple(
    f"{top}{home}"
    for top in ("keras.", "keras.src.", "tf_keras.", "tf_keras.src.")
    for home in ("activations", "ops", "losses", "metrics", "initializers", "regularizers", "constraints")
)
# What TensorFlow's functions may do besides computing, by the beginning of their public names.
_ACTING = re.compile(
    r"(tf\.|compat\.v1\.)?(io|raw_ops|data|saved_model|train|distribute|experimental|config|summary)\.|.*py_func"
)
_ACTING_NODES = re.compile(r".*(PyFunc|File|Save|Restore|Summary|Dataset|Iterator|Print)")
_PLAIN = frozenset(("slice", "dict", "list", "set", "tuple", "int", "float", "str", "bool", "NoneType"))
# Keras' own, now or once, that are no layers with a row in the table of kinds.
_OTHERS = frozenset((
    "Sequential", "Functional", "Model", "Layer", "Wrapper", "Pipeline", "DenseFeatures", "Merge",
    "Highway", "MaxoutDense", "RandomHeight", "RandomWidth", "CategoryCrossing", "LSTMV1", "GRUV1", "ConvLSTM2DCell",
    "BatchNormalizationV1",
))  # fmt: skip
# Kinds of the table that are of a package beside Keras.
_BESIDE = frozenset(("QuantizeAnnotate", "QuantizeWrapper", "QuantizeWrapperV2", "QuantizeLayer"))
_FOREIGN_CODE = {
    "TorchModuleWrapper": "a pickled PyTorch module",
    "JaxLayer": "functions of JAX",
    "FlaxLayer": "a module of Flax",
}
_BYTECODE = "Python bytecode"


def _of_config(config: Mapping[str, Any]) -> Iterator[Finding]:
    """What a config names, wherever in it: a class, a function or code stands in an entry with a ``class_name``."""
    pending: list[tuple[Any, str, bool, bool]] = [(config, "", True, False)]  # value, layer, is a layer, for training
    while pending:
        value, where, is_layer, training = pending.pop()
        if isinstance(value, list):
            pending += [(item, where, is_layer, training) for item in reversed(cast("list[Any]", value))]
            continue
        if not isinstance(value, dict):
            continue
        entry = cast("dict[str, Any]", value)
        body: Any = entry.get("config")
        if isinstance(entry.get("class_name"), str):
            name = cast("dict[str, Any]", body).get("name") if isinstance(body, dict) else None
            where = name if is_layer and isinstance(name, str) else where
            yield from _of_entry(entry, where, is_layer, training)
            if is_layer and isinstance(body, dict):
                yield from _of_layer(str(entry["class_name"]), cast("dict[str, Any]", body), where)
        inside = {
            key: key in ("layers", "layer", "forward_layer", "backward_layer", "cell", "cells", "config")
            and (key != "config" or "class_name" not in entry)
            for key in entry
        }
        for key in reversed(entry):
            pending.append((entry[key], where, inside[key], training or key == "compile_config"))


def _of_entry(entry: Mapping[str, Any], where: str, is_layer: bool, training: bool) -> Iterator[Finding]:
    kind, body = str(entry["class_name"]), entry.get("config")
    module, registered = entry.get("module"), text(entry.get("registered_name"))
    root = module.partition(".")[0] if isinstance(module, str) else ""
    if kind == "__lambda__":
        yield Finding("code", where, _BYTECODE)
    elif kind.startswith("__"):
        return
    elif kind == "function":
        plain = training or _is_activation(body)
        own = plain if root in ("", "builtins") else str(module).startswith(_FUNCTIONS)
        if not own:
            yield Finding("code", where, f"the function {_dotted(module, body)}")
    elif root and root not in _KERAS and not (root == "builtins" and kind in _PLAIN):
        yield Finding("code", where, f"the class {_dotted(module, kind)}")
    elif ">" in registered + kind and root not in _KERAS:
        yield Finding("code", where, f"the registered class {printable(registered or kind, 100)}")
    elif (
        is_layer
        and not root
        and (kind in _BESIDE or (kind not in _OTHERS and kind not in CELLS and kind_of(kind) is UNKNOWN))
    ):
        yield Finding("code", where, f"the class {printable(kind, 100)}, none of Keras'")


def _operation(config: Mapping[str, Any]) -> str:
    """What a node of TensorFlow's graph is; empty where that cannot be read."""
    node: Any = config.get("node_def")
    try:
        return text(mapping(decode("", "node_def", node) if isinstance(node, str) else node).get("op"))
    except FileRefusedError:
        return ""


def _of_layer(kind: str, config: Mapping[str, Any], where: str) -> Iterator[Finding]:
    """What a layer's own settings name: functions by the keys of Keras 2, paths, activations by name."""
    if kind == "Lambda":
        for key in ("function", "output_shape", "mask"):
            function = config.get(key)
            if isinstance(function, list) and (key == "function" or config.get(f"{key}_type") == "lambda"):
                yield Finding("code", where, _BYTECODE)
            elif isinstance(function, str) and key == "function":
                yield Finding("code", where, f"the function {_dotted(config.get('module'), function)}")
    if kind == "TFOpLambda" and _ACTING.match(text(config.get("function"))):
        yield Finding("code", where, f"TensorFlow's function {printable(config['function'], 100)}")
    if kind == "TensorFlowOpLayer" and _ACTING_NODES.match(_operation(config)):
        yield Finding("code", where, f"TensorFlow's operation {printable(_operation(config), 100)}")
    if kind in _FOREIGN_CODE:
        yield Finding("code", where, _FOREIGN_CODE[kind])
    for key in ("filepath", "vocabulary", "vocabulary_file", "idf_weights"):
        path = config.get(key)
        if isinstance(path, str) and path:
            what = "the TensorFlow SavedModel in" if kind == "TFSMLayer" else "the file"
            yield Finding("file", where, f"{what} {printable(path, 100)}")
    for key in ("activation", "recurrent_activation"):
        name = config.get(key)
        if isinstance(name, str) and not _is_activation(name):
            yield Finding("code", where, f"the activation {printable(name, 100)}, none of Keras'")


def _is_activation(name: Any) -> bool:
    known = isinstance(name, str) and (activation_named(name) in ACTIVATIONS or kind_of(name) is not UNKNOWN)
    return known or name == "linear"


def _dotted(module: Any, name: Any) -> str:
    prefix = f"{module}." if isinstance(module, str) and module not in ("", "builtins") else ""
    return printable(f"{prefix}{name if isinstance(name, str) else '?'}", 120)


# --- operators and pickles

_NAMESPACES = frozenset(("aten", "prims", "prim", "higher_order", "quantized", "quantized_decomposed", "_operator"))


def _operators(network: Network) -> Iterator[Finding]:
    """The operators of an exported program that are some library's and not PyTorch's own."""
    for layer in network.layers:
        namespace = layer.module.removeprefix("torch.ops.")
        if namespace != layer.module and namespace not in _NAMESPACES:
            yield Finding("code", layer.name, f"the operator {printable(f'{namespace}.{layer.kind}', 120)}")


_FRAMEWORK = ("torch.nn.modules.", "torch.nn.parameter.", "torch.optim.", "torch.ao.nn.", "torch.nn.quantized.")
# Activations that modules keep, each a function that computes and nothing else.
_COMPUTING = re.compile(r"torch\.(nn\.functional|_C\._nn|special)\.[a-z0-9_]+")
_DATA = frozenset((
    "argparse.Namespace", "types.SimpleNamespace", "datetime.datetime", "datetime.timedelta", "datetime.date",
    "copyreg._reconstructor", "builtins.object", "builtins.slice", "builtins.range", "_codecs.encode",
    "pathlib.PosixPath", "pathlib.WindowsPath", "pathlib.PurePosixPath", "pathlib._local.PosixPath", "numpy.ndarray",
    "numpy.random._pickle.__randomstate_ctor", "torch.ScriptObject",
))  # fmt: skip
"""Names that carry data, or layers that PyTorch has itself: unpickling them runs nobody's own code."""


def _pickled(path: Path) -> Iterator[Finding]:
    """What the pickles of a file name that is neither PyTorch's nor plain data."""
    for place, data, start in _pickles(path):
        names, end = pickled_names(data, start)
        for full in names:
            full = full.replace("__builtin__.", "builtins.").replace("copy_reg.", "copyreg.")
            if full.startswith("__torch__."):
                yield Finding("code", "", "a TorchScript program, whose code is in the file")
                continue
            plain = full in CALLS or full in CONSTANTS or full in _DATA
            if plain or full.startswith(_FRAMEWORK) or _COMPUTING.fullmatch(full):
                continue
            last = full.rpartition(".")[2]
            sort = "" if full == UNTOLD else "the class " if last[:1].isupper() else "the function "
            yield Finding("code", place, f"{sort}{printable(full, 120)}")
        if end is None:
            yield Finding("bytes", place, "a pickle that is damaged or too long to be followed to its end")


def _pickles(path: Path) -> Iterator[tuple[str, memoryview, int]]:
    try:
        data = open_file(path)
        kind = sniff(path, data)
        if kind == "zip":
            members = open_archive(path, data)
            for name in members:
                if name.endswith(".pkl"):
                    yield name, members[name].data, 0
    except CnnlensError:
        return  # said by whoever opens it
    if kind == "pickle":
        at: int | None = 0
        for _ in range(5):  # as many as torch.save wrote in a row, before 1.6
            yield "pickle", data, at
            at = pickled_names(data, at)[1]
            if at is None or at >= len(data) or data[at] != 0x80:
                return


# --- numbers, arrays, bytes -----------------------------------------------------------------------------------------


def _numbers(network: Network) -> Iterator[Finding]:
    """Which arrays hold NaN or infinity, and in which channels."""
    seen: set[int] = set()
    for layer in network.layers:
        for weight in layer.stored.values():
            if id(weight.stored) in seen:
                continue
            seen.add(id(weight.stored))
            stats = weight.stats()
            if stats.finite < stats.count:
                counts = ((stats.nan, "NaN"), (stats.posinf, "inf"), (stats.neginf, "-inf"))
                kinds = ", ".join(f"{count:,} {name}" for count, name in counts if count)
                what = f"{stats.count - stats.finite:,} of {stats.count:,} are not finite ({kinds}){_channels(weight)}"
                yield Finding("numbers", f"{layer.name}.{weight.name}", what)


def _channels(weight: Weight) -> str:
    array = weight.canonical()
    if weight.canonical_axes[:1] != "O" or array.ndim < 1:
        return ""
    bad = np.flatnonzero(~np.isfinite(array).reshape(len(array), -1).all(axis=1))
    shown = ", ".join(str(one) for one in bad[:6]) + (f" and {len(bad) - 6} more" if len(bad) > 6 else "")
    return f", in output channel{'s' if len(bad) > 1 else ''} {shown} of {len(array)}"


def _arrays(source: Any) -> Iterator[Finding]:
    unmatched: Mapping[str, Any] = getattr(source, "unmatched", None) or {}
    if unmatched:
        names = ", ".join(printable(name, 60) for name in list(unmatched)[:3])
        more = f" and {len(unmatched) - 3} more" if len(unmatched) > 3 else ""
        what = "an array belongs" if len(unmatched) == 1 else f"{len(unmatched)} arrays belong"
        yield Finding("arrays", "", f"{what} to no layer of the config: {names}{more}")


def _bytes(path: Path) -> Iterator[Finding]:
    """Bytes that belong to nothing, where the format lets that be told: safetensors files with some are refused."""
    data = open_file(path)
    kind = sniff(path, data)
    if kind == "zip":
        strays = open_archive(path, data).strays()
        if strays:
            yield Finding("bytes", "", f"{human_bytes(strays)} of the archive belong to none of its members")
    elif kind == "hdf5":
        end = stated_end(data)
        if end is not None and end < len(data):
            yield Finding("bytes", "", f"{human_bytes(len(data) - end)} behind the end that the file states")


def _written_by(path: Path, source: Any) -> str:
    """What wrote the file, as far as it says so."""
    if source.framework == "torch":
        version = printable(getattr(source, "torch_version", ""), 40)
        return (
            "" if source.format == "safetensors" else f"PyTorch {version}" if version else "PyTorch, version not stated"
        )
    date = ""
    if source.format == "keras":
        members = open_archive(path, open_file(path))
        if "metadata.json" in members:
            saved = text(decode(path, "metadata.json", bytes(members["metadata.json"].data)).get("date_saved"))
            date = f", {printable(saved.partition('@')[0], 20)}" if saved else ""
    version = source.keras_version
    return (f"Keras {printable(version, 20)}" if version else "Keras, version not stated") + date
