"""Questions of the sounds world: their splits, sets, choices, and rows in MMAU's format."""

import json
import wave
from collections import Counter

import numpy as np
import pytest

from adrpo.audio.benchmarks.benchmarks import BENCHMARKS
from adrpo.audio.benchmarks.questions import read_questions
from adrpo.audio.benchmarks.scorers import verdicts
from adrpo.embedded.sounds.meaning import LEVELS, TASKS
from adrpo.embedded.sounds.rendering import render
from adrpo.embedded.sounds.sets import (
    QUESTIONS_FILE,
    SUB_CATEGORIES,
    question_set,
    rows,
    sample_question,
    split_of,
    write_set,
)

SPLITS = ("train", "held_out", "test")
CELLS = [(name, level) for name in SUB_CATEGORIES for level in LEVELS]


@pytest.fixture(scope="module")
def sets():
    return {split: question_set(1260, split=split, seed=3) for split in SPLITS}


def test_no_combination_of_one_split_is_heard_in_another(sets):
    heard = {
        split: {question.combination for question in questions} for split, questions in sets.items()
    }
    assert all(len(combinations) > 300 for combinations in heard.values())
    for one, other in (("train", "held_out"), ("train", "test"), ("held_out", "test")):
        assert not heard[one] & heard[other]
    assert all(split_of(q) == split for split, questions in sets.items() for q in questions)


def test_a_combination_is_all_that_the_clip_composes_whatever_its_order(sets):
    """The names of what is heard, all of them, and of speech nothing beside them but voices."""
    for question in sets["train"]:
        names = {event.name for event in question.clip.events}
        parts = question.combination.split("|")
        assert parts[0] == question.task
        assert names <= set(parts)
        if question.task == "sound":
            assert parts[1:] == sorted(names)
        if question.task == "speech":
            voices = {event.voice for event in question.clip.events}
            assert set(parts[1:]) - names <= voices


def test_a_tenth_of_the_combinations_is_held_out_and_a_tenth_is_for_tests():
    rng = np.random.default_rng(1)
    drawn = (sample_question(rng, name, level) for name, level in CELLS for _ in range(100))
    questions = {question.combination: question for question in drawn}
    shares = Counter(map(split_of, questions.values()))
    # Binomial standard error with over 2,000 combinations is below 0.007; five of them.
    assert len(questions) > 2000
    assert abs(shares["held_out"] / len(questions) - 0.1) < 0.035
    assert abs(shares["test"] / len(questions) - 0.1) < 0.035


@pytest.mark.parametrize("split", SPLITS)
def test_every_sub_category_and_level_has_questions_of_every_split(split):
    rng = np.random.default_rng(2)
    for name, level in CELLS:
        drawn = [sample_question(rng, name, level, split) for _ in range(12)]
        assert {(q.sub_category, q.difficulty, split_of(q)) for q in drawn} == {
            (name, level, split)
        }
        # Whatever the split has, every answer remains: none tells another's split.
        assert len({q.answer for q in drawn}) > 1


@pytest.mark.parametrize("split", SPLITS)
def test_sets_have_tasks_and_cells_in_turn_and_every_letter_as_often(sets, split):
    questions = sets[split][:630]
    assert [q.task for q in questions] == list(TASKS) * 210
    assert set(Counter(q.letter for q in questions).values()) <= {157, 158}
    cells = Counter((q.sub_category, q.difficulty) for q in questions[:126])
    assert set(cells) == set(CELLS)
    assert len({(q.text, frozenset(q.choices), q.clip) for q in questions}) == 630


def test_a_cell_that_runs_dry_leaves_its_share_to_the_others_of_its_task():
    questions = question_set(1500, split="test", seed=0)
    assert [q.task for q in questions] == list(TASKS) * 500
    cells = Counter((q.sub_category, q.difficulty) for q in questions)
    # Two pairs, named in two orders, with four answers.
    assert cells["sound overlap", "easy"] == 16
    assert cells["sound order", "easy"] > 500 / 15


def test_a_set_repeats_with_its_seed():
    first, again = (question_set(90, split="held_out", seed=5) for _ in range(2))
    assert first == again
    assert first != question_set(90, split="held_out", seed=6)
    assert first[:45] == question_set(45, split="held_out", seed=5)


def test_names_that_are_none_are_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="received 'smell', 'easy'"):
        sample_question(rng, "smell", "easy")
    with pytest.raises(ValueError, match="received 'chord', 'medium rare'"):
        sample_question(rng, "chord", "medium rare")
    with pytest.raises(ValueError, match="received 'valid'"):
        sample_question(rng, "chord", "easy", "valid")  # type: ignore[arg-type]


def test_the_text_alone_does_not_tell_the_answer(sets):
    """The choice that was right most often in training is right by chance on other questions."""
    right, shown = Counter(), Counter()
    for q in question_set(6000, split="train", seed=7):
        right[q.sub_category, q.difficulty, q.answer] += 1
        shown.update((q.sub_category, q.difficulty, choice) for choice in q.choices)

    def chance_of(question, choice):
        key = (question.sub_category, question.difficulty, choice)
        return (right[key] + 1) / (shown[key] + 4)

    others = sets["held_out"] + sets["test"]
    guesses = [max(q.choices, key=lambda choice: chance_of(q, choice)) for q in others]
    accuracy = np.mean([q.answer == guess for q, guess in zip(others, guesses, strict=True)])
    # The standard error with 2,520 questions is 0.0086; four of them.
    assert abs(accuracy - 0.25) < 0.035


def test_mmau_s_reader_and_scorers_take_a_written_set(tmp_path, sets):
    questions = sets["test"][:126]
    write_set(questions, tmp_path)
    read = read_questions(BENCHMARKS["mmau"], tmp_path)
    assert [q.text for q in read.questions] == [q.text for q in questions]
    assert [q.groups["difficulty"] for q in read.questions] == [(q.difficulty,) for q in questions]
    for question, ours in zip(read.questions, questions, strict=True):
        assert (question.choices, question.answer) == (ours.choices, ours.answer)
        assert not question.repeats_a_choice
        for choice in question.choices:
            # Right by each scorer, the authors' own included, if and only if it is the answer.
            assert set(verdicts(question, choice).values()) == {int(choice == ours.answer)}
            letter = "ABCD"[question.choices.index(choice)]
            assert verdicts(question, letter)["strict"] == int(letter == ours.letter)


def test_written_clips_are_the_rendered_ones(tmp_path, sets):
    questions = sets["held_out"][:9]
    write_set(questions, tmp_path)
    written = json.loads((tmp_path / QUESTIONS_FILE).read_text(encoding="utf-8"))
    assert written == rows(questions)
    assert {row["split"] for row in written} == {"held_out"}
    assert len({row["id"] for row in rows(sets["train"])}) == len(sets["train"])
    for row, question in zip(written, questions, strict=True):
        with wave.open(str(tmp_path / row["audio_id"])) as file:
            assert (file.getnchannels(), file.getframerate()) == (1, 16_000)
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32767
        assert np.abs(samples - render(question.clip, question.seed)).max() < 1 / 32767
