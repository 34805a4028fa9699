"""The parent's side of ``torchrun -m diagnose train``: rank 0 reports, the others only take part."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from diagnose.config import Config
from diagnose.errors import ExitCode, UsageError
from diagnose.store import RunFolder
from probes.results import RunResults, Verdict

WORLD = int(os.environ.get("WORLD_SIZE", "1"))
RANK = int(os.environ.get("RANK", "0")) if WORLD > 1 else 0
SHOWN_SECONDS = 10.0  # torchrun ends all ranks as soon as one fails: time for rank 0 to tell what it saw


def refuse_ranks(command: str) -> None:
    """Only the training runs on several ranks. Raises UsageError for another command."""
    if WORLD > 1 and command != "train":
        first = "diagnose run TARGET --until subset" if command == "run" else f"diagnose {command} TARGET"
        raise UsageError(
            f"torchrun: diagnose {command} runs in one process, only diagnose train on several. Rehearse first: "
            f"{first}. Then train: torchrun --nproc-per-node {WORLD} -m diagnose train TARGET."
        )


def adapted(config: Config) -> Config:
    """``config`` of a training on several ranks."""
    if config.in_process:
        raise UsageError("torchrun: --in-process is for one process. Leave it out.")
    return replace(config, only=True, quiet=config.quiet or RANK > 0)


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


def beside(work: Callable[[], RunResults]) -> int:
    """The exit code of a rank that reports nothing but its own failure, and that on stderr."""
    results = work()
    if results.verdict is not Verdict.FAULTY:
        return int(ExitCode.HEALTHY)
    reasons = [result.reason for result in results.results if result.status in ("fail", "crashed")]
    sys.stderr.write(f"diagnose, rank {RANK}: {'; '.join(reasons) or results.diagnosis.summary}\n")
    time.sleep(SHOWN_SECONDS)
    return int(ExitCode.FAULTY)
