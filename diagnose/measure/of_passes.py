"""What is measured of forward and backward passes without an update: outputs, influence, gradients, losses."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from diagnose.experiments import dropout
from diagnose.measure import custom_functions, inspection, loss_parts, outputs, sensitivity
from diagnose.user_code import UserCodeError
from probes.api import Skip
from probes.records.forward import Attempt, CustomFunction, HalfGradients, LossParts, Outputs
from probes.records.inspection import Inspection, RandomCall
from probes.records.trials import DropoutSite

if TYPE_CHECKING:
    from torch import Tensor

    from diagnose.context import MeasuringContext
    from diagnose.pipeline import Pipeline
    from diagnose.training.step import Engine


MOVED = 1e-3  # of the largest output
STILL = 1e-5  # of the loss: what cancels in it leaves rounding only


class PassMeasurements:
    """Those of ``probes.measurements.Context`` that run the model, and leave its parameters to themselves."""

    def __init__(self, ctx: MeasuringContext) -> None:
        self._ctx = ctx
        self._looked_into: Pipeline | None = None  # its parameters are as built
        # One that is disturbed and in eval mode, of a model that keeps nothing of what it sees.
        self._disturbed: Pipeline | None = None

    def let_go(self) -> None:
        """Of the models that were kept; whoever needs one again gets a fresh one."""
        self._looked_into = self._disturbed = None

    def outputs(self) -> Outputs:
        def measure() -> Outputs:
            failure = self._ctx.attempt().failure
            if failure is not None and failure.phase not in {"loss", "backward", "step"}:
                raise Skip(f"{failure.phase} raised {failure.type}")
            looked_into, self._looked_into = self._looked_into, None
            with self._ctx.engine(kept=looked_into) as engine:
                found = outputs.outputs(engine, self._ctx.raws()[0], self._own_call())
            if found.stirred is not None:
                self._disturbed = engine.pipeline
            return found

        return self._ctx.once("outputs", "outputs in eval mode", measure)

    def evaluate(self, change: Callable[[Sequence[Any]], Sequence[Any]] | None, *, whole: bool = False) -> Tensor:
        seen = self.outputs()  # the user's failure belongs to the unchanged input
        if change is None and not whole and seen.stirred is not None:
            return seen.stirred
        raw = self._ctx.raws()[0]
        with self._ctx.engine(kept=self._disturbed) as engine:
            if self._disturbed is None:
                sensitivity.disturb(engine.model, sensitivity.JITTER)
            return outputs.changed_output(engine, raw, change, whole=whole, called=self._own_call())

    def _own_call(self) -> Attempt | None:
        """The attempt, where the user's loss calls the model with other inputs than a batch begins with."""
        attempt = self._ctx.attempt()
        return attempt if attempt.own_call else None

    def inspection(self) -> Inspection:
        def measure() -> Inspection:
            self._ctx.completed_attempt()
            with self._ctx.engine() as engine:
                found = inspection.inspection(engine.model, _main_output_of(engine), self._ctx.raws())
            self._looked_into = engine.pipeline
            return found

        return self._ctx.once("inspection", "a closer look at the forward", measure)

    def random_calls(self) -> Sequence[RandomCall]:
        def measure() -> Sequence[RandomCall]:
            self._ctx.completed_attempt()
            with self._ctx.engine() as engine:
                return inspection.random_calls(engine.model, _main_output_of(engine), self._ctx.raws()[0])

        return self._ctx.once("random calls", "looking for what draws random numbers", measure)

    def moves_loss(self, names: Sequence[str]) -> bool | None:
        def loss(disturbed: Sequence[str], jolt: float = 0.0) -> float:
            with self._ctx.engine() as engine:
                engine.model.train()
                sensitivity.disturb(engine.model, jolt, disturbed)
                return sensitivity.loss_of(engine, self._ctx.raws()[0])

        try:
            before = self._ctx.once("undisturbed loss", "the loss of the first batch", lambda: loss(()))
            after = [loss(names, jolt) for jolt in sensitivity.JOLTS]
        except UserCodeError:
            return None
        if not math.isfinite(before) or not math.isfinite(after[0]):
            return None
        return any(before != value for value in after if math.isfinite(value))

    def cancels_in_loss(self, names: Sequence[str]) -> bool:
        def output_and_loss(disturbed: Sequence[str]) -> tuple[Tensor | None, float]:
            with self._ctx.engine() as engine, torch.no_grad():
                engine.model.eval()
                sensitivity.disturb(engine.model, sensitivity.JOLTS[0], disturbed)
                done = engine.loss(self._ctx.raws()[0])
                return done.main, float(done.loss.sum())

        try:
            (output, loss), (moved, then) = output_and_loss(()), output_and_loss(names)
        except UserCodeError:
            return False
        if output is None or moved is None or output.shape != moved.shape:
            return False
        share = float((output - moved).abs().max()) / max(float(output.abs().max()), 1e-12)
        slope = self._ctx.attempt().output_gradient
        if slope is None or slope.shape != output.shape or share <= MOVED:
            return False
        matters = bool((slope.to(output.device) * (moved - output)).any())  # what moves is what the loss looks at
        return matters and abs(loss - then) <= STILL * max(abs(loss), 1e-12)

    def gradients(self) -> Mapping[str, float | None]:
        def measure() -> Mapping[str, float | None]:
            self._need_a_loss()
            plain = self._ctx.attempt().gradients
            if all(norm and math.isfinite(norm) for norm in plain.values()):
                return plain
            with self._ctx.engine() as engine:
                engine.model.train()
                sensitivity.disturb(engine.model, sensitivity.JITTER)
                return sensitivity.gradients(engine, self._ctx.raws())

        return self._ctx.once("gradients", "the gradient of a slightly changed model", measure)

    def nonfinite_operation(self) -> str:
        def measure() -> str:
            if sensitivity.only_step(self._ctx.pipeline):
                return ""
            with self._ctx.engine() as engine:
                engine.model.train()
                return sensitivity.nonfinite_operation(engine, self._ctx.raws())

        return self._ctx.once("nonfinite operation", "looking for the operation", measure)

    def loss_parts(self) -> LossParts:
        def measure() -> LossParts:
            self._need_a_loss()
            with self._ctx.engine() as engine:
                found = loss_parts.loss_parts(engine, self._ctx.raws())
            if found is None:
                raise Skip("the loss is not one of torch's losses plus something else")
            return found

        return self._ctx.once("loss parts", "taking the loss apart", measure)

    def custom_functions(self) -> Sequence[CustomFunction]:
        def measure() -> Sequence[CustomFunction]:
            self._need_a_loss()
            if not self._ctx.attempt().own_functions:
                return ()
            with self._ctx.engine() as engine:
                engine.model.train()
                return custom_functions.custom_functions(lambda: engine.loss(self._ctx.raws()[0]).loss)

        return self._ctx.once("custom functions", "checking the user's own autograd functions", measure)

    def half_gradients(self) -> HalfGradients:
        """Skip where everything is computed in float32 or more."""
        fresh = self._ctx.pipeline
        stored = {p.dtype for p in fresh.model.parameters()} & {torch.float16, torch.bfloat16}
        dtype = "fp16" if fresh.precision == "fp16" or torch.float16 in stored else "bf16"
        if fresh.precision == "fp32" and not stored:
            raise Skip("everything is computed in float32")

        def measure() -> HalfGradients:
            self._need_a_loss()
            with self._ctx.engine() as own, self._ctx.engine() as full:
                full.pipeline.precision = "fp32"
                full.model.float()
                return sensitivity.half_gradients(own, full, self._ctx.raws()[0], dtype)

        return self._ctx.once("half gradients", "comparing with float32", measure)

    def dropout_sites(self) -> Sequence[DropoutSite]:
        def measure() -> list[DropoutSite]:
            self._ctx.completed_attempt()
            with self._ctx.engine() as engine:
                return dropout.sites(engine, self._ctx.raws()[0], self._ctx.made_at)

        return self._ctx.once("dropout sites", "looking for dropout", measure)

    def _need_a_loss(self) -> None:
        """Raises Skip where no loss can be had without a step."""
        self._ctx.completed_attempt()
        if sensitivity.only_step(self._ctx.pipeline):
            raise Skip("only the pipeline's own train_step computes the loss")


def _main_output_of(engine: Engine) -> Callable[[Any], Tensor | None]:
    return lambda raw: outputs.forward(engine, raw).main
