"""The process in which the user's script runs as ``python`` would run it, with the recorder listening.

``python -c BOOT <package root> <job file>``. Standard streams, signals, environment and arguments are the script's own.
What was seen is written to the job's record file: now and then, and when the script ends.
"""

from __future__ import annotations

import atexit
import builtins
import json
import os
import sys
import time
import traceback
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from diagnose.config import Config
from diagnose.environment import describe_environment
from diagnose.judging import crash_finding
from diagnose.store import write_atomically
from diagnose.user_code import UserCodeError, is_user_file
from diagnose.watch import judge
from diagnose.watch.hooks import recording
from diagnose.watch.recorder import Recorder
from diagnose.watch.replay import check_parts, not_checked
from diagnose.watch.script import Program, read_module, read_notebook, read_script
from diagnose.watch.window import is_due
from diagnose.worker import isolation
from diagnose.worker.child import exit_code
from probes import catalogue
from probes.api import Stage
from probes.records.loop import Loop
from probes.results import Result, Status, to_json

_STUBBORN = 3  # times that the limit is raised again in code that catches everything
_LOSS_FILES = ("torch/nn/functional.py", "torch/nn/modules/loss.py")


class LimitReached(SystemExit):
    """Ends the script at ``--steps``, ``--epochs`` or ``--minutes`` in order: its finally blocks run."""


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    Run(job).start()


class Run:
    def __init__(self, job: dict[str, Any]) -> None:
        self.job = job
        self.config = Config(select=tuple(job.get("select", ())), ignore=tuple(job.get("ignore", ())))
        self.recorder = Recorder(self._stepped, Path(job["record"]).parent)
        self.pid = os.getpid()
        self.ended = "cut"
        self.crash: dict[str, Any] | None = None
        self.code: int | None = None  # of the program, where it has come to its end
        self.parts: list[Result] | None = None
        self._raised = 0
        self._environment = describe_environment("cuda" if _has_gpu() else "cpu")

    def start(self) -> None:
        """Does not return where the script ends with an exit code or an exception of its own."""
        for name in catalogue.names():  # a crash is named by one of them
            catalogue.module(name)
        isolation.hide_own_packages()
        atexit.register(self.finish)  # registered first, so it comes last: the program's own handlers are through
        with recording(self.recorder):
            self._run()

    def _run(self) -> None:
        try:
            program = self._program()
            self._as_main(program)
            self.ended, self.code = "end", 0
        except LimitReached:
            self.ended, self.code = "limit", 0
            sys.exit(0)
        except SystemExit as error:
            self.code = exit_code(error)
            self.ended = "failed" if self.code else "exit"
            raise
        except KeyboardInterrupt as error:
            self.ended = "interrupted"
            error.__traceback__ = _users(error.__traceback__)
            raise
        except BaseException as error:
            self._failed(error)
        finally:
            self._write()

    def _program(self) -> Program:
        """Reading it may fail as the script's own: a syntax error is told as python tells it."""
        kind, words = self.job["kind"], self.job["words"]
        sys.path[0] = str(Path.cwd())
        if kind == "module":
            sys.argv = [words[0], *words[1:]]
            program = read_module(words[0])
            sys.argv[0] = program.file
        else:
            program = read_script(words[0]) if kind == "script" else read_notebook(words[0])
            sys.argv = list(words)
        sys.path[0] = program.folder
        self.recorder.notebook = kind == "notebook"
        self.recorder.cells_back = tuple(program.cells_back)
        return program

    def _as_main(self, program: Program) -> None:
        main = ModuleType("__main__")
        main.__dict__.update(
            {"__file__": program.file, "__builtins__": builtins, "__spec__": program.spec, "__cached__": None}
        )
        if program.spec is not None:
            main.__package__ = program.spec.parent
            main.__loader__ = program.spec.loader
        main.__dict__.update(program.extra)
        sys.modules["__main__"] = main
        for code in program.codes:
            exec(code, main.__dict__)

    def _failed(self, error: BaseException) -> None:
        """As an uncaught exception of the script: the traceback begins with its own lines."""
        self.ended, self.code = "exception", 1
        if isinstance(error, Exception):
            self.crash = to_json(crash_finding(UserCodeError(_phase(error), error)))
        error.__traceback__ = _users(error.__traceback__)
        self._write()
        sys.excepthook(type(error), error, error.__traceback__)
        sys.exit(1)

    def _stepped(self, recorder: Recorder) -> None:
        if is_due(recorder.total, 1) and recorder.total >= 16:
            self._write()
        limits = self.job["limits"]
        steps = max(watch.steps for watch in recorder.optimizers)
        minutes = (time.monotonic() - recorder.started) / 60
        if (
            (limits["steps"] is not None and steps >= limits["steps"])
            or (limits["minutes"] is not None and minutes >= limits["minutes"])
            or (limits["epochs"] is not None and _epochs(recorder) >= limits["epochs"])
        ):
            self._stop()

    def _stop(self) -> None:
        self._raised += 1
        self.ended = "limit"
        if self._raised > _STUBBORN:
            self._write()
            os._exit(0)
        raise LimitReached(0)

    def finish(self) -> None:
        """When the program is over: what was captured of it is judged. What is left of its end is written before, for
        the judging runs its code once more."""
        if os.getpid() != self.pid:
            return
        self._write()
        hurried = "the program was interrupted" if self.ended == "interrupted" else ""
        if self.code is None and not hurried:
            return
        try:
            parts = check_parts(self.recorder, self.config, until=hurried)
            to_json(parts)  # what cannot be written is ours too
            self.parts = parts
        except Exception:  # ours: told as such
            first, *others = judge.names(self.config)
            failed = Result(
                catalogue.doc(first).code, first, str(Stage.WATCH), Status.INTERNAL, traceback.format_exc(limit=-4)
            )
            self.parts = [failed, *not_checked(others, "the check failed inside the tool")]
        self._write()

    def _write(self) -> None:
        """Replace the record; a fork of the script leaves it alone."""
        if os.getpid() != self.pid:
            return
        pipeline: dict[str, Any] = {}
        history: list[dict[str, Any]] = []
        try:
            loop = self.recorder.record(self.ended)
            pipeline, history = _pipeline(self.recorder), self.recorder.progress.history()
        except Exception:  # ours: the script must not end of it
            failure = self.recorder.failure or traceback.format_exc(limit=-4)
            loop = Loop(self.recorder.total, self.recorder.backwards, self.ended, failure=failure)
        record = {
            "loop": to_json(loop), "crash": self.crash, "environment": self._environment, "pipeline": to_json(pipeline),
            "code": self.code, "history": to_json(history), "trainings": self.recorder.progress.course.trainings,
            "parts": None if self.parts is None else to_json(self.parts),
        }  # fmt: skip
        write_atomically(Path(self.job["record"]), json.dumps(record).encode())


