"""How a worker died, in plain words, with the Python frames it left."""

from __future__ import annotations

import linecache
import re
import signal
import sysconfig
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from probes.results import Where

Kind = Literal["signal", "exit", "hung", "descriptors", "out-of-memory", "lost"]
Frame = tuple[str, int, str]  # file, line, function

_ROOT = Path(__file__).resolve().parents[2]
_OURS = tuple(f"{_ROOT / name}/" for name in ("diagnose", "probes", "reports"))
_DEMOS = f"{_ROOT / 'diagnose' / 'demos'}/"  # plays the part of a user's project
_STDLIB = tuple({f"{sysconfig.get_path(name)}/" for name in ("stdlib", "platstdlib")})
_INSTALLED = ("/site-packages/", "/dist-packages/")

_THREAD = re.compile(r"^(Current thread|Thread) (0x[0-9a-fA-F]+).*\(most recent call first\):")
_FRAME = re.compile(r'^  File "(.*)", line (\d+) in (.*)$')
_ESCAPE = re.compile(r"\\x([0-9a-f]{2})|\\u([0-9a-f]{4})|\\U([0-9a-f]{8})")

_SIGNALS = {
    "SIGSEGV": "The process died of a segmentation fault (SIGSEGV): native code touched memory that is not its own.",
    "SIGABRT": "The process was aborted (SIGABRT): native code gave up, as after a failed assertion.",
    "SIGBUS": "The process died of a bus error (SIGBUS), commonly a full /dev/shm under loader workers or a mapped "
    "file that was truncated.",
    "SIGFPE": "The process died of an arithmetic error in native code (SIGFPE), commonly an integer division by zero.",
    "SIGILL": "The process died of an illegal instruction (SIGILL), commonly a binary built for another processor.",
    "SIGKILL": "The process was killed from outside (SIGKILL), commonly by a memory limit, a job scheduler or a "
    "person; the kernel's own out-of-memory counter did not rise.",
    "SIGTERM": "The process was asked to end (SIGTERM), commonly by a job scheduler or by the code itself.",
}


@dataclass(frozen=True)
class Death:
    """Why a worker is gone. ``frames`` are those of the user's code where there are any, innermost last."""

    kind: Kind
    summary: str
    exit_code: int | None = None
    signal: str | None = None
    frames: tuple[Where, ...] = ()
    log_tail: str = ""


def died_with(returncode: int, *, out_of_memory: bool) -> tuple[Kind, str, int | None, str | None]:
    """Kind, summary, exit code and signal name of an exit status in the convention of subprocess (-N is signal N)."""
    if returncode >= 0:
        return (
            "exit",
            f"The process ended itself with exit code {returncode} in the middle of the step.",
            returncode,
            None,
        )
    try:
        name = signal.Signals(-returncode).name
    except ValueError:
        name = f"signal {-returncode}"
    if name == "SIGKILL" and out_of_memory:
        return "out-of-memory", "The system ran out of memory and killed the process.", None, name
    return "signal", _SIGNALS.get(name, f"The process was ended by {name}."), None, name


def parse_dump(text: str, main_thread: int | None = None) -> list[Frame]:
    """The frames of the thread that matters in a dump of faulthandler, innermost last.

    That is the thread that died, or, where none did (a hang) or it ran no Python, the main thread.
    """
    threads: dict[int, list[Frame]] = {}
    current: int | None = None
    frames: list[Frame] = []
    for line in text.splitlines():
        if heading := _THREAD.match(line):
            ident = int(heading[2], 16)
            frames = threads[ident] = []  # a later dump of the same thread counts
            current = ident if heading[1] == "Current thread" else current
        elif (frame := _FRAME.match(line)) and threads:
            frames.append((_unescaped(frame[1]), int(frame[2]), frame[3]))
    wanted = [current, main_thread] if "Fatal Python error" in text else [main_thread, current]
    found = next((threads[ident] for ident in wanted if ident is not None and threads.get(ident)), None)
    if found is None:
        found = next((frames for frames in reversed(threads.values()) if frames), [])
    return found[::-1]


def user_frames(frames: Iterable[Sequence[object]]) -> tuple[Where, ...]:
    """Those of the user; where there are none, all that are not ours."""
    foreign = [(str(file), int(str(line)), str(function)) for file, line, function in frames if not _is_ours(str(file))]
    users = [frame for frame in foreign if not _is_installed(frame[0])] or foreign
    return tuple(
        Where(file, line, linecache.getline(file, line).strip() or f"in {function}") for file, line, function in users
    )


def _is_ours(file: str) -> bool:
    return file.startswith("<frozen ") or (file.startswith(_OURS) and not file.startswith(_DEMOS)) or file == "<string>"


def innermost(frames: Sequence[Where]) -> tuple[Where, ...]:
    """The last of the user's own lines; none where only libraries were running."""
    return tuple(frame for frame in frames if not _is_installed(frame.file))[-1:]


def _is_installed(file: str) -> bool:
    return file.startswith(_STDLIB) or any(part in file for part in _INSTALLED)


def _unescaped(file: str) -> str:
    """Faulthandler writes what is not ASCII as escapes."""
    return _ESCAPE.sub(lambda found: chr(int(found[1] or found[2] or found[3], 16)), file)


def oom_kills() -> int:
    """How often the kernel has killed for want of memory, as far as this process may see; 0 where it may not."""
    files = [Path("/proc/vmstat"), *_cgroup_files()]
    return sum(_counter(file) for file in files)


def _cgroup_files() -> list[Path]:
    base = Path("/sys/fs/cgroup")
    files = [base / "memory.events", base / "memory" / "memory.oom_control"]
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return files
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            files.append(base / path.lstrip("/") / "memory.events")
        elif "memory" in controllers.split(","):
            files.append(base / "memory" / path.lstrip("/") / "memory.oom_control")
    return files


def _counter(file: Path) -> int:
    try:
        text = file.read_text()
    except OSError:
        return 0
    found = re.search(r"^oom_kill (\d+)$", text, re.MULTILINE)
    return int(found[1]) if found else 0
