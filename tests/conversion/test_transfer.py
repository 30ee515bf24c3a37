"""Weights of one model into another: paired without names, carried bit for bit, and everything else left as it was."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
h5py = pytest.importorskip("h5py")
from torch import nn  # noqa: E402

import cnnlens  # noqa: E402
from cnnlens.conversion import to_keras, transfer  # noqa: E402
from cnnlens.conversion.into_files import write_into  # noqa: E402
from cnnlens.errors import CnnlensError  # noqa: E402
from cnnlens.files.keras.write import write_keras  # noqa: E402
from cnnlens.network.network import Network  # noqa: E402
from cnnlens.opening.live import network_of_live  # noqa: E402
from tests.support.to_keras_models import MODELS, Function, randomised  # noqa: E402

NAMES = (
    "resnet_even",
    "mobilenet",
    "densenet",
    "unet",
    "flatten_chain",
    "flatten_chain_square",
    "shared_layers",
    "convnext_block",
    "three_dimensions",
    "one_dimension",
)


class Twins:
    """One architecture with two sets of weights, A and B, in both frameworks, live and as files."""

    def __init__(self, name: str, folder: Path) -> None:
        make, shapes = MODELS[name]
        self.folder = folder
        self.modules = [randomised(make(), seed) for seed in (1, 2)]
        inputs = tuple(torch.zeros((2, *shape)) for shape in shapes)
        self.live = [network_of_live(module, inputs) for module in self.modules]
        for label, module, network in zip("ab", self.modules, self.live, strict=True):
            to_keras.model(network).write(folder / f"{label}.keras")
            torch.save(module.state_dict(), folder / f"{label}.pt")

    def open(self, kind: str, label: str) -> Network:
        if kind == "live":
            return self.live["ab".index(label)]
        return cnnlens.open(self.folder / f"{label}.{kind}")


@pytest.fixture(scope="module", params=NAMES)
def twins(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Twins:
    torch.set_num_threads(1)
    return Twins(request.param, tmp_path_factory.mktemp(request.param))


def arrays_of(network: Network) -> dict[str, np.ndarray[Any, Any]]:
    return {
        f"{layer.name}/{name}": weight.read()
        for layer in network.layers
        for name, weight in layer.stored.items()
        if "num_batches_tracked" not in name
    }


def assert_equal(found: dict[str, np.ndarray[Any, Any]], wanted: dict[str, np.ndarray[Any, Any]]) -> None:
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name, strict=True)


@pytest.mark.parametrize("source", ["live", "pt", "keras"])
def test_into_a_keras_file(twins: Twins, source: str, tmp_path: Path) -> None:
    target = twins.folder / "b.keras"
    before = target.read_bytes()
    written = write_into(twins.open(source, "a"), cnnlens.open(target), tmp_path / "out.keras")
    assert target.read_bytes() == before
    assert_equal(arrays_of(cnnlens.open(written.path)), arrays_of(twins.open("keras", "a")))
    with zipfile.ZipFile(written.path) as ours, zipfile.ZipFile(target) as theirs:
        assert ours.read("config.json") == theirs.read("config.json")


@pytest.mark.parametrize("target", ["live", "pt"])
@pytest.mark.parametrize("source", ["live", "pt", "keras"])
def test_into_a_state_dict(twins: Twins, source: str, target: str, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    written = write_into(twins.open(source, "a"), twins.open(target, "b"), tmp_path / "out.safetensors")
    module = twins.modules[1]
    state = load_file(written.path)
    if target == "pt":
        assert state.keys() == module.state_dict().keys()
    for name, tensor in twins.modules[0].state_dict().items():
        if "num_batches_tracked" not in name:
            assert torch.equal(state[name], tensor), name


def test_another_ending_is_refused_by_the_name_that_was_given(twins: Twins, tmp_path: Path) -> None:
    from cnnlens.conversion.into import put_into

    place = tmp_path / "out.pt"
    with pytest.raises(CnnlensError, match=r"ends in \.safetensors") as error:
        put_into(twins.open("keras", "a"), twins.folder / "b.pt", place)
    assert str(error.value).startswith(f"{place}: ")
    assert not place.exists()


def test_graphs_alone_decide_where_both_have_one(twins: Twins) -> None:
    matching = transfer.match(twins.open("live", "a"), twins.open("keras", "b"))
    assert {pair.how for pair in matching.pairs} <= {"graph", "alike"}
    for pair in matching.pairs:
        assert pair.source.layer.name.replace(".", "_") == pair.target.layer.name


# --- pairing --------------------------------------------------------------------------------------------------------


def _towers(first: str, second: str) -> nn.Module:
    """Two towers of one shape that are concatenated; the order of definition is not that of the graph."""

    def forward(self, x):
        return torch.cat([self.get_submodule(first)(x), self.get_submodule(second)(x)], 1)

    parts = {name: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3)) for name in ("p", "q")}
    return Function(forward, **parts)


def test_branches_of_one_shape_are_told_apart_by_where_they_lead() -> None:
    x = torch.zeros(2, 3, 9, 8)
    source = network_of_live(randomised(_towers("p", "q"), 1), x)
    target = to_keras.model(network_of_live(randomised(_towers("q", "p"), 2), x)).network
    found = {pair.source.layer.name: pair.target.layer.name for pair in transfer.match(source, target).pairs}
    assert found == {"p.0": "q_0", "p.2": "q_2", "q.0": "p_0", "q.2": "p_2"}


def test_branches_that_are_added_are_interchangeable_and_stay_together() -> None:
    def forward(self, x):
        return self.b(self.a(x)) + self.d(self.c(x))

    def make() -> nn.Module:
        return Function(forward, **{name: nn.Conv2d(3, 3, 3, padding=1) for name in "abcd"})

    x = torch.zeros(2, 3, 9, 8)
    source, target = (network_of_live(randomised(make(), seed), x) for seed in (1, 2))
    matching = transfer.match(source, target)
    found = {pair.source.layer.name: pair.target.layer.name for pair in matching.pairs}
    assert [found["a"], found["b"]] in (["a", "b"], ["c", "d"])
    assert [found["c"], found["d"]] in (["a", "b"], ["c", "d"])


def test_values_tell_apart_what_a_file_without_a_graph_cannot(tmp_path: Path) -> None:
    names = [("one", "two", "three"), ("gamma", "alpha", "beta")]
    modules = [nn.ModuleDict({name: nn.Conv2d(3, 3, 3) for name in each}) for each in names]
    randomised(modules[0], 1)
    for theirs, ours in zip(names[1], ("three", "one", "two"), strict=True):
        modules[1][theirs].load_state_dict(modules[0][ours].state_dict())
    for label, module in zip("ab", modules, strict=True):
        torch.save(module.state_dict(), tmp_path / f"{label}.pt")
    matching = transfer.match(cnnlens.open(tmp_path / "a.pt"), cnnlens.open(tmp_path / "b.pt"))
    assert {pair.how for pair in matching.pairs} == {"values"}
    assert {pair.source.layer.name: pair.target.layer.name for pair in matching.pairs} == {
        "three": "gamma",
        "one": "alpha",
        "two": "beta",
    }


def test_order_is_said_where_it_alone_decides(tmp_path: Path) -> None:
    for label, each in (("a", ("one", "two")), ("b", ("x", "y"))):
        module = randomised(nn.ModuleDict({name: nn.Conv2d(3, 3, 3) for name in each}), ord(label))
        torch.save(module.state_dict(), tmp_path / f"{label}.pt")
    matching = transfer.match(cnnlens.open(tmp_path / "a.pt"), cnnlens.open(tmp_path / "b.pt"))
    assert [(pair.source.layer.name, pair.target.layer.name, pair.how) for pair in matching.pairs] == [
        ("one", "x", "order"),
        ("two", "y", "order"),
    ]
    assert "paired by their order" in matching.notes[0]


def test_a_state_dict_is_read_as_the_target_knows_it(tmp_path: Path) -> None:
    """A square transposed convolution without a name of that kind looks like a convolution until somebody knows."""
    module = randomised(nn.Sequential(nn.ConvTranspose2d(4, 4, 3, bias=False)), 1)
    torch.save(module.state_dict(), tmp_path / "a.pt")
    live = network_of_live(
        randomised(nn.Sequential(nn.ConvTranspose2d(4, 4, 3, bias=False)), 2), torch.zeros(2, 4, 5, 6)
    )
    to_keras.model(live).write(tmp_path / "b.keras")
    applied = transfer.apply(cnnlens.open(tmp_path / "a.pt"), cnnlens.open(tmp_path / "b.keras"))
    (array,) = applied.arrays.values()
    np.testing.assert_array_equal(array, module[0].weight.detach().numpy().transpose(2, 3, 1, 0))


# --- what one side lacks --------------------------------------------------------------------------------------------


def _pair(first: nn.Module, second: nn.Module, x: Any) -> tuple[Network, Network]:
    return network_of_live(randomised(first, 1), x), network_of_live(randomised(second, 2), x)


def test_a_missing_bias_is_zero_and_a_missing_gamma_one() -> None:
    source, target = _pair(
        nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4, affine=False)),
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)),
        torch.zeros(2, 3, 6, 5),
    )
    applied = transfer.apply(source, target)
    np.testing.assert_array_equal(applied.arrays["0", "bias"], np.zeros(4, np.float32))
    np.testing.assert_array_equal(applied.arrays["1", "weight"], np.ones(4, np.float32))
    assert any("0/bias" in note and "1/weight" in note for note in applied.notes)


def test_a_bias_without_room_is_refused_unless_it_is_zero() -> None:
    x = torch.zeros(2, 3, 6, 5)
    source, target = _pair(nn.Sequential(nn.Conv2d(3, 4, 3)), nn.Sequential(nn.Conv2d(3, 4, 3, bias=False)), x)
    with pytest.raises(CnnlensError, match=r"'0' \(Conv2d .* has a 'bias' for which .* no room"):
        transfer.apply(source, target)
    module = nn.Sequential(nn.Conv2d(3, 4, 3))
    nn.init.zeros_(module[0].bias)
    assert ("0", "weight") in transfer.apply(network_of_live(module, x), target).arrays


def _keras_gru(path: Path, seed: int) -> Network:
    chance = np.random.default_rng(seed)
    given = {"class_name": "InputLayer", "config": {"name": "wave", "batch_shape": [None, 7, 3]}}
    steps = {
        "class_name": "GRU",
        "config": {"name": "steps", "units": 4, "return_sequences": True, "reset_after": True},
    }
    shapes = {"kernel": (3, 12), "recurrent_kernel": (4, 12), "bias": (2, 12)}
    arrays = {name: chance.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    config = {"class_name": "Sequential", "config": {"name": "m", "layers": [given, steps]}}
    write_keras(path, config, {("steps", "cell"): arrays})
    return cnnlens.open(path)


def test_the_two_biases_of_a_gru_keep_their_places(tmp_path: Path) -> None:
    """Only one of them is multiplied by the reset gate: exchanged, they compute another thing."""
    module = randomised(Function(lambda self, x: self.steps(x)[0], steps=nn.GRU(3, 4, batch_first=True)), 1)
    x = torch.randn((2, 7, 3), generator=torch.Generator().manual_seed(5))
    ours, theirs = network_of_live(module, x), _keras_gru(tmp_path / "b.keras", 2)
    wave = x.numpy().transpose(0, 2, 1).astype(np.float64)

    written = cnnlens.open(write_into(ours, theirs, tmp_path / "out.keras").path)
    with torch.no_grad():
        wanted = module.double()(x.double()).numpy()
    np.testing.assert_allclose(written.run(wave)["steps"].transpose(0, 2, 1), wanted, atol=1e-12)

    back = write_into(theirs, ours, tmp_path / "out.safetensors")
    module.load_state_dict({name: torch.as_tensor(array) for name, array in _state(back.path).items()})
    with torch.no_grad():
        found = module.double()(x.double()).numpy()
    np.testing.assert_allclose(found, theirs.run(wave)["steps"].transpose(0, 2, 1), atol=1e-12)


def _state(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    from safetensors.numpy import load_file

    return load_file(path)


def test_missing_statistics_are_refused(tmp_path: Path) -> None:
    norm = {"class_name": "BatchNormalization", "config": {"name": "n", "axis": -1}, "name": "n", "inbound_nodes": []}
    config = {"class_name": "Functional", "config": {"name": "m", "layers": [norm]}}
    roles = ("gamma", "beta", "moving_mean", "moving_variance")
    write_keras(tmp_path / "b.keras", config, {("n",): dict.fromkeys(roles, np.ones(5, np.float32))})
    torch.save(nn.BatchNorm2d(5, track_running_stats=False).state_dict(), tmp_path / "a.pt")
    with pytest.raises(CnnlensError) as error:
        transfer.apply(cnnlens.open(tmp_path / "a.pt"), cnnlens.open(tmp_path / "b.keras"))
    assert "\n" not in str(error.value)


def test_another_epsilon_is_said() -> None:
    x = torch.zeros(2, 3, 6, 5)
    source = network_of_live(randomised(nn.Sequential(nn.BatchNorm2d(3, eps=1e-3)), 1), x)
    target = to_keras.model(network_of_live(randomised(nn.Sequential(nn.BatchNorm2d(3)), 2), x)).network
    assert any("epsilon" in note for note in transfer.apply(source, target).notes)


def test_counters_are_the_targets_own(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    source, target = (randomised(nn.Sequential(nn.BatchNorm2d(3)), seed) for seed in (1, 2))
    target[0].num_batches_tracked.fill_(7)
    for label, module in (("a", source), ("b", target)):
        torch.save(module.state_dict(), tmp_path / f"{label}.pt")
    written = write_into(cnnlens.open(tmp_path / "a.pt"), cnnlens.open(tmp_path / "b.pt"), tmp_path / "o.safetensors")
    assert load_file(written.path)["0.num_batches_tracked"] == 7
    assert written.applied.kept == ("0/num_batches_tracked",)


# --- refusals -------------------------------------------------------------------------------------------------------


def test_models_of_another_structure_name_what_differs(tmp_path: Path) -> None:
    source, target = _pair(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3)),
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6)),
        torch.zeros(2, 3, 8, 7),
    )
    with pytest.raises(CnnlensError) as error:
        write_into(source, target, tmp_path / "out.safetensors")
    text = str(error.value)
    for shown in ("2 and 3 weighted parts", "'1' (Conv2d (5, 4, 3, 3))", "nearest there: '1' (Conv2d (6, 4, 3, 3))"):
        assert shown in text
    assert "\n" not in text
    assert not list(tmp_path.iterdir())


def test_a_wrong_ending_is_refused(tmp_path: Path) -> None:
    source, target = _pair(nn.Sequential(nn.Linear(3, 2)), nn.Sequential(nn.Linear(3, 2)), torch.zeros(2, 3))
    with pytest.raises(CnnlensError, match=r"ends in \.safetensors was expected"):
        write_into(source, target, tmp_path / "out.keras")


# --- the rest of a Keras file ---------------------------------------------------------------------------------------


def test_compilation_and_optimizer_are_left_out_and_nothing_else(tmp_path: Path) -> None:
    x = torch.zeros(2, 3, 6, 5)
    live = network_of_live(randomised(nn.Sequential(nn.Conv2d(3, 4, 3)), 2), x)
    made = to_keras.model(live)
    made.write(tmp_path / "plain.keras")
    target = tmp_path / "trained.keras"
    with zipfile.ZipFile(tmp_path / "plain.keras") as archive, zipfile.ZipFile(target, "w") as out:
        config = {**json.loads(archive.read("config.json")), "compile_config": {"optimizer": "adam"}}
        weights = tmp_path / "w.h5"
        weights.write_bytes(archive.read("model.weights.h5"))
        with h5py.File(weights, "a") as file:
            file.create_dataset("optimizer/vars/0", data=np.arange(3))
        out.writestr("metadata.json", archive.read("metadata.json"))
        out.writestr("config.json", json.dumps(config))
        out.writestr("model.weights.h5", weights.read_bytes())
        out.writestr("assets/words.txt", "kept")
    source = network_of_live(randomised(nn.Sequential(nn.Conv2d(3, 4, 3)), 1), x)
    written = write_into(source, cnnlens.open(target), tmp_path / "out.keras")
    assert [note for note in written.notes if "compil" in note]
    assert [note for note in written.notes if "optimizer" in note]
    with zipfile.ZipFile(written.path) as archive:
        assert archive.read("assets/words.txt") == b"kept"
        assert "compile_config" not in json.loads(archive.read("config.json"))
        weights.write_bytes(archive.read("model.weights.h5"))
    with h5py.File(weights) as file:
        assert set(file) == {"layers", "vars"}


def test_the_target_is_replaced_where_it_is_named(tmp_path: Path) -> None:
    x = torch.zeros(2, 3, 6, 5)
    source, target = (network_of_live(randomised(nn.Sequential(nn.Conv2d(3, 4, 3)), seed), x) for seed in (1, 2))
    path = tmp_path / "b.keras"
    to_keras.model(target).write(path)
    write_into(source, cnnlens.open(path), path)
    np.testing.assert_array_equal(
        cnnlens.open(path)["0"].weights["kernel"], source["0"].weights["weight"].transpose(2, 3, 1, 0)
    )
    assert [file.name for file in tmp_path.iterdir()] == ["b.keras"]


def test_into_weights_alone(tmp_path: Path) -> None:
    """A ``.weights.h5`` has no graph: the map that was flattened is known from the other side."""
    make, shapes = MODELS["flatten_chain"]
    x = tuple(torch.zeros((2, *shape)) for shape in shapes)
    source, target = (network_of_live(randomised(make(), seed), x) for seed in (1, 2))
    for label, network in (("a", source), ("b", target)):
        to_keras.model(network).write(tmp_path / f"{label}.keras")
        with zipfile.ZipFile(tmp_path / f"{label}.keras") as archive:
            (tmp_path / f"{label}.weights.h5").write_bytes(archive.read("model.weights.h5"))
    written = write_into(source, cnnlens.open(tmp_path / "b.weights.h5"), tmp_path / "out.weights.h5")
    assert_equal(arrays_of(cnnlens.open(written.path)), arrays_of(cnnlens.open(tmp_path / "a.weights.h5")))
