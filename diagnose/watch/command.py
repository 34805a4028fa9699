"""``diagnose watch``: the parent's side. Starts the script in a process of its own, waits, judges what was recorded."""

from __future__ import annotations

import json
import os
import secrets
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import diagnose
from diagnose.config import Config, load_config
from diagnose.diagnosis import diagnose as find_causes
from diagnose.diagnosis import verdict
from diagnose.earlier import open_folder
from diagnose.errors import ExitCode, UsageError
from diagnose.execute import conclude
from diagnose.store import RunFolder
from diagnose.watch import course, judge
from diagnose.worker.death import died_with, oom_kills
from diagnose.worker.orphans import MARK, kill_marked
from probes import catalogue
from probes.api import Stage
from probes.records.loop import Loop
from probes.results import Finding, Result, RunResults, Status, Trace, Verdict, to_json
from reports.fold import fold
from reports.load import read_events
from reports.schema import validate

_ROOT = Path(__file__).resolve().parent.parent.parent
# The script sees its own arguments; -c leaves its place on sys.path to our packages until the script begins.
_BOOT = "import sys; sys.path[0] = sys.argv.pop(1); from diagnose.watch.child import main; main()"
_GRACE = 60.0  # seconds past --minutes, in which the script may come to a step where it can be stopped
_CHECKS = 150.0  # seconds more, in which the captured step is judged
FORWARDED = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


@dataclass(frozen=True)
class Ended:
    """``code`` in the convention of a shell; ``returncode`` in that of subprocess."""

    code: int
    returncode: int
    seconds: float
    oom: bool


def watch(words: Sequence[str], flags: Mapping[str, Any], argv: Sequence[str]) -> int:
    """``words``: SCRIPT and its arguments, or with ``flags["module"]`` a module and its arguments."""
    kind = _kind(words, module=bool(flags["module"]))
    limits = {"steps": flags["steps"], "epochs": flags["epochs"], "minutes": flags["minutes"]}
    wrong = [name for name, value in limits.items() if value is not None and value <= 0]
    if wrong:
        raise UsageError(*(f"--{name} {limits[name]:g}: expected a number above 0." for name in wrong))
    given = {key: value for key, value in flags.items() if key not in {*limits, "module"}}
    config = replace(load_config(given, Path.cwd(), require_target=False), target=words[0], epochs=flags["epochs"])
    names = judge.names(config)
    if not names:
        raise UsageError("--select and --ignore leave nothing that watch could look for.")
    folder = open_folder(_header(config, argv), config)
    record = folder.path / "record.json"
    job = {"kind": kind, "words": list(words), "limits": limits, "record": str(record),
           "select": config.select, "ignore": config.ignore}  # fmt: skip
    ended = _run(job, folder.path, config)
    ended = _before_the_checks(ended, record)
    results = _results(folder, record, ended, config)
    record.unlink(missing_ok=True)
    code = conclude(results, folder.path, config, "watch")
    return code if ended.code == 0 or code == ExitCode.INTERRUPTED else ended.code


def _kind(words: Sequence[str], *, module: bool) -> str:
    if not words:
        raise UsageError("watch: no script was given. Say diagnose watch SCRIPT.py [ARGS...], or -m MODULE [ARGS...].")
    if module:
        return "module"
    path = Path(words[0])
    if not path.is_file():
        what = "this is a folder" if path.is_dir() else "there is no such file"
        hint = "" if path.suffix else f" For a module say diagnose watch -m {words[0]}."
        raise UsageError(f"watch {words[0]}: {what}; expected a script or a notebook (.ipynb).{hint}")
    if path.suffix != ".ipynb":
        return "script"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        cells = content["cells"]
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"watch {path}: not a notebook that can be read ({type(error).__name__}).") from None
    if not any(cell.get("cell_type") == "code" for cell in cells):
        raise UsageError(f"watch {path}: the notebook has no code cell.")
    return "notebook"


