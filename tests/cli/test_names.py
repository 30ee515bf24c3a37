"""Files that cnnlens names itself: every script stays, no model's picture replaces another's; any stdout will do."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import unicodedata
import zipfile
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cnnlens import sample
from cnnlens.cli.main import main
from cnnlens.output import file_name
from tests.support import ROOT

HOSTILE = ["CON", "nul.txt", "COM1", "..", ".hid", "-rf", "a/b\\c", "a\0b", "\u202egnp.exe", "x" * 9999, "신" * 500, ""]


@given(st.text())
@example("e\u0301")
def test_a_name_of_ours_is_a_name_on_every_file_system(text: str) -> None:
    name = file_name(text)
    assert 0 < len(name.encode("utf-8", "surrogatepass")) <= 201
    assert not set(name) & set('/\\:*?"<>|\0\n\t')
    assert name[0] not in ".-"
    assert name[-1] not in ". "
    assert name == file_name(unicodedata.normalize("NFD", text))
    assert all(unicodedata.category(char)[0] in "LNM" or char in "._-" for char in name)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_name_becomes_a_file_all_the_same(text: str, tmp_path: Path) -> None:
    name = file_name(text)
    assert name.split(".")[0].upper() not in {"CON", "NUL", "COM1"}
    (tmp_path / f"{name}-100.safetensors").touch()
    assert len(list(tmp_path.iterdir())) == 1


def test_long_names_that_differ_in_the_middle_stay_two() -> None:
    assert file_name("a" * 400 + "b" + "a" * 400) != file_name("a" * 400 + "c" + "a" * 400)
    assert file_name("x" * 400, "kernels").endswith("-kernels")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for place in ("모델.keras", "신발.keras", "one/net.keras", "two/net.keras", "net.v1.keras", "net.v2.keras"):
        Path(place).parent.mkdir(exist_ok=True)
        shutil.copyfile(sample.MODEL, place)
    return tmp_path


def drawn(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    assert main(arguments) == 0
    return [line.removeprefix("wrote ") for line in capsys.readouterr().out.splitlines() if line.startswith("wrote ")]


@pytest.mark.slow
@pytest.mark.usefixtures("folder")
def test_pictures_are_named_after_their_models_in_every_script(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("모델", "신발", "net.v1", "net.v2"):
        assert drawn(capsys, "kernels", f"{name}.keras") == [f"{name}-conv2d-kernels.png"]
    nfd = unicodedata.normalize("NFD", "모델.keras")  # as an older macOS hands it out
    shutil.copyfile(sample.MODEL, nfd)
    assert drawn(capsys, "kernels", nfd)[0].startswith("모델-conv2d-kernels")


@pytest.mark.slow
@pytest.mark.usefixtures("folder")
def test_no_picture_replaces_that_of_another_model(capsys: pytest.CaptureFixture[str]) -> None:
    first, second = "net-conv2d-hist.png", "net-conv2d-hist-2.png"
    assert drawn(capsys, "hist", "one/net.keras") == [first]
    before = Path(first).read_bytes()
    assert drawn(capsys, "hist", "two/net.keras") == [second]
    assert drawn(capsys, "hist", "two/net.keras", "--untrained") == [second]  # its own is made anew
    assert Path(first).read_bytes() == before
    assert drawn(capsys, "hist", "one/net.keras") == [first]
    Path("net-conv2d-kernels.png").write_text("mine")
    assert drawn(capsys, "kernels", "one/net.keras") == ["net-conv2d-kernels-2.png"]
    assert Path("net-conv2d-kernels.png").read_text() == "mine"
    assert drawn(capsys, "kernels", "two/net.keras", "-o", first) == [first]  # who names a file means it


@pytest.mark.slow
@pytest.mark.usefixtures("folder")
def test_layers_whose_names_become_one_get_a_picture_each(capsys: pytest.CaptureFixture[str]) -> None:
    with zipfile.ZipFile(sample.MODEL) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(parts["config.json"])
    names = iter(["a:b", "a_b"])
    for layer in config["config"]["layers"]:
        if layer["class_name"] == "Conv2D":
            layer["config"]["name"] = next(names)
    with zipfile.ZipFile("two.keras", "w") as archive:
        for name, data in {**parts, "config.json": json.dumps(config).encode()}.items():
            archive.writestr(name, data)
    image = str(sample.IMAGES / "9-ankle-boot.png")
    expected = ["two-a_b-maps.png", "two-a_b-maps-2.png"]
    assert drawn(capsys, "maps", "two.keras", "-i", image) == expected
    assert drawn(capsys, "maps", "two.keras", "-i", image) == expected
    assert drawn(capsys, "maps", "two.keras", "-i", image, "-o", "x.png") == ["x-a_b.png", "x-a_b-2.png"]


# Several commands in one process, `//` between them, and the code of each behind what it said on both streams.
_IN_TURN = """
import itertools, sys
from cnnlens.cli.main import main
for last, words in itertools.groupby(sys.argv[1:], lambda word: word == "//"):
    if not last:
        try:
            code = main(list(words))
        except SystemExit as end:
            code = int(end.code or 0)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            stream.buffer.write(b"\\0%d\\0" % code)
            stream.buffer.flush()
"""


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "C"])
def test_any_encoding_of_stdout_and_stderr_will_do(encoding: str, folder: Path) -> None:
    said = {"PYTHONIOENCODING": encoding} if encoding != "C" else {
        "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"
    }  # fmt: skip
    environment = {**os.environ, **said, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "backends")])}
    commands = [
        (["summary", "--help"], 0),
        (["--version"], 0),
        (["summary", "모델.keras"], 0),
        (["maps", "신발.keras", "-i", str(sample.IMAGES)], 0),
        (["kernels", "모델.keras", "--layer", "층"], 2),
        (["verify", "모델.keras", "없다.keras"], 2),
        (["요약"], 2),
    ]
    words = [word for arguments, _ in commands for word in (*arguments, "//")]
    done = subprocess.run(
        [sys.executable, "-c", _IN_TURN, *words], cwd=folder, env=environment, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    out, err = (said.split(b"\0") for said in (done.stdout, done.stderr))
    for place, (arguments, code) in enumerate(commands):
        assert int(out[2 * place + 1]) == code, (arguments, err)
        stdout, stderr = out[2 * place], err[2 * place]
        assert stdout or stderr, arguments
        assert b"Traceback" not in stderr
        if encoding == "ascii":
            assert stdout.isascii()
            assert stderr.isascii()
            assert b"??" not in stdout  # two names stay two
