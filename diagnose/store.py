"""The run folder: where runs live, how they are found, and what is written into them.

``events.jsonl`` is the truth and only grows; ``results.json`` is its fold. Everything written goes through ``redact``.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from diagnose.errors import UsageError
from diagnose.redact import redact, redact_text
from diagnose.worker.mailbox import append
from probes.results import SCHEMA_VERSION, RunResults, to_json

__all__ = ["RunFolder", "find_run", "is_run", "list_runs", "new_id", "read_header", "redact", "redact_text"]

STATE_FOLDER = ".diagnose"
TRIALS = "trials"  # in a run folder: trials that are under way

_ID = re.compile(r"\d{8}-\d{6}-[0-9a-f]{4}")


class RunFolder:
    """One run's folder. ``header`` holds the fields of RunResults that are known at the start, and ``run_id``."""

    def __init__(self, path: Path, project: Path, header: dict[str, Any], *, is_new: bool = True) -> None:
        self.path, self.project, self.header = path, project, header
        self.is_new = is_new

    @property
    def run_id(self) -> str:
        return str(self.header["run_id"])

    @classmethod
    def create(
        cls, header: Mapping[str, Any], *, project: Path | None = None, out: Path | None = None, resume: bool = False
    ) -> Self:
        """A new folder under ``project/.diagnose/runs``, or ``out``; with ``resume`` an earlier run of ours there.

        ``header`` may leave out ``run_id``, ``created``, ``schema_version``. Writes ``run.json`` and the first event.
        """
        project = (project or Path.cwd()).absolute()
        if out is not None and resume and is_run(out):
            return cls._resumed(out, project, header)
        now = datetime.now(UTC)
        path = _new_folder(project, now) if out is None else _checked(out, resume=resume)
        run_id = path.name if out is None else new_id(now)
        known = {"schema_version": SCHEMA_VERSION, "run_id": run_id, "created": now.isoformat(timespec="seconds")}
        folder = cls(path.absolute(), project, {**known, **header})
        folder._write_json("run.json", folder.header)
        folder.append({"event": "header", **folder.header})
        return folder

    @classmethod
    def resume(cls, path: Path, header: Mapping[str, Any] | None = None, *, project: Path | None = None) -> Self:
        """Go on in an existing run, which keeps its id and date."""
        if not is_run(path):
            raise UsageError(f"cannot resume in {path}: it holds no run. Leave --resume out to start one.")
        return cls._resumed(path, (project or Path.cwd()).absolute(), header or {})

    @classmethod
    def _resumed(cls, path: Path, project: Path, header: Mapping[str, Any]) -> Self:
        earlier = read_header(path)
        kept: dict[str, Any] = {key: earlier[key] for key in ("run_id", "created") if key in earlier}
        folder = cls(
            path.absolute(),
            project,
            {**earlier, **dict(header), **kept, "schema_version": SCHEMA_VERSION},
            is_new=False,
        )
        folder._write_json("run.json", folder.header)
        folder.append({"event": "header", **folder.header})
        return folder

    def append(self, event: Mapping[str, Any]) -> None:
        append(self.path / "events.jsonl", redact(to_json(event), self.project))

    def discard(self) -> None:
        """Remove a run in which nothing ran. A run that was taken up again is kept; so is the folder that was given."""
        if not self.is_new:
            return
        shutil.rmtree(self.path, ignore_errors=True)
        if self.path.parent.name != "runs":
            self.path.mkdir(exist_ok=True)

    def write_results(self, results: RunResults) -> None:
        """Replace ``results.json`` as a whole: a reader sees the old or the new one.

        Call it after the last event: results that are older than the events are not believed.
        """
        self._write_json("results.json", to_json(results))

    def _write_json(self, name: str, data: Any) -> None:
        clean = redact(to_json(data), self.project)
        text = json.dumps(clean, allow_nan=False, ensure_ascii=False, indent=1) + "\n"
        write_atomically(self.path / name, text.encode("utf-8", "backslashreplace"))  # \ud800 is JSON too


