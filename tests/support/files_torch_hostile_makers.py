"""PyTorch files that lie, call, nest or blow up, put together byte by byte: ``MAKERS`` maps a name to its maker.

A maker gets a folder and returns the path to open; ``REFUSALS`` says what the one-line refusal must contain. Payloads
would make the file ``canary`` in the folder that ``PAYLOAD`` names.
"""

from __future__ import annotations

import io
import json
import math
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.support.files_hostile_makers import Maker, archive, registering

MAKERS: dict[str, Maker] = {}
REFUSALS: dict[str, str] = {}
MAGIC = 0x1950A86A20F9469CFC6C


refused = registering(MAKERS, REFUSALS)


def refused_pickle(name: str, reason: str, data: Callable[[Path], bytes] | bytes) -> None:
    """Registers an archive whose ``data.pkl`` is ``data``, and a file of the older format with the same pickle."""

    def make(folder: Path) -> bytes:
        return data(folder) if callable(data) else data

    MAKERS[f"zip {name}"] = lambda folder: zipped(folder, make(folder))
    MAKERS[f"legacy {name}"] = lambda folder: legacy(folder, make(folder))
    REFUSALS[f"zip {name}"] = REFUSALS[f"legacy {name}"] = reason


# --- a pickle, put together -----------------------------------------------------------------------------------------


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def integer(value: int) -> bytes:
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def sequence(*items: bytes) -> bytes:
    """A tuple."""
    return b"(" + b"".join(items) + b"t"


