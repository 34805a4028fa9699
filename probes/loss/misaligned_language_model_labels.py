"""The targets of a language model are not the next tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from probes.api import Findings, ProbeDoc, Skip, Stage
from probes.class_scores import PICKS_ONE, calls, rows
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
MIN_LENGTH = 4  # tokens; shorter sequences cannot tell shifts apart


def run(ctx: Context) -> Findings:
    agreement = _agreement(ctx)
    best = max(agreement, key=lambda shift: agreement[shift])
    others = [share for shift, share in agreement.items() if shift != best]
    if agreement[best] < AGREES or max(others) > DIFFERS:
        raise Skip("the targets are not the input tokens, shifted by up to two places")
    late = _first_to_move(ctx)
    if late is None and best == 0:
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


def _first_to_move(ctx: Context) -> int | None:
    """How many places after a changed token the first output changes: 0, or 1 where the model shifts its input.

    None where outputs before it change too, or none does: no causal model.
    """
    import torch

    tokens = _tokens(ctx)
    place = tokens.shape[1] // 2
    output = ctx.evaluate()
    if output.ndim != 3 or output.shape[:2] != tokens.shape:
        return None
    other = tokens.clone()
    other[:, place] = max(
        (tokens[:, place].roll(k, 0) for k in range(1, len(tokens))),
        key=lambda exchanged: int((exchanged != tokens[:, place]).sum()),
        default=tokens[:, place - 1],
    )

    def change(values: Sequence[Any]) -> list[Any]:
        return [other if isinstance(x, torch.Tensor) and torch.equal(x, tokens) else x for x in values]

    moved = (ctx.evaluate(change) - output).abs().amax(dim=(0, 2))
    places = (moved > MOVED * output.abs().max()).nonzero().flatten().tolist()
    return places[0] - place if places and places[0] >= place else None
