"""See what a convolutional network learned, in any framework, and prove that the frameworks agree.

``cnnlens.open(path)`` reads a model file into a framework-free ``Network``; ``cnnlens.plot`` draws it. Names are
imported when they are first used, so that ``import cnnlens`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnnlens import layout, plot
    from cnnlens.benching.bencher import bench
    from cnnlens.benching.result import Bench
    from cnnlens.checking.checker import check
    from cnnlens.checking.result import Check
    from cnnlens.conversion import Conversion, convert
    from cnnlens.differing.differ import diff
    from cnnlens.differing.result import Diff
    from cnnlens.errors import CnnlensError, FileRefusedError, UnsupportedLayerError
    from cnnlens.inputs import images
    from cnnlens.network.graph import Call, Layer
    from cnnlens.network.kernel import Kernel, Statistics
    from cnnlens.network.network import Network
    from cnnlens.opening.opener import open as open
    from cnnlens.recording.recorder import record
    from cnnlens.recording.recording import Recording
    from cnnlens.reporting.lesson import Lesson, lesson
    from cnnlens.reporting.reporter import report
    from cnnlens.reporting.result import Report
    from cnnlens.statistics.collector import stats
    from cnnlens.statistics.result import Stats
    from cnnlens.surveying.result import Atlas
    from cnnlens.surveying.surveyor import atlas

__all__ = [
    "Atlas", "Bench", "Call", "Check", "CnnlensError", "Conversion", "Diff", "FileRefusedError", "Kernel", "Layer",
    "Lesson", "Network", "Recording", "Report", "Statistics", "Stats", "UnsupportedLayerError", "__version__", "atlas",
    "bench", "check", "convert", "diff", "images", "layout", "lesson", "plot", "record", "report", "stats",
]  # fmt: skip
# Public as well, and not in the list: ``from cnnlens import *`` leaves Python's own ``open`` alone.
_MORE = ("open",)

__version__: str  # from the distribution's metadata, when it is asked for

_HOME = {
    "Atlas": "surveying.result", "Bench": "benching.result", "Call": "network.graph", "Check": "checking.result",
    "CnnlensError": "errors", "Conversion": "conversion", "Diff": "differing.result", "FileRefusedError": "errors",
    "Kernel": "network.kernel", "Layer": "network.graph", "Lesson": "reporting.lesson", "Network": "network.network",
    "Recording": "recording.recording", "Report": "reporting.result", "Statistics": "network.kernel",
    "Stats": "statistics.result", "UnsupportedLayerError": "errors",
    "atlas": "surveying.surveyor", "bench": "benching.bencher", "check": "checking.checker", "convert": "conversion",
    "diff": "differing.differ", "lesson": "reporting.lesson", "open": "opening.opener", "record": "recording.recorder",
    "report": "reporting.reporter", "stats": "statistics.collector",
}  # fmt: skip
_MODULES = {"images": "inputs.images", "layout": "layout", "plot": "plot"}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("cnnlens")
    if name in _HOME:
        return getattr(import_module(f"cnnlens.{_HOME[name]}"), name)
    if name in _MODULES:
        return import_module(f"cnnlens.{_MODULES[name]}")
    raise AttributeError(f"module 'cnnlens' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*__all__, *_MORE])
