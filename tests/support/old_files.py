"""Files that old versions wrote, walked through the commands: ``python -m tests.support.old_files`` prints
``docs/versions.md``.

``tests/data/old`` has an archive for each version, made by ``python -m benchmarks old-versions``: files, and in
``truth.npz`` what that version itself held and computed. A command works on a file where it gives just that: arrays bit
for bit, outputs within float32's rounding. Whatever else it gives is an ``AssertionError``; what it refuses stands in
its cell with the reason.
"""

from __future__ import annotations

import re
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import cnnlens
from cnnlens.cli.layers import layer_with_kernel
from cnnlens.conversion import to_keras, to_torch
from cnnlens.conversion.exporting import export
from cnnlens.errors import CnnlensError
from cnnlens.network import summary
from cnnlens.network.graph import Layer, without_graph
from cnnlens.network.network import Network
from cnnlens.opening.findings import examine, needs, needs_line
from cnnlens.plot import of_models
from cnnlens.text import printable
from tests.support import ROOT

Array = NDArray[Any]

FOLDER = ROOT / "tests" / "data" / "old"
PAGE = ROOT / "docs" / "versions.md"
ROUNDING = 3e-6  # of the largest output: a few float32 roundings of networks of ten layers

# Of a file's name: the model whose truth it has, and what it is called on the page.
FORMATS: Mapping[str, tuple[str, str]] = {
    "convolutions.h5": ("convolutions", "`.h5`"),
    "convolutions.keras": ("convolutions", "`.keras`"),
    "convolutions-weights.h5": ("convolutions", "weights alone, `.h5`"),
    "convolutions.weights.h5": ("convolutions", "weights alone, `.weights.h5`"),
    "recurrent.h5": ("recurrent", "`.h5` with an optimizer, recurrent"),
    "recurrent.keras": ("recurrent", "`.keras` with an optimizer, recurrent"),
    "arithmetic.h5": ("arithmetic", "`.h5`, arithmetic between layers"),
    "arithmetic.keras": ("arithmetic", "`.keras`, arithmetic between layers"),
    "state-zip.pt": ("sequential", "state dict, zip"),
    "state-legacy.pt": ("sequential", "state dict, without zip"),
    "sequential.pt": ("sequential", "whole `nn.Sequential`"),
    "detector.pt": ("detector", "whole module of an unknown class"),
    "checkpoint.pt": ("checkpoint", "checkpoint: model, ema, optimizer, epoch"),
    "quantised.pt": ("quantised", "state dict, quantised"),
    "traced.pt": ("detector", "TorchScript, traced"),
    "scripted.pt": ("detector", "TorchScript, scripted"),
    "exported.pt2": ("detector", "`.pt2`"),
}


@dataclass(frozen=True)
class Old:
    """Names one file of one version, ``keras-2.2.4`` or ``torch-1.4.0``."""

    version: str
    file: str

    @property
    def framework(self) -> str:
        return self.version.partition("-")[0]

    @property
    def model(self) -> str:
        return FORMATS[self.file][0]


def versions() -> list[str]:
    """Every version that wrote files, oldest first, Keras before PyTorch."""
    names = [path.name.removesuffix(".tar.xz") for path in FOLDER.glob("*.tar.xz")]
    return sorted(names, key=lambda name: (name.partition("-")[0], *map(int, name.partition("-")[2].split("."))))


def files() -> list[Old]:
    """Every file, in the order of the page: by format, and of each the oldest version first."""
    found: set[Old] = set()
    for version in versions():
        with tarfile.open(FOLDER / f"{version}.tar.xz") as archive:
            found |= {Old(version, name) for name in archive.getnames() if name != "truth.npz"}
    rank = {version: place for place, version in enumerate(versions())}
    order = list(FORMATS)
    return sorted(found, key=lambda one: (one.framework, order.index(one.file), rank[one.version]))


def unpack(folder: Path) -> Path:
    """Unpack every version's files below ``folder``."""
    for version in versions():
        with tarfile.open(FOLDER / f"{version}.tar.xz") as archive:
            archive.extractall(folder / version, filter="data")
    return folder


