"""Each command as a person types it: what it prints, what it writes, and one line for whatever is wrong."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

import cnnlens
from cnnlens import sample
from cnnlens.cli.main import main
from cnnlens.files.keras.write import write_keras
from cnnlens.testing.networks import NETWORKS
from tests.support import SHARED

MODEL = str(sample.MODEL)
IMAGE = str(sample.IMAGES / "9-ankle-boot.png")
REAL = SHARED / "data" / "best-cnn-model.keras"


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def output(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(arguments) == 0
    return capsys.readouterr().out


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line of an error: exit code 2, nothing on stdout, nothing left behind."""
    before = sorted(os.listdir())
    try:
        code = main(arguments)
    except SystemExit as stop:
        code = stop.code
    captured = capsys.readouterr()
    assert code == 2
    assert captured.out == ""
    assert captured.err.count("\n") == 1, captured.err
    assert "Traceback" not in captured.err
    assert sorted(os.listdir()) == before
    return captured.err


def picture(path: str) -> np.ndarray[Any, Any]:
    with Image.open(path) as opened:
        return np.asarray(opened.convert("RGB"))


def with_a_lambda(path: str) -> str:
    """The sample model behind a Lambda named ``scale``, whose code is none."""
    with zipfile.ZipFile(MODEL) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    config = json.loads(parts["config.json"])
    code = {"class_name": "__lambda__", "config": {"code": "4wEAAAAA", "defaults": None, "closure": None}}
    layer = {"module": "keras.layers", "class_name": "Lambda", "config": {"name": "scale", "function": code}}
    config["config"]["layers"].insert(1, {**layer, "registered_name": None})
    with zipfile.ZipFile(path, "w") as file:
        for name, data in {**parts, "config.json": json.dumps(config).encode()}.items():
            file.writestr(name, data)
    return path


# -- lambdas -----------------------------------------------------------------------------------------------------------

SCALE = ("--lambda", "scale=x / 255 - 0.5")


def test_a_lambda_is_shown_and_computed_as_it_is_said_to(capsys: pytest.CaptureFixture[str]) -> None:
    model = with_a_lambda("model.keras")
    assert "never run here" in refusal(capsys, "maps", model, "-i", IMAGE, "--layer", "conv2d", "-o", "maps.png")
    told = output(capsys, "summary", model, *SCALE)
    assert "Lambda: x / 255 - 0.5" in told
    assert "layer 'scale' (Lambda): x / 255 - 0.5, as given by --lambda" in told
    told = output(capsys, "maps", model, *SCALE, "-i", IMAGE, "--layer", "conv2d", "-o", "maps.png")
    assert "the model's 'scale' scales them" in told
    assert "is within rounding" in output(capsys, "check", model, *SCALE, "-i", IMAGE, "--backends", "reference")
    assert "equal" in output(capsys, "diff", model, MODEL, *SCALE)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("scal=x", "no Lambda layer is named 'scal'; there are 'scale'"),
        ("scale", "NAME=EXPRESSION was expected"),
        ("scale=__import__('os').system('id')", "at character 12"),
        ("scale=" + "(" * 10_000, "10,000 characters"),
    ],
)
def test_a_lambda_that_is_said_wrongly(capsys: pytest.CaptureFixture[str], said: str, reason: str) -> None:
    model = with_a_lambda("model.keras")
    for command in (("summary", model), ("diff", model, model)):
        expected = reason.replace("; there", " in either; there") if command[0] == "diff" else reason
        assert expected in refusal(capsys, *command, "--lambda", said)
    assert "--arch" in refusal(capsys, "summary", model, *SCALE, "--arch", "torch.nn:Identity")


