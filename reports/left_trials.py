"""The short trainings that a run had finished when it was cut off, before an experiment could judge them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from probes.learning._curves import in_words
from probes.results import Finding, Result, Scalar, Severity, Status, Table

CODE, NAME = "FIT009", "settings-compared"
_COLUMNS = ("change", "seed", "steps", "loss at start", "loss at end", "train accuracy", "val accuracy", "learns?")


def left_trials(traces: Iterable[Mapping[str, Any]], *, resumed: bool) -> Result | None:
    """One result that shows ``traces``, which are as the events hold them; None where none of them can be read.
    ``resumed``: the command can go on where it was cut off."""
    rows = [row for trace in traces if (row := _row(trace))]
    if not rows:
        return None
    message = (
        "The run ended during its experiments. Nothing is concluded yet from the {trials} short trainings that were "
        "finished" + ("; with --resume they are not made again." if resumed else ".")
    )
    values = {"trials": len(rows)}
    table = Table(_COLUMNS, rows, "Each row is one short training on the same samples")
    finding = Finding(NAME, Severity.NOTE, message.format(**values), values, evidence=(table,))
    return Result(CODE, NAME, "subset", Status.INCONCLUSIVE, "the run ended during its experiments", (finding,))


def _row(trace: Mapping[str, Any]) -> list[Scalar]:
    """Empty where the trace is of another version, or damaged."""
    try:
        first, last = trace["points"][0], trace["points"][-1]
        return [
            trace["name"], trace["seed"], trace["steps"], first["train_loss"], last["train_loss"],
            last["train_score"], last["val_score"],
            in_words(trace["outcome"], trace.get("share"), trace.get("val_above_chance")),
        ]  # fmt: skip
    except (KeyError, IndexError, TypeError):
        return []
