"""From the record of a loop to results. Needs neither torch nor the user's code."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from diagnose.config import Config
from diagnose.judging import run_probe
from diagnose.plan import matches
from diagnose.watch import given
from probes import catalogue
from probes.api import Stage
from probes.records.loop import Loop
from probes.results import Finding, Result, Severity, StageResult, Status
from reports.schema import validate

NO_TRAINING = "no optimizer was stepped in the watched process"
LIMITED = "the script was stopped at the limit that was set"
# What a model, a few batches, a loss and an optimizer tell by themselves. Not here: what needs the data set or a
# loader, what is judged by the loop itself, and what needs a short training.
CHECKS = (
    "nonfinite-inputs", "constant-inputs", "repeated-samples", "labels-out-of-range", "label-dtype-mismatch",
    "all-targets-ignored", "target-outside-loss-domain", "channels-last-input", "scrambled-image-layout",
    "inputs-normalised-twice", "target-leaked-into-input", "padding-affects-output", "nonfinite-activations",
    "output-shape-mismatch", "target-broadcast",
    "softmax-before-cross-entropy", "activation-on-logits", "softmax-over-batch", "batch-mixing", "future-leak",
    "unregistered-modules", "layer-created-in-forward", "missing-nonlinearity", "nondeterministic-eval",
    "ignored-input", "dead-relu", "saturated-activations", "exploding-initialisation", "vanishing-initialisation",
    "symmetric-initialisation", "padding-idx-is-a-real-token", "initial-loss-off", "loss-summed", "loss-sign-flipped",
    "nll-on-probabilities", "bce-on-probabilities", "mse-for-classification", "wrong-loss-axis",
    "ignore-index-hits-class", "unstable-log", "misaligned-language-model-labels", "nonfinite-loss", "graph-cut",
    "unused-parameters", "zero-gradient", "nonfinite-gradient", "vanishing-gradient", "exploding-gradient",
    "wrong-custom-backward", "bf16-update-lost", "fp16-overflow", "fp16-underflow", "everything-frozen",
    "adam-epsilon-out-of-range",
)  # fmt: skip
WITHOUT_LOSS = (
    "nonfinite-inputs", "constant-inputs", "channels-last-input", "scrambled-image-layout", "inputs-normalised-twice",
    "nonfinite-activations", "batch-mixing", "unregistered-modules", "layer-created-in-forward", "missing-nonlinearity",
    "nondeterministic-eval", "ignored-input", "dead-relu", "saturated-activations",
)  # fmt: skip
PROGRESS = (
    "nonfinite-training", "stuck-at-chance", "diverging", "predicts-one-class", "loss-spike", "plateau",
    "no-generalisation", "overfitting", "unscaled-regression-target",
)  # fmt: skip


def names(config: Config) -> list[str]:
    """Everything that can be told of a watched program, without what was deselected."""
    judged = [name for name in catalogue.builtin_names() if hasattr(catalogue.module(name), "watched")]
    return chosen((*judged, *CHECKS, *PROGRESS), config)


def chosen(found: Sequence[str], config: Config) -> list[str]:
    """Those of ``found`` that are left by ``--select`` and ``--ignore``."""
    docs = [catalogue.doc(name) for name in found]
    return [
        doc.name
        for doc in docs
        if (not config.select or any(matches(doc, wanted) for wanted in config.select))
        and not any(matches(doc, wanted) for wanted in config.ignore)
    ]


def judge(loop: Loop, config: Config) -> list[Result]:
    """A loop in which nothing was trained is not judged, nor one that was not recorded to its end by our own fault."""
    stage = str(Stage.WATCH)
    wanted = [name for name in names(config) if hasattr(catalogue.module(name), "watched")]
    if not wanted:
        return []
    if loop.failure:
        first, *others = [(catalogue.doc(name).code, name) for name in wanted]
        failed = Result(*first, stage, Status.INTERNAL, loop.failure)
        return [failed, *(Result(*other, stage, Status.SKIPPED, "the recording failed") for other in others)]
    if not loop.steps and not loop.backwards:
        return [Result(catalogue.doc(name).code, name, stage, Status.SKIPPED, NO_TRAINING) for name in wanted]
    context: Any = loop
    return [run_probe(name, context, stage=stage, judge="watched") for name in wanted]


def parts(told: Sequence[Any] | None, config: Config, loop: Loop) -> list[Result]:
    """What the process made of the captured step, after the program; None where it did not come to it."""
    wanted = set(chosen(given.NAMES, config))
    wrong = [seen for seen in loop.given if seen.name in wanted]
    if told is not None:
        results = given.told([validate(Result, result) for result in told], wrong)
        return [*results, *given.missing(results, wrong)]
    why = (
        "the program did not come to its end" if loop.ended == "cut" else "the process died when the step was repeated"
    )
    found = [catalogue.doc(name) for name in chosen((*CHECKS, *PROGRESS), config)]
    skipped = [Result(d.code, d.name, str(Stage.WATCH), Status.SKIPPED, f"not checked: {why}") for d in found]
    return given.told(skipped, wrong)


def crashed(finding: Finding) -> Result:
    """An exception that ended the script."""
    doc = catalogue.doc(finding.name)
    return Result(doc.code, doc.name, str(Stage.WATCH), Status.CRASHED, finding.message, (finding,))


def stage(
    loop: Loop | None, results: list[Result], seconds: float, number: Callable[[int], str] = str, course: str = ""
) -> StageResult:
    """The outcome of watching, and in one line what was seen. ``course``: how the loss went."""
    name = str(Stage.WATCH)
    died = next((r for r in results if r.status is Status.CRASHED), None)
    if died is not None:
        return StageResult(name, Status.CRASHED, died.reason, seconds)
    failed = next((r for r in results if any(f.severity is Severity.ERROR for f in r.findings)), None)
    if failed is not None:
        return StageResult(name, Status.FAIL, f"{failed.reason}; {course}" if course else failed.reason, seconds)
    if loop is None:
        return StageResult(name, Status.INCONCLUSIVE, "the script ended before anything could be recorded", seconds)
    internal = next((r for r in results if r.status is Status.INTERNAL), None)
    if internal is not None:
        return StageResult(
            name, Status.INCONCLUSIVE, "the recording, or a check of it, failed inside the tool", seconds
        )
    if not loop.steps:
        return StageResult(name, Status.INCONCLUSIVE, NO_TRAINING, seconds)
    if loop.ended in {"cut", "interrupted"}:
        return StageResult(name, Status.INCONCLUSIVE, "the script was cut off before its end", seconds)
    if loop.ended == "failed":
        what = f"the script ended with an error, by sys.exit after {number(loop.steps)} optimizer steps"
        return StageResult(name, Status.INCONCLUSIVE, what, seconds)
    looks = sum(len(o.looks) for o in loop.optimizers)
    end = f"; {course}" if course else ""
    end += f"; {LIMITED}" if loop.ended == "limit" else ""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        end += "; one rank of several, which were not compared"
    return StageResult(
        name, Status.PASS, f"{number(loop.steps)} optimizer steps, {looks} of them looked at closely{end}", seconds
    )
