"""What the system is asked for while files are looked into that try to run, open and fetch: nothing but the file."""

from __future__ import annotations

import base64
import json
import marshal
import os
import pickle
import re
import shutil
import site
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import ROOT
from tests.support import files_torch_hostile_makers as torch_makers
from tests.support.files_hostile_makers import DENSE, MAKERS, Maker, archive, keras_members
from tests.support.files_torch_hostile_makers import FORWARD, Payload, alone, mapping, module, script, state, zipped

pytestmark = pytest.mark.slow

# What the start of Python, its libraries and the drawing of pictures read.
_READ = (sys.prefix, sys.base_prefix, str(ROOT / "cnnlens"), str(ROOT / "backends"), *site.getsitepackages(),
         "/proc/", "/sys/", "/lib", "/usr/lib", "/usr/local/lib", "/usr/share/fonts", "/usr/share/locale",
         "/etc/ld.so.cache", "/etc/localtime", "/dev/null", "/dev/urandom")  # fmt: skip
_CALL = re.compile(r"^\d+ +(\w+)\((.*)$")
_TRACED = "execve,execveat,open,openat,openat2,creat,connect,socket,unlink,unlinkat,rename,renameat,renameat2,mkdir"
_RUN = """
import json, sys
from cnnlens.cli.main import main
for arguments in json.loads(sys.argv[1]):
    main(arguments)
"""


