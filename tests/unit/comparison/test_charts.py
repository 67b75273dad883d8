"""A chart of a comparison: a file of its own, and a part of a page in the page's colors."""

import re
from pathlib import Path

import matplotlib as mpl
import numpy as np

import adrpo.report
from adrpo.comparison.canvas import (
    BASE_COLOR,
    COLORS,
    STYLE,
    grid,
    legend,
    save,
    styles_of,
    tell,
    themed,
)


def chart(path: Path) -> None:
    """Save a chart of as many methods as have colors."""
    styles = styles_of([f"<b>{place}" for place in range(len(COLORS))], "<b>0")
    with mpl.rc_context(STYLE):
        figure, axes = grid(1, 1, width=3, height=2)
        for place, (color, marker) in enumerate(styles.values()):
            axes[0][0].plot([0, 1], [place, 1], color=color, marker=marker, mec="white")
        axes[0][0].set_xlabel("step")
        legend(figure, styles, base=True)
        save(figure, path)


def test_a_chart_follows_the_theme_of_its_page(tmp_path: Path) -> None:
    chart(tmp_path / "first.png")
    drawing = themed(tmp_path / "first.png")
    assert drawing is not None and not re.search("#[0-9a-f]{6}", drawing)
    series = {f"var(--series-{place})" for place in range(1, len(COLORS) + 1)}
    known = series | {f"var(--{name})" for name in ("ink", "muted", "line", "grid", "card")}
    assert set(re.findall(r"var\([^)]+\)", drawing)) == known
    # The page's style sheet has them all.
    style = Path(adrpo.report.__file__).parent / "style.css"
    light, dark = style.read_text(encoding="utf-8").split("prefers-color-scheme: dark")[:2]
    for name in (variable[4:-1] for variable in known):
        assert f"{name}:" in light and f"{name}:" in dark
    assert "&lt;b&gt;0" in drawing and "<b>" not in drawing


def test_its_file_has_colors_of_its_own(tmp_path: Path) -> None:
    chart(tmp_path / "first.png")
    alone = (tmp_path / "first.svg").read_text(encoding="utf-8")
    assert "var(" not in alone and {BASE_COLOR, *COLORS} <= set(re.findall("#[0-9a-f]{6}", alone))


def test_two_charts_of_a_page_share_no_id(tmp_path: Path) -> None:
    ids: list[str] = []
    for name in ("first", "second"):
        chart(tmp_path / f"{name}.png")
        drawing = themed(tmp_path / f"{name}.png")
        assert drawing is not None
        own = re.findall(r'\bid="([^"]+)"', drawing)
        assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', drawing)) <= set(own)
        ids += own
    assert ids and len(ids) == len(set(ids))


def test_equal_charts_are_equal_files_and_pictures_are_none(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        chart(tmp_path / folder / "first.png")
    for file in ("first.svg", "first.png"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    with mpl.rc_context(STYLE):
        save(grid(1, 1, width=1, height=1)[0], tmp_path / "pictures.png", vector=False)
    assert themed(tmp_path / "pictures.png") is None


def test_a_pointer_finds_the_values_of_a_chart(tmp_path: Path) -> None:
    with mpl.rc_context(STYLE):
        figure, axes = grid(1, 2, width=3, height=2)
        steps = [0, 10, 20]
        axes[0][0].set(xlabel="step", title="")
        axes[0][0].set_title("gold <accuracy>", loc="left")
        tell(axes[0][0], "a&b", steps, np.array(steps), np.array([0.25, np.nan, 0.5]))
        axes[0][1].set(xlabel="divergence", ylabel="reward")
        tell(axes[0][1], "base", [0], np.array([0.125]), np.array([2.0]))
        save(figure, tmp_path / "told.png")
    drawing = themed(tmp_path / "told.png")
    assert drawing is not None
    # A value that is none has no point.
    assert re.findall("<title>(.*?)</title>", drawing) == [
        "a&amp;b, step 0: gold &lt;accuracy&gt; 0.25",
        "a&amp;b, step 20: gold &lt;accuracy&gt; 0.5",
        "base, step 0: reward 2, divergence 0.125",
    ]
    # Each is a disk that no one sees, and a pointer does: it has a color.
    assert drawing.count("opacity: 0") >= 3 and "fill: none; opacity: 0" not in drawing


def test_a_legend_of_many_long_names_is_seen_whole() -> None:
    names = [f"a loss of another group, its penalty {place}" for place in range(len(COLORS))]
    with mpl.rc_context(STYLE):
        figure, _ = grid(1, 1, width=9, height=2)
        legend(figure, styles_of(names, names[0]), base=True)
        (box,) = figure.legends
        figure.canvas.draw()
        assert len(box.get_texts()) == len(names) + 1
        assert box.get_window_extent().x1 <= figure.bbox.x1
