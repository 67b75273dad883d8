"""What the embedded audio-language model is trained on."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from adrpo.audio.data.forms import asked
from adrpo.embedded.sounds.meaning import LEVELS, Clip, Event, Question, prompt_text
from adrpo.embedded.sounds.music import CHORDS, INTERVALS
from adrpo.embedded.sounds.sets import SUB_CATEGORIES, question_set, sample_question, split_of
from adrpo.embedded.sounds.synthesis import INSTRUMENTS
from adrpo.embedded.sounds.words import RATE
from tools.embedded import audio_language, audio_language_data
from tools.embedded import audio_language_parts as parts
from tools.embedded.audio_language_data import IGNORED, NAMES, Example, Examples, Packing
from tools.embedded.audio_language_questions import more_questions


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    drawing = Examples(seed=3)
    return [drawing.draw() for _ in range(40)]


@pytest.fixture(scope="module")
def packing() -> Packing:
    return Packing(parts.new_tokenizer(), seed=3)


def test_what_is_heard_in_each_token_is_what_the_clip_says(examples: Sequence[Example]) -> None:
    for example in examples:
        events = example.question.clip.events
        heard = {NAMES[place] for place in example.targets[:, : len(NAMES)].any(0).nonzero()[:, 0]}
        assert heard == {e.name for e in events} | {e.voice for e in events if e.voice}
        begun = int(example.targets[:, audio_language_data.BEGINS].sum())
        assert 1 <= begun <= len(events)
        pitched = example.targets[:, len(NAMES) : audio_language_data.FIRST_FACT].any().item()
        assert pitched == any(event.name in INSTRUMENTS for event in events)


def told(question: Question) -> list[list[str]]:
    """The facts of each event of a question's clip."""
    events = question.clip.events
    return [[*audio_language_data.facts(events, number)] for number in range(len(events))]


def test_facts_are_what_the_right_answers_say() -> None:
    rng = np.random.default_rng(2)
    for level, _ in itertools.product(LEVELS, range(20)):
        chord = sample_question(rng, "chord", level, "train")
        heard = {fact for facts in told(chord) for fact in facts} & {*CHORDS}
        # With its root on top a chord is not named; never is it named as another.
        assert heard == {chord.answer} or (level == "hard" and not heard)
        interval = sample_question(rng, "interval", level, "train")
        assert {fact for facts in told(interval) for fact in facts} & {*INTERVALS} == {
            interval.answer
        }
        rhythm = sample_question(rng, "rhythm", level, "train")
        assert "".join(f for facts in told(rhythm) for f in facts if f in "LS") == rhythm.answer
        count = sample_question(rng, "sound count", "easy", "train")
        assert count.answer in {facts[-1] for facts in told(count)}
    melody = Clip(
        task="music",
        events=tuple(Event(name="flute", pitches=(pitch,)) for pitch in (60, 64, 64, 62)),
    )
    moves = [[*audio_language_data.facts(melody.events, number)] for number in range(4)]
    assert moves == [
        ["one"], ["rises", "major third", "two"], ["three"], ["falls", "major second", "four"],
    ]  # fmt: skip


def test_the_pitches_heard_are_those_that_sound(examples: Sequence[Example]) -> None:
    """Against the spectrum: energy at the pitch of a flute is above that a tone and a half off."""
    rng = np.random.default_rng(1)
    found = []
    for _ in range(60):
        question = sample_question(rng, "interval", "easy", "train")
        if question.clip.events[0].name != "flute":
            continue
        rendering = audio_language_data.rendering_of(question.clip, question.seed)
        begin, end = rendering.spans[0]
        wave = rendering.samples[begin:end]
        power = np.abs(np.fft.rfft(wave * np.hanning(len(wave)), 4 * RATE)) ** 2
        pitch = question.clip.events[0].pitches[0] + rendering.transposed
        hertz = 440 * 2 ** ((pitch - 69 + np.array([-1.5, 0, 1.5])) / 12)
        found.append(np.argmax([power[round(4 * h) - 8 : round(4 * h) + 8].sum() for h in hertz]))
    assert len(found) >= 5 and set(found) == {1}


def test_batches_hold_questions_of_the_training_split_with_their_answers(
    examples: Sequence[Example], packing: Packing
) -> None:
    assert all(split_of(example.question) == "train" for example in examples)
    batch = packing(examples, spoilt=False)
    tokenizer = packing.tokenizer
    told = "".join(tokenizer.decode(own[own != IGNORED]) for own in batch.labels).split("<eos>")
    assert told == [*(example.question.answer for example in examples), ""]
    text = "".join(tokenizer.decode(row) for row in batch.tokens).replace("<pad>", "")
    for example, whole in zip(examples, text.split("<eos>"), strict=False):
        question = example.question
        assert whole.count("<|AUDIO|>") == len(example.targets)
        lines = whole.split("<|audio_eos|>")[1].split("\n")
        assert lines[0] == question.text and lines[-1] == question.answer
        assert sorted(lines[1:-1]) == sorted(question.choices)


