"""A disagreement as a script for the framework alone: it computes one small case and prints both numbers.

Where what is expected is a sum of products of the input it is written out so, for anybody to add up by hand; else it is
the number that float64 gives. Each script is run before it is shown, in the backend's own Python.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from cnnlens.backend.worker import parse_spec
from cnnlens.reference.keras.names import snake_case
from cnnlens.surveying.networks import arrays_of, network_of
from cnnlens.surveying.setting import Setting
from cnnlens.surveying.shrinking import Numbers

__all__ = ["Case", "proved"]

_SECONDS, _EACH = 120.0, 10.0  # that all may take, and for each
_SAYS = re.compile(r"^computed (\S+), expected (\S+)$", re.MULTILINE)
_MOST_TERMS = 12
_KERAS = ("keras-tensorflow", "keras-jax", "keras-torch")
_COMPILED = {"tensorflow": ("import tensorflow as tf\n", "tf.function({})"), "jax": ("import jax\n", "jax.jit({})")}


class Case(NamedTuple):
    """Holds what a script shows: a setting, its numbers, and what is wrong in words."""

    setting: Setting
    numbers: Numbers
    text: str


_DRIVER = """
import contextlib, io, json, sys
for number, several in enumerate(json.load(sys.stdin)):
    said = []
    for script in several:
        out = io.StringIO()
        try:
            with contextlib.redirect_stdout(out):
                exec(compile(script, "script", "exec"), {"__name__": "__main__"})
        except Exception as error:
            out.write(repr(error))
        said.append(out.getvalue())
    print(json.dumps([number, said]), flush=True)
