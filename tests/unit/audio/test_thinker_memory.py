"""doctor's estimate of a Thinker's memory against torch's own count, and its words."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from adrpo.audio.memory.advice import ASSUMED_SECONDS, memory_lines
from adrpo.audio.memory.architecture import read_thinker, thinker_of
from adrpo.audio.memory.estimate import clips_at_a_time, estimate
from adrpo.config import LanguageConfig, load_recipe
from adrpo.config.audio import AudioConfig
from adrpo.llm.memory.advice import ASSUMED_PROMPT
from adrpo.llm.memory.estimate import Lengths
from support.resident_bytes import resident_bytes
from support.tiny_audio_trainers import ALIKE, AUDIO_MARKS, audio_trainer, rows_of
from support.tiny_language_trainers import scored
from support.tiny_thinker import tiny_processor, tiny_thinker

pytestmark = AUDIO_MARKS


@pytest.fixture
def thinker_memory(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(Path(__file__).parents[3] / "benchmarks")
    import thinker_memory

    return thinker_memory


def shallow(thinker: dict[str, Any]) -> dict[str, Any]:
    """The same widths, and few layers."""
    found = copy.deepcopy(thinker)
    found["text_config"]["num_hidden_layers"] = 3
    found.setdefault("audio_config", {})["encoder_layers"] = 2
    found["vision_config"]["depth"] = 1
    return found


@pytest.mark.parametrize(
    ("name", "seconds", "adapted", "checkpointing"),
    [
        ("Qwen2.5-Omni-7B", 10, True, True),
        ("Qwen2.5-Omni-7B", 30, True, False),
        ("Qwen2.5-Omni-3B", 10, False, True),
    ],
)
def test_the_estimate_is_what_torch_counts(
    thinker_memory: Any, name: str, seconds: float, adapted: bool, checkpointing: bool
) -> None:
    settings = copy.deepcopy(thinker_memory.settings_of(adapted))
    settings["model"]["gradient_checkpointing"] = checkpointing
    settings["training"] |= {"prompts_per_step": 2, "samples_per_prompt": 4}
    settings["evaluation"]["batch_size"] = 8
    thinker = shallow(thinker_memory.THINKERS[name])
    found = thinker_memory.compare(thinker, settings, seconds)
    parts = {part: (row["counted"], row["estimated"]) for part, row in found["parts"].items()}
    for part in ("weights", "reference", "clips"):
        counted, estimated = parts.pop(part)
        assert counted == estimated, part
    # AdamW's count of steps, four bytes for each tensor, is not in the formula.
    counted, estimated = parts.pop("gradient and optimizer")
    assert counted == pytest.approx(estimated, rel=1e-4)
    for part, (counted, estimated) in parts.items():
        # Not in the formula: tensors of a token's width that an update has for a moment.
        assert counted == pytest.approx(estimated, rel=0.1), part
    assert 0 < found["reference_pass"] < found["parts"]["update"]["counted"]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("adapted", [False, True], ids=["whole", "adapter"])
@pytest.mark.filterwarnings("ignore:.* trained tensors are bfloat16")
def test_what_lies_there_is_what_the_trainer_made(
    adapted: bool, dtype: str, tmp_path: Path
) -> None:
    """Weights, reference, gradient, moments and the kept clips after a step, to the byte."""
    source = tmp_path / "thinker"
    tiny_thinker().save_pretrained(source)
    tiny_processor().save_pretrained(source)
    written = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**written, "architectures": ["Whole"]}))
    trainer = audio_trainer(
        tmp_path / "run",
        ALIKE,
        model=str(source),
        more={"processing_class": None, **({} if adapted else {"peft_config": None})},
        max_steps=1,
        model_init_kwargs={"dtype": dtype},
    )
    trainer.train()
    weights, reference, gradient, moments = resident_bytes(trainer)
    adapter = gradient if adapted else 0
    batch = scored(trainer, [row for row in rows_of(ALIKE)[:2] for _ in range(4)])
    clips = {clip.embedding for row in batch["audio"] for clip in row}
    config = LanguageConfig.model_validate(
        {
            "model": {"dtype": dtype},
            "adapter": {"rank": 16} if adapted else None,
            "training": {"prompts_per_step": 2, "samples_per_prompt": 4, "micro_batch_size": 8},
            "evaluation": {"batch_size": 1},
        }
    )
    thinker = read_thinker(str(source))
    assert thinker is not None
    found = estimate(thinker, config, Lengths(prompt=8, completion=5), 0.3).resident
    assert found["weights"] == weights - adapter
    assert found["reference"] == reference
    assert found["gradient and optimizer"] == adapter + gradient + moments
    # Of 0.3 s seven and a half tokens, of which the encoder makes seven.
    assert found["clips"] == sum(clip.nbytes for clip in clips) * 8 / 7


def test_the_committed_estimates_are_doctors(thinker_memory: Any) -> None:
    path = Path(thinker_memory.__file__).parent / "results/thinker_memory/summary.json"
    committed = json.loads(path.read_text(encoding="utf-8"))["recipes"]
    for (name, seconds, adapted), row in zip(thinker_memory.CASES, committed, strict=True):
        config = LanguageConfig.model_validate(thinker_memory.settings_of(adapted))
        with thinker_memory.written(thinker_memory.THINKERS[name]) as folder:
            lengths = thinker_memory.lengths_of(config)
            found = thinker_memory.expect(folder, config, lengths, seconds)
        parts = found.resident | found.working | {"all": found.total}
        assert row["recipe"] == name and row["overrides"][0] == f"{seconds:.0f} s"
        for part, sizes in row["parts"].items():
            assert sizes["estimated"] == parts[part], (name, seconds, part)


def test_a_published_thinker_is_estimated_before_it_is_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The 7B model has as many parameters as were counted of its files without the part for
    pictures, 8,255,263,744."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    found = read_thinker("Qwen/Qwen2.5-Omni-7B")
    assert found is not None
    pictures = 676_550_144
    assert found.language.parameters + found.language.frozen - pictures == 8_255_263_744
    for name in ("audio/qwen2.5-omni-7b", "audio/qwen2.5-omni-3b-avqa"):
        config = load_recipe(name)
        assert isinstance(config, AudioConfig)
        assert memory_lines(config, config.model.pretrained, None)[0].startswith("about ")


@pytest.mark.parametrize("seconds", [0.04, 1, 2.5, 10, 29.98])
def test_a_clip_has_the_tokens_that_the_encoder_makes_of_it(seconds: float) -> None:
    model = tiny_thinker()
    frames = torch.tensor(round(100 * seconds))
    expected = int(model.model.audio_tower._get_feat_extract_output_lengths(frames)[1])
    # Those of a token that is not full.
    assert thinker_of(model).encoder.tokens(seconds) - expected in (0, 1)


def test_a_config_of_the_whole_and_one_of_the_thinker_are_read_alike(tmp_path: Path) -> None:
    model = tiny_thinker()
    alone, whole = tmp_path / "alone", tmp_path / "whole"
    model.config.save_pretrained(alone)
    whole.mkdir()
    written = {"model_type": "qwen2_5_omni", "thinker_config": model.config.to_dict()}
    (whole / "config.json").write_text(json.dumps(written), encoding="utf-8")
    assert read_thinker(str(alone)) == read_thinker(str(whole)) == thinker_of(model)


def test_a_model_that_hears_nothing_or_is_not_here_is_unknown(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "qwen2"}', encoding="utf-8")
    config = LanguageConfig.model_validate({"model": {"pretrained": "someone/else"}})
    for source in (tmp_path, tmp_path / "nowhere"):
        lines = memory_lines(config, str(source), None)
        assert len(lines) == 1 and lines[0].startswith("unknown: the config.json of someone/else")


def test_doctor_says_for_which_lengths_it_holds(tmp_path: Path) -> None:
    tiny_thinker().config.save_pretrained(tmp_path)
    config = LanguageConfig.model_validate({})
    lines = memory_lines(config, str(tmp_path), None)
    assert (
        f"for clips of {ASSUMED_SECONDS:.0f} s (assumed), 750 tokens; texts of {ASSUMED_PROMPT} "
        "tokens (assumed) and 16 more"
    ) in lines
    lines = memory_lines(config, str(tmp_path), 1e9, tokens=40, seconds=2.4)
    assert (
        "for clips of 2.4 s (the longest here), 60 tokens; texts of 40 tokens (the longest here) "
        "and 16 more"
    ) in lines
    assert "does not fit" in lines[0] and lines[-1].startswith("first set ")


def test_longer_clips_take_more_of_what_is_at_work_and_nothing_of_the_weights() -> None:
    thinker = thinker_of(tiny_thinker())
    config, lengths = LanguageConfig.model_validate({}), Lengths(prompt=40, completion=16)
    short, long = (estimate(thinker, config, lengths, seconds) for seconds in (1, 3))
    assert short.resident["weights"] == long.resident["weights"]
    assert 3 * short.resident["clips"] == long.resident["clips"] > 0
    assert 3 * short.working["encoding"] == long.working["encoding"] > 0
    assert short.working["evaluation"] == long.working["evaluation"]


def test_clips_of_a_step_or_of_an_evaluations_batch_are_there_together() -> None:
    sections = {"training": {"prompts_per_step": 8}, "evaluation": {"batch_size": 10}}
    config = LanguageConfig.model_validate(sections)
    each = config.evaluation.samples_per_prompt
    assert clips_at_a_time(config) == max(8, -(-10 // each))
    larger = {**sections, "evaluation": {"batch_size": 64, "samples_per_prompt": 1}}
    assert clips_at_a_time(LanguageConfig.model_validate(larger)) == 64
