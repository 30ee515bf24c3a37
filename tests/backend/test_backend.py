"""Backends are found by metadata alone, a broken plugin is reported and skipped, and each keeps the same contract."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cnnlens import CnnlensError
from cnnlens.backend import fingerprint, parse_device, worker
from cnnlens.backend import listing as backend_listing
from cnnlens.backend import seam as backend
from cnnlens.testing import BackendContract
from cnnlens.testing.contract import Contract
from tests.support import ROOT

BUILT_IN = ["reference", "keras-jax", "keras-tensorflow", "keras-torch", "pytorch"]


class TestReference(BackendContract):
    backend = "reference"


@pytest.mark.usefixtures("plugins")
class TestPlugin(BackendContract):
    """A third party's backend passes by inheriting the suite, as a built-in one does."""

    backend = "plain"


# -- the contract can be broken --------------------------------------------------------------------------------------


class Faulty(BackendContract):
    backend = "faulty"


@pytest.mark.parametrize(
    ("lie", "broken"),
    [
        ("run:stored_axes", lambda case, c: case.test_every_feature_map_is_canonical_and_right(c, "chain")),
        ("run:scaled", lambda case, c: case.test_every_feature_map_is_canonical_and_right(c, "signal")),
        ("run:float64", lambda case, c: case.test_every_feature_map_is_canonical_and_right(c, "shared")),
        ("run:pairs_swapped", lambda case, c: case.test_what_is_asked_for_is_given_and_nothing_else(c, "branches")),
        ("run:too_few", lambda case, c: case.test_the_last_batch_may_be_short(c, "chain")),
        ("run:first_batch_again", lambda case, c: case.test_the_last_batch_may_be_short(c, "branches")),
        ("run:unsteady", lambda case, c: case.test_it_repeats_itself_bit_for_bit(c)),
        ("weights:rounded", lambda case, c: case.test_weights_are_the_file_s_bit_for_bit(c, "chain")),
        ("weights:renamed", lambda case, c: case.test_weights_are_the_file_s_bit_for_bit(c, "nested")),
        ("weights:left_out", lambda case, c: case.test_weights_are_the_file_s_bit_for_bit(c, "branches")),
        (
            "load:anything",
            lambda case, c: case.test_unknown_code_is_refused_in_one_line_that_names_the_layer(c, "lambda"),
        ),
        ("devices:nameless", lambda case, c: case.test_its_devices_have_names(c)),
    ],
)
@pytest.mark.usefixtures("plugins", "traces")
def test_the_suite_sees_a_backend_that_lies(
    monkeypatch: pytest.MonkeyPatch, lie: str, broken: Callable[[Faulty, Contract], None]
) -> None:
    case = Faulty()
    try:
        with case.opened() as contract:
            broken(case, contract)  # without a lie it passes
    finally:
        worker.close_all()
    monkeypatch.setenv("CNNLENS_FAULT", lie)
    try:
        with case.opened() as contract, pytest.raises((AssertionError, CnnlensError, pytest.fail.Exception)):
            broken(case, contract)
    finally:
        worker.close_all()


# -- discovery -------------------------------------------------------------------------------------------------------


def test_the_built_in_backends_are_found_first() -> None:
    found = backend.installed()
    assert [one.name for one in found[:5]] == BUILT_IN
    assert all(one.built_in and one.refused is None for one in found[:5])
    assert backend.get("reference").layout == "stored"


def test_asking_imports_nothing(plugin_folder: Path) -> None:
    code = (
        "import sys; from cnnlens import backend; print(*[one.name for one in backend.installed()], sep=',')\n"
        "names = ('cnnlens_plain', 'cnnlens_backends', 'keras', 'jax', 'torch', 'tensorflow')\n"
        "print([one for one in names if one in sys.modules])\n"
        "backend.get('plain'); print([one for one in names if one in sys.modules])"
    )
    environment = {"PYTHONPATH": str(plugin_folder)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, cwd=plugin_folder
    )
    names, before, after = done.stdout.splitlines()
    assert {*BUILT_IN, "plain", "faulty"} <= set(names.split(","))
    assert (before, after) == ("[]", "['cnnlens_plain']")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no-module", "cannot be imported (ModuleNotFoundError: No module named 'cnnlens_faulty.nowhere')"),
        ("no-attribute", "cannot be imported (AttributeError: module 'cnnlens_faulty' has no attribute 'NOTHING')"),
        ("no-method", "keeps no promise of the seam: it has no method environment"),
        ("other-name", "keeps no promise of the seam: it calls itself 'faulty'"),
        ("leaves", "cannot be imported (SystemExit: 7)"),
        ("bad name", "is skipped: a name is letters, digits, '.', '_' and '-'"),
    ],
)
@pytest.mark.usefixtures("plugins")
def test_a_broken_plugin_is_said_to_be_one(name: str, said: str) -> None:
    with pytest.raises(CnnlensError) as caught:
        backend.get(name)
    assert str(caught.value) == f"backend '{name}' of cnnlens-faulty 0.3 {said}"


@pytest.mark.usefixtures("plugins")
def test_a_plugin_cannot_take_the_place_of_a_built_in() -> None:
    assert type(backend.get("reference")).__module__ == "cnnlens.backend.reference"
    (thief,) = (one for one in backend.installed() if one.name == "reference" and not one.built_in)
    assert thief.problem == (
        "backend 'reference' of cnnlens-faulty 0.3 is skipped: "
        "cnnlens has a backend of that name; it must choose another"
    )
    with pytest.raises(CnnlensError, match="is skipped"):
        _ = thief.backend


