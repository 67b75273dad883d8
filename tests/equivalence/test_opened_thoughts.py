"""A chat template that opens the thought: rewards of form and answer read the whole turn."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from datasets import Dataset
from transformers import AutoTokenizer

from adrpo.audio.drawing import AnswerDrawing
from adrpo.config import LanguageConfig
from adrpo.llm import ADRPOTrainer
from adrpo.llm.run import LanguageRun
from adrpo.llm.turns import of_whole_turns, thought_opening
from adrpo.rewards.base import RewardTerm
from adrpo.rewards.multiple_choice import MultipleChoice
from adrpo.rewards.numbers import NumericAnswer
from adrpo.rewards.scoring import score
from adrpo.rewards.text import ExactAnswer, Format
from support.tiny_language_model import CHAT_TEMPLATE, save_tiny_model, tiny_tokenizer
from support.tiny_language_runs import tiny_language_config
from support.tiny_language_trainers import LANGUAGE_MARKS, config

pytestmark = LANGUAGE_MARKS

OPENS = CHAT_TEMPLATE.replace("'assistant '", "'assistant <think>\\n'")


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (OPENS, "<think>\n"),
        # Closed at once, as Qwen3's enable_thinking: false writes it; and no thought at all.
        (OPENS.replace("<think>\\n", "<think>\\n</think>\\n"), ""),
        (CHAT_TEMPLATE, ""),
        (None, ""),
    ],
)
def test_the_opening_is_what_the_template_leaves_open(template: str | None, expected: str):
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    assert thought_opening(tokenizer, {}) == expected


def test_a_thought_that_a_user_speaks_of_is_none_of_the_templates():
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "<think>{{ messages[0]['content'] }}</think> assistant "
    assert thought_opening(tokenizer, {}) == ""


def test_form_and_answer_are_read_of_the_whole_turn():
    """By hand: closed, never closed, and a text, which no template has opened."""
    terms = [RewardTerm("format", 1.0, Format()), RewardTerm("answer", 1.0, NumericAnswer())]
    completions: list[Any] = [said("so 2</think><answer>5</answer>"), said("so it is 5"), "5"]
    columns = {"prompts": ["?"] * 3, "completions": completions, "answer": [5, 5, 5]}
    found = score(of_whole_turns(terms, lambda: "<think>\n"), **columns)
    assert found.by_term["format"].tolist() == [1, 0, 0]
    assert found.by_term["answer"].tolist() == [1, 0, 1]
    # A user's own reward is given what TRL gives it.
    own = RewardTerm("own", 1.0, lambda prompts, completions, **_: [len(c) for c in completions])
    assert of_whole_turns([own], lambda: "<think>\n") == [own]


def test_a_scripts_rewards_read_whole_turns(tmp_path: Path):
    """Ours that read the form of a turn; a function of the script's own is given what TRL gives."""
    save_tiny_model(tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    tokenizer.chat_template = OPENS
    given: list[str] = []

    def own(completions: list[Any], **_: Any) -> list[float]:
        given.extend(turns[0]["content"] for turns in completions)
        return [0.0] * len(completions)

    ours = Format(pattern="<think>.*")
    data = Dataset.from_list([{"prompt": [{"role": "user", "content": "a b"}]}] * 4)
    trainer: Any = ADRPOTrainer(
        str(tmp_path / "model"),
        [ours, own],
        config(tmp_path, max_steps=1, try_arithmetic=False),
        data,
        processing_class=tokenizer,
    )
    trainer.train()
    logged = trainer.state.log_history[0]
    assert logged["rewards/Format/mean"] == 1.0
    assert given and not any("<think>" in text for text in given)


def test_the_opening_is_that_of_the_templates_arguments():
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = OPENS.replace("<think>\\n", "' + ('<think>' if deep else '') + '")
    assert thought_opening(tokenizer, {"deep": True}) == "<think>"
    assert thought_opening(tokenizer, {"deep": False}) == thought_opening(tokenizer, {}) == ""


@pytest.mark.parametrize(
    ("reward", "text"),
    [
        (MultipleChoice(), "<answer>cat</answer>"),
        (MultipleChoice(whole=True), "cat"),
        (ExactAnswer(), "<answer>cat</answer>"),
    ],
)
def test_an_answer_in_a_thought_that_never_closes_is_none(reward: Any, text: str):
    columns = {"prompts": ["?"], "answer": ["cat"], "choices": [["cat", "dog"]]}
    for opening, right in (("", 1), ("<think>", 0)):
        (term,) = of_whole_turns([RewardTerm("own", 1.0, reward)], lambda now=opening: now)
        assert score([term], completions=[said(text)], **columns).total.tolist() == [right]


def test_what_judges_answers_about_sound_reads_whole_turns():
    """A thought that never closes has no answer, though it names the right choice."""
    tokenizer = tiny_tokenizer()
    model = SimpleNamespace(chat_template_kwargs={})
    drawing: Any = object.__new__(AnswerDrawing)
    drawing.config = SimpleNamespace(model=model)
    drawing.trainer = SimpleNamespace(processing_class=tokenizer)
    columns = {
        "prompts": ["?"], "completions": [said("cat")], "answer": ["cat"],
        "choices": [["cat", "dog"]],
    }  # fmt: skip
    for template, right in ((CHAT_TEMPLATE, 1), (OPENS, 0)):
        tokenizer.chat_template = template
        assert drawing.judged(columns) == {"gold_accuracy": [right]}


def test_a_run_reads_whole_turns_in_training_and_in_evaluations(tmp_path: Path):
    save_tiny_model(tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    tokenizer.chat_template = OPENS
    tokenizer.save_pretrained(tmp_path / "model")
    rows = [{"prompt": [{"role": "user", "content": f"{a} {b}"}]} for a in "abcd" for b in "efgh"]
    (tmp_path / "prompts.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8"
    )
    settings = tiny_language_config(tmp_path, training={"steps": 1}).model_dump(mode="json")
    settings["prompts"] |= {"train_size": 8, "held_out_share": 0.25}
    settings["reward"] = [{"name": "format", "options": {"pattern": "<think>.*"}}]
    run = LanguageRun(LanguageConfig.model_validate(settings)).train(
        tmp_path / "run", progress=False
    )
    for file, column in (("metrics", "reward_mean"), ("evaluations", "format")):
        lines = (run / f"{file}.jsonl").read_text(encoding="utf-8").splitlines()
        assert {json.loads(line)[column] for line in lines} == {1.0}
