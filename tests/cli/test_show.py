"""The options of the pictures: what they draw, which contradict each other, and which is said twice."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

import cnnlens
from cnnlens import plot, sample
from tests.cli.test_cli import IMAGE, MODEL, in_an_empty_folder, output, picture, refusal

__all__ = ["in_an_empty_folder"]

MAPS = ("maps", MODEL, "-i", IMAGE, "-l")


def test_ten_bins_count_as_numpy_does(capsys: pytest.CaptureFixture[str]) -> None:
    said = json.loads(output(capsys, "hist", MODEL, "--bins", "10", "--counts", "--json"))
    counts, edges = np.histogram(cnnlens.open(MODEL)["conv2d"].kernel.array, 10)
    assert said["trained"]["histogram"]["counts"] == counts.tolist()
    np.testing.assert_allclose(said["trained"]["histogram"]["edges"], edges, rtol=1e-6)
    said = json.loads(output(capsys, "hist", MODEL, "--untrained", "--json"))
    for one in ("trained", "untrained"):
        assert sum(said[one]["histogram"]["counts"]) == 288
        assert len(said[one]["histogram"]["edges"]) == len(said[one]["histogram"]["counts"]) + 1
    said = json.loads(output(capsys, "hist", MODEL, "--all", "--bins", "7", "--json"))
    assert [len(one["trained"]["histogram"]["counts"]) for one in said["layers"]] == [7] * 4


@pytest.mark.slow
def test_the_command_and_the_line_of_python_make_one_picture(capsys: pytest.CaptureFixture[str]) -> None:
    net, conv = cnnlens.open(MODEL), cnnlens.open(MODEL)["conv2d"]
    ends = ("--columns", "16", "--vmin", "-0.5", "--vmax", "0.5")
    for arguments, figure in (
        (("kernels", MODEL, *ends), plot.kernels(conv, columns=16, vmin=-0.5, vmax=0.5)),
        (("kernels", MODEL, "--untrained", "--seed", "7"), plot.kernels(conv, untrained=True, seed=7)),
        (("hist", MODEL, "--untrained"), plot.histogram(conv, untrained=True)),
        (("hist", MODEL, "--all"), plot.histogram(net)),
        ((*MAPS, "2", "--channels", "0-3,9"), plot.feature_maps(net, IMAGE, layer=2, channels="0-3,9")),
        ((*MAPS, "0", "--kernel", "5"), plot.kernel_and_map(net, IMAGE, kernel=5)),
        (("image", IMAGE, "--cmap", "gray_r", "--size", "400"), plot.image(IMAGE, cmap="gray_r", size=400)),
    ):  # fmt: skip
        output(capsys, *arguments, "-o", "command.png")
        plot.save(figure, "python.png")
        assert np.array_equal(picture("command.png"), picture("python.png")), arguments


@pytest.mark.slow
def test_layers_are_listed_by_commas(capsys: pytest.CaptureFixture[str]) -> None:
    output(capsys, *MAPS, "0,conv2d_1,2", "-l", "-1", "-o", "x.png")
    assert sorted(os.listdir()) == ["x-conv2d.png", "x-conv2d_1.png", "x-dense_1.png"]


def test_what_takes_one_value_is_given_once(capsys: pytest.CaptureFixture[str]) -> None:
    said = refusal(capsys, "kernels", MODEL, "-l", "0", "--layer", "2")
    assert "--layer/-l: it takes one value and was given again, with '2'; give it once" in said
    assert "--scale" in refusal(capsys, *MAPS, "0", "--scale", "0..1", "--scale", "none")
    assert "-o" in refusal(capsys, "summary", MODEL, "-o", "a", "-o", "b")
    assert "--backends" in refusal(capsys, "check", MODEL, "--backends", "reference", "--backends", "keras-jax")
    output(capsys, "kernels", MODEL, "-o", "a.png")
    output(capsys, "kernels", MODEL, "-o", "a.png")  # nothing is remembered from call to call


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("kernels", MODEL, "--limits", "each", "--vmax", "1"), "'each' and vmax contradict each other; leave one"),
        (("kernels", MODEL, "--seed", "3"), "ask for untrained too"),
        (("hist", MODEL, "--seed", "3"), "ask for untrained too"),
        (("hist", MODEL, "--all", "--counts"), "--all has no scale for --counts"),
        (("hist", MODEL, "--bins", "0"), "at least 1"),
        (("hist", MODEL, "--bins", "999999"), "bins must be from 1 to 10,000"),
        (("kernels", MODEL, "--cmap", "grey_q"), "did you mean 'grey_r'"),
        (("kernels", MODEL, "--size", "8x"), "as 800 or 800x600"),
        (("kernels", MODEL, "--size", "800", "--dpi", "72"), "as in 800x600, or leave dpi out"),
        (("kernels", MODEL, "--channels", "30-32"), "no kernel 32; the layer has kernels 0 to 31"),
        (("kernels", MODEL, "-l", "dense_1", "--columns", "4"), "drawn as one matrix"),
        (("kernels", MODEL, "--limits", "all"), "shared"),
        ((*MAPS, "0", "--kernel", "3", "--columns", "4"), "leave columns out, or kernel"),
        ((*MAPS, "0,2", "--kernel", "3"), "name one with --layer"),
        ((*MAPS, "-1", "--limits", "each"), "one number a channel is drawn as a bar"),
        ((*MAPS, "0", "--labels", "labels.txt"), "draw layer 'dense_1'"),
        ((*MAPS, "-1", "--labels", "labels.txt"), "2 labels do not fit 10 channels"),
        ((*MAPS, "-1", "--labels", "missing.txt"), "missing.txt: No such file"),
        ((*MAPS, "-1", "--labels", "empty.txt"), "a name a line was expected"),
        (("image", IMAGE, "--index", "1"), "there are 1 images"),
        (("image", "colour.png", "--cmap", "gray"), "this image has three"),
        (("image", "vector.npy"), "give (N, H, W, C) or (N, C, H, W)"),
    ],
)
def test_options_that_do_not_fit_are_one_line_with_the_way_out(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    Path("labels.txt").write_text("a\nb\n", encoding="utf-8")
    Path("empty.txt").write_text("\n\n", encoding="utf-8")
    Image.fromarray(np.zeros((5, 7, 3), np.uint8)).save("colour.png")
    np.save("vector.npy", np.zeros(5, np.float32))
    assert said in refusal(capsys, *arguments)


@pytest.mark.slow
def test_models_of_nothing_and_layers_of_ten_thousand(capsys: pytest.CaptureFixture[str]) -> None:
    save_file({"norm.weight": np.ones(4, np.float32)}, "norm.safetensors")
    assert "no layer has a kernel; name a layer and a weight" in refusal(capsys, "kernels", "norm.safetensors")
    assert "no layer has a kernel" in refusal(capsys, "hist", "norm.safetensors", "--all")
    save_file({}, "nothing.safetensors")
    assert "no" in refusal(capsys, "kernels", "nothing.safetensors")
    wide = np.random.default_rng(5).normal(size=(10_000, 2, 3, 3)).astype(np.float32)
    save_file({"wide.weight": wide}, "wide.safetensors")
    output(capsys, "kernels", "wide.safetensors", "-o", "wide.png")
    assert max(picture("wide.png").shape) < 2600
    assert "do not fit into one picture" in refusal(capsys, "kernels", "wide.safetensors", "--channel", "all")


def test_bars_carry_the_names_in_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    Path("labels.txt").write_text("\n".join(sample.LABELS) + "\n", encoding="utf-8")
    output(capsys, *MAPS, "-1", "--labels", "labels.txt", "-o", "command.png")
    plot.save(plot.feature_maps(cnnlens.open(MODEL), IMAGE, layer=-1, labels=sample.LABELS), "python.png")
    assert np.array_equal(picture("command.png"), picture("python.png"))


@pytest.mark.slow
def test_size_and_dpi_are_those_of_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    for size, dpi, expected in (("640", None, 640), ("640x480", None, 640), ("1001x503", "97", 1001)):
        dots = () if dpi is None else ("--dpi", dpi)
        output(capsys, "kernels", MODEL, "--size", size, *dots, "-o", "x.png")
        high, wide, _ = picture("x.png").shape
        assert wide == expected
        if "x" in size:
            assert f"{wide}x{high}" == size
    output(capsys, "kernels", MODEL, "-o", "whole.png")
    output(capsys, "kernels", MODEL, "--dpi", "75", "-o", "half.png")
    assert np.abs(np.array(picture("whole.png").shape[:2]) / 2 - picture("half.png").shape[:2]).max() <= 1
