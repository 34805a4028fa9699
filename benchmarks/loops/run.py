"""Recall, first answer and false alarms of ``diagnose watch`` over the scripts of tests/loops.

``python -m benchmarks.loops.run [--seeds 5] [--only TEXT] [--out FILE]``. Each run is a fork of a process that has
imported what the scripts import. What FILE holds already is not run again: it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from diagnose.config import Config
from diagnose.diagnosis import diagnose as find_causes
from diagnose.store import write_atomically
from diagnose.watch import judge
from diagnose.watch.child import Run
from probes import catalogue
from probes.records.loop import Loop
from probes.results import Severity
from reports.schema import validate
from tests.loops.cases import CASES, healthy, programs
from tests.loops.lookalikes import LOOKALIKES

CONFIG = Config()


def run(source: str, seed: int) -> dict[str, Any]:
    """What watch finds in a script: errors and warnings by name, the first cause, how the script ended."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "train.py"
        script.write_text(source, encoding="utf-8")
        record = Path(folder) / "record.json"
        limits = {"steps": None, "epochs": None, "minutes": None}
        job = {"kind": "script", "words": [str(script)], "limits": limits, "record": str(record)}
        pid = os.fork()
        if pid == 0:
            os.environ["SEED"] = str(seed)
            os.chdir(folder)
            log = os.open("log.txt", os.O_WRONLY | os.O_CREAT)
            os.dup2(log, 1)
            os.dup2(log, 2)
            code = 1
            try:
                program = Run(job)
                program.start()
                code = 0
            finally:
                try:
                    program.finish()
                finally:
                    os._exit(code)
        _, status = os.waitpid(pid, 0)
        if not record.is_file():
            return {"found": {}, "first": "", "code": status, "log": (Path(folder) / "log.txt").read_text()[-600:]}
        data = json.loads(record.read_text())
        loop = validate(Loop, data["loop"])
        results = [*judge.judge(loop, CONFIG), *judge.parts(data["parts"], CONFIG, loop)]
        stage = judge.stage(loop, results, 0.0)
        causes = find_causes(results, [stage]).causes
        findings = [f for r in results for f in r.findings if f.severity is not Severity.NOTE]
        internal = [r.reason for r in results if r.status == "internal"]
        return {
            "found": {f.name: str(f.severity) for f in findings},
            "first": causes[0].name if causes else "",
            "code": status,
            "log": (Path(folder) / "log.txt").read_text()[-600:] if status else "\n".join(internal),
        }


def warm_up() -> None:
    """What most scripts import, once for all: the larger part of their time."""
    for name in ("sklearn.datasets", "torch._dynamo", *(f"diagnose.watch.{part}" for part in ("replay", "progress"))):
        importlib.import_module(name)
    for name in catalogue.names():
        catalogue.module(name)


def jobs() -> list[tuple[str, tuple[str, ...], str]]:
    """(label, the names that are a right answer, the script); healthy ones have no such names."""
    found: list[tuple[str, tuple[str, ...], str]]
    found = [(f"{program} (healthy)", (), healthy(program)) for program in programs()]
    found += [(f"{case.program} (healthy: {case.name})", (), case.source()) for case in LOOKALIKES]
    found += [(case.id, case.answers, case.source()) for case in CASES]
    times: Counter[str] = Counter()
    numbered = []
    for label, expected, source in found:
        times[label] += 1
        numbered.append((f"{label} {times[label]}" if times[label] > 1 else label, expected, source))
    return numbered


def commit() -> str:
    """Of the code that is measured; ends in + where files differ from it."""
    words = ["git", "describe", "--always", "--exclude=*", "--dirty=+"]
    told = subprocess.run(words, capture_output=True, text=True, check=False, cwd=Path(__file__).parent)
    return told.stdout.strip()


def is_right(row: dict[str, Any]) -> bool:
    return any(name in row["found"] for name in row["expected"]) if row["expected"] else not row["found"]


def told(rows: list[dict[str, Any]]) -> str:
    """The figures of some runs."""
    faulty, silent = [r for r in rows if r["expected"]], [r for r in rows if not r["expected"]]
    return (
        f"recall {sum(map(is_right, faulty))}/{len(faulty)}, "
        f"first answer {sum(r['first'] in r['expected'] for r in faulty)}/{len(faulty)}, "
        f"healthy without finding {sum(map(is_right, silent))}/{len(silent)}, "
        f"scripts that failed {sum(r['code'] != 0 for r in rows)}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", default="")
    parser.add_argument("--out", default="")
    chosen = parser.parse_args()
    warm_up()
    out, version = Path(chosen.out), commit()
    rows = json.loads(out.read_text()) if chosen.out and out.is_file() else []
    known = {(row["case"], row["seed"]) for row in rows}
    for seed, (label, expected, source) in product(range(chosen.seeds), jobs()):
        if chosen.only not in label or (label, seed) in known:
            continue
        row = {"case": label, "seed": seed, "commit": version, "expected": expected, **run(source, seed)}
        rows.append(row)
        if not is_right(row) or row["code"] or row["log"] or (expected and row["first"] not in expected):
            print(f"{label} seed {seed}: found {row['found']}, first {row['first']!r} {row['log']}", flush=True)
        if chosen.out:
            write_atomically(out, json.dumps(rows, indent=1).encode())
    for seed, version in sorted({(row["seed"], row["commit"]) for row in rows}):
        print(f"seed {seed}, {version}: {told([r for r in rows if (r['seed'], r['commit']) == (seed, version)])}")
    print(f"all: {told(rows)}")


if __name__ == "__main__":
    main()