"""


def proved(cases: Sequence[Case], backend: str, versions: Mapping[str, str]) -> list[tuple[str, bool]]:
    """Write the script of each case, and say whether it showed the fault when it was run.

    All are run by the backend's own Python in one process, each in a namespace of its own: one import is enough.
    """
    if any(case.setting.family.framework == "keras" for case in cases) and parse_spec(backend)[0] not in _KERAS:
        return [("", False)] * len(cases)  # a backend of somebody's own, whose framework is not known here
    # As it is, compiled, compiled for more than one example, and beside the examples that it was found among.
    ways = ((False, 1), (True, 1), (True, 2), (False, 0), (True, 0))
    written = [
        list(dict.fromkeys(_script(case, backend, versions, compiled, examples) for compiled, examples in ways))
        for case in cases
    ]
    said = _run(written, backend) if cases else {}
    made: list[tuple[str, bool]] = []
    for number, (case, several) in enumerate(zip(cases, written, strict=True)):
        showing = [one for one, text in zip(several, said.get(number, ()), strict=False) if _shows(text, case.numbers)]
        made.append((showing[0], True) if showing else (several[0], False))
    return made


def _run(written: Sequence[Sequence[str]], backend: str) -> dict[int, list[str]]:
    """What each script printed, by the number of its case; those behind one that ended the process said nothing."""
    _, interpreter = parse_spec(backend)
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}
    try:
        ran = subprocess.run(
            [interpreter or sys.executable, "-c", _DRIVER], input=json.dumps(written), capture_output=True, text=True,
            timeout=_SECONDS + _EACH * len(written), check=False, env={**os.environ, **quiet},
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return {}
    found: dict[int, list[str]] = {}
    for line in ran.stdout.splitlines():
        try:
            number, said = json.loads(line)
            found[int(number)] = list(map(str, said))
        except (ValueError, TypeError):
            continue  # a framework's own words
    return found


def _script(case: Case, backend: str, versions: Mapping[str, str], compiled: bool, examples: int) -> str:
    """Write one way to show a case: ``examples`` of it, or 0 for the batch that it was found in."""
    setting, found, text = case
    name, _ = parse_spec(backend)
    shown = ", ".join(f"{one} {version}" for one, version in versions.items())
    head = f"# {setting.call.name}: {text}\n# Found with {shown}.\n"
    operands = [f"x{place}" if len(found.inputs) > 1 else "x" for place in range(len(found.inputs))]
    among = not examples
    again = ".repeat(2, axis=0)" if examples == 2 else ""
    given = found.batch if among else found.inputs
    lines = [f"{one} = {_array(array)}{again}" for one, array in zip(operands, given, strict=True)]
    if setting.family.framework == "torch":
        imports = "import numpy as np\nimport torch\n"
        lines += [f"y = {_aten(setting, operands)}.numpy()"]
    else:
        framework = name.rpartition("-")[2]
        extra, wrap = _COMPILED.get(framework, ("", "{}")) if compiled else ("", "{}")
        imports = (
            f'import os\n\nos.environ["KERAS_BACKEND"] = "{framework}"\n\nimport keras\nimport numpy as np\n{extra}'
        )
        lines += _keras(setting, operands, wrap)
    place = ", ".join(map(str, (found.row if among else 0, *found.place)))
    lines += [
        f"computed = float(y[{place}])",
        f"expected = {_by_hand(setting, found)}",
        'print(f"computed {computed!r}, expected {expected!r}")',
    ]
    return f"{head}{imports}\n" + "\n".join(lines) + "\n"


def _keras(setting: Setting, operands: list[str], wrap: str) -> list[str]:
    call = setting.call
    args = ", ".join(operands)
    args = f"[{args}]" if call.listed else args
    tail = "".join(f", {one!r}" for one in call.extra) + "".join(f", {k}={v!r}" for k, v in call.named.items())
    config = ", ".join(f"{name}={value!r}" for name, value in call.config.items())
    if call.module != "keras.layers":
        home = "keras.ops.image" if call.module.endswith(".image") else "keras.ops"
        lines = [f"layer = lambda *x: {home}.{snake_case(call.name)}(*x{', ' * bool(config)}{config}{tail})"]
        tail = ""
    else:
        lines = [f"layer = keras.layers.{call.name}({config})"]
        lines += [f"layer({args}{tail})", *_weights(setting)] if call.weights else []
    return [*lines, f"y = keras.ops.convert_to_numpy({wrap.format('layer')}({args}{tail}))"]


def _weights(setting: Setting) -> list[str]:
    arrays = arrays_of(setting)
    return [
        f"arrays = {{{', '.join(f'{role!r}: {_array(array)}' for role, array in arrays.items())}}}",
        "for weight in layer.weights:",
        "    weight.assign(next(a for role, a in arrays.items() if weight.path.endswith(role)))",
    ]


def _aten(setting: Setting, operands: list[str]) -> str:
    def shown(value: Any) -> str:
        if isinstance(value, Mapping):  # a tensor's place
            return f"torch.from_numpy({operands[cast('Mapping[str, int]', value)['tensor']]})"
        if isinstance(value, list):
            return f"[{', '.join(shown(one) for one in cast('list[Any]', value))}]"
        return repr(value)

    arrays = {role: f"torch.from_numpy({_array(array)})" for role, array in arrays_of(setting).items()}
    given = {**{name: shown(value) for name, value in setting.call.config.items()}, **arrays}
    # By name, and what is called self by place, as Python's own first argument is.
    first = [given.pop("self")] if "self" in given else []
    return f"torch.ops.aten.{setting.call.name}({', '.join([*first, *(f'{k}={v}' for k, v in given.items())])})"


def _array(array: NDArray[Any]) -> str:
    shape = tuple(map(int, array.shape))
    if array.size and (array == 1).all():
        return f'np.ones({shape}, "{array.dtype}")'
    values = ", ".join(_number(one) for one in array.reshape(-1).tolist())
    return f'np.array([{values}], "{array.dtype}").reshape({shape})'


def _number(value: float) -> str:
    """A number as Python reads it: whole ones without a point, but for the zero that has a sign."""
    if not np.isfinite(value):
        return "np.nan" if np.isnan(value) else "np.inf" if value > 0 else "-np.inf"
    whole = float(value).is_integer() and abs(value) < 1e6 and str(value) != "-0.0"
    return str(int(value)) if whole else repr(value)


def _by_hand(setting: Setting, found: Numbers) -> str:
    """What is expected: the sum of products that it is, where it is one of few terms; else the number."""
    terms = _terms(setting, found) if len(found.inputs) == 1 and found.inputs[0].size <= 64 else None
    number = _number(found.expected)
    if not terms:
        return f"{number}  # in float64"
    return f"{' + '.join(terms)}  # {number}"


def _terms(setting: Setting, found: Numbers) -> list[str] | None:
    """The output at the place as factors of the input's numbers, where it is that."""
    (x,) = found.inputs
    if x.dtype.kind != "f" or not np.isfinite(x).all():
        return None
    network = network_of([setting])
    call = network.calls_by_name[network.outputs[0].call]
    basis = np.concatenate([np.zeros_like(x), *np.eye(x.size).reshape(x.size, *x.shape)])
    weights = {name: array.astype(np.float64) for name, array in call.layer.computing_weights().items()}
    try:
        with np.errstate(all="ignore"):
            made = np.asarray(
                call.layer.operation(weights, basis.astype(np.float64), *call.args[1:], **call.operand_kwargs)
            )
    except (TypeError, ValueError):
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


def _shows(printed: str, found: Numbers) -> bool:
    """Whether a script printed the numbers that the sweep saw."""
    said = _SAYS.search(printed)
    if said is None:
        return False
    room = abs(found.computed - found.expected) * 1e-3
    return _same(float(said[1]), found.computed, room) and _same(float(said[2]), found.expected, room)


def _same(one: float, other: float, room: float) -> bool:
    return one == other or bool(np.isnan(one) and np.isnan(other)) or abs(one - other) <= room
