"""Rewards that are only measured: their names, what doctor says of them, and their memory."""

import csv
import io
import itertools
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import (
    BlipTextConfig,
    BlipTextModel,
    BlipVisionConfig,
    BlipVisionModel,
    CLIPConfig,
    CLIPModel,
)

from adrpo.cli.doctor import check_recipe
from adrpo.comparison import Plan, collect, write_results
from adrpo.comparison.analysis import analyse
from adrpo.config import FlowConfig, config_to_yaml, load_flow_config, load_recipe, recipe_names
from adrpo.config.rewards import RESERVED, RewardTermSection, check_names, written_names
from adrpo.errors import AdrpoError
from adrpo.flow.memory.advice import FROM_WEIGHTS, estimate_recipe
from adrpo.flow.memory.architectures import find_architecture
from adrpo.flow.training.adrpo import FlowTrainer
from adrpo.metrics import known
from adrpo.runs.findings import Findings
from adrpo.runs.published_sizes import SCORERS
from support.fabricated_comparison import STEPS, fabricate_comparison

WIDTHS = (768, 1024, 128, 64, 16, 1)
"""Of the published heads on CLIP's or BLIP's numbers."""


def refusal(folder: Path, domain: str, reward: str, measured: str) -> str:
    recipe = folder / "recipe.yaml"
    recipe.write_text(
        f"domain: {domain}\nreward: [{reward}]\nevaluation: {{rewards: [{measured}]}}\n",
        encoding="utf-8",
    )
    with pytest.raises(AdrpoError) as caught:
        load_recipe(recipe)
    return str(caught.value).replace(f"{folder}/", "")


@pytest.mark.parametrize("domain", ["flow", "llm"])
@pytest.mark.parametrize(
    ("reward", "measured", "place", "name"),
    [
        ("{name: jpeg_size}", "{name: jpeg_size}", 0, "jpeg_size"),
        ("{name: a.b:c}", "{name: x.y:z}, {name: d.c}", 1, "c"),
        ("{name: c}, {name: c}", "{name: a.b:c_2}", 0, "c_2"),
    ],
)
def test_values_of_a_training_reward_are_not_written_over(
    tmp_path: Path, domain: str, reward: str, measured: str, place: int, name: str
):
    line = refusal(tmp_path, domain, reward, measured)
    assert line.startswith(f"recipe.yaml: evaluation.rewards.{place}.name: expected a reward whose")
    assert f"would be {name!r} like those of a term of the training reward" in line
    assert line.endswith("name it as 'package.module:callable' with another last part")


@pytest.mark.parametrize("domain", ["flow", "llm"])
@pytest.mark.parametrize(
    "name", [*sorted(RESERVED), "kl_low", "reward_change_high", "gold_accuracy_color"]
)
def test_a_metric_of_every_evaluation_is_not_written_over(tmp_path: Path, domain: str, name: str):
    line = refusal(tmp_path, domain, "{name: jpeg_size}", f"{{name: 'judges:{name}'}}")
    assert f"received 'judges:{name}', whose values would be {name!r}" in line
    assert "like those of a metric of every evaluation" in line


@pytest.mark.parametrize("domain", ["flow", "llm"])
@pytest.mark.parametrize(
    ("reward", "name"),
    [
        *((f"{{name: 'my:{name}'}}", name) for name in sorted(RESERVED - {"reward"})),
        ("{name: 'my:kl_low'}", "kl_low"),
        ("{name: 'my:gold_accuracy_color'}", "gold_accuracy_color"),
        # The sum, which is something else than this term.
        ("{name: 'my:reward', weight: 2}", "reward"),
        ("{name: 'my:reward', logistic: {location: 0, scale: 1}}", "reward"),
    ],
)
def test_a_term_of_the_training_reward_does_not_write_over_a_metric(
    tmp_path: Path, domain: str, reward: str, name: str
):
    line = refusal(tmp_path, domain, f"{{name: jpeg_size}}, {reward}", "")
    assert line.startswith("recipe.yaml: reward.1.name: expected a reward whose values have a name")
    assert f"received 'my:{name}', whose values would be {name!r} like those of a metric" in line
    line = refusal(tmp_path, domain, reward, "")
    assert line.startswith("recipe.yaml: reward.0.name: expected a reward whose values have a name")