class Opened:
    """Holds one file as it was opened, beside what its own version says of it."""

    def __init__(self, old: Old, folder: Path, **how: Any) -> None:
        self.old = old
        self.path = folder / old.version / old.file
        self._how = how

    @cached_property
    def network(self) -> Network:
        return cnnlens.open(self.path, **self._how)

    @cached_property
    def truth(self) -> dict[str, Array]:
        """What the version says of the model, by the rest of the key."""
        with np.load(self.path.with_name("truth.npz")) as told:
            return {
                name.removeprefix(f"{self.old.model}/"): told[name]
                for name in told.files
                if name.startswith(f"{self.old.model}/")
            }

    @cached_property
    def arrays(self) -> dict[tuple[str, str], Array]:
        """The version's arrays by layer and name."""
        found: dict[tuple[str, str], Array] = {}
        for key, array in self.truth.items():
            if key.startswith("arrays/"):
                name = key.removeprefix("arrays/").replace("._packed_params._packed_params0", ".weight")
                name = name.replace("._packed_params._packed_params1", ".bias").replace("._packed_params.", ".")
                layer, _, own = name.rpartition("/" if self.old.framework == "keras" else ".")
                found[layer, _own(layer, own)] = array
        return found

    @cached_property
    def held(self) -> dict[tuple[str, str], Array]:
        """The arrays that cnnlens has of the file, by the same names."""
        found: dict[tuple[str, str], Array] = {}
        for layer in self.network.layers:
            for place, weight in enumerate(layer.stored.values()):
                if self.old.framework == "keras":
                    name = layer.name.rpartition("/")[2]
                    found[name, _own(name, f"{place}:{weight.name.rpartition('/')[2]}")] = weight.read()
                else:
                    found[layer.name, weight.name.replace("_packed_params.", "")] = weight.read()
        return found

    @cached_property
    def broken(self) -> bool:
        """Whether the version broke off while it wrote the file, which is said then."""
        return any("not written to its end" in note for note in self.network.notes)

    def behind_map(self, layer: Layer) -> bool:
        """Whether a layer is known to stand behind the flattened map, (2, 4, 12) in Keras' axes."""
        return bool(self.network.calls) and self.old.model == "convolutions" and layer.kind == "Dense"

    def assert_arrays(self, found: Mapping[tuple[str, str], Array]) -> None:
        assert self.broken or set(found) == set(self.arrays), set(found) ^ set(self.arrays)
        for name, wanted in self.arrays.items() if not self.broken else ():
            assert found[name].dtype == wanted.dtype, name
            assert found[name].shape == wanted.shape, name
            assert found[name].tobytes() == wanted.tobytes(), name


_KERNELS = ("kernel", "weight")


def _own(layer: str, name: str) -> str:
    """The name of an array: of a depthwise kernel Keras has two, which changed with its versions."""
    return name.replace("depthwise_kernel", "kernel") if "depthwise_conv" in layer else name


def canonical(kind: str, array: Array) -> Array:
    """A kernel of Keras in canonical axes, written down once more, without the table of layouts."""
    if kind == "DepthwiseConv2D":
        channels, times = array.shape[2:]
        return np.stack([array[:, :, of, one] for of in range(channels) for one in range(times)])[:, None]
    return array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T


# --- the commands ----------------------------------------------------------------------------------------------------


def _summary(one: Opened, _: Path) -> str:
    network = one.network
    one.assert_arrays(one.held)
    data = summary.as_json(network)
    table = str(summary.as_page(network, needs_line(needs(network))))
    assert data["model"]["parameters"] == sum(array.size for array in one.held.values())
    assert all(printable(layer.name, 40) in table for layer in network.layers)
    return "says that it is broken off" if one.broken else "works"


def _kernels(one: Opened, folder: Path) -> str:
    first = layer_with_kernel(one.network, None)
    kernels = {layer.name: layer.kernel for layer in one.network.layers if layer.kernel is not None}
    for layer in (one.network[name] for name in kernels):
        if layer.kind in ("LSTM", "Bidirectional", "SeparableConv2D"):
            continue  # several in one, whose arrays are in the summary
        name = layer.name.rpartition("/")[2]
        told = next(array for (owner, own), array in one.arrays.items() if owner == name and own.endswith(_KERNELS))
        wanted = canonical(layer.kind, told) if one.old.framework == "keras" else told
        if one.behind_map(layer):
            wanted = told.reshape(2, 4, 12, 5).transpose(3, 2, 0, 1).reshape(5, -1)
        assert np.array_equal(kernels[layer.name].array, wanted), layer.name
    _figure, facts = of_models.kernels(first)
    assert facts["layer"] == first.name
    return "works"


