"""A disagreement as a script for the framework alone: it computes one small case and prints both numbers.

Where what is expected is a sum of products of the input it is written out so, for anybody to add up by hand; else it is
the number that float64 gives. A script for what a framework refuses ends in what it raises. Each is run before it is
shown, in the backend's own Python, which also leaves out the options that say what they would be anyway.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from cnnlens.backend.worker import parse_spec
from cnnlens.reference.keras.names import snake_case
from cnnlens.surveying.networks import arrays_of, network_of
from cnnlens.surveying.setting import Setting
from cnnlens.surveying.shrinking import Numbers

__all__ = ["Case", "proved"]

Array = NDArray[Any]

_SECONDS, _EACH = 120.0, 10.0  # that all may take, and for each
_SAYS = re.compile(r"^computed (\S+), expected (\S+)$", re.MULTILINE)
_MOST_TERMS = 12
_WIDE = 110
_KERAS = ("keras-tensorflow", "keras-jax", "keras-torch")
_MODULES = {"tensorflow": ("tensorflow as tf", "tf"), "jax": ("jax", "jax"), "torch": ("torch", "torch")}
_COMPILERS = {"tensorflow": "tf.function", "jax": "jax.jit"}


_HOLE = "<options>"


class Case(NamedTuple):
    """Holds what a script shows: a setting, its numbers (None where the framework refuses it), and what is wrong."""

    setting: Setting
    numbers: Numbers | None
    text: str


class _Way(NamedTuple):
    """How a case is shown: compiled or not, as so many examples (0: those of the batch that it was found in), with
    sequences as lists, in a model, its arrays by their names; an operator of PyTorch by the name of which function."""

    compiled: bool = False
    examples: int = 1
    lists: bool = False
    model: bool = False
    named: bool = False
    function: str = ""


# Its input is a list of cases, each a list of [script, what says the defaults, [option, its value, as it is written]];
# a script has a hole where the options that are not the default are to stand.
_DRIVER = """
import contextlib, inspect, io, json, re, sys

def same(value):
    if isinstance(value, (list, tuple)):
        parts = [same(one) for one in value]
        return parts[0] if parts and all(one == parts[0] for one in parts) else parts
    return None if value in ("linear", "channels_last") else value  # what None stands for

def defaults(what):
    kind, name = what.split(" ")
    if kind == "aten":
        import torch
        packet, overload = name.split(".")
        schema = getattr(getattr(torch.ops.aten, packet), overload)._schema
        return {one.name: one.default_value for one in schema.arguments if one.has_default_value()}
    import keras
    found = keras
    for part in name.split(".")[1:]:
        found = getattr(found, part)
    return {one.name: one.default for one in inspect.signature(found).parameters.values()}

for number, several in enumerate(json.load(sys.stdin)):
    said = []
    for script, what, options in several:
        out = io.StringIO()
        try:
            known = defaults(what) if options else {}
        except Exception:
            known = {}
        left = [text for name, value, text in options if name not in known or same(known[name]) != same(value)]
        script = re.sub("<options>" if left else "(, )?<options>", lambda _: ", ".join(left), script, count=1)
        try:
            with contextlib.redirect_stdout(out):
                exec(compile(script, "script", "exec"), {"__name__": "__main__"})
        except Exception as error:
            out.write("raised " + repr(error))
        said.append([script, out.getvalue()])
    print(json.dumps([number, said]), flush=True)
