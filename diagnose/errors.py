"""The two kinds of failure that are not ours, and the exit codes."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum


class ExitCode(IntEnum):
    HEALTHY = 0
    FAULTY = 1
    USAGE = 2
    INTERNAL = 3
    INTERRUPTED = 130


class UsageError(Exception):
    """The command, the configuration or the target is not usable as given: one short message, exit code 2.

    Say what was got, what was expected and what to do. Several problems are told at once.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems: Sequence[str] = problems
