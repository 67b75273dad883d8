"""A model on this machine and a benchmark: whose answers a file may hold, and what is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from peft import PeftModel
from transformers import Qwen2_5OmniThinkerForConditionalGeneration

from adrpo.audio import AudioRun
from adrpo.config import load_recipe
from adrpo.config.audio import AudioConfig
from adrpo.embedded.sounds.sets import QUESTIONS_FILE
from support.asked_here import (
    SETTINGS,
    WEIGHTS,
    Saying,
    all_alone,
    answers_in,
    asked_rows,
    asking,
    local,
    quiet,
    refusal,
)
from support.command_line import Command
from support.tiny_audio_trainers import AUDIO_MARKS
from support.tiny_language_model import save_tiny_model

pytestmark = AUDIO_MARKS


ATTENTION = "adapter.target_modules=[q_proj, k_proj, v_proj, o_proj]"
"""Fewer layers than the recipe's."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the embedded model, of two steps that are long enough to change its answers."""
    few = [
        "training.steps=2",
        "training.warmup_steps=0",
        "training.learning_rate=0.03",
        "training.prompts_per_step=4",
    ]
    few += ["training.samples_per_prompt=4", "training.micro_batch_size=16"]
    few += ["prompts.train_size=8", "prompts.held_out_size=3", "evaluation.samples_per_prompt=1"]
    config = load_recipe(
        "audio/embedded",
        [*SETTINGS, *few, ATTENTION, "evaluation.shown_prompts=1"],
        form=AudioConfig,
    )
    return AudioRun(config).train(tmp_path_factory.mktemp("trained") / "run", progress=False)


def test_the_weights_of_a_run_answer(data: Path, run: Path, command: Command) -> None:
    assert command("evaluate", str(run), *asking(data)) == 0
    said = [row["said"] for row in answers_in(Path("answers.jsonl")).values()]
    thinker = Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained(WEIGHTS, dtype="float32")
    thinker.eval()
    base = all_alone(thinker, data)
    tuned = PeftModel.from_pretrained(thinker, str(run / "final")).eval()
    assert said == all_alone(tuned, data) != base
    summary = json.loads(Path("runs/evaluation/summary.json").read_text())
    assert summary["scores"]["strict"]["all"]["all"]["n"] == 12 and "shifts" not in summary
    # The same adapter over the model, as --lora takes it.
    both = ["--lora", str(run / "final"), *SETTINGS, ATTENTION]
    assert command("evaluate", "embedded", *asking(data, "lora.jsonl"), *both) == 0
    assert [row["said"] for row in answers_in(Path("lora.jsonl")).values()] == said
    assert "Settings of audio/embedded" in command.out and "12 of 12 answered" in command.out


def copied(folder: Path, *, change: float = 0.0) -> Path:
    """The embedded weights in a folder of their own, one of them changed."""
    shutil.copytree(WEIGHTS, folder)
    thinker: Any = Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained(folder)
    with torch.no_grad():
        next(thinker.parameters()).view(-1)[0].add_(change)
    thinker.save_pretrained(folder)
    return folder


def test_answers_of_another_model_or_setting_are_refused(
    data: Path, tmp_path: Path, saying: Callable[..., Saying]
) -> None:
    saying(lambda lines: lines[1])
    answers, base = tmp_path / "answers.jsonl", copied(tmp_path / "base")
    named = f"model.pretrained={base}"
    local(data, answers, named).ask(quiet)
    kept = answers.read_bytes()
    for setting, key in (
        ("prompts.form=answer", "prompts.form 'plain', received 'answer'"),
        ("prompts.system=Listen.", "prompts.system"),
        ("generation.max_completion_length=5", "generation.max_completion_length 24, received 5"),
        ("model.pretrained=embedded", "model"),
    ):
        assert key in refusal(lambda setting=setting: local(data, answers, named, setting))
    other = tmp_path / "other"
    shutil.copytree(data, other)
    questions = asked_rows(other)
    questions[0]["question"] += "?"
    (other / QUESTIONS_FILE).write_text(json.dumps(questions))
    assert "questions_sha256" in refusal(lambda: local(other, answers, named))
    # The place of the weights does not tell which they are.
    shutil.rmtree(base)
    copied(base, change=1.0)
    assert "model_sha256" in refusal(lambda: local(data, answers, named))
    (tmp_path / "answers.jsonl.settings.json").unlink()
    assert "answers.jsonl.settings.json" in refusal(lambda: local(data, answers, named))
    assert answers.read_bytes() == kept


