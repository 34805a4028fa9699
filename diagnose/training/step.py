"""One step of the user's pipeline: batch to loss, and the whole optimisation step, as the pipeline defines them."""

from __future__ import annotations

import inspect
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from diagnose.batches import Batch, map_tensors, to_device, understand
from diagnose.errors import UsageError
from diagnose.training.metrics import main_output
from diagnose.user_code import user_code

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from diagnose.pipeline import Pipeline

AUTOCAST = {"bf16": "bfloat16", "fp16": "float16"}


@dataclass
class Forwarded:
    """``loss`` as the pipeline computes it (None if it was not asked for); ``output`` as the model returned it."""

    loss: Any
    output: Any
    batch: Batch

    @property
    def main(self) -> Tensor | None:
        return main_output(self.output)


class Engine:
    """Runs one pipeline on one device. The model is moved there once; batches are moved as they come.

    ``reuse``: batches are used again, so that a forward that works in place gets a copy of its own.
    """

    def __init__(
        self, pipeline: Pipeline, device: torch.device, *, channels_last: bool = False, reuse: bool = True
    ) -> None:
        import torch

        self._copies = reuse and device.type == "cpu"

        self.pipeline = pipeline
        self.device = device
        self.model = pipeline.model
        self.caller: Any = pipeline.model  # or what wraps it, where several ranks train it
        self._signature = inspect.signature(self.model.forward)
        self._last_output: Any = None
        self._micro = 0
        self._format = torch.channels_last if channels_last else None
        with user_code("moving the model to the device"):
            self.model.to(device)
            if self._format is not None:
                self.model.to(memory_format=self._format)
            if isinstance(pipeline.loss, torch.nn.Module):
                pipeline.loss.to(device)
        move_optimizer_state(pipeline.optimizer, device)
        self.scaler = torch.amp.GradScaler(device.type, enabled=pipeline.precision == "fp16" and device.type == "cuda")
        self._hook = self.model.register_forward_hook(self._remember)

    @property
    def has_loss(self) -> bool:
        """Whether the loss of a batch can be had without a step: not where it lives inside ``train_step`` only."""
        return (
            self.pipeline.loss is not None or self.pipeline.compute_loss is not None or self.pipeline.train_step is None
        )

    def takes(self, batch: Batch) -> bool:
        """Whether the model can be called with the inputs of the batch, by their number and names."""
        try:
            self._signature.bind(*batch.inputs, **batch.kwargs)
        except TypeError:
            return False
        return True

    def close(self) -> None:
        self._hook.remove()

    def _remember(self, module: Any, args: Any, output: Any) -> None:
        self._last_output = output

    def prepare(self, raw: Any) -> Batch:
        """The batch on the device. Raises UserCodeError when the transfer fails."""
        import torch

        with user_code("moving a batch to the device"):
            moved = to_device(raw, self.device)
            raw = map_tensors(moved, lambda x: x.clone()) if self._copies else moved
        batch = self._understood(raw)
        if self._format is not None:
            inputs = tuple(
                x.contiguous(memory_format=self._format) if isinstance(x, torch.Tensor) and x.ndim == 4 else x
                for x in batch.inputs
            )
            batch = Batch(inputs=inputs, kwargs=batch.kwargs, target=batch.target, size=batch.size, raw=batch.raw)
        return batch

    def _understood(self, raw: Any) -> Batch:
        try:
            return understand(raw, model_signature=self._signature)
        except UsageError:
            if self.pipeline.compute_loss is None and self.pipeline.train_step is None:
                raise
            return understand(raw)  # the user's own function knows what the model takes of it

    def autocast(self) -> AbstractContextManager[Any]:
        import torch

        dtype = AUTOCAST.get(self.pipeline.precision)
        return nullcontext() if dtype is None else torch.autocast(self.device.type, dtype=getattr(torch, dtype))

    def forward(self, raw: Any) -> Forwarded:
        """Model only. Raises UserCodeError("forward")."""
        batch = self.prepare(raw)
        with user_code("forward"), self.autocast():
            output = self.caller(*batch.inputs, **batch.kwargs)
        return Forwarded(None, output, batch)

    def loss(self, raw: Any) -> Forwarded:
        """Model and loss, as the pipeline computes the loss of a batch. Raises UserCodeError("forward" or "loss")."""
        if self.pipeline.compute_loss is not None:
            batch = self.prepare(raw)
            self._last_output = None
            with user_code("loss"), self.autocast():
                value = self.pipeline.compute_loss(self.caller, batch.raw)
            if isinstance(value, tuple) and len(value) == 2:
                return Forwarded(value[0], value[1], batch)
            return Forwarded(value, self._last_output, batch)
        done = self.forward(raw)
        with user_code("loss"), self.autocast():
            own = getattr(done.output, "loss", None)
            if own is None and isinstance(done.output, dict):
                own = done.output.get("loss")
            if done.batch.kwargs and own is not None:
                done.loss = own
            else:
                assert self.pipeline.loss is not None, "a source always fills in a loss"
                expected = done.output if self._takes_whole_output() else done.main
                done.loss = self.pipeline.loss(done.output if expected is None else expected, done.batch.target)
        return done

    def _takes_whole_output(self) -> bool:
        """Torch's own losses take one tensor; whoever wrote a loss of their own gets what their model returns."""
        loss = self.pipeline.loss
        return not (type(loss).__module__ or "").startswith("torch.nn") and not (
            getattr(loss, "__module__", "") or ""
        ).startswith("torch.nn")

    def step(self, raw: Any) -> Forwarded:
        """One whole step in the mode the model is in: gradients cleared, backward, clip, update."""
        pipeline = self.pipeline
        if pipeline.train_step is not None:
            batch = self.prepare(raw)
            self._last_output = None
            with user_code("train_step"):
                value = pipeline.train_step(self.caller, batch.raw, pipeline.optimizer)
            return Forwarded(value, self._last_output, batch)
        assert pipeline.optimizer is not None, "a source always fills in an optimizer"
        if self._micro == 0:
            pipeline.optimizer.zero_grad()
        done = self.loss(raw)
        with user_code("backward"):
            self.scaler.scale(done.loss / pipeline.accumulate).backward()
        self._micro = (self._micro + 1) % max(1, pipeline.accumulate)
        if not self._micro:
            self.update()
        return done

    @property
    def updated(self) -> bool:
        """Whether the last ``step`` ended with an update: with accumulation, not every one does."""
        return self._micro == 0

    def finish_update(self) -> bool:
        """Update with the gradients of an accumulation that is not full, as at the end of an epoch; whether it did."""
        if not self._micro:
            return False
        self._micro = 0
        self.update()
        return True

    def update(self) -> None:
        """Clip, and step with the gradients that are there."""
        import torch

        optimizer = self.pipeline.optimizer
        assert optimizer is not None
        with user_code("step"):
            if self.pipeline.clip_grad_norm is not None:
                self.scaler.unscale_(optimizer)
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.pipeline.clip_grad_norm)
            self.scaler.step(optimizer)
            self.scaler.update()


def move_optimizer_state(optimizer: Any, device: torch.device) -> None:
    """State made before the model moved (a restored Adam, say) follows it."""
    import torch

    for state in getattr(optimizer, "state", {}).values():
        for key, value in state.items():
            if isinstance(value, torch.Tensor) and key != "step":
                state[key] = value.to(device)