"""


def proved(cases: Sequence[Case], backend: str, versions: Mapping[str, str]) -> list[tuple[str, bool]]:
    """Write the script of each case, and say whether it showed the fault when it was run.

    All are run by the backend's own Python in one process, each in a namespace of its own: one import is enough.
    """
    name, _ = parse_spec(backend)
    if name not in (*_KERAS, "pytorch"):
        return [("", False)] * len(cases)  # a backend of somebody's own, whose framework is not known here
    framework = name.rpartition("-")[2] if name in _KERAS else "torch"
    ways = [_ways(case, framework) for case in cases]
    written = [
        [_written(case, framework, versions, way) for way in some] for case, some in zip(cases, ways, strict=True)
    ]
    said = _run(written, backend, framework) if cases else {}
    made: list[tuple[str, bool]] = []
    for number, case in enumerate(cases):
        several, plain = said.get(number, []), ways[number].index(_Way())
        showing = [script for script, text in several if _shows(text, case)]
        whole = written[number][plain]
        spare = several[plain][0] if several else whole[0].replace(_HOLE, ", ".join(text for *_, text in whole[2]), 1)
        made.append((showing[0], True) if showing else ("" if case.numbers is None else spare, False))
    return made


def _ways(case: Case, framework: str) -> list[_Way]:
    """The plainest first: as it is, compiled, for more examples, and beside the examples that it was found among."""
    compiled = (False, True) if framework in _COMPILERS and case.setting.family.framework == "keras" else (False,)
    if case.setting.family.framework == "torch":
        functions = [f"{home}.{case.setting.call.name.partition('.')[0]}" for home in ("torch.nn.functional", "torch")]
        ways = [_Way(function=one) for one in functions]
    else:
        ways = list[_Way]()
    ways += [_Way(one) for one in compiled]
    if case.numbers is None:
        return [*ways, *(_Way(one, lists=True) for one in compiled), *(_Way(one, model=True) for one in compiled)]
    ways += [_Way(one, examples) for examples in (2, len(case.numbers.batch[0]), 0) for one in compiled]
    return [*ways, *(_Way(one, named=True) for one in compiled if len(case.setting.call.weights) > 1)]


def _run(written: Sequence[Sequence[Any]], backend: str, framework: str) -> dict[int, list[tuple[str, str]]]:
    """Each script and what it printed, by its case's number; of those behind one that ended the process, nothing."""
    _, interpreter = parse_spec(backend)
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}
    quiet["KERAS_BACKEND"] = framework  # defaults are asked for before a script says it
    own = {name: value for name, value in os.environ.items() if not (interpreter and name.startswith("PYTHON"))}
    try:
        ran = subprocess.run(
            [interpreter or sys.executable, "-c", _DRIVER], input=json.dumps(written), capture_output=True, text=True,
            timeout=_SECONDS + _EACH * len(written), check=False, env={**own, **quiet},
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return {}
    found: dict[int, list[tuple[str, str]]] = {}
    for line in ran.stdout.splitlines():
        try:
            number, said = json.loads(line)
            found[int(number)] = [(str(script), str(text)) for script, text in said]
        except (ValueError, TypeError):
            continue  # a framework's own words
    return found


# -- what stands in it -----------------------------------------------------------------------------------------------


def _written(case: Case, framework: str, versions: Mapping[str, str], way: _Way) -> list[Any]:
    """A script with a hole for its options, what says their defaults, and the options."""
    setting, found, _ = case
    bare = setting.family.framework == "torch"
    names = [f"x{place}" for place in range(len(setting.call.operands))]
    names = names if len(names) > 1 else ["x"]
    given = _given(case, way)
    repeated = 1 if found is None or not way.examples else way.examples
    lines = [line for one, array in zip(names, given, strict=True) for line in _input(one, array, repeated, bare)]
    where, options, body = (_aten if bare else _keras)(setting, names, framework, way)
    lines += body
    if found is None:
        shape = _shape(setting, given)
        wanted = f"  # {shape} is expected" if shape else ""
        lines.append(f'print("computed an array of shape", tuple(y.shape)){wanted}')
    else:
        # All examples are the same, and not each need show it.
        row = 0 if way.examples in (1, 2) else found.row
        lines += [
            f"computed = float(y[{', '.join(map(str, (row, *found.place)))}])",
            f"expected = {_by_hand(setting, found)}",
            'print(f"computed {computed}, expected {expected}")',
        ]
    shown = ", ".join(f"{one} {version}" for one, version in versions.items())
    title = textwrap.fill(_title(case, framework), _WIDE, initial_indent="# ", subsequent_indent="# ")
    head = [title, f"# Found with {shown}."]
    return ["\n".join([*head, *_imports(framework, bare), "", *lines]) + "\n", where, options]


def _imports(framework: str, bare: bool) -> list[str]:
    if bare:
        return ["import torch", "", 'print("torch", torch.__version__)']
    module, name = _MODULES[framework]
    first, second = sorted(("import keras", f"import {module}"), key=lambda one: one.split()[1])
    several = [first, second, "import numpy as np"] if framework == "jax" else [first, "import numpy as np", second]
    return [
        "import os", "", f'os.environ["KERAS_BACKEND"] = "{framework}"', "", *several, "",
        f'print("keras", keras.__version__, "{framework}", {name}.__version__)',
    ]  # fmt: skip


def _title(case: Case, framework: str) -> str:
    call, text = case.setting.call, case.text
    if case.setting.family.framework == "torch":
        name = f"torch.ops.aten.{call.name}"
    else:
        name = f"{_home(case.setting)} on {framework}"
    if case.numbers is None:
        return f"{name} raises an error"
    if (lost := re.search(r"^(NaN|\S*infinity)\b.*, which the backend (\w+)", text)) is not None:
        return f"{name} {lost[2]} {'a' if lost[1] == 'NaN' else 'an'} {lost[1]}"
    if re.match(r"[\d.]+ % of the outputs", text) or "; besides," in text:
        return f"{name} computes another number"
    return f"{name}: {text}"


def _given(case: Case, way: _Way) -> Sequence[Array]:
    if case.numbers is not None:
        return case.numbers.inputs if way.examples else case.numbers.batch
    return [np.zeros((1, *one.shape), "int32") if one.below else np.ones((1, *one.shape), "float32")
            for one in case.setting.call.operands]  # fmt: skip


def _keras(setting: Setting, operands: list[str], framework: str, way: _Way) -> tuple[str, list[Any], list[str]]:
    call = setting.call
    args = ", ".join(operands)
    passed = f"[{args}]" if call.listed else args
    passed += "".join(f", {_value(one, way.lists)}" for one in call.extra)
    passed += "".join(f", {name}={_value(value, way.lists)}" for name, value in call.named.items())
    options = [[name, value, f"{name}={_value(value, way.lists)}"] for name, value in call.config.items()]
    compiler = _COMPILERS.get(framework, "")
    home, lines = _home(setting), list[str]()
    if call.module == "keras.layers":
        lines.append(f"layer = {home}({_HOLE})")
        if call.weights:
            lines += [f"layer({passed})", *_weights(setting, way.named)]
        made = f"layer({passed})"
        if way.compiled and passed == args:
            return f"keras {home}", options, [*lines, f"y = keras.ops.convert_to_numpy({compiler}(layer)({args}))"]
    else:
        made = f"{home}({passed}, {_HOLE})"
    if way.model and args == "x":
        lines += [
            "inputs = keras.Input(x.shape[1:])",
            f"model = keras.Model(inputs, {made.replace('(x', '(inputs', 1)})",
        ]
        made = "model(x)"
    if way.compiled:
        lines += ["", "", f"@{compiler}", f"def computed_by({args}):", f"    return {made}", "", ""]
        made = f"computed_by({args})"
    return f"keras {home}", options, [*lines, f"y = keras.ops.convert_to_numpy({made})"]


def _home(setting: Setting) -> str:
    """Where a person finds a class or function of Keras'."""
    call = setting.call
    if call.module == "keras.layers":
        return f"keras.layers.{call.name}"
    return f"keras.ops.{'image.' * call.module.endswith('.image')}{snake_case(call.name)}"


def _weights(setting: Setting, named: bool) -> list[str]:
    """Arrays in the order of the layer's own list, which most often is that of their roles, or each by its name."""
    if named:
        items = [f'"{role.rpartition("/")[2]}": {_array(one, "np", "")},' for role, one in arrays_of(setting).items()]
        assign = '    weight.assign(arrays[weight.path.rpartition("/")[2]])'
        return ["arrays = {", *_indented(items), "}", "for weight in layer.weights:", assign]
    written = [_array(array, "np", "") for array in arrays_of(setting).values()]
    if sum(map(len, written)) < 60:
        return [f"layer.set_weights([{', '.join(written)}])"]
    return ["layer.set_weights([", *_indented(f"{one}," for one in written), "])"]


def _indented(lines: Iterable[str]) -> list[str]:
    return [textwrap.indent(one, "    ") for one in lines]


def _aten(setting: Setting, operands: list[str], framework: str, way: _Way) -> tuple[str, list[Any], list[str]]:
    """A call of the function that has the operator's name, else of the operator itself, which takes all by name."""

    def shown(value: Any) -> str:
        if isinstance(value, Mapping):  # a tensor's place
            return operands[cast("Mapping[str, int]", value)["tensor"]]
        if isinstance(value, list) and any(isinstance(one, Mapping) for one in cast("list[Any]", value)):
            return f"[{', '.join(shown(one) for one in cast('list[Any]', value))}]"
        return _value(value, True)

    lines = [f"{role} = {_array(array, 'torch', 'torch.float32')}" for role, array in arrays_of(setting).items()]
    given = [[name, value, shown(value)] for name, value in setting.call.config.items()]
    tensors = [text for _, value, text in given if not isinstance(value, (int, float, str, type(None))) and "x" in text]
    rest = [[name, value, f"{name}={text}"] for name, value, text in given if text not in tensors]
    arrays = list(arrays_of(setting))
    if way.function:
        passed = ", ".join([*tensors, *arrays])
        call = f"{way.function}({passed}, {_HOLE})"
    else:
        # By name, and what is called self by place, as Python's own first argument is.
        named = [text if name == "self" else f"{name}={text}" for name, _, text in given if text in tensors]
        passed = ", ".join([*named, *(f"{one}={one}" for one in arrays)])
        call = f"torch.ops.aten.{setting.call.name}({passed}, {_HOLE})"
    return f"aten {setting.call.name}", rest, [*lines, f"y = {call}"]


def _value(value: Any, lists: bool = False) -> str:
    """A setting as Python reads it, with tuples where a file has lists, and a layer inside as what makes it."""
    if isinstance(value, Mapping):
        entry = cast("Mapping[str, Any]", value)
        if "class_name" not in entry:
            return "{" + ", ".join(f'"{name}": {_value(one, lists)}' for name, one in entry.items()) + "}"
        config = {name: one for name, one in entry["config"].items() if name not in ("name", "dtype")}
        inside = ", ".join(f"{name}={_value(one, lists)}" for name, one in config.items())
        return f"keras.layers.{entry['class_name']}({inside})"
    if isinstance(value, (list, tuple)):
        parts = [_value(one, lists) for one in cast("Sequence[Any]", value)]
        return f"[{', '.join(parts)}]" if lists else f"({', '.join(parts)}{',' * (len(parts) == 1)})"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, float) and not np.isfinite(value):
        return f'float("{value}")'
    return repr(value)


