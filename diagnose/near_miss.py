"""Names close to one that was not found."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import SequenceMatcher

_NEAR = 0.6  # least likeness, from 0 to 1, as difflib has it
_RIVAL = 0.1  # what is less alike than the best by more than this is not offered beside it


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """A sentence that starts with a space and offers the nearest of ``choices``; empty where none is near."""
    alike = {choice: SequenceMatcher(None, word.lower(), choice.lower()).ratio() for choice in choices}
    best = max(alike.values(), default=0.0)
    near = [choice for choice, ratio in alike.items() if ratio >= max(_NEAR, best - _RIVAL)]
    near.sort(key=lambda choice: -alike[choice])
    return f" Did you mean {' or '.join(near[:3])}?" if near else ""
