"""The report of a fabricated run: what it says is what the run's files say."""

import base64
import hashlib
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from adrpo.embedded.scenes import CATEGORIES
from adrpo.errors import AdrpoError
from adrpo.metrics import unlisted
from adrpo.report import write_report
from adrpo.report.figures import training_figures
from adrpo.report.summary import headline, metric_table
from adrpo.runs import RunDirectory
from adrpo.runs.facts import Facts, write_facts
from support.fabricated_run import HOSTILE, fabricate
from support.strict_page import Page


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def numbers(text: str) -> list[tuple[float, float]]:
    """The numbers in ``text``, each with half a unit of its last decimal place."""
    found = re.findall(r"[+−]?[\d,]+(?:\.\d+)?", text)
    plain = [n.replace(",", "").replace("−", "-").rstrip(".") for n in found]
    return [(float(n), 0.5 * 10.0 ** -len(n.partition(".")[2])) for n in plain if n]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fabricate(tmp_path_factory.mktemp("report") / "run")


@pytest.fixture(scope="module")
def page(run: Path) -> Page:
    return Page(write_report(run))


def test_is_one_file_in_the_run_folder_and_well_formed(run: Path, page: Page) -> None:
    assert write_report(run) == run / "report.html"
    assert not [path for path in run.iterdir() if path.name not in {
        "config.yaml", "environment.json", "metrics.jsonl", "evaluations.jsonl", "samples",
        "report.html",
    }]  # fmt: skip
    # Ids within SVGs point to themselves only when no two elements share one.
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    targets = re.findall(r'(?:href="#|url\(#)([^")]+)', page.source)
    assert targets and set(targets) <= set(ids)


def test_needs_nothing_from_outside(page: Page) -> None:
    namespaces = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert set(re.findall(r"https?://[^\s\"'<>]+", page.source)) <= namespaces
    (script,) = re.findall(r"<script>(.*?)</script>", page.source, re.DOTALL)
    assert page.all("script") == [{}]
    for _, attrs in page.tags:
        for name in ("src", "href", "xlink:href"):
            assert (attrs.get(name) or "data:").startswith(("data:", "#"))
    assert "@import" not in page.source and "@font-face" not in page.source
    policy = next(m for m in page.all("meta") if m.get("http-equiv"))["content"]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy == (
        "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'"
    )


def test_prompts_arrive_as_text(page: Page) -> None:
    assert HOSTILE in page.text
    assert any(HOSTILE in (attrs.get("alt") or "") for attrs in page.all("img"))


def test_hostile_names_and_settings_arrive_as_text(tmp_path: Path) -> None:
    run = fabricate(tmp_path / "a<b>&c", pictured=0, evaluated=(0,))
    hostile = "<img src=x onerror=alert(1)>"
    with (run / "config.yaml").open("a", encoding="utf-8") as file:
        file.write(f"# {hostile}\n")
    (run / "environment.json").write_text(json.dumps({hostile: hostile}), encoding="utf-8")
    rows = read_rows(run / "evaluations.jsonl")
    for row in rows:
        row |= {hostile: 1.0, f"{hostile}_low": 0.5, f"{hostile}_high": 1.5}
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (run / "evaluations.jsonl").write_text(text, encoding="utf-8")
    page = Page(write_report(run))
    assert page.text.count(hostile) >= 3 and "a<b>&c" in page.text
    assert page.all("img") == []


def test_every_number_of_the_tables_is_that_of_the_evaluations(run: Path, page: Page) -> None:
    rows = {(r["split"], r["step"]): r for r in read_rows(run / "evaluations.jsonl")}
    places = {"base": (0, ""), "final": (100, ""), "change": (100, "_change")}
    metrics = {key.removesuffix("_low") for key in rows["unseen", 0] if key.endswith("_low")}
    expected = {(s, m, c) for s in ("seen", "unseen") for m in metrics for c in places}
    assert set(page.cells) == expected and len(metrics) == 10
    for (split, metric, column), text in page.cells.items():
        step, suffix = places[column]
        shown = numbers(text)
        assert len(shown) == 3, (split, metric, column, text)
        for (value, half_unit), end in zip(shown, ("", "_low", "_high"), strict=True):
            true = rows[split, step][f"{metric}{suffix}{end}"]
            # Rounded correctly, and 1e-9 for the binary form of the decimal itself.
            assert abs(value - true) <= half_unit + 1e-9, (split, metric, column, text)
        assert shown[0][1] <= 0.05, "at least one decimal for these metrics"


