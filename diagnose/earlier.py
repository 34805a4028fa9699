"""Earlier runs of the same target: one to go on with (``--resume``), one whose weights to evaluate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from diagnose.config import Config
from diagnose.errors import UsageError
from diagnose.redact import redact
from diagnose.store import RunFolder, list_runs, read_header
from probes.results import Status, Verdict, to_json
from reports.load import UnreadableRun, load_results

BEST = Path("checkpoints") / "best_model.pth"
EXPERIMENTS = ("ablate", "bisect")
# What may differ between a run and its continuation: how it is watched and how long it goes on, not what is trained.
_FREE = frozenset(
    {
        "resume", "out", "budget", "epochs", "json", "quiet", "verbose", "in_process", "download", "plan", "fail_on",
        "stop_on",
    }
)  # fmt: skip


def open_folder(header: Mapping[str, Any], config: Config, project: Path | None = None) -> RunFolder:
    """The folder of this run: a new one, or with ``--resume`` that of the run to go on with. Raises UsageError."""
    out = Path(config.out) if config.out else None
    if not config.resume:
        return RunFolder.create(header, project=project, out=out)
    written = redact(to_json(header), project)  # as an earlier run has it in its file
    if out is None:
        return RunFolder.resume(_unfinished(written, project or Path.cwd()), header, project=project)
    earlier = read_header(out).get("target", written["target"])
    if earlier != written["target"]:
        raise UsageError(
            f"--resume: {out} holds a run of {earlier}, not of {written['target']}. Choose another folder with --out."
        )
    return RunFolder.create(header, project=project, out=out, resume=True)


def _unfinished(header: Mapping[str, Any], project: Path) -> Path:
    """The latest run of the same command, target and configuration that did not come to its end."""
    refused = ""
    for run in list_runs(project):
        earlier = read_header(run)
        if any(earlier.get(key) != header[key] for key in ("command", "target")):
            continue
        if other := _differences(earlier.get("config", {}), header["config"]):
            refused = refused or f" {run.name} differs in {', '.join(other)}."
        elif _is_unfinished(run):
            return run
        else:
            refused = refused or f" {run.name} came to its end; to train it further give --out {_shown(run, project)}."
    raise UsageError(
        f"--resume: there is no unfinished run of diagnose {header['command']} {header['target']}.{refused} "
        "Leave --resume out to start one."
    )


def _differences(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    keys = (earlier.keys() | now.keys()) - _FREE
    return sorted(key.replace("_", "-") for key in keys if earlier.get(key) != now.get(key))


def _is_unfinished(run: Path) -> bool:
    try:
        results = load_results(run)
    except UnreadableRun:
        return False
    short = [stage for stage in results.stages if stage.status is Status.INCONCLUSIVE]
    cut = any(stage.name == "train" for stage in short)
    if results.command in EXPERIMENTS:  # their finished trials are kept
        cut = any("time budget" in stage.reason for stage in short)
    return cut or results.verdict is Verdict.INTERRUPTED


def best_checkpoint(config: Config, project: Path) -> Path | None:
    """The best weights of the newest run of the same target and model settings that kept any."""
    wanted = redact({"target": config.target, "set": _of_model(config.set)}, project)
    for run in list_runs(project):
        earlier = read_header(run)
        made = {"target": earlier.get("target"), "set": _of_model(earlier.get("config", {}).get("set", ()))}
        if made == wanted and (run / BEST).is_file():
            return run / BEST
    return None


def _of_model(settings: Iterable[str]) -> list[str]:
    return sorted(text for text in settings if text.startswith("model."))


def _shown(path: Path, project: Path) -> str:
    return path.relative_to(project).as_posix() if path.is_relative_to(project) else str(path)
