"""What the probes of an ablation have in common: which change repairs learning, and the figures that say so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from probes.api import Inconclusive, Skip
from probes.learning._curves import failed, learned_of, shares
from probes.results import Grade

if TYPE_CHECKING:
    from probes.records.trials import Ablation, Arm

SENTENCE = (
    "{given}, {control_failed} of {control_seeds} seeds did not learn in {steps} steps; with {change} {learned} did."
)
LEARNING_FAILURES = (
    "stuck-at-chance", "predicts-one-class", "slow-to-learn", "cannot-overfit", "fails-on-reference-data",
)  # fmt: skip
"""The symptoms that a setting under which nothing is learned brings about."""


def repairing_arm(ablation: Ablation) -> Arm | None:
    """The mildest change that repairs learning, None where none does or where it only soothes another fault.

    Raises Skip where the control learns, Inconclusive where only some seeds of the control fail or of a change learn.
    """
    if not ablation.arms:
        raise Skip("the unchanged pipeline learns in a short training, so there is nothing to repair")
    fails = failed(ablation.control)
    if ablation.explained_by:
        return None
    if ablation.repairing is not None and fails == 0:
        raise Skip("the unchanged pipeline learns with every seed, so there is nothing to repair")
    if ablation.repairing is not None and 2 * fails < len(ablation.control.outcomes):
        raise Inconclusive(f"the unchanged pipeline learns in {learned_of(ablation.control)} seeds")
    if ablation.repairing is None and any("learns" in arm.outcomes for arm in ablation.arms):
        raise Inconclusive(f"only some seeds learn ({shares(ablation.arms)})")
    return ablation.repairing


def nothing_repairs(ablation: Ablation) -> str:
    """The fact that rules a knob out."""
    if ablation.explained_by and ablation.repairing is not None:
        return (
            f"it learns with {ablation.repairing.label} as well, but less, and that adds nothing to "
            f"{ablation.explained_by}"
        )
    return f"it does not learn with other values either ({shares(ablation.arms)}; {ablation.steps} steps)"


def _grade(ablation: Ablation) -> Grade:
    """Supported where other changes repair as well and could not be told apart from this one."""
    if not ablation.proved:
        return Grade.SUSPECTED
    return Grade.SUPPORTED if ablation.rivals else Grade.PROVED


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
        "grade": str(_grade(ablation)),
        "given": f"even with {' and '.join(ablation.given)}" if ablation.given else "as configured",
        "rivals": ", ".join(ablation.rivals),
        "unusual": ablation.unusual,
        "loss_first": control.points[0].train_loss,
        "loss_last": control.points[-1].train_loss,
        "loss_repaired": trace.points[-1].train_loss,
        "accuracy": control.points[-1].val_score,
        "accuracy_repaired": trace.points[-1].val_score,
        "chance": control.chance,
    }