def _hist(one: Opened, folder: Path) -> str:
    layer = layer_with_kernel(one.network, None)
    _, facts = of_models.histogram(layer)
    name = layer.name.rpartition("/")[2]
    told = next(array for (owner, own), array in one.arrays.items() if owner == name and own.endswith(_KERNELS))
    assert np.isclose(facts["trained"]["mean"], told.mean(dtype=np.float64), rtol=1e-4, atol=1e-7)
    assert facts["trained"]["count"] == told.size
    assert np.isclose(facts["trained"]["max"], told.max(), rtol=1e-6)
    return "works"


def _maps(one: Opened, _: Path) -> str:
    network = one.network
    if not network.calls:
        raise without_graph(network)
    (output,) = (ref.name for ref in network.outputs)
    wanted = {key.removeprefix("maps/"): array for key, array in one.truth.items() if key.startswith("maps/")}
    keras = one.old.framework == "keras"
    found = network.run(one.truth["input"], layers=[*wanted, output], dtype="float32")
    for name, told in {**wanted, output: one.truth["output"]}.items():
        moved = np.moveaxis(told, -1, 1) if keras and told.ndim > 2 else told
        assert found[name].shape == moved.shape, name
        assert np.abs(found[name] - moved).max() <= ROUNDING * np.abs(moved).max(), name
    return "works"


def _verify(one: Opened, _: Path) -> str:
    report = examine(one.path)
    if report.refused:
        raise CnnlensError(report.refused)
    assert report.size == one.path.stat().st_size
    assert report.parameters == one.network.parameters
    assert len(report.sha256) == 64
    assert one.old.version.partition("-")[2] in report.written_by or "version not stated" in report.written_by
    assert one.broken or not [finding for finding in report.findings if finding.about != "code"], report.findings
    codes = list(dict.fromkeys(finding.what for finding in report.findings if finding.about == "code"))
    others = any(finding.about != "code" for finding in report.findings)
    return report.verdict + (f": {', '.join(codes)}" if codes else ", and what it lacks" if others else "")


def _export(one: Opened, folder: Path) -> str:
    path = folder / f"{one.old.version}-{one.old.file}.npz"
    written = export(one.network, path)
    with np.load(path) as arrays:
        found = [(array.layer, array.weight, arrays[array.name]) for array in written.arrays]
    assert [array.tobytes() for _, _, array in found] == [array.tobytes() for array in one.held.values()]
    return "works"


def _convert(one: Opened, folder: Path) -> str:
    network = one.network
    if not network.calls:
        raise without_graph(network)
    if one.old.framework == "keras":
        to_torch.program(network)  # run by torch in a test of its own
        return "works"
    path = folder / f"{one.old.version}-{one.old.file}.keras"
    to_keras.model(network).write(path)
    result = cnnlens.open(path)
    (given,), (output,) = result.inputs, result.outputs
    found = result.run({given.name: one.truth["input"]}, layers=[output.name], dtype="float32")[output.name]
    assert np.abs(found - one.truth["output"]).max() <= ROUNDING * np.abs(one.truth["output"]).max()
    return "works"


def _diff(one: Opened, folder: Path) -> str:
    found = cnnlens.diff(one.network, cnnlens.open(one.path))
    assert found.equal
    rows = {row.a for row in found.rows}
    assert all(any(str(row).startswith(layer.name) for row in rows) for layer in one.network.layers if layer.stored)
    return "works" if rows else "nothing to compare"


COMMANDS: Mapping[str, Callable[[Opened, Path], str]] = {
    "summary": _summary, "kernels": _kernels, "hist": _hist, "maps": _maps, "verify": _verify, "export": _export,
    "convert": _convert, "diff": _diff,
}  # fmt: skip


def cell(command: str, one: Opened, folder: Path) -> str:
    """What a command does with a file: ``works``, a verdict, or in brackets the reason why it refuses it."""
    try:
        return COMMANDS[command](one, folder)
    except CnnlensError as error:
        return f"({str(error).replace(f'{one.path}: ', '')})"


# --- the page --------------------------------------------------------------------------------------------------------

