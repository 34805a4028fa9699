"""What is shown while a run goes on: epochs as lines, short trainings as a table or as lines."""

from __future__ import annotations

import io
import os
from typing import Any

import pytest
from rich.console import Console

from diagnose.arms_table import BARS, WIDEST, ArmsTable
from diagnose.console import console
from diagnose.display import Progress, make_display
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


def trace(name: str, seed: int, outcome: str, *losses: float | None) -> dict[str, Any]:
    points = [{"train_loss": loss} for loss in losses]
    return {"name": name, "seed": seed, "outcome": outcome, "points": points, "steps": 100 * (len(losses) - 1)}


def rows(table: ArmsTable, some: int | None = None) -> list[str]:
    shown = Console(file=io.StringIO(), record=True, width=120)
    shown.print(table.table(some))
    return [line.rstrip() for line in shown.export_text().splitlines()[1:]]


def test_each_arm_is_a_row_with_its_curve_seeds_verdict_and_time_left() -> None:
    now = [0.0]
    table = ArmsTable(clock=lambda: now[0])
    table.expect(["as configured", "no dropout"], 3)
    table.step("as configured", 0, 10, 600, 2.3)
    now[0] = 10.0
    table.step("as configured", 0, 110, 600, 2.2)
    configured, waiting = rows(table)
    assert "2.300 to 2.200" in configured
    assert configured.endswith("49 s")  # ten steps per second, 490 to go
    assert waiting.split() == ["no", "dropout"]
    assert table.total == "0 of 6 short trainings"
    table.finished(trace("as configured", 0, "stuck", 2.3, 2.3, 2.3))
    table.finished(trace("no dropout", 0, "learns", 2.3, 1.2, 0.4))
    table.finished(trace("no dropout", 1, "stuck", 2.3, None))
    assert table.total == "3 of 6 short trainings, about 10 s left"
    configured, other = rows(table)
    assert configured.split()[-2:] == ["1", "no"]
    assert other.endswith("1 of 2")
    assert [row.split() for row in rows(table, 1)] == [other.split()]
    assert "2.300 to not finite" in other


def test_the_curve_of_an_arm_is_never_wider_than_its_column() -> None:
    table = ArmsTable()
    for step in range(500):
        table.step("as configured", 0, step, 600, 5.0 - step / 100)
    (row,) = rows(table)
    assert sum(block in BARS for block in row) <= WIDEST
    assert "█" in row


@pytest.mark.parametrize("terminal", [True, False])
def test_a_table_stands_on_a_terminal_and_lines_elsewhere(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    written = io.StringIO()
    shown = Progress(console=Console(file=written, force_terminal=terminal, width=120, height=30))
    shown.stage("ablate", "does it learn?")
    shown.arms(["as configured", "no dropout"], 1)
    shown.trial_step("as configured", 0, 300, 600, 2.3)
    shown.trial(trace("as configured", 0, "stuck", 2.3, 2.3))
    shown.trial(trace("no dropout", 0, "learns", 2.3, 0.4))
    before = len(written.getvalue())
    shown.stage_done(StageResult("subset", Status.FAIL, "", 1.0))
    last = written.getvalue()[before:]
    assert ("learns?" in last) is terminal
    assert ("no dropout" in last) is terminal
    assert ("no dropout, seed 0" in written.getvalue()) is not terminal


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    shown = make_display(quiet=True, verbose=True)
    shown.arms(["as configured"], 3)
    shown.trial_step("as configured", 0, 1, 2, 1.0)
    shown.trial(trace("as configured", 0, "learns", 1.0))
    shown.close()
    assert capsys.readouterr() == ("", "")
