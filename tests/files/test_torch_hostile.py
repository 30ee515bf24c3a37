"""PyTorch files that lie or call: each is refused in one line, in little time and memory, and nothing in it runs."""

from __future__ import annotations

import gc
import json
import pickle
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnlens
from cnnlens import files
from cnnlens.cli.main import main
from cnnlens.files.torch.pickle_vocabulary import CALLS, CONSTANTS
from tests.support import files_torch_hostile_makers
from tests.support.files_torch_hostile_makers import (
    FORWARD,
    MAKERS,
    REFUSALS,
    Payload,
    alone,
    entry,
    leaves,
    legacy,
    mapping,
    named,
    safetensors,
    script,
    state,
    storage,
    tensor,
    text,
    zipped,
)
from tests.support.hostile_process import (
    Outcomes,
    assert_refused_in_one_line,
    assert_the_cap_on_memory_is_one,
    made_and_opened,
)

# Reads every array too.
_OPENER = """
import cnnlens
import cnnlens.files.torch.safetensors, cnnlens.files.torch.state_layers, cnnlens.files.torch.archive
def opened(path):
    network = cnnlens.open(path)
    read = sum(int(array.nbytes) for layer in network for array in layer.weights.values())
    return f"opened, read {read} bytes: " + "; ".join(network.notes)
"""


@pytest.fixture(scope="session")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcomes]:
    """Every hostile file in a folder of its own, and what opening it led to."""
    return made_and_opened(tmp_path_factory, files_torch_hostile_makers, _OPENER)


@pytest.fixture(scope="session")
def outcomes(found: tuple[Path, Outcomes]) -> Outcomes:
    return found[1]


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(MAKERS))
def test_refused_in_one_line(outcomes: Outcomes, name: str) -> None:
    assert_refused_in_one_line(outcomes[name], REFUSALS[name])


@pytest.mark.slow
def test_nothing_ran(found: tuple[Path, Outcomes], outcomes: Outcomes) -> None:
    assert len(outcomes) > 150
    assert list(found[0].rglob("canary")) == []
    assert "torch" not in outcomes["modules"][0].split()


def test_the_payloads_would_run(tmp_path: Path) -> None:
    """Python's own unpickler runs what the reader refused above."""
    pickle.loads(pickle.dumps(Payload(tmp_path), 2))
    assert (tmp_path / "canary").exists()


def test_the_cap_on_memory_is_one() -> None:
    assert_the_cap_on_memory_is_one()


@pytest.mark.framework
@pytest.mark.parametrize("make", [zipped, legacy])
def test_the_files_are_right_but_for_what_is_wrong_with_them(tmp_path: Path, make: Any) -> None:
    """The parts that the hostile files are put together from make an honest one, to torch as well."""
    torch = pytest.importorskip("torch")
    # The older format says for each storage whether it is a view of another.
    entries = {"a.weight": tensor(at=storage(old=make is legacy)), "b": text("said")}
    path = make(tmp_path, alone(mapping(entries)))
    expected = np.arange(15, dtype=np.float32).reshape(5, 3)
    np.testing.assert_array_equal(cnnlens.open(path)["a"].weights["weight"], expected)
    np.testing.assert_array_equal(torch.load(path)["a.weight"].numpy(), expected)


def test_the_safetensors_files_are_too(tmp_path: Path) -> None:
    path = safetensors(tmp_path, {"a.weight": entry()})
    np.testing.assert_array_equal(cnnlens.open(path)["a"].weights["weight"].ravel(), np.arange(15, dtype=np.float32))


def test_a_header_whose_length_begins_like_json(tmp_path: Path) -> None:
    header = json.dumps({"a.weight": entry()}).encode()
    path = safetensors(tmp_path, header + b" " * (0x7B - len(header)))
    assert path.read_bytes()[:1] == b"{"
    assert cnnlens.open(path)["a"].kind == "Linear"


def test_lists_of_two_to_the_forty_leaves_beside_the_weights_are_not_walked(tmp_path: Path) -> None:
    for make in (zipped, legacy):
        path = make(tmp_path, alone(leaves(40) + b"0" + mapping({"a.weight": tensor(), "b": b"h\x00"})))
        network = cnnlens.open(path)
        assert network["a"].weights["weight"].shape == (5, 3)
        assert "entries of the state dict that are no tensors: b" in network.notes


