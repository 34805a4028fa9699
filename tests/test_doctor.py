"""The doctor says something about everything, whatever is missing or broken."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from diagnose import doctor

Report = dict[str, tuple[str, str]]


def told() -> Report:
    return {what: (value, verdict) for what, value, verdict in doctor.report()}


def test_this_machine() -> None:
    import torch

    found = told()
    assert found["python"][1] == "ok"
    assert found["torch"] == (torch.__version__, "ok")
    assert found["torch and torchvision"] == ("fit", "ok")
    assert found["cpu cores"][1] == "ok"
    assert int(found["torch threads"][0]) >= 1
    assert {"free memory", "free disk", *doctor.PACKAGES} <= set(found)
    assert all(found[name][1] == "ok" for name in doctor.PACKAGES)


def test_missing_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name in ("pandas", "torchvision"):
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setattr(doctor, "_ask_torch", lambda: {"torch": "2.9.0", "threads": 1, "devices": []})
    monkeypatch.setitem(sys.modules, "psutil", None)
    found = told()
    assert found["pandas"] == ("not installed", "install it: pip install pandas")
    assert found["torchvision"][0] == "not installed"
    assert "torch and torchvision" not in found
    assert found["free memory"] == ("unknown", "psutil is not installed")


def test_torch_that_dies_or_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    def dead(*args: Any, **options: Any) -> Any:
        return subprocess.CompletedProcess(args, -11, "", "")

    monkeypatch.setattr(subprocess, "run", dead)
    assert "code -11" in told()["torch"][1]

    def hangs(*args: Any, **options: Any) -> Any:
        raise subprocess.TimeoutExpired("python", 1)

    monkeypatch.setattr(subprocess, "run", hangs)
    assert "cannot be imported" in told()["torch"][1]


def test_a_file_called_torch_is_not_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch.py").write_text("raise SystemExit")
    monkeypatch.chdir(tmp_path)
    assert told()["torch"][1] == "ok"


@pytest.mark.parametrize(
    ("torch", "torchvision", "requires", "value"),
    [
        ("2.9.0+cpu", "0.24.0", ["numpy", "torch==2.9.0"], "fit"),
        ("2.10.0", "0.24.0", ["torch==2.9.0"], "do not fit"),
        ("2.9.1", "0.24.1", [], "fit"),
        ("2.9.1", "0.20.0", [], "do not fit"),
        ("3.0.0", "1.0.0", [], "unknown"),
    ],
)
def test_pairs(monkeypatch: pytest.MonkeyPatch, torch: str, torchvision: str, requires: list[str], value: str) -> None:
    monkeypatch.setattr(doctor, "_requirements", lambda name: requires)
    found = doctor._pair(torch, torchvision)
    assert found is not None
    assert found[0] == value
    assert (found[1] == "ok") == (value != "do not fit")


def test_gpu_that_torch_cannot_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/nvidia-smi")
    assert "built without CUDA" in doctor._devices({"torch": "2.9.0", "cuda": None, "devices": []})[0][2]
    card = {"name": "H100", "free": 2**36, "total": 2**36}
    assert doctor._devices({"devices": [card]}) == [("cuda:0", "H100, 64 GiB of 64 GiB free", "ok")]


def test_too_many_threads() -> None:
    assert "OMP_NUM_THREADS" in {line[0]: line[2] for line in doctor._cores({"threads": 512})}["torch threads"]
