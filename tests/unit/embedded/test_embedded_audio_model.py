"""The audio-language model that ships: real classes, small, and it answers from what it hears."""

import re
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

from adrpo import AdrpoError
from adrpo.audio import AudioProcessor
from adrpo.embedded.sounds.meaning import TASKS, Question, prompt_text
from adrpo.embedded.sounds.rendering import LONGEST, SHORTEST
from adrpo.embedded.sounds.sets import question_set
from adrpo.embedded.sounds.words import BANK, RATE
from adrpo.embedded.weights import weights_path
from tools.embedded import audio_language_parts as parts
from tools.embedded import audio_language_quality as quality

FOLDER = weights_path("audio_language_model")
QUESTIONS = 180


@pytest.fixture(scope="module")
def model() -> quality.Model:
    return quality.load(FOLDER)


@pytest.fixture(scope="module")
def questions() -> list[Question]:
    return question_set(QUESTIONS, split="held_out", seed=7)


@pytest.fixture(scope="module")
def clips(model: quality.Model, questions: list[Question]) -> list[Any]:
    return quality.heard(model, questions)


def right(model: quality.Model, questions: list[Question], clips: list[Any]) -> np.ndarray:
    """The probability that a sample is the right answer, question by question."""
    return quality.chances_of(model, questions, clips).of_the_right(questions).sampled


def test_it_is_a_thinker_of_at_most_10_megabytes_with_the_words_in_bfloat16(
    model: quality.Model,
) -> None:
    assert type(model.thinker).__name__ == "Qwen2_5OmniThinkerForConditionalGeneration"
    own = sum(file.stat().st_size for file in FOLDER.iterdir())
    assert own + BANK.stat().st_size <= 10e6
    with safe_open(FOLDER / "model.safetensors", framework="pt") as opened:
        assert {opened.get_slice(name).get_dtype() for name in opened.keys()} == {"BF16"}


# --- text ---


def test_a_question_has_the_tokens_of_the_plain_prompt_and_room_for_its_clip(
    model: quality.Model, questions: list[Question]
) -> None:
    tokenizer, config = model.processor.tokenizer, model.thinker.config
    start, end = config.audio_start_token_id, config.audio_end_token_id
    for question in questions[:42]:
        text = prompt_text(question)
        asked = [{"role": "user", "content": text}]
        ids = model.processor.prompt_ids(asked, [3], config.audio_token_id)
        assert ids == [start, *[config.audio_token_id] * 3, end, *tokenizer(text).input_ids]
        assert tokenizer.decode(tokenizer(text).input_ids) == text
    parted = [{"role": "user", "content": [{"type": "audio"}, {"type": "text", "text": "go\n"}]}]
    told = [{"role": "system", "content": "Be brief."}, *parted]
    told += [{"role": "assistant", "content": "yes"}, {"role": "user", "content": "no\n"}]
    ids = model.processor.prompt_ids(told, [1], config.audio_token_id)
    shown = "Be brief.\n<|audio_bos|><|AUDIO|><|audio_eos|>go\nyes<eos>no\n"
    assert ids == tokenizer(shown).input_ids


def test_any_text_has_tokens_and_a_word_of_the_world_is_one(model: quality.Model) -> None:
    tokenizer = model.processor.tokenizer
    for word in parts.world_words():
        assert len(tokenizer(word).input_ids) == 1, word
    for text in ("Xylophone, 42%!", " a  b ", "LSSL"):
        ids = tokenizer(text).input_ids
        assert tokenizer.unk_token_id not in ids and tokenizer.decode(ids) == text
    assert tokenizer("é").input_ids == tokenizer("日").input_ids == [tokenizer.unk_token_id]


def test_marks_are_tokens_of_their_own_and_those_of_the_configuration(
    model: quality.Model,
) -> None:
    tokenizer, config = model.processor.tokenizer, model.thinker.config
    ids = [tokenizer(mark).input_ids for mark in parts.MARKERS]
    assert all(len(own) == 1 for own in ids)
    assert [config.audio_token_id] == ids[0]
    assert tokenizer.eos_token_id != tokenizer.pad_token_id
    for settings in (config.text_config, model.thinker.generation_config):
        assert settings.eos_token_id == tokenizer.eos_token_id
        assert settings.pad_token_id == tokenizer.pad_token_id


# --- sound ---


