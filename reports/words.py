"""The fixed plain words of every report, and the catalogue's texts by name."""

from __future__ import annotations

from probes import catalogue
from probes.api import ProbeDoc
from probes.results import Grade, Status, Verdict

STAGE_QUESTIONS = {
    "data": "Do the loaders yield what you think they yield?",
    "smoke": "Do forward, loss, backward and step work?",
    "mnist": "Can this model, loss and optimizer learn an easy data set?",
    "overfit": "Can the pipeline memorise one or two batches?",
    "subset": "Does it learn from a part of the data?",
    "train": "Does the full training go as expected?",
    "evaluate": "What does the trained model get wrong?",
}

OUTCOMES = {
    Status.PASS: "passed",
    Status.FAIL: "failed",
    Status.INCONCLUSIVE: "inconclusive",
    Status.SKIPPED: "skipped",
    Status.CRASHED: "crashed (your code)",
    Status.INTERNAL: "not decided (error of this tool)",
}

FOUND = {**OUTCOMES, Status.PASS: "not found", Status.FAIL: "found"}
"""Outcomes of one check: its name states a defect, so that "passed" would read as its opposite."""

VERDICTS = {
    Verdict.FAULTY: "Faulty",
    Verdict.HEALTHY: "Healthy",
    Verdict.INCONCLUSIVE: "Inconclusive",
    Verdict.INTERRUPTED: "Interrupted",
}

# Commands that were asked to measure: name of the finding that holds what came of it.
MEASURED = {"lr": "learning-rate-range", "ablate": "settings-compared"}
MEASURED_TITLES = {"lr": "learning-rate range", "ablate": "comparison"}

GRADES = {
    Grade.PROVED: (
        "Proved is the strongest grade. Either the defect was seen directly, or an experiment that changed only "
        "this one thing made the model learn in at least 2 of 3 repeats (with different random seeds), while the "
        "unchanged pipeline failed in at least 2 of 3."
    ),
    Grade.SUPPORTED: (
        "Supported means: the signs fit this cause and the other candidates were ruled out. No experiment of "
        "this run proves it."
    ),
    Grade.SUSPECTED: (
        "Suspected means: the signs fit this cause, but other causes remain possible. Take it as a lead, not as "
        "a verdict."
    ),
}


def doc(name: str) -> ProbeDoc | None:
    """The catalogue's entry of a name; None for a name that this version does not know."""
    try:
        return catalogue.doc(name)
    except (KeyError, ModuleNotFoundError):
        return None
