"""What a file is that cnnlens does not open, told by its bytes, and what a person does with it then: one table.

Extensions lie, and a person who has been given ``best.onnx`` or an error page under the name of a model is helped by
its right name and by the next step, not by "unknown format". Formats that have a mark are in :data:`MAGICS`, texts in
:data:`TEXTS`, folders in :data:`FOLDERS`, archives in :data:`ARCHIVES`, pickles, by what they name, in
:data:`PICKLES`; protocol buffers have no mark, and are told by which fields they have.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cnnlens.files.limits import LIMITS
from cnnlens.text import printable

__all__ = [
    "MODELS", "OPENS", "Foreign", "foreign_archive", "foreign_bytes", "foreign_folder", "foreign_pickle",
    "foreign_text", "pickled_names",
]  # fmt: skip

OPENS = "cnnlens opens .keras, .h5 and .weights.h5 files of Keras and .pt, .pth, .pt2 and .safetensors files of PyTorch"

MODELS = (".keras", ".h5", ".hdf5", ".pt", ".pth", ".pt2", ".ckpt", ".bin", ".safetensors")
"""What files are called that cnnlens may open, in the listings of archives and folders."""


@dataclass(frozen=True, slots=True)
class Foreign:
    """Names what is not opened.

    Attributes:
        what: With its article: ``an ONNX model``.
        way_out: What the person can do now.
        inside: The model files in it, by their names, where it is an archive that holds some.
    """

    what: str
    way_out: str = OPENS
    inside: tuple[str, ...] = ()


_ORIGINAL = "open the Keras or PyTorch model that it was converted from"
_PICTURE = "give it to a model: cnnlens maps MODEL --image FILE"
_FETCH = "fetch the file again"
_UNPACK = "unpack it and name the model file in it"
_NO_CNN = "it is no neural network that cnnlens could show"

ONNX = Foreign(
    "an ONNX model",
    "open the PyTorch or Keras model that it was exported from, or try onnx2torch.convert on it and save what "
    "torch.export.export makes of that as .pt2",
)
TFLITE = Foreign("a TensorFlow Lite model", _ORIGINAL)
SAVED_MODEL = Foreign(
    "a TensorFlow SavedModel, which is a program and not only weights",
    "if Keras made it and you trust it, load its folder with tf_keras.models.load_model and save it as .h5",
)
GRAPH = Foreign("a frozen TensorFlow graph (GraphDef)", "open the Keras model that it was frozen from")
CORE_ML = Foreign("a Core ML model", _ORIGINAL)
_ELSEWHERE = "no reader of it is here; open the same model from Keras or PyTorch"
CAFFE = Foreign("a Caffe model (.caffemodel)", _ELSEWHERE)
PADDLE = Foreign("a PaddlePaddle model", _ELSEWHERE)
RECORDING = Foreign("a Zarr group", "if record made it, cnnlens verify and cnnlens check MODEL RUN.zarr take it")

MAGICS: tuple[tuple[int, bytes, Foreign], ...] = (
    (4, b"TFL3", TFLITE),
    (0, b"GGUF", Foreign("a GGUF file of llama.cpp's kind", "open the .safetensors file that it was converted from")),
    (0, b"\x12\x01\x00\x00\x00\x00\x00\x00", Foreign("MXNet parameters (.params)", _ORIGINAL)),
    (0, b"CBM1", Foreign("a CatBoost model", _NO_CNN)),
    (0, b"{L\x00\x00\x00\x00\x00\x00\x00\x07learner", Foreign("an XGBoost model (.ubj)", _NO_CNN)),
    (0, b"binf", Foreign("an XGBoost model of its old binary format", _NO_CNN)),
    (0, b"\x89PNG", Foreign("a PNG image", _PICTURE)),
    (0, b"\xff\xd8\xff", Foreign("a JPEG image", _PICTURE)),
    (0, b"GIF8", Foreign("a GIF image", "save it as PNG, and " + _PICTURE)),
    (8, b"WEBP", Foreign("a WebP image", "save it as PNG, and " + _PICTURE)),
    (0, b"II*\x00", Foreign("a TIFF image", "save it as PNG, and " + _PICTURE)),
    (0, b"MM\x00*", Foreign("a TIFF image", "save it as PNG, and " + _PICTURE)),
    (0, b"\x93NUMPY", Foreign("a NumPy array (.npy)", "give it to a model: cnnlens maps MODEL --image FILE.npy")),
    (0, b"%PDF", Foreign("a PDF document")),
    (0, b"CDF", Foreign("a NetCDF3 file")),
    (0, b"MATLAB 5.0", Foreign("a MATLAB file (.mat)", _ELSEWHERE)),
    (0, b"PAR1", Foreign("a Parquet table")),
    (0, b"SQLite format 3", Foreign("an SQLite database")),
    (0, b"7z\xbc\xaf\x27\x1c", Foreign("a 7z archive", _UNPACK)),
    (0, b"Rar!\x1a\x07", Foreign("a RAR archive", _UNPACK)),
    (0, b"\x28\xb5\x2f\xfd", Foreign("a Zstandard archive", _UNPACK)),
    (0, b"x\x9c", Foreign("data compressed by zlib, as joblib writes them", "save the model's own file, uncompressed")),
    (0, b"x\x01", Foreign("data compressed by zlib, as joblib writes them", "save the model's own file, uncompressed")),
    (0, b"x^", Foreign("data compressed by zlib, as joblib writes them", "save the model's own file, uncompressed")),
    (0, b"x\xda", Foreign("data compressed by zlib, as joblib writes them", "save the model's own file, uncompressed")),
    (0, b"\x7fELF", Foreign("a program or a shared library (ELF)", "name the model file beside it")),
    (0, b"PK\x05\x06", Foreign("an empty zip archive", _FETCH + ", or save the model again")),
)
"""Where a mark stands, the mark, and what it says."""

_HTML = Foreign(
    "an HTML page: what was downloaded was a web page, not the file",
    "fetch the file itself (its 'raw' or 'download' link; a log-in may be needed)",
)
TEXTS: tuple[tuple[re.Pattern[bytes], Foreign], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE | re.MULTILINE), foreign)
    for pattern, foreign in (
        (
            rb"\Aversion https://git-lfs",
            Foreign("a Git LFS pointer instead of the file itself", "fetch the file with: git lfs pull"),
        ),
        (rb"\A(\xef\xbb\xbf)?\s*(<!--.*?-->\s*)?<(!doctype\s+html|html|head|body)\b", _HTML),
        (rb"\A\s*<\?xml[^>]*>\s*<net\b", Foreign("an OpenVINO network (.xml; its weights are the .bin)", _ORIGINAL)),
        (rb"\A\s*<\?xml", Foreign("an XML text")),
        (rb"\Atree\r?\nversion=", Foreign("a LightGBM model", _NO_CNN)),
        (
            rb"\Amodel_checkpoint_path:",
            Foreign("TensorFlow's note of which checkpoint is the last", "build the model in Keras, load the "
                    "checkpoint with load_weights and save it as .weights.h5"),
        ),
        (rb"\Ac[a-z_.]+\n\w+\n", Foreign("a Python pickle written as text (protocol 0)", "load it where you trust it, "
                                         "and save the arrays with torch.save or as .safetensors")),
        (rb"\A7767517\s", Foreign("an ncnn network (.param)", _ORIGINAL)),
        (rb"^\s*\[(net|network)\][\s\S]*^\s*\[convolutional\]", Foreign("a Darknet config", "it holds no weights")),
        (rb"^layers?\s*\{[\s\S]*type\s*:", Foreign("a Caffe network without its weights (.prototxt)", CAFFE.way_out)),
        # --- JSON
        (rb'\A\s*\{\s*"learner"', Foreign("an XGBoost model (.json)", _NO_CNN)),
        (
            rb'"format"\s*:\s*"(layers|graph)-model"|"modelTopology"',
            Foreign("a TensorFlow.js model", _ORIGINAL),
        ),
        (
            rb'"weight_map"[\s\S]*\.bin"',
            Foreign("a list of pickled shards (pytorch_model.bin.index.json)", "open one of its .bin files, or save "
                    "the model with safe_serialization=True"),
        ),
        (
            rb'\A\s*\{[\s\S]*"class_name"[\s\S]*"config"|\A\s*\{\s*"config"[\s\S]*"class_name"',
            Foreign("a Keras model's config without weights", "give it beside them: --config FILE"),
        ),
        (
            rb'"(model_type|architectures|_class_name|diffusers_version)"\s*:',
            Foreign("a config of Hugging Face without weights", "open the .safetensors file beside it"),
        ),
    )
)  # fmt: skip
"""Texts by a pattern in their first four kilobytes."""

FOLDERS: tuple[tuple[tuple[str, ...], Foreign], ...] = (
    (("saved_model.pb",), SAVED_MODEL),
    (("saved_model.pbtxt",), SAVED_MODEL),
    (("Manifest.json", "Data"), Foreign("a Core ML package (.mlpackage)", CORE_ML.way_out)),
    (("coremldata.bin",), Foreign("a compiled Core ML model (.mlmodelc)", CORE_ML.way_out)),
    (("zarr.json",), RECORDING),
    ((".zgroup",), RECORDING),
    ((".zarray",), Foreign("a Zarr array", RECORDING.way_out)),
    (("_CHECKPOINT_METADATA",), Foreign("an Orbax checkpoint of JAX", _ELSEWHERE)),
    (("data.pkl", "version"), Foreign("an unpacked archive of torch.save", "name the .pt file, or zip it again")),
    (("checkpoint",), Foreign("a folder of TensorFlow checkpoints", "build the model in Keras, load the checkpoint "
                              "with load_weights and save it as .weights.h5")),
)  # fmt: skip
"""Names that a folder has, and what it is then."""

ARCHIVES: tuple[tuple[str, Foreign], ...] = (
    ("model.weights.npz", Foreign("a .keras archive with weights as .npz, which Keras wrote for a short time",
                                  "save the model again with Keras")),
    ("saved_model.pb", Foreign("a packed TensorFlow SavedModel", SAVED_MODEL.way_out)),
    ("data.pkl", Foreign("a PyTorch file", "cnnlens.open reads it")),
    ("[Content_Types].xml", Foreign("an Office document")),
    ("META-INF/MANIFEST.MF", Foreign("a Java archive")),
    ("Manifest.json", Foreign("a packed Core ML model", CORE_ML.way_out)),
    (".zgroup", Foreign("a packed Zarr group", RECORDING.way_out)),
)  # fmt: skip
"""A member by which another program's archive is known, at its top or in a folder."""