def test_the_longest_clip_and_question_fit_and_a_longer_clip_is_refused(
    model: quality.Model,
) -> None:
    def tokens(seconds: float) -> int:
        clip = {"array": np.zeros(round(seconds * RATE), np.float32), "sampling_rate": RATE}
        return model.encoder(model.processor.features(clip)).tokens

    assert tokens(SHORTEST) >= 15 and 25 <= tokens(LONGEST) <= 75
    asked = question_set(300, split="train", seed=2)
    tokenizer = model.processor.tokenizer
    longest = max(len(tokenizer(prompt_text(q)).input_ids) for q in asked)
    answers = max(len(tokenizer(q.answer).input_ids) for q in asked)
    assert answers < quality.MAX_NEW_TOKENS
    assert tokens(LONGEST) + 2 + longest + quality.MAX_NEW_TOKENS <= tokenizer.model_max_length
    assert tokenizer.model_max_length == model.thinker.config.text_config.max_position_embeddings
    with pytest.raises(AdrpoError, match=r"at most 4 s, which the model hears, received 4\.1 s"):
        tokens(4.1)


@torch.inference_mode()
def test_the_thinker_hears_features_as_it_hears_the_frozen_encoders_output(
    model: quality.Model, questions: list[Question], clips: list[Any]
) -> None:
    """As transformers runs it: spectrograms with their mask, two clips of different lengths."""
    pair = [0, int(np.argmax([clip.tokens != clips[0].tokens for clip in clips]))]
    inputs = quality.inputs_of(model, [questions[i] for i in pair], [clips[i] for i in pair])
    expected = model.thinker(**inputs).logits[:, -1]
    spectra = [model.processor.features(sound(questions[i])) for i in pair]
    length = max(features.shape[1] for features in spectra)
    padded = [torch.nn.functional.pad(f, (0, length - f.shape[1])) for f in spectra]
    inputs["input_features"] = torch.stack(padded)
    mask = [torch.arange(length) < features.shape[1] for features in spectra]
    found = model.thinker(**inputs, feature_attention_mask=torch.stack(mask).long())
    # The same sums in another order: float32 rounding of logits of about 10 over eight layers.
    torch.testing.assert_close(found.logits[:, -1], expected, atol=1e-3, rtol=0)


def sound(question: Question) -> dict[str, Any]:
    samples = quality.render(question.clip, question.seed)
    return {"array": samples, "sampling_rate": RATE}


# --- answers ---


def test_the_base_is_as_competent_and_as_imperfect_as_its_card_says(
    model: quality.Model, questions: list[Question], clips: list[Any]
) -> None:
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\w+) \| ([\d.]+) \[([\d.]+), ([\d.]+)\]", card, re.MULTILINE)
    told = {name: tuple(map(float, numbers)) for name, *numbers in rows}
    found = right(model, questions, clips)
    mean, low, high = told["sampled"]
    assert 0.40 <= mean <= 0.65
    # Other questions than the card's: each estimate's standard error, three of their sum.
    errors = (high - low) / 3.92, found.std(ddof=1) / np.sqrt(len(found))
    assert found.mean() == pytest.approx(mean, abs=3 * float(np.hypot(*errors)))
    for task in TASKS:
        # By the card, above chance by more than the interval.
        assert told[task][1] > 0.25, task


def test_with_the_clip_of_another_question_it_is_right_by_chance(
    model: quality.Model, questions: list[Question], clips: list[Any]
) -> None:
    other = [clips[place] for place in quality.swapped(questions)]
    deaf, found = right(model, questions, other), right(model, questions, clips)
    # Answers are drawn apart from clips, so that the expected share is at most a quarter; three
    # standard errors.
    assert deaf.mean() <= 0.25 + 3 * deaf.std(ddof=1) / np.sqrt(len(deaf))
    assert found.mean() > deaf.mean() + 0.1


def test_samples_are_right_as_often_as_their_probability_says(
    model: quality.Model, questions: list[Question], clips: list[Any]
) -> None:
    part, heard = questions[:96], clips[:96]
    chances = right(model, part, heard)
    texts = quality.answers(model, part, heard, seed=3)
    hits = np.asarray([text == q.answer for text, q in zip(texts, part, strict=True)])
    # A sum of independent Bernoulli draws with these chances: four standard deviations.
    spread = float(np.sqrt((chances * (1 - chances)).sum()))
    assert hits.sum() == pytest.approx(chances.sum(), abs=4 * spread)


def test_the_greedy_answer_is_what_generation_gives(
    model: quality.Model, questions: list[Question], clips: list[Any]
) -> None:
    part, heard = questions[:64], clips[:64]
    greedy = quality.chances_of(model, part, heard).greedy.astype(bool)
    texts = quality.answers(model, part, heard, seed=None)
    for question, text, chosen in zip(part, texts, greedy, strict=True):
        assert [choice == text for choice in question.choices] == chosen.tolist()


def test_its_processor_is_what_the_builder_makes() -> None:
    own, made = AudioProcessor.from_pretrained(str(FOLDER)), parts.new_processor()
    assert own.tokenizer.get_vocab() == made.tokenizer.get_vocab()
    assert own.tokenizer.chat_template == made.tokenizer.chat_template
    assert own.feature_extractor.to_dict() == made.feature_extractor.to_dict()