# -- summary ---------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not REAL.exists(), reason="the real model is not beside this checkout")
def test_summary_of_the_real_model(capsys: pytest.CaptureFixture[str]) -> None:
    data = json.loads(output(capsys, "summary", str(REAL), "--json"))
    assert data["model"]["keras_version"] == "3.8.0"
    assert data["model"]["sha256"] == "a21366a4be2a702c46862934a6253c737ace30e053ce14b1fa848cf4c7ca9495"
    first = data["layers"][0]
    assert (first["name"], first["kind"]) == ("conv2d", "Conv2D")
    kernel = first["weights"][0]
    assert kernel["stored_shape"] == kernel["layouts"]["keras"] == [3, 3, 1, 32]
    assert kernel["canonical_shape"] == kernel["layouts"]["torch"] == [32, 1, 3, 3]
    assert np.float32(kernel["mean"]) == np.float32(-0.017617775)
    assert np.float32(kernel["std"]) == np.float32(0.22690606)
    shapes = {layer["name"]: layer["output_shape"] for layer in data["layers"]}
    assert shapes == {
        "conv2d": [None, 32, 28, 28],
        "max_pooling2d": [None, 32, 14, 14],
        "conv2d_1": [None, 64, 14, 14],
        "max_pooling2d_1": [None, 64, 7, 7],
        "flatten": [None, 3136],
        "dense": [None, 100],
        "dropout": [None, 100],
        "dense_1": [None, 10],
    }


def test_summary_prints_a_row_for_each_layer_and_array(capsys: pytest.CaptureFixture[str]) -> None:
    text = output(capsys, "summary", MODEL)
    assert "HWIO (3, 3, 1, 32)" in text
    assert "OIHW (32, 1, 3, 3)" in text
    for name in ("conv2d", "max_pooling2d", "conv2d_1", "flatten", "dense", "dropout", "dense_1"):
        assert f" {name} " in text


def test_summary_json_gives_statistics_of_the_stored_array(capsys: pytest.CaptureFixture[str]) -> None:
    import cnnlens

    data = json.loads(output(capsys, "summary", MODEL, "--json"))
    network = cnnlens.open(MODEL)
    checked = 0
    for layer in data["layers"]:
        for weight in layer["weights"]:
            array = network[layer["name"]].weights[weight["name"]]
            assert weight["min"] == float(str(array.min()))
            assert weight["max"] == float(str(array.max()))
            assert weight["mean"] == pytest.approx(float(array.mean(dtype=np.float64)), abs=1e-7)
            assert weight["std"] == pytest.approx(float(array.std(dtype=np.float64)), rel=1e-6)
            checked += 1
    assert checked == 8


def test_summary_writes_to_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    printed = output(capsys, "summary", MODEL, "--json")
    assert output(capsys, "summary", MODEL, "--json", "-o", "s.json") == ""
    assert Path("s.json").read_text() == printed


# -- pictures --------------------------------------------------------------------------------------------------------


def test_kernels_writes_a_picture_and_says_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    text = output(capsys, "kernels", MODEL)
    assert "HWIO (3, 3, 1, 32) in the file, OIHW (32, 1, 3, 3) canonical" in text
    assert "wrote fashion_mnist_cnn-conv2d-kernels.png" in text
    assert picture("fashion_mnist_cnn-conv2d-kernels.png").std() > 10


def test_a_layer_is_named_by_name_or_index(capsys: pytest.CaptureFixture[str]) -> None:
    output(capsys, "kernels", MODEL, "--layer", "conv2d_1", "-o", "name.png")
    output(capsys, "kernels", MODEL, "--layer", "2", "-o", "index.png")
    assert np.array_equal(picture("name.png"), picture("index.png"))


@pytest.mark.slow
def test_kernels_of_all_channels_is_another_picture(capsys: pytest.CaptureFixture[str]) -> None:
    for channel in ("0", "1", "all"):
        output(capsys, "kernels", MODEL, "--layer", "2", "--channel", channel, "-o", f"{channel}.png")
    assert not np.array_equal(picture("0.png"), picture("1.png"))
    assert picture("all.png").shape != picture("0.png").shape


def test_hist_holds_trained_against_untrained(capsys: pytest.CaptureFixture[str]) -> None:
    output(capsys, "hist", MODEL, "-o", "trained.png")
    facts = json.loads(output(capsys, "hist", MODEL, "--untrained", "--seed", "7", "--json", "-o", "both.png"))
    assert not np.array_equal(picture("trained.png"), picture("both.png"))
    limit = (6 / (9 + 9 * 32)) ** 0.5  # Glorot's uniform for fans 9 and 288
    assert abs(facts["untrained"]["min"]) <= limit
    assert facts["untrained"]["std"] == pytest.approx(limit / 3**0.5, rel=0.15)
    assert facts["initializer"]["seed"] == 7


