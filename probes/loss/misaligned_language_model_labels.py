"""The targets of a language model are not the next tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.class_scores import PICKS_ONE, calls, rows
from probes.data import target_leaked_into_input
from probes.results import Grade, Number, Table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from torch import Tensor

    from probes.measurements import Context
    from probes.records.forward import LossCall

DOC = ProbeDoc(
    code="LOS412",
    name="misaligned-language-model-labels",
    stage=Stage.SMOKE,
    grade=Grade.SUPPORTED,
    summary="The model is trained on tokens that are shifted against its inputs by another number of places than one.",
    why="With no shift, a causal model just copies its input and the loss falls to nearly 0; with a shift of two, it "
    "skips "
    "a token. Neither can write text.",
    fix="Compare the output at t with the token at t + 1, and shift only once: in the data set or in the loss.",
    consequences=("no-generalisation", "slow-to-learn", "metric-loss-disagree"),
    before="F.cross_entropy(logits.reshape(-1, V), tokens.reshape(-1))",
    after="F.cross_entropy(logits[:, :-1].reshape(-1, V), tokens[:, 1:].reshape(-1))",
)
AGREES = 0.95  # share of positions; a padded end or a separator may differ
DIFFERS = 0.9  # below this share, another shift does not explain the targets as well (constant text would)
SHIFTS = (-1, 0, 1, 2)
MOVED = 1e-4  # of the largest output
HIDDEN = 0.5  # share of unscored places between scored ones: of masked tokens 0.85, of a whole sequence 0
MIN_LENGTH = 4  # tokens; shorter sequences cannot tell shifts apart


def run(ctx: Context) -> Findings:
    agreement = _agreement(ctx)
    best = max(agreement, key=lambda shift: agreement[shift])
    others = [share for shift, share in agreement.items() if shift != best]
    if agreement[best] < AGREES or max(others) > DIFFERS:
        raise Skip("the targets are not the input tokens, shifted by up to two places")
    moved = _moved(ctx)
    late = moved[0] if moved and moved[0] >= 0 else None
    if late is None and best == 0:
        hidden = _unscored_between(ctx)
        if hidden > HIDDEN and _reads_what_is_scored(ctx):
            yield target_leaked_into_input.DOC.finding(
                "only some tokens are to be found, and {share:.0%} of these stand in the input as they are: the model "
                "sees the whole sequence, and copies them",
                share=agreement[0],
                where=calls(ctx, *PICKS_ONE)[0].where,
                evidence=(Number("share of the places between them that are not scored", hidden, "0"),),
            )
            return ""
        raise Skip("the model sees the whole sequence and gives back what it reads: no next token is meant")
    if best == 1 and late:
        yield DOC.finding(
            "the targets are the next tokens, but the output at t does not depend on the token at t: the first that "
            "does is at t + {late}, so that the model skips {late} of the tokens that it has read",
            late=late,
            where=ctx.forward_at(),
            evidence=(Number("places from a token to the first output that sees it", late, "0"),),
        )
        return ""
    if best + (late or 0) == 1:
        return "the target of each token is the next one"
    yield DOC.finding(
        "the target at t is the input token at t {sign} {places}, in {share:.0%} of the positions; expected: t + 1",
        sign="-" if best < 0 else "+",
        places=abs(best),
        share=agreement[best],
        where=calls(ctx, *PICKS_ONE)[0].where,
        evidence=(Table(("shift", "share of targets equal to the token"), list(agreement.items())),),
    )
    return ""


def next_token_tokens(ctx: Context) -> Tensor:
    """The tokens (N, L) of a model that is trained to predict the next one. Skip for any other."""
    agreement = _agreement(ctx)
    if agreement[1] < AGREES or max(share for shift, share in agreement.items() if shift != 1) > DIFFERS:
        raise Skip("the targets are not the next tokens")
    return _tokens(ctx)


def _tokens(ctx: Context) -> Tensor:
    import torch

    if ctx.facts.task not in {"language-model", "segmentation", "custom"}:
        raise Skip(f"the task is {ctx.facts.task}")
    found = [x for x in ctx.attempt().inputs if isinstance(x, torch.Tensor) and x.ndim == 2 and x.dtype == torch.long]
    scored = calls(ctx, *PICKS_ONE)
    if ctx.attempt().own_call and scored:  # of an encoder and a decoder the tokens whose places are scored
        known = [x for x in found if x.numel() == scored[0].target.numel()]
        found = known[-1:] or found
    found = found[:1]  # attention masks and labels follow
    if not found or found[0].shape[1] < MIN_LENGTH:
        raise Skip("the input is not one tensor of tokens (N, L)")
    return found[0]


def _agreement(ctx: Context) -> dict[int, float]:
    """Shift -> the share of targets that equal the input token that many places on, over the targets that count."""
    tokens = _tokens(ctx)
    known = calls(ctx, *PICKS_ONE)
    if len(known) != 1:
        raise Skip("several losses are taken: a model of its own kind")
    call = known[0]
    samples, length = tokens.shape
    if call.target.is_floating_point() or call.target.numel() not in (samples * length, samples * (length - 1)):
        raise Skip("the loss is not taken over one target per token")
    targets = call.target.reshape(samples, -1)
    ignored = int(call.options.get("ignore_index", -100))
    first = _first_place(ctx, call, targets.shape[1])
    return {shift: _share_equal(tokens, targets, shift + first, ignored) for shift in SHIFTS}


def _first_place(ctx: Context, call: LossCall, length: int) -> int:
    """The place in the sequence of the first scores that the loss is given: 1 where the first output was cut off."""
    import torch

    output = ctx.attempt().output
    if output is None or output.ndim != 3 or output.shape[1] != length + 1:
        return 0
    later = output[:, 1:].reshape(-1, output.shape[2])
    scores = rows(call.input)
    return int(scores.shape == later.shape and torch.equal(scores.float(), later.float()))


def _share_equal(tokens: Tensor, targets: Tensor, shift: int, ignored: int) -> float:
    start, stop = max(0, -shift), min(targets.shape[1], tokens.shape[1] - shift)
    aim = targets[:, start:stop]
    counts = aim != ignored
    equal = (aim == tokens[:, start + shift : stop + shift]) & counts
    return float(equal.sum()) / max(1, int(counts.sum()))


def _unscored_between(ctx: Context) -> float:
    """The share of places that the loss leaves out, of those between the first and the last that it takes."""
    import torch

    scored = _scored(ctx)
    begun, left = scored.cumsum(1) > 0, scored.flip(1).cumsum(1).flip(1) > 0
    between = begun & left
    return float((between & ~scored).sum()) / max(1, int(torch.count_nonzero(between)))


def _scored(ctx: Context) -> Tensor:
    """(N, L): the places whose targets the loss takes."""
    call = calls(ctx, *PICKS_ONE)[0]
    return call.target.reshape(len(_tokens(ctx)), -1) != int(call.options.get("ignore_index", -100))


def _reads_what_is_scored(ctx: Context) -> bool:
    """Whether the outputs at the scored places follow the tokens there: a model may hide these by itself."""
    import torch

    tokens, scored, before = _tokens(ctx), _scored(ctx), ctx.evaluate()
    if before.ndim != 3 or before.shape[:2] != tokens.shape or scored.shape != tokens.shape:
        return False
    distinct = torch.unique(tokens)
    other = distinct[(torch.searchsorted(distinct, tokens) + 1) % len(distinct)]
    changed = torch.where(scored, other, tokens)

    def change(values: Sequence[Any]) -> list[Any]:
        return [changed if isinstance(x, torch.Tensor) and torch.equal(x, tokens) else x for x in values]

    moved = (ctx.evaluate(change) - before).abs()[scored]
    return bool((moved > MOVED * before.abs().max()).any())


def _moved(ctx: Context) -> Sequence[int]:
    """The places, counted from a changed token, whose outputs change: from 0 on in a causal model, from 1 on where it
    shifts its input, and before 0 where it sees the whole sequence."""
    import torch

    tokens = _tokens(ctx)
    place = tokens.shape[1] // 2
    output = ctx.evaluate()
    if output.ndim != 3 or output.shape[:2] != tokens.shape:
        return ()
    other = tokens.clone()
    other[:, place] = max(
        (tokens[:, place].roll(k, 0) for k in range(1, len(tokens))),
        key=lambda exchanged: int((exchanged != tokens[:, place]).sum()),
        default=tokens[:, place - 1],
    )

    def change(values: Sequence[Any]) -> list[Any]:
        return [other if isinstance(x, torch.Tensor) and torch.equal(x, tokens) else x for x in values]

    moved = (ctx.evaluate(change) - output).abs().amax(dim=(0, 2))
    return [at - place for at in (moved > MOVED * output.abs().max()).nonzero().flatten().tolist()]
