"""The graph in an exported program's JSON, checked: every tensor made once and before it is used, every shape sane.

PyTorch's own reader builds the dataclasses of ``torch._export.serde.schema`` (version 8.20 in torch 2.13) and trusts
them. Here the same JSON becomes a ``Program``; anything that does not fit together is refused before anything walks the
graph.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from cnnlens.errors import FileRefusedError
from cnnlens.files.jsontext import entries, integer, mapping, text
from cnnlens.files.torch.program import (
    SCALAR_TYPES,
    Frame,
    Node,
    Program,
    Size,
    Sizes,
    Unknown,
    Value,
    map_values,
    values,
)
from cnnlens.files.torch.program_symbols import Linear, constant, read_expression
from cnnlens.text import printable

__all__ = ["SAVE_AGAIN", "read_program"]

SAVE_AGAIN = "save it again with torch.export.save"

_MEMORY_FORMATS = {1: "contiguous_format", 2: "channels_last", 3: "channels_last_3d", 4: "preserve_format"}
_NOT_FINITE = {"Infinity": math.inf, "-Infinity": -math.inf, "NaN": math.nan}
_RANK = 64  # PyTorch's own limit
_GRAPHS = 20  # graphs in graphs
_LARGEST = 1 << 48  # one axis; more than any memory holds


def read_program(path: Any, place: str, data: Mapping[str, Any]) -> Program:
    """Read the program in ``data``, the decoded ``model.json``.

    Raises:
        FileRefusedError: it does not fit together; names the place.
    """
    return _ProgramReader(path, place, data).program()


@dataclass
class _Scope:
    """What names mean in a graph: their own with a prefix, or a tensor of the graph around it."""

    prefix: str
    known: dict[str, str]

    def meant(self, part: Any) -> Any:
        return Value(self.known.get(part.name, self.prefix + part.name)) if isinstance(part, Value) else part


_HIGHER = "torch.ops.higher_order."  # operators that take graphs


class _ProgramReader:
    def __init__(self, path: Any, place: str, data: Mapping[str, Any]) -> None:
        self.path = path
        self.place = place
        self.data = data
        module = mapping(data.get("graph_module"))
        self.graph = mapping(module.get("graph"))
        self.signature = mapping(module.get("signature"))
        self.calls = entries(module.get("module_call_graph"))
        self.symbols: dict[str, Linear | None] = {}
        self.notes: list[str] = []
        self.root = ""
        self.nodes: list[Node] = []
        self.known: set[str] = set()
        self.shapes: dict[str, Sizes] = {}
        self.dtypes: dict[str, str] = {}
        self.scope = _Scope("", {})

    def refuse(self, reason: str, way_out: str = SAVE_AGAIN) -> FileRefusedError:
        return FileRefusedError(self.path, self.place, reason, way_out)

    def program(self) -> Program:
        if not isinstance(self.graph.get("nodes"), list) or not self.signature:
            raise self.refuse("no graph of an exported program", "save the model with torch.export.save")
        major = integer(mapping(self.data.get("schema_version")).get("major"))
        if major != 8:
            raise self.refuse(
                f"its schema is of version {printable(major)}, 8 is read here",
                "export it again with torch 2.13, or update cnnlens",
            )
        inputs, weights, constants = self._inputs()
        self.known = {*inputs, *weights}
        self._follow(self.graph, self.scope, 0)
        return Program(
            inputs=tuple(inputs),
            weights=weights,
            constants=constants,
            nodes=tuple(self.nodes),
            outputs=self._outputs(),
            shapes=self.shapes,
            dtypes=self.dtypes,
            root=self.root,
            modules=tuple(filter(None, (text(call.get("fqn")) for call in self.calls))),
            notes=tuple(self.notes),
            torch_version=text(self.data.get("torch_version")),
        )

    def _follow(self, graph: Mapping[str, Any], scope: _Scope, depth: int) -> None:
        """Read a graph: the program's own, or one inside it that is run as if it stood there."""
        before = self.symbols
        self.symbols = {**before, **{n: self._size(one) for n, one in mapping(graph.get("sym_int_values")).items()}}
        for name, meta in mapping(graph.get("tensor_values")).items():
            if name not in scope.known:
                self.shapes[scope.prefix + name] = self._shape(name, mapping(meta))
                dtype = SCALAR_TYPES.get(integer(mapping(meta).get("dtype")) or 0, "unknown")
                self.dtypes[scope.prefix + name] = dtype
        for index, entry in enumerate(entries(graph.get("nodes"))):
            inner = _inner_graph(entry)
            if inner is not None and depth < _GRAPHS:
                self._inline(entry, inner, scope, index, depth)
                continue
            node = self._node(index, entry)
            arguments = map_values(node.arguments, scope.meant)
            for value in values(arguments):
                if value.name not in self.known:
                    raise self.refuse(
                        f"node '{printable(node.name)}' takes '{printable(value.name)}', which nothing before it makes"
                    )
            outputs = tuple(self._made(scope.prefix + made) for made in node.outputs)
            self.nodes.append(replace(node, name=f"{scope.prefix}{node.name}", arguments=arguments, outputs=outputs))
        self.symbols = before

    def _made(self, name: str) -> str:
        if name in self.known:
            raise self.refuse(f"two nodes make '{printable(name)}'")
        self.known.add(name)
        return name

    def _inline(
        self, entry: Mapping[str, Any], graph: Mapping[str, Any], scope: _Scope, index: int, depth: int
    ) -> None:
        """``with torch.no_grad():`` stands in the file as a call of a graph of its own, and computes what it holds."""
        operands = [self._argument(mapping(one.get("arg"))) for one in entries(entry.get("inputs"))]
        passed = [scope.meant(one).name for one in operands if isinstance(one, Value)]
        taken = [self._name(one.get("as_tensor")) for one in entries(graph.get("inputs")) if "as_tensor" in one]
        made = [self._name(one.get("as_tensor")) for one in entries(graph.get("outputs")) if "as_tensor" in one]
        outputs = self._node(index, entry).outputs
        if len(passed) != len(taken) or len(made) != len(outputs):
            raise self.refuse(f"node {index} calls a graph with other tensors than it takes or gives")
        inside = _Scope(f"{scope.prefix}{index}/", dict(zip(taken, passed, strict=True)))
        self._follow(graph, inside, depth + 1)
        for outer, inner in zip(outputs, made, strict=True):
            scope.known[outer] = inside.meant(Value(inner)).name

    # -- the signature -----------------------------------------------------------------------------------------------

    def _inputs(self) -> tuple[list[str], dict[str, str], frozenset[str]]:
        inputs: list[str] = []
        weights: dict[str, str] = {}
        constants: set[str] = set()
        keys = (("parameter", "parameter_name"), ("buffer", "buffer_name"), ("tensor_constant", "tensor_constant_name"))
        for spec in entries(self.signature.get("input_specs")):
            user = mapping(mapping(spec.get("user_input")).get("arg"))
            if "as_tensor" in user:
                inputs.append(self._name(user["as_tensor"]))
            elif user and "as_none" not in user:
                self.notes.append(
                    f"an input that is no tensor ({printable(next(iter(user)), 40)}) is as it was exported"
                )
            for kind, key in keys:
                if kind in spec:
                    body = mapping(spec[kind])
                    name = self._name(body.get("arg"))
                    weights[name] = text(body.get(key)) or name
                    if kind == "tensor_constant":
                        constants.add(name)
        if len({*inputs, *weights}) != len(inputs) + len(weights):
            raise self.refuse("two inputs of one name in the graph's signature")
        return inputs, weights, frozenset(constants)

    def _outputs(self) -> tuple[str, ...]:
        outputs: list[str] = []
        for spec in entries(self.signature.get("output_specs")):
            for kind in ("user_output", "loss_output"):
                body = mapping(spec.get(kind)).get("arg")
                argument = mapping(body)
                named = argument.get("as_tensor", argument if kind == "loss_output" and argument else None)
                if named is not None:
                    name = self.scope.meant(Value(self._name(named))).name
                    if name not in self.known:
                        raise self.refuse(f"the output '{printable(name)}' is made by no node")
                    outputs.append(name)
        return tuple(outputs)

    def _name(self, value: Any) -> str:
        name = text(mapping(value).get("name"))
        if not name or len(name) > 500:
            raise self.refuse("a tensor without a name, or with one of more than 500 characters")
        return name

    # -- shapes ------------------------------------------------------------------------------------------------------

    def _shape(self, name: str, meta: Mapping[str, Any]) -> Sizes:
        sizes = meta.get("sizes")
        if not isinstance(sizes, list) or len(cast("list[Any]", sizes)) > _RANK:
            raise self.refuse(f"the tensor '{printable(name)}' has no shape, or more than {_RANK} axes")
        found = tuple(self._size(one) for one in cast("list[Any]", sizes))
        for size in found:
            number = None if size is None else constant(size)
            if number is not None and not 0 <= number <= _LARGEST:
                raise self.refuse(f"the tensor '{printable(name)}' has an axis of {printable(number)} entries")
        return found

    def _size(self, value: Any) -> Linear | None:
        entry = mapping(value)
        number = integer(entry.get("as_int"))
        if number is not None:
            return {"": number} if number else {}
        return read_expression(text(mapping(entry.get("as_expr")).get("expr_str")))

    # -- nodes -------------------------------------------------------------------------------------------------------

    def _node(self, index: int, entry: Mapping[str, Any]) -> Node:
        target = text(entry.get("target"))
        if not target:
            raise self.refuse(f"node {index} names no operator")
        arguments: dict[str, Any] = {}
        for position, one in enumerate(entries(entry.get("inputs"))):
            arguments[text(one.get("name")) or f"argument_{position}"] = self._argument(mapping(one.get("arg")))
        outputs: list[str] = []
        for one in entries(entry.get("outputs")):
            if "as_tensor" in one:
                outputs.append(self._name(one["as_tensor"]))
            outputs.extend(self._name(part) for part in entries(one.get("as_tensors")))
            for part in entries(one.get("as_optional_tensors")):
                outputs.append(self._name(part["as_tensor"]) if "as_tensor" in part else f"{index}:{len(outputs)}:none")
        name = text(entry.get("name")) or (outputs[0] if outputs else f"node_{index}")
        stack = self._stack(text(mapping(entry.get("metadata")).get("nn_module_stack")))
        listed = any("as_tensors" in one for one in entries(entry.get("outputs")))
        plain = target.removeprefix("torch.ops.")
        return Node(name, plain, arguments, tuple(outputs), stack, listed, _refused(target))

    def _stack(self, written: str) -> tuple[Frame, ...]:
        """``key,path,type;key,path,type``: commas inside of brackets belong to a key or a type."""
        frames: list[Frame] = []
        for item in written.split(";") if written else ():
            parts = _split(item)
            if len(parts) != 3 or parts[1] == parts[0] == parts[2]:
                continue
            if not parts[1]:
                self.root = self.root or parts[2]
                continue
            frames.append(Frame(*parts))
        return tuple(frames)

    def _argument(self, entry: Mapping[str, Any]) -> Any:
        kind = next(iter(entry), "")
        value = entry.get(kind)
        if kind in ("as_none", ""):
            return None
        if kind in ("as_string", "as_strings"):
            return value if isinstance(value, str) else [text(part) for part in cast("list[Any]", value or [])]
        if kind in ("as_int", "as_bool", "as_float"):
            return _plain(value)
        if kind in ("as_ints", "as_bools", "as_floats", "as_int_lists", "as_float_lists"):
            return _plain(value) if isinstance(value, list) else []
        if kind == "as_tensor":
            return Value(self._name(value))
        if kind == "as_tensors":
            return [Value(self._name(part)) for part in entries(value)]
        if kind in ("as_optional_tensor", "as_sym_int", "as_sym_bool", "as_sym_float"):
            return self._symbolic(mapping(value))
        if kind in ("as_optional_tensors", "as_sym_ints", "as_sym_bools", "as_sym_floats"):
            return [self._symbolic(part) for part in entries(value)]
        if kind == "as_scalar_type":
            return SCALAR_TYPES.get(integer(value) or 0, "unknown")
        if kind == "as_memory_format":
            return _MEMORY_FORMATS.get(integer(value) or 0)
        if kind == "as_layout":
            return "strided" if value == 7 else Unknown("a sparse layout")
        if kind == "as_device":
            return text(mapping(value).get("type"), "cpu")
        return Unknown(f"{kind.removeprefix('as_').replace('_', ' ')} as an argument")

    def _symbolic(self, part: Mapping[str, Any]) -> Any:
        if "as_tensor" in part:
            return Value(self._name(part["as_tensor"]))
        if "as_name" not in part:
            return _plain(next((value for key, value in part.items() if key != "as_none"), None))
        expression = self.symbols.get(text(part["as_name"]))
        if expression is None:
            return Unknown("a size that is computed from the input's sizes")
        number = constant(expression)
        return number if number is not None else Size(tuple(sorted(expression.items())))


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(part) for part in cast("list[Any]", value)]
    if isinstance(value, str):
        return _NOT_FINITE.get(value)  # JSON has no numbers for these
    return value if isinstance(value, (bool, int, float)) else None


def _split(item: str) -> list[str]:
    parts: list[str] = []
    depth = start = 0
    for end, character in enumerate(item):
        if character in "[(":
            depth += 1
        elif character in "])":
            depth -= 1
        elif character == "," and not depth:
            parts.append(item[start:end])
            start = end + 1
    return [*parts, item[start:]]


def _inner_graph(entry: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The graph that a node runs as if it stood there: with gradients or without, or with autocast off."""
    arguments = [mapping(one.get("arg")) for one in entries(entry.get("inputs"))]
    target = text(entry.get("target")).removeprefix(_HIGHER)
    off = target == "wrap_with_autocast" and len(arguments) > 2 and arguments[2].get("as_bool") is False
    if target != "wrap_with_set_grad_enabled" and not off:
        return None
    return next((mapping(mapping(one["as_graph"]).get("graph")) for one in arguments if "as_graph" in one), None)


def _refused(target: str) -> str:
    """Why an operator that runs a graph of its own is not computed; empty for any other."""
    if target == f"{_HIGHER}wrap_with_autocast":
        return "it is computed in a narrower type (torch.autocast); export the model outside of it"
    return "PyTorch's control flow (cond, map, loops) is not computed" if "higher_order." in target else ""
