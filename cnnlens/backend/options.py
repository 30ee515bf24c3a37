"""How a model is run, whatever it is run for: one value that goes from the public functions down to the runners."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["RunOptions"]


@dataclass(frozen=True)
class RunOptions:
    """Holds what ``record``, ``check`` and what is built on them take to run a model; ``record`` says what each is."""

    device: str = "cpu"
    precision: str = "native"
    batch: int | None = None
    timeout: float | None = None
    trust_code: bool = False
    scale: str = "auto"
    limit: int | None = None
    allow_nonfinite: bool = False
    skip_bad: bool = False
    engine: str | None = None
    workers: int | None = None
