"""The tables of the accuracy benchmark, from the lines that ``run.py`` wrote.

    python benchmarks/accuracy/table.py [FILE]

A fault counts as found where its name (or one that the case says is as right) is an error or a warning; as named first
where it is the first cause. A healthy case is an alarm where there is any error or warning.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def accepted(row: Row) -> set[str]:
    return {row["fault"], *row["also"]}


def is_found(row: Row, *, warnings: bool = True) -> bool:
    seen = set(row.get("errors", ())) | (set(row.get("warnings", ())) if warnings else set())
    return bool(seen & accepted(row))


def is_detected(row: Row) -> bool:
    """Anything at all was said."""
    return bool(row.get("errors") or row.get("warnings"))


def is_first(row: Row) -> bool:
    return bool(row.get("causes")) and row["causes"][0][0] in accepted(row)


def share(rows: Iterable[Row], test: Any) -> str:
    items = list(rows)
    count = sum(bool(test(row)) for row in items)
    return f"{count}/{len(items)} ({count / len(items):.1%})" if items else "-"


def table(rows: list[Row]) -> str:
    faulty, healthy = [r for r in rows if r["fault"]], [r for r in rows if not r["fault"]]
    lines = ["| | all | developed on | held out | unseen |", "|---|---|---|---|---|"]

    def line(name: str, group: list[Row], test: Any) -> None:
        unseen, held_out = ([r for r in group if r.get(key)] for key in ("unseen", "held_out"))
        parts = [group, [r for r in group if r not in unseen and r not in held_out], held_out, unseen]
        lines.append(f"| {name} | " + " | ".join(share(part, test) for part in parts) + " |")

    line("faults of which anything is said", faulty, is_detected)
    line("faults found by name", faulty, is_found)
    line("named first", faulty, is_first)
    line("... proved", faulty, lambda r: is_first(r) and r["causes"][0][1] == "proved")
    line("healthy with an error", healthy, lambda r: r.get("errors"))
    line("healthy with an error or a warning", healthy, lambda r: r.get("errors") or r.get("warnings"))
    line("internal errors", rows, lambda r: r.get("internal") or r.get("broken"))
    return "\n".join(lines)


def confusions(rows: list[Row]) -> str:
    lines = []
    for row in sorted(rows, key=lambda r: (r["id"], r["seed"])):
        said = ", ".join(f"{name} ({grade})" for name, grade in row.get("causes", ())) or "nothing"
        if row["fault"] and not is_first(row):
            found = "found, not first" if is_found(row) else "missed"
            lines.append(f"- `{row['id']}` seed {row['seed']}: {found}; answered {said}")
        elif not row["fault"] and (row.get("errors") or row.get("warnings")):
            lines.append(f"- `{row['id']}` seed {row['seed']}: healthy; alarmed {row['errors'] + row['warnings']}")
    return "\n".join(lines)


if __name__ == "__main__":
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[2] / ".accuracy/results.jsonl"
    found = [json.loads(line) for line in source.read_text().splitlines()]
    print(table(found) + "\n\n" + confusions(found))
    seconds = sorted(row["seconds"] for row in found)
    print(f"\n{len(found)} rehearsals, median {seconds[len(seconds) // 2]:.1f} s, longest {seconds[-1]:.1f} s")
