"""What stands in the padding changes the answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.results import Number, Severity

if TYPE_CHECKING:
    from torch import Tensor

    from probes.measurements import Context

DOC = ProbeDoc(
    code="DAT134",
    name="padding-affects-output",
    stage=Stage.SMOKE,
    summary="The output depends on the padding: a mask is missing, or not used.",
    why="How far a sequence is padded depends on the others in its batch, so the same text gets another answer in "
    "another batch, and pooling or attention is diluted by padding.",
    fix="Pass the mask on: src_key_padding_mask or attn_mask in attention, a masked mean in pooling, "
    "pack_padded_sequence in recurrent layers.",
    before="x.mean(1)",
    after="(x * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True)",
    consequences=("ignored-input", "no-generalisation"),
    references=("torch.nn.TransformerEncoderLayer documentation: src_key_padding_mask",),
)
CHANGE = 1e-3  # of the spread of the outputs; masked padding leaves float noise of 1e-6
MORE = 4  # columns of further padding
COMMON = 0.2  # share of sequences that end in the same token, above which that is taken for padding


def run(ctx: Context) -> Findings:
    """Other tokens under the mask, or where no mask is given some more padding: do the outputs stay?"""
    import torch

    inputs = ctx.attempt().inputs
    at = next((i for i, x in enumerate(inputs) if _is_tokens(x)), None)
    if at is None:
        raise Skip("the model takes no sequences of tokens")
    tokens = inputs[at]
    mask_at, padded = _mask(inputs, tokens)
    if padded is not None and bool(padded.any()):
        table = _vocabulary(ctx)
        other = torch.where(padded, (tokens + 1).clamp_max(table - 1 if table else int(tokens.max())), tokens)
        changed = _change(ctx, lambda values: [other if i == at else x for i, x in enumerate(values)], tokens, padded)
        text, severity = "with other tokens in the places that the mask rules out", None
    else:
        index = _padding_index(ctx, tokens)
        if index is None or mask_at is not None:
            raise Skip("no padding is to be seen in the first batch")
        if ctx.facts.task == "language-model":
            raise Skip("a language model reads every position")

        def longer(values: Sequence[Any]) -> list[Any]:
            return [_extended(x, index) if i == at else x for i, x in enumerate(values)]

        changed = _change(ctx, longer, tokens, None)
        text = f"with {MORE} more places of padding"
        # Where every batch is as long as the others, padding is part of what the model learns with; unless the model
        # is told the lengths, and does not use them.
        told = any(_counts(x, tokens, index) for x in inputs)
        severity = None if told or len(ctx.scan("train").shapes) > 1 else Severity.NOTE
    if changed > CHANGE:
        yield DOC.finding(
            "{text} the outputs change by {changed:.1%} of their spread",
            text=text,
            changed=changed,
            severity=severity,
            where=ctx.forward_at(),
            evidence=(Number("largest change of an output over their spread", changed, "0"),),
        )
        return ""
    return "padding does not change the outputs"


def _change(ctx: Context, change: Any, tokens: Tensor, padded: Tensor | None) -> float:
    before, after = ctx.evaluate(), ctx.evaluate(change)
    length = tokens.shape[1]
    if before.ndim >= 3 and before.shape[1] == length:  # one output per place: those of padding do not count
        after = after[:, :length]
        keep = ~padded if padded is not None else _everywhere(tokens)
        before, after = before[keep], after[keep]
    if before.shape != after.shape or not before.numel():
        raise Skip("the outputs change their shape with the padding")
    spread = float(before.float().std())
    return float((before - after).abs().max()) / spread if spread > 0 else 0.0


def _everywhere(tokens: Tensor) -> Tensor:
    import torch

    return torch.ones_like(tokens, dtype=torch.bool)


def _is_tokens(x: object) -> bool:
    import torch

    if not isinstance(x, torch.Tensor) or x.is_floating_point() or x.dtype == torch.bool or x.ndim != 2:
        return False
    return x.numel() > 0 and x.shape[1] > 1 and int(x.max()) > 1 and int(x.min()) >= 0


def _mask(inputs: Sequence[Any], tokens: Tensor) -> tuple[int | None, Tensor | None]:
    """(position of a mask among the inputs, places that it rules out); the ruled-out places all hold one token."""
    import torch

    for i, x in enumerate(inputs):
        if not isinstance(x, torch.Tensor) or x is tokens or x.shape != tokens.shape:
            continue
        if not bool(((x == 0) | (x == 1)).all()):
            continue
        for places in (x == 0, x == 1):
            if bool(places.any()) and not bool(places.all()) and bool((tokens[places] == tokens[places][0]).all()):
                return i, places.bool()
        return i, None
    return None, None


def _counts(x: object, tokens: Tensor, index: int) -> bool:
    """Whether ``x`` holds the number of real tokens in front of each sequence's padding, and these differ."""
    import torch

    if not isinstance(x, torch.Tensor) or x.is_floating_point() or x.shape != tokens.shape[:1]:
        return False
    place = torch.arange(tokens.shape[1], device=tokens.device)
    lengths = ((tokens != index) * (place + 1)).amax(1)
    return bool((lengths == x.to(lengths.device)).all()) and bool((lengths != lengths[0]).any())


def _vocabulary(ctx: Context) -> int:
    import torch

    sizes = [m.num_embeddings for m in ctx.pipeline.model.modules() if isinstance(m, torch.nn.Embedding)]
    return max(sizes, default=0)


def _padding_index(ctx: Context, tokens: Tensor) -> int | None:
    """The embedding's own, else the token in which many sequences end."""
    import torch

    for module in ctx.pipeline.model.modules():
        if isinstance(module, torch.nn.Embedding) and module.padding_idx is not None:
            return int(module.padding_idx)
    ends = tokens[:, -1]
    common = int(ends.mode().values)
    twice = (tokens[:, -2:] == common).all(1).float().mean()
    return common if float(twice) >= COMMON else None


def _extended(x: Tensor, index: int) -> Tensor:
    import torch

    return torch.cat([x, torch.full((len(x), MORE), index, dtype=x.dtype)], 1)
