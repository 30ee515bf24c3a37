"""A PyTorch model whose code is somebody's own: ``--arch package.module:factory``, beside a file of its weights.

A state dict has no graph; the code that builds its module has. Naming that code is the consent to run it, and it runs
in a process of its own, which exports the module; what comes back is read by the reader that reads every ``.pt2`` file.
The file of weights is read by our reader: PyTorch never sees it.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from cnnlens.errors import CnnlensError, in_one_line, refuse_without_posix
from cnnlens.text import printable

if TYPE_CHECKING:
    from cnnlens.network.graph import Extra
    from cnnlens.network.network import Network

__all__ = ["DTYPES", "InputShape", "names_code", "open_architecture"]

TIMEOUT = 600.0  # s; importing torch takes 2, exporting a ResNet-152 10
DTYPES = ("float32", "float64", "float16", "bfloat16", "int64", "int32", "uint8", "bool")
_FACTORY = r"\w+(\.\w+)*"
_NOISE = ("warning", "warn(", "  warnings.")


@dataclass(frozen=True)
class InputShape:
    """Describes one input of a module: its shape without the batch, and its dtype by name."""

    shape: tuple[int, ...]
    dtype: str = "float32"


class ArchitectureSource:
    """Where a network of ``--arch`` came from: the file of its weights, or the code alone.

    Attributes:
        path: The file of weights; where there is none, the factory as it was named.
        arch: The factory as it was named.
        format: Of the file of weights.
        also: What that file holds beside the weights; empty where there is none.
    """

    framework = "torch"
    keras_version = None

    def __init__(self, path: Path, arch: str, weights: Any, program: memoryview) -> None:
        self.path = path
        self.arch = arch
        self.format = "torch module" if weights is None else str(weights.format)
        self.size = len(program) if weights is None else int(weights.size)
        self.also: tuple[Extra, ...] = () if weights is None else weights.also
        self._weights = weights
        self._program = program

    @property
    def sha256(self) -> str:
        """Of the file of weights; of what was exported where there is none."""
        import hashlib

        return hashlib.sha256(self._program).hexdigest() if self._weights is None else str(self._weights.sha256)


@in_one_line()
def open_architecture(
    arch: str,
    state: str | os.PathLike[str] | None = None,
    example_shapes: Sequence[InputShape | Sequence[int]] | None = None,
    timeout: float = TIMEOUT,
    weights: str | None = None,
) -> Network:
    """Build a module with somebody's code, fill it from a file, and give its network.

    Args:
        arch: ``package.module:factory`` or ``path/to/file.py:factory``; a class, a function or a module that is there.
            Literal arguments may follow: ``models:resnet(classes=10)``. **This code is run**, in a process of its own.
        state: A state dict (``.pt``, ``.pth``, ``.safetensors``), read by our reader; None: the module as it is made.
        example_shapes: The shape of each input, without the batch; None takes the module's ``example_input_array``.
        timeout: Seconds that it may take.
        weights: Which set of weights, where the file has several.

    Raises:
        CnnlensError: the code cannot be run, gives no module, or one that the weights do not fit or that cannot be
            exported; one line.
    """
    from cnnlens import janitor

    module, factory, arguments = _parsed(arch)
    refuse_without_posix("--arch")
    held = None if state is None else _state(Path(state), weights)
    shapes = [one if isinstance(one, InputShape) else InputShape(tuple(one)) for one in example_shapes or ()]
    request = {
        "arch": arch,
        "module": module,
        "factory": factory,
        "arguments": arguments,
        "directory": os.getcwd(),
        "shapes": [{"shape": list(one.shape), "dtype": one.dtype} for one in shapes] or None,
    }
    with janitor.temporary_folder() as folder:
        if held is not None:
            _write_state(held, folder / "state.safetensors")
        try:
            (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
        except (TypeError, ValueError) as error:
            raise CnnlensError(f"{printable(arch, 200)}: its arguments must be plain ({printable(error)})") from None
        _run(arch, folder, timeout)
        data = memoryview((folder / "model.pt2").read_bytes())
    return _network(arch, factory, held, Path(state) if state is not None else None, data)


def _network(arch: str, factory: str, held: Any, state: Path | None, data: memoryview) -> Network:
    from cnnlens.files.limits import remarks
    from cnnlens.files.torch.program_archive import read_export
    from cnnlens.files.torch.program_network import torch_network

    path = state if state is not None else Path(arch)
    program, arrays, notes = read_export(path, data)
    kept = [note for note in (held.notes if held is not None else ()) if "no graph" not in note]
    source = ArchitectureSource(path, arch, held, data)
    name = state.stem if state is not None else factory.rpartition(".")[2]
    return torch_network(program, arrays, source, name, remarks([*kept, *notes]))


def names_code(text: str) -> bool:
    r"""Tell whether ``text`` is written as ``--arch`` takes code; ``C:\models\\a.keras`` and ``a.zip::b.pt`` are not.

    >>> names_code("models.py:Net(classes=10)"), names_code(r"C:\models\a.keras"), names_code("a.zip::b.pt")
    (True, False, False)
    """
    head = text.partition("(")[0]
    module, colon, factory = head.rpartition(":")
    return bool(colon and module and "::" not in head and re.fullmatch(_FACTORY, factory.strip()))


def _parsed(arch: str) -> tuple[str, str, dict[str, Any]]:
    """``module:factory(a=1)`` as the module, the factory and its arguments."""
    expected = (
        f"--arch '{printable(arch, 200)}': package.module:factory or file.py:factory was expected, where factory is a "
        "class or function, or a call of it with literal keyword arguments"
    )
    head, bracket, rest = arch.partition("(")
    module, colon, factory = head.rpartition(":")
    if not colon or not module or not re.fullmatch(_FACTORY, factory.strip()):
        raise CnnlensError(expected)
    arguments: dict[str, Any] = {}
    if bracket:
        try:
            call = ast.parse(f"f({rest}", mode="eval").body
            assert isinstance(call, ast.Call)
            if call.args or any(one.arg is None for one in call.keywords):
                raise CnnlensError(expected)
            arguments = {str(one.arg): ast.literal_eval(one.value) for one in call.keywords}
        except (SyntaxError, ValueError, AssertionError, RecursionError, MemoryError):
            raise CnnlensError(expected) from None
    return module.strip(), factory.strip(), arguments


# -- the weights -----------------------------------------------------------------------------------------------------


def _state(path: Path, weights: str | None) -> Any:
    """The arrays of a state dict by name, without the prefixes that its notes name."""
    from cnnlens.files.torch.opener import open_torch

    found = open_torch(path, weights)
    source = None if found is None else found.source
    if source is None or not hasattr(source, "arrays"):
        what = "it holds no weights of PyTorch" if found is None else "it holds its own graph"
        raise CnnlensError(
            f"{printable(path, 300)}: --arch is for a state dict of PyTorch, and {what}; leave --arch out"
        )
    return cast("Any", source)


def _write_state(held: Any, path: Path) -> None:
    import numpy as np
    from safetensors.numpy import save_file  # pyright: ignore[reportUnknownVariableType]

    # What torch keeps as bfloat16 is widened here, which is exact, and rounded back to the same numbers there.
    arrays = {name: np.asarray(stored.read(), order="C") for name, stored in held.arrays.items()}
    try:
        save_file(arrays, path)
    except OSError as error:
        raise CnnlensError(f"{printable(path, 300)}: the weights cannot be handed over ({error.strerror})") from None


# -- the process -----------------------------------------------------------------------------------------------------


def _run(arch: str, folder: Path, timeout: float) -> None:
    """Have ``model.pt2`` written into ``folder``."""
    code = _process(arch, folder, timeout)
    error = folder / "error.json"
    if error.exists():
        raise CnnlensError(printable(json.loads(error.read_text(encoding="utf-8"))["message"], 900))
    if code or not (folder / "model.pt2").exists():
        last = _last_words(folder / "log")
        ended = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        raise CnnlensError(
            f"{printable(arch, 200)}: the process that builds it {ended}"
            + (f"; the last it printed: {last}" if last else "")
        )


def _process(arch: str, folder: Path, timeout: float) -> int:
    """Run the exporting process to its end; its exit code."""
    from cnnlens import janitor

    shown = printable(arch, 200)
    try:
        with open(folder / "log", "wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-B", "-m", "cnnlens_backends.pytorch_export", str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, "PYTHONPATH": _path(folder), "PYTHONUTF8": "1", "TMPDIR": str(folder)},
                start_new_session=True,  # Ctrl-C at the terminal is for this process, which ends the other
            )
    except OSError as error:
        raise CnnlensError(f"{shown}: {printable(sys.executable, 200)} cannot be started ({error.strerror})") from None
    janitor.watch(process.pid)
    try:
        return process.wait(timeout)
    except subprocess.TimeoutExpired:
        raise CnnlensError(f"{shown}: building and exporting it took more than {timeout:g} s; it was ended") from None
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # with whatever it started
        process.wait()
        janitor.forget(process.pid)


def _path(folder: Path) -> str:
    """Where the process finds our packages, and nothing else of what is installed beside them."""
    packages = folder / "packages"
    packages.mkdir()
    for package in ("cnnlens", "cnnlens_backends"):
        spec = find_spec(package)
        if spec is not None and spec.submodule_search_locations:
            (packages / package).symlink_to(Path(next(iter(spec.submodule_search_locations))).absolute())
    paths = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    return os.pathsep.join([str(packages), *paths])


def _last_words(log: Path) -> str:
    with open(log, "rb") as stream:
        stream.seek(max(0, log.stat().st_size - 20_000))
        lines = stream.read().decode(errors="replace").splitlines()
    said = [line.strip() for line in lines if line.strip() and not any(word in line.lower() for word in _NOISE)]
    return printable(said[-1], 300) if said else ""
