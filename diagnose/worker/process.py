"""Runs the user's code in another process, so that nothing it does can take the tool down.

The parent's side. One worker process at a time runs steps one after the other and reports events through a mailbox
(a file), so what it said before it died is kept. A worker that dies, hangs or loses its standard streams becomes a
``Death``; the next step runs in a fresh one. No process outlives the command: see ``diagnose.worker.child``.
Needs a POSIX system. Not covered: a machine that is so short of memory that the parent itself is killed loses the
step that ran (its events up to then are on disk).
"""

from __future__ import annotations

import contextlib
import math
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from diagnose.redact import redact_text
from diagnose.worker.child import DUMP, DUMP_SIGNAL, EVENTS, REQUESTS
from diagnose.worker.death import Death, died_with, oom_kills, parse_dump, user_frames
from diagnose.worker.log import CappedLog, Copier
from diagnose.worker.mailbox import Tail, append
from diagnose.worker.orphans import MARK, kill_marked

OnEvent = Callable[[dict[str, Any]], None]

START_SECONDS = 120.0  # importing torch from a cold network drive
_DUMP_SECONDS = 3.0
_STOP_SECONDS = 5.0  # for the user's atexit handlers and loader workers to end in order
_KILL_SECONDS = 15.0
_POLL_SECONDS = (0.002, 0.05)

_ROOT = Path(__file__).resolve().parents[2]
# Our packages come first: the user's folder, or PYTHONPATH, may hold a module of the same name.
_BOOT = "import sys; sys.path.insert(0, sys.argv[1]); from diagnose.worker.child import main; main()"
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def interrupt_on_termination() -> None:
    """Make SIGTERM and SIGHUP end the command as Ctrl-C does. The CLI calls this once, in the main thread.

    KeyboardInterrupt then comes out of ``Worker.run``, the ``with`` block closes the worker, and the CLI saves the
    partial result and exits with 130. A signal that was set to be ignored (nohup) stays ignored.
    """

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt(signal.Signals(number).name)

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, interrupt)


