"""A run of the domain audio: what it hears, what it leaves, and how it goes on."""

import base64
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from huggingface_hub import ModelCard
from peft import PeftModel
from transformers import AutoTokenizer, Qwen2_5OmniThinkerForConditionalGeneration

from adrpo.audio import AudioProcessor, AudioRun
from adrpo.audio.domain import DOOR
from adrpo.audio.sound import waveform
from adrpo.cli.domains import door_of
from adrpo.config.audio import AudioConfig
from adrpo.errors import AdrpoError, AdrpoWarning
from adrpo.evaluation.playing import Asked, open_playground
from adrpo.evaluation.targets import Target
from adrpo.report.page import write_report
from support.damage import flip
from support.killed_runs import kill_and_resume
from support.tiny_audio_runs import tiny_audio_config, write_thinker
from support.tiny_audio_trainers import AUDIO_MARKS
from support.tiny_language_model import save_tiny_model
from support.tiny_language_runs import metrics_without_timings
from support.tiny_thinker import RATE, tone

pytestmark = AUDIO_MARKS


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_thinker(tmp_path_factory.mktemp("material") / "model")


def train(config: AudioConfig, folder: Path, **options: Any) -> Path:
    return AudioRun(config).train(folder, progress=False, **options)


@pytest.fixture(scope="module")
def run(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tiny_audio_config(model), tmp_path_factory.mktemp("whole") / "run")


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def assert_same(stopped: Path, run: Path) -> None:
    assert metrics_without_timings(stopped) == metrics_without_timings(run)
    weights = ("final/adapter_model.safetensors", "final/README.md")
    for file in ("evaluations.jsonl", *weights, "samples/final.jsonl"):
        assert (stopped / file).read_bytes() == (run / file).read_bytes(), file


@pytest.mark.parametrize("step", [0, 1, 3])
def test_a_run_that_stopped_ends_as_one_that_never_did(
    model: Path, run: Path, tmp_path: Path, step: int
) -> None:
    """As after a kill in step ``step`` + 1: not a byte of weights or evaluations is another."""
    stopped = tmp_path / "run"
    shutil.copytree(run, stopped)
    shutil.rmtree(stopped / "final")
    for later in range(step + 1, 5):
        shutil.rmtree(stopped / f"checkpoints/checkpoint-{later}")
    train(tiny_audio_config(model), stopped, resume=True)
    assert_same(stopped, run)


def test_a_killed_run_resumes_to_the_same_end(model: Path, run: Path, tmp_path: Path) -> None:
    kill_and_resume(tiny_audio_config(model), tmp_path / "run")
    assert_same(tmp_path / "run", run)


def test_damage_and_a_kill_after_the_last_step_change_nothing(
    model: Path, run: Path, tmp_path: Path
) -> None:
    """The domain has the checkpoints of language models, and an adapter in them."""
    stopped = tmp_path / "run"
    shutil.copytree(run, stopped)
    shutil.rmtree(stopped / "final")
    train(tiny_audio_config(model), stopped, resume=True)
    assert_same(stopped, run)
    shutil.rmtree(stopped / "final")
    flip(stopped / "checkpoints/checkpoint-4/adapter_model.safetensors")
    with pytest.warns(AdrpoWarning, match="adapter_model.*going on from checkpoint-3"):
        train(tiny_audio_config(model), stopped, resume=True)
    assert_same(stopped, run)


def entropy_alone(thinker: Any, processor: Any, ids: list[int], count: int, clip: Any) -> float:
    """Mean entropy at the last ``count`` of ``ids`` by the Thinker itself, the clip's features
    padded to what it hears at most, as transformers' processor leaves them."""
    heard = processor.feature_extractor(
        waveform(clip, RATE), sampling_rate=RATE, return_attention_mask=True, return_tensors="pt"
    )
    tokens = torch.tensor([ids])
    with torch.no_grad():
        logits = thinker(
            input_ids=tokens,
            attention_mask=torch.ones_like(tokens),
            input_features=heard["input_features"],
            feature_attention_mask=heard["attention_mask"],
        ).logits[0, -count - 1 : -1]
    logps = logits.log_softmax(-1)
    return -(logps.exp() * logps).sum(-1).mean().item()


