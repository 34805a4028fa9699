"""Kill a training with SIGKILL at random moments, resume it, and compare with one that was never interrupted.

    python benchmarks/resume.py [--kills 20] [--workers 0]

Each kill is a training of its own: half of them at a random time, a quarter in validation, a quarter while a checkpoint
is being written. Prints one line for each, and how many ended with the same weights, optimizer state and history.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

TARGET = Path(__file__).with_name("resume_target.py")
TIMES = ("seconds", "samples_per_second", "data_wait", "memory_mb")  # of the machine, not of the training


def start(out: Path, mark: Path, workers: int, *more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "diagnose", "train", f"{TARGET}:get_pipeline", "--only", "--quiet"]
    command += ["--set", "train.checkpoint_steps=3", "--out", str(out), *more]
    environment = {**os.environ, "RESUME_MARK": str(mark), "RESUME_WORKERS": str(workers)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_for(moment: str, out: Path, mark: Path, process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Wait until the moment to kill has come; False where the training ended before."""
    folder = out / "checkpoints"
    began = 0.0
    seen = 0
    while process.poll() is None:
        if moment == "any":
            if not began and folder.is_dir():
                began = time.monotonic()
            if began and time.monotonic() - began >= seconds:
                return True
        elif moment == "validation":
            if mark.exists():
                mark.unlink()
                seen += 1
                if seen > 2 and random.random() < 0.2:  # smoke reads it too
                    return True
        elif any(folder.glob(".latest_checkpoint.pth-*")):
            seen += 1
            if random.random() < 0.1:
                return True
        time.sleep(0.0005)
    return False


def state(out: Path) -> dict[str, Any]:
    path = out / "checkpoints" / "latest_checkpoint.pth"
    if not path.is_file():
        return {"epoch": 0, "batch": 0}
    found: dict[str, Any] = torch.load(path, weights_only=True)
    for row in found["history"]:
        for name in TIMES:
            row.pop(name, None)
    return {key: found[key] for key in ("model", "optimizer", "scheduler", "history", "step", "epoch", "batch")}


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return bool(torch.equal(a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    random.seed(given.seed)
    place = Path(tempfile.mkdtemp(prefix="resume-"))
    mark = place / "mark"
    begun = time.monotonic()
    process = start(place / "whole", mark, given.workers)
    while process.poll() is None and not (place / "whole" / "checkpoints").is_dir():
        time.sleep(0.01)
    training = time.monotonic()
    process.wait()
    length = time.monotonic() - training
    whole = state(place / "whole")
    print(f"uninterrupted: {time.monotonic() - begun:.1f} s, of it {length:.1f} s from the first checkpoint on")
    good = 0
    for number in range(given.kills):
        moment = ("any", "validation", "any", "writing")[number % 4]
        out = place / f"kill-{number}"
        killed = False
        while not killed:
            shutil.rmtree(out, ignore_errors=True)
            mark.unlink(missing_ok=True)
            process = start(out, mark, given.workers)
            killed = wait_for(moment, out, mark, process, random.uniform(0, length * 0.8))
            process.send_signal(signal.SIGKILL)
            process.wait()
            time.sleep(1.0)  # the guard ends the worker
            killed = killed and state(out)["epoch"] < whole["epoch"]
        there = state(out)
        process = start(out, mark, given.workers, "--resume")
        process.wait()
        equal = same(whole, state(out))
        good += equal
        at = f"epoch {there['epoch'] + 1}, batch {there['batch']}"
        print(f"{number + 1:>2} {moment:<10} resumed from {at:<20} {'equal' if equal else 'DIFFERENT'}", flush=True)
        shutil.rmtree(out, ignore_errors=True)
    print(f"{good} of {given.kills} equal the uninterrupted training")
    shutil.rmtree(place, ignore_errors=True)
    return int(good != given.kills)


if __name__ == "__main__":
    raise SystemExit(main())
