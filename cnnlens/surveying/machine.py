"""What of a machine changes arithmetic: the processor, and which of its instructions a library may choose."""

from __future__ import annotations

import platform
import re
from pathlib import Path
from typing import Any

__all__ = ["machine"]

# What oneDNN, XLA and Eigen ask for before they choose a kernel, by Linux' names.
_FEATURES = (
    "avx", "avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "avx_vnni", "amx_tile", "amx_bf16",
    "amx_int8", "asimd", "sve", "bf16",
)  # fmt: skip


def machine() -> dict[str, Any]:
    """Describe this machine: ``cpu``, ``features``, ``system``, ``python``."""
    try:
        said = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        said = ""
    name = re.search(r"^model name\s*:\s*(.+)$", said, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", said, re.MULTILINE)
    has = set(flags[1].split()) if flags else set[str]()
    return {
        "cpu": name[1].strip() if name else platform.processor() or platform.machine(),
        "features": [one for one in _FEATURES if one in has],
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }
