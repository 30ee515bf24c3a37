"""What every backend must keep, as tests: the built-in adapters pass it by inheriting it, and so would a third party's.

The backend runs in a worker, as it will for its users. What it gives is held against the float64 reference and, where
bits are promised, against the bits. Comparisons raise; none returns a value that somebody must look at.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from cnnlens import layout
from cnnlens.backend import handover
from cnnlens.backend import seam as seam
from cnnlens.backend.reductions import NumpyOps, reduced, summary_of
from cnnlens.backend.summary import example_numbers, summary
from cnnlens.backend.worker import Chunk, Worker, WorkerError, pool
from cnnlens.errors import CnnlensError
from cnnlens.janitor import temporary_folder
from cnnlens.network.network import Network
from cnnlens.network.weight import Weight
from cnnlens.testing.networks import NETWORKS, REFUSED, inputs_for, network

__all__ = ["BackendContract", "Contract"]

_COUNT = 6  # inputs in a batch; a prime factor of no axis that could be taken for it
_REFUSED_LAYERS = {"unknown": "attention", "lambda": "anything"}


@dataclass
class Contract:
    """Holds what the tests work with: the worker, and the contract's networks handed over and run once each."""

    worker: Worker
    folder: Path
    tolerance: float
    framework: str = "keras"

    def load(self, name: str) -> Network:
        net = network(name, self.framework)
        place = self.folder / name
        if not place.exists():
            place.mkdir()
            handover.write(net, place)
        self.worker.load(place)
        return net

    def hold(self, found: dict[str, NDArray[Any]], net: Network, inputs: list[NDArray[Any]]) -> None:
        """Hold feature maps against the float64 reference.

        Raises:
            AssertionError: one is missing, of another shape or type, or further off than rounding goes.
        """
        assert found
        wanted = net.run(inputs, list(found), dtype="float64")
        for name, array in found.items():
            assert array.shape == wanted[name].shape, f"'{name}': {wanted[name].shape} was expected, {array.shape} came"
            assert array.dtype == np.float32, f"'{name}': float32 was expected, {array.dtype} came"
            scale = np.abs(wanted[name]).max()
            off = np.abs(array - wanted[name]).max()
            assert off <= self.tolerance * scale, f"'{name}': off by {off:.3g} where the largest value is {scale:.3g}"