def named(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def call(module: str, name: str, *arguments: bytes) -> bytes:
    return named(module, name) + sequence(*arguments) + b"R"


def mapping(entries: Mapping[str, bytes]) -> bytes:
    return b"}(" + b"".join(text(key) + value for key, value in entries.items()) + b"u"


def storage(key: str = "0", numel: int = 15, kind: bytes = named("torch", "FloatStorage"), old: bool = False) -> bytes:
    return sequence(text("storage"), kind, text(key), text("cpu"), integer(numel), *([b"N"] if old else [])) + b"Q"


def tensor(
    shape: tuple[int, ...] = (5, 3), strides: tuple[int, ...] = (3, 1), offset: int = 0, at: bytes | None = None
) -> bytes:
    return call(
        "torch._utils",
        "_rebuild_tensor_v2",
        at or storage(),
        integer(offset),
        sequence(*(integer(size) for size in shape)),
        sequence(*(integer(step) for step in strides)),
        b"\x89",
        call("collections", "OrderedDict"),
    )


FLOAT = b"G\x3f\xb0" + bytes(6)
WHOLE = storage(numel=7, kind=named("torch", "LongStorage"))


def quantised(scale: bytes, zero_point: bytes, *axis: bytes, how: str = "channel", shape: int = 5) -> bytes:
    """A tensor of ``shape`` x 3 codes; its parts all lie in one storage of 60 bytes."""
    codes = storage(numel=60, kind=named("torch", "QInt8Storage"))
    parts = sequence(named("torch", f"per_{how}_affine"), scale, zero_point, *axis)
    sizes, strides = sequence(integer(shape), integer(3)), sequence(integer(3), integer(1))
    more = (b"\x89", call("collections", "OrderedDict"))
    return call("torch._utils", "_rebuild_qtensor", codes, integer(0), sizes, strides, parts, *more)


def dense(*shape: int, whole: bool = False) -> bytes:
    """A tensor of this shape from the storage's start; of whole numbers, of a storage of 7 of them."""
    steps = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
    return tensor(shape, steps, at=WHOLE if whole else None)


def sparse(layout: str, shape: tuple[int, ...], *parts: bytes) -> bytes:
    """A sparse tensor of this shape, whose indices and values are ``parts``."""
    kind = call("torch.serialization", "_get_layout", text(f"torch.sparse_{layout}"))
    data = sequence(*parts, sequence(*(integer(size) for size in shape)))
    return call("torch._utils", "_rebuild_sparse_tensor", kind, data)


def state(**entries: bytes) -> bytes:
    """A whole pickle: one honest tensor under ``a.weight``, and these entries behind it."""
    return b"\x80\x02" + mapping({"a.weight": tensor(), **entries}) + b"."


def alone(value: bytes) -> bytes:
    return b"\x80\x02" + value + b"."


ELEMENTS = struct.pack("<15f", *range(15))


def members(data: bytes, **storages: bytes) -> dict[str, bytes]:
    """The members of an archive as torch writes them."""
    stored = {f"x/data/{key.removeprefix('_')}": value for key, value in ({"_0": ELEMENTS} | storages).items()}
    return {"x/data.pkl": data, "x/byteorder": b"little", **stored, "x/version": b"3\n"}


def zipped(folder: Path, data: bytes, **storages: bytes) -> Path:
    return archive(folder / "x.pt", members(data, **storages))


def legacy(folder: Path, data: bytes, keys: Any = ("0",), tail: bytes | None = None, info: bytes | None = None) -> Path:
    """A file of the older format; its storage follows unless ``tail`` is given."""
    if b"storage" not in data:
        keys, tail = keys if isinstance(keys, bytes) else (), tail or b""
    parts = [pickle.dumps(MAGIC, 2), pickle.dumps(1001, 2), info or pickle.dumps({"little_endian": True}, 2), data]
    parts.append(keys if isinstance(keys, bytes) else pickle.dumps(list(keys), 2))
    parts.append(struct.pack("<q", 15) + ELEMENTS if tail is None else tail)
    path = folder / "x.pt"
    path.write_bytes(b"".join(parts))
    return path


def module(more: bytes = b"}", **children: bytes) -> bytes:
    """An object of a class that is nowhere, with what a module of torch has; ``more`` are further attributes."""
    parts = {"_parameters": mapping({"w": tensor()}), "_buffers": b"}", "_modules": mapping(children), "more": more}
    return named("mine", "Net") + b")\x81" + mapping(parts) + b"b"


def nested(depth: int) -> bytes:
    made = module()
    for _ in range(depth):
        made = module(m=made)
    return made


def doubled(levels: int) -> bytes:
    """A module that has a module twice, which has a module twice …"""
    made = module() + b"q\x00"
    for _ in range(levels):
        made += b"0" + module(a=b"h\x00", b=b"h\x00") + b"q\x00"
    return made


def script(code: str, *, constants: bytes | None = b"\x80\x02).", compress: bool = False, **more: bytes) -> Any:
    """A maker of a TorchScript archive whose model has one array ``w`` and this code in its ``forward``."""

    def make(folder: Path) -> Path:
        state = mapping({"w": tensor(), "training": b"\x89", **more})
        text = "class Net(Module):\n" + code
        parts = {
            **members(alone(named("__torch__", "Net") + b")\x81" + state + b"b")),
            "x/code/__torch__.py": text.encode(),
        }
        if constants is not None:
            parts["x/constants.pkl"] = constants
        return archive(folder / "x.pt", parts, zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED)

    return make


FORWARD = "  def forward(self: __torch__.Net,\n    x: Tensor) -> Tensor:\n"
"""The head of a ``forward`` in TorchScript's code."""


# --- what would run -------------------------------------------------------------------------------------------------


class Payload:
    """Unpickled, it runs a command of the shell."""

    def __init__(self, folder: Path) -> None:
        self.command = f"touch '{folder}/canary'"

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.system, (self.command,)


def command(folder: Path) -> bytes:
    return text(f"touch '{folder}/canary'")


refused_pickle("os.system", "calls posix.system", lambda folder: pickle.dumps(Payload(folder), 2))
refused_pickle("os.system by the stack", "calls posix.system", lambda folder: pickle.dumps(Payload(folder), 4))
refused_pickle("os.system behind a tensor", "calls os.system", lambda at: state(b=call("os", "system", command(at))))
refused_pickle(
    "subprocess.Popen", "calls subprocess.Popen", lambda at: state(b=call("subprocess", "Popen", command(at)))
)
refused_pickle("eval", "calls builtins.eval", lambda at: alone(call("__builtin__", "eval", text("print(1)"))))
refused_pickle(
    "getattr", "a call with arguments that it never has", state(b=call("builtins", "getattr", tensor(), text("x")))
)
refused_pickle("torch.load", "calls torch.load", state(b=call("torch", "load", text("other.pt"))))
refused_pickle("torch.hub.load", "calls torch.hub.load", state(b=call("torch.hub", "load", text("a/b"), text("c"))))
refused_pickle("a dotted name", "calls torch._utils.sys.exit", state(b=call("torch", "_utils.sys.exit", integer(1))))
refused_pickle("numpy's loader", "calls numpy.load", state(b=call("numpy", "load", text("x.npy"))))
refused_pickle("a class that is called", "calls argparse.Namespace", state(args=call("argparse", "Namespace")))
refused_pickle(
    "a class of somebody's that is called", "calls mine.Net", state(b=call("mine", "Net", text("touch canary")))
)
refused_pickle("an enumeration of Python's own", "calls ctypes.CDLL", state(b=call("ctypes", "CDLL", text("libc"))))
refused_pickle("an attribute that is called", "a call of what is no callable", state(
    b=call("builtins", "getattr", named("os", "Path"), text("system")) + sequence(text("ls")) + b"R"))  # fmt: skip
refused_pickle("an object that is no module", "an object of the class __main__.Net, which is no module", alone(
    named("__main__", "Net") + b")\x81}b"))  # fmt: skip
refused_pickle("an object that is called", "a call of what is no callable", alone(
    named("__main__", "Net") + b")\x81}b)R"))  # fmt: skip
refused_pickle("a state for a class", "gives a state to what has none", state(b=named("mine", "Net") + b"}b"))
refused_pickle("two states", "an object with two states", alone(named("mine", "Net") + b")\x81}b}b"))
refused_pickle("a call in an object", "calls os.system", lambda at: alone(module(mapping({
    "extra": call("os", "system", command(at))}))))  # fmt: skip
refused_pickle("a module that contains itself", "a module that contains itself", alone(
    named("mine", "Net") + b")\x81q\x00" + mapping({
        "_parameters": mapping({"w": tensor()}), "_modules": mapping({"self": b"h\x00"})}) + b"b"))  # fmt: skip
refused_pickle("2**40 modules by reference", "modules or arrays, which no file of its size has", lambda at: alone(
    doubled(40)))  # fmt: skip
refused_pickle("15,000 modules", "modules or arrays, which no file of its size has", lambda at: alone(
    module(mapping({}), **{f"m{number}": module() for number in range(15_000)})))  # fmt: skip
refused_pickle("modules 200 deep", "modules nested too deep", lambda at: alone(nested(200)))
refused_pickle("a name of 2,000 characters", "with a name of 2,0", alone(
    text("a" * 1_000) + text("b" * 1_001) + b"\x93"))  # fmt: skip
refused_pickle("NEWOBJ_EX without names", "arguments by name", alone(named("mine", "Net") + b")]\x92"))
refused_pickle("an item for a word", "an item for what is no list", alone(named("mine", "Net") + b"Na"))
refused_pickle("INST", "the instruction INST", lambda at: alone(b"(" + command(at) + b"ios\nsystem\n"))
refused_pickle("OBJ", "the instruction OBJ", lambda at: alone(b"(" + named("os", "system") + command(at) + b"o"))
refused_pickle("OBJ on the list", "the instruction OBJ", alone(b"(" + named("torch", "Size") + b")o"))
refused_pickle("NEWOBJ_EX", "a call with arguments", alone(named("torch", "Size") + b")}\x92"))
refused_pickle("an extension", "the instruction EXT1", alone(b"\x82\x01"))
refused_pickle("a name by text", "the instruction PERSID", alone(b"Pabc\n"))
refused_pickle("a call of a dtype", "calls torch.float32", state(b=call("torch", "float32", integer(1))))
refused_pickle("a call of a class", "calls torch.Tensor", state(b=call("torch", "Tensor", integer(1 << 40))))
refused_pickle("a state for a list", "gives a state to what has none", state(b=b"]}b"))
refused_pickle(
    "a codec that unpacks", "a call with arguments that it never has",
    state(b=call("_codecs", "encode", text("x"), text("zlib"))),
)  # fmt: skip
refused_pickle(
    "a rebuilt rebuild", "a call with arguments that it never has",
    state(b=call("torch._tensor", "_rebuild_from_type_v2", named("torch._tensor", "_rebuild_from_type_v2"),
                 named("torch", "Tensor"), b")", b"N")),
)  # fmt: skip
refused_pickle(
    "a module by persistent id", "a call with arguments", alone(sequence(text("module"), b"N", b"N", b"N") + b"Q")
)


@refused("did not write")
def plain_pickle(folder: Path) -> Path:
    (folder / "x.pt").write_bytes(pickle.dumps({"a": 1}, 2))
    return folder / "x.pt"


@refused("calls posix.system")
def plain_pickle_that_calls(folder: Path) -> Path:
    (folder / "x.pt").write_bytes(pickle.dumps(Payload(folder), 2))
    return folder / "x.pt"


@refused("system information: the pickle calls posix.system")
def call_in_the_machine_description(folder: Path) -> Path:
    return legacy(folder, state(), info=pickle.dumps(Payload(folder), 2))


@refused("storage keys: the pickle calls posix.system")
def call_in_the_keys(folder: Path) -> Path:
    return legacy(folder, state(), keys=pickle.dumps(Payload(folder), 2))


@refused("a tar archive")
def tar_with_a_call(folder: Path) -> Path:
    with tarfile.open(folder / "x.pt", "w", format=tarfile.USTAR_FORMAT) as file:
        for name in ("storages", "tensors", "pickle"):
            data = pickle.dumps(Payload(folder), 2)
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return folder / "x.pt"


# --- bombs ----------------------------------------------------------------------------------------------------------


def leaves(levels: int) -> bytes:
    """Lists of two references to the list before them: 2**levels leaves."""
    made = b"](NNe" + b"q\x00"
    for _ in range(levels):
        made += b"0](h\x00h\x00eq\x00"
    return made


refused_pickle("bytearray of 3 GiB", "bytearray(0xc0000000)", state(b=call("builtins", "bytearray", integer(3 << 30))))
refused_pickle("bytes of 3 GiB", "arguments that it never has", state(b=call("__builtin__", "bytes", integer(3 << 30))))
refused_pickle("bytes that are not there", "truncated pickle", alone(b"\x8e" + struct.pack("<Q", 1 << 62)))
refused_pickle("text that is not there", "truncated pickle", alone(b"X" + struct.pack("<I", 0xFFFFFFF0)))
refused_pickle("a bytearray that is not there", "truncated pickle", alone(b"\x96" + struct.pack("<Q", 3 << 30)))
refused_pickle(
    "an integer of 5 MB", "an integer of 5 MB", alone(b"\x8b" + struct.pack("<I", 5_000_000) + b"\x01" * 5_000_000)
)
refused_pickle("digits without end", "a line without end", alone(b"I" + b"9" * 5_000_000 + b"\n"))
refused_pickle("3,000,000 steps", "more than 1,000,000 steps", b"\x80\x02" + b"]0" * 1_500_000 + b"N.")
refused_pickle("3,000,000 marks", "more than 1,000,000 steps", b"\x80\x02" + b"(" * 3_000_000 + b".")
refused_pickle("a list 400,000 deep", "no state dict in it", alone(b"]" * 400_000 + b"a" * 399_999))
refused_pickle("a tuple 400,000 deep", "no state dict in it", alone(b")" + b"\x85" * 400_000))
refused_pickle("a key 400,000 deep", "a nested tuple as its key", alone(b"})" + b"\x85" * 400_000 + b"Ns"))
refused_pickle(
    "a key of 2**40 leaves", "a nested tuple as its key",
    alone(b")" + b"q\x00" + b"0h\x00h\x00\x86q\x00" * 40 + b"0}h\x00Ns"),
)  # fmt: skip
refused_pickle("a list as a key", "a list as its key", alone(b"}]Ns"))
refused_pickle("a key of 2,000 digits", "a int as its key", alone(b"}" + integer(1 << 2000) + b"Ns"))
refused_pickle("2**40 leaves alone", "no state dict in it", alone(leaves(40)))
refused_pickle(
    "a list copied 1,000 times", "more than 1,000,000 steps",
    alone(b"](" + b"NK\x01\x86" * 20_000 + b"eq\x000" + (named("collections", "OrderedDict") + b"h\x00\x85R0") * 1_000
          + b"N"),
)  # fmt: skip
refused_pickle(
    "a text encoded 1,000 times", "more than 67.1 MB out of its text",
    alone(text("x" * 2_000_000) + b"q\x000"
          + (named("_codecs", "encode") + b"h\x00" + text("latin1") + b"\x86R0") * 1_000 + b"N"),
)  # fmt: skip


@refused("a pickle of more than")
def a_pickle_of_70_megabytes(folder: Path) -> Path:
    return zipped(folder, state(b=b"B" + struct.pack("<I", 70_000_000) + bytes(70_000_000)))


@refused("that unpack to")
def deflated_storage(folder: Path) -> Path:
    """A storage of 1.5 GB in 1.5 MB: refused when it is read."""
    path = folder / "x.pt"
    count = 375_000_000
    data = alone(mapping({"a.weight": tensor((count,), (1,), at=storage(numel=count))}))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        file.writestr("x/data.pkl", data)
        with file.open("x/data/0", "w") as member:
            for _ in range(1500):
                member.write(bytes(1_000_000))
    return path


@refused("that unpack to")
def deflated_pickle(folder: Path) -> Path:
    return archive(folder / "x.pt", members(state(b=b"C\x01x" + b"N0" * 35_000_000)), zipfile.ZIP_DEFLATED)


# --- tensors that claim ---------------------------------------------------------------------------------------------

refused_pickle("a view of 4 TiB", "by repeating 60 bytes", state(b=tensor((1 << 20, 1 << 20), (0, 0))))
refused_pickle("a view of 2**120 elements", "is beyond any memory", state(b=tensor((1 << 60, 1 << 60), (0, 0))))
refused_pickle("a view beyond its storage", "needs 16 elements, its storage has 15", state(b=tensor((5, 3), (3, 1), 1)))
refused_pickle("a stride beyond its storage", "its storage has 15", state(b=tensor((5, 3), (4, 1))))
refused_pickle("a negative stride", "the size, stride or offset -0x3", state(b=tensor((5, 3), (-3, 1), 12)))
refused_pickle("a negative size", "the size, stride or offset -0x5", state(b=tensor((-5, 3), (3, 1))))
refused_pickle("a negative offset", "the size, stride or offset -0x1", state(b=tensor((5, 3), (3, 1), -1)))
refused_pickle("a size of 2**64", "the size, stride or offset 0x1", state(b=tensor((1 << 64, 0), (1, 1))))
refused_pickle("an offset of 2**200", "the size, stride or offset 0x1", state(b=tensor(offset=1 << 200)))
refused_pickle(
    "a size that is no number",
    "arguments that it never has",
    state(b=tensor().replace(b"\x8a\x01\x05", b"G" + struct.pack(">d", 5))),
)
refused_pickle("40 axes", "a tensor of 40 axes", state(b=tensor((1,) * 40, (1,) * 40)))
refused_pickle("more strides than axes", "arguments that it never has", state(b=tensor((5, 3), (3, 1, 1))))
refused_pickle("a tensor without storage", "arguments that it never has", state(b=tensor(at=b"N")))
refused_pickle(
    "a storage without class", "arguments that it never has", state(b=tensor(at=storage(kind=text("float32"))))
)
refused_pickle(
    "a storage of a dtype", "arguments that it never has", state(b=tensor(at=storage(kind=named("torch", "float32"))))
)
refused_pickle("a missing storage", "lacks this storage", state(b=tensor(at=storage("7"))))
refused_pickle("a climbing storage", "lacks this storage", state(b=tensor(at=storage("../../../etc/passwd"))))
refused_pickle("an array shorter than its shape", "shape (5, 3) of float32, in 8 bytes", state(
    b=call("numpy.core.multiarray", "_reconstruct", named("numpy", "ndarray"), sequence(integer(0)), b"C\x01b")
    + sequence(integer(1), sequence(integer(5), integer(3)), call("numpy", "dtype", text("f4"), b"\x89", b"\x88"),
               b"\x89", b"C\x08" + bytes(8)) + b"b"))  # fmt: skip
refused_pickle("a name of 5,000 characters", "a name of 5,000 characters", alone(mapping({"n" * 5_000: tensor()})))
refused_pickle("a name of 500 parts", "characters and 500 dots", alone(mapping({"a." * 500 + "w": tensor()})))
refused_pickle("no tensors", "a mapping without tensors (a)", alone(mapping({"a": integer(1)})))
refused_pickle("nothing", "an empty mapping", alone(b"}"))
refused_pickle("a list of tensors", "no state dict in it: a list of 1", alone(b"](" + tensor() + b"e"))
refused_pickle("a tensor alone", "a tensor without a name", alone(tensor()))


@refused("a storage of 40 bytes where the pickle says 60")
def a_storage_shorter_than_declared(folder: Path) -> Path:
    return zipped(folder, state(), _0=ELEMENTS[:40])


@refused("a storage of 600 bytes where the pickle says 60")
def a_storage_longer_than_declared(folder: Path) -> Path:
    return zipped(folder, state(), _0=ELEMENTS * 10)


@refused("a storage of 60 bytes where the pickle says")
def a_storage_of_4_terabytes(folder: Path) -> Path:
    return zipped(folder, alone(mapping({"a.weight": tensor((1 << 40,), (1,), at=storage(numel=1 << 40))})))


@refused("a byte order that is neither")
def another_byte_order(folder: Path) -> Path:
    return archive(folder / "x.pt", {**members(state()), "x/byteorder": b"middle"})


# --- containers -----------------------------------------------------------------------------------------------------


@refused("truncated zip archive")
def a_truncated_archive(folder: Path) -> Path:
    path = zipped(folder, state())
    path.write_bytes(path.read_bytes()[:-100])
    return path


@refused("two members of this name")
def a_storage_twice(folder: Path) -> Path:
    import warnings

    path = zipped(folder, state())
    with warnings.catch_warnings(), zipfile.ZipFile(path, "a") as file:
        warnings.simplefilter("ignore")
        file.writestr("x/data/0", bytes(60))
    return path


@refused("with 2 pickles data.pkl")
def two_pickles(folder: Path) -> Path:
    return archive(folder / "x.pt", {**members(state()), "y/data.pkl": state()})


@refused("overlaps the one before it")
def overlapping_storages(folder: Path) -> Path:
    path = zipped(folder, state(), _1=ELEMENTS)
    data = bytearray(path.read_bytes())
    at = data.index(b"x/data/0", data.index(b"PK\x01\x02")) - 46
    struct.pack_into("<II", data, at + 20, 150, 150)
    path.write_bytes(data)
    return path


@refused("its bytes do not fit their checksum")
def a_changed_pickle(folder: Path) -> Path:
    path = zipped(folder, state())
    data = path.read_bytes()
    path.write_bytes(data.replace(b"a.weight", b"b.weight"))
    return path


@refused("leads out of the archive")
def a_climbing_member(folder: Path) -> Path:
    return archive(folder / "x.pt", {**members(state()), "x/data/../../y": b"x"})


for _cut in (10, 30, 60, 200):
    REFUSALS[f"legacy cut at {_cut}"] = "truncated pickle"
    MAKERS[f"legacy cut at {_cut}"] = lambda folder, cut=_cut: _cut_at(legacy(folder, state()), cut)


def _cut_at(path: Path, size: int) -> Path:
    path.write_bytes(path.read_bytes()[:size])
    return path


@refused("the file ends within it (15 elements declared)")
def legacy_cut_in_a_storage(folder: Path) -> Path:
    return _cut_at(legacy(folder, state()), -20)


@refused("the file ends in front of it")
def legacy_without_storages(folder: Path) -> Path:
    return legacy(folder, state(), tail=b"")


@refused("the file ends within it (-1 elements declared)")
def legacy_negative_storage(folder: Path) -> Path:
    return legacy(folder, state(), tail=struct.pack("<q", -1) + ELEMENTS)


@refused("the file ends within it (4,611,686,018,427,387,904 elements declared)")
def legacy_huge_storage(folder: Path) -> Path:
    return legacy(folder, state(), tail=struct.pack("<q", 1 << 62) + ELEMENTS)


@refused("a storage of 40 bytes where the pickle says 15 of float32")
def legacy_other_storage(folder: Path) -> Path:
    return legacy(folder, state(), tail=struct.pack("<q", 10) + ELEMENTS)


@refused("that no tensor names, or named twice")
def legacy_key_twice(folder: Path) -> Path:
    return legacy(folder, state(), keys=("0", "0"), tail=(struct.pack("<q", 15) + ELEMENTS) * 2)


@refused("that no tensor names, or named twice")
def legacy_unknown_key(folder: Path) -> Path:
    return legacy(folder, state(), keys=("0", "9"))


@refused("no list of names")
def legacy_keys_of_numbers(folder: Path) -> Path:
    return legacy(folder, state(), keys=(0,))


@refused("a protocol that torch never wrote")
def legacy_other_protocol(folder: Path) -> Path:
    (folder / "x.pt").write_bytes(pickle.dumps(MAGIC, 2) + pickle.dumps(7, 2))
    return folder / "x.pt"


@refused("a view that reaches beyond its storage")
def legacy_view_beyond(folder: Path) -> Path:
    view = sequence(text("storage"), named("torch", "FloatStorage"), text("0"), text("cpu"), integer(15),
                    sequence(text("1"), integer(10), integer(6))) + b"Q"  # fmt: skip
    return legacy(folder, state(b=tensor((2,), (1,), at=view)))


# --- safetensors ----------------------------------------------------------------------------------------------------


def safetensors(
    folder: Path, header: bytes | Mapping[str, Any], data: bytes = ELEMENTS, length: int | None = None
) -> Path:
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    path = folder / "x.safetensors"
    path.write_bytes(struct.pack("<Q", len(head) if length is None else length) + head + data)
    return path


def entry(start: int = 0, end: int = 60, shape: Any = (5, 3), dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape) if isinstance(shape, tuple) else shape, "data_offsets": [start, end]}