# -- its arrays ------------------------------------------------------------------------------------------------------


def _input(name: str, array: Array, repeated: int, bare: bool) -> Iterator[str]:
    """The lines that make an input: an array of one kind of number with what is unlike it set by place, or as it is."""
    library, dtype = ("torch", f"torch.{array.dtype}") if bare else ("np", f'"{array.dtype}"')
    values, counts = np.unique(array.reshape(-1), return_counts=True, equal_nan=True)
    odd = np.argwhere(~(array == values[counts.argmax()])) if array.size else np.zeros((0, array.ndim), int)
    if array.size > 8 and 0 < len(odd) <= 3:
        plain = np.full((repeated * len(array), *array.shape[1:]), values[counts.argmax()], array.dtype)
        yield f"{name} = {_array(plain, library, dtype)}"
        for place in odd.tolist():
            first = ":" if repeated > 1 else str(place[0])
            yield f"{name}[{', '.join([first, *map(str, place[1:])])}] = {_number(array[tuple(place)], library)}"
        return
    if repeated > 1 and (array == array.reshape(-1)[0]).all():
        array, repeated = np.repeat(array, repeated, axis=0), 1
    again = f".repeat_interleave({repeated}, dim=0)" if bare else f".repeat({repeated}, axis=0)"
    yield f"{name} = {_array(array, library, dtype)}{again * (repeated > 1)}"


