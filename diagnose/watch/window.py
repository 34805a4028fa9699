"""When the program is looked at closely.

Nearly all steps are only counted. Now and then a *window* opens: the first steps, steps at powers of two, and the first
two after a loader begins anew or a model changes its mode. Only in a window are modules hooked and gradients followed.
All limits are in steps, batches and calls, so the same script gives the same record.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.modules import module as module_hooks

from diagnose.watch.calls import CallListener
from diagnose.watch.modules import in_mode
from diagnose.watch.sites import here

if TYPE_CHECKING:
    from diagnose.watch.recorder import Recorder

LOOKED = 2  # steps, or batches without a step, that are looked at after something began
OFTEN = 10  # times that something may open a window; then at powers of two


def is_due(count: int, often: int) -> bool:
    return count < often or count & (count - 1) == 0


class Window:
    """``shielded``: given by whoever puts the hooks in; a hook that fails ends the recording, not the script.
    ``is_open``: models are followed as they run."""

    def __init__(self, recorder: Recorder) -> None:
        self.is_open = False
        self.openings = 0
        self.shielded: Callable[[Callable[..., Any]], Callable[..., Any]] = lambda method: method
        self._run = recorder
        self._calls = CallListener(
            lambda module, args, kwargs: recorder.capture.begins(module, args, kwargs, here()), recorder.capture.ends
        )
        self._attention = 0
        self._hooks: list[Any] = []
        self._depth = 0

    def attend(self) -> None:
        """Something began: the next steps or batches are looked at."""
        self._attention = LOOKED
        self.open()

    def open(self) -> None:
        if self.is_open:
            return
        self.is_open = True
        self.openings += 1
        self._depth = 0
        if self._run.capture.wanted:
            self._calls.open()
        self._hooks = [
            module_hooks.register_module_forward_pre_hook(self.shielded(self._before_forward)),
            module_hooks.register_module_forward_hook(self.shielded(self._after_forward), always_call=True),
        ]

    def captured(self) -> None:
        """The calls of the model need not be listened to any longer."""
        self._calls.close()

    def close(self) -> None:
        self.is_open = False
        self._calls.close()
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        self._attention = 0
        self._run.roots.forget()
        self._run.material.used()
        self._run.outputs.forget()
        for watch in self._run.optimizers:
            watch.complete = False

    def stepped(self, *, due: bool) -> None:
        """A step is over. ``due``: some optimizer's next step is to be looked at."""
        self._attention = max(0, self._attention - 1)
        if self._attention > 0 or due:
            self.open()
        elif self.is_open:
            self.close()

    def _before_forward(self, module: nn.Module, inputs: Any) -> None:
        self._depth += 1
        if self._depth == 1:
            self._root(module, inputs)

    def _after_forward(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self._depth = max(0, self._depth - 1)
        if self._depth == 0 and self._run.roots.parameters(module):  # not a loss that is a module
            self._run.outputs.made(output)

    def _root(self, module: nn.Module, inputs: Any) -> None:
        has_parameters = self._run.roots.call(module, inputs)
        if has_parameters and torch.is_grad_enabled():
            self._run.material.inputs(inputs)
        found = self._run.passes.current()
        if found is not None and has_parameters:
            watched = found[1]
            watched.forwards += 1
            if id(module) not in watched.roots:
                watched.roots.add(id(module))
                if not watched.awake and (names := in_mode(module, True)):
                    watched.awake, watched.awake_at = tuple(names), here()
