"""Judges what was given to the losses of torch's: results beside those of the captured step. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from probes import catalogue
from probes.api import Stage
from probes.records.loop import LossGiven
from probes.results import Finding, Result, Status

NAMES = ("softmax-before-cross-entropy", "bce-on-probabilities", "nll-on-probabilities", "target-outside-loss-domain",
         "target-broadcast")  # fmt: skip


def told(results: Sequence[Result], given: Sequence[LossGiven]) -> list[Result]:
    """``results`` of the captured step, with what was seen at the calls where that step told nothing."""
    by_name = {seen.name: seen for seen in reversed(given)}
    return [
        replace(result, status=Status.FAIL, reason=finding.message, findings=(finding,))
        if result.name in by_name and not result.findings and (finding := _finding(by_name[result.name]))
        else result
        for result in results
    ]


def missing(results: Sequence[Result], given: Sequence[LossGiven]) -> list[Result]:
    """Results for what was seen, where the captured step could not be judged at all."""
    known = {result.name for result in results}
    empty = [
        Result(catalogue.doc(name).code, name, str(Stage.WATCH), Status.SKIPPED, "")
        for name in dict.fromkeys(seen.name for seen in given) if name not in known
    ]  # fmt: skip
    return told(empty, given)


def _finding(seen: LossGiven) -> Finding:
    doc = catalogue.doc(seen.name)
    if seen.name == "target-broadcast":
        return doc.finding(
            "{function} compares an output of shape {output} with a target of shape {target}",
            where=seen.where, function=seen.function, output=str(tuple(seen.shape)), target=str(tuple(seen.target)),
        )  # fmt: skip
    takes = "log-probabilities" if seen.function in {"nll_loss", "kl_div"} else "logits"
    return doc.finding(
        "{function} is given the output of a {made}, where it takes {takes}",
        where=seen.where, function=seen.function, made=seen.made_by, takes=takes,
    )  # fmt: skip