def test_one_reward_does_not_write_over_the_interval_of_another(tmp_path: Path):
    both = "{name: 'my:score'}, {name: 'my:score_low'}"
    line = refusal(tmp_path, "flow", both, "")
    assert "would be 'score_low' like the interval or the change of the reward 'score'" in line
    assert line.startswith("recipe.yaml: reward.1.name")
    line = refusal(tmp_path, "flow", "{name: 'my:score'}", "{name: 'my:score_change'}")
    assert line.startswith("recipe.yaml: evaluation.rewards.0.name")


def test_a_reward_that_is_the_sum_may_be_called_so():
    check_names([], [RewardTermSection(name="my:reward")])


def test_a_callable_that_is_called_as_a_metric_is_refused():
    def divergence(prompts: list[str], images: list[Any], **_: Any) -> list[float | None]:
        return [0.0] * len(images)

    with pytest.raises(AdrpoError, match=r"reward\.0\.name: .*'divergence'"):
        FlowTrainer(FlowConfig(), reward=divergence)


@pytest.mark.parametrize("name", recipe_names())
def test_the_rewards_of_a_recipe_have_names_of_their_own(name: str):
    config = load_recipe(name)
    trained, measured = (
        set(written_names(term.name for term in terms))
        for terms in (config.reward, config.evaluation.rewards)
    )
    assert not measured & (trained | RESERVED)


def test_a_callable_in_the_place_of_the_reward_has_a_name_too():
    def jpeg_size(prompts: list[str], images: list[Any], **_: Any) -> list[float | None]:
        return [0.0] * len(images)

    config = FlowConfig.model_validate({"evaluation": {"rewards": [{"name": "jpeg_size"}]}})
    with pytest.raises(AdrpoError, match=r"evaluation\.rewards\.0\.name: .*'jpeg_size'"):
        FlowTrainer(config, reward=jpeg_size)


TABLE_1 = """\
extends: flow/sd3-medium-adrpo
evaluation:
  rewards:
    - {name: aesthetic, options: {weights: nowhere.pth}}
    - {name: blip_score, options: {weights: nowhere.pth}}
    - {name: image_reward, options: {weights: nowhere.pth}}
    - {name: pick_score, options: {model: yuvalkirstain/PickScore_v1}}
"""


@pytest.fixture
def table_1(tmp_path: Path) -> Path:
    path = tmp_path / "table-1.yaml"
    path.write_text(TABLE_1, encoding="utf-8")
    return path


def test_doctor_checks_the_models_that_measure(
    table_1: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    findings = Findings()
    check_recipe(findings, str(table_1))
    page = capsys.readouterr().out
    assert findings.broken == 3
    for name, file in (
        ("aesthetic", "sac+logos+ava1-l14-linearMSE.pth"),
        ("blip_score", "model_large.pth"),
        ("image_reward", "ImageReward.pt"),
    ):
        (line,) = (line for line in page.splitlines() if f"BROKEN  reward {name}:" in line)
        assert file in line
    assert "note    reward aesthetic: openai/clip-vit-large-patch14 is not on this" in page
    assert "note    reward pick_score: yuvalkirstain/PickScore_v1 is not on this machine" in page


def test_the_memory_of_what_measures_is_counted(table_1: Path):
    config = load_flow_config(table_1)
    architecture = find_architecture(config.model.pretrained)
    assert architecture is not None

    def scoring(*overrides: str) -> tuple[float, tuple[str, ...]]:
        found = estimate_recipe(architecture, load_flow_config(table_1, overrides), 200)
        return found.resident["reward and evaluation models"] / 4, found.uncounted

    trained, _ = scoring("evaluation.rewards=[]")
    added = sum(FROM_WEIGHTS.values()) + SCORERS["yuvalkirstain/PickScore_v1"]
    added += SCORERS["openai/clip-vit-large-patch14"]
    assert scoring() == (trained + added, ())
    on_cpu = "{name: blip_score, options: {weights: nowhere.pth, device: cpu}}"
    assert scoring(f"evaluation.rewards=[{on_cpu}]") == (trained, ())
    unknown = "{name: aesthetic, options: {weights: nowhere.pth, clip: someone/clip}}"
    assert scoring(f"evaluation.rewards=[{unknown}]") == (trained, ("aesthetic someone/clip",))


def test_the_published_rewards_have_the_stated_sizes():
    import torch

    def count(module: torch.nn.Module) -> int:
        return sum(parameter.numel() for parameter in module.parameters())

    text = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24}
    text |= {"num_attention_heads": 16}
    vision = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32}
    vision |= {"num_attention_heads": 16, "patch_size": 14}
    large: dict[str, Any] = {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
    }
    words: dict[str, Any] = {"vocab_size": 30524, "encoder_hidden_size": 1024, "is_decoder": True}
    with torch.device("meta"):
        clip = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=1024))
        blip = count(
            BlipVisionModel(
                BlipVisionConfig(**large, num_attention_heads=16, image_size=224, patch_size=16)
            )
        )
        blip += count(
            BlipTextModel(BlipTextConfig(**words, num_attention_heads=12), add_pooling_layer=False)
        )
    blip += (1024 + 1) * 256 + (768 + 1) * 256
    head = sum((before + 1) * after for before, after in itertools.pairwise(WIDTHS))
    assert count(clip) == SCORERS["yuvalkirstain/PickScore_v1"]
    assert {"aesthetic": head, "blip_score": blip, "image_reward": blip + head} == FROM_WEIGHTS


