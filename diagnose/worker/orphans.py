"""Ends every process that a worker left behind."""

from __future__ import annotations

import contextlib
import os
import time

MARK = "TORCH_DIAGNOSE_WORKER"  # environment variable with a value that is unique to one worker

_GIVE_UP_SECONDS = 10.0  # a process in an uninterruptible call cannot be killed by anybody


def sweep(mark: str, *, reaper: bool, patience: float) -> None:
    """Kill and reap all descendants; they have ``patience`` seconds to end by themselves first.

    With ``reaper`` this process has adopted those that detached themselves, so there is no need to search for them.
    """
    begin = time.monotonic()
    while _reap() or (not reaper and marked(mark)):
        waited = time.monotonic() - begin
        if waited > _GIVE_UP_SECONDS:
            return
        if waited >= patience:
            _kill_all(mark, reaper=reaper)
        time.sleep(0.005)


def _reap() -> bool:
    """Collect the dead; whether any child is left."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def _kill_all(mark: str, *, reaper: bool) -> None:
    import psutil  # costs what the usual case, nothing left, need not pay

    found = psutil.Process().children(recursive=True)
    for pid in {child.pid for child in found} | (set() if reaper else set(marked(mark))):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, 9)


def marked(mark: str) -> list[int]:
    """Processes, other than this one and its guards, whose environment carries ``mark``."""
    import psutil

    if not mark:
        return []
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            alive = process.status() != psutil.STATUS_ZOMBIE
            if alive and process.pid != os.getpid() and process.environ().get(MARK) == mark:
                found.append(process.pid)
    return found


def kill_marked(mark: str) -> None:
    """For a process that is not their parent: end all that carry ``mark``."""
    begin = time.monotonic()
    while (found := marked(mark)) and time.monotonic() - begin < _GIVE_UP_SECONDS:
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, 9)
        time.sleep(0.01)
