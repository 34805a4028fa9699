"""The output at a position sees later positions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.loss.misaligned_language_model_labels import next_token_tokens
from probes.results import Number

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from torch import Tensor

    from probes.measurements import Context

DOC = ProbeDoc(
    code="MOD219",
    name="future-leak",
    stage=Stage.SMOKE,
    summary="The model is to predict the next token, but can look at it.",
    why="The training loss falls far below what is possible without peeking, and the model fails when it has to "
    "generate.",
    fix="Mask attention to later positions (is_causal=True, or an upper triangular mask with diagonal=1), and pad "
    "convolutions on the left only.",
    consequences=("no-generalisation", "metric-loss-disagree"),
    before="F.scaled_dot_product_attention(q, k, v)",
    after="F.scaled_dot_product_attention(q, k, v, is_causal=True)",
    references=("Vaswani et al. 2017, Attention Is All You Need, section 3.2.3",),
)
RELATIVE_CHANGE = 1e-4  # of the largest output; fused attention kernels stay below 1e-6


def run(ctx: Context) -> Findings:
    import torch

    tokens = next_token_tokens(ctx)
    length = tokens.shape[1]
    cut = length // 2

    def change(values: Sequence[Any]) -> list[Any]:
        return [_other_future(x, cut) if isinstance(x, torch.Tensor) and torch.equal(x, tokens) else x for x in values]

    before, after = (_by_position(ctx.evaluate(c), tokens) for c in (None, change))
    scale = float(before.abs().max())
    moved = (before - after).abs().amax(dim=(0, 2))
    if not bool((moved[cut:] > RELATIVE_CHANGE * scale).any()):
        raise Skip("other tokens do not change the output")
    seen = float(moved[:cut].max())
    if seen > RELATIVE_CHANGE * scale:
        yield DOC.finding(
            "with the tokens from position {cut} on replaced, outputs before it change by {share:.1%} of the largest; "
            "the "
            "targets are the next tokens",
            cut=cut,
            share=seen / scale,
            where=ctx.forward_at(),
            evidence=(Number("largest change of an earlier output", seen, "0"),),
        )
        return ""
    return f"outputs before position {cut} do not see the tokens after it"


def _other_future(tokens: Tensor, cut: int) -> Tensor:
    """The tokens from ``cut`` on replaced by others of the same batch, each one different where the batch allows."""
    import torch

    distinct = torch.unique(tokens)
    position = torch.searchsorted(distinct, tokens[:, cut:].contiguous())
    other = distinct[(position + 1) % len(distinct)]
    return torch.cat([tokens[:, :cut], other], 1)


def _by_position(output: Tensor, tokens: Tensor) -> Tensor:
    """(N, L, V) from (N, L, V), (N, V, L) or (N * L, V)."""
    samples, length = tokens.shape
    if output.ndim == 3 and output.shape[:2] == (samples, length):
        return output
    if output.ndim == 3 and output.shape[0] == samples and output.shape[2] == length:
        return output.transpose(1, 2)
    if output.ndim == 2 and len(output) == samples * length:
        return output.reshape(samples, length, -1)
    raise Skip(f"the output, of shape {tuple(output.shape)}, does not have one row per token")
