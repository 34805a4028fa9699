"""So much dropout that the model cannot learn: found by turning it down until it does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from probes.api import Findings, Fitting, ProbeDoc, Stage
from probes.learning._repairs import LEARNING_FAILURES, turned
from probes.results import Evidence, Scalar, Table, Where

if TYPE_CHECKING:
    from probes.measurements import Context
    from probes.records.trials import Ablation, Arm, DropoutSite

DOC = ProbeDoc(
    code="REG701",
    name="dropout-too-strong",
    stage=Stage.SUBSET,
    experiment=True,
    hampers=True,
    summary="Dropout removes so much of the signal that the model does not learn.",
    why="Dropout multiplies the noise of every layer it follows, and layers in a row multiply it again: with three "
    "layers at 0.5 a path through the network survives one time in eight. While the weights are still small, the "
    "gradient's noise then exceeds its signal, and the loss stays where it began. The same network learns as soon as "
    "the noise is turned down.",
    fix="Lower the dropout to the mildest value that learned, and raise it again only against measured overfitting.",
    consequences=LEARNING_FAILURES,
    before="nn.Dropout(0.5)",
    after="nn.Dropout(0.25)",
    takeaways=(
        "Begin with little or no dropout, and add it once the model overfits.",
        Fitting("Convolutional blocks bear little dropout (0 to 0.1).", "feature_maps_p"),
        Fitting("Fully connected layers, as in the head, bear 0.3 to 0.5, once rather than after each.", "head_p"),
        Fitting("Between recurrent layers 0.2 to 0.5 is usual.", "recurrent_p"),
        Fitting("Transformers are usually trained with dropout 0.1.", "attention_p"),
        "Use less of it together with batch normalisation, strong augmentation or many classes.",
    ),
    ladder=(
        Fitting("dropout 0.2 in the head and none in the convolutional blocks", "feature_maps_p", "head_p"),
        "dropout 0.1 wherever there is some",
        "no dropout at all",
        "no dropout and half the learning rate",
    ),
    references=(
        "Srivastava et al., Dropout: A Simple Way to Prevent Neural Networks from Overfitting, JMLR 15 (2014)",
    ),
)

LINE = 70  # characters of a line that a terminal shows whole


def run(ctx: Context) -> Findings:
    sites = ctx.dropout_sites()

    def details(arm: Arm) -> dict[str, Any]:
        largest = {f"{group.replace(' ', '_')}_p": p for group, p in largest_p(sites).items()}
        return {
            "dropout": " and ".join(f"{p:g}" for p in sorted({site.p for site in sites})),
            "where": places(sites, arm),
            "evidence": measured(ctx.ablation("dropout")),
            **largest,
            **fix_values(arm, sites),
        }

    return (yield from turned(ctx, DOC, "dropout", "With dropout {dropout}, ", details))


def largest_p(sites: Sequence[DropoutSite]) -> dict[str, float]:
    found: dict[str, float] = {}
    for site in sites:
        found[site.group] = max(site.p, found.get(site.group, 0.0))
    return found


def fix_values(arm: Arm, sites: Sequence[DropoutSite]) -> dict[str, Any]:
    """The lines as they are and as they should be: only sites that the repairing change touches."""
    before, after = [], []
    for site in sites:
        factor = arm.factors.get(site.group, 1.0)
        if factor == 1.0:
            continue
        new = f"{site.p * factor:.3g}"
        line = site.where[0].text if site.where else ""
        if not line or len(line) > LINE:
            line = f"{site.kind}({site.p:g})"
        if f"{site.p:g}" in line:
            changed = line.replace(f"{site.p:g}", new, 1)
        else:  # the number comes from elsewhere
            changed = f"{line}  # {new} in place of {site.p:g}"
        place = f"  # {site.where[0].file}:{site.where[0].line}" if site.where else ""
        if line + place not in before:
            before.append(line + place)
            after.append(changed + place)
    return {"before": "\n".join(before), "after": "\n".join(after)}


def places(sites: Sequence[DropoutSite], arm: Arm) -> list[Where]:
    """The lines of the layers that the repairing change touches, each once."""
    found: list[Where] = []
    for site in sites:
        if arm.factors.get(site.group, 1.0) != 1.0:
            found += [where for where in site.where if where not in found]
    return found


def measured(ablation: Ablation) -> list[Evidence]:
    """Figures of the mechanism, taken in the trials themselves."""
    rows: list[list[Scalar]] = [
        [arm.label, arm.signal] for arm in (ablation.control, *ablation.arms) if arm.signal is not None
    ]
    if not rows:
        return []
    title = "Measured at the start of training: how well the gradients of two passes over the same batch agree"
    return [Table(["change", "agreement (cosine, 1 is noise-free)"], rows, title)]