def refused_safetensors(name: str, reason: str, *arguments: Any, **named: Any) -> None:
    MAKERS[f"safetensors {name}"] = lambda folder: safetensors(folder, *arguments, **named)
    REFUSALS[f"safetensors {name}"] = reason


refused_safetensors("header of 2**63", "header: 9.22e+06 TB declared", {"a": entry()}, length=1 << 63)
refused_safetensors("header longer than the file", "declared, the file has", {"a": entry()}, length=500)
refused_safetensors("header too short", "not JSON", {"a": entry()}, length=20)
refused_safetensors("header of 40 MB", "header: 40 MB, 33.6 MB at most", b"{" + b" " * 39_999_999)
refused_safetensors(
    "one name twice",
    "it names 'a' twice",
    json.dumps({"a": entry()}).encode()[:-1] + b',"a":{"dtype":"I32","shape":[15],"data_offsets":[0,60]}}',
)
refused_safetensors(
    "a field twice", "it names 'shape' twice", b'{"a":{"dtype":"F32","shape":[15],"shape":[5,3],"data_offsets":[0,60]}}'
)
refused_safetensors("overlap", "b: overlaps the tensor before it", {"a": entry(), "b": entry(20, 60, (10,))})
refused_safetensors("the same bytes twice", "b: overlaps the tensor before it", {"a": entry(), "b": entry()})
refused_safetensors("a hole", "20 bytes before it belong to none", {"a": entry(0, 20, (5,)), "b": entry(40, 60, (5,))})
refused_safetensors("bytes behind", "the tensors end after 60 bytes, the file after 120", {"a": entry()}, ELEMENTS * 2)
refused_safetensors(
    "a tensor behind the end", "the tensors end after 60 bytes, the file after 40", {"a": entry()}, ELEMENTS[:40]
)
refused_safetensors("another size", "shape (5, 4) of F32 takes 80 bytes, it has 60", {"a": entry(shape=(5, 4))})
refused_safetensors(
    "sizes beside a zero that overflow", "is beyond any memory", {"a": entry(0, 0, (1 << 40, 1 << 40, 0))}, b""
)
refused_safetensors("a size that overflows", "takes 0 bytes", {"a": entry(shape=(1 << 62, 1 << 62, 0))})
refused_safetensors("a negative size", "no sizes", {"a": entry(shape=(-5, -3))})
refused_safetensors("a size of 2**70", "no sizes", {"a": entry(shape=(1 << 70, 3))})
refused_safetensors("a size that is no integer", "no sizes", {"a": entry(shape=(5.0, 3))})
refused_safetensors("a size that is true", "no sizes", {"a": entry(shape=(True, 15))})
refused_safetensors("offsets backwards", "no sizes", {"a": entry(60, 0)})
refused_safetensors("another dtype", "the dtype F33", {"a": entry(dtype="F33")})
refused_safetensors("a dtype that is no text", "the dtype ['F32']", {"a": entry(dtype=["F32"])})
refused_safetensors("an entry that is none", "an entry without dtype", {"a": [1, 2]})
refused_safetensors("an entry with more", "or with more", {"a": {**entry(), "code": "x"}})
refused_safetensors("metadata that is no text", "no mapping of text to text", {"__metadata__": {"a": 1}, "a": entry()})
refused_safetensors("deep JSON", "levels deep", b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}")
refused_safetensors("no UTF-8", "not JSON", b'{"\xff\xfe":1}')
refused_safetensors("UTF-16", "not JSON", json.dumps({"a": entry()}).encode("utf-16-le"))
refused_safetensors("half a character", "a text in it holds half a character", {"\ud800": entry()})
refused_safetensors("40 axes", "40 axes, 32 at most", {"a": entry(0, 60, (15, *(1,) * 39))})
refused_safetensors("no tensors", "it holds no tensors", {}, b"")
refused_safetensors("a name of 5,000 characters", "a name of 5,000 characters", {"n" * 5_000: entry()})


@refused("it does not begin with {")
def safetensors_padded_in_front(folder: Path) -> Path:
    return safetensors(folder, b" " + json.dumps({"a": entry()}).encode())


@refused("declared, the file has 9 bytes")
def safetensors_of_nine_bytes(folder: Path) -> Path:
    (folder / "x.safetensors").write_bytes(b"\x02\x00\x00\x00\x00\x00\x00\x00{")
    return folder / "x.safetensors"
