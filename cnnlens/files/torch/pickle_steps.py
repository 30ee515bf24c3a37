"""The instructions of a pickle, each as a step of :class:`cnnlens.files.torch.pickle_machine.Machine`.

The format is described in CPython's ``Lib/pickletools.py``. Instructions that only objects and foreign memory need are
left out, and refuse a file by their names.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any, cast

from cnnlens.files.limits import LIMITS, human_bytes
from cnnlens.files.torch.pickle_machine import Machine
from cnnlens.files.torch.pickle_values import (
    EXPORT,
    InlineArray,
    NumpyType,
    OrderedMapping,
    Record,
    RefusedPickleError,
    TensorRef,
    class_of,
    key_of,
    storage_of,
)

__all__ = ["STEPS", "run", "unknown_step"]

_REFUSED_STEPS = {
    ord("i"): "INST", ord("o"): "OBJ", ord("P"): "PERSID", 0x82: "EXT1", 0x83: "EXT2", 0x84: "EXT4",
    0x97: "NEXT_BUFFER", 0x98: "READONLY_BUFFER",
}  # fmt: skip


def unknown_step(operation: int) -> str:
    name = _REFUSED_STEPS.get(operation)
    if name is not None:
        return f"the pickle has the instruction {name}, which state dicts never have"
    return f"damaged pickle (no instruction {operation:#04x})"


def _constant(value: Any) -> Callable[[Machine], None]:
    return lambda machine: machine.stack.append(value)


def _unsigned(count: int) -> Callable[[Machine], None]:
    return lambda machine: machine.stack.append(machine.number(count))


def _signed(machine: Machine) -> None:
    machine.push(int.from_bytes(machine.take(4), "little", signed=True))


def _long(width: int) -> Callable[[Machine], None]:
    def step(machine: Machine) -> None:
        count = machine.number(width)
        if count > LIMITS.pickle_integer_bytes:
            raise RefusedPickleError(f"an integer of {human_bytes(count)}")
        machine.stack.append(int.from_bytes(machine.take(count), "little", signed=True))

    return step


def _int_line(machine: Machine) -> None:
    text = machine.line()
    machine.push({"00": False, "01": True}[text] if text in ("00", "01") else int(text.removesuffix("L")))


def _float_line(machine: Machine) -> None:
    machine.push(float(machine.line()))


def _float(machine: Machine) -> None:
    machine.push(struct.unpack(">d", machine.take(8))[0])


def _unicode(width: int) -> Callable[[Machine], None]:
    def step(machine: Machine) -> None:
        machine.stack.append(str(machine.take(machine.number(width)), "utf-8", "surrogatepass"))

    return step


def _old_string(width: int) -> Callable[[Machine], None]:
    """Python 2's ``str``, text or bytes: Latin-1 keeps each byte."""

    def step(machine: Machine) -> None:
        machine.push(str(machine.take(machine.number(width)), "latin1"))

    return step


def _unicode_line(machine: Machine) -> None:
    machine.push(machine.line(100_000).encode("utf-8", "surrogateescape").decode("raw-unicode-escape"))


def _bytes(width: int) -> Callable[[Machine], None]:
    def step(machine: Machine) -> None:
        machine.push(bytes(machine.take(machine.number(width))))

    return step


def _mark(machine: Machine) -> None:
    machine.below.append(machine.stack)
    machine.stack = []


def _tuple(machine: Machine) -> None:
    items = machine.pop_mark()
    machine.push(tuple(items))


def _tuple_of(count: int) -> Callable[[Machine], None]:
    def step(machine: Machine) -> None:
        if len(machine.stack) < count:
            raise IndexError
        items = tuple(machine.stack[-count:])
        machine.stack[-count:] = [items]

    return step


def _list(machine: Machine) -> None:
    machine.push(machine.pop_mark())


def _empty_list(machine: Machine) -> None:
    machine.push([])


def _empty_dict(machine: Machine) -> None:
    machine.push({})


def _dict(machine: Machine) -> None:
    items = machine.pop_mark()
    machine.push({})
    _set(machine, items)


def _append(machine: Machine) -> None:
    value = machine.stack.pop()
    _extend(machine, [value])


def _appends(machine: Machine) -> None:
    _extend(machine, machine.pop_mark())


def _extend(machine: Machine, items: list[Any]) -> None:
    target = machine.stack[-1]
    if isinstance(target, Record):
        target = target.listed
    if type(target) is not list:
        raise RefusedPickleError("damaged pickle (an item for what is no list)")
    cast("list[Any]", target).extend(items)


def _set_item(machine: Machine) -> None:
    value, key = machine.stack.pop(), machine.stack.pop()
    _set(machine, [key, value])


def _set_items(machine: Machine) -> None:
    _set(machine, machine.pop_mark())


def _set(machine: Machine, items: list[Any]) -> None:
    target = machine.stack[-1]
    if not isinstance(target, dict) or len(items) % 2:
        raise RefusedPickleError("damaged pickle (an entry for what is no mapping)")
    for key, value in zip(items[::2], items[1::2], strict=True):
        target[key_of(key)] = value