def _run(job: dict[str, Any], folder: Path, config: Config) -> Ended:
    """The script has the terminal: its streams are ours, Ctrl-C reaches it directly, other signals are passed on."""
    path = folder / "job.json"
    path.write_text(json.dumps(job), encoding="utf-8")
    mark = secrets.token_hex(8)
    before, started = oom_kills(), time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-c", _BOOT, str(_ROOT), str(path)],
        stdout=sys.stderr if config.json else None,
        env={**os.environ, MARK: mark},
    )
    earlier = {number: signal.signal(number, lambda n, frame: process.send_signal(n)) for number in FORWARDED}
    earlier[signal.SIGINT] = signal.signal(signal.SIGINT, signal.SIG_IGN)
    minutes = job["limits"]["minutes"]
    try:
        try:
            process.wait(None if minutes is None else minutes * 60 + _GRACE + _CHECKS)
        except subprocess.TimeoutExpired:
            process.terminate()
            process.wait()
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
        kill_marked(mark)
        path.unlink(missing_ok=True)
    code = process.returncode
    return Ended(code if code >= 0 else 128 - code, code, time.monotonic() - started, oom_kills() > before)


def _before_the_checks(ended: Ended, record: Path) -> Ended:
    """How the program ended, where the process died afterwards, while the captured step was repeated."""
    data = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
    if data.get("code") is None or data["parts"] is not None:
        return ended
    return Ended(data["code"], data["code"], ended.seconds, False)


def _results(folder: RunFolder, record: Path, ended: Ended, config: Config) -> RunResults:
    data = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else None
    loop = None if data is None else validate(Loop, data["loop"])
    results: list[Result] = []
    went = ""
    if loop is not None and data is not None:
        for kind in ("environment", "pipeline"):
            folder.append({"event": kind, kind: data[kind]})
        for row in data["history"]:
            folder.append({"event": "epoch", "row": row})
        went = course.told(data["history"], data["trainings"])
        results += judge.judge(loop, config)
        results += judge.parts(data["parts"], config, loop)
        if data["crash"] is not None:
            results.append(judge.crashed(validate(Finding, data["crash"])))
    if ended.returncode < 0 and not (loop is not None and loop.ended in {"interrupted", "limit"}):
        results.append(_killed(ended))
    stage = judge.stage(loop, results, ended.seconds, lambda n: f"{n:,}", went)
    for result in results:
        folder.append({"event": "result", "result": to_json(result)})
    folder.append({"event": "stage", "stage": to_json(stage)})
    found = find_causes(results, [stage])
    interrupted = loop is not None and loop.ended == "interrupted"
    outcome = Verdict.INTERRUPTED if interrupted else verdict(found, results, [stage], [str(Stage.WATCH)])
    folder.append({"event": "diagnosis", "diagnosis": to_json(found)})
    folder.append({"event": "verdict", "verdict": str(outcome)})
    told = fold(read_events(folder.path / "events.jsonl"))
    folder.write_results(told)
    return told


def _killed(ended: Ended) -> Result:
    """The script died of a signal."""
    kind, summary, code, name = died_with(ended.returncode, out_of_memory=ended.oom)
    doc = catalogue.doc("killed-out-of-memory" if kind == "out-of-memory" else "worker-crashed")
    finding = doc.finding(
        "{summary}", summary=summary.rstrip("."), signal=name, exit_code=code, evidence=[Trace(name or kind, summary)]
    )
    return Result(doc.code, doc.name, str(Stage.WATCH), Status.CRASHED, finding.message, (finding,))


def _header(config: Config, argv: Sequence[str]) -> dict[str, Any]:
    return {
        "tool_version": diagnose.__version__,
        "command": "watch",
        "reproduce": shlex.join(["diagnose", *argv]),
        "target": config.target or "",
        "config": replace(config, origins={}).to_dict(),
    }