def test_an_evaluation_hears_each_question_with_its_own_clip(model: Path) -> None:
    """Batches of 5 rows, two samples a question: most rows are no first of their batch."""
    config = tiny_audio_config(
        model, evaluation={"batch_size": 5}, training={"micro_batch_size": 2}
    )
    made = AudioRun(config)
    thinker: Any = Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained(model)
    processor = AudioProcessor.from_pretrained(str(model))
    with made.subject() as subject:
        drawn = subject.evaluator.drawing.draw()
    expected = []
    for row, ids in enumerate(drawn.ids):
        prompt = made.held_out[row // config.evaluation.samples_per_prompt]
        clip = prompt.columns["audio"]
        # A frame every 10 ms, which a convolution and a pooling halve twice.
        tokens = ((-(-len(waveform(clip, RATE)) // 160) - 1) // 2 + 1 - 2) // 2 + 1
        prompt_ids = processor.prompt_ids(prompt.content, [tokens], thinker.config.audio_token_id)
        expected.append(entropy_alone(thinker, processor, prompt_ids + ids, len(ids), clip))
    # Float32 on both sides; a batch is padded, and its matrices multiply in another order.
    assert drawn.entropy.tolist() == pytest.approx(expected, abs=2e-5)
    # Rows differ by far more than that, and the base is its own reference.
    assert np.diff(np.sort(expected)).max() > 1e-2
    assert drawn.kl.abs().max() < 1e-4


def test_a_clip_is_encoded_once_a_step(run: Path) -> None:
    assert [row["encoder_calls"] for row in rows(run / "metrics.jsonl")] == [4, 4, 4, 4]


def test_the_judge_knows_the_right_choice(model: Path) -> None:
    made = AudioRun(tiny_audio_config(model))
    with made.subject() as subject:
        drawing: Any = subject.evaluator.drawing
    columns = {
        "prompts": [None] * 4,
        "choices": [["a ring", "a buzz"]] * 4,
        "answer": ["a buzz"] * 4,
    }
    said = ["a buzz", "A buzz.", "a ring", "a ring, no: a buzz"]
    completions = [[{"role": "assistant", "content": text}] for text in said]
    judged = drawing.judged({**columns, "completions": completions})
    assert judged == {"gold_accuracy": [1.0, 1.0, 0.0, 0.0]}


def test_final_loads_in_peft_on_the_thinker(model: Path, run: Path) -> None:
    base: Any = Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained(model)
    ids = torch.tensor([[11, 12, 13]])
    with torch.no_grad():
        before = base(input_ids=ids).logits
        tuned: Any = PeftModel.from_pretrained(base, str(run / "final")).eval()
        after = tuned(input_ids=ids).logits
    assert (after - before).abs().max() > 1e-3
    names = [name for name, _ in tuned.named_parameters() if "lora_" in name]
    assert names and all(".language_model." in name for name in names)
    card = ModelCard.load(run / "final/README.md")
    assert "with the method adrpo" in card.text and card.data.to_dict()["tags"] == ["adrpo", "lora"]
    assert AutoTokenizer.from_pretrained(run / "final").chat_template
    assert AudioProcessor.from_pretrained(str(run / "final")).feature_extractor.chunk_length == 4


def test_the_report_plays_what_the_model_heard(model: Path, run: Path) -> None:
    shown = rows(run / "samples/base.jsonl")
    page = write_report(run).read_text(encoding="utf-8")
    players = re.findall(r'<audio controls[^>]* src="data:audio/flac;base64,([^"]+)"', page)
    assert len(players) == len(shown) == 3
    held_out = {prompt.text: prompt for prompt in AudioRun(tiny_audio_config(model)).held_out}
    for row, player in zip(shown, players, strict=True):
        samples, rate = soundfile.read(io.BytesIO(base64.b64decode(player)), dtype="float32")
        heard = waveform(held_out[row["prompt"][-1]["content"]].columns["audio"], RATE)
        assert rate == RATE and np.array_equal(samples, heard)
        assert f"right: {row['answer']}</small>" in page
    assert "media-src data:" in page and 'src="http' not in page


def test_a_clip_that_is_gone_is_told_on_the_page(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    gone = rows(copy / "samples/base.jsonl")[0]["clips"][0]
    (copy / "samples" / gone).unlink()
    assert f"The clip {gone} is missing" in write_report(copy).read_text(encoding="utf-8")


def wav(folder: Path, hertz: float) -> Path:
    path = folder / f"{hertz}.wav"
    soundfile.write(path, tone(hertz, 0.7)["array"], RATE)
    return path


def asked(config: AudioConfig, prompts: list[str], clips: list[Path], folder: Path) -> list[str]:
    return [
        line.split("\n    ")[1]
        for line in DOOR.sample(
            config, None, prompts, size=1, seed=3, output_dir=folder, clips=clips
        )
    ]


def test_a_question_of_ones_own_is_about_its_file(model: Path, tmp_path: Path) -> None:
    config = tiny_audio_config(model, generation={"temperature": 0.05})
    low, high = wav(tmp_path, 200.0), wav(tmp_path, 4000.0)
    both = asked(config, ["which", "which"], [low, high], tmp_path)
    assert both[0] != both[1]
    assert asked(config, ["which", "which"], [low], tmp_path) == [both[0]] * 2
    assert asked(config, ["which", "which"], [], tmp_path)[0] not in both
    # Choices are asked in the form of training, which ends with a line break.
    [prompt] = DOOR.asked(AudioRun(config), ["which?\n high\nlow "], [low])  # pyright: ignore[reportAttributeAccessIssue]
    assert prompt.content == [{"role": "user", "content": "which?\nhigh\nlow\n"}]
    with pytest.raises(AdrpoError, match=r"--audio: expected one file .* of 3, received 2"):
        asked(config, ["which"] * 3, [low, high], tmp_path)


@pytest.mark.parametrize("beta_0", [0.04, 0.0])
def test_all_weights_are_trained_beside_a_reference_that_hears(
    model: Path, tmp_path: Path, beta_0: float
) -> None:
    algorithm = {"beta_0": beta_0} if beta_0 else {"beta_0": 0.0, "method": "fixed_beta"}
    config = tiny_audio_config(
        model, adapter=None, algorithm=algorithm, training={"steps": 2, "learning_rate": 1e-3}
    )
    run = train(config, tmp_path / "run")
    base, last = (rows(run / "evaluations.jsonl")[place] for place in (0, -1))
    assert abs(base["kl"]) < 1e-5 < last["kl"]
    trained = Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained(run / "final")
    first = Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained(model)
    changed = {
        name.split(".")[1]
        for (name, after), before in zip(
            trained.named_parameters(), first.parameters(), strict=True
        )
        if not torch.equal(after, before)
    }
    # The part that hears and the part that sees stay as they were.
    assert "language_model" in changed and not {"audio_tower", "visual"} & changed


def test_a_text_model_is_refused(tmp_path: Path) -> None:
    save_tiny_model(tmp_path / "text")
    with pytest.raises(AdrpoError, match=r"expected a Thinker of Qwen2\.5-Omni, received .*'qwen"):
        train(tiny_audio_config(tmp_path / "text"), tmp_path / "run")


def test_a_playground_hears_the_clip_that_it_is_given(run: Path, tmp_path: Path) -> None:
    clip = tmp_path / "tone.wav"
    soundfile.write(clip, tone(440, 0.2)["array"], RATE)
    with open_playground([str(run)], door_of) as ground:
        assert ground.hears and ground.places == [1, 2, 3, 4]
        question = ground.prompts[0]
        own, other = (
            [panel.played for panel in ground.play(Asked(prompt=question, clip=given))]
            for given in (None, clip)
        )
        assert [played.scores.keys() for played in own if played] == [own[0].scores.keys()] * 2  # type: ignore[union-attr]
        # The words and the numbers are the same: only the sound differs.
        assert [p.scores["entropy"] for p in own if p] != [p.scores["entropy"] for p in other if p]
    target = Target.resolve(str(run), door_of)
    lines = target.door.sample(
        target.config, target.final, [question], size=1, seed=0, output_dir=tmp_path,
        held_out=target.held_out, clips=[clip],
    )  # fmt: skip
    (line,) = lines
    assert other[1] is not None and line.endswith(f"\n    {other[1].sample}")
