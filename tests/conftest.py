"""Fixtures that several test files share."""

from __future__ import annotations

from tests.graphs import graphs
from tests.plugins import plugin_folder, plugins, traces
from tests.workers import chain, handed

__all__ = ["chain", "graphs", "handed", "plugin_folder", "plugins", "traces"]
