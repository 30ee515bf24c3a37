"""Which of PyTorch's formats a file is in, and the network in it.

Kept apart from Keras' openers so that opening a file of one framework loads no reader of the other.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cnnlens.errors import FileRefusedError
from cnnlens.files.container import Archive, open_archive, open_file, sniff
from cnnlens.network.network import Network

if TYPE_CHECKING:
    from cnnlens.files.torch.state_file import TorchFile

__all__ = ["one_set", "open_torch"]


def open_torch(path: Path, weights: str | None = None) -> Network | None:
    """Open a file of PyTorch as a network; None where the file may be one of Keras.

    Args:
        path: The file.
        weights: Which of several sets of weights is wanted, by the name of the entry that holds it.

    Raises:
        FileRefusedError: The file cannot be opened, or is one of PyTorch's that is damaged or hostile.
    """
    data = open_file(path)
    kind = sniff(path, data)
    if kind == "zip":
        return _open_zip(path, data, weights)
    if kind == "tar":
        from cnnlens.files.torch.archive import refuse_tar

        raise refuse_tar(path)
    if kind == "pickle":
        from cnnlens.files.torch.archive import open_legacy
        from cnnlens.files.torch.state_dict import state_file

        return _of_state(state_file(path, open_legacy(path, data), data, weights))
    if weights is not None:
        raise one_set(path)
    if kind == "safetensors":
        from cnnlens.files.torch.safetensors import open_safetensors
        from cnnlens.files.torch.state_layers import torch_layers

        return torch_layers(open_safetensors(path, data))
    return _open_json(path, data) if kind == "json" else None


def one_set(path: Path) -> FileRefusedError:
    """Refuse to choose among sets of weights in a file that has one."""
    return FileRefusedError(path, "", "it has one set of weights", "leave --weights out")


def _open_zip(path: Path, data: memoryview, weights: str | None) -> Network | None:
    members = open_archive(path, data)
    if "config.json" in members or "model.weights.h5" in members:
        return None
    if _is_export(members):
        if weights is not None:
            raise one_set(path)
        from cnnlens.files.torch.program_archive import open_export

        return open_export(path, data, members)
    from cnnlens.files.torch.archive import is_torch_archive, open_torch_archive

    if not is_torch_archive(members):
        return None
    from cnnlens.files.torch.state_dict import state_file

    contents = open_torch_archive(path, members)
    file = state_file(path, contents, data, weights)
    if contents.format == "torch script" and file.tree is not None:
        from cnnlens.files.torch.script_archive import script_network

        return script_network(file, members, contents)
    return _of_state(file)


def _of_state(file: TorchFile) -> Network:
    """The network of a file of ``torch.save``: a whole module's, or a state dict's."""
    if file.tree is not None:
        from cnnlens.files.torch.module_network import module_network

        return module_network(file)
    from cnnlens.files.torch.state_layers import torch_layers

    return torch_layers(file)


def _is_export(members: Archive) -> bool:
    """Whether ``torch.export.save`` wrote an archive; before 2.7 it wrote its program at the top."""
    marks = ("archive_format", "serialized_exported_program.json")
    return any(name.rpartition("/")[2] in marks and name.count("/") <= 1 for name in members)


def _open_json(path: Path, data: memoryview) -> Network | None:
    """Shards of safetensors; Keras lists its shards in a JSON text too."""
    if b".safetensors" not in bytes(data[: 1 << 20]):
        return None
    from cnnlens.files.jsontext import decode
    from cnnlens.files.torch.safetensors import is_index, open_shards
    from cnnlens.files.torch.state_layers import torch_layers

    return torch_layers(open_shards(path, data)) if is_index(decode(path, "", bytes(data[:]))) else None
