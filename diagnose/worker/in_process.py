"""The same interface as a worker, without isolation: breakpoints work, and a crash is a crash."""

from __future__ import annotations

import bdb
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from diagnose.worker.child import Run, described, exit_code, load_handler
from diagnose.worker.death import Death, user_frames

OnEvent = Callable[[dict[str, Any]], None]


class InProcessWorker:
    """Runs steps in this process, its standard streams untouched. No timeout: somebody may be debugging."""

    def __init__(self, job: dict[str, Any], handler: str) -> None:
        self._job, self._handler = job, handler
        self._run: Run | None = None
        self._on_event: OnEvent = lambda event: None

    def run(self, step: dict[str, Any], timeout: float, on_event: OnEvent) -> Death | None:
        """As ``Worker.run``. Leaving the debugger is an interrupt."""
        self._on_event = on_event
        ident = step.get("id")
        try:
            run = self._run = self._run or load_handler(self._handler, self._job, self._emit)
            on_event({"event": "step-started", "step": ident})
            run(step)
        except bdb.BdbQuit:
            raise KeyboardInterrupt("left the debugger") from None
        except Exception as error:
            on_event({"event": "step-failed", "step": ident, **described(error)})
            return None
        except SystemExit as error:
            return self._exited(error, ident)
        on_event({"event": "step-finished", "step": ident})
        return None

    def close(self) -> None:
        self._run = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _emit(self, event: dict[str, Any]) -> None:
        self._on_event(event)

    def _exited(self, error: SystemExit, ident: object) -> Death:
        self._run = None  # as after a death, the next step begins afresh
        code, facts = exit_code(error), described(error)
        self._on_event({"event": "step-exited", "step": ident, **facts, "code": code})
        summary = f"The user's code ended the program with sys.exit({code}) in the middle of the step."
        return Death("exit", summary, exit_code=code, frames=user_frames(facts["frames"]))
