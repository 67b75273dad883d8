"""Questions put to a model on this machine: its own answers, kept, and over the shifts."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import Qwen2_5OmniThinkerForConditionalGeneration

from adrpo.audio.benchmarks.local import shift_file
from adrpo.audio.benchmarks.results import score_predictions
from adrpo.embedded.sounds.sets import QUESTIONS_FILE
from support.asked_here import (
    COUNTS,
    SETTINGS,
    WEIGHTS,
    Saying,
    all_alone,
    answers_in,
    asked_rows,
    asking,
    local,
    quiet,
)
from support.command_line import Command
from support.tiny_audio_trainers import AUDIO_MARKS

pytestmark = AUDIO_MARKS


@pytest.fixture(scope="module")
def thinker() -> Any:
    # As the recipe has it: in the bfloat16 of the file near answers may change places.
    model = Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained(WEIGHTS, dtype="float32")
    return model.eval()


@pytest.fixture(scope="module")
def shifted(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Answers of the embedded model to all shifts."""
    answers = tmp_path_factory.mktemp("answers") / "all.jsonl"
    model = local(data, answers, shifts=True)
    assert model.left == sum(COUNTS)
    told: list[tuple[int, int]] = []
    model.ask(lambda *counts: told.append(counts))
    # Batches of 5 of 12, 12, 11, 11 and 1 questions.
    counts = [5, 10, 12, 17, 22, 24, 29, 34, 35, 40, 45, 46, 47]
    assert told == [(count, 47) for count in counts]
    return answers


def test_answers_are_those_of_the_model_alone_about_their_own_sound(
    data: Path, shifted: Path, thinker: Any
) -> None:
    """Batches of 5 questions whose clips differ in length; and another clip gives another answer,
    or hearing the wrong one could not be told."""
    for shift in (0, 1):
        found = answers_in(shift_file(shifted, shift))
        expected = all_alone(thinker, data, shift=shift)
        said = [found[row["id"]]["said"] for row in asked_rows(data)]
        assert said == expected
    others = all_alone(thinker, data, clips_from=1)
    first = answers_in(shifted)
    differ = [
        first[row["id"]]["said"] != b for row, b in zip(asked_rows(data), others, strict=True)
    ]
    assert sum(differ) >= 4


def test_each_choice_is_first_once_and_the_file_says_what_it_was_shown(
    data: Path, shifted: Path
) -> None:
    files = [answers_in(shift_file(shifted, shift)) for shift in range(5)]
    assert [len(file) for file in files] == [12, 12, 11, 11, 1]
    for row in asked_rows(data):
        shown = [file[row["id"]]["choices"] for file in files if row["id"] in file]
        assert [choices[0] for choices in shown] == row["choices"]
        assert all(sorted(choices) == sorted(row["choices"]) for choices in shown)
    assert not shift_file(shifted, 5).exists()


def test_a_stopped_work_goes_on_and_asks_nothing_twice(
    data: Path, tmp_path: Path, saying: Callable[..., Saying]
) -> None:
    """Stopped after the second batch of the second shift, and its last line cut short."""
    model = saying(lambda lines: lines[-1])
    whole = tmp_path / "whole.jsonl"
    local(data, whole, shifts=True).ask(quiet)
    everything = [clip for batch in model.batches for clip in batch]
    model.batches.clear()

    def stop(answered: int, of: int) -> None:
        if answered == 22:
            raise KeyboardInterrupt

    answers = tmp_path / "answers.jsonl"
    with pytest.raises(KeyboardInterrupt):
        local(data, answers, shifts=True).ask(stop)
    with shift_file(answers, 1).open("a") as file:
        file.write('{"id": "half')
    again = local(data, answers, shifts=True)
    assert again.left == 25
    again.ask(quiet)
    assert [clip for batch in model.batches for clip in batch] == everything
    for shift in range(5):
        written = [shift_file(path, shift).read_bytes() for path in (answers, whole)]
        assert written[0] == written[1]
    asked = len(model.batches)
    finished = local(data, answers, shifts=True)
    finished.ask(quiet)
    assert finished.left == 0 and len(model.batches) == asked


def test_shifts_are_added_to_a_file_without(
    data: Path, tmp_path: Path, saying: Callable[..., Saying]
) -> None:
    saying(lambda lines: lines[1])
    answers = tmp_path / "answers.jsonl"
    local(data, answers).ask(quiet)
    assert local(data, answers, shifts=True).left == sum(COUNTS) - 12


