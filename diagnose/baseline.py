"""A baseline: the findings that are known and accepted, so that only new ones fail a run.

A finding is recognised by its name and the text of the line it points at, so that moved lines stay known.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from diagnose.errors import UsageError
from diagnose.store import write_atomically
from probes.results import Finding, RunResults, Severity

VERSION = 1
Key = tuple[str, str, str]


def write_baseline(results: RunResults, path: Path) -> int:
    """Writes every warning and error of a run; how many there are."""
    keys = sorted({_key(finding) for finding in _findings(results)})
    content = {
        "baseline_version": VERSION,
        "findings": [{"name": name, "file": file, "text": text} for name, file, text in keys],
    }
    write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())
    return len(keys)


def read_baseline(path: Path) -> set[Key]:
    """Raises UsageError where the file is missing or no baseline."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {(item["name"], item.get("file", ""), item.get("text", "")) for item in content["findings"]}
    except FileNotFoundError:
        raise UsageError(
            f"--baseline {path}: there is no such file. Write it with --write-baseline {path}, then commit it."
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"--baseline {path}: not a baseline ({type(error).__name__}: {error}).") from None


def new_findings(results: RunResults, known: set[Key]) -> list[Finding]:
    """Warnings and errors that the baseline does not hold."""
    return [finding for finding in _findings(results) if _key(finding) not in known]


def _findings(results: RunResults) -> Iterator[Finding]:
    return (f for r in results.results for f in r.findings if f.severity is not Severity.NOTE)


def _key(finding: Finding) -> Key:
    where = finding.where[0] if finding.where else None
    return finding.name, where.file if where else "", where.text if where else ""
