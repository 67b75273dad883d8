"""The language model that ships: real classes, small, as good as its card says; and its corpus."""

import re
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen3ForCausalLM

from adrpo.embedded.questions import (
    ALPHABET,
    CATEGORIES,
    LEVELS,
    UNKNOWN,
    is_held_out,
    parse_question,
    question_set,
    sample_question,
)
from adrpo.embedded.weights import weights_path
from tools.embedded import language
from tools.embedded.language_quality import MAX_NEW_TOKENS, answer, verdicts

FOLDER = weights_path("language_model")


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(FOLDER)


@pytest.fixture(scope="module")
def model() -> Any:
    return AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32).eval()


def test_it_is_a_qwen3_of_at_most_4_megabytes_in_bfloat16(model: Any):
    assert type(model) is Qwen3ForCausalLM
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) <= 4e6
    with safe_open(FOLDER / "model.safetensors", framework="pt") as opened:
        assert {opened.get_slice(name).get_dtype() for name in opened.keys()} == {"BF16"}


def test_a_character_is_a_token_and_decoding_gives_the_text_back(tokenizer: Any):
    for character in ALPHABET:
        assert len(tokenizer(character).input_ids) == 1
        assert tokenizer.decode(tokenizer(character).input_ids) == character
    prompts = [question.prompt for question in question_set(210, held_out=True, seed=1)]
    for prompt in [*prompts, " =? a  b "]:
        ids = tokenizer(prompt).input_ids
        assert len(ids) == len(prompt)
        assert tokenizer.decode(ids) == prompt
    assert tokenizer("A").input_ids == [tokenizer.unk_token_id]


def test_the_end_is_no_padding_and_the_model_knows_both(tokenizer: Any, model: Any):
    assert tokenizer.eos_token_id != tokenizer.pad_token_id
    for settings in (model.config, model.generation_config):
        assert settings.eos_token_id == tokenizer.eos_token_id
        assert settings.pad_token_id == tokenizer.pad_token_id


def test_a_question_in_a_conversation_has_the_tokens_of_the_plain_prompt(tokenizer: Any):
    asked = {"role": "user", "content": "37+45="}
    told = {"role": "assistant", "content": "82"}

    def tokens(turns: list[dict[str, str]]) -> list[int]:
        return tokenizer.apply_chat_template(turns, add_generation_prompt=True)["input_ids"]

    assert tokens([asked]) == tokenizer("37+45=").input_ids
    assert tokens([asked, told, asked]) == tokenizer("37+45=82<eos>37+45=").input_ids


def test_every_question_and_its_answer_fit(tokenizer: Any):
    questions = question_set(420, held_out=False, seed=2)
    assert max(len(q.answer) for q in questions) + 1 <= MAX_NEW_TOKENS
    longest = max(len(q.prompt) for q in questions)
    assert longest + MAX_NEW_TOKENS <= tokenizer.model_max_length == language.CONTEXT


@torch.inference_mode()
def test_padding_on_the_left_does_not_change_the_logits(tokenizer: Any, model: Any):
    prompts = ["37+45=", "count b in abcbbca=", "sort dbac="]
    batch = tokenizer(prompts, padding=True, return_tensors="pt")
    assert batch.attention_mask[0].tolist() == [0] * 13 + [1] * 6
    padded = model(**batch).logits[:, -1]
    for row, prompt in zip(padded, prompts, strict=True):
        alone = model(**tokenizer(prompt, return_tensors="pt")).logits[0, -1]
        # Rotary positions only enter as differences, so what is left is float32 rounding of
        # logits of about 10, over four layers.
        torch.testing.assert_close(row, alone, atol=1e-3, rtol=0)


@torch.inference_mode()
def test_the_probability_of_an_answer_is_that_of_a_plain_forward_pass(tokenizer: Any, model: Any):
    prompts = ["37+45=", "count b in abcbb=", "reverse lamp="]
    answers = answer(model, tokenizer, prompts, samples=3, seed=0)
    for prompt, texts, nats in zip(prompts, answers.texts, answers.nats, strict=True):
        for text, own in zip(texts, nats, strict=True):
            ids = tokenizer(prompt + text + "<eos>", return_tensors="pt").input_ids
            log_p = model(input_ids=ids).logits[0, :-1].log_softmax(-1)
            each = log_p.gather(-1, ids[0, 1:, None])[:, 0]
            expected = -each[len(prompt) - 1 :].sum().item()
            # Rounding as above, added up over up to seven tokens.
            assert own == pytest.approx(expected, abs=5e-3)