def test_the_headline_is_the_unseen_result(run: Path, page: Page) -> None:
    rows = read_rows(run / "evaluations.jsonl")
    last = next(r for r in rows if r["step"] == 100 and r["split"] == "unseen")
    assert last["gold_accuracy_change_low"] > 0 and last["clip_diversity_change_high"] < 0
    sentence = re.search(r"<h1>(.*?)</h1>", page.source, re.DOTALL)
    assert sentence
    text = re.sub(r"<[^>]+>", "", sentence.group(1))
    # What training is paid by comes first, then what it does not see.
    assert text.startswith("On 102 unseen prompts, CLIP score rose from 2") and text[-1] == "."
    assert "Gold accuracy rose from 0." in page.text and ", while CLIP diversity fell" in page.text
    first = re.search(r'<tr data-metric="(\w+)" class="trained">', page.source)
    assert first and first.group(1) == "clip_score"


def evaluation(step: int, low: float, high: float) -> dict[str, Any]:
    """An evaluation whose gold accuracy is 0.5 and a change that is known by its interval."""
    row = {"step": step, "split": "unseen", "prompts": 30, "samples": 120}
    change = (low + high) / 2
    gold = 0.5 + change
    row |= {
        "gold_accuracy": gold,
        "gold_accuracy_low": gold - 0.1,
        "gold_accuracy_high": gold + 0.1,
    }
    if step:
        row |= {"gold_accuracy_change": change}
        row |= {"gold_accuracy_change_low": low, "gold_accuracy_change_high": high}
    return row


@pytest.mark.parametrize(
    ("low", "high", "wording"),
    [
        (0.01, 0.1, "gold accuracy rose from"),
        (-0.1, -0.01, "gold accuracy fell from"),
        (-0.01, 0.1, "gold accuracy is unchanged within its 95 % interval"),
        (0.0, 0.1, "gold accuracy is unchanged within its 95 % interval"),
        (-0.1, 0.0, "gold accuracy is unchanged within its 95 % interval"),
        (0.0, 0.0, "gold accuracy is unchanged within its 95 % interval"),
    ],
)
def test_the_wording_follows_the_interval_of_the_change(
    low: float, high: float, wording: str
) -> None:
    table = metric_table([evaluation(0, 0, 0), evaluation(10, low, high)], "unseen")
    assert wording in "".join(text for text, _ in headline(table))


@pytest.mark.parametrize(
    ("low", "high", "verb", "shown"),
    [
        # Sides with an interval of 0.1 have two decimals, their paired change at most three.
        (0.0004, 0.0012, "unchanged", "+0.001 [0.000, +0.001]"),
        (4e-7, 4e-7, "unchanged", "0 [0, 0]"),
        (-0.0012, -0.0004, "unchanged", "−0.001 [−0.001, 0.000]"),
        (0.0006, 0.0014, "rose", "+0.001 [+0.001, +0.001]"),
        (-0.0014, -0.0006, "fell", "−0.001 [−0.001, −0.001]"),
    ],
)
def test_a_verdict_is_taken_on_the_numbers_that_are_shown(
    low: float, high: float, verb: str, shown: str
) -> None:
    table = metric_table([evaluation(0, 0, 0), evaluation(10, low, high)], "unseen")
    assert table is not None
    (row,) = table.metrics
    assert row.change is not None
    assert (row.verb, f"{row.change.value} {row.change.interval}") == (verb, shown)


def test_the_headline_says_a_change_that_its_sides_are_too_coarse_for() -> None:
    rows = [evaluation(0, 0, 0), evaluation(10, 0.002, 0.004)]
    sentence = "".join(text for text, _ in headline(metric_table(rows, "unseen")))
    assert sentence == (
        "On 30 unseen prompts, gold accuracy rose by 0.003 [+0.002, +0.004] from 0.50 [0.40, 0.60]."
    )


def test_a_metric_by_category_has_rows_of_its_own() -> None:
    rows = [evaluation(0, 0, 0), evaluation(10, 0.1, 0.2)]
    for row in rows:
        row |= {
            key.replace("accuracy", "accuracy_two_shapes"): value
            for key, value in row.items()
            if key.startswith("gold_accuracy")
        }
    table = metric_table(rows, "unseen")
    assert table is not None
    assert [row.key for row in table.metrics] == ["gold_accuracy"]
    ((label, (row,)),) = [(part.label, part.rows) for part in table.categories]
    assert (label, row.label, row.verb) == ("Gold accuracy", "two shapes", "rose")


