"""Replaces attributes of torch for a while, and calls the recorder in a way that cannot hurt the user's script."""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from diagnose.watch.recorder import Recorder

Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]


class Patches:
    """Replaces attributes, and puts back what was there."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def put(self, owner: Any, name: str, wrap: Wrap) -> None:
        original = getattr(owner, name)
        own = name in vars(owner)
        kept = vars(owner).get(name)
        setattr(owner, name, functools.wraps(original)(wrap(original)))
        self._stack.callback(lambda: setattr(owner, name, kept) if own else delattr(owner, name))


class Heard:
    """The methods of the recorder, or of a ``part`` of it, made safe: a failure of ours ends the recording, never the
    user's script. ``on``: empty where nothing is to be heard any more."""

    def __init__(self, recorder: Recorder, on: list[bool], part: Any = None) -> None:
        self.recorder, self._on = recorder, on
        self._part = recorder if part is None else part

    def of(self, part: Any) -> Heard:
        return Heard(self.recorder, self._on, part)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        call = self.safe(getattr(self._part, name))
        setattr(self, name, call)  # found at once the next time
        return call

    def safe(self, method: Callable[..., Any]) -> Callable[..., Any]:
        on = self._on

        def call(*args: Any, **kwargs: Any) -> Any:
            if not on:
                return None
            try:
                return method(*args, **kwargs)
            except Exception:
                self.recorder.failure = traceback.format_exc(limit=-4)
                on.clear()
                self.recorder.window.close()
                return None

        return call


def after(note: Callable[..., None]) -> Wrap:
    """Calls ``note`` with the same arguments when the original has returned."""

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            note(*args, **kwargs)
            return result

        return call

    return wrap


def before(note: Callable[..., None]) -> Wrap:
    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            note(*args, **kwargs)
            return original(*args, **kwargs)

        return call

    return wrap
