"""Recall, first answer and false alarms of ``diagnose watch`` over the scripts of tests/loops.

``python -m benchmarks.loops.run [--seeds 5] [--only TEXT]``. Each run is a fork of a process that has imported what
the scripts import.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from diagnose.config import Config
from diagnose.diagnosis import diagnose as find_causes
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", default="")
    parser.add_argument("--out", default="")
    chosen = parser.parse_args()
    warm_up()
    jobs: list[tuple[str, tuple[str, ...], str]]
    jobs = [(f"{program} (healthy)", (), healthy(program)) for program in programs()]
    jobs += [(f"{case.program} (healthy: {case.name})", (), case.source()) for case in LOOKALIKES]
    jobs += [(case.id, case.answers, case.source()) for case in CASES]
    count: Counter[str] = Counter()
    rows = []
    started = time.monotonic()
    for label, expected, source in jobs:
        if chosen.only not in label:
            continue
        for seed in range(chosen.seeds):
            told = run(source, seed)
            kind = "faulty" if expected else "healthy"
            count[kind] += 1
            right = any(name in told["found"] for name in expected) if expected else not told["found"]
            count[f"{kind} right"] += right
            count["first"] += told["first"] in expected
            count["failed"] += told["code"] != 0
            rows.append({"case": label, "seed": seed, "expected": expected, **told})
            if not right or told["code"] or told["log"] or (expected and told["first"] not in expected):
                print(f"{label} seed {seed}: found {told['found']}, first {told['first']!r} {told['log']}", flush=True)
        if chosen.out:
            Path(chosen.out).write_text(json.dumps(rows, indent=1))
    print(
        f"{len(jobs)} scripts, {chosen.seeds} seeds, {time.monotonic() - started:.0f} s: "
        f"recall {count['faulty right']}/{count['faulty']}, first answer {count['first']}/{count['faulty']}, "
        f"healthy without finding {count['healthy right']}/{count['healthy']}, scripts that failed {count['failed']}"
    )


if __name__ == "__main__":
    main()