def test_the_latest_evaluation_counts_whatever_the_order() -> None:
    rows = [evaluation(20, 0.1, 0.2), evaluation(0, 0, 0), evaluation(10, -0.2, -0.1)]
    table = metric_table(rows, "unseen")
    assert table is not None and table.final_step == 20
    assert [row.verb for row in table.metrics] == ["rose"]


def test_pictures_are_the_files_side_by_side(run: Path, page: Page) -> None:
    embedded: dict[str, list[str]] = {}
    for attrs in page.all("img"):
        source, alt = attrs["src"], attrs["alt"]
        assert source and alt and attrs["class"] == "pixelated"
        embedded.setdefault(alt, []).append(source.removeprefix("data:image/png;base64,"))
    held_out = json.loads((run / "samples" / "prompts.json").read_text())["held_out"]
    for index, item in enumerate(held_out):
        for name, words in (("base", "base model"), ("final", "fine-tuned model")):
            files = [run / "samples" / name / f"{index:02d}-{k}.png" for k in range(4)]
            expected = [path.read_bytes() for path in files]
            found = embedded[f"{words}: {item['prompt']}"]
            assert [base64.b64decode(data) for data in found] == expected
    strips = sorted(run.glob("samples/step-*/strip-*.png"))
    assert len(page.all("img")) == 2 * 4 * len(held_out) + len(strips)


def test_large_pictures_are_scaled_down_and_not_pixelated(tmp_path: Path) -> None:
    run = fabricate(tmp_path / "run", pictured=1, samples=1, evaluated=(0,))
    for name in ("base", "final"):
        Image.new("RGB", (1024, 512), "red").save(run / "samples" / name / "00-0.png")
    page = Page(write_report(run))
    first = next(img for img in page.all("img") if "base model" in (img["alt"] or ""))
    assert "class" not in first
    data = base64.b64decode((first["src"] or "").removeprefix("data:image/png;base64,"))
    assert Image.open(io.BytesIO(data)).size == (384, 192)


def test_only_pictures_from_the_same_noise_stand_side_by_side(tmp_path: Path) -> None:
    run = fabricate(tmp_path / "run", pictured=1, evaluated=(0,))
    (run / "samples" / "final" / "00-1.png").unlink()
    alts = [img["alt"] or "" for img in Page(write_report(run)).all("img")]
    assert sum("base model" in alt for alt in alts) == 3
    assert sum("fine-tuned model" in alt for alt in alts) == 3


def test_equal_files_give_an_equal_page(run: Path) -> None:
    first = write_report(run).read_bytes()
    assert write_report(run).read_bytes() == first


def test_curves_say_their_first_and_last_value(run: Path, page: Page) -> None:
    rows = read_rows(run / "metrics.jsonl")
    labels = [a["aria-label"] or "" for _, a in page.tags if a.get("role") == "img"]
    reward = next(label for label in labels if label.startswith("Reward over 100 steps"))
    values = [row["reward_mean"] for row in rows]
    expected = [100, values[0], values[-1], min(values), max(values)]
    for (shown, half_unit), true in zip(numbers(reward), expected, strict=True):
        assert abs(shown - true) <= half_unit + 1e-9
    titles = re.findall(r"<figcaption><h3>(.*?)</h3>", page.source)
    assert titles == [
        "CLIP score, reward CLIP", "Gold accuracy", "CLIP score, second CLIP", "CLIP diversity",
        "Reward",
        "Divergence from the reference", "Coefficient β", "Clipped advantages", "Loss",
        "Gradient norm",
    ]  # fmt: skip


def test_time_shares_are_those_of_the_metrics(page: Page) -> None:
    # 3.1, 0.35, 1.2, 0.38 and 0.02 s of 5.05 s a step, 100 steps.
    bar = next(a["aria-label"] for _, a in page.tags if a.get("class") == "bar")
    assert bar == "Sampling 61 %, Scoring 7 %, Policy update 24 %, Reference 8 %, Other < 1 %"
    # A label and its value lie in elements of their own.
    assert "Model calls70,400" in page.text and "Reference rows6,400" in page.text


