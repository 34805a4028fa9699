"""What was asked for: command-line flags over diagnose.toml over pyproject.toml, as one plain object.

The parent process reads it and sends it to the worker, so it imports no torch and holds nothing but JSON data.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import date
from pathlib import Path
from typing import Any

from diagnose.errors import UsageError
from diagnose.near_miss import did_you_mean
from diagnose.settings import Problem, as_setting, parse_duration, read_value

__all__ = ["Config", "load_config", "parse_duration"]


@dataclass(frozen=True)
class Config:
    """Every field is JSON data. None, or an empty tuple, means that nothing was said.

    ``set``: "scope.key=value". ``budget``, ``hang_after``: seconds. ``ignore``: names, codes or prefixes that hold
    today; ``ignore_reasons``: the table {name, reason, until} of those that were given with one; ``ignore_expired``:
    names whose ``until`` is past. ``origins``: field -> "flag" or "configuration".
    """

    target: str | None = None
    data: str | None = None
    input: str | None = None
    loss: str | None = None
    optimizer: str | None = None
    scheduler: str | None = None
    set: tuple[str, ...] = ()
    task: str | None = None
    device: str = "auto"
    seed: int = 0
    budget: float | None = None
    hang_after: float | None = None
    out: str | None = None
    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    fail_on: str = "error"
    baseline: str | None = None
    write_baseline: str | None = None
    in_process: bool = False
    download: bool = False
    full_scan: bool = False
    quiet: bool = False
    verbose: bool = False
    json: bool = False
    only: bool = False
    keep_going: bool = False
    plan: bool = False
    allow_inconclusive: bool = False
    from_stage: str | None = None
    until_stage: str | None = None
    epochs: int | None = None
    fraction: float | None = None
    reference: str | None = None
    resume: bool = False
    init_from: str | None = None
    stop_on: tuple[str, ...] = ()
    checkpoint: str | None = None
    split: str | None = None
    knob: str | None = None
    values: tuple[str, ...] = ()
    intents: tuple[str, ...] = ()
    ignore_reasons: tuple[dict[str, str], ...] = ()
    ignore_expired: tuple[str, ...] = ()
    origins: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Config:
        """The inverse of ``to_dict``, after JSON too. A key that is no field is a TypeError."""
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
        return cls(**values)


_DERIVED = ("ignore_reasons", "ignore_expired", "origins")
_NAMES = tuple(item.name for item in fields(Config) if item.name not in _DERIVED)
_FLAGS_ONLY = ("json", "plan", "resume")
_ALIASES = {"from": "from_stage", "until": "until_stage"}

NO_TARGET = (
    "no target was given. Give one of\n"
    "  diagnose ... package.module:attribute\n"
    "  diagnose ... path/to/file.py:attribute\n"
    '  [tool.diagnose] target = "package.module:attribute" in pyproject.toml (or target = ... in diagnose.toml)\n'
    "where the attribute is a function that returns an nn.Module or a diagnose.Pipeline."
)


def load_config(flags: Mapping[str, Any], cwd: Path, *, require_target: bool = True) -> Config:
    """Merge ``flags`` (field name -> value) over diagnose.toml over ``[tool.diagnose]`` of pyproject.toml in ``cwd``.

    A flag that is None, False or empty was not given. Settings add up, key by key; of any other field the first source
    counts. Raises one UsageError that tells every problem; a flag that is no field is a TypeError.
    """
    given = {key: value for key, value in flags.items() if value is not None and value is not False and value != ()}
    given = {key: value for key, value in given.items() if value not in ([], "")}
    if unknown := set(given) - set(_NAMES):
        raise TypeError(f"not a configuration field: {', '.join(sorted(unknown))}")
    problems: list[str] = []
    sources = [
        ("configuration", _read("pyproject.toml", cwd, problems)),
        ("configuration", _read("diagnose.toml", cwd, problems)),
        ("flag", _converted(given, problems, lambda key: f"--{_flag_name(key)}")),
    ]
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for origin, values in sources:
        if "ignore" in values:
            merged.pop("ignore_reasons", None)
            merged.pop("ignore_expired", None)
        for key, value in values.items():
            merged[key] = _added(merged.get("set", ()), value) if key == "set" else value
            if key not in _DERIVED:
                origins[key] = origin
    if require_target and not merged.get("target") and not any("target" in problem for problem in problems):
        problems.append(NO_TARGET)
    if problems:
        raise UsageError(*problems)
    return Config(**merged, origins=origins)


def _flag_name(key: str) -> str:
    return {"from_stage": "from", "until_stage": "until"}.get(key, key.replace("_", "-"))


def _added(earlier: tuple[str, ...], later: tuple[str, ...]) -> tuple[str, ...]:
    by_key = {setting.partition("=")[0]: setting for setting in (*earlier, *later)}
    return tuple(by_key.values())


def _read(name: str, cwd: Path, problems: list[str]) -> dict[str, Any]:
    """The converted values of one file; what is wrong in it is added to ``problems``."""
    path = cwd / name
    if not path.is_file():
        return {}
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        problems.append(f"{name}: not readable as TOML: {error}.")
        return {}
    prefix = ""
    if name == "pyproject.toml":
        prefix = "[tool.diagnose] "
        tool = content.get("tool", {})
        content = tool.get("diagnose", {}) if isinstance(tool, dict) else {}
    if not isinstance(content, dict):
        problems.append(f"{name}: [tool.diagnose] is a {type(content).__name__}, expected a table.")
        return {}
    known = _known_keys(name, prefix, content, problems)
    return _converted(known, problems, lambda key: f"{name}: {prefix}{key}")


def _known_keys(name: str, prefix: str, content: dict[str, Any], problems: list[str]) -> dict[str, Any]:
    known: dict[str, Any] = {}
    allowed = [key for key in _NAMES if key not in _FLAGS_ONLY]
    for key, value in content.items():
        plain = key.replace("-", "_")
        plain = _ALIASES.get(plain, plain)
        if plain in allowed:
            known[plain] = value
        elif plain in _FLAGS_ONLY:
            problems.append(f"{name}: {prefix}{key} is a flag of the command line only: --{plain}.")
        else:
            problems.append(f"{name}: {prefix}{key} is not an option.{did_you_mean(plain, allowed)}")
    return known


def _converted(values: Mapping[str, Any], problems: list[str], label: Any) -> dict[str, Any]:
    converted: dict[str, Any] = {}
    for key, value in values.items():
        try:
            if key == "set":
                converted[key] = _settings(value)
            elif key == "ignore":
                converted |= _ignored(value)
            else:
                converted[key] = read_value(key, value)
        except Problem as problem:
            problems.extend(f"{label(key)}: {line}" for line in problem.lines)
    return converted


def _settings(value: Any) -> tuple[str, ...]:
    """From a list of "scope.key=value", or a table {scope: {key: value}} whose plain values go to the model."""
    pairs: list[tuple[str, Any]] = []
    if isinstance(value, Mapping):
        for scope, inner in value.items():
            if isinstance(inner, Mapping):
                pairs.extend((f"{scope}.{key}", item) for key, item in inner.items())
            else:
                pairs.append((f"model.{scope}", inner))
        texts = [as_setting(key, item) for key, item in pairs]
    else:
        texts = [as_setting(None, item) for item in ([value] if isinstance(value, str) else value)]
    if lines := [line for text in texts if isinstance(text, Problem) for line in text.lines]:
        raise Problem(*lines)
    return tuple(str(text) for text in texts)


def _ignored(value: Any) -> dict[str, Any]:
    """Names, or tables {name, reason, until}; a table that is past its date no longer counts."""
    items = value if isinstance(value, (list, tuple)) else [value]
    names: list[str] = []
    expired: list[str] = []
    reasons: list[dict[str, str]] = []
    for item in items:
        if isinstance(item, str):
            names.extend(part for part in item.replace(",", " ").split())
            continue
        entry = _ignore_entry(item)
        reasons.append(entry)
        is_past = bool(entry["until"]) and date.fromisoformat(entry["until"]) < date.today()
        (expired if is_past else names).append(entry["name"])
    return {"ignore": tuple(names), "ignore_reasons": tuple(reasons), "ignore_expired": tuple(expired)}


def _ignore_entry(item: Any) -> dict[str, str]:
    if not isinstance(item, Mapping) or not isinstance(item.get("name"), str):
        raise Problem(f"got {item!r}, expected a name, or a table {{name, reason, until}}.")
    if unknown := [key for key in item if key not in ("name", "reason", "until")]:
        raise Problem(f"{unknown[0]} is not a key of an ignore table; expected name, reason, until.")
    until = str(item.get("until", ""))
    try:
        until and date.fromisoformat(until)
    except ValueError:
        raise Problem(f"until: got {until!r}, expected a date such as 2030-01-31.") from None
    return {"name": item["name"], "reason": str(item.get("reason", "")), "until": until}