_INTRODUCTION = """# Versions

Printed by `python -m tests.support.old_files` from files that the named versions wrote: `python -m benchmarks
old-versions` makes an environment for each, has it write its files, and keeps them in `tests/data/old` beside what that
version held and computed. "Works" says that a command gave just that: arrays bit for bit, feature maps and outputs
within float32's rounding ({rounding:g} of the largest). `tests/files/test_old_files.py` holds every cell.

The models are small and every axis has another size. Keras': a convolution with batch norm and two branches, a
depthwise and a separable convolution, joined; an LSTM and a GRU in both directions, with an optimizer that was used;
and arithmetic in front of a convolution. PyTorch's: an `nn.Sequential` with a grouped convolution, and a module with
residual blocks and joined branches whose classes exist nowhere but where it was saved.

- **summary**: every layer, array and count.
- **kernels**: those of convolutions, depthwise and dense layers are the version's, turned to canonical axes by hand
  (separable and recurrent layers have several, which summary compares as stored); the first is drawn.
- **hist**: the numbers of the first kernel are the version's.
- **maps**: what every convolution gives, and the output.
- **verify**: the verdict; "safe to view" where running it would run code that the file names or carries.
- **export**: an `.npz` with every array as it is stored.
- **convert**: to the other framework. What is made for Keras gives the version's output in the reference, what is made
  for PyTorch gives it in today's PyTorch (a test of its own).
- **diff**: with itself, equal.

"No" is a refusal of one line, and its number is that of the reason below. Where maps says no and summary works, the
file is shown and not computed. What is refused of weights alone and of a Lambda works with `--config` of the whole
model and `--lambda`; PyTorch's checkpoint opens with `--weights ema` too. Keras 3.0 breaks off while it writes a GRU in
both directions to `.h5`, and leaves a part of the file.

Not tried: Keras 1, Keras' backends but TensorFlow, SavedModel folders (refused: see [what is
refused](limitations.md)), PyTorch before 1.4 and its tar archives, files from Windows and macOS, GPUs, quantised models
of Keras, and packed parameters in TorchScript.
"""


def page(cells: Mapping[Old, Mapping[str, str]]) -> str:
    """The whole of ``docs/versions.md``."""
    reasons: dict[str, int] = {}

    def shown(said: str) -> str:
        if not said.startswith("("):
            return said.replace("|", "/")
        number = reasons.setdefault(said[1:-1], len(reasons) + 1)
        return f"no ({number})"

    lines = [*_INTRODUCTION.format(rounding=ROUNDING).splitlines()]
    titles = {"keras": "Keras", "torch": "PyTorch"}
    above = ("", "")
    for old, found in cells.items():
        title = FORMATS[old.file][1]
        if old.framework != above[0]:
            lines += ["", f"## {titles[old.framework]}", "", _line("file", "version", *COMMANDS)]
            lines += [_line(*["---"] * (2 + len(COMMANDS)))]
        version = old.version.partition("-")[2]
        lines.append(_line(title, version, *(shown(found[command]) for command in COMMANDS)))
        above = (old.framework, old.file)
    lines += ["", "## Why not", ""]
    lines += [f"{number}. {reason}" for reason, number in reasons.items()]
    return "\n".join(lines) + "\n"


def _line(*parts: str) -> str:
    return f"| {' | '.join(parts)} |"


def kept() -> dict[Old, dict[str, str]]:
    """The cells of the page as it is committed."""
    text = PAGE.read_text(encoding="utf-8")
    reasons = dict(re.findall(r"^(\d+)\. (.*)$", text.partition("## Why not")[2], re.MULTILINE))
    titles = {title: file for file, (_, title) in FORMATS.items()}
    found: dict[Old, dict[str, str]] = {}
    framework = ""
    for line in text.splitlines():
        framework = {"## Keras": "keras", "## PyTorch": "torch"}.get(line, framework)
        parts = line.strip("| ").split(" | ")
        if framework and line.startswith("| ") and parts[0] in titles:
            said = [re.sub(r"^no \((\d+)\)$", lambda match: f"({reasons[match[1]]})", part) for part in parts[2:]]
            found[Old(f"{framework}-{parts[1]}", titles[parts[0]])] = dict(zip(COMMANDS, said, strict=True))
    return found


def walked(folder: Path) -> Iterator[tuple[Old, dict[str, str]]]:
    """Every file, and what each command does with it."""
    for old in files():
        one = Opened(old, folder)
        yield old, {command: cell(command, one, folder) for command in COMMANDS}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        print(page(dict(walked(unpack(Path(scratch))))), end="")