def test_the_made_up_metrics_are_named_as_real_ones(run: Path) -> None:
    listed = json.loads((run / "samples" / "prompts.json").read_text())["held_out"]
    categories = {item["category"] for item in listed} | set(CATEGORIES)
    for file in ("metrics", "evaluations"):
        for row in read_rows(run / f"{file}.jsonl"):
            assert not unlisted(row, file, "flow", rewards=["clip_score"], categories=categories)


def test_a_run_without_evaluations_and_pictures_says_so(tmp_path: Path) -> None:
    run = fabricate(tmp_path / "run", steps=7, evaluated=(), pictured=0)
    page = Page(write_report(run))
    assert "No evaluation has been written yet." in page.text
    assert "No evaluations yet" in page.text
    assert "No held-out samples yet." in page.text
    # A step of the made-up run takes 5.1 s.
    assert "The run has done 7 of 100 steps; at its pace 7.9 min are left." in page.text


def test_the_word_for_samples_is_the_domains(tmp_path: Path) -> None:
    run = fabricate(tmp_path / "run", steps=7, evaluated=(0,), pictured=0)
    write_facts(RunDirectory.open(run), Facts(domain="audio", samples="recordings"))
    text = Page(write_report(run)).text
    assert "No held-out recordings yet." in text and "· 408 recordings" in text
    assert "adrpo audio" in text


def test_a_column_means_what_its_domain_writes(run: Path) -> None:
    rows = read_rows(run / "metrics.jsonl")
    notes = {}
    for domain in ("flow", "llm", "a domain of tomorrow"):
        figures = {figure.name: figure for figure in training_figures(rows, None, domain)}
        notes[domain] = figures["curve-divergence"].note
    assert notes == {
        "flow": "mean |v − v_ref|² in the update",
        "llm": "mean KL of a token, in nats",
        "a domain of tomorrow": "",
    }


def test_a_run_with_only_the_base_evaluated(tmp_path: Path) -> None:
    run = fabricate(tmp_path / "run", steps=1, evaluated=(0,), pictured=0)
    page = Page(write_report(run))
    assert "CLIP score of the base model is 2" in page.text
    assert page.cells["unseen", "gold_accuracy", "final"] == "–"
    assert page.cells["unseen", "gold_accuracy", "change"] == "–"


def test_nan_is_never_shown(tmp_path: Path) -> None:
    run = fabricate(tmp_path / "run", steps=5, evaluated=(0, 5), pictured=0)
    metrics = read_rows(run / "metrics.jsonl")
    for key in metrics[0].keys() - {"step"}:
        metrics[2][key] = None if key == "loss" else float("nan")
        metrics[4][key] = float("inf")
    evaluations = read_rows(run / "evaluations.jsonl")
    for row in evaluations:
        row["gold_accuracy"] = row["clip_score_low"] = None
        row["clip_diversity_high"] = float("nan")
    for name, rows in (("metrics", metrics), ("evaluations", evaluations)):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (run / f"{name}.jsonl").write_text(text, encoding="utf-8")
    page = Page(write_report(run))
    # Settings, which come last, say "null" where they mean it.
    text, _, settings = page.text.rpartition("Configuration and environment")
    assert settings and not re.search(r"\b(nan|inf|none|null)\b", text, re.IGNORECASE)
    assert page.cells["unseen", "gold_accuracy", "base"] == "–"
    assert "[" not in page.cells["unseen", "clip_score", "base"]
    assert not re.search(r"[\d ](nan|inf)\b", page.source)


def test_a_run_without_a_step_and_an_evaluation_is_refused(tmp_path: Path) -> None:
    run = fabricate(tmp_path / "run", steps=0, evaluated=())
    with pytest.raises(AdrpoError, match="at least one training step"):
        write_report(run)
    assert not (run / "report.html").exists()


def test_a_broken_picture_is_named(tmp_path: Path) -> None:
    run = fabricate(tmp_path / "run", steps=2, evaluated=(0,), pictured=1)
    broken = run / "samples" / "base" / "00-0.png"
    broken.write_bytes(broken.read_bytes()[:60])
    with pytest.raises(AdrpoError, match=re.escape(str(broken))) as caught:
        write_report(run)
    assert "\n" not in str(caught.value)


def test_broken_prompts_are_named(tmp_path: Path) -> None:
    run = fabricate(tmp_path / "run", steps=2, evaluated=(0,), pictured=1)
    (run / "samples" / "prompts.json").write_text('{"strip": []}', encoding="utf-8")
    with pytest.raises(AdrpoError, match=r"'held_out'.*prompts\.json"):
        write_report(run)