def _epochs(recorder: Recorder) -> int:
    """Whole passes over the loader that most steps were made under."""
    loader = max(recorder.passes.loaders, key=lambda loader: loader.steps, default=None)
    if loader is None:
        return 0
    return sum(p.steps > 0 and (p.ended or (loader.batches or 0) == p.batches) for p in loader.passes)


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _pipeline(recorder: Recorder) -> dict[str, Any]:
    """What the report says about the thing that was trained."""
    models = recorder.trained_roots()
    stepped = max(recorder.optimizers, key=lambda watch: watch.steps, default=None)
    trained = max(recorder.passes.loaders, key=lambda loader: loader.steps, default=None)
    optimizer = stepped.ref() if stepped is not None else None
    parameters = [p for model in models for p in model.parameters()]
    return _loss(recorder) | {
        "parameters": sum(p.numel() for p in parameters),
        "trainable": sum(p.numel() for p in parameters if p.requires_grad),
        "optimizer": stepped.kind if stepped is not None else "",
        "train_samples": (trained.samples if trained is not None and trained.steps else None) or 0,
        "param_groups": [
            {"lr": float(group.get("lr", 0.0)), "weight_decay": float(group.get("weight_decay", 0.0))}
            for group in (optimizer.param_groups if optimizer is not None else ())
        ],
    }


def _loss(recorder: Recorder) -> dict[str, Any]:
    """The loss, where its size tells something: of classes, and a mean."""
    seen, classes = recorder.capture.loss, recorder.progress.classes
    plain = seen is not None and seen.function == "cross_entropy" and seen.settings.get("reduction", "mean") == "mean"
    return {"loss": "cross_entropy", "num_classes": classes} if plain and classes else {}


def _users(trace: TracebackType | None) -> TracebackType | None:
    """Without our frames at its beginning."""
    first = trace
    while first is not None and not is_user_file(first.tb_frame.f_code.co_filename):
        first = first.tb_next
    return first or trace


def _phase(error: Exception) -> str:
    """What was being done, for the name of the failure."""
    files, names, trace = [], [], error.__traceback__
    while trace is not None:
        files.append(trace.tb_frame.f_code.co_filename)
        names.append(trace.tb_frame.f_code.co_name)
        trace = trace.tb_next
    if any(file.endswith(_LOSS_FILES) for file in files) and any("loss" in name or "entropy" in name for name in names):
        return "loss"
    return "forward" if "_call_impl" in names else "the script"
