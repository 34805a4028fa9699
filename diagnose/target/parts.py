"""Where each part of a pipeline comes from: a flag, the configuration, a function beside the target, or a default."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from diagnose.config import Config
from diagnose.datasets import builtin_loaders, is_builtin
from diagnose.datasets.augmented import Strengths
from diagnose.errors import UsageError
from diagnose.settings import SCOPES, parse_setting
from diagnose.target import neighbours
from diagnose.target.arguments import Call
from diagnose.target.locate import Located, locate
from diagnose.training import schedulers
from diagnose.user_code import is_user_file

Settings = Mapping[str, Mapping[str, str]]

SCHEDULER_KNOWN = ("epochs", "steps_per_epoch")  # passed by themselves where get_scheduler requires them
COMPANIONS = {
    "data": ("get_loaders", "get_dataloaders", "get_dataset_loaders"),
    "loss": ("get_loss", "get_criterion"),
    "optimizer": ("get_optimizer",),
    "scheduler": ("get_scheduler",),
}
_LEADING = {"data": 0, "loss": 0, "optimizer": 1, "scheduler": 1}
_KNOWN = dict.fromkeys(COMPANIONS, ("num_classes",)) | {"scheduler": ("num_classes", *SCHEDULER_KNOWN)}
_MODEL_PARAMETERS = ("params", "parameters")


@dataclass
class Part:
    """One part and its origin. ``call`` makes it anew; where that is None, ``value`` is the part itself."""

    origin: str
    label: str
    call: Call | None = None
    value: Any = None

    def problems(self, known: tuple[str, ...]) -> list[str]:
        return self.call.problems(known) if self.call else []

    def make(self, *leading: Any, known: Mapping[str, Any]) -> Any:
        if self.call is None:
            return self.value
        if leading and isinstance(leading[0], nn.Module) and self.call.first_parameter in _MODEL_PARAMETERS:
            leading = (leading[0].parameters(), *leading[1:])
        return self.call(*leading, known=known)


@dataclass
class Parts:
    """The parts that were found; those that were not have defaults. ``by_scope``: data, loss, optimizer, scheduler."""

    by_scope: dict[str, Part] = field(default_factory=dict)
    functions: dict[str, Callable[..., Any]] = field(default_factory=dict)  # compute_loss, train_step
    interval: str | None = None
    modules: list[ModuleType] = field(default_factory=list)  # the user's, in which parts were given
    hints: dict[str, str] = field(default_factory=dict)  # scope -> what stands near, but was not taken

    def problems(self, known: tuple[str, ...], settings: Settings, epochs_known: tuple[str, ...]) -> list[str]:
        """What is wrong with the settings of all parts, and settings that no part takes."""
        problems = []
        for scope, part in self.by_scope.items():
            problems += part.problems((*known, *epochs_known) if scope == "scheduler" else known)
        for scope in ("data", "loss", "scheduler"):
            if settings[scope] and (scope not in self.by_scope or self.by_scope[scope].call is None):
                keys = " ".join(f"--set {scope}.{key}=..." for key in settings[scope])
                problems.append(f"{keys}: no {scope} function takes it. Give one with --{scope} module:function.")
        return problems


def read_settings(config: Config) -> dict[str, dict[str, str]]:
    """scope -> key -> value of all ``--set``."""
    settings: dict[str, dict[str, str]] = {scope: {} for scope in SCOPES}
    for text in config.set:
        scope, key, value = parse_setting(text)
        settings[scope][key] = value
    return settings


def flagged_parts(config: Config, settings: Settings, cwd: Path) -> Parts:
    """The parts that are given by flag or configuration."""
    parts = Parts()
    for scope in COMPANIONS:
        reference = getattr(config, scope)
        if reference is None:
            continue
        origin = config.origins.get(scope, "flag")
        if scope == "data" and is_builtin(reference):
            parts.by_scope[scope] = _builtin(reference, config, settings, origin)
        elif scope == "scheduler" and reference in schedulers.BY_NAME:
            label = f"the scheduler {reference}"
            call = Call(schedulers.BY_NAME[reference], scope, label, settings[scope], _LEADING[scope])
            parts.by_scope[scope] = Part(origin, label, call)
            parts.interval = settings[scope].get("interval", schedulers.INTERVALS[reference])
        else:
            located = locate(reference, f"--{scope}", cwd)
            parts.modules.append(located.module)
            parts.by_scope[scope] = _part(scope, located, settings, origin)
    return parts


def add_companions(parts: Parts, module: ModuleType, settings: Settings) -> None:
    """Fill what is missing with functions of the target's module, then of the modules in which other parts were given.

    Of the latter only what can be called with the settings there are. What is not taken, there or in files beside the
    target, becomes a hint.
    """
    file = Path(getattr(module, "__file__", None) or module.__name__)
    for scope, names in COMPANIONS.items():
        if scope in parts.by_scope:
            continue
        if (name := _defined(module, names)) is not None:
            parts.by_scope[scope] = _companion(module, scope, name, settings, f"function {name}")
        elif not _from_given_modules(parts, scope, settings):
            known = [file, *(Path(str(given.__file__)) for given in parts.modules if _is_own(given))]
            if scope not in parts.hints and (hint := neighbours.hint(scope, names, file.parent, known)):
                parts.hints[scope] = hint
    for name in ("compute_loss", "train_step"):
        if callable(function := getattr(module, name, None)):
            parts.functions[name] = function
    parts.interval = _interval(module) or parts.interval


def _interval(module: ModuleType) -> str | None:
    interval = getattr(module, "scheduler_interval", None)
    if interval is None or interval in ("epoch", "step"):
        return interval
    raise UsageError(f"scheduler_interval of {_file_name(module)}: got {interval!r}, expected 'epoch' or 'step'.")


def _file_name(module: ModuleType) -> str:
    return Path(getattr(module, "__file__", None) or module.__name__).name


def _defined(module: ModuleType, names: Sequence[str]) -> str | None:
    return next((name for name in names if callable(getattr(module, name, None))), None)


def _companion(module: ModuleType, scope: str, name: str, settings: Settings, origin: str) -> Part:
    label = f"{name} of {_file_name(module)}"
    return Part(origin, label, Call(getattr(module, name), scope, label, settings[scope], _LEADING[scope]))


def _from_given_modules(parts: Parts, scope: str, settings: Settings) -> bool:
    """Whether a module of another part has this one too, such as get_scheduler beside the optimizer's function."""
    for module in filter(_is_own, parts.modules):
        if (name := _defined(module, COMPANIONS[scope])) is None:
            continue
        part = _companion(module, scope, name, settings, "")
        part.origin = f"function {part.label}"
        if not part.problems(_KNOWN[scope]):
            parts.by_scope[scope] = part
            if scope == "scheduler":
                parts.interval = _interval(module)
            return True
        assert part.call is not None
        needs = ", ".join(key for key in part.call.required() if key not in _KNOWN[scope])
        parts.hints[scope] = (
            f"{part.label} was not taken: it needs {needs or 'other settings'} (--set {scope}.KEY=VALUE)."
        )
    return False


