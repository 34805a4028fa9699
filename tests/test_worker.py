"""Whatever the user's code does: what it said is kept, the death is named, the next step runs, no process is left."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from diagnose.worker.death import Death, oom_kills
from diagnose.worker.in_process import InProcessWorker
from diagnose.worker.log import HEAD_BYTES, TAIL_BYTES
from diagnose.worker.process import Worker

HANDLER = "lethal_handler:handler"
TESTS = Path(__file__).resolve().parent
LONG = 60.0  # generous: only a broken worker ever waits for it
SHORT = 0.3  # for steps that hang for ever
MARK = "LETHAL_TEST"


@pytest.fixture(autouse=True)
def mark(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Marks every process that the test starts, and fails the test that leaves one."""
    mark = secrets.token_hex(8)
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    monkeypatch.setenv(MARK, mark)
    yield mark
    assert not marked(mark)


def marked(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            # this process was started without the mark, so it never shows up itself
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def eventually(true: Callable[[], bool]) -> bool:
    end = time.monotonic() + LONG
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def is_dead(pid: int) -> bool:
    """A zombie is dead: where the guard was killed, only the system's init can reap."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


class Bench:
    def __init__(self, worker: Worker | InProcessWorker) -> None:
        self.worker = worker
        self.events: list[dict[str, Any]] = []

    def run(self, do: str, timeout: float = LONG, **step: Any) -> Death | None:
        self.events = []
        return self.worker.run({"id": do, "do": do, **step}, timeout, self.events.append)

    def kinds(self) -> list[str]:
        return [event["event"] for event in self.events if event["event"] not in ("started", "ready", "exited")]

    def pid(self) -> int:
        return int(next(event["pid"] for event in self.events if event["event"] == "found"))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with Worker({}, HANDLER, tmp_path) as worker:
        yield Bench(worker)


def dies(bench: Bench, do: str, **step: Any) -> Death:
    """Run a lethal step; check what holds for all of them."""
    death = bench.run(do, **step)
    assert death is not None
    assert bench.kinds()[:2] == ["step-started", "found"]
    assert "step-finished" not in bench.kinds()
    dead = bench.pid()
    assert eventually(lambda: is_dead(dead))
    assert bench.run("nothing") is None
    assert bench.kinds() == ["step-started", "found", "step-finished"]
    assert bench.pid() != dead
    return death


def innermost(death: Death) -> str:
    assert death.frames
    assert Path(death.frames[-1].file).name == "lethal_handler.py"
    return death.frames[-1].text


def test_steps_share_a_process_until_it_dies(bench: Bench) -> None:
    assert bench.run("nothing") is None
    first = bench.pid()
    assert bench.events[-2]["value"] is None  # nan
    assert bench.run("nothing") is None
    assert bench.pid() == first


def test_exception_that_escapes_the_handler_is_an_event_not_a_death(bench: Bench) -> None:
    assert bench.run("raise_error") is None
    assert bench.kinds() == ["step-started", "found", "step-failed"]
    assert bench.events[-1]["type"] == "ValueError"
    assert "raise_error" in bench.events[-1]["traceback"]
    pid = bench.pid()
    assert bench.run("nothing") is None
    assert bench.pid() == pid


@pytest.mark.parametrize(
    ("do", "name", "line"), [("segfault", "SIGSEGV", "string_at"), ("abort", "SIGABRT", "abort()")]
)
def test_fatal_signal_leaves_the_frames_of_the_user(bench: Bench, do: str, name: str, line: str) -> None:
    death = dies(bench, do)
    assert (death.kind, death.signal, death.exit_code) == ("signal", name, None)
    assert line in innermost(death)


def test_frames_are_found_where_the_code_enabled_faulthandler_itself(bench: Bench) -> None:
    assert "string_at" in innermost(dies(bench, "own_faulthandler"))


@pytest.mark.parametrize("code", [0, 7])
def test_hard_exit(bench: Bench, code: int) -> None:
    death = dies(bench, "hard_exit", code=code)
    assert (death.kind, death.exit_code, death.signal) == ("exit", code, None)


def test_soft_exit(bench: Bench) -> None:
    death = dies(bench, "soft_exit", code=3)
    assert (death.kind, death.exit_code) == ("exit", 3)
    assert "sys.exit" in innermost(death)
    assert death.log_tail == "leaving now"


def test_keyboard_interrupt_raised_by_the_code_is_not_ours(bench: Bench) -> None:
    death = dies(bench, "interrupt")
    assert (death.kind, death.exit_code) == ("exit", 130)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_signal_from_outside(bench: Bench, number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diagnose.worker.process.oom_kills", lambda: 5)
    death = dies(bench, "kill", signal=int(number))
    assert (death.kind, death.signal) == ("signal", number.name)


def test_kill_is_out_of_memory_only_when_the_kernel_counted_one(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = iter(range(1000))
    monkeypatch.setattr("diagnose.worker.process.oom_kills", lambda: next(counts))
    assert dies(bench, "kill", signal=int(signal.SIGKILL)).kind == "out-of-memory"
    assert dies(bench, "kill", signal=int(signal.SIGTERM)).kind == "signal"
    assert oom_kills() >= 0


@pytest.mark.parametrize(("do", "line"), [("spin", ""), ("block", "time.sleep"), ("stubborn", "time.sleep")])
def test_hang_leaves_the_frames_of_the_user(bench: Bench, do: str, line: str) -> None:
    assert bench.run("nothing") is None
    death = dies(bench, do, timeout=SHORT)
    assert death.kind == "hung"
    assert line in innermost(death)


@pytest.mark.parametrize("do", ["close_descriptors", "replace_stdout"])
def test_lost_standard_streams(bench: Bench, do: str) -> None:
    assert dies(bench, do).kind == "descriptors"


def test_closing_all_other_descriptors_harms_nobody(bench: Bench) -> None:
    assert bench.run("close_others") is None
    assert "string_at" in innermost(dies(bench, "segfault"))


@pytest.mark.parametrize("session", [False, True])
@pytest.mark.parametrize("do", ["child", "child_then_die"])
def test_grandchildren_do_not_outlive_the_worker(bench: Bench, mark: str, do: str, session: bool) -> None:
    death = bench.run(do, session=session)
    assert (death is None) == (do == "child")
    bench.worker.close()
    assert not marked(mark)


def test_fork_that_returns_does_not_go_on_as_a_second_worker(bench: Bench) -> None:
    assert bench.run("returning_fork") is None
    assert bench.kinds() == ["step-started", "found", "step-finished"]


def test_recursion_through_native_code(bench: Bench) -> None:
    death = bench.run("recurse")
    if death is None:  # Python 3.12 and later count native calls
        assert bench.events[-1]["type"] == "RecursionError"
    else:
        assert death.signal == "SIGSEGV"
        assert "deeper" in innermost(death)
    assert bench.run("nothing") is None


def test_killed_guard(bench: Bench) -> None:
    assert dies(bench, "kill_guard").kind == "lost"


def test_death_between_steps_is_not_held_against_the_next(bench: Bench, mark: str) -> None:
    assert bench.run("die_idle") is None
    pid = bench.pid()
    assert eventually(lambda: is_dead(pid))
    assert bench.run("nothing") is None
    assert bench.pid() != pid


@pytest.mark.parametrize(("how", "kind"), [("raises", "lost"), ("exits", "exit"), ("dies", "exit")])
def test_handler_that_cannot_be_made(tmp_path: Path, how: str, kind: str) -> None:
    with Worker({"factory": how}, HANDLER, tmp_path) as worker:
        bench = Bench(worker)
        death = bench.run("nothing")
        assert death is not None
        assert death.kind == kind
        assert ("step-failed" in bench.kinds()) == (how == "raises")


def test_runaway_prints_fill_neither_disk_nor_memory(tmp_path: Path) -> None:
    with Worker({}, HANDLER, tmp_path) as worker:
        bench = Bench(worker)
        assert bench.run("shout", megabytes=110) is None
        assert (tmp_path / "worker.log").stat().st_size <= HEAD_BYTES + 2 * TAIL_BYTES + 100_000
    log = (tmp_path / "worker.log").read_text()
    assert len(log) <= HEAD_BYTES + TAIL_BYTES + 1000
    assert log.startswith("the first line\n")
    assert log.endswith("the last line\n")
    assert "bytes left out" in log
    assert [path.name for path in tmp_path.iterdir()] == ["worker.log"]


def test_output_is_offered_line_by_line_and_input_is_empty(tmp_path: Path) -> None:
    lines: list[str] = []
    with Worker({}, HANDLER, tmp_path, on_output=lines.append) as worker:
        assert Bench(worker).run("echo_stdin") is None
    assert lines == ["stdin: '' sudden é \\ud800"]


def test_a_broken_listener_does_not_block_the_worker(tmp_path: Path) -> None:
    def broken(line: str) -> None:
        raise BrokenPipeError

    with Worker({}, HANDLER, tmp_path, on_output=broken) as worker:
        assert Bench(worker).run("shout", megabytes=2) is None


def test_our_packages_win_over_the_folder_and_the_python_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("probes", "reports", "diagnose"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong one')")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{TESTS}")
    monkeypatch.chdir(tmp_path)
    with Worker({}, HANDLER, tmp_path / "run") as worker:
        assert Bench(worker).run("nothing") is None


def test_an_error_in_the_caller_kills_the_worker(bench: Bench, mark: str) -> None:
    def interrupt(event: dict[str, Any]) -> None:
        if event["event"] == "found":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench.worker.run({"id": "block", "do": "block"}, LONG, interrupt)
    assert not marked(mark)


PARENT = """
import signal, sys
from pathlib import Path
from diagnose.worker.process import Worker, interrupt_on_termination

signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell starts us with it ignored
interrupt_on_termination()

def tell(event):
    if event["event"] == "found":
        print("running", flush=True)

try:
    with Worker({}, "lethal_handler:handler", Path(sys.argv[1])) as worker:
        worker.run({"id": "child", "do": "child", "session": True}, 60, lambda event: None)
        worker.run({"id": "stubborn", "do": "stubborn"}, 600, tell)
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_no_process_outlives_the_parent(tmp_path: Path, mark: str, number: signal.Signals) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{TESTS.parent}{os.pathsep}{TESTS}"}
    command = [sys.executable, "-c", PARENT, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"running\n"
        assert len(marked(mark)) >= 4  # parent, guard, worker, grandchild
        parent.send_signal(number)
        assert parent.wait(LONG) == (130 if number != signal.SIGKILL else -signal.SIGKILL)
    if number != signal.SIGKILL:
        assert not marked(mark)
    assert eventually(lambda: not marked(mark))


def test_in_process() -> None:
    with InProcessWorker({}, HANDLER) as worker:
        bench = Bench(worker)
        assert bench.run("nothing") is None
        assert bench.kinds() == ["step-started", "found", "step-finished"]
        assert bench.pid() == os.getpid()
        assert bench.run("raise_error") is None
        assert bench.kinds()[-1] == "step-failed"
        death = bench.run("soft_exit", code=3)
        assert death is not None
        assert (death.kind, death.exit_code) == ("exit", 3)
        with pytest.raises(KeyboardInterrupt):
            bench.run("interrupt")
