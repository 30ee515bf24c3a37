"""Walks a network, model by model, and has each layer's rule write its code: the heart of the conversion.

What cannot be expressed is collected over the whole network and refused together, before anything is written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from cnnlens.conversion.to_torch import rules
from cnnlens.conversion.to_torch.call_site import CallSite, Results
from cnnlens.conversion.to_torch.consumers import keeps_flat
from cnnlens.conversion.to_torch.names import class_name, comment, identifier
from cnnlens.conversion.to_torch.scopes import Item, Scope, ScopeInput, Source, fill, read_scope, sources
from cnnlens.conversion.to_torch.value import Value, canonical_order, join_shapes
from cnnlens.conversion.to_torch.weights import LayerWeights
from cnnlens.conversion.to_torch.writer import POOL, ClassWriter, FileWriter, Statement
from cnnlens.errors import CnnlensError, UnsupportedLayerError
from cnnlens.files.keras.operations import version_tuple
from cnnlens.network.graph import CONFIG_ERRORS, Layer, Ref, Shape
from cnnlens.network.network import Network
from cnnlens.text import printable

__all__ = ["Translator"]

# A tensor with several uses that is still needed so many calls later is named after its layer.
_LONG = 24


class _AgainError(Exception):
    """The calls of a layer hold their inputs in different orders: start again, with Keras' order for this one."""


@dataclass
class _Model:
    """A class that was written: how it holds what it is given, and what it gives."""

    writer: ClassWriter
    inputs: list[tuple[tuple[int, ...], Any]]
    outputs: list[Value]


@dataclass
class Translator:
    """Converts one network; ``run`` gives the finished file writer and the outermost class."""

    network: Network
    file: FileWriter = field(default_factory=FileWriter)
    refused: dict[str, str] = field(default_factory=dict[str, str])
    strict: set[str] = field(default_factory=set[str])

    def run(self) -> tuple[FileWriter, ClassWriter, list[Value]]:
        """Convert, beginning anew while two calls of a layer contradict each other.

        Raises:
            UnsupportedLayerError: layers that PyTorch cannot express; names each and says why.
        """
        while True:
            try:
                model = self._top()
            except _AgainError as again:
                self.strict.add(str(again))
                self.file, self.refused = FileWriter(), {}
                continue
            break
        if self.refused:
            lines = [f"{shown}: {reason}" for shown, reason in list(self.refused.items())[:8]]
            more = f"; and {len(self.refused) - 8} more" if len(self.refused) > 8 else ""
            raise UnsupportedLayerError(f"{'; '.join(lines)}{more}; nothing was converted")
        return self.file, model.writer, model.outputs

    def _top(self) -> _Model:
        scope = read_scope(self.network)
        inputs: list[Value] = []
        for ref in self.network.inputs:
            shape = self.network.shape(ref)
            if shape is None:
                raise UnsupportedLayerError(f"input '{printable(ref.name)}': the file does not state its shape")
            axis = self.network.calls_by_name[ref.call].channel_axis
            inputs.append(Value(ref.name, shape, canonical_order(len(shape), axis), axis))
        name = self.file.names.fresh(class_name(self.network.name))
        about = comment(self.network.name)
        names = ["x"] if len(inputs) == 1 else [identifier(ref.call) for ref in self.network.inputs]
        return _ModelWriter(self, self.network, scope).write(name, "", about, inputs, names, canonical=True)


def _reason(error: BaseException, shown: str) -> str:
    if isinstance(error, UnsupportedLayerError) and error.layer == shown:
        return error.reason
    if isinstance(error, CnnlensError):
        return str(error)
    return f"its config cannot be understood ({printable(error, 200)})"


