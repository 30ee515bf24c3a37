"""The finished conversion: one Python file, the arrays beside it, and how both are written.

The file needs torch and safetensors and nothing of ours. What is written is written whole or not at all.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from cnnlens.conversion.to_torch.helpers import HELPERS
from cnnlens.conversion.to_torch.lines import wrapped
from cnnlens.conversion.to_torch.names import comment
from cnnlens.conversion.to_torch.translate import Translator
from cnnlens.conversion.to_torch.value import Value
from cnnlens.conversion.to_torch.weights import State
from cnnlens.conversion.to_torch.writer import ClassWriter, FileWriter, Mark
from cnnlens.errors import CnnlensError, UnsupportedLayerError
from cnnlens.files.torch.write_safetensors import Tensor, write_safetensors
from cnnlens.network.graph import Shape, shown_shape
from cnnlens.network.network import Network
from cnnlens.output import file_name, replacing
from cnnlens.text import printable

__all__ = ["Program", "program"]


@dataclass(frozen=True)
class Program:
    """Holds the text and the arrays of a Keras network as a PyTorch module.

    Attributes:
        source: The Python file's text. It needs torch and safetensors alone.
        state: The state dict: every key of the module's, each array in PyTorch's layout, read when it is asked for.
            A bfloat16 array comes as the float32 numbers that it holds, and is written as bfloat16.
        class_name: The outermost ``nn.Module`` of the file, which is made without arguments.
        modules: For each Keras layer (a nested one by its path, ``inner/conv``) that is a module there: its path in
            the class, such as ``inner.conv``. A separable convolution has two; its second is named.
        input_shapes: What ``forward`` takes, in order, in canonical axes ``(N, C, *spatial)``, None where open.
        output_names: The Keras tensors that ``forward`` gives, in order: one tensor, or a tuple of several; canonical.
        marks: Where each Keras tensor stands in ``source``.
        sources: For each key of ``state`` that comes from the file: the Keras layer and its weight.
    """

    source: str
    state: State
    class_name: str
    modules: Mapping[str, str]
    input_shapes: Mapping[str, Shape]
    output_names: tuple[str, ...]
    marks: tuple[Mark, ...]
    sources: Mapping[str, tuple[str, str]]

    def watched(self, function: str = "watch") -> str:
        """Write source that calls ``function(names, tensor)`` behind every line that makes a Keras tensor.

        ``names`` are those of the tensor, one for each time that the line is run in one ``forward``. A check runs this
        text, and gives a function of that name to it; :meth:`stored` turns what it sees into Keras' axes.
        """
        lines = self.source.splitlines()
        at: dict[int, list[str]] = {}
        for mark in self.marks:
            at.setdefault(mark.line, []).append(f"        {function}({mark.names!r}, {mark.value.text})")
        return "\n".join(text for number, line in enumerate(lines, 1) for text in (line, *at.get(number, ()))) + "\n"

    def stored(self, name: str, array: NDArray[Any]) -> NDArray[Any]:
        """Turn an array seen by :meth:`watched` under ``name`` into Keras' own axes and order; a view if possible."""
        value = next(mark.value for mark in self.marks if name in mark.names)
        if value.flat is not None:
            back = [value.flat.order.index(axis) + 1 for axis in range(len(value.flat.sizes))]
            opened = array.reshape(array.shape[0], *value.flat.ordered_sizes)
            return opened.transpose(0, *back).reshape(array.shape[0], -1)
        return array.transpose([value.order.index(axis) for axis in range(value.rank)])

    def write(self, target: str | os.PathLike[str]) -> tuple[Path, Path]:
        """Write ``model.py`` and ``model.safetensors``, each whole or not at all.

        Args:
            target: A file ending in ``.py``, or a folder, in which the file is named after the class.

        Returns:
            The Python file and the file of arrays.

        Raises:
            CnnlensError: the path cannot be written, or names neither.
        """
        path = Path(target)
        if path.is_dir():
            path = path / f"{file_name(self.class_name).lower()}.py"
        if path.suffix != ".py":
            raise CnnlensError(
                f"{printable(path, 300)}: a PyTorch module is written as a .py file; name one, such as model.py, or a "
                "folder that exists"
            )
        arrays = path.with_suffix(".safetensors")
        with replacing(arrays) as part, replacing(path) as text:
            write_safetensors(
                part,
                {
                    key: Tensor(entry.dtype, self.state[key].shape, partial(self.state.__getitem__, key))
                    for key, entry in self.state.entries.items()
                },
            )
            text.write_text(self.source, encoding="utf-8")
        return path, arrays


