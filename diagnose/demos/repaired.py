"""The training that was stuck, after its repair: the same model, data and optimizer with less dropout, or none."""

from torch import nn

import diagnose
from diagnose.demos import stuck


def get_pipeline(convolutions: float = 0.0, head: float = 0.0) -> diagnose.Pipeline:
    """Dropout in the blocks and in the head. ``convolutions=0.4`` leaves the blocks as they were: the mildest repair
    that the report of the stuck one proves."""
    pipeline = stuck.get_pipeline()
    for part, p in (("features", convolutions), ("head", head)):
        for module in pipeline.model.get_submodule(part).modules():
            if isinstance(module, nn.Dropout):
                module.p = p
    return pipeline
