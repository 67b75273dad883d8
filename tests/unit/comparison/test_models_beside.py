"""Rows of Table 1 for models that a comparison did not train."""

import csv
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from adrpo.comparison import Plan, collect, write_results
from adrpo.comparison.analysis import analyse, to_json
from adrpo.errors import AdrpoError
from support.fabricated_comparison import STEPS, fabricate_comparison


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return fabricate_comparison(tmp_path / "cmp", methods=("ours", "fixed"), seeds=2, prompts=8)


def evaluation(plan: Plan, name: str = "other-model") -> Path:
    """An evaluation in the layout of a run: step 0 alone, with 3 more points of each metric."""
    folder = plan.folder.parent / name
    run = plan.run_folder(plan.methods[0], 0)
    shutil.copytree(run, folder)
    shutil.rmtree(folder / "final")
    (folder / "metrics.jsonl").unlink()
    for step in STEPS[1:]:
        shutil.rmtree(folder / f"samples/step-{step:06d}")
    file = folder / "samples/step-000000/values.json"
    table = {name: (np.array(v) + 3).tolist() for name, v in json.loads(file.read_text()).items()}
    file.write_text(json.dumps(table))
    rows = (folder / "evaluations.jsonl").read_text().splitlines(keepends=True)
    first = [row for row in rows if json.loads(row)["step"] == 0]
    (folder / "evaluations.jsonl").write_text("".join(first))
    change(folder, lambda config: config["model"].update(pretrained="owner/other-model"))
    return folder


def change(folder: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    config = yaml.safe_load((folder / "config.yaml").read_text())
    edit(config)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


def test_another_model_is_a_row_of_its_own(plan: Plan) -> None:
    folder = evaluation(plan)
    write_results(collect(plan, [folder]), "adrpo compare")
    table = (plan.folder / "table-unseen.md").read_text()
    lines = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("|")]
    assert lines == ["", "---", "base", "other-model", "ours", "fixed"]
    assert "prompts and samples alone: base; other-model" in table

    values = json.loads((folder / "samples/step-000000/values.json").read_text())
    cells = csv.DictReader(io.StringIO((plan.folder / "table-unseen.csv").read_text()))
    own = {row["metric"]: row for row in cells if row["method"] == "other-model"}
    assert set(own) == {"gold_accuracy", "clip_score", "clip_score_evaluation", "clip_diversity"}
    for metric, row in own.items():
        assert float(row["mean"]) == pytest.approx(np.mean(values[metric]), rel=1e-12)
        assert float(row["low"]) < float(row["mean"]) < float(row["high"])
        # One seed: no error over seeds. And nothing is paired with it.
        assert (row["seeds"], row["standard_error"], row["difference"]) == ("1", "", "")
    # It is the base, 3 points higher: higher than all, but bold compares what was trained alike.
    assert "**" not in next(line for line in table.splitlines() if "other-model" in line)
    assert "other-model" not in (plan.folder / "table-seen.md").read_text()
    summary = json.loads((plan.folder / "summary.json").read_text())
    assert summary["splits"]["unseen"]["others"]["other-model"]["clip_score"]["seeds"] == [
        pytest.approx(np.mean(values["clip_score"]), rel=1e-12)
    ]


def test_what_is_measured_against_its_own_base_is_left_out(plan: Plan) -> None:
    for file in plan.folder.glob("runs/*/samples/step-*/values.json"):
        table = json.loads(file.read_text())
        file.write_text(json.dumps(table | {"kl": table["clip_score"]}))
    (other,) = collect(plan, [evaluation(plan)]).others.values()
    assert "clip_score" in other and not {"kl", "divergence"} & other.keys()


def test_a_row_beside_changes_no_other_number(plan: Plan) -> None:
    alone, beside = (to_json(analyse(collect(plan, others))) for others in ([], [evaluation(plan)]))
    assert list(beside["splits"]["unseen"].pop("others")) == ["other-model"]
    for split in [*alone["splits"].values(), beside["splits"]["seen"]]:
        assert split.pop("others") == {}
    assert alone == beside


@pytest.mark.parametrize(
    ("edit", "key"),
    [
        (lambda config: config["evaluation"].update(clip="owner/clip"), "evaluation.clip"),
        (
            lambda config: config["evaluation"].update(distances={"features": "embedded"}),
            "evaluation.distances.features",
        ),
        (
            lambda config: config["evaluation"].update(samples_per_prompt=2),
            "evaluation.samples_per_prompt",
        ),
        (lambda config: config["prompts"].update(held_out="art-style"), "prompts.held_out"),
        (lambda config: config["prompts"].update(source="other.jsonl"), "prompts.source"),
        (
            lambda config: config["reward"][0]["options"].update(model="owner/clip"),
            "reward clip_score",
        ),
        (
            lambda config: config["evaluation"].update(
                rewards=[{"name": "a.b:clip_score", "options": {}, "logistic": None}]
            ),
            "reward clip_score",
        ),
    ],
)
def test_a_model_that_was_measured_otherwise_is_refused(
    plan: Plan, edit: Callable[[dict[str, Any]], None], key: str
) -> None:
    folder = evaluation(plan)
    change(folder, edit)
    with pytest.raises(AdrpoError, match=f"has {key} = .*--recipe"):
        collect(plan, [folder])


def test_how_a_model_is_drawn_is_its_own_affair(plan: Plan) -> None:
    folder = evaluation(plan)
    change(folder, lambda config: config["evaluation"]["sampling"].update(guidance_scale=3.5))
    change(folder, lambda config: config["reward"].pop(1))
    change(folder, lambda config: config["prompts"].update(train="scenes:train", train_size=3))
    assert list(collect(plan, [folder]).others) == ["other-model"]


def test_other_prompts_are_refused(plan: Plan) -> None:
    folder = evaluation(plan)
    listing = json.loads((folder / "samples/prompts.json").read_text())
    listing["held_out"][1]["prompt"] = "another"
    (folder / "samples/prompts.json").write_text(json.dumps(listing))
    with pytest.raises(AdrpoError, match="prompts"):
        collect(plan, [folder])


def test_a_row_has_a_name_of_its_own(plan: Plan) -> None:
    for name in ("base", "fixed"):
        with pytest.raises(AdrpoError, match="rename the folder"):
            collect(plan, [evaluation(plan, name)])
    folder = evaluation(plan)
    with pytest.raises(AdrpoError, match="rename the folder"):
        collect(plan, [folder, folder])


def test_a_folder_without_an_evaluation_is_refused(plan: Plan) -> None:
    folder = evaluation(plan)
    (folder / "evaluations.jsonl").unlink()
    with pytest.raises(AdrpoError, match="expected an evaluation"):
        collect(plan, [folder])
