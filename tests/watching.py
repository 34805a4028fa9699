"""Watches a script in this process: ``watch_source(text).names``."""

from __future__ import annotations

import contextlib
import io
import random
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from diagnose.config import Config
from diagnose.diagnosis import diagnose
from diagnose.rng import preserved
from diagnose.watch import judge
from diagnose.watch.hooks import recording
from diagnose.watch.recorder import Recorder
from diagnose.watch.replay import check_apart
from probes.records.loop import Loop
from probes.results import Result, Severity


@dataclass(frozen=True)
class Watched:
    loop: Loop
    results: list[Result]
    output: str = ""  # what it printed

    @property
    def alarms(self) -> dict[str, str]:
        """Errors and warnings: name -> severity."""
        found = [f for r in self.results for f in r.findings if f.severity is not Severity.NOTE]
        return {f.name: str(f.severity) for f in found}

    @property
    def answer(self) -> str:
        causes = diagnose(self.results, [judge.stage(self.loop, self.results, 0.0)]).causes
        return causes[0].name if causes else ""

    def finding(self, name: str) -> Any:
        return next(f for r in self.results for f in r.findings if f.name == name)

    def status(self, name: str) -> str:
        return str(next(r.status for r in self.results if r.name == name))


def watch_source(
    source: str, folder: Path, ended: str = "end", *, internal: bool = False, parts: bool = False
) -> Watched:
    """Runs ``source`` as a script of ``folder`` under a recorder; the generators are left as they were.

    ``parts``: its captured step and its course are judged too. ``internal``: results that are
    the tool's own fault are expected.
    """
    recorder = Recorder()
    output = _run(source, folder, recording(recorder))
    loop = recorder.record(ended)
    results = [*judge.judge(loop, Config()), *(check_apart(recorder, Config()) if parts else ())]
    assert internal or [r.reason for r in results if r.status == "internal"] == []
    return Watched(loop, results, output)


def plain(source: str, folder: Path) -> str:
    """What ``source`` prints as a script of ``folder``, when nobody watches."""
    return _run(source, folder, contextlib.nullcontext())


def _run(source: str, folder: Path, context: contextlib.AbstractContextManager[None]) -> str:
    path = folder / "train.py"
    path.write_text(source, encoding="utf-8")
    main = ModuleType("__main__")
    main.__file__ = str(path)
    before, sys.modules["__main__"] = sys.modules["__main__"], main
    printed = io.StringIO()
    try:
        with preserved(), warnings.catch_warnings(), contextlib.redirect_stdout(printed), context:
            warnings.simplefilter("ignore")  # torch itself warns of some of the faults
            random.seed(0)
            exec(compile(source, str(path), "exec"), main.__dict__)
    finally:
        sys.modules["__main__"] = before
    return printed.getvalue()