class Worker:
    """Runs steps with ``handler`` ("module:attribute", a factory ``(job, emit) -> run(step)``) in a child process.

    ``job`` and the steps are plain data; a step has an ``"id"``. ``folder`` gets ``worker.log``; ``on_output`` is
    offered every line that the user's code prints, from another thread.
    """

    def __init__(
        self, job: dict[str, Any], handler: str, folder: Path, on_output: Callable[[str], None] | None = None
    ) -> None:
        self._job, self._handler = job, handler
        self._folder = folder.resolve()
        self._folder.mkdir(parents=True, exist_ok=True)
        self._log = CappedLog(self._folder / "worker.log", on_output)
        self._child: _Child | None = None

    def run(self, step: dict[str, Any], timeout: float, on_event: OnEvent) -> Death | None:
        """Run one step. None means that the worker is fit for the next one.

        ``timeout`` is the longest silence in seconds: every event starts it anew.

        Every event of the worker is handed to ``on_event`` as it comes, also ``step-failed``: an exception that
        escaped the handler, which is the tool's fault. Anything raised here (KeyboardInterrupt) kills the worker first.
        """
        if self._child is not None and self._child.is_gone():
            self._discard()
        while True:
            child = self._child = self._child or _Child(self._job, self._handler, self._folder, self._log)
            try:
                death = child.run(step, timeout, on_event)
            except _DiedIdle:
                self._discard()
                continue
            except BaseException:
                self._discard()
                raise
            if death is not None:
                self._discard()
            return death

    def close(self) -> None:
        """End the worker with everything it started. Safe to call twice, and after an interrupt."""
        try:
            if self._child is not None:
                self._child.stop()
        finally:
            self._discard()
            self._log.close(redact_text)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _discard(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child = None


class _DiedIdle(Exception):
    """A worker that was fit died before the step began: not that step's doing."""


class _Child:
    """One guard with its worker process, from start to end."""

    def __init__(self, job: dict[str, Any], handler: str, folder: Path, log: CappedLog) -> None:
        self._box = Path(tempfile.mkdtemp(prefix=".worker-", dir=folder))
        self._mark = secrets.token_hex(8)
        self._tail = Tail(self._box / EVENTS)
        self._waiting: deque[dict[str, Any]] = deque()
        self._pid = self._thread = None
        self._ready = self._used = False
        self._log = log
        log.forget_recent()
        self._oom_kills = oom_kills()
        append(self._box / REQUESTS, {"request": "start", "handler": handler, "job": job})
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _BOOT, str(_ROOT), str(self._box), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=_environment(self._mark),
        )
        assert self._process.stdout is not None
        self._copier = Copier(self._process.stdout.fileno(), log)

    def is_gone(self) -> bool:
        return self._process.poll() is not None

    def run(self, step: dict[str, Any], timeout: float, on_event: OnEvent) -> Death | None:
        append(self._box / REQUESTS, {"request": "step", "step": step})
        deadline = time.monotonic() + timeout + (0 if self._ready else START_SECONDS)
        started, pause = False, _POLL_SECONDS[0]
        while True:
            gone = self.is_gone()  # asked before reading, so that nothing said in between is missed
            self._waiting.extend(self._tail.read())
            pause = _POLL_SECONDS[0] if self._waiting else min(pause * 1.2, _POLL_SECONDS[1])
            while self._waiting:
                event = self._waiting.popleft()
                if event["event"] == "step-started":
                    started = True
                if started:  # any event is a sign of life
                    deadline = time.monotonic() + timeout
                over, death = self._judge(event, step, started=started)
                on_event(event if event["event"] != "start-failed" else _as_step_failed(event, step))
                if over:
                    return death
            if gone:
                return self._death("lost", "The worker and its guard were killed from outside.")
            if time.monotonic() > deadline:
                return self._hung(timeout, started=started)
            time.sleep(pause)

    def _judge(self, event: dict[str, Any], step: dict[str, Any], *, started: bool) -> tuple[bool, Death | None]:
        """Whether the event ends the step, and the death it means."""
        match event["event"]:
            case "started":
                self._pid, self._thread = event["pid"], event["thread"]
            case "ready":
                self._ready = True
            case "step-finished" | "step-failed" if event["step"] == step.get("id"):
                self._used = True
                return True, None
            case "start-failed":
                return True, self._death("lost", f"The worker could not start: {event['type']}: {event['message']}")
            case "step-exited":
                summary = _exit_summary(event)
                return True, self._death("exit", summary, exit_code=event["code"], frames=event["frames"])
            case "descriptors-closed" | "exited" if self._used and not started:
                raise _DiedIdle
            case "descriptors-closed":
                return True, self._death("descriptors", "The user's code closed or replaced the standard streams.")
            case "exited":
                return True, self._exited(event["returncode"])
        return False, None

    def _exited(self, returncode: int) -> Death:
        # The kernel counts its kill only after the memory is free again.
        out_of_memory = returncode == -signal.SIGKILL and _within(0.3, lambda: oom_kills() > self._oom_kills)
        kind, summary, code, name = died_with(returncode, out_of_memory=out_of_memory)
        return self._death(kind, summary, exit_code=code, signal=name)

    def _hung(self, timeout: float, *, started: bool) -> Death:
        dump, sizes = self._box / DUMP, [-1]

        def complete() -> bool:
            sizes.append(dump.stat().st_size if dump.exists() else 0)
            return sizes[-1] > 0 and sizes[-1] == sizes[-2]

        if self._pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, DUMP_SIGNAL)
            _within(_DUMP_SECONDS, complete)
        what = "step gave no sign of life" if started else "worker did not get ready"
        limit = timeout if started else timeout + START_SECONDS
        return self._death("hung", f"The {what} for {limit:g} seconds and was killed.")

    def _death(self, kind: Any, summary: str, *, frames: Any = None, **fields: Any) -> Death:
        """Kill what is left first: the output is complete only then."""
        dump = self._box / DUMP
        text = dump.read_text("ascii", "replace") if dump.exists() else ""
        self.kill()
        tail = self._log.recent()
        if frames is None:  # the user's own faulthandler.enable() sends the dump to stderr
            frames = parse_dump(text, self._thread) or parse_dump(tail, self._thread)
        return Death(kind, summary, frames=user_frames(frames), log_tail=tail, **fields)

    def stop(self) -> None:
        """Let an idle worker end in order."""
        if self._used and not self.is_gone():
            append(self._box / REQUESTS, {"request": "stop"})
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_SECONDS)

    def kill(self) -> None:
        """End every process below; the guard does it when its standard input ends."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if self._process.stdout.closed:
            return
        self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_KILL_SECONDS)
        if self._process.poll() != 0:
            self._process.kill()
            self._process.wait()
            kill_marked(self._mark)
        self._copier.finish()
        self._process.stdout.close()
        shutil.rmtree(self._box, ignore_errors=True)


def _as_step_failed(event: dict[str, Any], step: dict[str, Any]) -> dict[str, Any]:
    return {**event, "event": "step-failed", "step": step.get("id")}


def _exit_summary(event: dict[str, Any]) -> str:
    if event["type"] == "SystemExit":
        return f"The user's code ended the program with sys.exit({event['code']}) in the middle of the step."
    return f"The user's code ended the program by raising {event['type']} in the middle of the step."


def _within(seconds: float, true: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def _environment(mark: str) -> dict[str, str]:
    """The user's, and where a container may use fewer cores than it sees, a number of threads that fits."""
    environment = {**os.environ, MARK: mark}
    # Threads that spin while they wait slow a training three- to fivefold as soon as another job wants the cores.
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    cores = _core_quota()
    if cores is not None and cores < (os.cpu_count() or 1):
        for name in _THREAD_VARIABLES:
            environment.setdefault(name, str(cores))
    return environment


def _core_quota() -> int | None:
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError):  # no such file, or "max": no quota
        return None