def test_who_always_takes_the_first_choice_has_one_in_n_over_the_shifts(
    data: Path, command: Command, saying: Callable[..., Saying]
) -> None:
    saying(lambda lines: lines[1])
    assert command("evaluate", "embedded", *asking(data), "--shifts", *SETTINGS) == 0
    summary = json.loads(Path("runs/evaluation/summary.json").read_text())
    # The text that stands twice among four is the right one, and so is half of the choices.
    expected = sum(1 / count for count in COUNTS) + 1 / 4
    for scorer in ("official", "official_missing_wrong", "strict"):
        assert summary["shifts"][scorer]["all"]["all"]["right"] == pytest.approx(expected)
    of_one = [row["strict"] for row in answers_in(Path("runs/evaluation/rows.jsonl")).values()]
    assert summary["scores"]["strict"]["all"]["all"]["right"] == sum(of_one)
    assert "strict, over shifts" in command.out and "47 of 47 answered" in command.out


def question(number: int, choices: list[str], answer: str) -> dict[str, Any]:
    groups = {"task": "sound", "difficulty": "easy", "category": "c", "sub-category": "s"}
    row = {"id": f"q-{number}", "question": "Which?", "choices": choices, "answer": answer}
    return row | groups


def test_the_mean_over_shifts_is_of_a_questions_own_number_of_them(tmp_path: Path) -> None:
    """Two of the first's five are right (D was the dog), one of two, two of three (A was merry)."""
    rows = [
        question(1, ["dog", "cat", "cow", "hen", "pig"], "cow"),
        question(2, ["yes", "no"], "no"),
        question(3, ["calm", "merry", "calm"], "calm"),
    ]
    (tmp_path / QUESTIONS_FILE).write_text(json.dumps(rows))
    said = [["cow", "cat", "cow", "D", "pig"], ["no", "yes"], ["calm", "A", "calm"]]
    answers = tmp_path / "answers.jsonl"
    for shift in range(5):
        lines = [
            {"id": row["id"], "model_output": texts[shift]}
            | {"choices": row["choices"][shift:] + row["choices"][:shift]}
            for row, texts in zip(rows, said, strict=True)
            if len(texts) > shift
        ]
        shift_file(answers, shift).write_text("".join(json.dumps(line) + "\n" for line in lines))
    summary = score_predictions("mmau", tmp_path, answers, tmp_path / "result", shifts=True)
    told = summary["shifts"]["strict"]["all"]["all"]
    assert told["mean"] == pytest.approx((2 / 5 + 1 / 2 + 2 / 3) / 3)
    assert summary["scores"]["strict"]["all"]["all"]["right"] == 3
    assert summary["noticed"]["missing"] == [] and summary["noticed"]["other_version"] == []


def test_letters_before_the_choices_do_not_move_with_them(
    tmp_path: Path, data: Path, saying: Callable[..., Saying]
) -> None:
    folder = tmp_path / "mmau"
    shutil.copytree(data, folder)
    row = asked_rows(data)[0]
    plain, place = row["choices"], row["choices"].index(row["answer"])
    row["choices"] = [f"{letter}. {text}" for letter, text in zip("ABCD", plain, strict=True)]
    row["answer"] = row["choices"][place]
    (folder / QUESTIONS_FILE).write_text(json.dumps([row]))
    prompts: list[list[str]] = []
    saying(lambda lines: (prompts.append(lines), plain[place])[1])
    answers = tmp_path / "answers.jsonl"
    local(folder, answers, shifts=True).ask(quiet)
    assert [lines[1:] for lines in prompts] == [plain[n:] + plain[:n] for n in range(4)]
    summary = score_predictions("mmau", folder, answers, tmp_path / "result", shifts=True)
    assert summary["shifts"]["strict"]["all"]["all"]["right"] == 1
    assert summary["shifts"]["official"]["all"]["all"]["right"] == 1


def test_an_answer_that_names_no_choice_is_kept_whole(
    tmp_path: Path, data: Path, saying: Callable[..., Saying]
) -> None:
    texts = iter(["I can't tell.", "<think>B?</think><answer>B</answer>"])
    saying(lambda lines: next(texts, lines[1]))
    answers = tmp_path / "answers.jsonl"
    local(data, answers).ask(quiet)
    first, second, *_ = answers_in(answers).values()
    assert first["model_output"] == first["said"] == "I can't tell."
    assert second["model_output"] == second["choices"][1]
    assert second["said"] == "<think>B?</think><answer>B</answer>"
