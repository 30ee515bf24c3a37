"""Fixtures that several test files share."""

from __future__ import annotations

import signal

from tests.support.graphs import graphs
from tests.support.plugins import plant, plugin_folder, plugins, traces
from tests.support.workers import chain, handed

__all__ = ["chain", "graphs", "handed", "plant", "plugin_folder", "plugins", "traces"]

# Started in the background or under nohup, this process ignores Ctrl-C and hang-ups, and every process that a test
# starts would inherit that. The tests of both need what a terminal gives.
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