def _is_own(module: ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and is_user_file(file)


def _builtin(name: str, config: Config, settings: Settings, origin: str) -> Part:
    import torch

    def load(
        batch_size: int = 64,
        num_workers: int = 0,
        augment: tuple[str, ...] = (),
        flip: float = 0.5,
        padding: int = 4,
        degrees: float = 15.0,
        jitter: float = 0.2,
        grey: float = 0.1,
        erase: float = 0.3,
    ) -> dict[str, Any]:
        return builtin_loaders(
            name,
            batch_size=batch_size,
            num_workers=num_workers,
            seed=torch.initial_seed(),
            download=config.download,
            augment=augment,
            strengths=Strengths(flip, padding, degrees, jitter, grey, erase),
        )

    label = f"the built-in data {name}"
    return Part(origin, label, Call(load, "data", label, settings["data"]))


def _part(scope: str, located: Located, settings: Settings, origin: str) -> Part:
    value = located.value
    call = Call(value, scope, located.label, settings[scope], _LEADING[scope]) if callable(value) else None
    if scope == "loss" and call is not None and _is_loss_itself(call):
        return Part(origin, located.label, value=value)
    if call is None and scope != "data":
        kind = type(value).__name__
        raise UsageError(f"--{scope}: {located.label} is a {kind}, expected a function that returns the {scope}.")
    return Part(origin, located.label, call, value)


def _is_loss_itself(call: Call) -> bool:
    """``f(output, target)`` where a factory was expected: plain to see from two arguments that nobody set."""
    if isinstance(call.function, nn.Module):
        return True
    return inspect.isroutine(call.function) and len(call.required()) >= 2 and not call.settings


def check_optimizer(made: Any, label: str) -> Any:
    if all(hasattr(made, name) for name in ("step", "zero_grad", "param_groups")):
        return made
    several = isinstance(made, (list, tuple, dict))
    advice = " For several, define train_step(model, batch, optimizer) beside the model." if several else ""
    raise UsageError(f"{label} returned {_kind(made)}, expected a torch.optim.Optimizer.{advice}")


def check_scheduler(made: Any, label: str) -> Any:
    if made is None or isinstance(made, LRScheduler) or callable(getattr(made, "step", None)):
        return made
    raise UsageError(f"{label} returned {_kind(made)}, expected a scheduler of torch.optim.lr_scheduler, or None.")


def check_loss(made: Any, label: str) -> Any:
    if callable(made) and not isinstance(made, type):
        return made
    raise UsageError(f"{label} returned {_kind(made)}, expected a function of (output, target).")


def _kind(made: object) -> str:
    if made is None:
        return "None"
    return f"the class {made.__name__}" if isinstance(made, type) else f"a {type(made).__name__}"
