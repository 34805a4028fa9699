"""What the probes of an ablation have in common: which change repairs learning, and the figures that say so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from probes.api import Inconclusive, Skip
from probes.learning._curves import failed, learned_of, shares
from probes.results import Grade

if TYPE_CHECKING:
    from probes.records.trials import Ablation, Arm

SENTENCE = (
    "as configured, {control_failed} of {control_seeds} seeds did not learn in {steps} steps; "
    "with {change} {learned} did."
)
LEARNING_FAILURES = (
    "stuck-at-chance", "predicts-one-class", "slow-to-learn", "cannot-overfit", "fails-on-reference-data",
)  # fmt: skip
"""The symptoms that a setting under which nothing is learned brings about."""


def repairing_arm(ablation: Ablation) -> Arm | None:
    """The mildest change that repairs learning, None where none does.

    Raises Skip where the control learns, Inconclusive where only some seeds of the control fail or of a change learn.
    """
    if not ablation.arms:
        raise Skip("the unchanged pipeline learns in a short training, so there is nothing to repair")
    fails = failed(ablation.control)
    if ablation.repairing is not None and fails == 0:
        raise Skip("the unchanged pipeline learns with every seed, so there is nothing to repair")
    if ablation.repairing is not None and 2 * fails < len(ablation.control.outcomes):
        raise Inconclusive(f"the unchanged pipeline learns in {learned_of(ablation.control)} seeds")
    if ablation.repairing is None and any("learns" in arm.outcomes for arm in ablation.arms):
        raise Inconclusive(f"only some seeds learn ({shares(ablation.arms)})")
    return ablation.repairing


def nothing_repairs(ablation: Ablation) -> str:
    """The fact that rules a knob out."""
    return f"it does not learn with other values either ({shares(ablation.arms)}; {ablation.steps} steps)"


def figures(ablation: Ablation, arm: Arm) -> dict[str, Any]:
    """The values of SENTENCE, the grade, and where the losses and accuracies of control and repair ended."""
    trace, control = arm.traces[0], ablation.control.traces[0]
    return {
        "change": arm.label,
        "control_failed": failed(ablation.control),
        "control_seeds": len(ablation.control.outcomes),
        "steps": ablation.control.traces[0].steps,
        "learned": learned_of(arm),
        "repaired_seeds": sum(outcome == "learns" for outcome in arm.outcomes),
        "seeds": ablation.seeds,
        "grade": str(Grade.PROVED if ablation.proved else Grade.SUSPECTED),
        "loss_first": control.points[0].train_loss,
        "loss_last": control.points[-1].train_loss,
        "loss_repaired": trace.points[-1].train_loss,
        "accuracy": control.points[-1].val_score,
        "accuracy_repaired": trace.points[-1].val_score,
        "chance": control.chance,
    }
