"""The untrained base by guidance and by best of n: rows of Table 1 and lines of the figures."""

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adrpo.cli.compare import _check_guidance
from adrpo.comparison import Plan, collect, figures, write_results
from adrpo.comparison.analysis import analyse, to_json
from adrpo.comparison.reference_lines import BY_CHANCE, BY_GUIDANCE, BY_REWARD, read_lines
from adrpo.errors import AdrpoError
from adrpo.evaluation.sweeps import Sweep, write_sweeps
from support.command_line import Command
from support.fabricated_comparison import fabricate_comparison

SHIFTS = {1.0: 0.0, 1.5: 0.5, 3.0: 2.0}
"""Guidance -> what it adds to every value."""

ROWS = [
    "base, guidance 1.5", "base, guidance 3", "best of 4 by the reward", "best of 16 by the reward",
    "best of 4 by chance", "best of 16 by chance",
]  # fmt: skip


def base_values(plan: Plan) -> dict[str, np.ndarray]:
    file = plan.run_folder(plan.methods[0], 0) / "samples/step-000000/values.json"
    return {name: np.array(table) for name, table in json.loads(file.read_text()).items()}


def shifted(plan: Plan, by: float) -> dict[str, np.ndarray]:
    return {name: table + by for name, table in base_values(plan).items()}


def selected(plan: Plan, gain: float) -> Sweep:
    return {n: shifted(plan, gain * np.log2(n)) for n in (1, 4, 16)}


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return fabricate_comparison(tmp_path / "cmp", methods=("ours", "fixed"), seeds=2, prompts=8)


@pytest.fixture
def measured(plan: Plan) -> Plan:
    """``plan`` with both files."""
    sweep: Sweep = {scale: shifted(plan, by) for scale, by in SHIFTS.items()}
    write_sweeps(plan.folder / "guidance.json", "guidance", sweep)
    by_chance = selected(plan, 0.01)
    write_sweeps(plan.folder / "best-of-n.json", "n", selected(plan, 0.3), by_chance=by_chance)
    return plan


