"""The README's picture: what the base and the fine-tuned model draw from the same noises."""

import json
import textwrap
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from PIL import Image

from adrpo.runs.directory import RunDirectory

ROWS = 6
PIXELS = 64
MAGNIFIED = 2


def _row(folder: Path, place: int) -> Image.Image:
    """The pictures of one prompt side by side, magnified as crisp pixels."""
    files = sorted(folder.glob(f"{place:02d}-*.png"))
    side = PIXELS * MAGNIFIED
    row = Image.new("RGB", (len(files) * (side + 4) - 4, side), "white")
    for column, file in enumerate(files):
        with Image.open(file) as image:
            crisp = image.resize((side, side), Image.Resampling.NEAREST)
        row.paste(crisp, (column * (side + 4), 0))
    return row


def draw_comparison(run_folder: Path, file: Path) -> None:
    """Base | fine-tuned for the first held-out prompt of each category of a run."""
    run = RunDirectory.open(run_folder)
    listing = json.loads((run.samples / "prompts.json").read_text(encoding="utf-8"))
    shown = listing["held_out"][:ROWS]
    figure, axes = plt.subplots(len(shown), 2, figsize=(9, 0.96 * len(shown) + 0.3), squeeze=False)
    for place, item in enumerate(shown):
        for axis, side in zip(axes[place], ("base", "final"), strict=True):
            axis.imshow(_row(run.samples / side, place))
            axis.set_axis_off()
        axes[place][0].text(
            -0.03,
            0.5,
            textwrap.fill(item["prompt"], 18),
            transform=axes[place][0].transAxes,
            ha="right",
            va="center",
            fontsize=9,
        )
    axes[0][0].set_title("base", fontsize=11)
    axes[0][1].set_title("fine-tuned, same noises", fontsize=11)
    figure.subplots_adjust(left=0.2, right=0.99, top=0.94, bottom=0.01, wspace=0.04, hspace=0.08)
    figure.savefig(file, dpi=110)
    plt.close(figure)
