"""Trials side by side: each in a fork of this process, on one thread, so that several cores are of use to them.

A fork shares what has been read already, and can be trusted only with that: no file that the user's code holds open is
read by two processes. Never on a GPU, which cannot be shared by a fork. What a fork did not answer (it failed, died or
fell silent) is asked again in turn, where whatever is wrong is met in the open.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import multiprocessing
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

MOST = 4  # each has a model of its own in memory
SILENCE = 60.0  # seconds: a fork may inherit a lock that nobody will open again

Sign = Callable[[], None]


def processes(device: torch.device) -> int:
    """How many trials may run at once on this machine; 1: only in turn."""
    if not sys.platform.startswith("linux") or device.type != "cpu" or torch.cuda.is_available():
        return 1
    return min(MOST, torch.get_num_threads())


@contextlib.contextmanager
def on_one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@dataclass
class _Fork:
    index: int
    process: Any
    heard: float  # time.monotonic()

    def end(self, receiver: Connection) -> None:
        receiver.close()
        self.process.kill()
        self.process.join()


def answers(calls: Sequence[Callable[[Sign], Any]], at_once: int) -> list[Any | None]:
    """What each call returns (plain JSON data), None where its fork gave no answer. A call gets a function by which
    it shows that it is alive."""
    found: list[Any | None] = [None] * len(calls)
    waiting = list(enumerate(calls))
    forks: dict[Connection, _Fork] = {}
    try:
        while waiting or forks:
            while waiting and len(forks) < at_once:
                index, call = waiting.pop(0)
                receiver, process = _forked(call)
                forks[receiver] = _Fork(index, process, time.monotonic())
            ready = wait(list(forks), timeout=SILENCE)
            for receiver, fork in list(forks.items()):
                told = _received(receiver) if receiver in ready else b""
                if receiver in ready:
                    fork.heard = time.monotonic()
                if told:
                    found[fork.index] = json.loads(told)
                if told != b"" or time.monotonic() - fork.heard > SILENCE:
                    fork.end(receiver)
                    del forks[receiver]
    finally:
        for receiver, fork in forks.items():
            fork.end(receiver)
    return found


def _forked(call: Callable[[Sign], Any]) -> tuple[Connection, Any]:
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_answer, args=(call, sender))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads; see SILENCE
        process.start()
    sender.close()
    return receiver, process


def _answer(call: Callable[[Sign], Any], sender: Connection) -> None:
    from diagnose.worker.child import end_with_parent  # it needs what only Unix has

    end_with_parent()
    faulthandler.disable()  # its file is the worker's
    torch.set_num_threads(1)  # the threads of the parent do not exist here
    # A failure is met again, and told, in turn.
    with contextlib.suppress(Exception):
        sender.send_bytes(json.dumps(call(lambda: sender.send_bytes(b""))).encode())


def _received(receiver: Connection) -> bytes | None:
    """b"" is a sign of life, None the end of a fork without an answer."""
    try:
        return receiver.recv_bytes()
    except (EOFError, OSError):
        return None