@pytest.mark.slow
def test_maps_of_both_convolutions(capsys: pytest.CaptureFixture[str]) -> None:
    text = output(capsys, "maps", MODEL, "--image", str(sample.IMAGES), "-o", "maps.png")
    assert "(1, 32, 28, 28)" in text
    assert "(1, 64, 14, 14)" in text
    assert sorted(os.listdir()) == ["maps-conv2d.png", "maps-conv2d_1.png"]


def test_maps_of_one_layer_of_another_image(capsys: pytest.CaptureFixture[str]) -> None:
    for index in ("0", "3"):
        output(capsys, "maps", MODEL, "-i", str(sample.IMAGES), "--index", index, "-l", "conv2d", "-o", f"{index}.png")
    assert not np.array_equal(picture("0.png"), picture("3.png"))


def test_a_kernel_beside_the_map_it_makes(capsys: pytest.CaptureFixture[str]) -> None:
    output(capsys, "maps", MODEL, "-i", str(sample.IMAGES), "-l", "conv2d_1", "--kernel", "5", "-o", "beside.png")
    assert picture("beside.png").std() > 10


def test_any_array_of_a_layer_is_drawn_and_gates_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    drawn = np.random.default_rng(5)
    arrays = {
        f"rnn.{name}": drawn.normal(size=shape).astype(np.float32)
        for name, shape in {"weight_ih_l0": (20, 6), "weight_hh_l0": (20, 5), "bias_ih_l0": (20,)}.items()
    } | {"pointwise.weight": drawn.normal(size=(7, 4, 1, 1)).astype(np.float32)}
    save_file(arrays, "model.safetensors")
    said = json.loads(output(capsys, "kernels", "model.safetensors", "--weight", "recurrent_kernel:forget", "--json"))
    assert (said["layer"], said["weight"], said["gate"]) == ("rnn", "weight_hh_l0", "forget")
    assert said["mean"] == pytest.approx(float(arrays["rnn.weight_hh_l0"][5:10].mean()), rel=1e-5)
    said = json.loads(output(capsys, "hist", "model.safetensors", "--weight", "bias_ih_l0:o", "--json"))
    assert said["trained"]["max"] == arrays["rnn.bias_ih_l0"][15:].max()
    assert "its gates are input, forget, cell, output" in refusal(
        capsys, "kernels", "model.safetensors", "-l", "rnn", "--weight", "weight_ih_l0:reset"
    )
    assert "'weigth'; did you mean 'weight'?" in refusal(
        capsys, "kernels", "model.safetensors", "-l", "pointwise", "--weight", "weigth"
    )
    assert "wrote model-pointwise-kernels.png" in output(capsys, "kernels", "model.safetensors")
    assert "wrote model-rnn-weight_ih_l0-kernels.png" in output(
        capsys, "kernels", "model.safetensors", "--weight", "weight_ih_l0"
    )


def test_the_histograms_of_all_kernels_are_one_page(capsys: pytest.CaptureFixture[str]) -> None:
    said = json.loads(output(capsys, "hist", MODEL, "--all", "--json", "-o", "all.png"))
    net = cnnlens.open(MODEL)
    having = [layer for layer in net.layers if layer.kernel is not None]
    assert [one["layer"] for one in said["layers"]] == [layer.name for layer in having]
    assert said["layers"][1]["trained"]["std"] == pytest.approx(having[1].kernel.stats().std)
    assert picture("all.png").std() > 0
    assert "leave --layer" in refusal(capsys, "hist", MODEL, "--all", "--layer", "conv2d")
    assert "wrote fashion_mnist_cnn-hist.png" in output(capsys, "hist", MODEL, "--all")


def test_a_layer_without_a_kernel_names_those_that_have_one_or_their_kinds(capsys: pytest.CaptureFixture[str]) -> None:
    assert "'conv2d', 'conv2d_1', 'dense'" in refusal(capsys, "kernels", MODEL, "--layer", "max_pooling2d")
    many = {f"conv{index}.weight": np.zeros((4, 3, 2, 2), np.float32) for index in range(9)}
    save_file(
        {**many, "head.weight": np.zeros((5, 4), np.float32), "norm.scale": np.zeros(3, np.float32)}, "x.safetensors"
    )
    said = refusal(capsys, "kernels", "x.safetensors", "--layer", "norm")
    assert "9 Conv2d, 1 Linear, from 'conv0' to 'head'" in said


