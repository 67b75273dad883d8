"""Every row hears its own clips: in generation, in scoring, after shuffling and splitting.

Each property is one that a published trainer of audio models broke: scoring without the audio,
clips of the wrong rows as soon as a batch holds two prompts, a mask that lost its rows.
"""

from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from adrpo.audio.encoder import take_logits_to_keep
from support.tiny_audio_trainers import (
    ALIKE,
    AUDIO_MARKS,
    QUESTIONS,
    ROUNDING,
    audio_trainer,
    rows_of,
    scores,
    scores_alone,
)
from support.tiny_language_trainers import loss_and_gradients, move, scored
from support.tiny_thinker import AUDIO, tiny_thinker

pytestmark = AUDIO_MARKS

TWICE = [row for row in rows_of(QUESTIONS) for _ in range(4)]


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    made = audio_trainer(tmp_path_factory.mktemp("run"), reference_rows="all")
    move(made)
    return made


@pytest.fixture(scope="module")
def batch(trainer: Any) -> dict[str, Any]:
    """Four completions each of a clip, another, two clips, and none."""
    return scored(trainer, TWICE)


# --- scoring ---


@pytest.mark.parametrize("size", [1, 3, 16])
def test_a_batch_scores_each_row_as_the_model_scores_it_alone(
    trainer: Any, batch: dict[str, Any], size: int
) -> None:
    expected = scores_alone(trainer, batch, QUESTIONS)
    torch.testing.assert_close(scores(trainer, batch, size=size), expected, **ROUNDING)


def test_the_reference_hears_the_same_clips(trainer: Any, batch: dict[str, Any]) -> None:
    with trainer.model.disable_adapter():
        expected = scores_alone(trainer, batch, QUESTIONS)
    found = batch["ref_per_token_logps"] * batch["completion_mask"]
    torch.testing.assert_close(found, expected, **ROUNDING)
    assert (found - scores(trainer, batch)).abs().max() > 0.01


@pytest.mark.parametrize("row", [0, 5, 11])
def test_another_clip_changes_its_own_row_and_no_other(
    trainer: Any, batch: dict[str, Any], row: int
) -> None:
    clips = list(batch["audio"])
    # Of the same length: the first two questions; or the two clips of the third, exchanged.
    if row < 8:
        clips[row] = clips[(row + 4) % 8]
        changed = scores(trainer, batch, clips)
    else:
        short, long = clips[row]
        halves = [type(long)(part) for part in (long.embedding, short.embedding)]
        clips[row] = tuple(halves)
        changed = scores(trainer, batch, clips)
    difference = (changed - scores(trainer, batch)).abs().amax(dim=1)
    assert difference[row] > 1e-3
    assert (difference[torch.arange(len(clips)) != row] == 0).all()


def test_a_row_whose_clips_do_not_fit_its_prompt_is_refused(
    trainer: Any, batch: dict[str, Any]
) -> None:
    clips = list(batch["audio"])
    clips[0], clips[8] = clips[8], clips[0]
    with pytest.raises(RuntimeError, match="rows and their clips have come apart"):
        scores(trainer, batch, clips)


@pytest.mark.parametrize(("autocast", "weights"), [(True, torch.float32), (False, torch.bfloat16)])
def test_in_bfloat16_a_row_hears_its_own_clips(
    tmp_path: Path, autocast: bool, weights: torch.dtype
) -> None:
    """ADRPOConfig's default is autocast, which must not reach the spectrogram."""
    model = tiny_thinker().to(weights)
    trainer = audio_trainer(tmp_path, ALIKE, model=model, bf16=autocast, num_generations=2)
    rows = [row for row in rows_of(ALIKE) for _ in range(2)]
    batch = scored(trainer, rows)
    trainer.train()
    clips = batch["audio"]
    found, swapped = scores(trainer, batch, clips), scores(trainer, batch, clips[2:] + clips[:2])
    trainer.model.float()
    expected = scores_alone(trainer, batch, ALIKE)
    rounding = (found - expected).abs().mean()
    # Three digits; another clip is another answer.
    assert rounding < 0.05
    assert (swapped - expected).abs().mean() > 4 * rounding


# --- generation ---


