"""Calling the user's factories with the arguments of ``--set``."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from diagnose.near_miss import did_you_mean
from diagnose.settings import Problem, guess, read_bool, unquoted
from diagnose.user_code import user_code

Parameter = inspect.Parameter
_BY_POSITION = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_VARIADIC = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
_SEQUENCES = (list, tuple, set, frozenset)


@dataclass
class Call:
    """A function of the user with its settings: what would go wrong in the call can be told before it is made.

    ``leading``: how many positional arguments the caller hands over itself (the model, the optimizer).
    """

    function: Callable[..., Any]
    scope: str
    label: str
    settings: Mapping[str, str] = field(default_factory=dict)
    leading: int = 0

    def __post_init__(self) -> None:
        self._signature = _signature(self.function)

    @property
    def first_parameter(self) -> str:
        """Name of the first parameter, "" where there is none."""
        return next(iter(self._signature.parameters), "") if self._signature else ""

    @property
    def returns(self) -> object:
        return self._signature.return_annotation if self._signature else None

    def takes(self, name: str) -> bool:
        """Whether ``name`` can be handed over: a parameter, or a key that is set and goes to ``**kwargs``."""
        return name in self._named() or name in self.settings

    def problems(self, known: Collection[str] = ()) -> list[str]:
        """Everything that is wrong with the settings; ``known`` names arguments that are passed by themselves."""
        problems: list[str] = []
        for key, text in self.settings.items():
            try:
                self._convert(key, text)
            except Problem as problem:
                problems.extend(problem.lines)
        missing = [name for name in self.required() if name not in known]
        if missing:
            flags = " ".join(f"--set {self.scope}.{name}=..." for name in missing)
            problems.append(f"{self.label} needs {', '.join(missing)}: give {flags}")
        return problems

    def required(self) -> list[str]:
        """Names of the parameters without a default that are not set."""
        return [
            name
            for name, parameter in self._named().items()
            if parameter.default is Parameter.empty and name not in self.settings
        ]

    def __call__(self, *leading: Any, known: Mapping[str, Any] | None = None) -> Any:
        """Make the call. ``known`` is passed where it is taken and not set. Raises UserCodeError."""
        values = {name: value for name, value in (known or {}).items() if name in self._named()}
        values |= {key: self._convert(key, text) for key, text in self.settings.items()}
        positional = list(leading)
        for name, parameter in self._named().items():
            if parameter.kind is Parameter.POSITIONAL_ONLY and name in values:
                positional.append(values.pop(name))
        with user_code(self.label):
            return self.function(*positional, **values)

    def reads_list(self, key: str, text: str) -> bool:
        """Whether the text of a setting becomes a list, a tuple or a set in the call."""
        try:
            return isinstance(self._convert(key, text), _SEQUENCES)
        except Problem:
            return False

    def _named(self) -> dict[str, Parameter]:
        """The parameters that can be set, by name."""
        if self._signature is None:
            return {}
        parameters = list(self._signature.parameters.values())
        by_position = [parameter for parameter in parameters if parameter.kind in _BY_POSITION]
        handed_over = {parameter.name for parameter in by_position[: self.leading]}
        return {p.name: p for p in parameters if p.kind not in _VARIADIC and p.name not in handed_over}

    def _convert(self, key: str, text: str) -> Any:
        named = self._named()
        if key in named:
            try:
                return convert(text, named[key].annotation, named[key].default)
            except Problem as problem:
                raise Problem(f"--set {self.scope}.{key}={text}: {problem.lines[0]} ({self.label})") from None
        if self._signature is None or any(p.kind is Parameter.VAR_KEYWORD for p in self._signature.parameters.values()):
            return guess(text)
        takes = f"takes {', '.join(named)}" if named else "takes no settings"
        advice = did_you_mean(key, named) or _elsewhere(self.scope, key, text)
        raise Problem(f"--set {self.scope}.{key}={text}: {self.label} {takes}.{advice}")


# Settings that are often taken for those of the model: key -> the scope that may know it.
OF_SCOPE = {
    "lr": "optimizer", "learning_rate": "optimizer", "weight_decay": "optimizer", "momentum": "optimizer",
    "betas": "optimizer", "batch_size": "data", "num_workers": "data", "augment": "data", "label_smoothing": "loss",
    "accumulate": "train", "clip_grad_norm": "train", "precision": "train",
}  # fmt: skip
FLAGS = ("epochs", "seed", "device", "budget")


def _elsewhere(scope: str, key: str, text: str) -> str:
    """Where a setting goes that the function of ``scope`` does not take; empty where that is not known."""
    if key in FLAGS:
        return f" Give --{key} {text} instead."
    if (other := OF_SCOPE.get(key, scope)) != scope:
        return f" For that of the {other} give --set {other}.{key}={text}."
    return ""


def _signature(function: Callable[..., Any]) -> inspect.Signature | None:
    """None for a callable that does not tell its signature."""
    for evaluate in (True, False):
        try:
            return inspect.signature(function, eval_str=evaluate)
        except (ValueError, TypeError):
            return None
        except Exception:  # an annotation under TYPE_CHECKING does not evaluate: go without
            continue
    return None


def convert(text: str, annotation: object = Parameter.empty, default: object = Parameter.empty) -> Any:
    """``text`` in the type of ``annotation``, else that of ``default``, else what it looks like. Raises Problem."""
    if annotation is not Parameter.empty and not isinstance(annotation, str):
        return _as_annotated(text, annotation)
    if isinstance(annotation, str):
        return _as_annotated(text, _BY_NAME.get(annotation.replace(" ", ""), Any))
    if isinstance(default, bool):
        return read_bool(text)
    if isinstance(default, (int, float)):  # dropout=0 takes 0.3 as well
        value = guess(text)
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise Problem(f"got {text!r}, expected a number")
        return float(value) if isinstance(default, float) and value is not None else value
    if isinstance(default, Enum):
        return _as_annotated(text, type(default))
    if isinstance(default, str):
        return None if text.lower() in ("none", "null") else unquoted(text)
    if isinstance(default, (list, tuple)):
        return type(default)(guess(part) for part in _parts(text))
    return guess(text)


_BY_NAME: dict[str, object] = {
    "int": int,
    "float": float,
    "str": str,
    "bool": bool,
    "int|None": int | None,
    "float|None": float | None,
    "str|None": str | None,
    "bool|None": bool | None,
}


def _as_annotated(text: str, annotation: Any) -> Any:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is typing.Annotated:
        return _as_annotated(text, arguments[0])
    if origin in (Union, types.UnionType):
        return _first_that_fits(text, arguments)
    if origin is Literal:
        return _literal(text, arguments)
    container = origin or annotation
    if isinstance(container, type) and (container in _SEQUENCES or container is Sequence):
        return _sequence(text, container, arguments)
    return _simple(text, annotation)


def _simple(text: str, annotation: Any) -> Any:
    if annotation in (None, type(None)):
        if text.lower() in ("none", "null", ""):
            return None
        raise Problem(f"got {text!r}, expected none")
    if annotation is bool:
        return read_bool(text)
    if annotation in (int, float):
        try:
            return annotation(text)
        except ValueError:
            kind = "a whole number" if annotation is int else "a number"
            raise Problem(f"got {text!r}, expected {kind}") from None
    if annotation is str:
        return unquoted(text)
    if annotation is Path:
        return Path(unquoted(text))
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return _member(text, annotation)
    return guess(text)


def _first_that_fits(text: str, arguments: Sequence[Any]) -> Any:
    # None first: every text is a str, "none" too. str last, for the same reason.
    for argument in sorted(arguments, key=lambda kind: (kind is str, kind is not type(None))):
        try:
            return _as_annotated(text, argument)
        except Problem:
            continue
    raise Problem(f"got {text!r}, expected {' or '.join(getattr(kind, '__name__', str(kind)) for kind in arguments)}")


def _literal(text: str, choices: Sequence[Any]) -> Any:
    for choice in choices:
        if str(choice) == unquoted(text) or (choice is None and text.lower() == "none"):
            return choice
    words = [str(choice) for choice in choices]
    raise Problem(f"got {text!r}, expected {', '.join(words)}.{did_you_mean(text, words)}")


def _sequence(text: str, container: Any, arguments: Sequence[Any]) -> Any:
    parts = _parts(text)
    kinds: list[Any] = [kind for kind in arguments if kind is not Ellipsis] or [Any]
    if len(kinds) != len(parts):
        kinds = [kinds[0]] * len(parts)
    items = [_as_annotated(part, kind) for part, kind in zip(parts, kinds, strict=True)]
    return container(items) if container in _SEQUENCES else items


def _parts(text: str) -> list[str]:
    stripped = text.strip()
    if len(stripped) >= 2 and stripped[0] + stripped[-1] in ("[]", "()"):
        stripped = stripped[1:-1]
    return [part.strip() for part in stripped.split(",") if part.strip()]


def _member(text: str, kind: type[Enum]) -> Enum:
    for member in kind:
        if text in (member.name, str(member.value)):
            return member
    names = [member.name for member in kind]
    raise Problem(f"got {text!r}, expected {', '.join(names)}.{did_you_mean(text, names)}")