PICKLES: tuple[tuple[str, Foreign], ...] = (
    ("sklearn", Foreign("a pickle of scikit-learn", _NO_CNN)),
    ("xgboost", Foreign("a pickle of XGBoost", _NO_CNN)),
    ("lightgbm", Foreign("a pickle of LightGBM", _NO_CNN)),
    ("catboost", Foreign("a pickle of CatBoost", _NO_CNN)),
    ("pandas", Foreign("a pickle of pandas", _NO_CNN)),
    ("joblib", Foreign("a pickle of joblib", _NO_CNN)),
    ("paddle", Foreign("a pickle of PaddlePaddle", PADDLE.way_out)),
    ("keras", Foreign("a pickled Keras model", "load it where you trust it, and save it with model.save as .keras")),
    ("tensorflow", Foreign("a pickle of TensorFlow", "load it where you trust it, and save the model as .keras")),
    ("fastai", Foreign("a pickled fastai learner", "load it where you trust it, and torch.save its "
                       "learn.model.state_dict()")),
    ("jax", Foreign("a pickle of JAX", "no reader of it is here; save the arrays as .safetensors")),
)  # fmt: skip
"""Packages that a pickle names, and what it is then; nothing in it is executed."""


def foreign_bytes(data: memoryview) -> Foreign | None:
    """Tell what a file is by its bytes, where that is none that cnnlens opens; None where it cannot be told.

    >>> foreign_bytes(memoryview(b"\\x1c\\0\\0\\0TFL3" + bytes(40))).what
    'a TensorFlow Lite model'
    """
    head = bytes(data[:4096])
    for at, magic, foreign in MAGICS:
        if head.startswith(magic, at):
            return foreign
    text = foreign_text(head)
    if text is not None:
        return text
    if b"\x00" not in head[:64] and all(byte >= 0x20 or byte in b"\t\r\n\f" for byte in head[:64]):
        return Foreign("a text file")
    if head[2:4] == b"\r\n" and head[1] in (0x0C, 0x0D, 0x0E) and head[4:8] in (bytes(4), b"\1\0\0\0", b"\3\0\0\0"):
        return Foreign("Python bytecode")
    if not any(head):
        return Foreign("a file that begins with nothing but zeros: a download that was never filled", _FETCH)
    if bytes(data[-8:]) == b"\x57\xfb\x80\x8b\x24\x75\x47\xdb":
        return Foreign("the index of a TensorFlow checkpoint", "build the model in Keras, load the checkpoint with "
                       "load_weights and save it as .weights.h5")  # fmt: skip
    version = [int.from_bytes(head[at : at + 4], "little") for at in (0, 4, 8)]
    if version[0] == 0 and version[1] in (1, 2) and version[2] < 10 and len(data) > 20:
        return Foreign("a file that begins as Darknet's weights (YOLO) do", _ORIGINAL)
    if head[:16] == bytes(16) and 0 < int.from_bytes(head[16:20], "little") < 64 and head[20:21] == b"\x08":
        return Foreign("parameters of PaddlePaddle (.pdiparams)", PADDLE.way_out)
    if _is_messagepack(head):
        return Foreign("MessagePack data, as Flax writes them", "save the arrays as .safetensors")
    return _protocol_buffer(data)


