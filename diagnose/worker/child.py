"""The worker's side: a guard that outlives everything, and the process that runs the user's code.

The launched process is the guard. It forks once, while it is still small and has no threads; the fork runs the
steps. The guard only waits: when the steps' process dies, or when the parent does (its end of our stdin closes, even
by SIGKILL), the guard kills whatever is left below it and reports the exit status. As a subreaper (Linux) it inherits
grandchildren that detached themselves; elsewhere they are found by a mark in their environment.

Not covered: a process that changed its user id, and, off Linux, one that detached and emptied its environment.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import importlib
import os
import resource
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from diagnose.worker.mailbox import Tail, append
from diagnose.worker.orphans import MARK, sweep

REQUESTS, EVENTS, DUMP = "requests.jsonl", "events.jsonl", "frames.txt"

# Real-time signals are hardly ever used by user code; SIGUSR1 and SIGUSR2 are (requeueing on clusters).
DUMP_SIGNAL = signal.SIGRTMIN + 7 if hasattr(signal, "SIGRTMIN") else signal.SIGUSR2

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_IDLE_SECONDS = 0.01
_CHECK_PARENT_SECONDS = 0.5
_MESSAGE_CHARACTERS = 20_000  # an exception may quote a whole tensor

Emit = Callable[[dict[str, Any]], None]
Run = Callable[[dict[str, Any]], None]


def main() -> None:
    """``python -P -c BOOT <package root> <mailbox folder> <parent's pid>``, with the parent's pipe on stdin."""
    box, parent = Path(sys.argv[2]), int(sys.argv[3])
    reaper = _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    guard = os.getpid()
    child = os.fork()
    if child == 0:
        _become_worker(guard)
        _serve(box)
        return
    _guard(child, parent, box / EVENTS, reaper=reaper)
    os._exit(0)


# --- the guard ---------------------------------------------------------------------------------------------------


def _guard(child: int, parent: int, events: Path, *, reaper: bool) -> None:
    _silence((1, 2))  # else the parent would not see the end of the worker's output
    wake = _wake_on_signals()
    status = _wait_for(child, parent, wake)
    # Helpers such as multiprocessing's resource tracker end by themselves when the worker does, and clean up.
    sweep(os.environ.get(MARK, ""), reaper=reaper, patience=0.0 if status is None else 0.5)
    if status is None:
        status = signal.SIGKILL
    append(events, {"event": "exited", "returncode": os.waitstatus_to_exitcode(status)})


def _wake_on_signals() -> int:
    """A descriptor that is readable after SIGCHLD; the signals that would end the guard are ignored."""
    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    return readable


def _wait_for(child: int, parent: int, wake: int) -> int | None:
    """The child's exit status, or None when the parent is gone or has closed the pipe to order its death."""
    while True:
        pid, status = os.waitpid(-1, os.WNOHANG)  # others than the child are adopted orphans
        if pid == child:
            return status
        if pid == 0:
            ready, _, _ = select.select([0, wake], [], [], _CHECK_PARENT_SECONDS)
            if wake in ready:
                os.read(wake, 4096)
            if (0 in ready and not os.read(0, 4096)) or os.getppid() != parent:
                return None


# --- the process that runs the steps -----------------------------------------------------------------------------


def _become_worker(guard: int) -> None:
    os.setsid()
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    _soft_limit_core_files()
    if not _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL):
        threading.Thread(target=_die_with, args=(guard,), daemon=True).start()
    if os.getppid() != guard:  # it died before the call above
        os._exit(1)
    for stream in (sys.stdout, sys.stderr):
        # Lines reach the log before a crash; a pipe's encoding must not raise where a terminal's would not.
        stream.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]


