"""What the one door takes and refuses before any framework is asked."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import cnnlens
from cnnlens import sample
from cnnlens.cli.arguments import parse_shapes
from cnnlens.errors import CnnlensError
from cnnlens.opening import architecture
from cnnlens.opening.architecture import InputShape, open_architecture
from cnnlens.opening.opener import network_given, networks_compared


def test_a_path_and_a_network_are_one_model() -> None:
    network, live = network_given(str(sample.MODEL))
    assert live is None
    assert network_given(network) == (network, None)
    state = {f"{layer.name}.{name}": layer.weights[name] for layer in network for name in layer.weights}
    one, other = networks_compared(sample.MODEL, state)
    assert [layer.name for layer in one] == [layer.name for layer in network]
    assert set(other["conv2d"].weights) == {"kernel", "bias"}


def test_what_is_no_model_is_refused_by_its_type() -> None:
    with pytest.raises(CnnlensError, match=r"a path or a Network.* was expected, a builtins\.int came"):
        cnnlens.open(7)


@pytest.mark.parametrize(
    "arch", ["Net", "nets:", ":Net", "nets:Net(4)", "nets:Net(**x)", "nets:Net(a=open('x'))", "nets:N-t"]
)
def test_a_factory_that_is_not_named_rightly_is_never_looked_for(arch: str) -> None:
    with pytest.raises(CnnlensError, match=r"factory or file\.py:factory was expected"):
        open_architecture(arch)


def test_shapes_are_read_as_people_write_them() -> None:
    assert parse_shapes("3,32,48") == [InputShape((3, 32, 48))]
    assert parse_shapes(" 3x32x48 ; 16:int64") == [InputShape((3, 32, 48)), InputShape((16,), "int64")]
    for wrong in ("", "3,,4", "a,b", "3,4:int65", "-1,3", "3;"):
        with pytest.raises(CnnlensError, match="sizes without the batch were expected"):
            parse_shapes(wrong)


def test_commands_that_need_no_torch_do_not_load_it() -> None:
    code = "import sys, cnnlens.opening.architecture; assert not {'torch', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ})
    assert architecture.TIMEOUT > 60