def foreign_text(head: bytes) -> Foreign | None:
    """Tell what a text is by its first bytes; None where they say nothing."""
    return next((foreign for pattern, foreign in TEXTS if pattern.search(head[:4096])), None)


def foreign_folder(names: Collection[str]) -> Foreign | None:
    """Tell what a folder is by what lies in it."""
    return next((foreign for marks, foreign in FOLDERS if all(mark in names for mark in marks)), None)


def foreign_archive(path: Path, kind: str, names: Collection[str]) -> Foreign:
    """Tell what an archive of a ``kind`` ("a zip archive") is by its members; one that holds models names them."""
    models = [name for name in names if name.lower().endswith(MODELS)]
    inside = _listed(models or names)
    if {"policy.pth", "data", "pytorch_variables.pth"} <= set(names):
        kind = "an archive of stable-baselines3"
    elif not models:
        for mark, foreign in ARCHIVES:
            if any(name == mark or name.endswith("/" + mark) for name in names):
                return foreign
        if names and all(name.endswith(".npy") for name in names):
            return Foreign(
                "an archive of NumPy arrays (.npz)", "give it to a model: cnnlens maps MODEL --image FILE.npz"
            )
        if any(name.endswith(".onnx") for name in names):
            return Foreign(f"{kind} with {ONNX.what} in it ({inside})", ONNX.way_out)
        if any(name.endswith(".tflite") for name in names):
            return Foreign(f"{kind} with {TFLITE.what} in it ({inside})", TFLITE.way_out)
        return Foreign(f"{kind} that neither Keras nor PyTorch wrote (it holds {inside or 'nothing'})")
    way_out = f"name one: '{printable(path.name, 100)}::{printable(models[0], 100)}'"
    return Foreign(f"{kind} that holds {inside}", way_out, tuple(models))


