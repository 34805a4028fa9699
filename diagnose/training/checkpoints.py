"""Checkpoints: written as a whole or not at all, and read without executing anything in them."""

from __future__ import annotations

import os
import random
import re
import shutil
import sys
import tempfile
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from diagnose.errors import UsageError

FOLDER = "checkpoints"
LATEST, PREVIOUS, BEST = "latest_checkpoint.pth", "previous_checkpoint.pth", "best_model.pth"
FORMAT = 2  # 1: no position within an epoch
_NUMBERED = re.compile(r"checkpoint_epoch_(\d+)\.pth")


class Unreadable(Exception):
    """The file is no checkpoint of ours, or a damaged one."""


def save(folder: Path, state: Mapping[str, Any], *, best: bool = False, keep: bool = False) -> None:
    """Write ``state`` as the latest checkpoint of ``folder``; the one before stays as the previous one.

    ``best``, ``keep``: also as the best model, and under the number of its epoch. Raises UsageError where the disk is
    full or cannot be written; the earlier checkpoints are whole then.
    """
    path = folder / FOLDER / LATEST
    names = [BEST] if best else []
    if keep:
        names.append(f"checkpoint_epoch_{state['epoch']}.pth")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, lambda temporary: _write(state, temporary), before=PREVIOUS)
        for name in names:
            _replace(path.with_name(name), lambda temporary: _copy(path, temporary))
    except (OSError, RuntimeError) as error:  # torch tells a full disk as a RuntimeError
        why = str(error).splitlines()[0]
        raise UsageError(
            f"the checkpoint after {state['epoch']} epochs cannot be written ({why}). Earlier checkpoints are whole: "
            "make room, then go on with --resume."
        ) from error


def _write(state: Mapping[str, Any], path: Path) -> None:
    checked = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(True)
    try:
        with path.open("wb") as file:
            torch.save(dict(state), file)
            file.flush()
            os.fsync(file.fileno())
    finally:
        torch.serialization.set_crc32_options(checked)


def _copy(source: Path, target: Path) -> None:
    """A copy, not a link: damage to one file must leave the other whole."""
    shutil.copyfile(source, target)


def _replace(path: Path, write: Callable[[Path], None], before: str = "") -> None:
    """``before``: the name that the file of this name gets, if there is one."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    os.close(descriptor)
    temporary = Path(name)
    try:
        write(temporary)
        temporary.chmod(0o644)
        if before and path.is_file():
            path.replace(path.with_name(before))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove what a process that was killed while writing left behind."""
    for path in (folder / FOLDER).glob(".*.pth-*"):
        path.unlink(missing_ok=True)


def read(path: Path) -> dict[str, Any]:
    """A checkpoint of ours, on the CPU. Raises Unreadable."""
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:  # torch itself does not look at the checksums
                raise Unreadable("its checksums do not fit")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Unreadable:
        raise
    except Exception as error:  # a damaged file fails in any way
        lines = str(error).splitlines()
        raise Unreadable(f"{type(error).__name__}: {lines[0] if lines else 'no message'}") from error
    if not isinstance(state, dict) or not {"model", "epoch", "step", "history"} <= state.keys():
        raise Unreadable("it is no checkpoint of this tool")
    return state


def newest(folder: Path) -> tuple[Path, dict[str, Any], str] | None:
    """(path, state, a sentence if it is not the latest) of the newest readable checkpoint; None where there is none.

    Raises UsageError where there are checkpoints but none of them can be read.
    """
    files = [path for name in (LATEST, PREVIOUS, BEST) if (path := folder / FOLDER / name).is_file()]
    files += sorted((folder / FOLDER).glob("checkpoint_epoch_*.pth"), key=_number, reverse=True)
    if not files:
        return None
    problems: list[str] = []
    found: tuple[Path, dict[str, Any]] | None = None
    for path in files:
        if found is not None and path.name != BEST and _number(path) <= found[1]["epoch"]:
            continue
        try:
            state = read(path)
        except Unreadable as problem:
            problems.append(f"{path.name} cannot be read ({problem})")
            continue
        if path.name == LATEST:
            return path, state, ""
        if found is None or state["step"] > found[1]["step"]:
            found = path, state
    if found is None:
        raise UsageError(f"--resume: {'; '.join(problems)}. Train anew without --resume, in another folder.")
    what = "; ".join(problems) if problems else f"{LATEST} is missing"
    return *found, f"{what}: the training went on from {found[0].name}, {position(found[1])}."


def position(state: Mapping[str, Any]) -> str:
    """Where a checkpoint stands, in words."""
    if state.get("batch"):
        return f"in epoch {state['epoch'] + 1} after {state['batch']:,} batches"
    return f"after epoch {state['epoch']}"


def _number(path: Path) -> int:
    match = _NUMBERED.fullmatch(path.name)
    return int(match[1]) if match else -1


def random_states() -> dict[str, Any]:
    states: dict[str, Any] = {"torch": torch.get_rng_state(), "random": random.getstate()}
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        states["cuda"] = torch.cuda.get_rng_state_all()
    if (numpy := sys.modules.get("numpy")) is not None:
        kind, keys, *rest = numpy.random.get_state()
        states["numpy"] = (kind, keys.tolist(), *rest)
    return states


def restore_random(states: Mapping[str, Any]) -> None:
    torch.set_rng_state(states["torch"])
    random.setstate(states["random"])
    if "numpy" in states and (numpy := sys.modules.get("numpy")) is not None:
        numpy.random.set_state(states["numpy"])
    if "cuda" in states and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        with suppress(RuntimeError):  # another number of devices than at the time
            torch.cuda.set_rng_state_all(states["cuda"])


def portable(value: Any, dropped: list[str], name: str = "") -> Any:
    """``value`` as plain data and tensors, which torch reads back safely; what is neither is left out and named."""
    if isinstance(value, torch.Tensor) or value is None or type(value) in (str, bytes, bool, int, float, complex):
        return value
    if isinstance(value, Mapping):
        made = {key: portable(item, dropped, f"{name}.{key}") for key, item in value.items() if not callable(item)}
        kind: Any = type(value)
        return kind(made) if kind in (OrderedDict, Counter) else made
    if isinstance(value, (list, tuple)):
        items = [portable(item, dropped, name) for item in value]
        return tuple(items) if isinstance(value, tuple) else items
    if isinstance(value, (torch.device, torch.dtype)):
        return value
    if isinstance(value, (bool, int, float, str)):  # enumerations and numpy's floats
        return next(kind(value) for kind in (bool, int, float, str) if isinstance(value, kind))
    if hasattr(value, "dtype") and hasattr(value, "tolist"):
        return portable(value.tolist(), dropped, name)
    dropped.append(name.lstrip("."))
    return None
