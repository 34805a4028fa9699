"""The training that was stuck, after its repair: the same model, data and optimizer with less dropout, or none."""

from torch import nn

import diagnose
from diagnose.demos import stuck


def get_pipeline(share: float = 0.0) -> diagnose.Pipeline:
    """``share``: of the dropout probabilities of the stuck one; 0.5 is the mildest repair that its report proves."""
    pipeline = stuck.get_pipeline()
    for module in pipeline.model.modules():
        if isinstance(module, nn.Dropout):
            module.p *= share
    return pipeline
