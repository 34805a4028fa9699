"""Reads a run folder, of this version or an older one, finished or cut off. Executes nothing from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from probes.results import RunResults
from reports.fold import fold
from reports.schema import UnreadableRun, parse

__all__ = ["UnreadableRun", "load_results", "read_events"]


def load_results(folder: Path) -> RunResults:
    """``results.json``, or, where it is missing, damaged or older than ``events.jsonl``, the fold of the events.

    Raises UnreadableRun with one sentence when neither can be read.
    """
    results, events = folder / "results.json", folder / "events.jsonl"
    if not results.is_file() and not events.is_file():
        raise UnreadableRun(f"{folder} holds no run: there is neither results.json nor events.jsonl.")
    if results.is_file() and not _is_outdated(results, events):
        try:
            return parse(_read_json(results))
        except UnreadableRun:
            if not events.is_file():
                raise
    try:
        return fold(read_events(events))
    except UnreadableRun:
        if not results.is_file():
            raise
        return parse(_read_json(results))


def read_events(path: Path) -> list[dict[str, Any]]:
    """The events in order; lines that are damaged or torn are left out. Raises UnreadableRun where there are none."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise UnreadableRun(f"{path} cannot be read: {error.strerror}.") from error
    events = [event for line in lines if isinstance(event := _parsed(line), dict)]
    if not events:
        raise UnreadableRun(f"{path} holds no events.")
    return events


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise UnreadableRun(f"{path} is damaged: {error}.") from error
    if not isinstance(data, dict):
        raise UnreadableRun(f"{path} is damaged: it holds no object.")
    return data


def _is_outdated(results: Path, events: Path) -> bool:
    """A run that was resumed and then killed has added events since the results were written."""
    return events.is_file() and events.stat().st_mtime_ns > results.stat().st_mtime_ns
