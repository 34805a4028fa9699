"""Weights from a file into a model, and what exactly came of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from diagnose.errors import UsageError

if TYPE_CHECKING:
    from torch import nn

HOLDERS = ("model", "state_dict", "model_state_dict", "model_state", "net", "weights")
PREFIXES = ("", "module.", "_orig_mod.", "model.", "net.")  # of DataParallel, torch.compile, Lightning
NAMES = 40  # names told in one sentence


def read_weights(path: Path, flag: str) -> dict[str, Tensor]:
    """The state dict in a file: bare, or inside a checkpoint. Raises UsageError where there is none to be had."""
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise UsageError(f"{flag} {path}: {what}; expected a file with a state dict or a checkpoint.")
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or foreign file fails in any way
        line = (str(error).splitlines() or [""])[0]
        raise UsageError(
            f"{flag} {path}: cannot be read safely ({type(error).__name__}: {line}). Only tensors and plain data are "
            "loaded, nothing is executed: save model.state_dict() with torch.save."
        ) from error
    found = _state_dict(loaded)
    if not found:
        raise UsageError(f"{flag} {path}: holds {_contents(loaded)}, expected the state dict of a model.")
    return found


def _state_dict(loaded: Any) -> dict[str, Tensor]:
    if not isinstance(loaded, Mapping):
        return {}
    for key in HOLDERS:
        if isinstance(loaded.get(key), Mapping):
            return _state_dict(loaded[key])
    return {str(key): value for key, value in loaded.items() if isinstance(value, Tensor)}


def _contents(loaded: Any) -> str:
    if isinstance(loaded, Mapping):
        return "the keys " + (", ".join(map(str, list(loaded)[:8])) or "(none)")
    return f"a {type(loaded).__name__}"


def initialise(model: nn.Module, path: Path) -> list[str]:
    """Load what fits; sentences that say what was loaded, what was skipped, and what stays as newly initialised.

    Raises UsageError where nothing fits.
    """
    state = _renamed(model, read_weights(path, "--init-from"))
    own = model.state_dict()
    fitting = {key: value for key, value in state.items() if key in own and _shape(own[key]) == tuple(value.shape)}
    if not fitting:
        raise UsageError(
            f"--init-from {path}: none of its {len(state)} tensors fits the model. The file has {_some(state)}; the "
            f"model has {_some(own)}."
        )
    model.load_state_dict(fitting, strict=False)
    notes = [f"{len(fitting)} of the model's {len(own)} tensors were loaded from {path.name}: {_some(fitting)}."]
    unknown = [key for key in state if key not in own]
    if unknown:
        notes.append(f"Skipped, as the model has no such tensor: {_some(unknown)}.")
    misfits = {key: value for key, value in state.items() if key in own and key not in fitting}
    fresh = [key for key in own if key not in fitting and key not in misfits]
    told = [
        f"{key} ({tuple(value.shape)} in the file, {_shape(own[key])} in the model)" for key, value in misfits.items()
    ]
    if told or fresh:
        notes.append(
            f"Newly initialised, as the file does not hold them in the model's shape: {_some([*told, *fresh])}."
        )
    return notes


def load_exactly(model: nn.Module, path: Path, flag: str = "--checkpoint") -> None:
    """Load a whole model. Raises UsageError that says which keys do not fit."""
    state = _renamed(model, read_weights(path, flag))
    own = model.state_dict()
    tensors = {key for key, value in own.items() if isinstance(value, Tensor)}
    problems = []
    if missing := [key for key in own if key in tensors and key not in state]:
        problems.append(f"the file lacks {_some(missing)}")
    if unknown := [key for key in state if key not in own]:
        problems.append(f"the model lacks {_some(unknown)}")
    misfits = [key for key in state if key in tensors and _shape(own[key]) != tuple(state[key].shape)]
    if misfits:
        told = [f"{key} ({tuple(state[key].shape)} in the file, {_shape(own[key])} in the model)" for key in misfits]
        problems.append(f"of another shape: {_some(told)}")
    if problems:
        raise UsageError(f"{flag} {path.name} does not fit the model: {'; '.join(problems)}.")
    model.load_state_dict(state, strict=len(tensors) == len(own))


def _renamed(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without the prefix that a wrapper put before every name, where more names fit so."""
    own = model.state_dict().keys()
    made = [{key.removeprefix(prefix): value for key, value in state.items()} for prefix in PREFIXES]
    return max(made, key=lambda names: len(own & names.keys()))


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(value.shape) if isinstance(value, Tensor) else ()


def _some(names: Any) -> str:
    names = list(names)
    return ", ".join(names[:NAMES]) + (f" and {len(names) - NAMES} more" if len(names) > NAMES else "")
