"""What stands among the metrics: what follows from it, and the page that it fills."""

from importlib import import_module
from pathlib import Path

import pytest

from adrpo.metrics import (
    EVALUATIONS,
    METRICS,
    category,
    describe,
    known,
    names,
    ordered,
    trained_judges,
    with_role,
    without_ending,
)
from adrpo.rewards.loading import BUILT_IN
from tools.metric_tables import PAGE, filled, tables

ROOT = Path(__file__).parents[3]


def test_the_page_has_the_tables_of_today() -> None:
    page = (ROOT / PAGE).read_text(encoding="utf-8")
    assert page == filled(page), "run: python -m tools.metric_tables"
    for metric in METRICS:
        assert f"`{metric.name}`" in page and metric.meaning.replace("|", "\\|") in page


def test_a_page_without_a_place_for_a_table_is_told() -> None:
    place = "<!-- table: {} -->\nold\n<!-- end of the table -->\n"
    whole = "".join(map(place.format, tables()))
    assert "\nold\n" not in filled(whole)
    with pytest.raises(ValueError, match="a place for each of"):
        filled(place.format("rewards"))


def test_every_formula_is_where_it_is_said_to_be() -> None:
    for metric in METRICS:
        assert (ROOT / metric.formula.partition("#")[0]).exists(), metric.name


def test_the_judges_come_in_the_order_of_preference() -> None:
    assert names(with_role("judge")) == ("gold_accuracy", "clip_score_evaluation")
    # What a reward is weighed against has a word, and a price the point where its axis begins.
    for metric in with_role("price"):
        assert metric.better == "lower" and metric.traded and metric.reference_point
    assert all(metric.better == "higher" for metric in with_role("diversity", "judge", "total"))


def test_a_reward_that_asks_a_judge_is_known_by_its_name_and_by_its_class() -> None:
    for name in ("scene_judge", "scene_judge_strict", "question_answer", "multiple_choice"):
        assert trained_judges(["clip_score", name]) == ("gold_accuracy",), name
        module, _, attribute = BUILT_IN[name].partition(":")
        assert getattr(import_module(module), attribute)
        for path in (f"{module}:{attribute}", f"{module}.{attribute}"):
            assert trained_judges([path]) == ("gold_accuracy",), path
    # Another one's class of that name is another reward.
    assert trained_judges(["clip_score", "geneval", "mine:SceneJudge", "SceneJudge"]) == ()


def test_a_reward_of_the_user_is_described_by_its_name() -> None:
    assert known("my_taste") is None
    found = describe("my_taste")
    assert (found.label, found.in_sentence, found.better) == ("my taste", "my taste", "higher")


def test_known_metrics_come_first_and_others_by_name() -> None:
    found = ordered({"zeal", "clip_diversity", "beauty", "gold_accuracy", "clip_score"})
    assert found == ["gold_accuracy", "clip_score", "clip_diversity", "beauty", "zeal"]


def test_a_category_is_no_interval_and_no_other_metric() -> None:
    found = category("gold_accuracy_two_shapes")
    assert found is not None and (found[0].name, found[1]) == ("gold_accuracy", "two_shapes")
    assert describe("gold_accuracy_two_shapes").label == "two shapes"
    for column in (
        "gold_accuracy_low",
        "gold_accuracy_change",
        "kl_color",
        "clip_score_evaluation",
    ):
        assert category(column) is None


def test_the_endings_of_an_interval_and_a_change_come_off() -> None:
    for ending in ("", "_low", "_high", "_change", "_change_low", "_change_high"):
        assert without_ending(f"clip_score{ending}") == "clip_score"


def test_a_share_is_drawn_in_points() -> None:
    points = {metric.name: metric.points for metric in EVALUATIONS}
    assert (points["gold_accuracy"], points["clip_score_evaluation"]) == (100.0, 1.0)
