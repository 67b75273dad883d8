"""What stands where in a run's page: rewards in front, scores under pictures, points of the curves,
settings beside the recipe, lines to copy."""

import html
import json
import re
from pathlib import Path

import pytest

from adrpo.config import config_to_yaml, find_recipe, load_recipe, recipe_names
from adrpo.config.documents import read_mapping
from adrpo.report import write_report
from adrpo.report.figures import training_figures
from adrpo.report.loading import snippets
from adrpo.runs import RunDirectory
from adrpo.runs.inputs import Inputs
from adrpo.runs.recipe import changes
from support.fabricated_run import CONFIG, fabricate
from support.strict_page import Page

TWO_TERMS = CONFIG.replace(
    "algorithm:", "- {name: 'mine:plain_words', weight: 0.5}\nalgorithm:"
)  # fmt: skip


def rewrite(path: Path, **columns: float) -> None:
    """Add ``columns``, the same in all, to the rows of a file, with intervals to evaluations."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        for name, value in columns.items():
            row[name] = value
            if path.name == "evaluations.jsonl":
                row |= {f"{name}_low": value - 1, f"{name}_high": value + 1}
                if row["step"]:
                    row |= {f"{name}_change{end}": 0.5 for end in ("", "_low", "_high")}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def of_table(page: Page) -> list[str]:
    """The metrics of the first table, in their order."""
    return re.findall(r'data-metric="(\w+)"', page.source.partition("</table>")[0])


def test_a_toy_judge_of_a_real_model_is_told_and_leads_nothing(tmp_path: Path) -> None:
    run = fabricate(tmp_path / "run", steps=4, evaluated=(0, 4), pictured=0)
    told = "evaluation.clip: embedded-evaluation is a toy"
    page = Page(write_report(run))
    assert told not in page.text and "CLIP diversity" in page.source.partition("<table")[0]
    text = (run / "config.yaml").read_text(encoding="utf-8")
    of_another = text.replace("pretrained: embedded", "pretrained: my-pipeline")
    (run / "config.yaml").write_text(of_another, encoding="utf-8")
    page = Page(write_report(run))
    assert told in page.text and "CLIP diversity" not in page.source.partition("<table")[0]


def test_a_run_on_another_model_than_its_recipe_s_is_not_described_as_on_that(
    tmp_path: Path,
) -> None:
    run = fabricate(tmp_path / "run", steps=4, evaluated=(0, 4), pictured=0)
    config = load_recipe("flow/adrpo")
    for model, expected in (("embedded", config.description), ("mine", "flow/adrpo, on mine")):
        own = config.model.model_copy(update={"pretrained": model})
        text = config_to_yaml(config.model_copy(update={"model": own}))
        (run / "config.yaml").write_text(text, encoding="utf-8")
        assert expected in Page(write_report(run)).text
    top = Page(run / "report.html").text.partition("The whole configuration")[0]
    assert "on the embedded text-to-image model" not in top


def test_the_reward_comes_first_and_then_its_terms(tmp_path: Path) -> None:
    run = fabricate(tmp_path / "run", steps=4, evaluated=(0, 4), pictured=0)
    (run / "config.yaml").write_text(TWO_TERMS, encoding="utf-8")
    rewrite(run / "evaluations.jsonl", reward=30.0, plain_words=5.0)
    rewrite(run / "metrics.jsonl", reward_plain_words_mean=5.0)
    page = Page(write_report(run))
    assert of_table(page)[:4] == ["reward", "clip_score", "plain_words", "gold_accuracy"]
    assert "prompts, the reward rose by 0.5" in page.source
    titles = re.findall(r"<figcaption><h3>(.*?)</h3><small>(.*?)</small>", page.source)
    expected = ["Reward", "CLIP score, reward CLIP", "Plain words"]
    assert [title for title, _ in titles[:3]] == expected
    # Behind the reward of the steps stand the terms, as they are before they are weighed.
    place = titles.index(("Reward", "over the samples of a step"))
    assert titles[place + 1 : place + 3] == [
        ("CLIP score, reward CLIP", "a term of the reward"),
        ("Plain words", "a term of the reward, before its weight of 0.5"),
    ]


def test_a_reward_that_python_gave_comes_first_under_its_name(tmp_path: Path) -> None:
    run = fabricate(tmp_path / "run", steps=4, evaluated=(0, 4), pictured=0)
    for name, content in Inputs(reward="notebook:brightness").files().items():
        (run / name).write_bytes(content)
    rewrite(run / "evaluations.jsonl", reward=5.0, brightness=5.0)
    page = Page(write_report(run))
    assert of_table(page)[:3] == ["brightness", "reward", "gold_accuracy"]
    assert "prompts, the reward brightness rose by 0.5" in page.source
    # Its curve is that of the reward, which is not drawn twice.
    titles = re.findall(r"<figcaption><h3>(.*?)</h3>", page.source)
    assert titles[0] == "Brightness" and titles.count("Reward") == 1


def test_the_score_under_a_picture_is_its_own(tmp_path: Path) -> None:
    run = fabricate(tmp_path / "run", steps=4, evaluated=(0, 4), pictured=3, samples=2)
    listing = json.loads((run / "samples" / "prompts.json").read_text(encoding="utf-8"))
    # Of the prompts a, a, a, b, c the categories take turns: 0, 3 and 4 are shown.
    listing["categories"] = ["a", "a", "a", "b", "c"]
    (run / "samples" / "prompts.json").write_text(json.dumps(listing), encoding="utf-8")
    for step in (0, 4):
        values = [[100 * step + 10 * prompt + k for k in range(2)] for prompt in range(5)]
        (run / "samples" / f"step-{step:06d}" / "values.json").write_text(
            json.dumps({"clip_score": values, "clip_diversity": [0.5] * 5}), encoding="utf-8"
        )
    source = write_report(run).read_text(encoding="utf-8")
    found = re.findall(r'alt="([^"]*)" class="pixelated"><span>([\d.]+)</span>', source)
    scores: dict[str, list[float]] = {}
    for alt, score in found:
        scores.setdefault(html.unescape(alt), []).append(float(score))
    for place, prompt in enumerate((0, 3, 4)):
        words = listing["held_out"][place]["prompt"]
        assert scores[f"base model: {words}"] == [10 * prompt, 10 * prompt + 1]
        assert scores[f"fine-tuned model: {words}"] == [400 + 10 * prompt, 401 + 10 * prompt]
        assert scores[f"step 4: {listing['strip'][place]}"] == [400 + 10 * prompt]
    assert 'title="CLIP score, reward CLIP 30.0"' in source
    assert "The number under a picture is its CLIP score." in source


def test_points_of_a_curve_lie_on_its_line() -> None:
    rows = [{"step": step, "loss": loss} for step, loss in ((10, 0.5), (20, -0.25), (40, 0.75))]
    (figure,) = training_figures(rows, None)
    points = json.loads(figure.points)
    (line,) = points["lines"]
    assert (line["x"], line["y"], line["raw"]) == ([10, 20, 40], [0.5, -0.25, 0.75], True)
    path = re.search(r'<g id="curve-loss-line-1">\s*<path d="([^"]+)"', figure.svg)
    assert path
    drawn = [tuple(map(float, pair)) for pair in re.findall(r"[ML] ([\d.]+) ([\d.]+)", path[1])]
    told = [
        (points["x"][0] + points["x"][1] * x, points["y"][0] + points["y"][1] * y)
        for x, y in zip(line["x"], line["y"], strict=True)
    ]
    # The drawing has six decimals, the points six digits.
    assert drawn == [pytest.approx(pair, abs=2e-3) for pair in told]
    top, bottom = points["span"]
    assert top < min(y for _, y in drawn) and max(y for _, y in drawn) < bottom


def test_a_value_that_was_not_measured_has_no_point() -> None:
    rows = [{"step": 1, "loss": 0.5}, {"step": 2, "loss": None}, {"step": 3, "loss": 0.75}]
    (figure,) = training_figures(rows, None)
    assert json.loads(figure.points)["lines"][0]["y"] == [0.5, None, 0.75]


@pytest.mark.parametrize("name", ["flow/demo", "llm/embedded", "audio/embedded"])
def test_settings_are_held_against_the_recipe_of_their_words(tmp_path: Path, name: str) -> None:
    same = RunDirectory.create(tmp_path / "same", config_to_yaml(load_recipe(name)))
    assert (changes(same).recipe, changes(same).keys) == (name, [])
    other = load_recipe(name, ["training.steps=77", "evaluation.samples_per_prompt=3"])
    found = changes(RunDirectory.create(tmp_path / "other", config_to_yaml(other)))
    assert found.recipe == name
    assert [(key, ours) for key, ours, _ in found.keys] == [
        ("training.steps", "77"), ("evaluation.samples_per_prompt", "3"),
    ]  # fmt: skip


def test_other_words_are_held_against_the_defaults(tmp_path: Path) -> None:
    config = load_recipe("flow/adrpo", ["description=mine", "training.steps=77"])
    found = changes(RunDirectory.create(tmp_path / "run", config_to_yaml(config)))
    assert found.recipe == ""
    assert ("training.steps", "77") in [(key, ours) for key, ours, _ in found.keys]


def test_no_two_recipes_have_the_same_words() -> None:
    files = [read_mapping(find_recipe(name)) for name in recipe_names()]
    words = [" ".join(str(file["description"]).split()) for file in files]
    assert len(set(words)) == len(words) > 30


@pytest.mark.parametrize(
    ("file", "content", "line"),
    [
        ("pytorch_lora_weights.safetensors", "", 'pipeline.load_lora_weights("RUN/final")'),
        ("adapter_config.json", "{}", 'model = PeftModel.from_pretrained(model, "RUN/final")'),
        (
            "config.json",
            '{"architectures": ["Qwen2ForCausalLM"]}',
            'model = Qwen2ForCausalLM.from_pretrained("RUN/final")',
        ),
    ],
)
def test_the_line_that_loads_is_that_of_what_lies_there(
    tmp_path: Path, file: str, content: str, line: str
) -> None:
    run = RunDirectory.open(fabricate(tmp_path / "run", steps=2, evaluated=(), pictured=0))
    assert "--resume" in snippets(run)[0].text
    run.final.mkdir()
    (run.final / file).write_text(content, encoding="utf-8")
    lines = [item.text for item in snippets(run)]
    assert lines[0] == line.replace("RUN", run.path.as_posix())
    assert lines[1] == f"adrpo sample {run.path}" and "--resume" not in "".join(lines)


def test_a_page_without_its_script_reads_whole(tmp_path: Path) -> None:
    """Buttons and the like are made by the script: a page without it has none that are dead."""
    page = Page(write_report(fabricate(tmp_path / "run", steps=2, evaluated=(0, 2), pictured=1)))
    assert not page.all("button") and not page.all("input")
    targets = [(attrs["href"] or "").lstrip("#") for attrs in page.all("a")]
    sections = [attrs.get("id") for attrs in page.all("section")]
    assert targets and set(targets) <= set(sections)