def _listed(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - 4:,} more" if len(listed) > 4 else ""
    return ", ".join(printable(name, 60) for name in listed[:4]) + more


def foreign_pickle(data: memoryview) -> Foreign | None:
    """Tell whose pickle this is by the packages that it names; None where they may be PyTorch's."""
    if b"StructuredToParameterName@@" in bytes(data[-4096:]):
        return Foreign("parameters of PaddlePaddle (.pdparams)", PADDLE.way_out)
    packages = {name.partition(".")[0] for name in pickled_names(data)[0]}
    if "torch" in packages and "fastai" not in packages:
        return None
    return next((foreign for package, foreign in PICKLES if package in packages), None)


# --- pickles --------------------------------------------------------------------------------------------------------

# What follows each instruction (CPython's Lib/pickletools.py): so many bytes; a length of so many bytes, and what it
# counts; so many lines. Those in none of these have nothing behind them.
_FIXED = {0x80: 1, 0x95: 8, 0x82: 1, 0x83: 2, 0x84: 4, **dict(zip(b"KMJGhjqr", (1, 2, 4, 8, 1, 4, 1, 4), strict=True))}
_TEXTS = {0x8C: 1, 0x8D: 8, ord("X"): 4, ord("T"): 4, ord("U"): 1}
_COUNTED = {**_TEXTS, 0x8A: 1, 0x8B: 4, 0x8E: 8, 0x96: 8, ord("B"): 4, ord("C"): 1}
_LINES = {**dict.fromkeys(b"ILFVSgpP", 1), **dict.fromkeys(b"ci", 2)}
# Those that put something on the stack and take nothing from it; and those that leave it as it is.
_PUSHES = frozenset((*b"NKMJGILF)]}(BC", 0x88, 0x89, 0x8A, 0x8B, 0x8E, 0x96))
_NEUTRAL = frozenset((0x80, 0x95))
_KNOWN = {*_FIXED, *_COUNTED, *_LINES, *b"N)]}(tlaedsu012.RbQo", *range(0x81, 0x95), 0x97, 0x98}


