"""Takes each measurement once, and remembers those that failed.

Not covered: what a measurement is made of; see ``diagnose.context`` and ``diagnose.experiments.short_trainings``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from diagnose.user_code import UserCodeError
from probes.api import Inconclusive, Skip

T = TypeVar("T")


class Memo:
    """``measuring(key, begins)`` is told when a measurement begins and ends; ``poisoned`` names those that killed an
    earlier worker, with how, and are not taken again."""

    def __init__(self, measuring: Callable[[str, bool], None], poisoned: Mapping[str, str]) -> None:
        self._measuring = measuring
        self._poisoned = dict(poisoned)
        self._values: dict[str, Any] = {}
        self._failed: dict[str, Exception] = {}

    def retry(self) -> None:
        """Forget failures, so that whoever asks next meets them (and reports them) anew."""
        self._failed.clear()

    def knows(self, key: str) -> bool:
        """Whether asking for it takes no measurement."""
        return key in self._values or key in self._failed or key in self._poisoned

    def forget(self, *keys: str) -> None:
        """Let go of these values; whoever asks next takes the measurement again."""
        for key in keys:
            self._values.pop(key, None)

    def once(self, key: str, what: str, measure: Callable[[], T]) -> T:
        """The value of ``key``. ``what`` names the measurement for the reader ("the first updates").

        Raises UserCodeError the first time that the user's code fails; whoever asks again gets ``Skip`` naming that
        failure. ``Skip`` and ``Inconclusive`` are raised every time. Anything else is the tool's fault, and not kept.
        """
        if key in self._failed:
            error = self._failed[key]
            if isinstance(error, UserCodeError):
                raise Skip(f"{what} failed: {error.what} raised {type(error.original).__name__}") from error
            raise error
        if key in self._poisoned:
            raise Skip(f"{what} ended the process: {self._poisoned[key]}")
        if key not in self._values:
            self._measuring(key, True)
            try:
                self._values[key] = measure()
            except (UserCodeError, Skip, Inconclusive) as error:
                self._failed[key] = error
                raise
            finally:
                self._measuring(key, False)
        found: T = self._values[key]
        return found