class BackendContract:
    """Holds the tests that every backend must pass: inherit it and set ``backend``; pytest does the rest.

    Attributes:
        backend: The entry point's name.
        framework: Whose models it runs: the contract's networks are ``keras`` ones or ``torch`` ones.
        device: Where it runs.
        precision: How it runs.
        timeout: Seconds for each answer; the first imports the framework.
        tolerance: The largest error, as a part of the largest value of a feature map.

    >>> from cnnlens.testing import BackendContract
    >>> class TestMine(BackendContract):
    ...     backend = "reference"  # the name under which your entry point declares it
    ...     tolerance = 1e-6
    >>> TestMine.framework, TestMine.device, TestMine.precision
    ('keras', 'cpu', 'strict')
    """

    backend: ClassVar[str]
    framework: ClassVar[str] = "keras"
    device: ClassVar[str] = "cpu"
    precision: ClassVar[str] = "strict"
    timeout: ClassVar[float] = 300.0
    tolerance: ClassVar[float] = 1e-5

    @contextlib.contextmanager
    def opened(self) -> Generator[Contract]:
        """Lend a worker and a folder. The worker stays warm between tests, so that the framework is imported once."""
        with temporary_folder() as folder, pool(self.backend, self.device, self.precision, self.timeout) as worker:
            yield Contract(worker, folder, self.tolerance, self.framework)

    @pytest.fixture
    def contract(self) -> Iterator[Contract]:
        with self.opened() as contract:
            yield contract

    # -- who it is ---------------------------------------------------------------------------------------------------

    def test_it_is_found_and_says_what_it_needs(self) -> None:
        found = seam.find(self.backend)
        assert found.problem is None
        assert found.backend.name == self.backend
        assert found.backend.install
        assert "\n" not in found.backend.install
        assert found.missing == ()
        assert found.versions

    def test_importing_its_module_imports_no_framework(self, contract: Contract) -> None:
        assert contract.worker.hello()["heavy_imports"] == []

    def test_its_devices_have_names(self, contract: Contract) -> None:
        devices = contract.worker.devices()
        assert any(one.startswith(self.device.partition(":")[0]) for one in devices)
        assert all(one and "\n" not in one for one in devices)

    def test_a_session_says_what_runs_where(self, contract: Contract) -> None:
        net = contract.load("chain")
        loaded = contract.worker.load(contract.folder / net.name)
        assert loaded.versions
        assert all(loaded.versions.values())
        assert loaded.device.startswith(self.device.partition(":")[0])
        assert loaded.layout == seam.get(self.backend).layout

    # -- what it computes --------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("name", NETWORKS)
    def test_every_feature_map_is_canonical_and_right(self, contract: Contract, name: str) -> None:
        net = contract.load(name)
        inputs = inputs_for(net, _COUNT)
        found = contract.worker.feature_maps(inputs, list(net.tensors))
        assert list(found) == list(net.tensors)
        contract.hold(found, net, inputs)

    @pytest.mark.parametrize("name", NETWORKS)
    def test_what_is_asked_for_is_given_and_nothing_else(self, contract: Contract, name: str) -> None:
        net = contract.load(name)
        inputs = inputs_for(net, _COUNT)
        for wanted in ([net.calls[1].name], [ref.name for ref in reversed(net.outputs)]):
            found = contract.worker.feature_maps(inputs, wanted)
            assert list(found) == wanted
            contract.hold(found, net, inputs)

    @pytest.mark.parametrize("name", ["chain", "branches"])
    def test_the_last_batch_may_be_short(self, contract: Contract, name: str) -> None:
        net = contract.load(name)
        inputs = inputs_for(net, _COUNT)
        names = [ref.name for ref in net.outputs]
        whole = contract.worker.feature_maps(inputs, names)
        for count in (2, 1):
            part = [one[:count] for one in inputs]
            found = contract.worker.feature_maps(part, names)
            contract.hold(found, net, part)
            for one in names:
                scale = np.abs(whole[one]).max()
                assert np.abs(found[one] - whole[one][:count]).max() <= contract.tolerance * scale

    def test_it_repeats_itself_bit_for_bit(self, contract: Contract) -> None:
        net = contract.load("chain")
        inputs = inputs_for(net, _COUNT)
        names = list(net.tensors)
        first = contract.worker.feature_maps(inputs, names)
        net = contract.load("chain")
        second = contract.worker.feature_maps(inputs, names)
        for name in names:
            np.testing.assert_array_equal(first[name], second[name], name, strict=True)

    @pytest.mark.parametrize("name", ["chain", "signal"])
    @pytest.mark.parametrize("reduction", ["mean", "max", "moments", "topk:3", "down:2", summary_of(1, 4)])
    def test_what_is_reduced_is_what_core_makes_of_the_maps(
        self, contract: Contract, name: str, reduction: str
    ) -> None:
        net = contract.load(name)
        inputs = inputs_for(net, _COUNT)
        names = [one for one, ref in net.tensors.items() if net.batch_axis(ref) == 0]
        whole = contract.worker.feature_maps(inputs, names)
        found = contract.worker.feature_maps(inputs, names, reduction)
        assert list(found) == names
        for one in names:
            if reduction == summary_of(1, 4):
                wanted = summary(whole[one], example_numbers(inputs), 4)
            else:
                wanted = np.asarray(reduced(reduction, whole[one], NumpyOps))
                assert found[one].dtype == np.float32
            assert found[one].shape == wanted.shape
            if reduction.startswith("topk") and whole[one].ndim > 2:  # of equal ones, any
                maps = whole[one].reshape(*whole[one].shape[:2], -1)
                there = np.take_along_axis(maps, found[one][..., 1].astype(np.int64), -1)
                np.testing.assert_array_equal(there, found[one][..., 0])
                found[one], wanted = found[one][..., 0], wanted[..., 0]
            scale = np.abs(wanted).max()
            assert np.abs(found[one] - wanted).max() <= contract.tolerance * scale, f"'{one}' by {reduction}"

    def test_files_are_filled_up_with_zeros(self, contract: Contract) -> None:
        net = contract.load("chain")
        (image,) = inputs_for(net, _COUNT)
        source, target = contract.folder / "source", contract.folder / "target"
        image.tofile(source)
        chunks = {"first": Chunk(target, (_COUNT, 5, 11, 9), "<f8")}
        report = contract.worker.run([Chunk(source, image.shape)], chunks, count=4)
        found = np.fromfile(target, "<f8").reshape(_COUNT, 5, 11, 9)
        assert not found[4:].any()
        contract.hold({"first": found[:4].astype(np.float32)}, net, [image[:4]])
        assert list(report.crc32) == ["first"]

    def test_a_batch_may_stay_where_it_is_computed(self, contract: Contract) -> None:
        """What ``bench`` times; a session without ``compute`` gives its feature maps instead."""
        net = contract.load("chain")
        inputs = inputs_for(net, _COUNT)
        chunks: list[Chunk] = []
        for index, array in enumerate(inputs):
            chunks.append(Chunk(contract.folder / f"input-{index}", array.shape, array.dtype.str))
            array.tofile(chunks[-1].path)
        names = list(net.tensors)
        timing = contract.worker.bench(chunks, names, "device", seconds=60.0, most=2)
        assert len(timing.seconds) == 2
        assert all(seconds > 0 for seconds in timing.seconds)
        assert timing.bytes == 0
        contract.hold(contract.worker.feature_maps(inputs, names), net, inputs)
        assert contract.worker.bench(chunks, names, "host").bytes >= sum(array.nbytes for array in inputs)

    # -- its precisions ----------------------------------------------------------------------------------------------

    def test_it_computes_in_each_precision_that_it_has_and_refuses_the_others(self, contract: Contract) -> None:
        net = contract.load("chain")
        inputs = inputs_for(net, _COUNT)
        has = seam.precisions_of(seam.get(self.backend), self.device.partition(":")[0])
        assert set(has) >= {"strict", "native"}
        assert set(has) <= set(seam.PRECISIONS)
        wanted = net.run(inputs, ["first"], dtype="float64")["first"]
        for precision in seam.PRECISIONS[2:]:
            with Worker.start(self.backend, self.device, precision, self.timeout) as worker:
                if precision in has:
                    worker.load(contract.folder / "chain")
                    off = np.abs(worker.feature_maps(inputs, ["first"])["first"] - wanted).max()
                    assert off <= 0.02 * np.abs(wanted).max(), f"{precision}: off by {off:.3g}"
                    continue
                with pytest.raises(CnnlensError) as caught:
                    worker.load(contract.folder / "chain")
                message = str(caught.value)
                assert f"it has no precision '{precision}'" in message
                assert "\n" not in message

    # -- its weights -------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("name", NETWORKS)
    def test_weights_are_the_file_s_bit_for_bit(self, contract: Contract, name: str) -> None:
        net = contract.load(name)
        held = contract.worker.weights()
        own = seam.get(self.backend).layout
        wanted = {
            layer.name: {key: seam.fingerprint(_arranged(weight, own)) for key, weight in layer.stored.items()}
            for layer in net.layers_of_calls
            if layer.stored
        }
        assert {layer: arrays for layer, arrays in held.items() if arrays} == wanted

    # -- what it refuses ---------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("name", REFUSED)
    def test_unknown_code_is_refused_in_one_line_that_names_the_layer(self, contract: Contract, name: str) -> None:
        with pytest.raises(CnnlensError) as caught:
            contract.load(name)
        message = str(caught.value)
        assert not isinstance(caught.value, WorkerError), message
        assert message.startswith(f"{self.backend}: ")
        assert _REFUSED_LAYERS[name] in message
        assert "\n" not in message
        # The worker lives on, and what was loaded before is not run in its place.
        net = contract.load("signal")
        inputs = inputs_for(net, 3)
        contract.hold(contract.worker.feature_maps(inputs, ["fine"]), net, inputs)

    def test_a_device_that_is_not_there_is_refused_in_one_line(self, contract: Contract) -> None:
        contract.load("signal")
        for device in ("gpu:99", "toaster"):
            with (
                pytest.raises(CnnlensError) as caught,
                Worker.start(self.backend, device, self.precision, self.timeout) as worker,
            ):
                worker.load(contract.folder / "signal")
            message = str(caught.value)
            assert not isinstance(caught.value, WorkerError), message
            assert device in message
            assert "\n" not in message


def _arranged(weight: Weight, framework: str) -> NDArray[Any]:
    if framework in (seam.STORED, weight.framework):
        return weight.read()
    return layout.arrange(weight.kind, weight.role, weight.canonical(), framework, weight.geometry)
