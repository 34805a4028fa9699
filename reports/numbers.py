"""Figures as text: sensible digits, percentages, thousands separators, durations."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, TypeVar

T = TypeVar("T")

GAP = "–"
"""What stands where there is no figure."""

_FRACTIONS = ("accuracy", "chance", "fraction", "precision", "recall", "f1", "top_", "top-")
_VERBATIM = ("seed", "version", "year", "port", "id")
_CONTROL = {"Cc", "Cs", "Co", "Cn"}
_DIRECTION = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\ufeff")


def clean(text: object) -> str:
    """The text without control characters, terminal escapes, lone surrogates and changes of writing direction."""
    return "".join(
        char
        for char in str(text).replace("\r\n", "\n").replace("\r", "\n").expandtabs(4)
        if char == "\n" or (unicodedata.category(char) not in _CONTROL and char not in _DIRECTION)
    )


def cleaned(value: T) -> T:
    """Results (or any part of them) with every text in them cleaned."""
    made: Any = value
    if isinstance(value, str) and not isinstance(value, Enum):
        made = clean(value)
    elif is_dataclass(value) and not isinstance(value, type):
        own = {field.name: cleaned(getattr(value, field.name)) for field in fields(value) if field.init}
        made = type(value)(**own)
    elif isinstance(value, Mapping):
        made = {cleaned(key): cleaned(item) for key, item in value.items()}
    elif isinstance(value, (list, tuple)):
        made = tuple(cleaned(item) for item in value)
    return made  # type: ignore[no-any-return]


def one_line(text: object, limit: int | None = None) -> str:
    """The text on one line, cut with an ellipsis beyond ``limit`` characters."""
    line = " ".join(clean(text).split())
    return line if limit is None or len(line) <= limit else line[: limit - 1].rstrip() + "…"


def finite(value: object) -> float | None:
    """The value as a float; None where it is not a finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def number(value: object) -> str:
    """At most four significant digits, three decimals below one; whole numbers in full with thousands separators."""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    figure = finite(value)
    if figure is None:
        return GAP
    if figure == 0:
        return "0"
    if abs(figure) >= 1000:
        return f"{figure:,.0f}" if abs(figure) < 1e9 else _exponent(figure)
    if abs(figure) >= 1:
        return f"{figure:.0f}" if figure == int(figure) else f"{figure:#.4g}"
    if abs(figure) >= 0.1:
        return f"{figure:.3f}".rstrip("0").rstrip(".")
    return f"{figure:.3g}" if abs(figure) >= 1e-3 else _exponent(figure)


def _exponent(figure: float) -> str:
    mantissa, power = f"{figure:.2e}".split("e")
    if "." in mantissa:
        mantissa = mantissa.rstrip("0").rstrip(".")
    return f"{mantissa}e{int(power)}"


def percent(value: object) -> str:
    """A fraction as a percentage: two significant digits below 10 %, one decimal above."""
    figure = finite(value)
    if figure is None:
        return GAP
    points = 100 * figure
    if abs(points) >= 10:
        return f"{points:.1f}".removesuffix(".0") + " %"
    return f"{points:.2g} %" if abs(points) >= 0.01 or points == 0 else "below 0.01 %"


def duration(seconds: object) -> str:
    figure = finite(seconds)
    if figure is None:
        return GAP
    if figure < 10:
        return f"{figure:.1f} s" if figure >= 0.05 else "under 0.1 s"
    whole = round(figure)
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def is_fraction(key: str) -> bool:
    """Whether figures of this name are fractions from 0 to 1 (accuracies and the like)."""
    return any(part in key.lower() for part in _FRACTIONS)


def figure(key: str, value: Any) -> str:
    """A value as text, by the name that it goes under."""
    lowered = key.lower().replace(" ", "_")
    if value is None:
        return GAP
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return one_line(value)
    if isinstance(value, dict):
        return ", ".join(f"{one_line(name)}={figure(str(name), item)}" for name, item in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(figure(key, item) for item in value) or "none"
    if lowered.rsplit("_", 1)[-1] in _VERBATIM:
        return one_line(value)
    if is_fraction(lowered) and (fraction := finite(value)) is not None and 0 <= fraction <= 1:
        return percent(value)
    if lowered.endswith("seconds"):
        return duration(value)
    if lowered.endswith("bytes"):
        return memory(value)
    return number(value)


def memory(value: object) -> str:
    size = finite(value)
    if size is None:
        return GAP
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if abs(size) < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{size:,.4g} {unit}"


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
