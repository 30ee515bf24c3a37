"""Names out of a file as names in Python: identifiers that no keyword, module attribute or other name takes already.

A layer may be called ``class``, ``1x1``, ``train`` or ``../../x``. What is written must be code that a person can read
and nothing that a name could turn into other code.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable

from cnnlens.text import printable

__all__ = ["Names", "class_name", "comment", "identifier", "literal"]

# What a torch.nn.Module has already (torch 2.13), so that no layer may be stored under it.
MODULE_ATTRIBUTES = frozenset(
    """
    T_destination add_module apply bfloat16 buffers call_super_init children compile cpu cuda double dump_patches eval
    extra_repr float forward get_buffer get_extra_state get_parameter get_submodule half ipu load_state_dict modules
    mtia named_buffers named_children named_modules named_parameters parameters register_backward_hook register_buffer
    register_forward_hook register_forward_pre_hook register_full_backward_hook register_full_backward_pre_hook
    register_load_state_dict_post_hook register_load_state_dict_pre_hook register_module register_parameter
    register_state_dict_post_hook register_state_dict_pre_hook requires_grad_ set_extra_state set_submodule
    share_memory state_dict to to_empty train training type xpu zero_grad
    """.split()
)
# What the generated file itself uses.
FILE_NAMES = frozenset(
    "torch nn F math Path load load_file self model path cls super float int bool len range tuple list str max min "
    "zip print enumerate sorted reversed sum abs __file__ __name__".split()
)


def identifier(name: str) -> str:
    """Make ``name`` an ASCII identifier: what no identifier may hold becomes ``_``."""
    made = re.sub(r"[^0-9A-Za-z_]+", "_", name).lstrip("_")[:60] or "layer"
    if made[0].isdigit():
        made = f"layer_{made}"
    return f"{made}_" if keyword.iskeyword(made) or keyword.issoftkeyword(made) else made


def class_name(name: str) -> str:
    """Turn ``fashion_mnist_cnn`` into ``FashionMnistCnn``; a bare ``sequential`` into ``SequentialModel``."""
    parts = [part for part in re.split(r"[^0-9A-Za-z]+", name) if part]
    made = "".join(part[0].upper() + part[1:] for part in parts)[:60] or "Model"
    if made[0].isdigit():
        made = f"Model{made}"
    if re.fullmatch(r"(Sequential|Functional|Model|Module)\d*", made) and made != "Model":
        made = re.sub(r"(\D+)(\d*)", r"\1Model\2", made)
    return f"{made}_" if keyword.iskeyword(made) else made


class Names:
    """Names that are taken, and new ones that are not."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self.taken = set(taken)

    def fresh(self, wanted: str) -> str:
        """Take ``wanted``, or the first of ``wanted_1``, ``wanted_2`` … that is free, from now on."""
        name, count = wanted, 0
        while name in self.taken:
            count += 1
            name = f"{wanted}_{count}" if not wanted.endswith("_") else f"{wanted}{count}"
        self.taken.add(name)
        return name


def comment(text: str) -> str:
    """Make a name or a value out of a file safe in a comment or a docstring."""
    return printable(text).replace("\\", "/").replace('"', "'")


def literal(value: object) -> str:
    """Write a number as Python does.

    Raises:
        TypeError: it is no number, and nothing else out of a config is ever written into code.
    """
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, float):
        number = float(value)
        if number != number:
            return 'float("nan")'
        if number in (float("inf"), float("-inf")):
            return 'float("inf")' if number > 0 else '-float("inf")'
        return repr(number)
    raise TypeError(f"a number was expected, not {type(value).__name__}")