def _effect(step: int) -> str:
    """What an instruction is to whoever looks for names."""
    sorts = {"memo": b"qrp\x94", "recall": b"hjg", "name": b"ci", "join": b"\x93", "end": b".", "line": b"VS",
             "text": _TEXTS, "push": _PUSHES, "nothing": _NEUTRAL}  # fmt: skip
    return next((sort for sort, steps in sorts.items() if step in steps), "take")


_STEPS = {
    step: (_FIXED.get(step, 0), _COUNTED.get(step, 0), _LINES.get(step, 0), _effect(step)) for step in sorted(_KNOWN)
}
UNTOLD = "a name that the pickle makes up as it runs"


def pickled_names(data: memoryview, start: int = 0) -> tuple[tuple[str, ...], int | None]:
    """List every class and function that a pickle names, in order, without looking one up or calling it.

    Args:
        data: Bytes that hold the pickle from ``start`` on.

    Returns:
        The names with their modules, and the position behind the pickle; None for that where it is damaged, or longer
        than ``LIMITS`` allows, and only its beginning was looked at. A name that is not written down beside the
        instruction that uses it is :data:`UNTOLD`.

    >>> pickled_names(memoryview(b"\\x80\\x04\\x8c\\x02os\\x8c\\x06system\\x93."))
    (('os.system',), 16)
    """
    names: dict[str, None] = {}
    memo: dict[int, str | None] = {}
    recent: deque[str | None] = deque((None, None), maxlen=2)  # what lies on top of the stack, where that is text
    at, end = start, min(len(data), start + LIMITS.pickle_bytes)
    for _ in range(LIMITS.pickle_operations):
        known = _STEPS.get(data[at]) if at < end else None
        if known is None:
            break
        fixed, counted, lines, effect = known
        step, begin = data[at], at + 1
        at = begin + fixed
        if counted:
            begin += counted
            at = begin + int.from_bytes(data[begin - counted : begin], "little")
        for _ in range(lines):
            length = bytes(data[at : at + 200]).find(b"\n")
            length = bytes(data[at : at + 100_000]).find(b"\n") if length < 0 else length
            at = at + length + 1 if length >= 0 else end + 1
        if at > end:
            break
        if effect == "take":
            recent.extend((None, None))
        elif effect == "push":
            recent.append(None)
        elif effect in ("text", "line"):
            text = bytes(data[begin : min(at, begin + 4096)])  # no name is longer
            recent.append((text[:-1].strip(b"'\"") if effect == "line" else text).decode("utf-8", "replace"))
        elif effect == "name":
            names[bytes(data[begin : at - 1]).decode("utf-8", "replace").replace("\n", ".", 1)] = None
            recent.extend((None, None))
        elif effect == "join":
            module, name = recent
            names[UNTOLD if module is None or name is None else f"{module}.{name}"] = None
            recent.extend((None, None))
        elif effect == "end":
            return tuple(names), at
        elif effect != "nothing":
            if step in b"gp":
                digits = bytes(data[begin : min(at - 1, begin + 20)])
                number = int(digits) if digits.isdigit() else -1
            else:
                number = int.from_bytes(data[begin:at], "little") if fixed else len(memo)
            if effect == "memo":
                memo[number] = recent[-1]
            else:
                recent.append(memo.get(number))
    return tuple(names), None


