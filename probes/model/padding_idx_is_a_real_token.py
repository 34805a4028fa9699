"""The embedding's padding index is a token that occurs in the text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.results import Number, Severity

if TYPE_CHECKING:
    from torch import Tensor

    from probes.measurements import Context

DOC = ProbeDoc(
    code="MOD222",
    name="padding-idx-is-a-real-token",
    stage=Stage.SMOKE,
    severity=Severity.WARNING,
    summary="The embedding's padding_idx is the index of a token that really occurs.",
    why="The row of padding_idx is kept at 0 and never learns, so that token means nothing to the model.",
    fix="Keep an index for padding that no token has, and pass it as padding_idx.",
    before="nn.Embedding(vocabulary, 64, padding_idx=0)  # 0 is a word",
    after="nn.Embedding(vocabulary + 1, 64, padding_idx=vocabulary)",
    references=("torch.nn.Embedding documentation: padding_idx",),
)
SHARE = 0.05  # of the sequences that hold it between other tokens
MIN_ROWS = 3
REPEATED = 3  # places that all hold one token
PADDED = 0.2  # share of the sequences that end so


def run(ctx: Context) -> Findings:
    """Does the padding index stand between other tokens, where no padding belongs?"""
    import torch

    tables = [m for m in ctx.pipeline.model.modules() if isinstance(m, torch.nn.Embedding)]
    padded = [m for m in tables if m.padding_idx is not None]
    if not padded:
        raise Skip("no embedding has a padding_idx")
    tokens = next((x for x in ctx.attempt().inputs if _is_tokens(x, padded[0].num_embeddings)), None)
    if tokens is None:
        raise Skip("the model takes no sequences of tokens")
    index = int(padded[0].padding_idx or 0)
    rows = _between(tokens, index)
    count = int(rows.sum())
    if count >= MIN_ROWS and count >= SHARE * len(tokens):
        yield DOC.finding(
            "{count} of {rows} sequences hold token {index}, the padding_idx, between other tokens",
            count=count,
            rows=len(tokens),
            index=index,
            where=ctx.created_at(padded[0]),
            evidence=(Number("share of sequences", count / len(tokens), "0"),),
        )
        return ""
    used = _padding(tokens)
    if used is not None and used != index and bool((tokens == index).any()):
        yield DOC.finding(
            "sequences are padded with token {used}, but padding_idx is {index}, which occurs as a token",
            used=used,
            index=index,
            where=ctx.created_at(padded[0]),
        )
        return ""
    return f"the padding index {index} stands at the ends of sequences only"


def _is_tokens(x: object, vocabulary: int) -> bool:
    import torch

    if not isinstance(x, torch.Tensor) or x.is_floating_point() or x.dtype == torch.bool or x.ndim != 2:
        return False
    return x.numel() > 0 and int(x.max()) > 1 and int(x.max()) < vocabulary


def _between(tokens: Tensor, index: int) -> Tensor:
    """Per row, whether ``index`` occurs with other tokens both before and after it."""
    other = tokens != index
    before = other.cumsum(1) > 0
    after = other.flip(1).cumsum(1).flip(1) > 0
    return (~other & before & after).any(1)


def _padding(tokens: Tensor) -> int | None:
    """The token in whose repetition many sequences end or begin; None where there is none."""
    for side in (tokens[:, -REPEATED:], tokens[:, :REPEATED]):
        alike = (side == side[:, :1]).all(1)
        if bool(alike.any()):
            common = int(side[alike][:, 0].mode().values)
            if float((alike & (side[:, 0] == common)).float().mean()) >= PADDED:
                return common
    return None
