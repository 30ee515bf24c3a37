"""``python -m cnnlens`` and the command ``cnnlens``: a process that says how it ended, also when it is interrupted.

Ctrl-C may come while a module is imported, a thread starts a backend or Python ends, where nobody expects it; whenever
it comes, this process says so in a line and its exit code is 130. So everything is imported inside of the ``try``.
"""

from __future__ import annotations

import sys
from typing import NoReturn

__all__ = ["run"]

_INTERRUPTED = 130  # 128 and the number of SIGINT, as shells say it


def run() -> NoReturn:
    """Run the command line that this process was started with, and end the process."""
    pressed: list[int] = []
    code: int | None = None
    try:
        _listen(pressed)
        from cnnlens.cli.main import main

        code = main(interrupted=pressed)
    except BaseException as error:
        if not pressed and not isinstance(error, KeyboardInterrupt):
            raise  # argparse's end too
    import signal

    # What is left to do is to clean up: Ctrl-C can only make that quicker.
    listening = signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
    signal.signal(signal.SIGINT, _hurry if listening else signal.SIG_IGN)
    if pressed or code == _INTERRUPTED:
        _hurry()
    if not pressed and code is not None and code != _INTERRUPTED:
        sys.exit(code)
    if code != _INTERRUPTED:
        print("cnnlens: interrupted", file=sys.stderr)
    import atexit
    import contextlib
    import os

    # Not sys.exit: threads would be waited for, and Python dies by the signal if it once interrupted an exec of a text.
    atexit._run_exitfuncs()  # pyright: ignore[reportPrivateUsage] - as multiprocessing does
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(_INTERRUPTED)


def _hurry(*_: object) -> None:
    """Have no worker waited for, if there are any."""
    worker = sys.modules.get("cnnlens.backend.worker")
    if worker is not None:
        worker.hurry()


def _listen(pressed: list[int]) -> None:
    """Remember Ctrl-C, for a ``KeyboardInterrupt`` may be lost: in a finaliser, or in C code that clears errors."""
    import atexit
    import signal

    # Registered first, and so done last: Python gives a handler of ours up before it ends.
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return  # started in the background or under nohup, where Ctrl-C is another's

    def interrupt(number: int, frame: object) -> NoReturn:
        pressed.append(number)
        raise KeyboardInterrupt

    def unraisable(what: sys.UnraisableHookArgs) -> None:
        if not isinstance(what.exc_value, KeyboardInterrupt):
            sys.__unraisablehook__(what)
            return
        import _thread
        import time

        def again(main: int) -> None:
            time.sleep(0.1)
            if hasattr(signal, "pthread_kill"):
                signal.pthread_kill(main, signal.SIGINT)  # where somebody hears it
            else:  # Windows
                _thread.interrupt_main()

        _thread.start_new_thread(again, (_thread.get_ident(),))  # threading would wait for it here

    sys.unraisablehook = unraisable
    signal.signal(signal.SIGINT, interrupt)


if __name__ == "__main__":
    run()