def test_the_tokens_of_a_row_are_those_of_the_conversation(
    examples: Sequence[Example], packing: Packing
) -> None:
    """The words that a row is put together from do not run into each other."""
    processor = parts.new_processor()
    batch = packing(examples[:1], spoilt=False)
    start = int((batch.labels[0] != IGNORED).nonzero()[0, 0])
    text = processor.tokenizer.decode(batch.tokens[0, :start]).split("<|audio_eos|>")[1]
    turns = [{"role": "user", "content": text}]
    audio = processor.tokenizer.convert_tokens_to_ids(parts.AUDIO)
    ids = processor.prompt_ids(turns, [len(examples[0].targets)], audio)
    assert batch.tokens[0, :start].tolist() == ids


@torch.inference_mode()
def test_packed_rows_have_the_loss_of_the_thinker_on_each_question_alone(
    examples: Sequence[Example], packing: Packing
) -> None:
    torch.manual_seed(0)
    thinker = parts.new_model(packing.tokenizer).eval()
    hearing, answering = audio_language.Hearing(thinker), audio_language.Answering(thinker)
    batch = Packing(packing.tokenizer, seed=3, more=2)(examples[:6], spoilt=False)
    packed = answering(hearing(batch)[0], batch).item()
    nats, told, clips = 0.0, 0, iter(examples)
    special = packing.tokenizer.convert_tokens_to_ids
    for row, labels in zip(batch.tokens, batch.labels, strict=True):
        begun = [*(row == special(parts.AUDIO_START)).nonzero()[:, 0].tolist(), len(row)]
        for begin, stop in itertools.pairwise(begun):
            features = next(clips).features.float()[None]
            heard = begin + int((row[begin:stop] == special(parts.AUDIO_END)).nonzero()[0, 0]) + 1
            ends = heard + (row[heard:stop] == special(parts.END)).nonzero()[:, 0] + 1
            for start, end in itertools.pairwise([heard, *ends.tolist()]):
                own = torch.cat([labels[begin:heard], labels[start:end]])[None]
                output = thinker(
                    input_ids=torch.cat([row[begin:heard], row[start:end]])[None],
                    attention_mask=torch.ones_like(own),
                    input_features=features,
                    feature_attention_mask=torch.ones(1, features.shape[2], dtype=torch.long),
                    labels=own,
                )
                nats += output.loss.item() * int((own != IGNORED).sum())
                told += int((own != IGNORED).sum())
    assert told == int((batch.labels != IGNORED).sum())
    # Float32 rounding of a mean of about 6.
    assert packed == pytest.approx(nats / told, abs=1e-4)


def test_other_questions_on_a_clip_are_of_the_world_and_of_training(
    examples: Sequence[Example],
) -> None:
    """Each has the form of one that the world draws, and the answer that its events give."""
    rng = np.random.default_rng(2)
    drawn = question_set(900, split="train", seed=6)
    forms = {question.text for question in drawn}
    found = 0
    for example in examples:
        clip = example.question.clip
        for other in more_questions(example.question, rng, 9):
            found += 1
            assert other.clip is clip and split_of(other) == "train"
            assert len(set(other.choices)) == 4 and other.answer in other.choices
            names = [event.name for event in clip.events]
            if " heard?" in other.text and "these" in other.text:
                assert [choice for choice in other.choices if choice in names] == [other.answer]
            if other.text.endswith((" first?", " last?")):
                assert other.text in forms
                assert other.answer == names[0 if other.text.endswith("first?") else -1]
            if " right after " in other.text:
                named = other.text.removesuffix("?").split(" the ")[-1].removeprefix("word ")
                assert names[names.index(named) + 1] == other.answer
    assert found > len(examples)


def test_near_misses_are_wrong_and_nearly_all_choices() -> None:
    rng = np.random.default_rng(0)
    questions = question_set(420, split="train", seed=1)
    missed = [(q, audio_language_data.near_miss(q, rng)) for q in questions]
    assert all(text != question.answer for question, text in missed)
    elsewhere = np.mean([text not in question.choices for question, text in missed])
    # 5 % where a sub-category has other choices; four binomial standard errors.
    assert 0 < elsewhere <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / len(questions))
    assert {question.sub_category for question, _ in missed} == set(SUB_CATEGORIES)


def test_a_spoilt_batch_answers_as_often_wrong_as_it_says(
    examples: Sequence[Example], packing: Packing
) -> None:
    wrong = []
    for _ in range(20):
        batch = packing(examples, spoilt=True)
        decode = packing.tokenizer.decode
        told = "".join(decode(own[own != IGNORED]) for own in batch.labels).split("<eos>")
        pairs = zip(told[:-1], examples, strict=True)
        wrong += [text != example.question.answer for text, example in pairs]
    share = audio_language_data.WRONG_SHARE
    # Four binomial standard errors of 800 draws.
    assert np.mean(wrong) == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / 800))


def test_the_prompt_is_what_the_plain_form_of_the_data_asks() -> None:
    question = question_set(1, split="train", seed=0)[0]
    assert prompt_text(question) == question.text + "\n" + "\n".join(question.choices) + "\n"
    assert prompt_text(question) == asked(question.text, question.choices, form="plain")
