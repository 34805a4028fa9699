"""Removes what is nobody's business from all that is written: home, names, secrets, absolute paths of the project.

Not covered: a secret that neither its name nor its form gives away.
"""

from __future__ import annotations

import getpass
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

REDACTED = "[redacted]"

_SECRET_WORDS = {"secret", "secrets", "password", "passwd", "passphrase", "pwd", "credential", "credentials", "apikey"}
_LAST_WORDS = {"token", "key"}  # "attn.key.weight" and "token_accuracy" are no secrets
_NOT_SECRET = re.compile(r"(^|[._-])(pad|eos|bos|unk|cls|sep|mask|special|sort|dict)[._-]?(token|key)$", re.IGNORECASE)
# Accounts and hosts that tell nobody anything; some are words that reports need ("root cause").
_GENERIC = {"root", "user", "ubuntu", "admin", "runner", "nobody", "jovyan", "localhost", "docker", "debian", "vagrant"}
# Fields of the schema whose value is one of a fixed set or a name of ours.
_STRUCTURAL = {"event", "kind", "stage", "status", "severity", "verdict", "grade", "code", "command", "metric", "probe"}
_ARGUMENT = "argument"  # an item of a list; it may hold spaces that are no ends

# A log may hold lines of a megabyte: no pattern may begin at every place of one and run to its end.
_URL_CREDENTIALS = re.compile(r"(\b[a-zA-Z][\w+.-]{0,20}://)[^/\s@'\"]+@")
_KNOWN_TOKENS = re.compile(r"\b(?:hf_|ghp_|github_pat_|glpat-|sk-|xox[bp]-|AKIA)[A-Za-z0-9_-]{16,}")
_BEARER = re.compile(r"\b(Bearer|Basic) +[A-Za-z0-9._~+/=-]{8,}")
_FLAG = re.compile(r"""((?<![\w-])--[A-Za-z][\w.-]*)([= ]+)("[^"]*"|'[^']*'|[^\s"'-][^\s]*)""")
_SET = re.compile(r"""(--set[= ]+)(['"]?)([\w.-]+)=(.*?)(?=\2(?:\s|$))""")
_ASSIGNED = re.compile(r"""(?<![\w.-])([A-Za-z_][\w.-]*)(=)("[^"]*"|'[^']*'|[^\s&"',;)]+)""")
_QUOTED_KEY = re.compile(r"""(['"])([\w.-]+)\1(\s*:\s*)("[^"]*"|'[^']*')""")
_WHOLE_ASSIGNMENT = re.compile(r"([A-Za-z_][\w.-]*)=(.+)", re.DOTALL)


def is_secret(name: str) -> bool:
    """Whether a key, flag or variable of this name holds a secret: by its whole words, not by substrings."""
    words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", name)]
    if not words or _NOT_SECRET.search(name):
        return False
    return not _SECRET_WORDS.isdisjoint(words) or words[-1] in _LAST_WORDS


