"""The parts of ``python -m benchmarks``: a row a part, with what it asks and who answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from benchmarks.harness import Options, Report

__all__ = ["DEFAULT", "PARTS", "Part"]

DEFAULT = ("speed", "applications")


@dataclass(frozen=True)
class Part:
    """What a part asks; ``runner`` and ``named``, as ``module.attribute``, are who answers, and what may be named."""

    asks: str
    runner: str
    named: str | None = None
    devices: tuple[str, ...] = ("cpu",)

    @property
    def run(self) -> Callable[[Options, Report], None]:
        """Find who answers; its module is imported now."""
        return _attribute(self.runner)

    @property
    def names(self) -> tuple[str, ...]:
        """List what it may be told to look at alone."""
        if self.named is None:
            return ()
        found: Iterable[str] | Callable[[], Iterable[str]] = _attribute(self.named)
        return tuple(found() if callable(found) else found)


def _attribute(path: str) -> Any:
    module, _, name = path.partition(".")
    return getattr(import_module(f"benchmarks.{module}"), name)


_BOTH = ("cpu", "gpu")

PARTS: Mapping[str, Part] = {
    "speed": Part("whole commands and the reference against the usual way with Keras", "speed.run"),
    "applications": Part("the reference against Keras on keras.applications", "applications.run", "applications.NAMES"),
    "extraction": Part(
        "feature maps by each backend against the best loop by hand", "extraction.run", "harness.BACKENDS"
    ),
    "recording": Part(
        "a data set's maps on disk, against the best loop by hand and a bare write", "recording.run", "recording.CASES"
    ),
    "first-call": Part(
        "a cold call against importing, loading and compiling alone", "first_call.run", "harness.BACKENDS"
    ),
    "stats": Part("statistics against plain extraction, and equal to NumPy", "stats_cost.run", "harness.BACKENDS"),
    "bench": Part("the rates that bench says against a loop timed by hand", "bench_cost.run", "harness.BACKENDS"),
    "audit": Part("check against its slowest backend and the audit", "check_cost.run", "check_cost.CASES"),
    "memory": Part("peak memory of each command", "memory.run", "memory.COMMANDS"),
    "growth": Part("how costs grow with images, layers and width", "growth.run", "growth.GROWTHS"),
    "ray": Part("record and stats on a local cluster against one machine", "ray_cost.run", "ray_cost.COMMANDS"),
    "pages": Part("a report's page: made in how long, how large, how smooth to scroll", "pages.run", "pages.PAGES"),
    "checks": Part("keras.applications audited under every backend", "checks.applications", "applications.NAMES"),
    "networks": Part("random networks audited: any alarm is false", "checks.networks"),
    "side-by-side": Part("three backends together against the slowest alone", "checks.side_by_side"),
    "pytorch": Part("native modules against forward hooks and TorchLens", "pytorch.run", "pytorch.CASES", _BOTH),
    "gpu": Part("all that needs a GPU, in one script under five minutes", "gpu.run", "gpu.STEPS", _BOTH),
    "conversion": Part(
        "keras.applications converted to PyTorch, run where there is no Keras", "conversion.run", "applications.NAMES"
    ),
    "roundtrip": Part("random networks to PyTorch and back, bit for bit", "roundtrip.run"),
    "diff": Part("two models of 100 MB against reading both", "diff.run"),
    "families": Part(
        "torchvision's and timm's models checked, converted and held against torch", "families.run", "families.NAMES"
    ),
    "truth": Part("planted faults: whether each is seen, and what is said of it true", "truth.run", "truth.SECTIONS"),
    "mutations": Part(
        "changes of the code that proofs rest on: how many a test sees", "mutations.run", "mutations.ROOMS"
    ),
    "fuzz": Part("damaged files of every format: each opens or is refused in one line", "fuzz.run", "fuzz.formats"),
    "honest": Part("files as people have them: none is refused", "honest.run"),
    "old-versions": Part(
        "measures nothing: old Keras and PyTorch write tests/data/old anew", "old_versions.run", "old_versions.VERSIONS"
    ),
    "older-atlas": Part(
        "measures no time: the atlas of older releases, and docs/atlas-older.md",
        "older_atlas.run",
        "older_atlas.RELEASES",
    ),
}
