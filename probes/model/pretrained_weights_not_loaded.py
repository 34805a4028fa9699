"""A checkpoint was loaded, but the model does not have its weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.results import Number

if TYPE_CHECKING:
    from probes.measurements import Context

DOC = ProbeDoc(
    code="MOD221",
    name="pretrained-weights-not-loaded",
    stage=Stage.SMOKE,
    summary="Weights were loaded into the model, but none of them is in it: no key fitted, or they were overwritten.",
    why="load_state_dict(strict=False) passes over keys that do not fit without a word, and an initialisation "
    "that runs "
    "afterwards replaces what was loaded. The training then starts from scratch.",
    fix="Load with strict=True, or look at what load_state_dict returns; initialise new layers before loading, or only "
    "the new ones.",
    before="model.load_state_dict(state, strict=False)",
    after='state = {k.removeprefix("module."): v for k, v in state.items()}\nmodel.load_state_dict(state)',
    consequences=("slow-to-learn", "below-expected-curve"),
    references=("torch.nn.Module.load_state_dict documentation: strict",),
)
LITTLE = 0.1  # share of the given tensors that arrived
LEAST = 0.5  # share of the loaded matrices that must be there still: a new head, or new last layers, are meant


def run(ctx: Context) -> Findings:
    """Every load_state_dict while the pipeline was built: what fitted, and what is still there."""
    loads = ctx.weight_loads()
    if not loads:
        raise Skip("nothing was loaded into the model")
    for load in loads:
        if load.weights and load.given and load.taken <= LITTLE * min(load.given, load.weights):
            yield DOC.finding(
                "of {given} tensors given to {type}, {taken} fitted: it expects keys like {expected}, and got "
                "keys like "
                "{key}",
                given=load.given, type=load.type, taken=load.taken, expected=load.expected, key=load.key,
                where=load.where, evidence=(Number("tensors that fitted", load.taken, str(load.weights)),),
            )  # fmt: skip
            return ""
        if load.taken and load is loads[-1] and load.matrices and load.kept < LEAST * load.matrices:
            yield DOC.finding(
                "{taken} weight matrices were loaded into {type}, and {kept} of them are still there: it was "
                "initialised again afterwards",
                taken=load.matrices, type=load.type, kept=load.kept,
                where=load.where, evidence=(Number("tensors still there", load.kept, str(load.matrices)),),
            )  # fmt: skip
            return ""
    last = loads[-1]
    left = f"{last.kept} of {last.matrices} matrices are still there"
    return f"{last.taken} of {last.weights} tensors of {last.type} were loaded, {left}"