def test_the_collector_of_cycles_rests_while_a_file_is_read_and_no_longer(tmp_path: Path) -> None:
    """It would walk all that was read, again and again."""
    path = zipped(tmp_path, alone(mapping({f"{number}.weight": tensor() for number in range(2_000)})))
    collected: list[str] = []

    def note(phase: str, of: dict[str, int]) -> None:
        collected.append(phase)

    cnnlens.open(path)  # what is imported on the way is no part of it
    gc.callbacks.append(note)
    try:
        files.network(path)
    finally:
        gc.callbacks.remove(note)
    assert len(collected) < 10  # some of the objects of before, when it goes on; without a rest, hundreds
    assert gc.isenabled()
    gc.disable()
    try:
        with pytest.raises(cnnlens.FileRefusedError):
            files.network(tmp_path / "none.pt")
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_mapping_that_holds_itself(tmp_path: Path) -> None:
    data = alone(b"}q\x00(" + text("self") + b"h\x00" + text("a.weight") + tensor() + b"u")
    assert cnnlens.open(zipped(tmp_path, data))["a"].kind == "Linear"


def test_what_stands_behind_the_pickle_is_not_read(tmp_path: Path) -> None:
    path = zipped(tmp_path, state() + pickle.dumps(Payload(tmp_path), 2))
    assert any("behind the end of the pickle" in note for note in cnnlens.open(path).notes)
    assert not (tmp_path / "canary").exists()