def _array(array: Array, library: str, dtype: str) -> str:
    """An array as an expression of NumPy or torch; without ``dtype`` where what takes it makes it float32."""
    shape = tuple(map(int, array.shape))
    flat = array.reshape(-1)
    typed = f", dtype={dtype}" if dtype else ""
    makes = "tensor" if library == "torch" else "array"
    if not shape:
        return f"{library}.{makes}({_number(flat[0], library)}{typed})"
    if (flat.size > 1 or len(shape) > 2) and (flat == flat[0]).all() and not np.signbit(flat[0]):
        plain = {0.0: "zeros", 1.0: "ones"}.get(float(flat[0]))
        filled = f"{library}.full({shape}, {_number(flat[0], library)}{typed})"
        return f"{library}.{plain}({shape}{typed})" if plain else filled
    if flat.size > 4 and (flat == np.arange(1, flat.size + 1)).all():
        return f"{library}.arange(1, {flat.size + 1}{typed}).reshape{shape}"
    if len(shape) <= 2:
        listed = _nested(array, library)
        if len(listed) < _WIDE:
            return f"{library}.{makes}({listed}{typed})"
    text = ", ".join(_number(one, library) for one in flat)
    if len(text) > _WIDE:
        text = "\n" + textwrap.fill(text, _WIDE, initial_indent="    ", subsequent_indent="    ") + "\n"
    return f"{library}.{makes}([{text}]{typed}).reshape{shape}"


