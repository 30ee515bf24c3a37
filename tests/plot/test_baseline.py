"""Every kind of picture held against a stored one, pixel by pixel but for a tolerance that still sees one wrong tile.

The pictures are in `baseline`, at a third of their size. Who changes how pictures look makes them anew, and looks at
each: `pytest -n 0 tests/plot/test_baseline.py --mpl-generate-path=tests/plot/baseline`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.testing.compare import compare_images

import cnnlens
from cnnlens import plot, sample

HERE = Path(__file__).parent / "baseline"
TOLERANCE = 1.0  # root mean square, of 255: fonts and the last bit of float32 stay far below
SAVED = {"dpi": 50}


def drawn(*shape: int, seed: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.2, shape).astype(np.float32)


def maps(*shape: int) -> np.ndarray:
    """After a ReLU, each channel louder than the last."""
    loud = np.geomspace(0.01, 2, shape[0]).reshape(-1, *[1] * (len(shape) - 1))
    return np.maximum(drawn(*shape), 0) * loud


def clipped() -> Figure:
    values = drawn(12, 1, 3, 3)
    values[7, 0, 1, 2] = 3
    return plot.kernels(values, title="one large weight")


def hostile() -> Figure:
    values = drawn(6, 1, 3, 3)
    values[1, 0, 0, 0], values[4, 0, 2, 1] = np.nan, np.inf
    return plot.kernels(values, title="<b>\x1b[31m</b>" + "x" * 10_000, subtitle="$a_b$ & \u202e")


def beside() -> Figure:
    return plot.kernel_and_map(
        drawn(1, 3, 3), maps(1, 9, 12), drawn(7, 10, seed=6), bias=-0.25, activation="relu", title="beside"
    )


def untrained(**options: Any) -> Figure:
    return plot.histogram(cnnlens.open(sample.MODEL)["conv2d"], untrained=True, **options)


PICTURES: dict[str, Callable[[], Figure]] = {
    "kernels": lambda: plot.kernels(cnnlens.open(sample.MODEL)["conv2d"], columns=16, vmin=-0.5, vmax=0.5),
    "kernels_untrained": lambda: plot.kernels(cnnlens.open(sample.MODEL)["conv2d"], untrained=True, seed=3),
    "kernels_clipped": clipped,
    "kernels_hostile": hostile,
    "kernels_rgb": lambda: plot.kernels(drawn(8, 3, 5, 5)),
    "kernels_all": lambda: plot.kernels(drawn(5, 4, 3, 2), channel="all"),
    "kernels_1d": lambda: plot.kernels(drawn(10, 2, 7), channel="all"),
    "kernels_3d": lambda: plot.kernels(drawn(6, 1, 2, 3, 3)),
    "kernels_matrix": lambda: plot.kernels(drawn(9, 30)),
    "kernels_many": lambda: plot.kernels(drawn(600, 1, 3, 3)),
    "maps": lambda: plot.feature_maps(maps(32, 14, 14), title="each"),
    "maps_shared": lambda: plot.feature_maps(maps(32, 14, 14), limits="shared", title="shared"),
    "maps_signed": lambda: plot.feature_maps(drawn(10, 8, 8), title="signed"),
    "maps_volume": lambda: plot.feature_maps(maps(4, 3, 6, 6), axes="CDHW"),
    "maps_signals": lambda: plot.feature_maps(maps(9, 40), axes="CL"),
    "bars": lambda: plot.feature_maps(np.array([0.99987, 0.00013, 0.0]), labels=["T-shirt/top", "a bag", "$x$"]),
    "histogram": lambda: untrained(),
    "histogram_counts": lambda: untrained(bins=10, counts=True),
    "histogram_page": lambda: plot.histogram(cnnlens.open(sample.MODEL)),
    "kernel_and_map": beside,
    "image": lambda: plot.image(sample.IMAGES, index=9, cmap="gray_r"),
}


def test_every_picture_has_a_test_and_every_stored_one_is_compared() -> None:
    tests = {name.removeprefix("test_picture_") for name in globals() if name.startswith("test_picture_")}
    assert tests == set(PICTURES)
    assert {path.stem for path in HERE.glob("*.png")} == set(PICTURES)
    assert sum(path.stat().st_size for path in HERE.glob("*.png")) < 400_000


def _compared(name: str, make: Callable[[], Figure]) -> Callable[[], Figure]:
    def test() -> Figure:
        return make()

    test.__name__ = f"test_picture_{name}"
    mark = pytest.mark.mpl_image_compare(
        baseline_dir=str(HERE), filename=f"{name}.png", tolerance=TOLERANCE, savefig_kwargs=SAVED, style="default"
    )
    return mark(test)


for _name, _make in PICTURES.items():
    globals()[f"test_picture_{_name}"] = _compared(_name, _make)


@pytest.mark.parametrize("name", ["kernels", "maps", "maps_signed"])
def test_one_wrong_tile_is_seen(name: str, tmp_path: Path) -> None:
    figure = PICTURES[name]()
    good, wrong = tmp_path / "good.png", tmp_path / "wrong.png"
    figure.savefig(good, **SAVED)
    (image,) = figure.axes[0].images
    pixels = np.array(image.get_array())
    # The first tile begins at the corner: the one beside it is drawn in its place.
    wide = int(np.flatnonzero((pixels[1] == 255).all(axis=-1))[0])
    step = wide + int(np.flatnonzero(~(pixels[1, wide:] == 255).all(axis=-1))[0])
    pixels[1:wide, 1 : wide - 1] = pixels[1:wide, step + 1 : step + wide - 1]
    image.set_data(pixels)
    figure.savefig(wrong, **SAVED)
    assert compare_images(str(HERE / f"{name}.png"), str(good), tol=TOLERANCE) is None
    found = compare_images(str(HERE / f"{name}.png"), str(wrong), tol=TOLERANCE, in_decorator=True)
    assert found is not None
    assert found["rms"] > 1.5 * TOLERANCE