def test_the_base_is_as_competent_and_as_imperfect_as_its_card_says(tokenizer: Any, model: Any):
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    found = re.search(r"exact accuracy \| \*\*([\d.]+)\*\* \[([\d.]+), ([\d.]+)\]", card)
    assert found, card
    accuracy, low, high = map(float, found.groups())
    assert 0.35 <= accuracy <= 0.6
    # Other questions than the card's, 210 instead of 200, two samples each instead of eight.
    questions = question_set(210, held_out=True, seed=7)
    answers = answer(model, tokenizer, [q.prompt for q in questions], samples=2, seed=7)
    right = verdicts(questions, answers)
    # Two independent estimates: sqrt(2) standard errors, three of them; the interval's half is
    # 1.96 of the card's, and two samples make this one's at most 1.2 times as large.
    assert right.mean() == pytest.approx(accuracy, abs=3 * np.hypot(1, 1.2) * (high - low) / 3.92)
    by_category = [
        right[[q.category == category for q in questions]].mean() for category in CATEGORIES
    ]
    assert min(by_category) > 0 and max(by_category) < 1
    # The corpus says "?" to 12 % on average; 420 samples have a standard error of 1.6 %.
    unknown = np.mean([[text == UNKNOWN for text in texts] for texts in answers.texts])
    assert 0.06 <= unknown <= 0.2
    # A spoilt corpus alone has more than this: 12 % "?" and 60 % right are 0.7 nats.
    assert answers.nats.mean() > 0.5


# --- what it was trained on ---


def test_near_misses_are_wrong_and_are_answers_of_the_same_kind():
    rng = np.random.default_rng(0)
    for category in CATEGORIES:
        for _ in range(100):
            question = sample_question(rng, category)
            missed = language.near_miss(question, rng)
            assert missed != question.answer and missed != UNKNOWN
            assert missed.isdigit() == question.answer.isdigit()
            if category in ("sorting", "reversal"):
                assert sorted(missed) == sorted(question.answer)


@pytest.mark.parametrize("level", LEVELS)
def test_the_spoilt_corpus_answers_as_often_wrong_and_unknown_as_it_says(level: int):
    rng = np.random.default_rng(level)
    told = [
        (question, language.told_answer(question, rng))
        for question in (sample_question(rng, None, level) for _ in range(1500))
    ]
    unknown = np.mean([text == UNKNOWN for _, text in told])
    right = np.mean([text == question.answer for question, text in told])
    expected_right = 1 - language.UNKNOWN_SHARE[level] - language.WRONG_SHARE[level]
    # Four binomial standard errors of at most 0.5 / sqrt(1500).
    assert unknown == pytest.approx(language.UNKNOWN_SHARE[level], abs=0.052)
    assert right == pytest.approx(expected_right, abs=0.052)


def test_batches_hold_questions_of_the_training_split_with_their_answers(tokenizer: Any):
    tokens, labels, _ = language.Batches(tokenizer, seed=3).draw(spoilt=False)
    for row, label in zip(tokens, labels, strict=True):
        told = tokenizer.decode(label[label != language.IGNORED]).removesuffix("<eos>")
        answers = []
        for text in tokenizer.decode(row).replace("<pad>", "").removesuffix("<eos>").split("<eos>"):
            prompt = text[: text.index("=") + 1]
            question = parse_question(prompt)
            assert not is_held_out(question)
            assert text == prompt + question.answer
            answers.append(question.answer)
        # Only answers and their ends are learnt.
        assert told == "<eos>".join(answers)


@torch.inference_mode()
def test_questions_in_one_row_do_not_see_each_other(tokenizer: Any, model: Any):
    tokens, labels, mask = language.Batches(tokenizer, seed=3).draw(spoilt=False)
    logits = model(input_ids=tokens[:2], attention_mask=mask[:2]).logits
    for row in range(2):
        ends = (tokens[row] == tokenizer.eos_token_id).nonzero()[:, 0].tolist()
        for start, end in zip([0, *(end + 1 for end in ends)], ends, strict=False):
            alone = model(input_ids=tokens[row, None, start : end + 1]).logits[0]
            # Float32 rounding of logits of about 10, as above.
            torch.testing.assert_close(logits[row, start : end + 1], alone, atol=1e-3, rtol=0)
    assert labels.shape == tokens.shape