def _nested(array: Array, library: str) -> str:
    if array.ndim == 0:
        return _number(array[()], library)
    return f"[{', '.join(_nested(one, library) for one in array)}]"


def _number(value: Any, library: str = "np") -> str:
    """A number as Python reads it: whole ones without a point, but for the zero that has a sign."""
    if not np.isfinite(value):
        if library == "np":
            return "np.nan" if np.isnan(value) else "np.inf" if value > 0 else "-np.inf"
        return f'float("{float(value)}")'
    whole = float(value).is_integer() and abs(value) < 1e6 and not (value == 0 and np.signbit(value))
    return str(int(value)) if whole else str(value)


# -- what is expected ------------------------------------------------------------------------------------------------


def _by_hand(setting: Setting, found: Numbers) -> str:
    """What is expected: the sum of products that it is, where it is one of few terms; else the number."""
    terms = _terms(setting, found) if len(found.inputs) == 1 and found.inputs[0].size <= 64 else None
    if not np.isfinite(found.expected):
        return _value(found.expected)
    number = _number(found.expected)
    if not terms:
        return f"{number}  # in float64"
    return f"{' + '.join(terms)}  # {number}"


def _terms(setting: Setting, found: Numbers) -> list[str] | None:
    """The output at the place as factors of the input's numbers, where it is that."""
    (x,) = found.inputs
    if x.dtype.kind != "f" or not np.isfinite(x).all():
        return None
    basis = np.concatenate([np.zeros_like(x), *np.eye(x.size).reshape(x.size, *x.shape)])
    made = _reference(setting, [basis])
    if made is None:
        return None
    at = made[(slice(None), *found.place)]
    bias, factors = float(at[0]), at[1:] - at[0]
    values = x.reshape(-1).astype(np.float64)
    if not np.isclose(bias + factors @ values, found.expected, rtol=1e-9, atol=0):
        return None
    terms = [
        f"{_number(float(round(f, 12)))} * {_number(float(v))}" for f, v in zip(factors, values, strict=True) if f and v
    ]
    return [*terms, *([_number(bias)] if bias else [])][: _MOST_TERMS + 1] if len(terms) <= _MOST_TERMS else None


def _shape(setting: Setting, given: Sequence[Array]) -> tuple[int, ...] | None:
    made = _reference(setting, given)
    return None if made is None else tuple(map(int, made.shape))


def _reference(setting: Setting, given: Sequence[Array]) -> Array | None:
    """What the reference makes of inputs in the call's own axes; None of what it cannot say so."""
    network = network_of([setting])
    call = network.calls_by_name[network.outputs[0].call]
    wide = [one.astype(np.float64) if one.dtype.kind == "f" else one for one in given]
    weights = {name: array.astype(np.float64) for name, array in call.layer.computing_weights().items()}
    try:
        with np.errstate(all="ignore"):
            rest = call.args[1:] if len(wide) == 1 else ()
            operands = wide if len(wide) == 1 or not setting.call.listed else [wide]
            return np.asarray(call.layer.operation(weights, *operands, *rest, **call.operand_kwargs))
    except (TypeError, ValueError, IndexError):
        return None


# -- whether it shows it ---------------------------------------------------------------------------------------------


def _shows(printed: str, case: Case) -> bool:
    """Whether a script printed the numbers that the sweep saw, or raised what the backend's own words tell of."""
    found = case.numbers
    if found is None:
        own = re.search(r"(?:batch of \d+|cannot [^(]*) \((.+)", case.text)
        words = re.findall(r"[A-Za-z]+", own[1])[:4] if own else []
        return bool(words) and "raised " in printed and all(word in printed for word in words)
    said = _SAYS.search(printed)
    if said is None:
        return False
    room = abs(found.computed - found.expected) * 1e-3
    near = min(room, abs(found.computed) * 1e-3) if found.computed else room  # 0 is not 2e-40
    return _same(float(said[1]), found.computed, near) and _same(float(said[2]), found.expected, room)


def _same(one: float, other: float, room: float) -> bool:
    return one == other or bool(np.isnan(one) and np.isnan(other)) or abs(one - other) <= room