@pytest.fixture
def two_inputs() -> str:
    """A model whose layers in front hang on `image` alone, and its head on `image` and the vector `extra`."""
    config, shapes = NETWORKS["branches"]()
    drawn = np.random.default_rng(3)
    arrays = {
        (layer,): {name: drawn.normal(size=shape).astype(np.float32) for name, shape in weights.items()}
        for layer, weights in shapes.items()
    }
    write_keras("two.keras", config, arrays)
    np.save("image.npy", drawn.random((9, 8, 2), np.float32))
    np.save("extra.npy", drawn.integers(0, 200, 5))
    return "two.keras"


def test_a_layer_is_drawn_from_the_inputs_that_it_needs_alone(
    two_inputs: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "left (1, 4, 9, 8)" in output(capsys, "maps", two_inputs, "-i", "image=image.npy", "--layer", "left")
    assert "left (1, 4, 9, 8)" in output(capsys, "maps", two_inputs, "-i", "image.npy", "--layer", "left")
    both = ["-i", "extra=extra.npy", "-i", "image=image.npy"]
    said = output(capsys, "maps", two_inputs, *both, "--layer", "z_first", "--layer", "right", "--json")
    by_name = {layer["layer"]: layer for layer in json.loads(said)["layers"]}
    given = {"extra": np.load("extra.npy")[None], "image": np.load("image.npy")[None]}
    maps = cnnlens.open(two_inputs).run(given, layers=["z_first", "right"], dtype="float32")
    for name, array in maps.items():
        assert by_name[name]["mean"] == pytest.approx(float(array.mean()), rel=1e-5), name
    said = output(capsys, "maps", two_inputs, *both, "--layer", "left")
    assert "'extra' not needed here and not read" in said
    assert sorted(os.listdir(".")) == ["extra.npy", "image.npy", "two-left-maps.png", "two.keras"]


def test_inputs_that_are_missing_or_unknown_are_named(two_inputs: str, capsys: pytest.CaptureFixture[str]) -> None:
    for given in (["-i", "image=image.npy"], ["-i", "image.npy"], ["-i", "image.npy", "-i", "extra.npy"]):
        said = refusal(capsys, "maps", two_inputs, *given, "--layer", "z_first")
        assert "layer 'z_first' (Dense) needs 'extra', 'image' of the network's inputs" in said
        assert "--image NAME=PATH" in said
    assert "no input 'imag'; did you mean 'image'?" in refusal(capsys, "maps", two_inputs, "-i", "imag=image.npy")
    assert "name every input" in refusal(capsys, "maps", two_inputs, "-i", "image=image.npy", "-i", "extra.npy")


@pytest.mark.slow
def test_demo_makes_every_picture(capsys: pytest.CaptureFixture[str]) -> None:
    text = output(capsys, "demo")
    made = sorted(os.listdir("cnnlens-demo"))
    assert [name[0] for name in made[:6]] == ["1", "2", "3", "4", "5", "6"]
    for name in made[:6]:
        assert name in text
        assert picture(f"cnnlens-demo/{name}").std() > 5
    assert "of the 10 sample images rightly" in text
    assert made[6:] == [
        "average.keras", "fashion_mnist_cnn.keras", "images", "labels.txt", "pair.keras", "ported.safetensors",
    ]  # fmt: skip
    for name in ("average.keras", "fashion_mnist_cnn.keras", "pair.keras"):
        assert (Path("cnnlens-demo") / name).read_bytes() == sample.MODEL.with_name(name).read_bytes()
    assert Path("cnnlens-demo/labels.txt").read_text().splitlines() == list(sample.LABELS)
    said = cnnlens.diff("cnnlens-demo/fashion_mnist_cnn.keras", "cnnlens-demo/ported.safetensors")
    assert [row.arrays[0].finding.tag for row in said.rows] == ["same", "hw", "flatten", "rounded:float16"]

    Path("cnnlens-demo/ported.safetensors").write_bytes(b"somebody's own")
    output(capsys, "demo")
    assert Path("cnnlens-demo/ported.safetensors").read_bytes() == b"somebody's own"


# -- layouts ---------------------------------------------------------------------------------------------------------


def test_layouts_of_a_kind(capsys: pytest.CaptureFixture[str]) -> None:
    text = output(capsys, "layouts", "Conv2D")
    for part in ("HWIO", "OIHW", "OHWI", "kernel.transpose(3, 2, 0, 1)"):
        assert part in text


def test_layouts_lists_every_kind(capsys: pytest.CaptureFixture[str]) -> None:
    text = output(capsys, "layouts")
    data = json.loads(output(capsys, "layouts", "--json"))
    for kind in ("Conv2D", "DepthwiseConv2D", "Conv2DTranspose", "Dense", "LSTM", "BatchNormalization"):
        assert kind in text
        assert any(row["kind"] == kind for row in data["layouts"])


# -- what is wrong ---------------------------------------------------------------------------------------------------


def test_no_command_prints_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert "commands" in output(capsys)


def test_unknown_layers_name_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean 'conv2d'" in refusal(capsys, "kernels", MODEL, "--layer", "conv2")
    assert "numbered 0 to 7" in refusal(capsys, "kernels", MODEL, "--layer", "8")
    assert "has no kernel" in refusal(capsys, "kernels", MODEL, "--layer", "flatten")
    assert "no weight 'kernal'" in refusal(capsys, "hist", MODEL, "--weight", "kernal")


@pytest.mark.parametrize("command", [["summary"], ["kernels"], ["hist"], ["maps", "--image", str(sample.IMAGES)]])
def test_files_that_are_no_model(capsys: pytest.CaptureFixture[str], command: list[str], tmp_path_factory: Any) -> None:
    folder = tmp_path_factory.mktemp("files")
    whole = Path(MODEL).read_bytes()
    cases = {
        "missing.keras": None,
        "empty.keras": b"",
        "truncated.keras": whole[: len(whole) // 2],
        "text.keras": b"hello\nworld\n",
        "picture.keras": next(Path(sample.IMAGES).glob("*.png")).read_bytes(),
    }
    for name, content in cases.items():
        if content is not None:
            (folder / name).write_bytes(content)
        said = refusal(capsys, command[0], str(folder / name), *command[1:])
        assert name in said
        assert ";" in said  # the way out


def test_a_model_under_another_name_opens(capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(MODEL, "model.h5")
    assert "Conv2D" in output(capsys, "summary", "model.h5")


def test_places_that_cannot_be_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert "does not exist" in refusal(capsys, "kernels", MODEL, "-o", "no/such/folder/a.png")
    assert ".png" in refusal(capsys, "kernels", MODEL, "-o", ".")
    assert ".png" in refusal(capsys, "kernels", MODEL, "-o", "a.exe")
    assert "does not exist" in refusal(capsys, "summary", MODEL, "-o", "no/such/a.txt")
    Path("taken").write_text("mine")
    assert "folder was expected" in refusal(capsys, "demo", "-o", "taken")
    assert Path("taken").read_text() == "mine"


def test_a_link_stays_a_link_and_a_device_a_device(capsys: pytest.CaptureFixture[str]) -> None:
    Path("real.txt").write_text("old")
    os.symlink("real.txt", "link.txt")
    output(capsys, "summary", MODEL, "-o", "link.txt")
    assert os.path.islink("link.txt")
    assert "Conv2D" in Path("real.txt").read_text()
    os.mkfifo("pipe")
    assert "device or a pipe" in refusal(capsys, "summary", MODEL, "-o", "pipe")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_output_that_cannot_be_written_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "cnnlens", "summary", MODEL]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "cannot be written" in done.stderr


def test_ranges_that_begin_with_a_minus(capsys: pytest.CaptureFixture[str]) -> None:
    image = str(sample.IMAGES)
    text = output(capsys, "maps", MODEL, "-i", image, "-l", "conv2d", "--scale", "-1..1", "-o", "a.png")
    assert "-1..1" in text
    assert "at least 0" in refusal(capsys, "hist", MODEL, "--untrained", "--seed", "-1")
    assert "at least 1" in refusal(capsys, "check", MODEL, "--repeat", "0")


def test_pictures_as_rows_are_not_guessed_at(capsys: pytest.CaptureFixture[str]) -> None:
    np.save("flat.npy", np.zeros((5, 784), np.float32))
    before = refusal(capsys, "maps", MODEL, "-i", "flat.npy", "-l", "conv2d")
    assert "reshape(-1, 28, 28)" in before


def test_images_that_do_not_fit(capsys: pytest.CaptureFixture[str]) -> None:
    assert "nothing.png" in refusal(capsys, "maps", MODEL, "--image", "nothing.png")
    assert "numbered from 0" in refusal(capsys, "maps", MODEL, "-i", str(sample.IMAGES), "--index", "99")
    assert "0 to 31" in refusal(capsys, "maps", MODEL, "-i", str(sample.IMAGES), "-l", "conv2d", "--kernel", "32")


def test_wrong_usage_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--help" in refusal(capsys, "kernels")
    assert "--help" in refusal(capsys, "paint", MODEL)
    assert "'all' or 'rgb'" in refusal(capsys, "kernels", MODEL, "--channel", "blue")
    assert "'Conv2D'" in refusal(capsys, "layouts", "Conv2")


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = [sys.executable, "-m", "cnnlens", "summary", MODEL, "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""


# -- how much is read ------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="counts what this process reads, as Linux does")
def test_maps_reads_one_image_of_sixty_thousand(capsys: pytest.CaptureFixture[str]) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (60_000, 28, 28), np.uint8)
    for name, count in (("one.idx", 1), ("all.idx", 60_000)):
        Path(name).write_bytes(struct.pack(">4B3I", 0, 0, 8, 3, count, 28, 28) + pixels[:count].tobytes())
    Path("all.idx.gz").write_bytes(gzip.compress(Path("all.idx").read_bytes(), 1))

    def read_by_maps(file: str, index: int) -> int:
        before = int(Path("/proc/self/io").read_text().split()[1])
        output(capsys, "maps", MODEL, "-i", file, "--index", str(index), "--layer", "conv2d", "-o", "maps.png")
        return int(Path("/proc/self/io").read_text().split()[1]) - before

    read_by_maps("one.idx", 0)  # imports
    few = read_by_maps("one.idx", 0) + 2_000_000
    for index in (0, 30_000, -1):
        assert read_by_maps("all.idx", index) < few
    size = os.path.getsize("all.idx.gz")
    assert read_by_maps("all.idx.gz", 7) < few  # unpacked as far as that image
    assert size // 2 < read_by_maps("all.idx.gz", 30_000) < few + size // 2


# -- nothing a user did is lost ----------------------------------------------------------------------------------------


def test_no_command_writes_over_what_it_reads(capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(sample.MODEL, "net.keras")
    shutil.copy(sample.PAIR, "other.keras")
    shutil.copy(sample.IMAGES / "9-ankle-boot.png", "boot.png")
    Path("labels.png").write_text("".join(f"{label}\n" for label in sample.LABELS))
    os.symlink("net.keras", "link.txt")
    shutil.copytree(sample.IMAGES, "pictures")
    np.savez("pixels.npz", np.zeros((2, 28, 28), np.uint8))
    compared = ["--backends", "reference,reference", "--keep", "pixels.npz"]
    for name, arguments in {
        "pictures/7-sneaker.png": ["stats", "net.keras", "-i", "pictures", "-l", "0", "-o", "pictures/7-sneaker.png"],
        "pixels.npz": ["stats", "net.keras", "-i", "pixels.npz", "-l", "0", *compared],
        "net.keras": ["summary", "net.keras", "-o", "link.txt"],
        "other.keras": ["diff", "net.keras", "other.keras", "-o", "other.keras"],
        "boot.png": ["image", "boot.png", "-o", "boot.png"],
        "labels.png": [
            "maps",
            "net.keras",
            "-i",
            "boot.png",
            "-l",
            "dense_1",
            "--labels",
            "labels.png",
            "-o",
            "labels.png",
        ],
    }.items():
        before = Path(name).read_bytes()
        assert "would be lost" in refusal(capsys, *arguments)
        assert Path(name).read_bytes() == before
    assert "which text would replace" in refusal(capsys, "layouts", "Conv2D", "-o", "other.keras")
    assert Path("other.keras").read_bytes() == sample.PAIR.read_bytes()


def test_export_overwrites_only_what_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(sample.AVERAGE, "net.keras")
    Path("net-weights.npz").write_text("mine")
    assert "it is there already" in refusal(capsys, "export", "net.keras")
    assert Path("net-weights.npz").read_text() == "mine"
    output(capsys, "export", "net.keras", "-o", "net-weights.npz")
    assert "conv/kernel" in np.load("net-weights.npz")


def test_a_closed_standard_output_is_a_line() -> None:
    done = subprocess.run(
        ["bash", "-c", f'"{sys.executable}" -m cnnlens summary "{sample.MODEL}" >&-'], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "standard output is closed" in done.stderr
