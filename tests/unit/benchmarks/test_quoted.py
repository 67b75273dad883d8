"""The check of quoted figures: it holds now, and it fails for each fault that it is there for."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)


def test_every_figure_with_an_interval_is_what_its_rows_say():
    from quoted import check, documents

    assert check(documents()) == []


def page(name: str = "README.md") -> tuple[str, list[Any]]:
    from quoted import documents
    from quoted_list import entries, listing

    return documents()[name], entries(listing()["documents"][name])


@pytest.mark.parametrize("part", ["mean", "low", "high", "tells"])
def test_a_number_that_is_changed_by_hand_fails_and_is_written_back(part: str):
    from quoted import check_document, places, write_document

    name = "docs/results/text-to-image.md"
    text, listed = page(name)
    figures = [place.figure for place in places(text, listed) if place.figure is not None]
    figure = next(match for match in figures if match["tells"])
    # One digit more: another number, whatever it is.
    changed = f"{text[: figure.end(part)]}1{text[figure.end(part) :]}"
    (problem,) = check_document(name, changed, listed)
    line = text[: figure.start()].count("\n") + 1
    assert problem.startswith(f"{name}:{line}: expected") and "--write" in problem
    written, changes = write_document(name, changed, listed)
    assert written == text and len(changes) == 1 and figure.group() in changes[0]


def test_a_number_of_a_table_that_is_changed_by_hand_fails_and_is_written_back():
    from quoted import check_document, places, write_document

    text, listed = page()
    table = places(text, listed)[0]
    assert table.figure is None
    for old, new in ((" → 0.", " → 1."), ("]", "1]")):
        rows = table.text.replace(old, new, 1)
        changed = text.replace(table.text, rows)
        (problem,) = check_document("README.md", changed, listed)
        assert "improvement/table.md has" in problem and "--write" in problem
        assert write_document("README.md", changed, listed)[0] == text


def test_a_figure_that_is_not_listed_fails():
    from quoted import check_document

    text, listed = page()
    line = text.count("\n") + 1
    for figure in ("0.5 [0.4, 0.6]", "+1,200 [-3.5,\n12]", "**0.5 ± 0.1**\\* [0.4, 0.6]"):
        (problem,) = check_document("README.md", f"{text}It is {figure}.\n", listed)
        assert problem.startswith(f"README.md:{line}: expected a figure that quoted.yaml lists")
    # Before the first one: the others keep their places.
    (problem,) = check_document("README.md", f"It is 0.5 [0.4, 0.6].\n\n{text}", listed)
    assert problem.startswith("README.md:1:")
    assert check_document("page.md", "It is 0.5 [0.4, 0.6].\n", [])


def test_an_interval_without_its_number_fails_unless_it_is_one_of_values():
    from quoted import check_document

    for text in ("A in [-1, 1].", "Paper: [-5, 5].", "`0.5 [0.4, 0.6]`", "```\n5 [4, 6]\n```\n"):
        assert check_document("page.md", text, []) == []
    (problem,) = check_document("page.md", "\nThe interval is [0.4, 0.6].", [])
    assert problem.startswith("page.md:2: expected a number before an interval")


def test_an_entry_whose_figure_is_gone_fails():
    from quoted import check, check_document, places

    text, listed = page()
    place = places(text, listed)[-2]
    gone = text[: place.start] + text[place.end :]
    (problem,) = check_document("README.md", gone, listed)
    assert listed[-2].source in problem
    assert "take it off the list" in problem
    assert any(
        "docs/results/mixture.md; take it out" in line for line in check({"README.md": text})
    )


def test_numbers_are_not_written_where_the_list_is_not_that_of_the_text():
    from quoted import write_document

    from adrpo.errors import AdrpoError

    text, listed = page()
    with pytest.raises(AdrpoError, match=r"README\.md:.*quoted\.yaml lists"):
        write_document("README.md", f"{text}It is 0.5 [0.4, 0.6].\n", listed)


def test_a_path_that_a_summary_lacks_names_what_there_is():
    from quoted_list import Figure

    from adrpo.errors import AdrpoError

    with pytest.raises(AdrpoError, match=r"flow/demo.*received 'flow/dmo'"):
        Figure("improvement > test > change > flow/dmo > clip_score", ".2f").said()
    with pytest.raises(AdrpoError, match="mean, low and high"):
        Figure("improvement > test > change > flow/demo", ".2f").said()


def test_a_committed_file_that_its_rows_do_not_make_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import recomputed

    assert recomputed.differences("mixture") == []
    shutil.copytree(recomputed.RESULTS / "mixture", tmp_path / "mixture")
    monkeypatch.setattr(recomputed, "RESULTS", tmp_path)
    path = tmp_path / "mixture/summary.json"
    summary = json.loads(path.read_text())
    summary["settings"]["no anchor"]["reward"]["high"] += 0.001
    path.write_text(json.dumps(summary))
    (problem,) = recomputed.differences("mixture")
    assert "settings > no anchor > reward > high" in problem and "mixture.py --redraw" in problem
    table = tmp_path / "mixture/table.md"
    table.write_text(table.read_text() + "| one more |\n")
    assert len(recomputed.differences("mixture")) == 2


def test_a_folder_that_does_not_say_how_it_was_made_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import quoted
    import recomputed

    folder = tmp_path / "unsaid"
    folder.mkdir()
    monkeypatch.setattr(recomputed, "RESULTS", tmp_path)
    (folder / "summary.json").write_text(
        json.dumps({"environment": {"git": None, "cpu": "", "cores": 2}})
    )
    parts = ("command", "commit", "seeds")
    problems = quoted.unnamed("unsaid")
    assert [problem.split()[2:] for problem in problems] == [
        f"its {part}; received none; write it by its command".split() for part in parts
    ]
