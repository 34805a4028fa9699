"""A handler whose steps kill, hang or cripple the process that runs them."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

Emit = Callable[[dict[str, Any]], None]


def handler(job: dict[str, Any], emit: Emit) -> Callable[[dict[str, Any]], None]:
    if job.get("factory") == "raises":
        raise LookupError("no such part")
    if job.get("factory") == "exits":
        sys.exit(9)
    if job.get("factory") == "dies":
        os._exit(4)

    def run(step: dict[str, Any]) -> None:
        emit({"event": "found", "step": step["id"], "pid": os.getpid(), "value": float("nan")})
        globals()[step["do"]](step)

    return run


def nothing(step: dict[str, Any]) -> None: ...


def raise_error(step: dict[str, Any]) -> None:
    raise ValueError("wrong")


def segfault(step: dict[str, Any]) -> None:
    ctypes.string_at(0)


def abort(step: dict[str, Any]) -> None:
    os.abort()


def hard_exit(step: dict[str, Any]) -> None:
    os._exit(step["code"])


def soft_exit(step: dict[str, Any]) -> None:
    print("leaving now", end="")
    sys.exit(step["code"])


def interrupt(step: dict[str, Any]) -> None:
    raise KeyboardInterrupt


def kill(step: dict[str, Any]) -> None:
    os.kill(os.getpid(), step["signal"])
    time.sleep(600)


def kill_guard(step: dict[str, Any]) -> None:
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(600)


def spin(step: dict[str, Any]) -> None:
    while True:
        pass


def block(step: dict[str, Any]) -> None:
    time.sleep(600)


def stubborn(step: dict[str, Any]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    time.sleep(600)


def shout(step: dict[str, Any]) -> None:
    print("the first line")
    block = ("x" * 99 + "\n") * 10_000
    for _ in range(step["megabytes"]):
        sys.stdout.write(block)
    print("the last line")


def close_descriptors(step: dict[str, Any]) -> None:
    os.closerange(0, 1024)


def replace_stdout(step: dict[str, Any]) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def close_others(step: dict[str, Any]) -> None:
    os.closerange(3, 1024)


def child(step: dict[str, Any]) -> None:
    if os.fork() == 0:
        if step["session"]:
            os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(600)


def child_then_die(step: dict[str, Any]) -> None:
    child(step)
    os.abort()


def returning_fork(step: dict[str, Any]) -> None:
    if (pid := os.fork()) != 0:
        os.waitpid(pid, 0)


def recurse(step: dict[str, Any]) -> None:
    sys.setrecursionlimit(10**6)

    def deeper(depth: int) -> int:
        return max([depth], key=lambda value: deeper(value + 1))  # by way of C, so that the C stack grows

    deeper(0)


def own_faulthandler(step: dict[str, Any]) -> None:
    import faulthandler

    faulthandler.enable()
    ctypes.string_at(0)


def echo_stdin(step: dict[str, Any]) -> None:
    print("stdin:", repr(sys.stdin.read()), "sudden é \ud800")


def die_idle(step: dict[str, Any]) -> None:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
