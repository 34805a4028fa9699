"""The appendix: everything that someone who helps from afar would ask for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from probes.results import RunResults, Trace
from reports.causes import block_of
from reports.curves import history_table
from reports.numbers import duration, figure, one_line
from reports.shapes import AppendixView, Block, TableView
from reports.words import OUTCOMES

FIRST_EPOCHS = 10


def appendix(results: RunResults) -> AppendixView:
    facts = {key: value for key, value in results.pipeline.items() if key != "warnings"}
    seeds = [seed for source in (results.config, results.environment) if (seed := source.get("seed")) is not None]
    tables = [
        _pairs("Environment", results.environment),
        _pairs(
            "Configuration",
            results.config if "seed" in results.config or not seeds else {**results.config, "seed": seeds[0]},
        ),
        _pairs("Pipeline", facts),
        _history(results),
        _stages(results),
    ]
    return AppendixView(
        reproduce=one_line(results.reproduce),
        tables=tuple(table for table in tables if table),
        warnings=tuple(one_line(item) for item in results.pipeline.get("warnings") or ()),
        failures=tuple(_failures(results)),
    )


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested mappings and lists of mappings as dotted names; each leaf as text."""
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{name}.")
        elif isinstance(value, (list, tuple)) and value and all(isinstance(item, Mapping) for item in value):
            for index, item in enumerate(value):
                yield from flat(item, f"{name}[{index}].")
        else:
            yield name, figure(str(key), value)


def _pairs(title: str, values: Mapping[str, Any]) -> TableView | None:
    rows = tuple(flat(values))
    return TableView(("name", "value"), rows, title) if rows else None


def _history(results: RunResults) -> TableView | None:
    total = len(results.training.history)
    title = f"History, all {total} rows" if total <= FIRST_EPOCHS else f"History, first {FIRST_EPOCHS} of {total} rows"
    return history_table(results.training.history, FIRST_EPOCHS, title)


def _stages(results: RunResults) -> TableView | None:
    if not results.stages:
        return None
    rows = [(stage.name, OUTCOMES[stage.status], duration(stage.seconds)) for stage in results.stages]
    rows.append(("all", "", duration(sum(stage.seconds for stage in results.stages))))
    return TableView(("stage", "outcome", "time"), tuple(rows), "Time by stage")


def _failures(results: RunResults) -> Iterator[Block]:
    """Exceptions with the user's frames, by the check that met them."""
    for result in results.results:
        for finding in result.findings:
            for item in finding.evidence:
                block = block_of(item) if isinstance(item, Trace) else None
                if block:
                    yield Block(f"{result.name} ({result.stage}): {block.title}", block.body)
