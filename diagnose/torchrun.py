"""The parent's side of ``torchrun -m diagnose train`` and ``run``: rank 0 reports, the others only take part.

In a run each rank makes the whole rehearsal by itself, under the same seeds, so that all come to the same verdict.
Those that come first wait for the others before they train (``diagnose.training.meeting``).
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diagnose.config import Config
from diagnose.diagnosis import diagnose, verdict
from diagnose.errors import ExitCode, UsageError
from diagnose.plan import Plan
from diagnose.store import RunFolder
from probes.api import Stage
from probes.results import RunResults, Status, Verdict

if TYPE_CHECKING:
    from diagnose.session import Session

WORLD = int(os.environ.get("WORLD_SIZE", "1"))
RANK = int(os.environ.get("RANK", "0")) if WORLD > 1 else 0
SHOWN_SECONDS = 10.0  # torchrun ends all ranks as soon as one fails: time for rank 0 to tell what it saw


def refuse_ranks(command: str) -> None:
    """Only the training, and a run that leads to it, take several ranks. Raises UsageError for another command."""
    if WORLD > 1 and command not in {"train", "run"}:
        raise UsageError(
            f"torchrun: diagnose {command} runs in one process, only diagnose train and run on several. Leave torchrun "
            f"out: diagnose {command} TARGET. To train: torchrun --nproc-per-node {WORLD} -m diagnose run TARGET."
        )


def refuse_sweep(runs: int) -> None:
    """Raises UsageError for several runs on several ranks."""
    if WORLD > 1 and runs > 1:
        raise UsageError(
            f"torchrun: --set with commas asks for {runs} runs; expected one. Give one value each, and start torchrun "
            "once per run."
        )


def adapted(config: Config, command: str) -> Config:
    """``config`` of a training on several ranks."""
    if config.in_process:
        raise UsageError("torchrun: --in-process is for one process. Leave it out.")
    return replace(config, only=config.only or command == "train", quiet=config.quiet or RANK > 0)


def part_of(plan: Plan) -> Plan:
    """What this rank does of ``plan``: what nobody else needs, rank 0 does alone."""
    if RANK == 0:
        return plan
    stages = [stage for stage in plan.stages if stage is not Stage.EVALUATE]
    requested = [stage for stage in plan.requested if stage is not Stage.EVALUATE]
    return replace(plan, stages=stages, requested=requested, experiments=())


def let_rank_0_speak() -> None:
    """A usage error is met by all ranks, and torchrun ends the others once rank 0 has told it; what is still here after
    a while is this rank's own."""
    if RANK > 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        time.sleep(SHOWN_SECONDS)


def own_folder(header: Mapping[str, Any]) -> RunFolder:
    """A folder of this rank, which nobody reads."""
    place = Path(tempfile.mkdtemp(prefix=f"diagnose-rank-{RANK}-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    return RunFolder.create(header, project=Path.cwd(), out=place / "run")


def said_by_first(session: Session) -> bool:
    """Tells the other ranks how this one ends. Whether rank 0 ends as faulty as this one, and so reports it."""
    if WORLD == 1:
        return False
    training = next((stage for stage in session.stages if stage.name == Stage.TRAIN), None)
    if RANK > 0 and training is not None and training.status is Status.CRASHED:
        return False  # rank 0 knows no more than that this one is gone
    found = diagnose(session.results, session.stages)
    ended = verdict(found, session.results, session.stages, [stage.name for stage in session.stages])
    waits = RANK > 0 and ended is Verdict.FAULTY
    session.ask({"do": "meet", "stage": str(Stage.TRAIN), "ended": str(ended), "wait": waits})
    return bool(session.extra.get("met", {}).get("ended") == Verdict.FAULTY)


def beside(results: RunResults, *, said_by_first: bool) -> int:
    """The exit code of a rank that reports nothing but its own failure, and that on stderr."""
    if results.verdict is not Verdict.FAULTY or said_by_first:
        return int(ExitCode.HEALTHY)
    reasons = [result.reason for result in results.results if result.status in ("fail", "crashed")]
    sys.stderr.write(f"diagnose, rank {RANK}: {'; '.join(reasons) or results.diagnosis.summary}\n")
    time.sleep(SHOWN_SECONDS)
    return int(ExitCode.FAULTY)