def write_atomically(path: Path, data: bytes) -> None:
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        Path(temporary).chmod(0o666 & ~_umask())  # mkstemp's 0600 would hide a CI artifact from others
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def new_id(now: datetime | None = None) -> str:
    """Sorts by time, for instance 20261122-064100-ab12 (UTC)."""
    return f"{now or datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def is_run(path: Path) -> bool:
    return bool(read_header(path))


def read_header(path: Path) -> dict[str, Any]:
    """The contents of ``run.json``, empty where it is missing or damaged."""
    try:
        header = json.loads((path / "run.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return header if isinstance(header, dict) and isinstance(header.get("run_id"), str) else {}


def list_runs(root: Path) -> list[Path]:
    """The runs under ``root/.diagnose/runs`` that have a header, newest first."""
    runs = root / STATE_FOLDER / "runs"
    names = sorted((path.name for path in runs.iterdir()), reverse=True) if runs.is_dir() else []
    return [runs / name for name in names if _ID.fullmatch(name) and is_run(runs / name)]


def find_run(text: str, root: Path) -> Path:
    """A run by path, id, the unique beginning of an id or of a part of it, or "latest"; ``root`` is the project."""
    path = Path(text).expanduser()
    if text and is_run(path):
        return path
    if path.name in ("results.json", "run.json") and is_run(path.parent):
        return path.parent
    runs = list_runs(root)
    if text in ("", "latest"):
        if not runs:
            raise UsageError(f"there is no run under {root / STATE_FOLDER / 'runs'}: start one with diagnose run.")
        return runs[0]
    found = [run for run in runs if run.name == text] or [run for run in runs if run.name.startswith(text)]
    found = found or [run for run in runs if any(part.startswith(text) for part in run.name.split("-")[1:])]
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(f"{text!r} fits {len(found)} runs: {_listed(found)}. Give more of the id.")
    raise UsageError(_not_found(text, path, root, runs))


def _not_found(text: str, path: Path, root: Path, runs: list[Path]) -> str:
    if path.exists():
        return f"{text} is not a run folder: it holds no readable run.json."
    names = [run.name for run in runs]
    near = difflib.get_close_matches(text, [*names, "latest"], n=3)
    hint = (
        f"did you mean {' or '.join(near)}?" if near else f"there are: {_listed(runs)}." if runs else "there are none."
    )
    return f"no run is called {text!r} under {root / STATE_FOLDER / 'runs'}; {hint}"


def _listed(runs: list[Path]) -> str:
    names = [run.name for run in runs[:5]]
    return ", ".join(names) + (f" and {len(runs) - 5} more" if len(runs) > 5 else "")


def _new_folder(project: Path, now: datetime) -> Path:
    state = project / STATE_FOLDER
    try:
        (state / "runs").mkdir(parents=True, exist_ok=True)
        ignore = state / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n")
        while True:
            path = state / "runs" / new_id(now)
            try:
                path.mkdir()
            except FileExistsError:
                continue
            return path
    except OSError as error:
        raise UsageError(f"cannot write to {state}: {error.strerror}. Choose another folder with --out DIR.") from error


def _checked(out: Path, *, resume: bool) -> Path:
    """``out`` as a folder that is ours to fill."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        occupied = any(out.iterdir())
    except (FileExistsError, NotADirectoryError) as error:
        raise UsageError(f"--out {out}: this is a file, a folder was expected.") from error
    except OSError as error:
        raise UsageError(f"--out {out}: the folder cannot be used: {error.strerror}.") from error
    if is_run(out):
        raise UsageError(f"--out {out}: holds an earlier run. Add --resume to go on with it, or choose another folder.")
    if occupied:
        raise UsageError(f"--out {out}: not empty, and no run of ours. Choose a new or empty folder.")
    if resume:
        raise UsageError(f"--out {out}: there is no run to resume here. Leave --resume out to start one.")
    return out
