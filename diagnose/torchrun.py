"""The parent's side of ``torchrun -m diagnose train``: rank 0 reports, the others only take part."""

from __future__ import annotations

import atexit
import os
import shutil
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

WORLD, RANK = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
SHOWN_SECONDS = 10.0  # torchrun ends all ranks as soon as one fails: time for rank 0 to tell what it saw


def adapted(command: str, config: Config) -> Config:
    """Only the training runs on several ranks. Raises UsageError for another command."""
    if command != "train":
        raise UsageError(
            f"torchrun: diagnose {command} runs in one process; expected diagnose train. Rehearse without torchrun "
            "first, then train: torchrun --nproc-per-node N -m diagnose train TARGET."
        )
    if config.in_process:
        raise UsageError("torchrun: --in-process is for one process. Leave it out.")
    return replace(config, only=True, quiet=config.quiet or RANK > 0)


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
