"""How single values of the configuration are read: types, choices, durations, ``--set``."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

from diagnose.near_miss import did_you_mean
from diagnose.pipeline import INTENTS, TASKS

SCOPES = ("model", "data", "loss", "optimizer", "scheduler", "train")
SCHEDULERS = ("step", "multi-step", "exponential", "cosine", "plateau", "one-cycle")
"""Their names everywhere; what torch calls them is understood too."""
SCHEDULER_CLASSES = {
    "StepLR": "step", "MultiStepLR": "multi-step", "ExponentialLR": "exponential", "CosineAnnealingLR": "cosine",
    "ReduceLROnPlateau": "plateau", "OneCycleLR": "one-cycle",
}  # fmt: skip
STAGES = ("data", "smoke", "mnist", "overfit", "subset", "train", "evaluate")
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


class Problem(ValueError):
    """One value is not usable; ``lines`` say what was got and what was expected."""

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


def parse_duration(value: str | float) -> float:
    """Seconds from 90, "90", "90s", "2m", "1h" or "1h30m". Raises Problem (a ValueError) unless positive and finite."""
    text = str(value).strip().lower()
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*([smh]?)", text)
    if isinstance(value, bool) or not re.fullmatch(r"(?:\d+(?:\.\d+)?\s*[smh]\s*)+|\d+(?:\.\d+)?", text):
        raise Problem(f"got {value!r}, expected seconds or a duration: 90, 90s, 2m or 1h.")
    seconds = math.fsum(float(number) * _UNITS[unit] for number, unit in parts)
    if not 0 < seconds < math.inf:
        raise Problem(f"got {value!r}, expected a duration greater than zero.")
    return seconds


def parse_setting(text: str) -> tuple[str, str, str]:
    """(scope, key, value) of "scope.key=value"; without a scope it is the model's. Raises Problem."""
    name, equals, value = text.partition("=")
    scope, dot, key = name.strip().rpartition(".")
    scope = scope if dot else "model"
    if not equals or not key:
        raise Problem(f"got {text!r}, expected key=value or scope.key=value, for example model.width=64.")
    if scope not in SCOPES:
        near = did_you_mean(scope, SCOPES)
        raise Problem(f"{scope!r} in {text!r} is not a scope; expected {', '.join(SCOPES)}.{near}")
    return scope, key, value.strip()


def as_setting(name: str | None, value: Any) -> str | Problem:
    """The text "scope.key=value" of a TOML value under ``name``, or of a whole setting where ``name`` is None."""
    try:
        if name is None:
            if not isinstance(value, str):
                raise Problem(f"got {value!r}, expected text such as model.width=64.")
            return "{}.{}={}".format(*parse_setting(value))
        return "{}.{}={}".format(*parse_setting(f"{name}={_as_text(name, value)}"))
    except Problem as problem:
        return problem