def end_with_parent() -> None:
    """Where the kernel can do it, this process is killed when the one that forked it dies; else the guard finds it."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _soft_limit_core_files() -> None:
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def _serve(box: Path) -> None:
    def emit(event: dict[str, Any]) -> None:
        append(box / EVENTS, event)

    watchdog = _Watchdog(box / DUMP)
    emit({"event": "started", "pid": os.getpid(), "thread": threading.get_ident()})
    requests = _requests(Tail(box / REQUESTS))
    start = next(requests)
    run: Run | None = None

    def load() -> None:
        nonlocal run
        run = load_handler(str(start["handler"]), start["job"], emit)

    if not _attempt(load, {"event": "start-failed"}, emit) or run is None:
        return
    emit({"event": "ready"})
    for request in requests:
        if request["request"] == "stop" or not _step(run, request["step"], emit, watchdog):
            return


def _requests(tail: Tail) -> Iterator[dict[str, Any]]:
    while True:
        yield from tail.read()
        time.sleep(_IDLE_SECONDS)


def load_handler(name: str, job: dict[str, Any], emit: Emit) -> Run:
    """Call the factory ``module:attribute`` for the function that runs one step."""
    module, _, attribute = name.partition(":")
    run: Run = getattr(importlib.import_module(module), attribute)(job, emit)
    return run


def _step(run: Run, step: dict[str, Any], emit: Emit, watchdog: _Watchdog) -> bool:
    """Run one step; whether this process is fit for another."""
    ident, me, streams = step.get("id"), os.getpid(), _identities()
    emit({"event": "step-started", "step": ident})
    survived = _attempt(lambda: run(step), {"event": "step-failed", "step": ident}, emit)
    if os.getpid() != me:  # the user's code forked, and the fork came back here
        os._exit(0)
    if survived is None:
        return False
    _flush()
    if _identities() != streams:
        emit({"event": "descriptors-closed", "step": ident})
        return False
    watchdog.repair()
    if survived:
        emit({"event": "step-finished", "step": ident})
    return True


def _attempt(call: Callable[[], None], failed: dict[str, Any], emit: Emit) -> bool | None:
    """True on success, False after a failure of ours, None when the code asked this process to end."""
    me = os.getpid()
    try:
        call()
    except Exception as error:
        if os.getpid() == me:
            emit({**failed, **described(error)})
        return False
    except BaseException as error:
        _flush()
        if os.getpid() != me:
            os._exit(0)
        emit({"event": "step-exited", "step": failed.get("step"), **described(error), "code": exit_code(error)})
        return None
    return True


def described(error: BaseException) -> dict[str, Any]:
    """Type, message, traceback and frames of an exception as plain data, whatever its ``__str__`` does."""
    try:
        message = str(error)
    except Exception:
        message = "(its message could not be made)"
    frames = [(frame.filename, frame.lineno or 0, frame.name) for frame in traceback.extract_tb(error.__traceback__)]
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    limit = _MESSAGE_CHARACTERS
    return {
        "type": type(error).__name__,
        "message": message[:limit],
        "traceback": text if len(text) <= limit else f"{text[: limit // 2]}\n[...]\n{text[-limit // 2 :]}",
        "frames": frames[-100:],
    }


def exit_code(error: BaseException) -> int:
    """The code with which the interpreter would end."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    return 128 + signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1


class _Watchdog:
    """Leaves the Python frames in a file on a fatal signal, and on the one that the parent sends when we hang."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._arm()

    def repair(self) -> None:
        """The user's code may have closed every descriptor; ours is then opened again."""
        if _identity(self._descriptor) != self._identity:
            self._arm()

    def _arm(self) -> None:
        # A bare descriptor: a lost file object would later close whatever has taken its number.
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._identity = _identity(self._descriptor)
        faulthandler.enable(self._descriptor)
        faulthandler.register(DUMP_SIGNAL, self._descriptor)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()


def _identities() -> list[tuple[int, int] | None]:
    return [_identity(descriptor) for descriptor in (0, 1, 2)]


def _identity(descriptor: int) -> tuple[int, int] | None:
    try:
        found = os.fstat(descriptor)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _silence(descriptors: tuple[int, ...]) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    for descriptor in descriptors:
        os.dup2(null, descriptor)
    os.close(null)


def _prctl(option: int, value: int) -> bool:
    if not sys.platform.startswith("linux"):
        return False
    return bool(ctypes.CDLL(None).prctl(option, value, 0, 0, 0) == 0)


def _die_with(guard: int) -> None:
    """Where the kernel cannot do it: end with the guard."""
    while os.getppid() == guard:
        time.sleep(_CHECK_PARENT_SECONDS)
    os.killpg(0, signal.SIGKILL)
