"""What a person gets who does not know the commands: examples that run, the nearest name, completion in the shell."""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cnnlens import sample
from cnnlens.cli.main import main, parser_of_all

COMMANDS = tuple(
    name
    for action in parser_of_all()._actions
    if isinstance(action, argparse._SubParsersAction)
    for name in action.choices
)
# They start a framework, or ask each for its devices.
SLOW = (
    "backends --devices",
    "bench ",
    "atlas AveragePooling2D",
    "check MODEL",
    "convert ",
    "record ",
    "diff MODEL MODEL --inputs",
)

DRAWS = ("demo", "layouts", "lesson", "report", "stats")  # figures and pages, which takes a second or more


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def examples(capsys: pytest.CaptureFixture[str], *command: str) -> list[str]:
    with pytest.raises(SystemExit):
        main([*command, "--help"])
    text = capsys.readouterr().out
    return [line.strip() for line in text.partition("\nexamples:\n")[2].splitlines()]


def is_slow(line: str) -> bool:
    return line.replace(str(sample.MODEL), "MODEL").removeprefix("cnnlens ").startswith(SLOW)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_ends_with_two_examples_of_the_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    lines = examples(capsys, command)
    assert len(lines) == 2
    for line in lines:
        assert line.startswith(f"cnnlens {command}")
        parser_of_all().parse_args(shlex.split(line)[1:])


@pytest.mark.parametrize(
    "command", [pytest.param(one, marks=pytest.mark.slow) if one in DRAWS else one for one in COMMANDS]
)
def test_the_examples_run_as_they_stand(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    for line in examples(capsys, command):
        if not is_slow(line):
            assert main(shlex.split(line)[1:]) == 0, line
            assert capsys.readouterr().err == ""


@pytest.mark.framework
@pytest.mark.parametrize("command", ["backends", "bench", "check", "convert", "record", "diff"])
def test_the_examples_that_start_a_framework_run_as_they_stand(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("keras")
    for line in filter(is_slow, examples(capsys, command)):
        shorter = re.sub(r"--seconds \d+", "--seconds 0.3", line)  # a bench of five backends
        assert main(shlex.split(shorter)[1:]) == 0, (line, capsys.readouterr())


def test_an_example_quotes_a_path_with_a_space(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = Path("a folder") / sample.MODEL.name
    place.parent.mkdir()
    shutil.copyfile(sample.MODEL, place)
    monkeypatch.setattr(sample, "MODEL", place.absolute())
    line = examples(capsys, "summary")[0]
    assert line == f"cnnlens summary 'a folder/{place.name}'"  # from here, which is shorter
    assert main(shlex.split(line)[1:]) == 0


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("sumary", "cnnlens: there is no command 'sumary'; did you mean 'summary'?; see 'cnnlens --help'"),
        ("--vresion", "cnnlens: there is no option '--vresion'; did you mean '--version'"),
        ("summary --jsn", "cnnlens summary: there is no option '--jsn'; did you mean '--json'?; see 'cnnlens summary"),
        ("maps MODEL --imgae a.png", "cnnlens maps: there is no option '--imgae'; did you mean '--image'"),
        ("maps MODEL --image a.png -z 3", "cnnlens maps: '-z', '3' were not expected; see 'cnnlens maps --help'"),
        ("summary MODEL other", "cnnlens summary: 'other' was not expected; see 'cnnlens summary --help'"),
        ("export MODEL --layout torhc", "cnnlens export: --layout: 'torhc' is none of its values; did you mean"),
        ("layouts --from torhc --to keras Conv2D", "did you mean 'torch'"),
        ("check MODEL --backends kers-jax", "did you mean 'keras-jax'"),
        ("kernels MODEL --layer conv2", "did you mean 'conv2d'"),
        ("layouts Conv2", "or 'Conv2D'"),
    ],
)  # fmt: skip
def test_what_is_misspelt_is_answered_with_the_nearest(
    arguments: str, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(shlex.split(arguments.replace("MODEL", str(sample.MODEL)))) == 2
    said = capsys.readouterr()
    assert line in said.err
    assert (said.out, said.err.count("\n")) == ("", 1)


@pytest.mark.parametrize(
    "command", ["A" * 10_000, "summary --A" + "A" * 10_000, "summary " + "A" * 10_000, "summary \x1b[31m"]
)
def test_a_name_without_end_or_sense_is_one_short_line(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command.split(" ")) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert len(said.err) < 800
    assert "\x1b" not in said.err


# -- completion --------------------------------------------------------------------------------------------------------


def completed(script: Path, *words: str) -> set[str]:
    """What bash offers behind these words."""
    line = " ".join(shlex.quote(word) for word in words)
    text = (
        f"source {shlex.quote(str(script))}; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; COMP_LINE='{line}'; "
        '_shtab_cnnlens; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", text], capture_output=True, text=True, check=False)
    return set(done.stdout.split())


@pytest.fixture
def script(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Path:
    pytest.importorskip("shtab")
    with pytest.raises(SystemExit) as stop:
        main(["--print-completion", "bash"])
    assert not stop.value.code
    path = tmp_path / "completion.bash"
    path.write_text(capsys.readouterr().out, encoding="utf-8")
    return path


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_commands_options_values_and_files(script: Path) -> None:
    Path("shoes.keras").touch()
    assert completed(script, "cnnlens", "") >= {*COMMANDS}
    assert completed(script, "cnnlens", "su") == {"summary"}
    assert completed(script, "cnnlens", "kernels", "--ch") == {"--channel", "--channels"}
    assert completed(script, "cnnlens", "summary", "sh") == {"shoes.keras"}
    assert completed(script, "cnnlens", "maps", "--image", "sh") == {"shoes.keras"}
    assert completed(script, "cnnlens", "export", "--layout", "t") == {"torch"}
    assert completed(script, "cnnlens", "layouts", "--from", "") == {"keras", "torch", "flax", "onnx", "tflite"}
    assert completed(script, "cnnlens", "convert", "--to", "") == {"keras", "torch"}


def test_zsh_gets_a_script_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("shtab")
    with pytest.raises(SystemExit):
        main(["--print-completion", "zsh"])
    text = capsys.readouterr().out
    assert text.startswith("#compdef cnnlens")
    assert all(f'"{command}"' in text or f"{command}:" in text for command in COMMANDS)


def test_completion_without_shtab_names_what_installs_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["--print-completion", "bash"]) == 2
    assert 'pip install "shtab>=1.7"' in capsys.readouterr().err
    assert main(["--print-completion", "fish"]) == 2
    assert "bash or zsh was expected" in capsys.readouterr().err