def drawn(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The figures of a comparison by the names of their files, not written."""
    found: dict[str, Any] = {}
    monkeypatch.setattr(figures, "save", lambda figure, path: found.setdefault(path.name, figure))
    write_results(collect(plan), "adrpo compare")
    return found


def panels(figure: Any) -> dict[tuple[str, str], Any]:
    """(label below, label beside) -> panel."""
    return {(panel.get_xlabel(), panel.get_ylabel()): panel for panel in figure.axes}


def test_they_are_rows_that_are_neither_ranked_nor_tested(measured: Plan) -> None:
    write_results(collect(measured), "adrpo compare")
    table = (measured.folder / "table-unseen.md").read_text()
    lines = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("|")]
    assert lines == ["", "---", "base", *ROWS, "ours", "fixed"]
    by_name = dict(zip(lines, (line for line in table.splitlines() if "|" in line), strict=True))
    assert not any("**" in by_name[name] for name in ROWS)

    cells = csv.DictReader(io.StringIO((measured.folder / "table-unseen.csv").read_text()))
    found = {(row["method"], row["metric"]): row for row in cells}
    base = base_values(measured)
    gains = [0.5, 2.0, 0.6, 1.2, 0.02, 0.04]
    for name, gain in zip(ROWS, gains, strict=True):
        row = found[name, "gold_accuracy"]
        assert float(row["mean"]) == pytest.approx(base["gold_accuracy"].mean() + gain, rel=1e-12)
        assert float(row["low"]) < float(row["mean"]) < float(row["high"])
        assert (row["seeds"], row["standard_error"], row["difference"]) == ("1", "", "")
    # A guided field has a divergence; a selection among samples has no field.
    assert float(found["base, guidance 3", "divergence"]["mean"]) == pytest.approx(2, rel=1e-12)
    assert not any((name, "divergence") in found for name in ROWS[2:])
    assert by_name["best of 4 by chance"].endswith("| – |")
    assert "guidance" not in (measured.folder / "table-seen.md").read_text()


def test_the_summary_names_the_rows_of_each_line(measured: Plan) -> None:
    summary = to_json(analyse(collect(measured)))
    assert summary["lines"] == {
        BY_GUIDANCE: {"1": "base", "1.5": ROWS[0], "3": ROWS[1]},
        BY_REWARD: {"n = 1": "base", "n = 4": ROWS[2], "n = 16": ROWS[3]},
        BY_CHANCE: {"n = 1": "base", "n = 4": ROWS[4], "n = 16": ROWS[5]},
    }
    assert list(summary["splits"]["unseen"]["others"]) == ROWS
    assert summary["splits"]["seen"]["others"] == {}


@pytest.mark.parametrize("file", ["trajectories-unseen.png", "fronts-unseen.png"])
def test_the_lines_stand_in_every_panel_whose_metrics_they_have(
    measured: Plan, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    base = {name: table.mean() for name, table in base_values(measured).items()}
    found = panels(drawn(measured, monkeypatch)[file])
    known = {BY_GUIDANCE: [0, 0.5, 2], BY_REWARD: [0, 0.6, 1.2], BY_CHANCE: [0, 0.02, 0.04]}
    for price, x in (("clip_diversity", "CLIP diversity"), ("divergence", "Divergence")):
        panel = found[x, "Gold accuracy"]
        lines = {line.get_label(): line for line in panel.lines}
        expected = known if price == "clip_diversity" else {BY_GUIDANCE: known[BY_GUIDANCE]}
        assert known.keys() & lines.keys() == expected.keys()
        for name, gains in expected.items():
            every = lines[name].get_markevery()
            x_data, y_data = lines[name].get_data()
            gold = base["gold_accuracy"] + np.array(gains)
            assert x_data[::every] == pytest.approx(base[price] + np.array(gains))
            assert y_data[::every] == pytest.approx(gold)
            between = np.interp(x_data, x_data[::every], y_data[::every])
            if price == "divergence":
                # Straight in the root of the price, the line lies above its chords.
                root = np.interp(np.sqrt(x_data), np.sqrt(x_data[::every]), gold)
                assert y_data == pytest.approx(root) and np.all(y_data >= between - 1e-12)
                assert np.max(y_data - between) > 0.05
            else:
                assert y_data == pytest.approx(between)
        written = {text.get_text(): text.xy for text in panel.texts}
        # By chance nothing is written, and the base has a mark of its own.
        assert written.keys() == {"1.5", "3"} | (
            {"n = 4", "n = 16"} if len(expected) > 1 else set()
        )
        assert written["3"] == pytest.approx((base[price] + 2, base["gold_accuracy"] + 2))


def test_trajectories_keep_the_scale_of_the_methods(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same limits with the lines as without, and all of the lines in the other figure."""
    alone = panels(drawn(plan, monkeypatch)["trajectories-unseen.png"])
    sweep: Sweep = {scale: shifted(plan, by) for scale, by in SHIFTS.items()}
    write_sweeps(plan.folder / "guidance.json", "guidance", sweep)
    found = drawn(plan, monkeypatch)
    beside, whole = (panels(found[f"{name}-unseen.png"]) for name in ("trajectories", "fronts"))
    for key, panel in alone.items():
        assert beside[key].axis() == pytest.approx(panel.axis())
        (line,) = (line for line in whole[key].lines if line.get_label() == BY_GUIDANCE)
        left, right, low, high = whole[key].axis()
        assert left < min(line.get_xdata()) and max(line.get_xdata()) < right
        assert low < min(line.get_ydata()) and max(line.get_ydata()) < high
    assert found.keys() >= {"trajectories-seen.png"} and "fronts-seen.png" not in found


def test_without_the_files_nothing_is_added(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    summary = to_json(analyse(collect(plan)))
    assert summary["lines"] == {} == summary["splits"]["unseen"]["others"]
    found = drawn(plan, monkeypatch)
    assert not any(name.startswith(("fronts", "best-of-n")) for name in found)
    (legend,) = found["trajectories-unseen.png"].legends
    assert [text.get_text() for text in legend.get_texts()] == ["base", "ours", "fixed"]


def test_they_change_no_other_number(plan: Plan) -> None:
    alone = to_json(analyse(collect(plan)))
    sweep: Sweep = {scale: shifted(plan, by) for scale, by in SHIFTS.items()}
    write_sweeps(plan.folder / "guidance.json", "guidance", sweep)
    beside = to_json(analyse(collect(plan)))
    assert beside.pop("lines") and not alone.pop("lines")
    assert beside["splits"]["unseen"].pop("others")
    assert alone["splits"]["unseen"].pop("others") == {}
    assert alone == beside


def test_a_selection_of_completions_has_its_kl(plan: Plan) -> None:
    """Of the distances from the base, the one that a selection has: of each prompt one value."""
    values = shifted(plan, 0) | {"kl": np.full((8, 1), 0.5)}
    write_sweeps(plan.folder / "best-of-n.json", "n", {4: values}, by_chance={4: values})
    rows, _ = read_lines(plan.folder, 1.0, 8)
    assert "divergence" in values
    for row in rows.values():
        assert row.keys() == values.keys() - {"divergence"}
        assert np.array_equal(row["kl"], np.full((1, 8, 1), 0.5))


def test_a_base_that_is_guided_itself_stands_at_its_scale(plan: Plan) -> None:
    sweep: Sweep = {scale: shifted(plan, by) for scale, by in SHIFTS.items()}
    write_sweeps(plan.folder / "guidance.json", "guidance", sweep)
    rows, (line,) = read_lines(plan.folder, 1.5, 8)
    assert list(rows) == ["base, guidance 1", "base, guidance 3"]
    assert line.points == {"1": "base, guidance 1", "1.5": "base", "3": "base, guidance 3"}
    # Drawn with one guidance and trained with another: its divergence of 0 is of the latter.
    (line,) = read_lines(plan.folder, None, 8)[1]
    assert list(line.points.values()) == [f"base, guidance {scale}" for scale in ("1", "1.5", "3")]


def test_values_of_other_prompts_are_refused(plan: Plan) -> None:
    sweep: Sweep = {1.5: {"gold_accuracy": np.zeros((7, 4))}}
    write_sweeps(plan.folder / "guidance.json", "guidance", sweep)
    with pytest.raises(AdrpoError, match=r"8 prompts; received a table of shape \[7, 4\]"):
        collect(plan)


def test_a_row_of_their_names_is_refused(measured: Plan) -> None:
    folder = measured.folder.parent / ROWS[0]
    shutil.copytree(measured.run_folder(measured.methods[0], 0), folder)
    with pytest.raises(AdrpoError, match=r"'base, guidance 1\.5' beside.*rename"):
        collect(measured, [folder])


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        (("--guidance", "1.5", "--guidance", "1.75"), "(1, 1.5, 3); received 1.75;"),
        (("--best-of", "4", "--best-of", "8"), "(1, 4, 16); received 8;"),
    ],
)
def test_what_is_not_measured_is_not_left_out_in_silence(
    measured: Plan, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    asked: tuple[str, ...], named: str,
) -> None:  # fmt: skip
    command = Command(monkeypatch, capsys)
    recipes = [method.recipe for method in measured.methods]
    folder = ["--output-dir", str(measured.folder)]
    assert command("compare", *recipes, "--seeds", "2", "--summary-only", *folder, *asked) == 2
    assert named in command.err and asked[0] in command.err and command.err.count("\n") == 1


def test_scales_are_numbers_of_1_or_more(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(AdrpoError, match="a number of 1 or more; received inf"):
        _check_guidance(plan, [float("inf")])
    assert Command(monkeypatch, capsys)("compare", "flow/demo", "--guidance", "0.5") == 2
