"""Which epochs of a training are told as lines."""

from __future__ import annotations

import os

import pytest

from diagnose.console import console
from diagnose.display import Progress
from probes.results import StageResult, Status


def told(epochs: range, capsys: pytest.CaptureFixture[str], stage: str = "train") -> list[str]:
    shown = Progress()
    shown.stage(stage, "what?")
    for epoch in epochs:
        shown.epoch({"epoch": epoch, "train_loss": 1.0, "val_loss": 1.1, "seconds": 2.0})
    shown.stage_done(StageResult(stage, Status.PASS, "", 1.0))
    return [line.split(":")[0].strip() for line in capsys.readouterr().err.splitlines() if "epoch" in line]


def test_the_first_the_key_epochs_and_the_last_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(range(1, 8), capsys) == ["epoch 1", "epoch 5", "epoch 7"]
    assert told(range(1, 6), capsys) == ["epoch 1", "epoch 5"]


def test_a_resumed_training_tells_where_it_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(range(6, 9), capsys) == ["epoch 6", "epoch 8"]
    assert told(range(7, 8), capsys) == ["epoch 7"]
    assert told(range(3, 4), capsys, "subset") == []


def test_a_reader_that_goes_away_is_no_faulty_pipeline() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", buffering=1) as gone:
        with pytest.raises(BrokenPipeError):
            console(file=gone).print("a line")
        os.dup2(os.open(os.devnull, os.O_WRONLY), gone.fileno())  # what is left over has somewhere to go
