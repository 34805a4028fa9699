"""How right the tool's answers are: every case of the zoo, rehearsed from data to subset.

    python benchmarks/accuracy/run.py [--seeds 0,1] [--stages data,smoke] [--only TEXT] [--healthy | --faulty]
                                      [--jobs 2] [--out FILE]

Each finished case is a line of FILE; started again, it goes on with what is missing. ``table.py`` makes the tables.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any

RENEWED = 60  # rehearsals per set of processes
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]


def judge(case_id: str, seed: int, until: tuple[str, ...]) -> dict[str, Any]:
    """One case under one seed, in this process, through the stages named."""
    import os

    import torch
    from rehearsal import rehearse
    from zoo import all_cases

    from probes.api import Stage
    from probes.results import Severity, Status

    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    torch.set_num_threads(1)
    case = all_cases()[case_id]
    stages = [Stage(name) for name in until if case.trains or name in {"data", "smoke"}]
    row: dict[str, Any] = {
        "id": case_id,
        "fault": case.fault,
        "also": case.also,
        "seed": seed,
        "held_out": case.held_out,
        "unseen": case.unseen,
    }
    started = time.monotonic()
    try:
        seen = rehearse(case.build, seed, stages)
    except BaseException as error:
        row["broken"] = f"{type(error).__name__}: {error}\n{traceback.format_exc(limit=-3)}"
        return row | {"seconds": time.monotonic() - started}
    findings = [(f, r) for r in seen.results for f in r.findings]
    return row | {
        "seconds": time.monotonic() - started,
        "verdict": str(seen.verdict),
        "causes": [[cause.name, str(cause.grade)] for cause in seen.diagnosis.causes],
        "answer": asdict(seen.diagnosis.causes[0]) if seen.diagnosis.causes else {},
        "symptoms": list(seen.diagnosis.symptoms),
        "errors": [f.name for f, _ in findings if f.severity is Severity.ERROR],
        "warnings": [f.name for f, _ in findings if f.severity is Severity.WARNING],
        "notes": [f.name for f, _ in findings if f.severity is Severity.NOTE],
        "messages": {f.name: f.message for f, _ in findings},
        "where": {f.name: len(f.where) for f, _ in findings},
        "internal": {r.name: r.reason for r in seen.results if r.status is Status.INTERNAL},
        "stages": {s.name: [str(s.status), s.reason] for s in seen.stages},
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seeds", default="0")
    options.add_argument("--stages", default="data,smoke,overfit,subset")
    options.add_argument("--only", default="", help="cases whose id holds one of these comma-separated texts")
    options.add_argument("--skip", default="", help="no cases whose id holds one of these")
    options.add_argument("--healthy", action="store_true")
    options.add_argument("--faulty", action="store_true")
    options.add_argument("--families", action="store_true", help="the families of torchvision and timm too")
    options.add_argument("--jobs", type=int, default=2)
    options.add_argument("--out", type=Path, default=ROOT / ".accuracy" / "results.jsonl")
    given = options.parse_args()

    from zoo import all_cases

    cases = {
        case.id: case
        for case in all_cases(families=given.families).values()
        if any(text in case.id for text in given.only.split(","))
        and not any(text in case.id for text in given.skip.split(",") if text) and not (given.healthy and case.fault)
        and not (given.faulty and not case.fault)
    }  # fmt: skip
    until = tuple(given.stages.split(","))
    seeds = [int(seed) for seed in given.seeds.split(",")]
    given.out.parent.mkdir(parents=True, exist_ok=True)
    known = [json.loads(line) for line in given.out.read_text().splitlines()] if given.out.exists() else []
    done = {(row["id"], row["seed"]) for row in known}
    asked = [(name, seed) for seed in seeds for name in cases if (name, seed) not in done]
    print(f"{len(asked)} rehearsals to make, {len(done)} made already", file=sys.stderr)
    count = 0
    with given.out.open("a") as file:
        for start in range(0, len(asked), RENEWED):  # fresh processes now and then: trainings leave memory behind
            with ProcessPoolExecutor(given.jobs, mp_context=get_context("spawn")) as pool:
                for future in as_completed(
                    [pool.submit(judge, *pair, until) for pair in asked[start : start + RENEWED]]
                ):
                    row = future.result()
                    count += 1
                    file.write(json.dumps(row, default=str) + "\n")
                    file.flush()
                    answer = row.get("broken", "").splitlines()[:1] or (row["causes"][:1] or ["-"])
                    told = f"{row['seconds']:5.1f} s  {row['id']} seed {row['seed']}: {answer[0]}"
                    print(f"{count}/{len(asked)} {told}", file=sys.stderr)


if __name__ == "__main__":
    main()
