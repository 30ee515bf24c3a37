"""Fixtures that several test files share."""

from __future__ import annotations

from tests.plugins import plugin_folder, plugins, traces
from tests.workers import chain, handed

__all__ = ["chain", "handed", "plugin_folder", "plugins", "traces"]
