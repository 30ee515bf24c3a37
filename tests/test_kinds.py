"""The table of layer kinds: every room knows what to do with every kind, or says why it does nothing."""

from __future__ import annotations

import importlib

import pytest

from cnnlens.conversion.to_keras.call_site import BY_NAME, REFUSED
from cnnlens.conversion.to_torch.call_site import RULES
from cnnlens.files.keras.variables import RULES as DECLARED
from cnnlens.kinds import CELLS, KINDS, LAYERS, OPERATIONS, OPERATORS, Features, Kind
from cnnlens.layout.tables import ALIASES, ROWS
from cnnlens.layout.traps import TRAPS
from cnnlens.reference import known_kinds
from cnnlens.reference.aten import TRANSLATORS
from cnnlens.reference.bare.table import OPERATIONS as COMPUTED
from tests.support import ROOT, kinds


def test_no_room_has_forgotten_a_kind() -> None:
    assert not [(kind, room) for kind, room, said in kinds.cells() if not said]


def test_a_kind_that_nobody_computes_or_writes_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "LAYERS", (*LAYERS, Kind(name="Newest", layer=True, weights=("kernel",))))
    assert [room for kind, room, said in kinds.cells() if kind == "Newest" and not said] == [
        room
        for room in kinds.LAYER_ROOMS
        if room != "masks"  # that Keras drops a mask is said of most kinds
    ]


def test_an_operator_that_nobody_translates_or_writes_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "OPERATORS", {**OPERATORS, "newest": Kind(name="Newest", aten=("newest",))})
    monkeypatch.setattr(kinds, "OPERATIONS", (*OPERATIONS, Kind(name="Newest", aten=("newest",))))
    assert [room for kind, room, said in kinds.cells() if kind == "newest" and not said] == ["in Keras", "computed by"]


@pytest.mark.parametrize(
    ("registered", "known"),
    [
        pytest.param(known_kinds(), KINDS, id="layers of the reference"),
        pytest.param(COMPUTED, KINDS, id="operations of the reference"),
        pytest.param(TRANSLATORS, OPERATORS, id="operators of the reference"),
        pytest.param(RULES, KINDS, id="rules to PyTorch"),
        pytest.param([*BY_NAME, *REFUSED], OPERATORS, id="rules to Keras"),
        pytest.param([kind for row in ROWS for kind in row.kinds], KINDS, id="layouts"),
        pytest.param([*ALIASES.values(), *TRAPS], KINDS, id="traps"),
        pytest.param(DECLARED, {*KINDS, *CELLS, "ConvLSTMCell"}, id="arrays of Keras' files"),
    ],
)
def test_no_room_has_a_kind_that_the_table_lacks(registered: object, known: object) -> None:
    assert not set(registered) - set(known)  # type: ignore[call-overload]


def test_a_name_is_of_one_row() -> None:
    names = [name for row in (*LAYERS, *OPERATIONS) for name in (row.name, *row.older)]
    operators = [operator for row in (*LAYERS, *OPERATIONS) for operator in row.aten]
    assert len(set(names)) == len(names)
    assert len(set(operators)) == len(operators)


def test_the_roles_of_the_layouts_are_those_of_the_kinds() -> None:
    laid_out = {(kind, role) for row in ROWS for kind in row.kinds for role in row.weights if "/" not in role}
    assert not laid_out - {(row.name, role) for row in LAYERS for role in row.weights or ()}


def test_the_page_is_what_the_rooms_say() -> None:
    assert (ROOT / "docs" / "kinds.md").read_text(encoding="utf-8") == kinds.page(), (
        "python -m tests.support.kinds > docs/kinds.md"
    )


# Keras' classes that are no kind of layer: what layers are made of, and a container of them.
_NO_KIND = {"InputSpec", "Layer", "Wrapper", "Pipeline"}


@pytest.mark.framework
def test_keras_has_no_layer_that_the_table_lacks() -> None:
    keras = importlib.import_module("keras")
    layers = {name for name, one in vars(keras.layers).items() if isinstance(one, type)}
    assert not layers - set(KINDS) - set(CELLS) - _NO_KIND


@pytest.mark.framework
def test_an_operation_is_where_the_table_says_that_keras_has_it() -> None:
    for row in KINDS.values():
        if row.home:
            assert hasattr(importlib.import_module(f"keras.src.ops.{row.home}"), row.name), row.name


@pytest.mark.framework
def test_pytorch_has_the_modules_and_operators_of_the_table() -> None:
    torch = importlib.import_module("torch")
    for row in KINDS.values():
        names = [*row.modules, *([row.module.split("(")[0].removeprefix("nn.")] if row.module else [])]
        assert all(hasattr(torch.nn, name) for name in names), row.name


def test_what_keeps_values_alone_has_no_weights_and_no_axis() -> None:
    for row in KINDS.values():
        if row.features is Features.ALONE:
            assert row.weights == (), row.name
            assert "axis" not in row.settings, row.name
