"""Writes in place: every in-place operator of the installed PyTorch has the plain twin that the reader names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnlens
from cnnlens.errors import UnsupportedLayerError
from cnnlens.files.torch.program import Node
from cnnlens.files.torch.program_inplace import plain_form

torch = pytest.importorskip("torch")

nn = torch.nn


def _in_place_schemas() -> Iterator[Any]:
    """Of aten's operators, those that write into their first argument, a tensor or a list of them, and give it."""
    for one in torch._C._jit_get_all_schemas():
        for first in one.arguments[:1]:
            writes = first.alias_info is not None and first.alias_info.is_write and not first.kwarg_only
            tensors = str(first.type) in ("Tensor", "List[Tensor]")
            if writes and tensors and one.name.startswith("aten::") and one.name.endswith("_"):
                yield one


def _signature(schema: Any) -> list[tuple[str, str, bool]]:
    return sorted((one.name, str(one.type), one.kwarg_only) for one in schema.arguments)


def _node(schema: Any) -> Node:
    arguments = {one.name: str(one.type) for one in schema.arguments}
    target = f"aten.{schema.name.removeprefix('aten::')}.{schema.overload_name or 'default'}"
    return Node("node", target, arguments, ("out",), ())


def _overload(target: str) -> Any:
    _, name, overload = target.split(".")
    return getattr(getattr(torch.ops.aten, name, None), overload, None)


def test_every_in_place_operator_has_the_plain_twin_that_is_named() -> None:
    schemas = list(_in_place_schemas())
    assert len(schemas) > 300
    wrong: list[str] = []
    for schema in schemas:
        node = _node(schema)
        assert node.in_place, schema
        plain = plain_form(node)
        twin = _overload(plain.target)
        if plain.refused:  # nothing that has a twin is refused
            twins = [_overload(f"aten.{node.op}.{one}") for one in getattr(torch.ops.aten, node.op, ())]
            if any(_signature(one._schema) == _signature(schema) for one in twins):
                wrong.append(f"{schema} is refused and has a twin")
        elif node.op == "requires_grad":  # computes nothing: the reader drops it
            continue
        elif twin is None:
            wrong.append(f"{schema} has no {plain.target}")
        elif sorted((name, kind) for name, kind in plain.arguments.items()) != [
            (name, kind) for name, kind, _ in _signature(twin._schema)
        ]:
            wrong.append(f"{schema} is not called as {twin._schema}")
        elif twin._schema.arguments[0].alias_info is not None and twin._schema.arguments[0].alias_info.is_write:
            wrong.append(f"{twin._schema} writes, too")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "module",
    [
        *(nn.Dropout(0.2, inplace=True), nn.Dropout2d(0.2, inplace=True), nn.Dropout3d(0.2, inplace=True)),
        *(nn.AlphaDropout(0.2, inplace=True), nn.FeatureAlphaDropout(0.2, inplace=True)),
        *(nn.ReLU6(inplace=True), nn.Hardtanh(inplace=True), nn.ELU(inplace=True), nn.CELU(inplace=True)),
        *(nn.SELU(inplace=True), nn.SiLU(inplace=True), nn.Mish(inplace=True), nn.Hardswish(inplace=True)),
        *(nn.Hardsigmoid(inplace=True), nn.LeakyReLU(inplace=True), nn.Threshold(0.1, 0.2, inplace=True)),
        nn.RReLU(inplace=True),
    ],
    ids=lambda module: type(module).__name__,
)
def test_a_module_in_place_agrees_under_torch(module: Any) -> None:
    torch.manual_seed(2)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), module, nn.ReLU(inplace=True)).eval()
    check = cnnlens.check(net, torch.randn(2, 3, 6, 7), example=torch.zeros(2, 3, 6, 7))
    assert check.agree, check.problem
    assert {row.audits["pytorch"].verdict.value for row in check.rows} <= {"exact", "float32"}


class _Spellings(nn.Module):
    """Writes in place whose plain twin has another overload or another name."""

    def forward(self, x: Any) -> Any:
        a = x.clone()
        a **= 2
        a //= 0.7
        mask = x > 0
        mask &= x < 1
        mask |= x < -1
        b = torch.zeros(x.shape[0], 4, 5, 6)
        b.copy_(x[:, :1])  # spread over the channels
        a.add_(b)
        return a.transpose_(1, 2) * mask.transpose(1, 2)


def test_what_is_written_in_place_is_computed(tmp_path: Path) -> None:
    module, x = _Spellings().eval(), torch.randn(3, 4, 5, 6)
    network = cnnlens.open(module, example=(x,))
    (output,) = network.run(x.double().numpy(), layers=[network.outputs[0].name]).values()
    np.testing.assert_allclose(output, module(x.double()).numpy(), rtol=1e-12)
    assert cnnlens.check(module, x, example=(x,)).agree


class _Copied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Any) -> Any:
        y = self.conv(x)
        other = torch.relu(y)
        return other.copy_(torch.sigmoid(y)[:, :1]) * y


def test_what_is_copied_into_a_tensor_is_what_keras_gets(tmp_path: Path) -> None:
    made = cnnlens.convert(_Copied().eval(), "keras", tmp_path / "copied.keras", example=torch.zeros(2, 3, 6, 7))
    assert made.twins.agree


class _Untold(nn.Module):
    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def forward(self, x: Any) -> Any:
        y = x * 2
        if self.how == "list":
            torch._foreach_add_([y], 1.0)
        elif self.how == "out":
            torch.add(x, 1, out=y)
        else:
            y.fill_diagonal_(0.0)
        return y + x


@pytest.mark.parametrize(("how", "said"), [("list", "in a list"), ("out", r"out="), ("alone", "has no form of it")])
def test_a_write_that_is_not_followed_is_refused_by_name(how: str, said: str, tmp_path: Path) -> None:
    """The numbers before the write would be computed otherwise, and nothing would show it."""
    x = torch.randn(3, 5)
    torch.export.save(torch.export.export(_Untold(how).eval(), (x,)), tmp_path / "net.pt2")
    with pytest.raises(UnsupportedLayerError, match=said):
        cnnlens.open(tmp_path / "net.pt2").run(x.numpy())


def test_a_live_module_that_writes_to_a_tensor_given_is_computed() -> None:
    live, x = _Untold("out").eval(), torch.randn(3, 5)
    network = cnnlens.open(live, example=(x,))
    (output,) = network.run(x.double().numpy(), layers=[network.outputs[0].name]).values()
    np.testing.assert_allclose(output, live(x.double()).numpy(), rtol=1e-12)


@pytest.mark.parametrize(("how", "said"), [("list", "_foreach_add"), ("alone", "as_strided")])
def test_a_live_module_that_writes_otherwise_is_refused_by_name(how: str, said: str) -> None:
    with pytest.raises(UnsupportedLayerError, match=said):
        cnnlens.open(_Untold(how).eval(), example=(torch.randn(3, 5),)).run(torch.randn(3, 5).numpy())
