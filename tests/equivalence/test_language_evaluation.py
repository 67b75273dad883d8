"""What the evaluation of a language model counts as a completion, as TRL counts it in training."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adrpo.config import LanguageConfig
from adrpo.evaluation.evaluator import Evaluator
from adrpo.evaluation.values import read_values, values_path
from adrpo.llm.drawing import until_end
from adrpo.llm.run import LanguageRun
from adrpo.runs.directory import RunDirectory
from support.tiny_language_model import tiny_tokenizer
from support.tiny_language_runs import base_evaluator, tiny_language_config, write_material
from support.tiny_language_trainers import LANGUAGE_MARKS

pytestmark = LANGUAGE_MARKS

EOS, PAD = tiny_tokenizer().eos_token_id, tiny_tokenizer().pad_token_id
TURN_ENDS = [tiny_tokenizer().convert_tokens_to_ids(letter) for letter in "abc"]
ENDS = {EOS, *TURN_ENDS}
LONGEST = 8
EACH, AT_ONCE = 8, 3
"""Completions of a prompt and of a batch: two batches of each prompt alone, others of two."""


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that ends a turn with other tokens than its tokenizer's, as chat models do."""
    folder = write_material(tmp_path_factory.mktemp("material"))
    file = folder / "model/generation_config.json"
    settings = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(settings | {"eos_token_id": TURN_ENDS}), encoding="utf-8")
    # Prompts of one to three letters, so that some are padded.
    file = folder / "prompts.jsonl"
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    for number, row in enumerate(rows):
        row["prompt"] = row["prompt"][: 1 + 2 * (number % 3)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def evaluator(material: Path, tmp_path_factory: pytest.TempPathFactory) -> Evaluator[Any]:
    config = tiny_language_config(
        material,
        generation={"max_completion_length": LONGEST, "temperature": 0.8},
        evaluation={"samples_per_prompt": EACH, "batch_size": AT_ONCE},
    )
    return base_evaluator(config, tmp_path_factory.mktemp("evaluator"))


def move(model: Any) -> None:
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)


def test_a_completion_ends_with_the_first_of_several_ends() -> None:
    completion = torch.tensor([[5, 2, 7, 2], [2, 5, 5, 5], [5, 7, 2, 8], [5, 6, 6, 8]])
    expected = torch.tensor([[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1]])
    torch.testing.assert_close(until_end(completion, [2, 7]), expected)


def test_every_end_that_the_model_declares_ends_a_completion(evaluator: Evaluator[Any]) -> None:
    drawn = evaluator.drawing.draw()
    assert all(not ENDS & set(ids[:-1]) for ids in drawn.ids)
    assert all(ids[-1] in ENDS for ids in drawn.ids if len(ids) < LONGEST)
    # The test needs completions that end by a token which the tokenizer does not know as an end.
    short = [ids for ids in drawn.ids if len(ids) < LONGEST]
    assert sum(ids[-1] != EOS for ids in short) > 5
    assert drawn.length.tolist() == [len(ids) for ids in drawn.ids]


def test_each_batch_is_drawn_with_random_numbers_of_its_own(evaluator: Evaluator[Any]) -> None:
    """Two batches of one prompt, which one stream would make the same."""
    ids = evaluator.drawing.draw().ids
    for start in range(0, len(ids), EACH):
        first = math.ceil(start / AT_ONCE) * AT_ONCE
        assert ids[first : first + AT_ONCE] != ids[first + AT_ONCE : first + 2 * AT_ONCE]


def test_nothing_behind_the_end_has_a_share_in_entropy_and_kl(
    evaluator: Evaluator[Any],
) -> None:
    """Against a pass over each completion alone, without padding."""
    drawing: Any = evaluator.drawing
    trainer = drawing.trainer
    reference = trainer.ref_model
    move(trainer.model)
    drawn = drawing.draw()
    prompts = drawing.columns(drawn)["prompts"]
    prompt_ids = trainer._tokenize_prompts(prompts)[0]
    assert (drawn.kl > 0.01).any()
    temperature = drawing.config.generation.temperature
    for index, (prompt, whole) in enumerate(zip(prompt_ids, drawn.ids, strict=True)):
        ids = whole[: next((n for n, token in enumerate(whole, 1) if token in ENDS), None)]
        row = torch.tensor([[*prompt, *ids]])
        with torch.no_grad():
            policy, base = (
                (model(row).logits[0, len(prompt) - 1 : -1] / temperature).log_softmax(-1)
                for model in (trainer.model, reference)
            )
        chosen = torch.tensor(ids)[:, None]
        log_ratio = (base - policy).gather(1, chosen)
        kl = (log_ratio.exp() - log_ratio - 1).sum()
        entropy = -(policy.exp() * policy).sum(1).mean()
        # float32 sums over 17 logits and 8 tokens in another order.
        torch.testing.assert_close(drawn.kl[index], kl, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(drawn.entropy[index], entropy, rtol=1e-4, atol=1e-5)


def test_a_reward_of_tokens_is_measured_as_it_is_trained_on(material: Path, tmp_path: Path) -> None:
    settings = tiny_language_config(material, training={"steps": 1}).model_dump()
    settings["reward"] = [{"name": "length", "options": {"target": 4, "unit": "tokens"}}]
    config = LanguageConfig.model_validate(settings)
    folder = LanguageRun(config).train(tmp_path / "run", progress=False)
    directory = RunDirectory.open(folder)
    base = read_values(values_path(directory, 0))
    expected = np.maximum(0, 1 - np.abs(base["completion_length"] - 4) / 4)
    np.testing.assert_allclose(base["length"], expected, rtol=1e-6)
    assert len(np.unique(expected)) > 2
    (row,) = directory.read_metrics()
    assert 0 < row["reward_length_mean"] < 1


def test_a_reward_is_given_the_drawn_tokens(
    evaluator: Evaluator[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A column of the data can't stand in for them: it is refused (test_columns.py)."""
    drawing: Any = evaluator.drawing
    received: list[list[int]] = []

    def remember(completions: list[str], completion_ids: list[list[int]], **_: Any) -> list[float]:
        received.extend(completion_ids)
        return [0.0] * len(completions)

    term = evaluator.reward[0]
    monkeypatch.setattr(evaluator, "reward", [type(term)("remember", 1.0, remember)])
    drawn = drawing.draw()
    evaluator.values(drawn)
    assert received == drawn.ids


@pytest.mark.parametrize("training", [True, False])
def test_a_model_that_trains_does_so_again_after_a_drawing_that_failed(
    evaluator: Evaluator[Any], monkeypatch: pytest.MonkeyPatch, training: bool
) -> None:
    drawing: Any = evaluator.drawing
    model = drawing.trainer.accelerator.unwrap_model(drawing.trainer.model)
    modes: list[bool] = []

    def fail(**_: Any) -> None:
        modes.append(model.training)
        raise RuntimeError("out of memory")

    monkeypatch.setattr(model, "generate", fail)
    before = model.training
    model.train(training)
    with pytest.raises(RuntimeError, match="out of memory"):
        drawing.draw()
    assert modes == [False]
    assert model.training is training
    model.train(before)
