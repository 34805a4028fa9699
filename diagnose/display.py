"""What a run shows while it goes on, on stderr: live on a terminal, plain lines elsewhere, nothing when quiet."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from diagnose.arms_table import ArmsTable, sparkline
from diagnose.plan import OUT_OF_TIME
from probes.learning._curves import in_words
from probes.results import Result, StageResult, Status
from reports.numbers import duration, figure, plural
from reports.terminal import probe_line

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live


KEY_EPOCHS = (1, 5, 10, 20, 30, 50, 100)  # told as lines of their own


class Quiet:
    """Shows nothing."""

    def stage(self, stage: str, question: str) -> None: ...

    def probe(self, name: str) -> None: ...

    def progress(self, what: str, done: int, of: int) -> None: ...

    def result(self, result: Result) -> None: ...

    def stage_done(self, stage: StageResult) -> None: ...

    def output(self, line: str) -> None: ...

    def arms(self, labels: Sequence[str], seeds: int) -> None: ...

    def trial_step(self, arm: str, seed: int, done: int, of: int, loss: float | None) -> None: ...

    def trial(self, trace: dict[str, Any]) -> None: ...

    def alert(self, name: str, since: str, text: str, fix: str) -> None: ...

    def epoch(self, row: Mapping[str, Any]) -> None: ...

    def close(self) -> None: ...


class Progress(Quiet):
    """Stage by stage. Where stderr is a terminal, the running probe and its steps are one live line, and short
    trainings a table that stays; elsewhere each finished one is a line."""

    def __init__(self, *, verbose: bool = False, console: Console | None = None) -> None:
        from rich.console import Console
        from rich.spinner import Spinner

        self._console = console or Console(stderr=True, highlight=False, soft_wrap=True)
        self._spinner = Spinner("dots")
        self._verbose = verbose
        self._live = self._console.is_terminal and "NO_COLOR" not in os.environ
        self._standing: Live | None = None
        self._doing = ""
        self._arms = ArmsTable()
        self._passed = 0
        self._pass = ("", 0, 0.0)
        self._is_training = self._told_epoch = False
        self._untold: Mapping[str, Any] | None = None

    def stage(self, stage: str, question: str) -> None:
        self._passed = 0
        self._is_training, self._told_epoch = stage == "train", False
        self._print(f"{stage}: {question}")
        self._arms = ArmsTable()
        self._doing = ""
        if self._live:
            from rich.live import Live

            self._standing = Live(get_renderable=self._view, console=self._console, refresh_per_second=4)
            self._standing.start()

    def probe(self, name: str) -> None:
        self._doing = name

    def progress(self, what: str, done: int, of: int) -> None:
        self._doing = f"{what} [{done}/{of}]{self._left(what.partition(',')[0], done, of)}"

    def _left(self, what: str, done: int, of: int) -> str:
        """The time that the rest of this pass will take, by what it took so far."""
        now = time.monotonic()
        if self._pass[0] != what or done < self._pass[1]:
            self._pass = (what, done, now)
        _, first, since = self._pass
        return f", {duration((now - since) / (done - first) * (of - done))} left" if first < done < of else ""

    def epoch(self, row: Mapping[str, Any]) -> None:
        """The key epochs; of the full training also the first one, for a resumed one begins late, and the last."""
        if "seconds" not in row:
            return
        if row.get("epoch") in KEY_EPOCHS or (self._is_training and not self._told_epoch):
            self._tell_epoch(row)
        elif self._is_training:
            self._untold = row

    def _tell_epoch(self, row: Mapping[str, Any]) -> None:
        self._told_epoch, self._untold = True, None
        told = [f"{key.replace('_', ' ')} {figure(key, row[key])}" for key in row if key.startswith(("train_", "val_"))]
        self._print(f"  epoch {row['epoch']}: {', '.join(told)} ({duration(row['seconds'])})")

    def result(self, result: Result) -> None:
        if result.status is Status.PASS and not self._verbose:
            self._passed += 1
            return
        if result.status is Status.SKIPPED and not self._verbose:
            return
        if result.reason == OUT_OF_TIME:  # told once, by the stage
            return
        self._print(f"  {probe_line(result)}")

    def stage_done(self, stage: StageResult) -> None:
        self.close()
        if self._untold is not None:
            self._tell_epoch(self._untold)
        words = {Status.PASS: "passed", Status.FAIL: "FAILED", Status.CRASHED: "CRASHED"}.get(
            stage.status, str(stage.status)
        )
        checks = f", {plural(self._passed, 'check')} clean" if self._passed else ""
        self._passed = 0
        if stage.status is Status.SKIPPED:
            self._print(f"{stage.name}: skipped, {stage.reason}")
        else:
            self._print(f"{stage.name}: {words} in {stage.seconds:.1f} s{checks}")

    def arms(self, labels: Sequence[str], seeds: int) -> None:
        self._arms.expect(labels, seeds)

    def trial_step(self, arm: str, seed: int, done: int, of: int, loss: float | None) -> None:
        self._arms.step(arm, seed, done, of, loss)

    def _view(self) -> RenderableType:
        """What stands below the lines that have been printed: the table, as far as it fits, and what is being done."""
        from rich.console import Group

        if self._standing is None:  # the last time: what was found stays
            return self._arms.table() if self._arms else ""
        self._spinner.update(text=f" {self._arms.total or self._doing}")
        if not self._arms:
            return self._spinner
        return Group(self._arms.table(self._console.height - BELOW_AND_ABOVE), self._spinner)

    def trial(self, trace: dict[str, Any]) -> None:
        """A finished trial as one line, its training loss as a sparkline; where there is a table, in its row."""
        self._arms.finished(trace)
        if self._standing is not None:
            return
        losses = [point["train_loss"] for point in trace["points"]]
        ends = " to ".join("not finite" if loss is None else f"{loss:.3f}" for loss in (losses[0], losses[-1]))
        label = f"{trace['name']}, seed {trace['seed']}"
        if len(label) > LABEL_WIDTH:
            self._print(f"  {label}")
            label = ""
        curve = f"{label:<{LABEL_WIDTH}} {sparkline(losses):<14}"
        learns = in_words(str(trace["outcome"]), trace.get("share"), trace.get("val_above_chance"))
        self._print(f"  {curve} loss {ends} in {trace['steps']} steps; learns: {learns}")

    def output(self, line: str) -> None:
        self._print(f"  | {line.rstrip()}")

    def alert(self, name: str, since: str, text: str, fix: str) -> None:
        self._print(f"  {name}, {since}: {text}\n    What to do: {fix}")

    def close(self) -> None:
        if self._standing is not None:
            standing, self._standing = self._standing, None
            standing.transient = not self._arms
            standing.stop()

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False)


LABEL_WIDTH = 48
BELOW_AND_ABOVE = 8  # lines of a terminal that the table leaves free


def make_display(*, quiet: bool, verbose: bool) -> Quiet:
    return Quiet() if quiet or not sys.stderr else Progress(verbose=verbose)
