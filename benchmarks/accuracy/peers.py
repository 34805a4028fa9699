"""The same cases, judged by the tools that people use today.

    python benchmarks/accuracy/peers.py [--programs a,b] [--seeds 0] [--tools a,b] [--minutes 20] [--out FILE]
    python benchmarks/accuracy/peers.py --table FILE

Healthy cases come first, then the faulty ones in a fixed random order: where the time runs out, what is done is a
random part of them. Each finished case and tool is a line of FILE; started again, it goes on with what is missing.

A tool finds a fault where it says anything at its fail level, and names it where what it said is in ``NAMES`` of its
module in ``peer``. An error of the user's own code (a plain loop meets one too, see ``control``) counts as found; an
error that only the tool meets counts as a crash, even where the tool reports it as a failed check. Each tool gets all
that it takes. Where a warm-up starts at a rate of zero, the tools that look at one step see the rate after it (see
``warmed_up``).
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import random
import re
import signal
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from peer.common import Answer, control

LIMIT = 60  # seconds for one tool and case
RENEWED = 150  # cases and tools per process
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]


class TimeUp(BaseException):
    """No Exception, so that no tool catches it."""


TOOLS = {  # distribution -> the module that asks it
    "torchtest2": "peer.by_torchtest2",
    "preflight-ml": "peer.by_preflight",
    "torch-audit": "peer.by_torch_audit",
    "torcheck": "peer.by_torcheck",
    "lightning": "peer.by_lightning",
}


def judge(case_id: str, seed: int, tool: str) -> dict[str, Any]:
    """One case under one seed with one tool, in this process."""
    import warnings
    from multiprocessing import set_start_method

    import torch
    from zoo import all_cases

    torch.set_num_threads(1)
    set_start_method("fork", force=True)  # the usual one for the workers of loaders
    warnings.simplefilter("ignore")
    case, started, answer = all_cases()[case_id], time.monotonic(), Answer()

    def stop(*_: Any) -> None:
        raise TimeUp

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(LIMIT)
    try:
        try:
            answer = importlib.import_module(TOOLS[tool]).answer(case.build, seed)
        except Exception as error:
            answer.raised.append(f"exception: {type(error).__name__}: {error}")
        seconds = time.monotonic() - started
        signal.alarm(LIMIT)
        if answer.raised and control(case.build, seed):
            answer.fails += answer.raised
        elif answer.raised:
            answer.crashed = answer.raised[0][:300]
    except TimeUp:
        seconds, answer = time.monotonic() - started, Answer(crashed=f"no answer within {LIMIT} s")
    finally:
        signal.alarm(0)
    return line(case, seed, tool, answer, seconds)


def line(case: Any, seed: int, tool: str, answer: Answer, seconds: float) -> dict[str, Any]:
    said = answer.fails + answer.warnings
    known = importlib.import_module(TOOLS[tool]).NAMES
    says = {name for told in said for key, names in known.items() if re.search(key, told) for name in names.split()}
    return {
        "id": case.id,
        "fault": case.fault,
        "also": case.also,
        "seed": seed,
        "tool": tool,
        "version": version(tool),
        "detected_fail": bool(answer.fails),
        "detected_warning": bool(answer.warnings),
        "named": bool(says & {case.fault, *case.also}),
        "said": list(dict.fromkeys(text[:200] for text in said))[:12],
        "seconds": round(seconds, 2),
        "crashed": answer.crashed,
    }


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| tool | finds (fail level) | finds (with warnings) | names | healthy flagged (fail level) "
        "| healthy flagged (with warnings) | crashed |",
        "|---|---|---|---|---|---|---|",
    ]

    def share(group: list[dict[str, Any]], *keys: str) -> str:
        count = sum(any(row[key] for key in keys) for row in group)
        return f"{count}/{len(group)} ({count / len(group):.0%})" if group else "-"

    for tool in TOOLS:
        own = [row for row in rows if row["tool"] == tool]
        if not own:
            continue
        faulty, healthy = [row for row in own if row["fault"]], [row for row in own if not row["fault"]]
        cells = [
            f"{tool} {own[0]['version']}",
            *(share(faulty, "detected_fail"), share(faulty, "detected_fail", "detected_warning")),
            *(share(faulty, "named"), share(healthy, "detected_fail")),
            *(share(healthy, "detected_fail", "detected_warning"), share(own, "crashed")),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--programs", default="", help="the faulty cases of these programs only")
    options.add_argument("--seeds", default="0")
    options.add_argument("--tools", default=",".join(TOOLS))
    options.add_argument("--only", default="", help="cases whose id holds this text")
    options.add_argument("--minutes", type=float, default=math.inf, help="begin nothing new after this time")
    options.add_argument("--out", type=Path, default=ROOT / ".accuracy" / "peers.jsonl")
    options.add_argument("--table", type=Path)
    given = options.parse_args()
    if given.table:
        print(table([json.loads(text) for text in given.table.read_text().splitlines()]))
        return

    from zoo import all_cases

    programs = set(filter(None, given.programs.split(",")))
    cases = [c for c in all_cases().values() if given.only in c.id]
    chosen = [c for c in cases if c.fault and (not programs or c.program in programs)]
    random.Random(0).shuffle(chosen)
    names = [c.id for c in cases if not c.fault] + [c.id for c in chosen]
    given.out.parent.mkdir(parents=True, exist_ok=True)
    known = [json.loads(text) for text in given.out.read_text().splitlines()] if given.out.exists() else []
    done = {(row["id"], row["seed"], row["tool"]) for row in known}
    tasks = [
        (name, int(seed), tool) for seed in given.seeds.split(",") for name in names for tool in given.tools.split(",")
    ]
    asked = [task for task in tasks if task not in done]
    end, count = time.monotonic() + 60 * given.minutes, 0
    print(f"{len(asked)} to judge, {len(done)} judged already", file=sys.stderr)
    with given.out.open("a") as file:
        for start in range(0, len(asked), RENEWED):  # one fresh process now and then: tools leave memory behind
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                for task in asked[start : start + RENEWED]:
                    if time.monotonic() > end:
                        return
                    row = pool.submit(judge, *task).result()
                    count += 1
                    file.write(json.dumps(row) + "\n")
                    file.flush()
                    told = "; ".join(row["said"])[:90] or row["crashed"][:90] or "-"
                    print(
                        f"{count}/{len(asked)} {row['seconds']:5.1f} s  {row['tool']} {row['id']}: {told}",
                        file=sys.stderr,
                    )


if __name__ == "__main__":
    main()