def test_generation_and_scoring_have_one_log_probability(
    trainer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the logits before the tokens are suppressed that stand for sound and pictures, which
    TRL's scoring does not know of either. Generation reads a cache, and scoring none."""
    kept: list[Any] = []
    generate = trainer.model.generate

    def spy(**named: Any) -> Tensor:
        result = generate(**named, return_dict_in_generate=True, output_logits=True)
        kept.append(torch.stack(result.logits, dim=1))
        return result.sequences

    monkeypatch.setattr(trainer.model, "generate", spy)
    batch = scored(trainer, TWICE)
    ids = batch["completion_ids"]
    logps = kept[0].log_softmax(-1)[:, : ids.shape[1]].gather(2, ids[..., None]).squeeze(2)
    logps = logps * batch["completion_mask"]
    torch.testing.assert_close(logps, scores(trainer, batch), **ROUNDING)
    torch.testing.assert_close(logps, scores_alone(trainer, batch, QUESTIONS), **ROUNDING)


def test_generation_makes_logits_of_one_token_of_each_row(trainer: Any) -> None:
    made: list[int] = []
    head = trainer.model.get_base_model().lm_head
    hook = head.register_forward_hook(lambda module, inputs, logits: made.append(logits.shape[1]))
    try:
        scored(trainer, TWICE)
    finally:
        hook.remove()
    # Scoring reads the head's weight, and does not call it.
    assert set(made) == {1}


def test_logits_that_are_kept_are_those_of_the_last_tokens() -> None:
    thinker, ids = tiny_thinker(), torch.tensor([[3, 11, 12, 4], [3, 12, 11, 4]])
    whole = thinker(input_ids=ids).logits
    take_logits_to_keep(thinker)
    kept = thinker(input_ids=ids, logits_to_keep=3).logits
    # A matrix of other height is summed in another order where there are several threads.
    torch.testing.assert_close(kept, whole[:, 1:])
    assert torch.equal(thinker(input_ids=ids).logits, whole)


def test_no_completion_has_a_token_that_stands_for_sound_or_a_picture(
    trainer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {AUDIO, 6, 7, 8, 9, 10} <= set(trainer.generation_config.suppress_tokens)
    # Make them the likeliest: lm_head is frozen under the adapter.
    head = trainer.model.get_base_model().lm_head
    biased = head.weight.detach().clone()
    biased[5:11] *= 20
    monkeypatch.setattr(head, "weight", torch.nn.Parameter(biased, requires_grad=False))
    batch = scored(trainer, TWICE)
    assert not torch.isin(batch["completion_ids"], torch.arange(5, 11)).any()


# --- shuffling, splitting, accumulating ---


@pytest.mark.parametrize(
    ("prompts", "group", "micro", "accumulation", "iterations"),
    [(1, 4, 4, 1, 1), (2, 2, 4, 1, 1), (3, 2, 2, 3, 1), (6, 2, 3, 4, 2), (4, 3, 12, 1, 2)],
)
def test_a_row_keeps_its_clips_to_the_loss(
    tmp_path: Path, prompts: int, group: int, micro: int, accumulation: int, iterations: int
) -> None:
    questions = dict(list(ALIKE.items())[:prompts])
    trainer = audio_trainer(
        tmp_path,
        questions,
        num_generations=group,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=accumulation,
        num_iterations=iterations,
        max_steps=2 * iterations,
    )
    compute, seen = trainer._compute_loss, []

    def spy(model: Any, inputs: dict[str, Any]) -> Tensor:
        expected = scores_alone(trainer, inputs, questions)
        found = scores(trainer, inputs, size=None)
        torch.testing.assert_close(found, expected, **ROUNDING)
        seen.extend(map(str, inputs["prompt_ids"].tolist()))
        return compute(model, inputs)

    trainer._compute_loss = spy
    trainer.train()
    assert len(seen) == 2 * iterations * accumulation * micro
    # Shuffled: rows of one prompt are no neighbours any more.
    batches = len(seen) // (prompts * group)
    assert prompts == 1 or len(list(groupby(seen))) > batches * prompts


# --- rows without a coefficient leave the reference pass ---


def test_rows_with_coefficient_0_leave_the_reference_pass_and_the_loss_stays(
    tmp_path: Path,
) -> None:
    results = []
    for rows in ("all", "needed"):
        trainer = audio_trainer(tmp_path, reference_rows=rows)
        move(trainer)
        batch = scored(trainer, TWICE)
        results.append((batch, loss_and_gradients(trainer, batch)))
    (all_rows, expected), (needed, found) = results
    left_out = ~needed["reference_rows"]
    assert torch.equal(left_out, needed["kl_coefficient"] == 0)
    assert 0 < left_out.sum() < len(left_out)
    kept = needed["ref_per_token_logps"][~left_out]
    reference = all_rows["ref_per_token_logps"][~left_out]
    mask = needed["completion_mask"][~left_out]
    torch.testing.assert_close(kept * mask, reference * mask, **ROUNDING)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-4)