def _pop(machine: Machine) -> None:
    if machine.stack:
        machine.stack.pop()
    else:
        machine.pop_mark()


def _pop_mark(machine: Machine) -> None:
    machine.pop_mark()


def _duplicate(machine: Machine) -> None:
    machine.push(machine.stack[-1])


def _get(width: int) -> Callable[[Machine], None]:
    def step(machine: Machine) -> None:
        machine.stack.append(machine.memo[machine.number(width)])

    return step


def _put(width: int) -> Callable[[Machine], None]:
    def step(machine: Machine) -> None:
        machine.memo[machine.number(width)] = machine.stack[-1]

    return step


def _get_line(machine: Machine) -> None:
    machine.push(machine.memo[int(machine.line(20))])


def _put_line(machine: Machine) -> None:
    machine.memo[int(machine.line(20))] = machine.stack[-1]


def _memoize(machine: Machine) -> None:
    machine.memo[len(machine.memo)] = machine.stack[-1]


def _skip(width: int) -> Callable[[Machine], None]:
    def step(machine: Machine) -> None:
        machine.take(width)

    return step


def _global(machine: Machine) -> None:
    module = machine.line()
    machine.push(machine.name(module, machine.line()))


def _stack_global(machine: Machine) -> None:
    name, module = machine.stack.pop(), machine.stack.pop()
    machine.push(machine.name(module, name))


def _reduce(machine: Machine) -> None:
    arguments, function = machine.stack.pop(), machine.stack.pop()
    machine.push(machine.call(function, arguments))


def _new_object(machine: Machine) -> None:
    arguments, kind = machine.stack.pop(), machine.stack.pop()
    machine.push(machine.make(kind, arguments))


def _new_object_with_names(machine: Machine) -> None:
    if not isinstance(machine.stack.pop(), dict):
        raise RefusedPickleError("damaged pickle (arguments by name that are no mapping)")
    _new_object(machine)


def _persistent(machine: Machine) -> None:
    identity = machine.stack.pop()
    kind = class_of(identity)
    if kind is not None:
        machine.push(kind)
        return
    storage = storage_of(identity)
    machine.storages.setdefault(storage.key, storage)
    machine.push(storage)


def _build(machine: Machine) -> None:
    state, target = machine.stack.pop(), machine.stack[-1]
    if isinstance(target, (NumpyType, InlineArray, Record)):
        target.set_state(state)
    elif not isinstance(target, (OrderedMapping, TensorRef)):
        raise RefusedPickleError("the pickle gives a state to what has none", EXPORT)


STEPS: Mapping[int, Callable[[Machine], None]] = {
    0x80: _skip(1),  # PROTO
    0x95: _skip(8),  # FRAME
    ord("N"): _constant(None), 0x88: _constant(True), 0x89: _constant(False), ord(")"): _constant(()),
    ord("I"): _int_line, ord("L"): _int_line, ord("F"): _float_line, ord("G"): _float, ord("J"): _signed,
    ord("K"): _unsigned(1), ord("M"): _unsigned(2), 0x8A: _long(1), 0x8B: _long(4),
    ord("V"): _unicode_line, ord("X"): _unicode(4), 0x8C: _unicode(1), 0x8D: _unicode(8),
    ord("T"): _old_string(4), ord("U"): _old_string(1),
    ord("B"): _bytes(4), ord("C"): _bytes(1), 0x8E: _bytes(8),
    0x96: _bytes(8),  # BYTEARRAY8
    ord("("): _mark, ord("t"): _tuple, 0x85: _tuple_of(1), 0x86: _tuple_of(2), 0x87: _tuple_of(3),
    ord("]"): _empty_list, ord("l"): _list, ord("a"): _append, ord("e"): _appends,
    # EMPTY_SET, ADDITEMS and FROZENSET: nothing asks whether it is one
    0x8F: _empty_list, 0x90: _appends, 0x91: _list,
    ord("}"): _empty_dict, ord("d"): _dict, ord("s"): _set_item, ord("u"): _set_items,
    ord("0"): _pop, ord("1"): _pop_mark, ord("2"): _duplicate,
    ord("h"): _get(1), ord("j"): _get(4), ord("g"): _get_line,
    ord("q"): _put(1), ord("r"): _put(4), ord("p"): _put_line, 0x94: _memoize,
    ord("c"): _global, 0x93: _stack_global, ord("R"): _reduce, ord("b"): _build, ord("Q"): _persistent,
    0x81: _new_object, 0x92: _new_object_with_names,
}  # fmt: skip


def run(machine: Machine) -> tuple[Any, int]:
    """Follow a pickle's instructions to its end: the object that it describes, and the position behind it.

    Raises:
        RefusedPickleError: an instruction, a name or a size that state dicts never have.
    """
    data, end, budget = machine.data, machine.end, machine.budget
    while machine.at < end:
        operation = data[machine.at]
        machine.at += 1
        budget.operations -= 1
        step = STEPS.get(operation)
        if step is None:
            if operation == 0x2E:  # STOP
                return machine.stack.pop(), machine.at
            raise RefusedPickleError(unknown_step(operation))
        if budget.operations < 0:
            budget.spend_items(0)
        step(machine)
    raise machine.cut_off()
