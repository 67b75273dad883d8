"""Best of n completions: more of them never lower the reward that is kept, and n = 1 is the
evaluation."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adrpo.cli.compare import _measure_base
from adrpo.comparison import Plan, record
from adrpo.config import config_to_yaml
from adrpo.evaluation.best_of_n import FILE, best_of_n, read_best_of_n
from adrpo.evaluation.evaluator import Evaluator
from adrpo.evaluation.pareto import selection_kl
from support.command_line import Command
from support.tiny_language_runs import base_evaluator, tiny_language_config, write_material
from support.tiny_language_trainers import LANGUAGE_MARKS

pytestmark = LANGUAGE_MARKS


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_material(tmp_path_factory.mktemp("material"))


@pytest.fixture(scope="module")
def evaluator(material: Path, tmp_path_factory: pytest.TempPathFactory) -> Evaluator[Any]:
    folder = tmp_path_factory.mktemp("evaluator")
    return base_evaluator(tiny_language_config(material), folder)


def test_the_best_of_one_is_the_evaluation_itself(evaluator: Evaluator[Any]) -> None:
    measured = evaluator.values(evaluator.drawing.draw())
    found = best_of_n(evaluator, [1])
    values = found.by_reward[1]
    # The evaluation's KL is the policy's, here 0 token by token; of one there is no selection.
    assert not measured.pop("kl").any() and not values.pop("kl").any()
    assert not found.by_chance[1].pop("kl").any()
    for selected in (values, found.by_chance[1]):
        assert selected.keys() == measured.keys()
        for name, column in measured.items():
            assert np.array_equal(selected[name], column, equal_nan=True), name


def test_every_place_keeps_its_best_completion(evaluator: Evaluator[Any]) -> None:
    """Against a loop over the draws, and all metrics from the completion that was kept."""
    draws = [evaluator.values(evaluator.drawing.draw(draw)) for draw in range(3)]
    assert not np.array_equal(draws[1]["entropy"], draws[2]["entropy"])
    found = best_of_n(evaluator, [3, 1, 2]).by_reward
    assert list(found) == [1, 2, 3]
    for n, values in found.items():
        for place in np.ndindex(values["reward"].shape):
            best = max(draws[: int(n)], key=lambda draw, place=place: draw["reward"][place])
            for name in ("reward", "share_of_a", "entropy", "completion_length"):
                assert values[name][place] == best[name][place]
        rewards = np.concatenate([draw["reward"] for draw in draws], axis=1)
        assert np.array_equal(values["kl"][:, 0], selection_kl(rewards, int(n)))
    assert found[3]["reward"].mean() > found[1]["reward"].mean()


def test_an_unscored_completion_loses(
    evaluator: Evaluator[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    (term,) = evaluator.reward

    def first_unscored(prompts: list[str], **columns: Any) -> list[float | None]:
        calls.append(len(prompts))
        values = list(term.function(prompts=prompts, **columns))
        return [None, *values[1:]] if len(calls) == 1 else values

    monkeypatch.setattr(evaluator, "reward", [type(term)(term.name, 1.0, first_unscored)])
    values = best_of_n(evaluator, [2]).by_reward[2]
    monkeypatch.undo()
    other = evaluator.values(evaluator.drawing.draw(1))
    assert values["reward"][0, 0] == other["reward"][0, 0]


def recorded_plan(material: Path, folder: Path) -> Plan:
    """A comparison of one tiny language recipe, of which nothing is trained."""
    recipe = folder / "tiny.yaml"
    recipe.write_text(config_to_yaml(tiny_language_config(material)), encoding="utf-8")
    plan = Plan.resolve(folder / "cmp", [str(recipe)], [], 1, None)
    record(plan)
    return plan


def test_compare_adds_the_sizes_that_are_not_measured_yet(material: Path, tmp_path: Path) -> None:
    plan = recorded_plan(material, tmp_path)
    _measure_base(plan, [1, 2], [])
    path = plan.folder / FILE
    written = path.read_text()
    assert json.loads(written)["n"] == [1, 2]
    prompts = len(json.loads(written)["reward"][0])
    found = read_best_of_n(plan.folder, [""] * prompts)
    assert found is not None
    # Of two: between none and the KL without ties, log 2 - 1/2.
    assert found.kl[0] == 0 < found.kl[1] < np.log(2) - 0.5
    assert found.metrics["reward"][0].mean < found.metrics["reward"][1].mean
    _measure_base(plan, [2, 1], [])
    assert path.read_text() == written

    # What is there stays, whoever wrote it; the other size joins it.
    marked = json.loads(written)
    marked["reward"][0][0][0] = marked["by_chance"]["reward"][1][0][0] = 1234.5
    path.write_text(json.dumps(marked))
    _measure_base(plan, [3, 1], [])
    after = json.loads(path.read_text())
    assert after["n"] == after["by_chance"]["n"] == [1, 2, 3]
    for before, now in ((marked, after), (marked["by_chance"], after["by_chance"])):
        for name in before.keys() - {"n", "by_chance", "selected_by"}:
            assert now[name][:2] == before[name]
    assert after["selected_by"] == {"reward": plan.reward}
    assert np.mean(after["reward"][2]) > np.mean(json.loads(written)["reward"][1])


def test_a_file_without_the_choice_by_chance_takes_it(material: Path, tmp_path: Path) -> None:
    plan = recorded_plan(material, tmp_path)
    _measure_base(plan, [1, 2], [])
    path = plan.folder / FILE
    whole = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in whole.items() if key != "by_chance"}))
    _measure_base(plan, [1, 2], [])
    assert json.loads(path.read_text()) == whole


def test_a_language_model_has_no_guidance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    command = Command(monkeypatch, capsys)
    assert command("compare", "llm/embedded", "--guidance", "1.5") == 2
    assert "domain llm, which has none; leave --guidance out" in command.err
    assert command.err.count("\n") == 1 and list(tmp_path.iterdir()) == []
