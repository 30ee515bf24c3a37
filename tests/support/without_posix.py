"""Runs a module in a Python like that of Windows: the names that POSIX alone has are gone.

``python -m tests.support.without_posix cnnlens summary MODEL``, or with ``--all`` and command lines as JSON for the
exit codes and what they printed. What ``subprocess`` itself needs to start a process here stays with it. ``os.name``
and ``sys.platform`` stay, for pathlib and libraries choose by them what another Python has; ours looks at neither.
"""

from __future__ import annotations

import asyncio  # noqa: F401 - asks Linux for a limit
import contextlib
import io
import json
import os
import runpy
import select
import shutil
import signal
import socket
import subprocess  # noqa: F401 - needs some of these names to define itself
import sys
import tempfile

import numpy as np  # noqa: F401 - asks Linux for its version

MODULES = ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog", "readline", "posix", "_posixshmem")
OS = """
pread preadv pwrite pwritev killpg getpgid setpgid setsid getsid getpgrp fchmod fchown geteuid getuid getgid getegid
getgroups setuid setgid chown lchown chroot sched_getaffinity sched_setaffinity sched_yield register_at_fork fork
forkpty posix_fadvise posix_fallocate posix_spawn posix_spawnp mkfifo mknod uname statvfs fstatvfs sysconf confstr
nice getloadavg sendfile memfd_create sync fdatasync fchdir pipe2 openpty ttyname wait wait3 wait4 waitid getpriority
setpriority readv writev lockf eventfd pidfd_open copy_file_range splice getrandom getxattr setxattr listxattr
tcgetpgrp tcsetpgrp ctermid login_tty major minor makedev setregid setresuid initgroups O_NOFOLLOW O_CLOEXEC
O_DIRECTORY O_NONBLOCK O_SYNC O_DSYNC O_NOCTTY O_PATH O_TMPFILE O_DIRECT O_NOATIME P_PID P_ALL P_PGID P_PIDFD WEXITED
WNOWAIT EX_OK
""".split()
SIGNAL = """
SIGKILL SIGHUP SIGQUIT SIGUSR1 SIGUSR2 SIGALRM SIGCHLD SIGPIPE SIGSTOP SIGTSTP SIGCONT SIGWINCH SIGBUS SIGTTOU SIGTTIN
pthread_kill pthread_sigmask alarm setitimer getitimer sigwait sigpending siginterrupt pause
""".split()


def strip() -> None:
    """Take the names away; macOS, too, lacks some of them."""
    for name in MODULES:
        sys.modules[name] = None  # type: ignore[assignment]
    for module, names in ((os, OS), (signal, SIGNAL), (socket, ["AF_UNIX"]), (select, ["poll", "epoll", "kqueue"])):
        for name in names:
            if hasattr(module, name):
                delattr(module, name)
    tempfile._O_TMPFILE_WORKS = False  # type: ignore[attr-defined]
    shutil._use_fd_functions = False  # type: ignore[attr-defined]


def run(arguments: list[str]) -> tuple[int | str | None, str, str]:
    """One command line in this process: its exit code, stdout and stderr."""
    from cnnlens.cli.main import main

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code: int | str | None = main(arguments)
        except SystemExit as stop:
            code = stop.code
    return code, out.getvalue(), err.getvalue()


if __name__ == "__main__":
    strip()
    if sys.argv[1] == "--all":
        print(json.dumps([run(one) for one in json.loads(sys.argv[2])]))
        sys.exit()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
