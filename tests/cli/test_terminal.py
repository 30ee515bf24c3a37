"""What a file says reaches a terminal, a message or a picture as plain text, whichever way it takes.

No list of places: every string that a model, a recording or an input holds is replaced by one that a terminal would
obey, one at a time and all at once, and every command is run on the result.
"""

from __future__ import annotations

import io
import json
import pickle
import pickletools
import shutil
import struct
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from safetensors.numpy import save_file

import cnnlens
from cnnlens import sample
from cnnlens.cli.main import main
from cnnlens.cli.printing import output_text
from cnnlens.text import printable
from tests.support import files_torch_hostile_makers as torch_makers
from tests.support.hostile_text import (
    HOSTILE,
    IN_A_NAME,
    Change,
    Runner,
    assert_plain,
    changed_everywhere,
    instead,
    longer,
    mutants,
    run,
)

__all__ = ["run"]

IMAGE = str(sample.IMAGES / "9-ankle-boot.png")


def look(run: Runner, model: object, *, pictures: bool = True) -> None:
    """Every command that looks at one model."""
    run("summary", model)
    run("summary", model, "--json")
    run("verify", model)
    run("verify", model, "--json")
    run("diff", sample.MODEL, model)
    run("diff", model, sample.MODEL, "--inputs", "random", "--json")
    if not pictures:
        return
    run("maps", model, "-i", IMAGE)
    run("kernels", model, "--json", "-o", "kernels.png")
    run("kernels", model, "--layer", HOSTILE)
    run("hist", model, "--untrained")
    run("maps", model, "-i", IMAGE, "--layer", "1", "--kernel", "0", "--json")
    run("layouts", "--model", model, "--from", "keras", "--to", "torch", "-o", "layout.png")
    run("check", model, "--backends", "reference", "--json")
    run("check", model, "--backends", f"reference,{HOSTILE}", "-i", IMAGE)
    run("check", model, "--twin", sample.MODEL, "--backends", "reference")
    run("convert", model, "--to", HOSTILE)
    shutil.rmtree("run.zarr", ignore_errors=True)
    run("record", model, "-i", IMAGE, "--backend", "reference", "-o", "run.zarr")
    run("check", model, "run.zarr")


# -- Keras -----------------------------------------------------------------------------------------------------------