# --- formats without a mark -----------------------------------------------------------------------------------------


def _is_messagepack(head: bytes) -> bool:
    """Whether it begins with a mapping whose first key is plain text."""
    at = 1 if 0x81 <= head[0] <= 0x8F else 3 if head[0] == 0xDE else 5 if head[0] == 0xDF else 0
    if not at or len(head) < at + 2:
        return False
    length, begin = (head[at] - 0xA0, at + 1) if 0xA1 <= head[at] <= 0xBF else (head[at + 1], at + 2)
    if not 0xA1 <= head[at] <= 0xBF and head[at] != 0xD9:
        return False
    key = head[begin : begin + length]
    return len(key) == length > 0 and key.isascii() and key.decode().isprintable()


_ONNX_FIELDS = frozenset((1, 2, 3, 4, 5, 6, 7, 8, 14, 20, 25, 26))
_Fields = dict[int, list["memoryview | int"]]


def _protocol_buffer(data: memoryview) -> Foreign | None:
    """Tell which model a protocol buffer is by the fields at its top; each has others (the formats' .proto files)."""
    fields = _fields(data)
    numbers = set(fields)
    first = fields.get(1, [b""])[0]
    inner = [_inside(fields, number) for number in (1, 2)]
    if isinstance(first, int):
        if first < 100 and 7 in numbers and numbers <= _ONNX_FIELDS and isinstance(fields[7][0], memoryview):
            return ONNX
        if numbers & set(range(200, 4000)) and 2 in numbers:
            return CORE_ML
        if numbers == {1, 2} and inner[1] and set(inner[1]) <= set(range(1, 8)):
            return SAVED_MODEL
    elif first:
        if _is_word(first) and (100 in numbers or (2 in numbers and {4, 5} & set(inner[1]))):
            return CAFFE
        node = inner[0]
        if numbers <= {1, 2, 3, 4, 5} and _is_word(*node.get(1, [])) and _is_word(*node.get(2, [])[:1]):
            return GRAPH
        if {1, 2, 3} <= set(node) and isinstance(node[1][0], int) and isinstance(node[2][0], int):
            return Foreign("a PaddlePaddle program (.pdmodel)", PADDLE.way_out)
    return None


def _inside(fields: _Fields, number: int) -> _Fields:
    value = fields.get(number, [0])[0]
    return {} if isinstance(value, int) else _fields(value)


def _is_word(*values: memoryview | int | bytes) -> bool:
    """Whether there is one value, a short plain text."""
    if len(values) != 1 or isinstance(values[0], int):
        return False
    text = bytes(values[0][:201])
    return 0 < len(text) <= 200 and text.isascii() and text.decode().isprintable()


def _fields(data: memoryview) -> _Fields:
    """The first fields of a protocol buffer by number; empty where it is none. Groups are in no model's format."""
    found: _Fields = {}
    try:
        for number, value in _walk(data):
            found.setdefault(number, []).append(value)
    except (ValueError, IndexError):
        return {}
    return found


def _walk(data: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    at = 0
    for _ in range(64):
        if at >= len(data):
            return
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if not number or wire not in (0, 1, 2, 5):
            raise ValueError
        if wire == 0:
            value, at = _varint(data, at)
            yield number, value
            continue
        length, at = _varint(data, at) if wire == 2 else ({1: 8, 5: 4}[wire], at)
        yield number, data[at : at + length]
        at += length


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError
