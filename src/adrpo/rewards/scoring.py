"""Scores of a batch whose images lie on several processes."""

from collections.abc import Sequence

import torch
from PIL.Image import Image

from adrpo.data.prompts import Prompt
from adrpo.rewards.base import RewardResult, RewardTerm, score
from adrpo.runs.processes import Processes


def score_together(
    processes: Processes,
    terms: Sequence[RewardTerm],
    images: Sequence[Image],
    prompts: Sequence[Prompt],
) -> RewardResult:
    """The scores of the whole batch, the same on every process.

    A process scores the images it holds. Only where the images of one prompt lie on several
    processes are they sent to the first of them and scored there in one call: a reward may
    compare the images of a prompt (``clip_novelty``).

    Args:
        processes: that hold the batch, each its share.
        terms: the reward.
        images: of this process's share.
        prompts: of all rows of the batch.
    """
    shares = processes.shares(len(prompts), "samples a step")
    holders = [rank for rank, share in enumerate(shares) for _ in range(len(share))]
    scorers = _scorers(holders, prompts)
    own = shares[processes.rank]
    held = dict(zip(range(own.start, own.stop), images, strict=True))
    if scorers != holders:
        sent = {row: image for row, image in held.items() if scorers[row] != processes.rank}
        for parcel in processes.gather(sent):
            held |= parcel
    rows = [row for row, scorer in enumerate(scorers) if scorer == processes.rank]
    result = _score_rows(terms, [held[row] for row in rows], [prompts[row] for row in rows])
    return _merge(processes.gather((rows, result)), len(prompts))


def _scorers(holders: Sequence[int], prompts: Sequence[Prompt]) -> list[int]:
    """Which process scores each row: that of the first row with the same prompt."""
    first: dict[str, int] = {}
    for prompt, holder in zip(prompts, holders, strict=True):
        first.setdefault(prompt.text, holder)
    return [first[prompt.text] for prompt in prompts]


def _score_rows(
    terms: Sequence[RewardTerm], images: list[Image], prompts: Sequence[Prompt]
) -> RewardResult:
    if not images:  # No reward is asked for nothing: not all of them can answer that.
        none = torch.empty(0)
        return RewardResult(total=none, by_term={t.name: none for t in terms}, first_error=None)
    texts = [prompt.text for prompt in prompts]
    return score(terms, texts, images, category=[prompt.category for prompt in prompts])


def _merge(parts: Sequence[tuple[list[int], RewardResult]], total: int) -> RewardResult:
    """The results of all processes in the order of the batch."""
    rows = torch.tensor([row for own, _ in parts for row in own])
    order = rows.argsort()
    assert rows[order].tolist() == list(range(total)), "each row is scored once"
    results = [result for _, result in parts]
    return RewardResult(
        total=torch.cat([result.total for result in results])[order],
        by_term={
            name: torch.cat([result.by_term[name] for result in results])[order]
            for name in results[0].by_term
        },
        first_error=next((r.first_error for r in results if r.first_error), None),
    )
