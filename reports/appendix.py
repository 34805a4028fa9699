"""The appendix: everything that someone who helps from afar would ask for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from probes.results import RunResults, Severity, Trace
from reports.causes import block_of
from reports.curves import history_table
from reports.numbers import figure, one_line
from reports.shapes import AppendixView, Block, TableView

FIRST_EPOCHS = 10
FIRST_ITEMS = 12
"""How many items of a long list, such as the class names, are printed."""
USUAL = {"device": "auto", "fail_on": "error"}
"""Settings whose default is not empty, off or zero."""


def appendix(results: RunResults) -> AppendixView:
    facts = {key: value for key, value in results.pipeline.items() if key != "warnings"}
    seeds = [seed for source in (results.config, results.environment) if (seed := source.get("seed")) is not None]
    tables = [
        _pairs("Environment", results.environment),
        _pairs("Configuration, where it differs from the defaults", _chosen(results.config, seeds)),
        _pairs("Pipeline", facts),
        _history(results),
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
            yield name, _leaf(str(key), value)


def _leaf(key: str, value: Any) -> str:
    if isinstance(value, (list, tuple)) and len(value) > FIRST_ITEMS:
        return f"{figure(key, value[:FIRST_ITEMS])}, ... {len(value) - FIRST_ITEMS:,} more"
    return figure(key, value)


def _chosen(config: Mapping[str, Any], seeds: Sequence[Any]) -> dict[str, Any]:
    """What was asked for; the seed in any case."""
    chosen = {
        key: value
        for key, value in config.items()
        if key != "seed" and value not in (None, False, "", (), {}) and value != [] and value != USUAL.get(key)
    }
    return {**chosen, "seed": seeds[0]} if seeds else chosen


def _pairs(title: str, values: Mapping[str, Any]) -> TableView | None:
    rows = tuple(flat(values))
    return TableView(("name", "value"), rows, title) if rows else None


def _history(results: RunResults) -> TableView | None:
    total = len(results.training.history)
    title = f"History, all {total} rows" if total <= FIRST_EPOCHS else f"History, first {FIRST_EPOCHS} of {total} rows"
    return history_table(results.training.history, FIRST_EPOCHS, title)


def _failures(results: RunResults) -> Iterator[Block]:
    """Exceptions with the user's frames, by the check that met them; those that the report has shown are left out."""
    causes = results.diagnosis.causes
    folded = {name for cause in causes for name in cause.consequences} | {cause.name for cause in causes[1:]}
    for result in results.results:
        for finding in result.findings:
            shown = finding.severity is Severity.ERROR and finding.name not in folded
            for item in () if shown else finding.evidence:
                block = block_of(item) if isinstance(item, Trace) else None
                if block:
                    yield Block(f"{result.name} ({result.stage}): {block.title}", block.body)
