"""Ranks of a distributed training whose parameters differ."""

from __future__ import annotations

from probes.api import ProbeDoc, Stage

DOC = ProbeDoc(
    code="LOP920",
    name="ranks-diverged",
    stage=Stage.TRAIN,
    judged_by="the training, after each epoch of several ranks",
    summary="The processes of a distributed training hold different parameters.",
    why="Each rank goes its own way: the gradients are averaged over models that are no longer the same, and the "
    "checkpoint of rank 0 is not what was evaluated on the others.",
    fix="Change parameters on all ranks alike: build the model under one seed, never step or load on one rank alone, "
    "and let the optimizer hold the parameters of the wrapped model.",
    before="if rank == 0: model.load_state_dict(state)",
    after="model.load_state_dict(state)  # on every rank",
    references=("torch.nn.parallel.DistributedDataParallel documentation",),
)
