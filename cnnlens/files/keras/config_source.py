"""A model's config from wherever a person has it, for files that hold weights alone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from cnnlens.errors import FileRefusedError

__all__ = ["read_config"]


def read_config(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the config ``{"class_name", "config"}`` in a JSON file (``model.to_json()``) or another model file.

    Raises:
        FileRefusedError: The file cannot be read, or holds no config.
    """
    from cnnlens.files.container import open_file, sniff
    from cnnlens.files.jsontext import decode
    from cnnlens.files.opener import read

    where = Path(path)
    if where.is_dir():
        config = read(where).config
    else:
        data = open_file(where)
        config = decode(where, "", bytes(data)) if sniff(where, data) == "json" else read(where).config
    if config is None or not isinstance(config.get("class_name"), str) or "config" not in config:
        raise FileRefusedError(
            where,
            "",
            "it holds no model config (class_name and config)",
            "give what model.to_json() wrote, or a .keras file",
        )
    return config