def program(network: Network) -> Program:
    """Turn a Keras network into a PyTorch module; nothing is written.

    Raises:
        UnsupportedLayerError: layers that PyTorch cannot express, or that the reference cannot compute (for then
            nothing could check the result); names each and says why.
        CnnlensError: the network is none of Keras', or has no graph.
    """
    shown = printable(network.source.path, 300)
    if network.source.framework != "keras":
        raise CnnlensError(f"{shown}: a Keras model was expected, this is one of {printable(network.source.framework)}")
    if not network.calls:
        raise UnsupportedLayerError(
            f"{shown}: it holds weights without a graph, so there is no model to convert; open the whole model (a "
            ".keras file, or .h5 saved with model.save)"
        )
    try:
        file, top, outputs = Translator(network).run()
    except UnsupportedLayerError as error:
        raise UnsupportedLayerError(f"{shown}: {error}") from None
    source, marks = _assembled(network, file, top, outputs)
    return Program(
        source=source,
        state=State(file.state),
        class_name=top.name,
        modules=dict(file.modules),
        input_shapes={ref.name: network.canonical_shape(ref) or () for ref in network.inputs},
        output_names=tuple(ref.name for ref in network.outputs),
        marks=tuple(marks),
        sources={key: entry.source for key, entry in file.state.items() if entry.source is not None},
    )


def _assembled(
    network: Network, file: FileWriter, top: ClassWriter, outputs: Sequence[Value]
) -> tuple[str, list[Mark]]:
    """The whole text, and where the tensors stand in it."""
    marks: list[Mark] = []
    body: list[str] = []
    found: list[tuple[int, tuple[tuple[str, ...], Value]]] = []
    for name in HELPERS:
        if name in file.helpers:
            body += ["", "", *HELPERS[name].text.strip("\n").splitlines()]
    for writer in file.classes:
        lines, places = writer.body()
        body += ["", "", f"class {writer.name}(nn.Module):", f'    """{writer.about}"""', ""]
        found += [(len(body) + offset, mark) for offset, mark in places]
        body += lines
    body += _loading(top, network, file)
    head = [*_docstring(network, file, top, outputs), *_imports(body)]
    for line, (names, value) in found:
        marks.append(Mark(names, len(head) + line, value))
    return "\n".join([*head, *body]) + "\n", marks


def _imports(body: Sequence[str]) -> list[str]:
    text = "\n".join(body)
    lines = ["from pathlib import Path", "", "import torch"]
    if "F." in text:
        lines.append("import torch.nn.functional as F")
    return [*lines, "from safetensors.torch import load_file", "from torch import nn"]


def _loading(top: ClassWriter, network: Network, file: FileWriter) -> list[str]:
    name = top.name
    # Arrays of float64 would lose half of their digits in a module of float32.
    wide = ".double()" if any(entry.dtype == "float64" for entry in file.state.values()) else ""
    shapes = [network.canonical_shape(ref) or () for ref in network.inputs]
    more = ", dtype=torch.float64" if wide else ""
    zeros = [
        f"torch.zeros({', '.join(str(size or (64 if at else 1)) for at, size in enumerate(shape))}{more})"
        for shape in shapes
    ]
    lines = [
        "",
        "",
        f"def load(path: str | Path | None = None) -> {name}:",
        '    """The model with its weights (those beside this file), ready for inference."""',
        '    path = path or Path(__file__).with_suffix(".safetensors")',
        f"    model = {name}(){wide}",
        "    model.load_state_dict(load_file(path))",
        "    return model.eval()",
        "",
        "",
        'if __name__ == "__main__":',
        "    model = load()",
    ]
    from cnnlens.conversion.to_torch.lines import broken

    lines += ["    with torch.inference_mode():"]
    lines += broken(f"result = model({', '.join(zeros)})", 8)
    if top.many:
        return [*lines, "    print([tuple(one.shape) for one in result])"]
    return [*lines, "    print(tuple(result.shape))"]


def _docstring(network: Network, file: FileWriter, top: ClassWriter, outputs: Sequence[Value]) -> list[str]:
    about = comment(Path(network.source.path).name)
    lines = [f'"""{top.name}, a PyTorch module converted from the Keras model {about[:60]}.', ""]
    lines += _shapes("Input", top.parameters, [network.canonical_shape(ref) for ref in network.inputs], network)
    names = [comment(ref.name) for ref in network.outputs]
    lines += _shapes("Output", names, [network.canonical_shape(ref) for ref in network.outputs], network)
    lines += ["", "    model = load()  # the weights lie beside this file, as .safetensors"]
    lines += [
        f"    result = model({', '.join(top.parameters)})" if len(top.parameters) < 6 else "    result = model(...)"
    ]
    kept = {entry.dtype for entry in file.state.values()} - {"float32", "int64"}
    if kept:
        text = (
            f"Some arrays are kept in {', '.join(sorted(kept))}, as the Keras file has them; load_state_dict makes "
            "them float32, and model.half() or model.bfloat16() computes in those."
        )
        lines += ["", *(line.removeprefix("# ") for line in wrapped(text, 0))]
    return [*lines, '"""', ""]


def _shapes(what: str, names: Sequence[str], shapes: Sequence[Shape | None], network: Network) -> list[str]:
    lines: list[str] = []
    for name, shape in zip(names, shapes, strict=True):
        note = ", channels first" if shape is not None and len(shape) > 2 else ""
        lines.append(f"{what}: {name} {shown_shape(shape)}{note}")
    return lines