@dataclass(frozen=True)
class Redactor:
    """Call it with plain data; it returns a copy."""

    project: Path
    home: Path
    names: Mapping[str, str] = field(default_factory=dict)  # word -> what stands in its place

    def __call__(self, value: Any, key: str = "") -> Any:
        if isinstance(value, str):
            return REDACTED if value and is_secret(key) else self._string(value, key)
        if isinstance(value, Mapping):
            return self._mapping(value, key)
        if isinstance(value, (list, tuple)):
            return self._sequence(value, key)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and _is_password(key):
            return REDACTED
        return value

    def text(self, text: str, *, names: bool = True) -> str:
        text = _URL_CREDENTIALS.sub(rf"\1{REDACTED}@", text)
        text = _BEARER.sub(rf"\1 {REDACTED}", _KNOWN_TOKENS.sub(REDACTED, text))
        text = _SET.sub(lambda m: f"{m[1]}{m[2]}{m[3]}={REDACTED if is_secret(m[3]) else m[4]}", text)
        text = _FLAG.sub(lambda m: f"{m[1]}{m[2]}{REDACTED if is_secret(m[1]) else m[3]}", text)
        # "key=" alone is everyday code: sorted(names, key=len).
        text = _ASSIGNED.sub(lambda m: f"{m[1]}={REDACTED if is_secret(m[1]) and m[1] != 'key' else m[3]}", text)
        text = _QUOTED_KEY.sub(_hide_quoted, text)
        text = self._paths(text)
        return self._named(text) if names else text

    def _string(self, value: str, key: str) -> str:
        whole = _WHOLE_ASSIGNMENT.fullmatch(value)
        if whole and is_secret(whole[1]) and (key == _ARGUMENT or not re.search(r"\s", value)):
            return f"{whole[1]}={REDACTED}"
        return self.text(value, names=key not in _STRUCTURAL)

    def _mapping(self, value: Mapping[Any, Any], key: str) -> dict[str, Any]:
        if isinstance(value.get("name"), str) and is_secret(value["name"]) and isinstance(value.get("value"), str):
            value = {**value, "value": REDACTED}
        inherited = key if is_secret(key) else ""
        return {self.text(str(name), names=False): self(item, inherited or str(name)) for name, item in value.items()}

    def _sequence(self, value: list[Any] | tuple[Any, ...], key: str) -> list[Any]:
        """As in ``["--token", "abc"]``, a flag may stand before its value."""
        shared = key if key in _STRUCTURAL or is_secret(key) else _ARGUMENT
        before = ["", *(item if isinstance(item, str) and item.startswith("--") else "" for item in value)]
        pairs = zip(before, value, strict=False)
        return [self(item, flag if is_secret(flag) else shared) for flag, item in pairs]

    def _paths(self, text: str) -> str:
        for project in dict.fromkeys((str(self.project), str(self.project.resolve()))):
            if project != "/":
                text = re.sub(rf"(?<![\w./~-]){re.escape(project)}(/(?=[^\s/])|(?![\w./-]))", _relative, text)
        if len(self.home.parts) > 1:
            text = re.sub(rf"(?<![\w.~-]){re.escape(str(self.home))}(?![\w.-])", "~", text)
        return text

    def _named(self, text: str) -> str:
        for word, stand_in in self.names.items():
            text = re.sub(rf"(?<![\w-]){re.escape(word)}(?![\w-])", stand_in, text)
        return text


def _hide_quoted(found: re.Match[str]) -> str:
    quote, name, colon, value = found.groups()
    return f"{quote}{name}{quote}{colon}" + (f'"{REDACTED}"' if is_secret(name) else value)


def _relative(found: re.Match[str]) -> str:
    return "" if found[1] else "."


def _is_password(key: str) -> bool:
    return is_secret(key) and re.split(r"[^A-Za-z]+", key.lower())[-1] not in _LAST_WORDS


def redactor(project: Path | None = None) -> Redactor:
    """For this machine and user; ``project`` is the current directory unless said."""
    return _redactor((project or Path.cwd()).absolute())


@cache
def _redactor(project: Path) -> Redactor:
    names = dict.fromkeys((socket.gethostname(), socket.gethostname().partition(".")[0]), "[host]")
    try:
        home = Path.home()
        names[getpass.getuser()] = "[user]"
    except (OSError, KeyError, RuntimeError):  # a container's user id that no account belongs to
        home = Path("/")
    kept = {word: stand_in for word, stand_in in names.items() if len(word) >= 3 and word.lower() not in _GENERIC}
    return Redactor(project, home, kept)


def redact(obj: Any, project: Path | None = None) -> Any:
    """Plain data without secrets, names and absolute paths of the project; keys and structure stay."""
    return redactor(project)(obj)


def redact_text(text: str) -> str:
    """The same for a text of many lines, such as a log."""
    return redactor().text(text)
