"""A process of its own that builds a PyTorch module from somebody's code and exports it.

``python -m cnnlens_backends.pytorch_export FOLDER`` reads ``FOLDER/request.json``, calls the factory that it names,
puts the arrays of ``FOLDER/state.safetensors`` into the module, and writes ``FOLDER/model.pt2``. Whatever that code
prints goes to this process's own output; what went wrong stands in ``FOLDER/error.json``, one line.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

from cnnlens.errors import CnnlensError
from cnnlens.text import nearest, printable

__all__ = ["main"]


def main(folder: Path) -> int:
    """Do what the request in ``folder`` says; the exit code is 0, or 2 where ``error.json`` says why not."""
    request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    try:
        _export(request, folder)
    except CnnlensError as error:
        (folder / "error.json").write_text(json.dumps({"message": str(error)}), encoding="utf-8")
        return 2
    return 0


def _export(request: dict[str, Any], folder: Path) -> None:
    try:
        import torch
    except ImportError as error:
        raise CnnlensError(
            f"cannot import torch ({printable(error, 200)}); install it with: python -m pip install torch"
        ) from None
    from cnnlens_backends._pytorch_live import export, plain

    sys.path[:0] = [request["directory"]]
    module = _module(request)
    state = folder / "state.safetensors"
    if state.exists():
        _load(module, state, request["arch"])
    shapes = request["shapes"]
    example = None
    if shapes is not None:
        made = [_example(torch, one["shape"], one["dtype"]) for one in shapes]
        example = tuple(made)
    elif getattr(module, "example_input_array", None) is None:
        raise CnnlensError(
            f"{printable(request['arch'], 200)}: the shape of its input is needed, without the batch: "
            "--input-shape 3,224,224 (several inputs: 3,32,32;10)"
        )
    torch.export.save(plain(export(module, example)), folder / "model.pt2")


def _example(torch: Any, shape: list[int], dtype: str) -> Any:
    kind = getattr(torch, dtype)
    if kind.is_floating_point:
        return torch.rand(2, *shape, generator=torch.Generator().manual_seed(0)).to(kind)
    return torch.zeros(2, *shape, dtype=kind)


# -- the module ------------------------------------------------------------------------------------------------------


def _module(request: dict[str, Any]) -> Any:
    """The module that the factory gives."""
    import torch

    shown = printable(request["arch"], 200)
    found = _attribute(_imported(request["module"], shown), request["factory"], shown)
    if not isinstance(found, torch.nn.Module):
        if not callable(found):
            raise CnnlensError(f"{shown}: a class or a function was expected, a {type(found).__name__} came")
        try:
            found = found(**request["arguments"])
        except Exception as error:
            raise CnnlensError(f"{shown}: calling it failed ({_said(error)})") from error
    if not isinstance(found, torch.nn.Module):
        raise CnnlensError(f"{shown}: a torch.nn.Module was expected, it gave a {type(found).__name__}")
    return found


def _imported(module: str, shown: str) -> Any:
    try:
        if not module.endswith(".py"):
            return importlib.import_module(module)
        path = Path(module).absolute()
        if not path.is_file():
            raise CnnlensError(f"{shown}: there is no file {printable(path, 200)}")
        sys.path.insert(0, str(path.parent))
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        made = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = made
        spec.loader.exec_module(made)
    except CnnlensError:
        raise
    except Exception as error:
        raise CnnlensError(f"{shown}: {printable(module, 200)} cannot be imported ({_said(error)})") from error
    return made


def _attribute(found: Any, dotted: str, shown: str) -> Any:
    for name in dotted.split("."):
        if not hasattr(found, name):
            names = [one for one in dir(found) if not one.startswith("_")]
            raise CnnlensError(f"{shown}: there is no '{printable(name)}' in it; {nearest(name, names)}")
        found = getattr(found, name)
    return found


def _load(module: Any, state: Path, arch: str) -> None:
    """Put the arrays into the module, every one of them and no other."""
    from safetensors.torch import load_file  # pyright: ignore[reportUnknownVariableType]

    arrays = load_file(state)
    own = module.state_dict()
    missing = [name for name in own if name not in arrays]
    spare = [name for name in arrays if name not in own]
    shown = printable(arch, 200)
    if missing or spare:
        said = [f"it has no {_listed(missing)}"] * bool(missing) + [f"the module has no {_listed(spare)}"] * bool(spare)
        raise CnnlensError(f"{shown}: the state dict is of another module: {', and '.join(said)}")
    for name, tensor in own.items():
        if tuple(tensor.shape) != tuple(arrays[name].shape):
            raise CnnlensError(
                f"{shown}: the state dict is of another module: '{printable(name, 80)}' is "
                f"{tuple(arrays[name].shape)} in it and {tuple(tensor.shape)} in the module"
            )
    module.load_state_dict(arrays, strict=True)


def _listed(names: list[str]) -> str:
    few = ", ".join(f"'{printable(name, 80)}'" for name in names[:3])
    return few + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _said(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return printable(f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__, 200)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
