"""What a model file may ask of the reader, as one table.

A file says how large it is before it proves it. Every number here stands between a claim in a file and the memory,
time or recursion that believing it would cost; honest files made by Keras stay one or two orders below each of them.
What is many in a small file is little in a large one, so what costs time or memory is budgeted in sum, by the bytes
that are really stored: to open and summarise a file takes at most 2 s and 10 times the reading of its bytes, and
256 MiB and 4 times those bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cnnlens.errors import FileRefusedError

__all__ = [
    "LIMITS", "Limits", "calls_at_most", "check_items", "human_bytes", "items_at_most", "remarks", "unpacked_at_most",
]  # fmt: skip

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """Holds the limits, each with the reason for its size. ``LIMITS`` is the instance in force."""

    items: int = 8_000
    """Layers, calls of layers, arrays, objects of an index: of each as many in one file, and one more for each
    ``bytes_an_item`` stored. One takes 0.1 ms. NASNetLarge has 1,000 layers, DenseNet201's state 1,000 arrays."""
    bytes_an_item: int = 20_000
    items_a_call: int = 3
    """One of so many items may be a call that is followed from modules or code, which takes 0.5 ms. DenseNet201 has
    700."""
    json_bytes: int = 32 * MIB
    """One JSON text. NASNetLarge, the largest of keras.applications, has 1 MB; parsed, it takes 10 times that."""
    json_inflated_bytes: int = 16 * MIB
    """One JSON text that is deflated in an archive."""
    json_values: int = 1_000_000
    """Values in one JSON text, an empty object takes 70 bytes: NASNetLarge has 60,000."""
    path_characters: int = 16 * MIB
    """The names of all calls, each with those of the models that it is in: 100,000 in honest files."""
    json_depth: int = 200
    """Nesting of one JSON text. Each nested model adds four levels."""
    zip_members: int = 50_000
    """Members of one archive: Keras has three and the vocabularies under assets/, PyTorch one a tensor: ResNet152 with
    the state of its optimizer has 2,000."""
    inflated_bytes: int = 1024 * MIB
    """One deflated member, unpacked in memory. Keras stores its members as they are."""
    inflate_free_bytes: int = 64 * MIB
    """Up to here all deflated members or datasets may shrink as well as they like, and all tensors show what they share
    or repeat: zeros pack 1000 to 1, an expanded tensor repeats its bytes by a stride of zero."""
    inflate_ratio: int = 4
    """Above ``inflate_free_bytes``: unpacked or shown, against stored. Trained float32 weights reach 1.1, pruned and
    tied ones 2."""
    crc_at_open_bytes: int = 64 * MIB
    """Weights whose checksum is compared when the file is opened (crc32 runs at 1 GB/s and more)."""
    crc_at_read_bytes: int = 1024 * MIB
    """Weights whose checksum is compared before the first array is read; above, only ``ModelFile.verify()`` does."""
    hdf5_depth: int = 64
    """Groups in groups."""
    hdf5_names_an_object: int = 8
    """Names (hard links) of one object. Keras gives each object one."""
    hdf5_name_characters: int = 8_192
    """One name of a group or dataset."""
    hdf5_all_characters: int = 16 * MIB
    """All names of groups and datasets and the paths before them."""
    hdf5_messages: int = 65_536
    """Header messages in the whole index, and ``hdf5_messages_an_object`` more for each object: honest ones have 8."""
    hdf5_messages_an_object: int = 32
    hdf5_index_seconds: float = 60
    """Time to read one index. ResNet50's takes 0.05 s."""
    hdf5_index_bytes: int = 256 * MIB
    """Bytes read while the index is built, at most 16 MiB more than the file has: honest ones take 1 kB an object."""
    hdf5_index_reads: int = 2_000_000
    """Reads while the index is built, at most 200,000 and one for each 64 bytes of the file: honest indices take 20 an
    object. It ends every loop that a crafted index could send the parser into."""
    hdf5_header_bytes: int = 1 * MIB
    """Bytes of one object's header, which the parser joins piece by piece: some hundred in honest files."""
    hdf5_header_reads: int = 1_000
    """Pieces of one object's header."""
    hdf5_dimensions: int = 32
    """Axes of one dataset, HDF5's own limit."""
    hdf5_chunks_an_item: int = 10
    """Chunks of all datasets, for each of the ``items`` that a file may have. One takes 0.01 ms."""
    legacy_comparisons: int = 2_000_000
    """Names compared with inner layers in one group of a legacy file: a nested ResNet152 needs 1,000."""
    pickle_bytes: int = 64 * MIB
    """One pickle: its containers and names, not its tensors. A state dict takes 100 bytes a tensor."""
    pickle_operations: int = 1_000_000
    """Steps of one pickle, and the items that its calls copy. A tensor takes 40; a step leaves 200 bytes at most."""
    pickle_integer_bytes: int = 1024
    """One integer of a pickle. Shapes, strides and sizes have eight bytes; random generators keep larger ones."""
    pickle_copied_bytes: int = 64 * MIB
    """Bytes that a pickle's calls make out of others: small arrays are stored as text and turned back once each."""
    script_bytes: int = 16 * MIB
    """The code of a TorchScript archive: 50 scripted bottlenecks have 16 kB. Beyond, the graph is not read."""
    script_tokens: int = 400_000
    """Words of that code which are read, for only what the model calls is: 50 scripted bottlenecks take 7,400."""
    tensor_dimensions: int = 32
    """Axes of one tensor, what every NumPy can show."""
    tensor_name_characters: int = 1_000
    """One tensor's name, the path of the module that it is in: 150 in the deepest of torchvision's."""
    tensor_name_parts: int = 100
    """Modules in modules."""
    mapping_depth: int = 8
    """Mappings in mappings that are searched for the one that holds the tensors; checkpoints have two or three."""
    remarks: int = 200
    """Remarks kept for the person."""
    shards: int = 1_000
    """Files of one sharded set of weights."""


LIMITS = Limits()


def items_at_most(stored: int) -> int:
    """Say how many layers, calls, arrays or objects a file of so many bytes may have, of each."""
    return LIMITS.items + stored // LIMITS.bytes_an_item


def calls_at_most(stored: int) -> int:
    """Say how many calls are followed from the modules or the code in a file of so many bytes."""
    return items_at_most(stored) // LIMITS.items_a_call


def check_items(path: Path, count: int, what: str, stored: int) -> None:
    """Refuse a file with more items than ``items_at_most`` of the bytes that are stored.

    Raises:
        FileRefusedError: there are more.
    """
    if count > (most := items_at_most(stored)):
        raise FileRefusedError(path, "", f"{count:,} {what}, {most:,} at most in a file of its size", "save it again")


def unpacked_at_most(stored: int) -> int:
    """Say how many bytes the arrays of a file of so many bytes may take, unpacked and repeated, all together."""
    return LIMITS.inflate_free_bytes + LIMITS.inflate_ratio * stored


def remarks(notes: Iterable[str]) -> tuple[str, ...]:
    """Keep the first ``LIMITS.remarks`` of ``notes``, and say how many more there are."""
    kept = list(notes)
    more = len(kept) - LIMITS.remarks
    return (*kept[: LIMITS.remarks], f"and {more} more remarks") if more > 0 else tuple(kept)


def human_bytes(count: int) -> str:
    """Write ``count`` bytes for a person: "21 kB", "3.98 GB" (decimal units)."""
    value = float(count)
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            return f"{count} bytes" if unit == "bytes" else f"{value:.3g} {unit}"
        value /= 1000
    return f"{count} bytes"