class _ModelWriter:
    """Writes the class of one model."""

    def __init__(self, translator: Translator, network: Network, scope: Scope) -> None:
        self.translator = translator
        self.network = network
        self.version = version_tuple(network.source.keras_version)
        self.scope = scope
        self.values: dict[Source, Value] = {}
        self.last: dict[Source, int] = {}
        self.uses: dict[Source, int] = {}
        self.signatures: dict[str, Any] = {}
        self.models: dict[str, _Model] = {}
        self.temporaries: set[str] = set()

    @property
    def file(self) -> FileWriter:
        return self.translator.file

    def write(
        self, name: str, prefix: str, about: str, inputs: Sequence[Value], names: Sequence[str], canonical: bool = False
    ) -> _Model:
        """Write the class and give what its callers need to know.

        Args:
            inputs: How they are held; ``names``: what they would like to be called.
            canonical: Whether outputs are to be ``(N, C, *spatial)`` in Keras' order of features.
        """
        self.out = ClassWriter(self.file, name, prefix, about)
        for index, (value, wanted) in enumerate(zip(inputs, names, strict=True)):
            parameter = wanted if wanted in POOL else self.out.locals.fresh(wanted)
            self.out.parameters.append(parameter)
            self.values[ScopeInput(index)] = value.new(parameter)
        items = self.scope.items
        for position, item in enumerate(items):
            for source in sources((item.args, item.kwargs)):
                self.last[source] = position
                self.uses[source] = self.uses.get(source, 0) + 1
        for source in self.scope.outputs:
            self.last[source] = len(items)
            self.uses[source] = self.uses.get(source, 0) + 1
        for position, item in enumerate(items):
            self._item(position, item)
        if any(source not in self.values for source in self.scope.outputs):
            return _Model(self.out, [], [])  # something was refused, and will be said
        outputs = [self.values[source] for source in self.scope.outputs]
        if canonical:
            outputs = self._canonical(outputs)
        self.out.returned = ", ".join(value.text for value in outputs)
        self.out.many = len(outputs) > 1
        self.file.classes.append(self.out)
        return _Model(self.out, [(value.order, value.flat) for value in inputs], outputs)

    def _canonical(self, outputs: list[Value]) -> list[Value]:
        turned: list[Value] = []
        for value in outputs:
            made = value.canonical()
            if made.text != value.text and len(outputs) == 1:
                what = "Keras' order of features" if value.flat is not None else "the channels to axis 1"
                self.out.statements.append(Statement(f"x = {made.text}", [f"Back to {what}."]))
                made = made.new("x")
            turned.append(made)
        return turned

    # -- one call ----------------------------------------------------------------------------------------------------

    def _item(self, position: int, item: Item) -> None:
        comments: list[str] = []
        self.temporaries = set()
        try:
            arguments = self._arguments(item)
            if arguments is None:  # what feeds it was refused
                results: Results = self._unknown(item)
            elif item.inner is not None:
                results = self._nested(item, list(arguments[0]))
            else:
                results = self._converted(position, item, arguments, comments)
        except (UnsupportedLayerError, *CONFIG_ERRORS) as error:
            if isinstance(error, _AgainError):
                raise
            self.translator.refused.setdefault(item.layer.shown, _reason(error, item.layer.shown))
            results = self._unknown(item)
        self._assign(position, item, results, comments)

    def _unknown(self, item: Item) -> Results:
        """Stand-ins for the results of what is refused, so that the layers behind it are looked at too."""
        made = [
            Value("refused", shape, canonical_order(len(shape), item.axis), item.axis) if shape is not None else None
            for shape in item.shapes
        ]
        if any(value is None for value in made):
            return []
        known = cast("list[Value]", made)
        return known[0] if len(known) == 1 else known

    def _arguments(self, item: Item) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        found = sources((item.args, item.kwargs))
        if any(source not in self.values for source in found):
            return None
        values = [self.values[source] for source in found]
        strict = item.layer.name in self.translator.strict
        signature = [(value.order, value.flat, len(value.shape)) for value in values]
        if not strict and self.signatures.setdefault(item.layer.name, signature) != signature:
            raise _AgainError(item.layer.name)

        def change(source: Source) -> Value:
            value = self.values[source]
            return value.canonical() if strict else value

        return fill(item.args, change), fill(item.kwargs, change)

    def _converted(
        self, position: int, item: Item, arguments: tuple[tuple[Any, ...], dict[str, Any]], comments: list[str]
    ) -> Results:
        layer = item.layer
        args, kwargs = arguments
        for call in item.calls:
            if call.kwargs.get("training"):
                raise UnsupportedLayerError("it is called with training=True, and what is written is for inference")
            if call.masks:
                raise UnsupportedLayerError("it is called with a mask, which the converted model does not carry")
        kwargs = {name: value for name, value in kwargs.items() if name not in ("mask", "training")}
        site = CallSite(
            kind=layer.kind,
            config=layer.config,
            version=self.version,
            operation=layer.operation,
            name=layer.path[-1] if layer.path else layer.name,
            key=layer.name,
            args=args,
            kwargs=kwargs,
            shapes=item.shapes,
            axis=item.axis,
            seen=self._seen(layer),
            weights=LayerWeights(layer),
            out=self.out,
            temporary=self._temporary(position, item),
            comments=comments,
            keeps_flat=lambda: keeps_flat(self.scope, Ref(item.name)),
            nested=self._wrapped,
        )
        return rules.convert(site)

    def _seen(self, layer: Layer) -> Shape | None:
        """The shape of a layer's first input over all its calls."""
        shapes = [self.network.shape(call.refs[0]) for call in self.network.calls if call.layer is layer and call.refs]
        return join_shapes(shapes)

    def _temporary(self, position: int, item: Item) -> Callable[[str], str]:
        def take(wanted: str) -> str:
            live = {value.text for source, value in self.values.items() if self.last.get(source, -1) >= position}
            name, count = wanted, 0
            while name in live or name in self.temporaries or name in POOL:
                count += 1
                name = f"{wanted}_{count}"
            self.temporaries.add(name)
            self.out.locals.taken.add(name)
            return name

        return take

    # -- models in models --------------------------------------------------------------------------------------------

    def _nested(self, item: Item, args: list[Value]) -> Results:
        layer, scope = item.layer, item.inner
        assert scope is not None
        attribute, new = self.out.attribute(layer.name, identifier(layer.path[-1] if layer.path else layer.name))
        if layer.name not in self.models:
            shapes = [join_shapes([self.network.shape(ref) for ref in refs]) if refs else None for refs in scope.inputs]
            if any(shape is None for shape in shapes):
                raise UnsupportedLayerError("it is called on tensors whose numbers of axes differ or are not known")
            inputs = [
                Value("", cast("Shape", shape), value.order, value.axis, value.flat)
                for value, shape in zip(args, shapes, strict=True)
            ]
            name = self.file.names.fresh(class_name(layer.path[-1] if layer.path else layer.name))
            names = ["x"] if len(inputs) == 1 else [f"x{index + 1}" for index in range(len(inputs))]
            prefix = f"{self.out.prefix}{attribute}."
            about = f"The nested model {comment(layer.path[-1] if layer.path else layer.name)}."
            self.models[layer.name] = _ModelWriter(self.translator, self.network, scope).write(
                name, prefix, about, inputs, names
            )
        model = self.models[layer.name]
        if not model.outputs:
            return []
        if new:
            self.out.member(attribute, f"{model.writer.name}()", (), {})
            self.file.modules[layer.name] = f"{self.out.prefix}{attribute}"
        text = f"self.{attribute}({', '.join(value.text for value in args)})"
        shapes = item.shapes
        made = [
            Value("", shape if shape is not None else value.shape, value.order, value.axis, value.flat)
            for value, shape in zip(model.outputs, shapes, strict=False)
        ]
        if len(made) == 1:
            return made[0].new(text)
        parts = [self._temporary_name(f"{attribute}_{index}") for index in range(len(made))]
        self.out.statements.append(Statement(f"{', '.join(parts)} = {text}", []))
        return [value.new(part) for value, part in zip(made, parts, strict=True)]

    def _temporary_name(self, wanted: str) -> str:
        return self.out.locals.fresh(wanted)

    def _wrapped(self, network: Any, attribute: str, value: Value) -> Value:
        """A network of its own inside a wrapper, as a class; ``value`` is what it is called on."""
        inner = cast("Network", network)
        name = self.file.names.fresh(class_name(inner.name if inner.name != "a wrapped model" else attribute))
        writer = _ModelWriter(self.translator, inner, read_scope(inner))
        prefix = f"{self.out.prefix}{attribute}."
        model = writer.write(name, prefix, f"The model inside {comment(attribute)}.", [value], ["x"])
        self.out.member(attribute, f"{name}()", (), {})
        return model.outputs[0].new(f"self.{attribute}({value.text})")

    # -- variables ---------------------------------------------------------------------------------------------------

    def _assign(self, position: int, item: Item, results: Results, comments: list[str]) -> None:
        made = results if isinstance(results, list) else [results]
        statement = Statement("", comments)
        for index, value in enumerate(made):
            source = Ref(item.name, index)
            runs = [item.calls[use].name for use in self.scope.order]
            names = tuple(name + (f"[{index}]" if index else "") for name in runs)
            if index and self.last.get(source) is None:
                continue  # an output that nobody wants
            if not value.text.isidentifier():
                variable = self._variable(position, item, source)
                statement = Statement(f"{variable} = {value.text}", comments if not index else [])
                self.out.statements.append(statement)
                value = value.new(variable)
            elif index == 0:
                if comments or not self.out.statements:
                    self.out.statements.append(statement)
                else:
                    statement = self.out.statements[-1]
            statement.marks.append((names, value))
            self.values[source] = value

    def _variable(self, position: int, item: Item, source: Source) -> str:
        live: set[str] = set()
        for one, value in self.values.items():
            if self.last.get(one, -1) > position:
                live.add(value.text)
        last = self.last.get(source, position)
        if self.uses.get(source, 0) > 1 and last - position > _LONG:
            wanted = identifier(item.layer.path[-1] if item.layer.path else item.layer.name)
            return self.out.locals.fresh(wanted)
        dying = {self.values[one].text for one in sources((item.args, item.kwargs)) if one in self.values} - live
        for name in (*(name for name in POOL if name in dying), *POOL):
            if name not in live:
                return name
        return self.out.locals.fresh(identifier(item.layer.path[-1] if item.layer.path else item.layer.name))