def _as_text(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ",".join(_as_text(name, item) for item in value)
    if isinstance(value, str):  # quoted where it would be read back as something else
        return value if guess(value) == value else f"'{value}'"
    if isinstance(value, (int, float, date, time, datetime)):
        return str(value)
    raise Problem(f"{name} is a {type(value).__name__}, expected text, a number, true, false or a list.")


def guess(text: str) -> Any:
    """What ``text`` stands for where nothing says its type: none, a truth value, a number, or the text itself."""
    folded = text.lower()
    if folded in ("none", "null"):
        return None
    if folded in ("true", "false"):
        return folded == "true"
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            continue
    return unquoted(text)


def unquoted(text: str) -> str:
    return text[1:-1] if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"" else text


def read_bool(value: Any) -> bool:
    folded = str(value).lower()
    if folded in _TRUE or folded in _FALSE:
        return folded in _TRUE
    raise Problem(f"got {value!r}, expected true or false.")


def read_value(key: str, value: Any) -> Any:
    """``value`` of the option ``key`` in its type. Raises Problem with what was expected."""
    return _READERS[key](value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise Problem(f"got {value!r}, expected text.")
    return value


def _names(value: Any) -> tuple[str, ...]:
    items = value if isinstance(value, (list, tuple)) else [value]
    if not all(isinstance(item, str) for item in items):
        raise Problem(f"got {value!r}, expected a list of names.")
    return tuple(part for item in items for part in item.replace(",", " ").split())


def _values(value: Any) -> tuple[str, ...]:
    items = value if isinstance(value, (list, tuple)) else [value]
    return tuple(part.strip() for item in items for part in str(item).split(",") if part.strip())


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Problem(f"got {value!r}, expected true or false.")
    return value


def _whole(least: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise Problem(f"got {value!r}, expected a whole number from {least} up.")
        return value

    return read


def _fraction(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 1:
        raise Problem(f"got {value!r}, expected a fraction greater than 0 and at most 1, for example 0.1.")
    return float(value)


def _choice(choices: Sequence[str]) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if value not in choices:
            raise Problem(f"got {value!r}, expected {', '.join(choices)}.{did_you_mean(str(value), choices)}")
        return str(value)

    return read


def _task(value: Any) -> str | None:
    """Two classes by one score are multilabel with one label, by two a classification: loss and targets tell."""
    return None if value == "binary" else _choice(TASKS)(value)


def _intents(value: Any) -> tuple[str, ...]:
    return tuple(_choice(INTENTS)(name) for name in _names(value))


def _scheduler(value: Any) -> str:
    value = SCHEDULER_CLASSES.get(value, value)
    if value in SCHEDULERS:
        return str(value)
    near = did_you_mean(str(value), (*SCHEDULERS, *SCHEDULER_CLASSES))
    return _reference(f"{', '.join(SCHEDULERS)}, or module:attribute", "get_scheduler", near)(value)


def _stop_on(value: Any) -> tuple[str, ...]:
    from diagnose.monitors.names import STOPPABLE

    return tuple(_choice(STOPPABLE)(name) for name in _names(value))


def _reference(what: str, example: str, near: str = "") -> Callable[[Any], str]:
    def read(value: Any) -> str:
        module, _, attribute = _text(value).rpartition(":")
        if not module or not attribute or "/" in attribute or "\\" in attribute:
            stem = value if value.endswith(".py") else "package.module"
            script = value.endswith(".py") and example == "get_model"
            watch = f" A script that trains by itself is watched: diagnose watch {value}." if script else ""
            name = (_factory_in(Path(value)) if script else "") or example
            raise Problem(f"got {value!r}, expected {what}, for example {stem}:{name}.{near}{watch}")
        return str(value)

    return read


def _factory_in(path: Path) -> str:
    """The function of a file that is most likely meant as the target, read without running it; "" where none is."""
    try:
        top = ast.parse(path.read_bytes()).body
    except (OSError, SyntaxError, ValueError):
        return ""
    names = [item.name for item in top if isinstance(item, ast.FunctionDef)]
    known = [name for name in ("get_pipeline", "get_model") if name in names]
    return next(
        iter([*known, *(n for n in names if re.match("(get|make|build|create)_(.*_)?(pipeline|model|net)", n))]), ""
    )


def _pattern(pattern: str, expected: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise Problem(f"got {value!r}, expected {expected}.")
        return value

    return read


_READERS: Mapping[str, Callable[[Any], Any]] = {
    "target": _reference("module:attribute or path/to/file.py:attribute", "get_model"),
    "data": _text,
    "input": _pattern(r"[1-9]\d*(x[1-9]\d*)*", "the shape of one sample, for example 3x32x32"),
    "loss": _reference("module:attribute", "get_loss"),
    "optimizer": _reference("module:attribute", "get_optimizer"),
    "scheduler": _scheduler,
    "task": _task,
    "device": _pattern(r"auto|cpu|mps|cuda(:\d+)?", "auto, cpu, cuda or cuda:N"),
    "seed": _whole(0),
    "budget": parse_duration,
    "hang_after": parse_duration,
    "out": _text,
    "select": _names,
    "fail_on": _choice(("error", "warning")),
    "baseline": _text,
    "write_baseline": _text,
    "from_stage": _choice(STAGES),
    "until_stage": _choice(STAGES),
    "epochs": _whole(1),
    "fraction": _fraction,
    "reference": _choice(("mnist", "cifar10", "digits")),
    "init_from": _text,
    "stop_on": _stop_on,
    "checkpoint": _text,
    "split": _choice(("train", "val", "test")),
    "knob": _text,
    "values": _values,
    "intents": _intents,
    **dict.fromkeys(
        (
            "in_process",
            "download",
            "full_scan",
            "quiet",
            "verbose",
            "json",
            "only",
            "keep_going",
            "plan",
            "allow_inconclusive",
            "resume",
        ),
        _flag,
    ),
}