def members(model: Path = sample.MODEL) -> dict[str, bytes]:
    with zipfile.ZipFile(model) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def archived(path: Path, parts: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return path


def names_changed(config: Any) -> Any:
    """The names of layers alone, everywhere alike, so that the model stays a whole one."""
    names = {layer["config"]["name"] for layer in config["config"]["layers"]} | {config["config"]["name"]}
    return changed_everywhere(config, lambda text: longer(text) if text in names else text)


def hdf5_changed(data: bytes, change: Change) -> bytes:
    """The same HDF5 file with other names of groups and arrays, and other texts in attributes."""
    source, made = io.BytesIO(data), io.BytesIO()

    def named(text: str) -> bytes:
        return change(text).replace("\x00", "").replace("/", "|").encode("utf-8", "replace")

    def copied(old: Any, new: Any) -> None:
        for name, value in old.attrs.items():
            text = value.decode() if isinstance(value, bytes) else value
            new.attrs[name] = (
                change(text).replace("\x00", "").encode("utf-8", "replace") if isinstance(text, str) else value
            )
        for name, below in old.items():
            if isinstance(below, h5py.Group):
                copied(below, new.create_group(named(name)))
            else:
                new[named(name)] = below[()]

    with h5py.File(source) as old, h5py.File(made, "w") as new:
        copied(old, new)
    return made.getvalue()


@pytest.mark.slow
def test_a_model_whose_every_layer_is_named_so(run: Runner, tmp_path: Path) -> None:
    config = names_changed(json.loads(members()["config.json"]))
    path = archived(tmp_path / f"{IN_A_NAME}.keras", {**members(), "config.json": json.dumps(config).encode()})
    assert "x1b" in run("summary", path)
    look(run, path)
    assert run.codes.count(2) <= 6  # it is a whole model: what is refused is refused for another reason


@pytest.mark.slow
def test_every_string_of_a_keras_archive(run: Runner, tmp_path: Path) -> None:
    parts = members(sample.AVERAGE)  # of 22 kB, with each kind of string once
    for name in ("config.json", "metadata.json"):
        for number, mutant in enumerate(mutants(json.loads(parts[name]))):
            path = archived(tmp_path / "x.keras", {**parts, name: json.dumps(mutant).encode()})
            run("summary", path)
            if number % 8 == 0:
                run("check", path, "--backends", "reference")
    assert {0, 2} <= set(run.codes)


@pytest.mark.slow
def test_every_string_of_a_keras_archive_at_once(run: Runner, tmp_path: Path) -> None:
    parts = members()
    config = json.loads(parts["config.json"])
    for number, data in enumerate(
        [
            changed_everywhere(config, longer),
            changed_everywhere(config, instead, keys=True),
            changed_everywhere(config, lambda text: longer(text) if text not in ("Sequential", "keras") else text),
        ]
    ):
        path = archived(tmp_path / f"{number}.keras", {**parts, "config.json": json.dumps(data).encode()})
        look(run, path)
    weights = hdf5_changed(parts["model.weights.h5"], longer)
    look(run, archived(tmp_path / "h5.keras", {**parts, "model.weights.h5": weights}), pictures=False)
    (tmp_path / "x.weights.h5").write_bytes(weights)
    look(run, tmp_path / "x.weights.h5", pictures=False)
    run("summary", archived(tmp_path / "m.keras", {HOSTILE: b"x", **{longer(n)[:60]: d for n, d in parts.items()}}))


@pytest.mark.parametrize("part", ["config", "weights"])
def test_a_legacy_file(run: Runner, tmp_path: Path, part: str) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        config = json.loads(members()["config.json"])
        file.attrs["model_config"] = json.dumps(names_changed(config) if part == "config" else config)
        for layer in config["config"]["layers"]:
            name = layer["config"]["name"] + IN_A_NAME.replace("\udc9b", "")
            group = file.create_group(f"model_weights/{name.encode().hex() if part == 'config' else name}")
            group.attrs["weight_names"] = [f"{name}/kernel:0".encode()]
        file["model_weights"].attrs["layer_names"] = [one.encode() for one in file["model_weights"]]
    look(run, tmp_path / "x.h5", pictures=False)


# -- PyTorch ---------------------------------------------------------------------------------------------------------


def safetensors(path: Path, header: dict[str, Any], data: bytes) -> Path:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


@pytest.mark.slow
def test_every_string_of_a_safetensors_header(run: Runner, tmp_path: Path) -> None:
    header = {
        "__metadata__": {"format": "pt"},
        "conv.weight": {"dtype": "F32", "shape": [5, 3, 2, 4], "data_offsets": [0, 480]},
        "conv.bias": {"dtype": "F32", "shape": [5], "data_offsets": [480, 500]},
    }
    for mutant in [header, *mutants(header)]:
        look(run, safetensors(tmp_path / "x.safetensors", mutant, bytes(500)), pictures=False)
    assert 0 in run.codes
    assert 2 in run.codes


def pickles(data: bytes) -> Iterator[bytes]:
    """The pickle with each of its texts made longer: those that it holds, and the globals that it names."""
    places = [(op, value, at) for op, value, at in pickletools.genops(data)]
    ends = [at for _, _, at in places[1:]] + [len(data)]
    for (op, value, at), end in zip(places, ends, strict=True):
        if op.name in ("BINUNICODE", "SHORT_BINUNICODE"):
            text = longer(str(value)).encode("utf-8", "replace")
            yield data[:at] + b"X" + struct.pack("<I", len(text)) + text + data[end:]
        elif op.name == "GLOBAL":
            module, name = str(value).split(" ")
            bad = HOSTILE.replace("\n", "").encode("utf-8", "replace").decode()
            for words in ((module + bad, name), (module, name + bad)):
                yield data[:at] + b"c" + "\n".join(words).encode() + b"\n" + data[end:]


def test_every_text_of_a_state_dict(run: Runner, tmp_path: Path) -> None:
    for number, data in enumerate(pickles(torch_makers.state())):
        folder = tmp_path / str(number)
        folder.mkdir()
        run("summary", torch_makers.zipped(folder, data))
        run("summary", torch_makers.legacy(folder, data))
        run("verify", torch_makers.zipped(folder, data))
    assert {0, 2} <= set(run.codes)


# -- recordings ------------------------------------------------------------------------------------------------------


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    cnnlens.record(sample.MODEL, IMAGE, backend="reference", layers=["conv2d", "dense_1"], out=tmp_path / "whole.zarr")
    return tmp_path / "whole.zarr"


def assert_recording_is_plain(run: Runner, folder: Path, *words: str, again: bool = True) -> None:
    from cnnlens.recording import listing

    try:
        found = cnnlens.Recording.open(folder)
        assert_plain(repr(found), "its repr")
        assert_plain(str(listing.as_page(found)), "its listing")
        run("check", sample.MODEL, folder, *words)
        for name in found:
            assert_plain(repr(found[name]), "an array's repr")
            found[name][:1]
        found.verify()
    except cnnlens.CnnlensError as error:
        assert_plain(str(error).replace("\n", "\x00"), "a refusal")
    if again:
        run("record", sample.MODEL, "-i", IMAGE, "--backend", "reference", "-o", folder)


@pytest.mark.slow
def test_every_string_of_a_recording(run: Runner, recording: Path, tmp_path: Path) -> None:
    group = json.loads((recording / "zarr.json").read_text())
    first, *rest = (recording / "log.jsonl").read_text().splitlines()
    changes = [("zarr.json", json.dumps(mutant)) for mutant in mutants(group)]
    changes += [("log.jsonl", "\n".join([json.dumps(mutant), *rest, ""])) for mutant in mutants(json.loads(first))]
    for number, (name, text) in enumerate(changes):
        folder = tmp_path / "x.zarr"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(recording, folder)
        (folder / name).write_text(text)
        assert_recording_is_plain(run, folder, *(["--json"] if number % 3 else []), again=number % 3 == 0)
    assert {0, 2} <= set(run.codes)


def test_every_attribute_of_a_recording_at_once(run: Runner, recording: Path, tmp_path: Path) -> None:
    group = json.loads((recording / "zarr.json").read_text())
    about = group["attributes"]["cnnlens"]
    kept = {"model", "tensors"}
    group["attributes"]["cnnlens"] = {
        key: value if key in kept else changed_everywhere(value, longer) for key, value in about.items()
    }
    group["attributes"]["cnnlens"]["weights"] = [HOSTILE]
    group["attributes"]["cnnlens"]["inputs"]["tensors"] = about["inputs"]["tensors"]
    (recording / "zarr.json").write_text(json.dumps(group))
    renamed = recording.rename(tmp_path / f"{IN_A_NAME}.zarr")
    assert_recording_is_plain(run, renamed)
    assert_recording_is_plain(run, renamed, "--json")
    assert 1 in run.codes or 0 in run.codes  # it was audited


# -- inputs ----------------------------------------------------------------------------------------------------------


def npy(header: str) -> bytes:
    text = header.encode("utf-8", "replace")
    return b"\x93NUMPY\x03\x00" + struct.pack("<I", len(text)) + text + bytes(28 * 28)


@pytest.mark.slow
@pytest.mark.parametrize("member", ["x.npy", f"{IN_A_NAME[:-1]}.npy"])
def test_every_string_of_arrays(run: Runner, tmp_path: Path, member: str) -> None:
    honest = "{'descr': '|u1', 'fortran_order': False, 'shape': (1, 28, 28), }\n"
    bad = HOSTILE
    headers = [
        honest,
        honest.replace("|u1", bad),
        honest.replace("descr", bad),
        honest.replace("(1, 28, 28)", repr(bad)),
    ]
    headers += [honest.replace("|u1", ascii(bad)[1:-1]), honest.replace("(1, 28, 28)", "(1, 28, 28)#" + bad), bad]
    for header in headers:
        (tmp_path / f"{IN_A_NAME}.npy").write_bytes(npy(header))
        run("maps", sample.MODEL, "-i", tmp_path / f"{IN_A_NAME}.npy")
        run("check", sample.MODEL, "--backends", "reference", "-i", tmp_path / f"{IN_A_NAME}.npy")
        archived(tmp_path / "x.npz", {member: npy(header), "other.npy": b"x"})
        run("maps", sample.MODEL, "-i", tmp_path / "x.npz")
        run("record", sample.MODEL, "-i", tmp_path / "x.npz", "-o", tmp_path / "r.zarr", "--overwrite")
    assert 0 in run.codes


@pytest.mark.slow
def test_names_of_pictures_and_arguments(run: Runner, tmp_path: Path) -> None:
    picture = tmp_path / f"{IN_A_NAME}.png"
    shutil.copy(IMAGE, picture)
    run("maps", sample.MODEL, "-i", picture)
    run("maps", sample.MODEL, "-i", tmp_path)
    (tmp_path / f"{IN_A_NAME}.jpg").write_bytes(b"\xff\xd8\xff" + bytes(90))
    run("maps", sample.MODEL, "-i", tmp_path / f"{IN_A_NAME}.jpg")
    run("record", sample.MODEL, "-i", picture, "--layers", HOSTILE, "-o", "x.zarr")
    run("record", sample.MODEL, "-i", f"{HOSTILE}={picture}", "-o", tmp_path / IN_A_NAME)
    run("demo", "-o", tmp_path / IN_A_NAME)
    for name in (
        "summary",
        "verify",
        "kernels",
        "hist",
        "maps",
        "image",
        "check",
        "diff",
        "convert",
        "record",
        "layouts",
        "backends",
        HOSTILE,
    ):
        run(name, HOSTILE)
        run(name, sample.MODEL, HOSTILE, HOSTILE)
        run(name, f"--{HOSTILE}", "--scale", HOSTILE, "--config", HOSTILE)
    run("summary", sample.MODEL, "--arch", HOSTILE)
    run("summary", sample.MODEL, "--arch", "x:y", "--input-shape", HOSTILE)


def test_what_nobody_made_printable_is_harmless_in_an_error() -> None:
    for error in (
        cnnlens.CnnlensError(HOSTILE, HOSTILE),
        cnnlens.FileRefusedError(IN_A_NAME, HOSTILE, HOSTILE, HOSTILE),
        cnnlens.UnsupportedLayerError(HOSTILE, HOSTILE),
        cnnlens.UnsupportedLayerError(HOSTILE).of(HOSTILE),
    ):
        assert_plain(str(error), "an error")
        assert_plain(error.without_backend, "its line")
        assert "\n" not in str(error)
        assert pickle.loads(pickle.dumps(str(error))) == str(error)


@pytest.mark.framework
def test_a_converted_model_names_no_stranger_raw(run: Runner, tmp_path: Path) -> None:
    config = names_changed(json.loads(members()["config.json"]))
    name = f'{IN_A_NAME}"""\nFORGED'.replace("\udc9b", "")
    path = archived(tmp_path / f"{name}.keras", {**members(), "config.json": json.dumps(config).encode()})
    run("convert", path, "-o", "made.py", "--backend", "pytorch")
    assert run.codes == [0]
    written = (tmp_path / "made.py").read_text()
    assert_plain(written, "what was written")
    compile(written, "made.py", "exec")


def test_long_names_are_cut_in_the_middle_for_they_differ_at_the_end() -> None:
    one, other = (f"layers/bidirectional/backward_layer/lstm_cell/{end}" for end in ("kernel", "recurrent_kernel"))
    shown = [printable(name, 30) for name in (one, other)]
    assert shown == ["layers/bidirect…tm_cell/kernel", "layers/bidirect…current_kernel"]
    assert [len(printable("x" * 99 + "\x1b" * 99, limit)) for limit in (2, 3, 30)] == [2, 3, 30]
    assert "\x1b" not in printable("\x1b" * 99, 30)
    assert printable("short", 5) == "short"


def test_notes_fold_to_the_terminal_and_tables_do_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "note: " + "many words " * 20 + "\n" + "cell  " * 40 + "\n"
    output_text(text)
    assert capsys.readouterr().out == text
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "50")
    output_text(text)
    *notes, table = capsys.readouterr().out.splitlines()
    assert max(map(len, notes)) <= 50
    assert all(line.startswith(("      many", "      words")) for line in notes[1:])
    assert " ".join(" ".join(notes).split()) == " ".join(text.splitlines()[0].split())
    assert table == "cell  " * 40


def test_counters_of_training_are_no_row_of_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = {"weight": (3,), "bias": (3,), "running_mean": (3,), "running_var": (3,)}
    arrays = {f"norm.{name}": np.ones(shape, np.float32) for name, shape in names.items()}
    save_file({**arrays, "norm.num_batches_tracked": np.array(7)}, tmp_path / "norm.safetensors")
    assert main(["summary", str(tmp_path / "norm.safetensors")]) == 0
    said = capsys.readouterr().out
    assert "running_var" in said
    assert "num_batches_tracked" not in said
    assert main(["summary", str(tmp_path / "norm.safetensors"), "--json"]) == 0
    assert "num_batches_tracked" in capsys.readouterr().out
