"""Lambda layers whose arithmetic a person has said: the file's code gives way to an expression that is parsed here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from cnnlens.errors import CnnlensError, UnsupportedLayerError
from cnnlens.files.model_file import ModelFile
from cnnlens.reference.expression import parse
from cnnlens.text import printable

__all__ = ["say_lambdas"]

_CODE = ("function", "function_type", "module", "output_shape", "output_shape_type", "output_shape_module",
         "arguments", "expression")  # fmt: skip


def say_lambdas(file: ModelFile, lambdas: Mapping[str, str]) -> None:
    """Put an ``Expression`` in the place of each Lambda in ``file.config`` that ``lambdas`` names, and note it.

    Args:
        file: Opened; its config is replaced and that of others is left alone.
        lambdas: Expressions by the layer's name, or by the path to it joined with ``/``.

    Raises:
        CnnlensError: there is no such Lambda, or the expression is none; one line.
    """
    for name, text in lambdas.items():
        try:
            parse(text)
        except UnsupportedLayerError as error:
            raise CnnlensError(f"Lambda '{printable(name)}': {error.reason}") from None
    known: dict[str, None] = {}
    used: dict[str, str] = {}

    def changed(value: Any, path: str) -> Any:
        if isinstance(value, list):
            return [changed(one, path) for one in cast("list[Any]", value)]
        if not isinstance(value, dict):
            return value
        entry = cast("dict[str, Any]", value)
        config: Any = entry.get("config")
        if not isinstance(entry.get("class_name"), str) or not isinstance(config, dict):
            return {key: changed(one, path) for key, one in entry.items()}
        body = cast("dict[str, Any]", config)
        name = str(body.get("name") or entry.get("name") or "")
        whole = f"{path}/{name}" if path else name
        if entry["class_name"] != "Lambda":
            inside = whole if "layers" in body and value is not file.config else path
            return {**entry, "config": {key: changed(one, inside) for key, one in body.items()}}
        known[whole] = None
        wanted = whole if whole in lambdas else name
        if wanted not in lambdas:
            return entry
        used[wanted] = lambdas[wanted]
        kept = {key: one for key, one in body.items() if key not in _CODE}
        return {**entry, "class_name": "Expression", "registered_name": None,
                "config": {**kept, "expression": lambdas[wanted]}}  # fmt: skip

    config = changed(file.config, "")
    for name in lambdas.keys() - used.keys():
        shown = ", ".join(f"'{printable(one, 60)}'" for one in list(known)[:8])
        there = f"there are {shown}" if known else "there are none"
        raise CnnlensError(f"{printable(file.path, 300)}: no Lambda layer is named '{printable(name)}'; {there}")
    file.config = config
    file.notes = (
        *file.notes,
        *(
            f"layer '{printable(name)}' (Lambda): {printable(text, 200)}, as given by --lambda (lambdas=); whether the "
            "file's own code computes that is not known"
            for name, text in used.items()
        ),
    )