def test_two_plugins_of_one_name_are_both_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[cnnlens.backends]\ntwin = nowhere:AT_ALL\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(CnnlensError, match=r"'twin' of one 1\.0 is skipped: one and two both declare that name"):
        backend.get("twin")


def test_an_entry_point_that_is_edited_in_place_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "mine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    declared = info / "entry_points.txt"
    declared.write_text("[cnnlens.backends]\nbefore = nowhere:AT_ALL\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "before" in [one.name for one in backend.installed()]
    declared.write_text("[cnnlens.backends]\nafterw = nowhere:AT_ALL\n")
    os.utime(declared, ns=(1, 1))  # whatever the clock's steps are
    assert [one.name for one in backend.installed() if one.distribution == "mine"] == ["afterw"]


def test_a_model_goes_to_the_backends_that_are_in_its_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    only = [one for one in backend.installed() if one.built_in]
    monkeypatch.setattr(backend, "installed", lambda: only)
    monkeypatch.setattr(backend, "_version_of", lambda requirement: (requirement, "1.0"))  # nothing is missing
    assert backend.suited("torch") == ["pytorch"]
    assert backend.suited("keras") == ["keras-jax", "keras-tensorflow", "keras-torch"]
    assert backend.suited("onnx") == ["reference"]
    monkeypatch.setattr(backend, "_version_of", lambda requirement: None)
    assert backend.suited("torch") == ["reference"]


def test_a_missing_backend_names_the_nearest() -> None:
    with pytest.raises(CnnlensError, match="no backend is named 'keras-jaxx'; did you mean 'keras-jax'"):
        backend.get("keras-jaxx")


# -- the listing -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("plugins", "traces")
def test_the_listing_says_what_is_here_and_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {row.name: row for row in backend_listing.table() if not row.problem}
    assert rows["plain"].installed
    assert rows["plain"].distribution == "cnnlens-plain 1.2.0"
    assert rows["plain"].versions == {"numpy": np.__version__}
    assert rows["plain"].devices is None
    assert not rows["faulty"].installed
    assert rows["faulty"].missing == ("framework-that-nobody-has",)
    shown = str(backend_listing.as_page(list(rows.values()))).splitlines()
    assert shown[0].split() == ["backend", "installed", "versions"]
    assert "faulty needs framework-that-nobody-has: python -m pip install cnnlens-faulty" in shown
    data = backend_listing.as_json(list(rows.values()))["backends"]
    assert [one["name"] for one in data] == list(rows)
    keys = "name distribution installed versions missing devices install problem"
    assert list(data[0]) == keys.split()


@pytest.mark.usefixtures("plugins", "traces")
def test_devices_are_asked_of_workers_and_a_crash_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CNNLENS_FAULT", "devices:crash")
    only = [one for one in backend.installed() if one.name in ("reference", "plain", "faulty")]
    monkeypatch.setattr(backend, "installed", lambda: only)
    monkeypatch.setattr(backend, "_version_of", lambda requirement: (requirement, "1.0"))  # nothing is missing
    try:
        rows = backend_listing.table(devices=True)
    finally:
        worker.close_all()
    by_name = {(row.name, row.distribution): row for row in rows}
    assert by_name["plain", "cnnlens-plain 1.2.0"].devices == ("cpu",)
    crashed = by_name["faulty", "cnnlens-faulty 0.3"]
    assert (crashed.devices, crashed.problem) == (None, "faulty: killed by SIGSEGV while looking for devices")
    shown = str(backend_listing.as_page(rows)).splitlines()
    assert "faulty: killed by SIGSEGV while looking for devices" in shown
    assert any("skipped: cnnlens has a backend of that name" in line for line in shown)


# -- small parts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "parsed"), [("cpu", ("cpu", 0)), ("gpu", ("gpu", 0)), ("gpu:0", ("gpu", 0)), ("gpu:12", ("gpu", 12))]
)
def test_devices_are_parsed(text: str, parsed: tuple[str, int]) -> None:
    assert parse_device(text) == parsed


@pytest.mark.parametrize("text", ["", "CPU", "cpu:0", "gpu:", "gpu:-1", "gpu:x", "cuda", "gpu:1\n", "gpu:1234"])
def test_what_is_no_device_is_one_line(text: str) -> None:
    with pytest.raises(CnnlensError, match="cpu, gpu or gpu:1") as caught:
        parse_device(text)
    assert "\n" not in str(caught.value)


def test_a_fingerprint_is_of_the_numbers_and_their_order() -> None:
    array = np.arange(24, dtype=np.float32).reshape(4, 3, 2)
    wanted = fingerprint(array)
    assert wanted.finite
    assert fingerprint(array.astype(">f4")) == wanted
    assert fingerprint(np.asfortranarray(array)) == wanted
    assert fingerprint(array.reshape(4, 6)) != wanted
    assert fingerprint(array.astype(np.float64)) != wanted
    changed = array.copy()
    changed[3, 2, 1] = np.nan
    assert not fingerprint(changed).finite
    assert fingerprint(changed).sha256 != wanted.sha256
    assert fingerprint(np.zeros((0, 3), np.float32)).shape == (0, 3)
    assert fingerprint(np.array(2.5)).finite
    assert fingerprint(np.array([1, 2])).finite


def test_what_a_backend_says_to_install_is_what_its_extra_asks_for() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for one in backend.installed():
        extra = one.name.removeprefix("keras-")
        if one.built_in and extra in extras:
            asked = [need.split(";")[0] for need in extras[extra] if "== 'Darwin'" not in need]
            assert one.backend.install == "pip install " + " ".join(f'"{need}"' for need in asked)