def test_the_command_of_the_page_sets_the_columns_of_table_1():
    page = Path("docs/use/comparison.md").read_text(encoding="utf-8")
    (override,) = re.findall(r"'(evaluation\.rewards=.*?)'", page, re.DOTALL)
    config = load_flow_config("flow/sd3-medium-adrpo", [override])
    names = [term.name for term in config.evaluation.rewards]
    assert names == ["aesthetic", "blip_score", "image_reward", "pick_score"]
    assert all(known(name) for name in names), "they have a label of their own"
    architecture = find_architecture(config.model.pretrained)
    assert architecture is not None
    totals = [
        estimate_recipe(architecture, config, 200).total,
        estimate_recipe(architecture, load_flow_config("flow/sd3-medium-adrpo"), 200).total,
    ]
    assert f"{(totals[0] - totals[1]) / 1e9:.1f} GB in float32" in page


JUDGES = ("image_reward", "my.judges:taste")


def add_judges(plan: Plan) -> Plan:
    """``plan`` with two rewards that are only measured, of values that rise with the step."""
    section = "  rewards:\n" + "".join(f"  - {{name: '{name}'}}\n" for name in JUDGES)
    recipes = []
    for method in plan.methods:
        recipe = Path(method.recipe)
        recipe.write_text(f"{recipe.read_text()}evaluation:\n{section}", encoding="utf-8")
        recipes.append(str(recipe))
        for seed in plan.seeds:
            run = plan.run_folder(method, seed)
            config = load_flow_config(recipe, [f"training.seed={seed}"])
            (run / "config.yaml").write_text(config_to_yaml(config), encoding="utf-8")
            for step in STEPS:
                for file in run.glob(f"samples/step-{step:06d}/values*.json"):
                    table = json.loads(file.read_text())
                    table["image_reward"] = (np.array(table["clip_score"]) / 50).tolist()
                    table["taste"] = (np.array(table["clip_score"]) + step).tolist()
                    file.write_text(json.dumps(table))
    (plan.folder / "comparison.json").unlink()
    return Plan.resolve(plan.folder, recipes, [], len(plan.seeds), None)


@pytest.fixture
def judged(tmp_path: Path) -> Plan:
    plan = fabricate_comparison(tmp_path / "cmp", methods=("ours", "fixed"), seeds=2, prompts=8)
    return add_judges(plan)


def test_they_are_columns_of_the_table_and_not_trained_on(judged: Plan):
    write_results(collect(judged), "adrpo compare")
    head = (judged.folder / "table-unseen.md").read_text().splitlines()[0]
    assert "| ImageReward ↑ |" in head and "| taste ↑ |" in head
    for split in ("unseen", "seen"):
        text = (judged.folder / f"table-{split}.csv").read_text(encoding="utf-8")
        rows = {(row["method"], row["metric"]): row for row in csv.DictReader(io.StringIO(text))}
        for name in ("base", "ours", "fixed"):
            expected = float(rows[name, "clip_score"]["mean"])
            found = float(rows[name, "taste"]["mean"])
            # Values files keep six decimals.
            assert found == pytest.approx(expected + (name != "base") * STEPS[-1], abs=1e-5)
    summary = json.loads((judged.folder / "summary.json").read_text())
    assert summary["trained_on"] == ["clip_score", "clip_novelty"]


def test_without_a_gold_judge_the_first_of_them_is_primary(judged: Plan):
    for file in judged.folder.glob("runs/*/samples/step-*/values*.json"):
        table = json.loads(file.read_text())
        kept = {k: v for k, v in table.items() if k not in ("gold_accuracy", "image_reward")}
        del kept["clip_score_evaluation"]
        file.write_text(json.dumps(kept))
    # A dotted name stands under its last part.
    assert analyse(collect(judged)).primary == "taste"