def test_names_from_the_file_are_shown_escaped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "\x1b[31mred‮egnp\n.weight"
    path = zipped(tmp_path, alone(mapping({name: tensor(), "\x1b[2J" + "k" * 500: b"N"})))
    assert main(["summary", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "‮" not in shown
    assert "\\x1b[31mred\\u202eegnp\\n" in shown


def test_the_name_that_refused_a_file_is_shown_escaped(tmp_path: Path) -> None:
    path = zipped(tmp_path, state(b=named("o\x1b[2Js", "x" * 900) + b")R"))
    with pytest.raises(cnnlens.FileRefusedError) as caught:
        cnnlens.open(path)
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_the_vocabulary_is_what_checkpoints_need_and_no_more() -> None:
    """Adding a name here is a decision about safety: it must be made in this list too."""
    modules = {name.rpartition(".")[0] for name in (*CALLS, *CONSTANTS)}
    assert modules == {
        "_codecs",
        "builtins",
        "collections",
        "copyreg",
        "datetime",
        "decimal",
        "fractions",
        "functools",
        "logging",
        "numpy",
        "numpy._core.multiarray",
        "numpy._core.numeric",
        "numpy.core.multiarray",
        "numpy.core.numeric",
        "numpy.random._pickle",
        "_operator",
        "operator",
        "pathlib",
        "pathlib._local",
        "re",
        "torch",
        "torch._tensor",
        "torch._utils",
        "torch.cuda",
        "torch.jit._pickle",
        "torch.nn.parameter",
        "torch.serialization",
        "torch.storage",
        "types",
    }
    callables = {name for name in CALLS if name.startswith(("builtins", "_codecs", "collections"))}
    assert callables == {
        "_codecs.encode",
        "builtins.bytearray",
        "builtins.bytes",
        "builtins.complex",
        "builtins.frozenset",
        "builtins.getattr",
        "builtins.range",
        "builtins.set",
        "builtins.slice",
        "collections.Counter",
        "collections.OrderedDict",
        "collections.defaultdict",
        "collections.deque",
    }


def test_no_reader_of_pickles_imports_pythons_own() -> None:
    package = Path(cnnlens.__file__).parent
    for path in package.rglob("*.py"):
        source = path.read_text()
        assert "import pickle" not in source, path
        assert "from pickle" not in source, path


# --- TorchScript's code ----------------------------------------------------------------------------------------------


def forward(*lines: str) -> str:
    """A ``forward`` of these lines, and a last one that returns something of ``x``."""
    return FORWARD + "".join(f"    {line}\n" for line in (*lines, "return torch.relu(x)"))


UNFOLLOWED: dict[str, tuple[str, str]] = {
    "none": ("", "its code has no forward"),
    "Python": (forward("import os"), "the statement 'import'"),
    "a loop without end": (forward("while True:", "  y = x"), "the statement 'while'"),
    "a call of Python's": (forward("y = open('x', 'w')"), "none of TorchScript's"),
    "Python's own functions": (forward('y = open("x", "w")'), "the function open of numbers"),
    "a function that is not there": (forward("y = __torch__.os.system(x)"), "is not in the archive"),
    "operators of others": (forward("y = ops.mine.evil(x)"), "it calls ops.mine.evil, which is not PyTorch's"),
    "10,000 brackets": (forward(f"y = {'(' * 10_000}x{')' * 10_000}"), "brackets nested 61 deep"),
    "10,000 lists": (forward(f"y = {'[' * 10_000}"), "brackets nested 61 deep"),
    "10,000 attributes": (forward(f"y = x{'.a' * 10_000}"), "nested deeper than is followed"),
    "300 blocks": (forward(*(f"{' ' * n}if True:" for n in range(300))), "blocks nested more than 60 deep"),
    "a bracket that stays open": (forward("y = torch.relu(x"), "a bracket that is never closed"),
    "half a million words": (forward(*["y = x"] * 200_000), "more code than is read"),
    "calls of itself": (forward("y = (self).forward(x)"), "calls in calls, more than 60 deep"),
    "10**15 steps": (forward("for i in range(1000000000000000):", "  y = x"), "more than 200,000 steps"),
    "1000**5 steps": (
        forward(*(f"{' ' * n}for i{n} in range(1000):" for n in range(5)), "      y = x"),
        "more than 200,000 steps",
    ),
    "a number of 2**30 digits": (
        forward("n = 3", "for i in range(30):", "  n = torch.mul(n, n)"),
        "the function mul of numbers",
    ),
    "a text of 10**9": (forward('n = torch.mul("a", 1000000000)'), "the function mul of numbers"),
    "a list of 10**9": (forward("n = torch.mul([1], 1000000000)"), "the function mul of numbers"),
    "a list of 2**30": (
        forward("n = [1]", "for i in range(30):", "  n = torch.add(n, n)"),
        "the function add of numbers",
    ),
    "20,000 calls": (
        forward("for i in range(20000):", "  x = torch.relu(x)"),
        "calls, which no model of its size makes",
    ),
    "a branch on numbers": (forward("if bool(torch.sum(x)):", "  y = x"), "a branch that depends on"),
    "a change of itself": (forward("self.w = torch.relu(x)"), "it changes its own 'w' as it is called"),
    "a change of an item": (forward("self.w[0] = torch.relu(x)"), "an assignment to what is no name"),
    "no tensor": (FORWARD + "    return 3\n", "something that is no tensor"),
    "nothing": (FORWARD + "    y = x\n", "it gives no tensor"),
    "bytes that are no text": (forward("y = \x00x"), "none of TorchScript's"),
}


@pytest.mark.parametrize("name", UNFOLLOWED)
def test_code_that_is_not_followed_leaves_the_arrays(tmp_path: Path, name: str) -> None:
    code, reason = UNFOLLOWED[name]
    began = time.process_time()
    network = cnnlens.open(script(code, compress=True)(tmp_path))
    assert time.process_time() - began < 6
    assert network.calls == ()
    assert network[0].weights["w"].shape == (5, 3)
    said = next(note for note in network.notes if "cannot be read from the archive's code" in note)
    assert reason in said


def test_too_much_code_is_not_read(tmp_path: Path) -> None:
    network = cnnlens.open(script(forward() + "#" * 30_000_000, compress=True)(tmp_path))
    assert any("code of 30 MB, 16.8 MB at most" in note for note in network.notes)


@pytest.mark.slow
def test_code_that_unpacks_to_100_megabytes(tmp_path: Path) -> None:
    with pytest.raises(cnnlens.FileRefusedError, match=r"members that unpack to 100 MB"):
        cnnlens.open(script(forward() + "#" * 100_000_000, compress=True)(tmp_path))


def test_code_that_is_followed(tmp_path: Path) -> None:
    """The parts that the archives above are put together from make an honest one."""
    network = cnnlens.open(script(forward())(tmp_path))
    assert [layer.kind for layer in network] == ["InputLayer", "relu", ""]


def test_a_call_in_the_constants_is_refused(tmp_path: Path) -> None:
    path = script(forward(), constants=pickle.dumps(Payload(tmp_path), 2))(tmp_path)
    with pytest.raises(cnnlens.FileRefusedError, match=r"constants\.pkl: the pickle calls posix\.system"):
        cnnlens.open(path)
    assert not (tmp_path / "canary").exists()


def test_names_beside_the_weights_are_words(tmp_path: Path) -> None:
    """Naming a function runs nothing, here and in torch; calling it is refused."""
    path = zipped(tmp_path, state(optimizer=named("torch.optim.adam", "Adam"), other=named("os", "system")))
    network = cnnlens.open(path)
    assert network["a"].kind == "Linear"
    assert "entries of the state dict that are no tensors: optimizer, other" in network.notes


def test_truncation_at_every_place(tmp_path: Path) -> None:
    for make in (zipped, legacy, safetensors):
        path = make(tmp_path, {"a.weight": entry()}) if make is safetensors else make(tmp_path, state())
        data = path.read_bytes()
        for end in range(1, len(data)):
            path.write_bytes(data[:end])
            with pytest.raises(cnnlens.CnnlensError):
                cnnlens.open(path)
