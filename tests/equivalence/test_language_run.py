"""A run of the domain llm: repeatable, resumable, and what it writes."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from transformers.models.qwen3.modeling_qwen3 import Qwen3Model

from adrpo.config import LanguageConfig, config_to_yaml, load_flow_config, load_recipe
from adrpo.errors import AdrpoError, AdrpoWarning
from adrpo.evaluation.values import read_values, values_path
from adrpo.llm.drawing import CompletionDrawing, Generated, until_end
from adrpo.llm.prompt_batch import PromptBatch
from adrpo.llm.run import LanguageRun
from adrpo.llm.training_reward import TrainingReward
from adrpo.report import write_report
from adrpo.runs.checkpoints import latest_checkpoint
from adrpo.runs.directory import RunDirectory
from support.killed_runs import kill_and_resume
from support.tiny_language_runs import metrics_without_timings, tiny_language_config, write_material
from support.tiny_language_trainers import LANGUAGE_MARKS

TESTS = Path(__file__).parents[1]
pytestmark = LANGUAGE_MARKS


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_material(tmp_path_factory.mktemp("material"))


@pytest.fixture(scope="module")
def run(material: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = tiny_language_config(material)
    return LanguageRun(config).train(tmp_path_factory.mktemp("run") / "a", progress=False)


def train(config: LanguageConfig, folder: Path) -> Path:
    return LanguageRun(config).train(folder, progress=False)


def weights(run: Path) -> bytes:
    return (run / "final" / "model.safetensors").read_bytes()


def test_the_same_seed_gives_the_same_run(material: Path, run: Path, tmp_path: Path) -> None:
    again = train(tiny_language_config(material), tmp_path / "again")
    assert metrics_without_timings(again) == metrics_without_timings(run)
    assert (again / "evaluations.jsonl").read_text() == (run / "evaluations.jsonl").read_text()
    assert weights(again) == weights(run)
    other = train(tiny_language_config(material, training={"seed": 1}), tmp_path / "other")
    assert weights(other) != weights(run)


def test_a_checkpoint_does_not_grow_with_the_steps(run: Path) -> None:
    """The rows of all steps are in metrics.jsonl; written into each checkpoint again they made a
    step of a long run the slower the later it was."""
    files = (run / "checkpoints").glob("checkpoint-*/trainer_state.json")
    states = [json.loads(file.read_text()) for file in files]
    steps = [state["global_step"] for state in states]
    assert len(steps) > 1 and min(steps) > 1
    assert [[row["step"] for row in state["log_history"]] for state in states] == [
        [step] for step in steps
    ]


def test_the_attention_is_the_one_that_is_asked_for(material: Path, tmp_path: Path) -> None:
    for asked in ("eager", "sdpa"):
        config = tiny_language_config(material, model={"attn_implementation": asked})
        with LanguageRun(config).subject() as subject:
            assert subject.trainer.model.config._attn_implementation == asked


def test_arithmetic_that_is_wrong_stops_a_run_before_its_first_evaluation(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = Qwen3Model.forward

    def deaf(own: Qwen3Model, *arguments: Any, **named: Any) -> Any:
        """Padding is read as text."""
        mask = named.get("attention_mask")
        if mask is not None:
            named["attention_mask"] = torch.ones_like(mask)
        return forward(own, *arguments, **named)

    monkeypatch.setattr(Qwen3Model, "forward", deaf)
    with pytest.raises(AdrpoError, match=r"left-padded by \d+: expected at most 0\.001 before the"):
        train(tiny_language_config(material), tmp_path / "run")
    assert not (tmp_path / "run" / "evaluations.jsonl").exists()


def test_a_killed_run_resumes_to_the_same_end(material: Path, run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    kill_and_resume(tiny_language_config(material), folder)
    assert metrics_without_timings(folder) == metrics_without_timings(run)
    assert (folder / "evaluations.jsonl").read_text() == (run / "evaluations.jsonl").read_text()
    assert weights(folder) == weights(run)


def test_resuming_goes_on_from_a_complete_checkpoint(
    material: Path, run: Path, tmp_path: Path
) -> None:
    """As after a kill during the writing of checkpoint 4."""
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    shutil.rmtree(folder / "final")
    (folder / "checkpoints/checkpoint-4/manifest.json").unlink()
    assert latest_checkpoint(RunDirectory.open(folder)) == folder / "checkpoints/checkpoint-2"
    with pytest.warns(AdrpoWarning, match="checkpoint-4: expected .* going on from checkpoint-2"):
        LanguageRun(tiny_language_config(material)).train(folder, resume=True, progress=False)
    assert metrics_without_timings(folder) == metrics_without_timings(run)
    assert weights(folder) == weights(run)
    changed = tiny_language_config(material, generation={"temperature": 0.5})
    with pytest.raises(AdrpoError, match=r"generation\.temperature"):
        LanguageRun(changed).train(folder, resume=True, progress=False)


def test_the_base_is_its_own_reference_and_training_leaves_it(run: Path) -> None:
    directory = RunDirectory.open(run)
    base, final = (read_values(values_path(directory, step)) for step in (0, 4))
    assert (base["kl"] == 0).all()
    # k3 is at least 0 at every token; nearly all completions have a token that changed.
    assert (final["kl"] >= 0).all() and (final["kl"] > 0).mean() > 0.9
    assert set(base) == {"reward", "share_of_a", "kl", "entropy", "completion_length"}
    np.testing.assert_array_equal(base["reward"], base["share_of_a"])
    rows = directory.read_evaluations("unseen")
    assert [row["step"] for row in rows] == [0, 2, 4]
    # The learning rate is high: the share of the rewarded letter must rise.
    assert rows[-1]["reward_change_low"] > 0


def test_the_evaluation_agrees_with_what_trl_computes(material: Path, tmp_path: Path) -> None:
    """log p, entropy and KL of the drawn tokens, against TRL's own pass of the training step."""
    config = tiny_language_config(material)
    language_run = LanguageRun(config)
    directory = RunDirectory.create(tmp_path / "run", config_to_yaml(config))
    reward = TrainingReward(language_run.terms)
    trainer = language_run._trainer(directory, reward, language_run.prompts)
    with torch.no_grad():  # so that policy and reference differ
        for parameter in trainer.model.parameters():
            parameter.mul_(1.1)
    drawing = CompletionDrawing(config, trainer, None, language_run.held_out)
    torch.manual_seed(0)
    ids = torch.randint(3, 17, (5, 9))
    mask = torch.ones_like(ids)
    drawn = Generated(PromptBatch(ids=ids[:, :3].tolist()), ids, mask, mask[:, 3:])
    logps, entropies = drawing._logps(trainer.model, drawn)
    expected, expected_entropies, _ = trainer._get_per_token_logps_and_entropies(
        trainer.model, ids, mask, 6, compute_entropy=True
    )
    # float32 sums over 17 logits in another order.
    torch.testing.assert_close(logps, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(entropies, expected_entropies, rtol=0, atol=1e-5)
    with drawing._reference(trainer.model) as reference:
        assert reference is trainer.ref_model
        assert (drawing._logps(reference, drawn)[0] - logps).abs().max() > 0.01


def test_completions_end_with_the_first_end_of_sequence() -> None:
    completion = torch.tensor([[5, 2, 7, 2], [2, 5, 5, 5], [5, 6, 7, 8]])
    expected = torch.tensor([[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 1]])
    torch.testing.assert_close(until_end(completion, [2]), expected)


def test_lora_trains_an_adapter_that_peft_loads(material: Path, tmp_path: Path) -> None:
    from peft import AutoPeftModelForCausalLM

    config = tiny_language_config(material, adapter={"rank": 2})
    folder = train(config, tmp_path / "lora")
    state = load_file(folder / "final/adapter_model.safetensors")
    assert any("lora_B" in name and tensor.abs().max() > 0 for name, tensor in state.items())
    card = ModelCard.load(folder / "final/README.md")
    assert "with the method adrpo" in card.text and card.data.to_dict()["tags"] == ["adrpo", "lora"]
    model = AutoPeftModelForCausalLM.from_pretrained(folder / "final")
    ids = torch.arange(5, 12)[None]
    with torch.no_grad():
        tuned = model(ids).logits
        with model.disable_adapter():
            base = model(ids).logits
    assert (tuned - base).abs().max() > 1e-3
    rows = RunDirectory.open(folder).read_evaluations("unseen")
    assert rows[0]["kl"] == 0 and rows[-1]["kl"] > 0


def test_without_a_coefficient_evaluations_still_know_the_reference(
    material: Path, tmp_path: Path
) -> None:
    config = tiny_language_config(material, algorithm={"method": "fixed_beta", "beta_0": 0})
    folder = train(config, tmp_path / "free")
    rows = RunDirectory.open(folder).read_evaluations("unseen")
    assert rows[0]["kl"] == 0 and rows[-1]["kl"] > 0
    assert json.loads((folder / "metrics.jsonl").read_text().splitlines()[0])["divergence"] is None


def test_the_report_shows_completions_escaped(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    base = folder / "samples/base.jsonl"
    first, *others = base.read_text().splitlines()
    system = {"role": "system", "content": "Be short."}
    asked = [system, {"role": "user", "content": "<b>bold</b>"}]
    row = json.loads(first) | {"prompt": asked}
    row["completions"][0] = "<script>alert(1)</script>"
    base.write_text("\n".join([json.dumps(row), *others]) + "\n")
    page = write_report(folder).read_text()
    assert "<script>alert" not in page and "&lt;script&gt;alert(1)" in page
    assert "user: &lt;b&gt;bold&lt;/b&gt;" in page
    assert "24 completions" in page and "Held-out completions" in page
    assert "pictures" not in page.partition("<main>")[2].partition("</main>")[0]
    base.write_text("{}\n")
    with pytest.raises(AdrpoError, match=r"base\.jsonl, line 1"):
        write_report(folder)


def test_what_can_not_be_used_is_said_in_one_line(material: Path, tmp_path: Path) -> None:
    with pytest.raises(AdrpoError, match="no such folder"):
        train(tiny_language_config(material, model={"pretrained": "./nowhere"}), tmp_path / "a")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(AdrpoError, match=r"model\.pretrained: .*can't be loaded"):
        train(tiny_language_config(material, model={"pretrained": str(empty)}), tmp_path / "b")
    recipe = tmp_path / "llm.yaml"
    recipe.write_text(config_to_yaml(tiny_language_config(material)), encoding="utf-8")
    assert load_recipe(recipe) == tiny_language_config(material)
    with pytest.raises(AdrpoError, match="of the domain flow, received one of llm") as caught:
        load_flow_config(recipe)
    assert "; read it by load_recipe, train it by `adrpo train`" in str(caught.value)
