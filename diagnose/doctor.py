"""Whether this machine is fit to train: versions, device, cores, memory, disk. Imports no torch."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from reports.numbers import memory, one_line

Line = tuple[str, str, str]
"""What it is about, its value, and "ok" or what is wrong with it."""

OK = "ok"
MISSING = "not installed"
PACKAGES = ("numpy", "pandas", "matplotlib", "scikit-learn", "tensorboard")
TORCH_SECONDS = 120  # importing torch from a slow network disk takes a minute
GIB = 1024**3
MIN_RAM, MIN_DISK = 2 * GIB, 5 * GIB  # free; a few checkpoints of a small model and the data of a batch
MINOR_OFFSET = 15  # torchvision 0.(n + 15) belongs to torch 2.n
_CGROUP = Path("/sys/fs/cgroup")


def report() -> list[Line]:
    """Every line, whatever is missing or broken."""
    told = _ask_torch()
    return [_python(), *_torch(told), *_devices(told), *_cores(told), _ram(), _disk(), *_packages()]


def _python() -> Line:
    required = (3, 11)
    fits = sys.version_info[:2] >= required
    return "python", platform.python_version(), OK if fits else "older than 3.11, which this tool needs"


def _ask_torch() -> dict[str, Any]:
    """What torch says in a process of its own. ``-P``: a file torch.py in the current folder is not torch."""
    command = [sys.executable, "-P", str(Path(__file__).with_name("doctor_torch.py"))]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TORCH_SECONDS, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"torch_error": f"{type(error).__name__} while it was imported"}
    for line in reversed(done.stdout.splitlines()):
        with suppress(ValueError):
            found = json.loads(line)
            if isinstance(found, dict):
                return found
    return {"torch_error": f"the process that imported it ended with code {done.returncode}"}


def _torch(told: dict[str, Any]) -> list[Line]:
    lines = []
    for name in ("torch", "torchvision"):
        version, error = told.get(name) or _version(name), told.get(f"{name}_error")
        if version == MISSING:
            lines.append((name, MISSING, f"install it: pip install {name}"))
        else:
            lines.append((name, str(version), OK if not error else f"cannot be imported: {one_line(error, 160)}"))
    verdict = _pair(told.get("torch") or _version("torch"), told.get("torchvision") or _version("torchvision"))
    return [*lines, ("torch and torchvision", *verdict)] if verdict else lines


def _pair(torch: str, torchvision: str) -> tuple[str, str] | None:
    """Whether the two versions belong together; by what torchvision asks for, else by the numbers of their releases."""
    one, other = _numbers(torch), _numbers(torchvision)
    if one is None or other is None:
        return None
    for requirement in _requirements("torchvision"):
        match = re.match(r"torch\s*\(?==\s*(\d+)\.(\d+)", requirement)
        if match:
            wanted = int(match[1]), int(match[2])
            fits = wanted == one
            return (
                "fit" if fits else "do not fit",
                OK if fits else f"torchvision {torchvision} needs torch {wanted[0]}.{wanted[1]}",
            )
    if one[0] != 2 or other[0] != 0:
        return "unknown", OK
    expected = one[1] + MINOR_OFFSET
    fits = other[1] == expected
    return "fit" if fits else "do not fit", OK if fits else f"torch {torch} goes with torchvision 0.{expected}"


def _devices(told: dict[str, Any]) -> list[Line]:
    if told.get("devices"):
        return [
            (f"cuda:{i}", f"{one['name']}, {memory(one['free'])} of {memory(one['total'])} free", OK)
            for i, one in enumerate(told["devices"])
        ]
    card = shutil.which("nvidia-smi") is not None or Path("/dev/nvidia0").exists()
    if card and "torch" in told:
        why = "torch is built without CUDA" if not told.get("cuda") else f"torch (CUDA {told['cuda']}) cannot use it"
        return [("device", "cpu", f"there is a GPU, but {why}")]
    return [("device", "cpu", OK)]


def _cores(told: dict[str, Any]) -> list[Line]:
    cores = available_cores()
    threads = told.get("threads")
    lines: list[Line] = [("cpu cores", f"{cores:g}", OK)]
    if threads is not None:
        crowded = threads > max(1.0, cores) + 0.5
        advice = f"more threads than cores slow training down: set OMP_NUM_THREADS={max(1, int(cores))}"
        lines.append(("torch threads", str(threads), advice if crowded else OK))
    return lines


def available_cores() -> float:
    """Cores that this process may use: by affinity, and by the quota of its container."""
    cores = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    with suppress(OSError, ValueError):
        quota, period = (_CGROUP / "cpu.max").read_text().split()
        cores = min(cores, int(quota) / int(period))
    return cores


def _ram() -> Line:
    try:
        import psutil
    except ImportError:
        return "free memory", "unknown", "psutil is not installed"
    found = psutil.virtual_memory()
    free, total = int(found.available), int(found.total)
    with suppress(OSError, ValueError):
        limit = int((_CGROUP / "memory.max").read_text())
        used = int((_CGROUP / "memory.current").read_text())
        free, total = min(free, max(0, limit - used)), min(total, limit)
    verdict = OK if free >= MIN_RAM else f"less than {memory(MIN_RAM)}: loader workers may be killed"
    return "free memory", f"{memory(free)} of {memory(total)}", verdict


def _disk() -> Line:
    try:
        usage = shutil.disk_usage(Path.cwd())
    except OSError as error:
        return "free disk", "unknown", f"the current folder cannot be looked at: {error.strerror}"
    verdict = OK if usage.free >= MIN_DISK else f"less than {memory(MIN_DISK)}: checkpoints may not fit"
    return "free disk", f"{memory(usage.free)} of {memory(usage.total)}", verdict


def _packages() -> list[Line]:
    found = [(name, _version(name)) for name in PACKAGES]
    return [(name, version, OK if version != MISSING else f"install it: pip install {name}") for name, version in found]


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return MISSING


def _requirements(name: str) -> list[str]:
    try:
        return metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return []


def _numbers(version: str) -> tuple[int, int] | None:
    match = re.match(r"(\d+)\.(\d+)", version)
    return (int(match[1]), int(match[2])) if match else None