def strace() -> list[str]:
    """The command in front of the one to watch; skips where there is none, or where it may not trace."""
    found = shutil.which("strace")
    if found is None:
        pytest.skip("strace is not installed")
    command = [found, "-f", "-qq", "-s", "4096", "-e", f"trace={_TRACED}", "-e", "signal=none"]
    if subprocess.run([*command, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this process may trace no other")
    return command


def foreign(log: Path, own: tuple[str, ...], cwd: Path) -> list[str]:
    """The calls that do more than start Python and read it, ``own`` files and what shows nothing of anybody's."""
    found: list[str] = []
    starts = 0
    for line in log.read_text(errors="replace").splitlines():
        call = _CALL.match(line)
        if call is None:
            continue
        name, arguments = call[1], call[2]
        if name.startswith("exec"):
            starts += 1
            if starts > 1:
                found.append(line)
        elif name.startswith(("open", "creat")):
            path = re.search(r'"((?:[^"\\]|\\.)*)"', arguments)
            where = os.path.normpath(cwd / path[1].encode().decode("unicode_escape")) if path else "?"
            is_search = where in sys.path and "O_DIRECTORY" in arguments  # for modules
            writes = re.search("O_WRONLY|O_RDWR|O_CREAT", arguments) and not where.startswith("/dev/")
            if not is_search and not where.startswith(own if writes else (*_READ, *own)):
                found.append(line)
        elif not all(
            any(part.startswith(one) for one in own) for part in re.findall(r'"(/[^"]*)"', arguments) or ["?"]
        ):
            found.append(line)
    return found


def traced(arguments: list[list[str]], own: tuple[str, ...], cwd: Path, environment: dict[str, str]) -> list[str]:
    """Run commands in one watched process; what it did that it should not."""
    command = [sys.executable, "-c", _RUN, json.dumps(arguments)]
    log = cwd / "strace.log"
    done = subprocess.run(
        [*strace(), "-o", str(log), *command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return foreign(log, own, cwd)


# -- files that try --------------------------------------------------------------------------------------------------


def _with_layer(entry: dict[str, Any]) -> Maker:
    """A `.keras` with a layer more."""
    layers = [*DENSE["config"]["layers"], entry]  # type: ignore[index]
    config = {**DENSE, "config": {**DENSE["config"], "layers": layers}}  # type: ignore[dict-item]
    return lambda folder: archive(folder / "x.keras", keras_members(config=json.dumps(config).encode()))


def _bytecode(folder: Path) -> Path:
    code = compile(f"lambda x: open({str(folder / 'canary')!r}, 'w')", "<lambda>", "eval").co_consts[0]
    text = base64.b64encode(marshal.dumps(code)).decode()
    body = {"code": text, "defaults": None, "closure": None}
    function = {"class_name": "__lambda__", "config": body}
    return _with_layer({"class_name": "Lambda", "config": {"name": "run", "function": function}})(folder)


def _names(key: str, kind: str) -> Maker:
    """A layer that names a file which is there."""

    def make(folder: Path) -> Path:
        (folder / "secret").write_text("red\ngreen\n")
        return _with_layer({"class_name": kind, "config": {"name": "a", key: str(folder / "secret")}})(folder)

    return make


def _torch_wrapped(folder: Path) -> Path:
    text = base64.b64encode(pickle.dumps(Payload(folder), 2)).decode()
    return _with_layer({"class_name": "TorchModuleWrapper", "config": {"name": "a", "module": text}})(folder)


def _index(folder: Path) -> Path:
    (folder / "secret.safetensors").write_bytes(
        torch_makers.safetensors(folder, {"a": torch_makers.entry()}).read_bytes()
    )
    listed = {"weight_map": {"a": f"{folder}/secret.safetensors", "b": "../x"}}
    (folder / "m.safetensors.index.json").write_text(json.dumps(listed))
    return folder / "m.safetensors.index.json"


def _code(folder: Path) -> Path:
    lines = (f'y = open("{folder}/secret", "w")', "z = ops.mine.evil(x)", "import os", "return torch.relu(x)")
    return script(FORWARD + "".join(f"    {line}\n" for line in lines))(folder)


def _climbing(folder: Path) -> Path:
    return archive(folder / "a.zip", {"../secret.pt": b"x", "/etc/passwd": b"y"})


TRY: dict[str, Callable[[Path], Path]] = {
    "bytecode": _bytecode,
    "a SavedModel": _names("filepath", "TFSMLayer"),
    "a vocabulary": _names("vocabulary", "StringLookup"),
    "a wrapped module": _torch_wrapped,
    "shards elsewhere": _index,
    "code": _code,
    "a call in TorchScript's constants": lambda at: script(FORWARD, constants=pickle.dumps(Payload(at), 2))(at),
    "a call beside a module": lambda at: zipped(at, alone(
        mapping({"model": module(), "x": torch_makers.call("os", "system", torch_makers.command(at))})
    )),
    "a module of somebody's": lambda at: zipped(at, alone(module())),
    "names beside weights": lambda at: zipped(at, state(x=torch_makers.named("os", "system"))),
    "an honest model": lambda folder: archive(folder / "x.keras", keras_members(), zipfile.ZIP_DEFLATED),
    **{name: MAKERS[name] for name in (
        "external_link", "external_storage", "virtual_dataset", "soft_link_loop", "shard_elsewhere", "climbing_member",
        "absolute_member",
    )},
    **{name: torch_makers.MAKERS[name] for name in (
        "zip os.system", "legacy os.system by the stack", "zip eval", "zip torch.load", "zip numpy's loader",
        "plain_pickle_that_calls", "call_in_the_machine_description", "tar_with_a_call", "zip a climbing storage",
    )},
}  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Files by what they try, each in a folder of its own."""
    made: dict[str, str] = {}
    for name, maker in TRY.items():
        folder = tmp_path_factory.mktemp("try")
        made[name] = str(maker(folder))
    made["a climbing member of an archive"] = f"{_climbing(tmp_path_factory.mktemp('try'))}::../secret.pt"
    return made


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment whose cache of fonts is filled: to fill it takes a program of the system's."""
    where = str(tmp_path_factory.mktemp("fonts"))
    environment = {
        **os.environ,
        "LC_ALL": "C.UTF-8",
        "MPLCONFIGDIR": where,
        "PYTHONDONTWRITEBYTECODE": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    fill = "import matplotlib.font_manager, cnnlens.plot.of_models"
    subprocess.run([sys.executable, "-c", fill], env=environment, check=True, capture_output=True)
    return environment


@pytest.mark.parametrize("command", ["summary", "verify", "kernels", "export"])
def test_nothing_is_run_opened_or_fetched(
    files: dict[str, str], environment: dict[str, str], tmp_path: Path, command: str
) -> None:
    out = {"kernels": "x.png", "export": "x.npz"}.get(command)
    calls = [
        [command, path, *(["-o", str(tmp_path / f"{at}{out}")] if out else [])]
        for at, path in enumerate(files.values())
    ]
    own = (*(path.partition("::")[0] for path in files.values()), environment["MPLCONFIGDIR"], str(tmp_path))
    assert traced(calls, own, tmp_path, environment) == []
    for path in files.values():
        assert not (Path(path.partition("::")[0]).parent / "canary").exists()
    assert out is None or list(tmp_path.glob(f"*{out}"))  # those that can be opened were


def test_what_the_trace_is_for_is_seen(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("x")
    other = str(tmp_path / "other")
    acts = f"import os, socket; os.system('true'); open({other!r}); socket.socket().connect_ex(('127.0.0.1', 9))"
    log = tmp_path / "strace.log"
    subprocess.run([*strace(), "-o", str(log), sys.executable, "-S", "-c", acts], check=True)
    found = " ".join(foreign(log, (), tmp_path))
    assert all(word in found for word in ("execve", other, "socket(", "connect("))