def test_answers_of_another_adapter_are_refused(
    data: Path, tmp_path: Path, run: Path, saying: Callable[..., Saying]
) -> None:
    saying(lambda lines: lines[1])
    answers, moved = tmp_path / "answers.jsonl", tmp_path / "moved"
    local(data, answers, ATTENTION, final=run / "final").ask(quiet)
    shutil.copytree(run / "final", moved)
    assert local(data, answers, ATTENTION, final=moved).left == 0
    # Where its training began changes no answer.
    begun = f"adapter.start_from={moved}"
    assert local(data, answers, ATTENTION, begun, final=moved).left == 0
    assert "adapter" in refusal(lambda: local(data, answers, "adapter.alpha=3", final=moved))
    assert "weights_sha256" in refusal(lambda: local(data, answers, ATTENTION))
    weights = moved / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    assert "weights_sha256" in refusal(lambda: local(data, answers, ATTENTION, final=moved))


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("adapter.alpha=3", "alpha 3"),
        ("adapter.target_modules=[q_proj]", "k_proj"),
        ("adapter.target_modules=[q_proj, k_proj, v_proj, o_proj, up_proj]", "up_proj"),
    ],
)
def test_an_adapter_of_another_form_is_not_taken_in_part(
    data: Path, run: Path, command: Command, setting: str, named: str
) -> None:
    both = ["--lora", str(run / "final"), *SETTINGS, ATTENTION, setting]
    assert command("evaluate", "embedded", *asking(data, "lora.jsonl"), *both) == 2
    assert named in command.err and command.err.count("\n") == 1
    assert not Path("lora.jsonl").exists()


def test_a_sound_that_can_not_be_heard_is_told_before_anything_is_asked(
    tmp_path: Path, data: Path, saying: Callable[..., Saying]
) -> None:
    model = saying(lambda lines: lines[1])
    folder, answers = tmp_path / "mmau", tmp_path / "answers.jsonl"
    shutil.copytree(data, folder)
    row = asked_rows(data)[7]
    clip = folder / row["audio_id"]
    soundfile.write(clip, torch.zeros(16_000 * 5).numpy(), 16_000)
    said = refusal(lambda: local(folder, answers).ask(quiet))
    assert row["id"] in said and "4 s" in said and "5.000 s" in said
    clip.write_bytes(b"no sound")
    assert row["id"] in refusal(lambda: local(folder, answers).ask(quiet))
    clip.unlink()
    assert "no file" in refusal(lambda: local(folder, answers))
    assert model.batches == [] and not answers.exists()


@pytest.mark.parametrize(
    ("model", "words", "named"),
    [
        ("embedded", ["--recipe", "flow/demo"], "of the domain flow"),
        ("embedded", ["--recipe", "llm/embedded"], "of the domain llm"),
        ("nowhere", [], "'nowhere'"),
        ("text", ["--recipe", "audio/embedded"], "expected a Thinker of Qwen2.5-Omni"),
        ("embedded", ["--size", "3", "--seed", "1"], "--size, --seed"),
        ("embedded", ["--endpoint", "http://127.0.0.1:1/v1"], "'embedded'"),
        ("embedded", ["--against", "nowhere"], "nowhere"),
        ("embedded", ["prompts.from=plain"], "did you mean 'form'"),
        ("embedded", ["--lora", "nowhere"], "--lora"),
        (None, ["--shifts"], "--shifts"),
        (None, ["--endpoint", "http://127.0.0.1:1/v1", "--shifts", "model=ear"], "--shifts"),
        (None, ["--recipe", "audio/embedded"], "--recipe"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    data: Path, command: Command, tmp_path: Path, model: str | None, words: list[str], named: str
) -> None:
    save_tiny_model(tmp_path / "text")
    before = sorted(tmp_path.rglob("*"))
    target = [] if model is None else [model]
    assert command("evaluate", *target, *asking(data), *words) == 2
    assert command.err.startswith("adrpo: error: ") and command.err.count("\n") == 1
    assert named in command.err
    assert sorted(tmp_path.rglob("*")) == before
