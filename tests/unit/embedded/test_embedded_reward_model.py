"""The reward model that ships: a real class, small, as good as its card says; and its pairs."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen3ForSequenceClassification

from adrpo.embedded.questions import Question, question_set
from adrpo.embedded.weights import weights_path
from adrpo.rewards.reward_model import RewardModel
from tools.embedded import language_reward
from tools.embedded.language_reward_quality import (
    best_of,
    pairs_in_order,
    perfect,
    spearman,
)

FOLDER = weights_path("language_reward")
SAMPLES = 8


@pytest.fixture(scope="module")
def reward() -> RewardModel:
    return RewardModel("embedded", dtype="float32")


@pytest.fixture(scope="module")
def model() -> Any:
    return Qwen3ForSequenceClassification.from_pretrained(FOLDER, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(FOLDER)


@pytest.fixture(scope="module")
def answered() -> tuple[list[Question], list[list[str]], np.ndarray]:
    """Other questions than the card's, with the base's answers to them."""
    questions = question_set(126, held_out=True, seed=7)
    return questions, *language_reward.answers_to(questions, samples=SAMPLES, seed=7)


def test_it_is_a_qwen3_of_at_most_a_megabyte_in_bfloat16(model: Any) -> None:
    assert model.config.num_labels == 1
    assert model.num_parameters() <= 4e5
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) <= 1e6
    with safe_open(FOLDER / "model.safetensors", framework="pt") as opened:
        assert {opened.get_slice(name).get_dtype() for name in opened.keys()} == {"BF16"}
    text = [weights_path("language_model"), FOLDER]
    assert sum(file.stat().st_size for folder in text for file in folder.iterdir()) <= 4e6


def test_the_reward_reads_a_question_its_answer_and_the_end(
    reward: RewardModel, tokenizer: Any
) -> None:
    """The tokens on which it was trained, also where the completion says special tokens."""
    expected = tokenizer("37+45=82<eos>").input_ids
    asked = [{"role": "user", "content": "37+45="}]
    told = [{"role": "assistant", "content": "82"}]
    assert reward.token_ids("37+45=", "82") == reward.token_ids(asked, told) == expected
    assert reward.token_ids("37+45=", "82<eos><pad>") == expected


def test_the_reward_is_the_score_that_was_trained(
    reward: RewardModel, model: Any, tokenizer: Any
) -> None:
    prompts = ["37+45=", "count b in abcbbca=", "sort dbac="]
    completions = ["82", "?", "abcd"]
    texts = [prompt + said for prompt, said in zip(prompts, completions, strict=True)]
    with torch.inference_mode():
        expected = language_reward.scores(model, tokenizer, texts)
    # Rounding in float32 of numbers of size 1, over two layers.
    assert reward(prompts, completions) == pytest.approx(expected.tolist(), abs=1e-4)


def test_it_is_as_good_and_as_imperfect_as_its_card_says(
    reward: RewardModel, answered: tuple[list[Question], list[list[str]], np.ndarray]
) -> None:
    questions, texts, right = answered
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    found = re.search(r"in order \| \*\*([\d.]+)\*\* \[([\d.]+), ([\d.]+)\]", card)
    assert found, card
    share, low, high = map(float, found.groups())
    # A proxy: far above chance, and with room to be exploited.
    assert 0.65 <= share <= 0.9
    score = scored(reward, questions, texts)
    by_question = pairs_in_order(score, right)
    by_question = by_question[np.isfinite(by_question)]
    # Two independent estimates, three standard errors: of the card's interval, and of this one.
    error = np.hypot((high - low) / 3.92, by_question.std(ddof=1) / len(by_question) ** 0.5)
    assert by_question.mean() == pytest.approx(share, abs=3 * error)
    # The scale was set on other questions, in float32, and the weights then rounded; the variance
    # of 126 questions has a relative standard error of about 10 %.
    assert language_reward.deviation(score) == pytest.approx(1, abs=0.2)


def scored(
    reward: RewardModel, questions: Sequence[Question], texts: Sequence[Sequence[str]]
) -> np.ndarray:
    prompts = [question.prompt for question in questions for _ in range(SAMPLES)]
    flat = [text for answers in texts for text in answers]
    return np.array(reward(prompts, flat)).reshape(len(questions), SAMPLES)


@torch.inference_mode()
def test_it_starts_as_the_first_layers_of_the_language_model(tokenizer: Any) -> None:
    language = AutoModelForCausalLM.from_pretrained(
        weights_path("language_model"), dtype=torch.float32
    ).eval()
    batch = tokenizer("37+45=82<eos>", return_tensors="pt")
    states = language(**batch, output_hidden_states=True).hidden_states
    started = language_reward.new_model().eval()
    found = started.model(**batch).last_hidden_state
    # The same arithmetic on the same weights: bit for bit.
    assert torch.equal(found, language.model.norm(states[language_reward.LAYERS]))


def test_pairs_are_a_right_and_a_wrong_answer_and_some_are_the_wrong_way_round() -> None:
    questions = question_set(420, held_out=False, seed=3)
    texts = [["?", q.answer, "?", q.answer + "0"] for q in questions]
    right = np.array([[False, True, False, False]] * len(questions))
    right[0], right[1] = False, True  # nothing to compare
    pairs = language_reward.draw_pairs(questions, texts, right, np.random.default_rng(0))
    assert len(pairs) == len(questions) - 2
    flipped, unknown = 0, 0
    for question, pair in zip(questions[2:], pairs, strict=True):
        gold = question.prompt + question.answer
        wrong = [question.prompt + "?", gold + "0"]
        assert (pair.better == gold and pair.worse in wrong) or (
            pair.worse == gold and pair.better in wrong
        )
        flipped += pair.worse == gold
        unknown += wrong[0] in pair
    # Four binomial standard errors of 418 pairs.
    noise = language_reward.LABEL_NOISE
    error = 4 * np.sqrt(noise * (1 - noise) / len(pairs))
    assert flipped / len(pairs) == pytest.approx(noise, abs=error)
    # As often as it was drawn, twice in three: the base's mistakes by their frequency.
    assert unknown / len(pairs) == pytest.approx(2 / 3, abs=4 * np.sqrt(2 / 9 / len(pairs)))


def test_measures_of_a_drawn_case() -> None:
    score = np.array([[3.0, 1, 2, 2], [0, 1, 2, 3]])
    right = np.array([[True, False, True, False], [True, True, True, True]])
    # 3 > 1, 3 > 2, 2 > 1, and 2 = 2 is half; the second question has no pair.
    found = pairs_in_order(score, right)
    assert found[0] == 3.5 / 4 and np.isnan(found[1])
    # Blocks of two: 3 of (3, 1) is right, 2 of (2, 2) the first, right; all of the second.
    assert best_of(score, right, 2) == 1
    assert best_of(score, right, 1) == 0.75
    # Ranks 4, 1, 2.5, 2.5 and 3.5, 1.5, 3.5, 1.5: about their means of 2.5 the products add up to
    # 3, the squares to 4.5 and 4.
    assert spearman(score[0], right[0]) == pytest.approx(3 / np.sqrt(4.5 * 4))
    # Ranks 3, 1, 4, 2 and 3.5, 1.5, 3.5, 1.5: products 4, squares 5 and 4.
    assert perfect(score[0], right[0]) == pytest.approx(4 / np.sqrt(5 * 4))
