"""The pictures of a comparison's methods, side by side in one file."""

import textwrap
from pathlib import Path
from typing import Any

import matplotlib as mpl
from PIL import Image

from adrpo.comparison.canvas import BASE_COLOR, STYLE, Drawing, grid, save
from adrpo.comparison.collect import Results, read_listing

PICTURED_PROMPTS = 6
BLOCK_PIXELS = 160
"""Side of a method's pictures of one prompt in the picture grid."""

GAP_PIXELS = 8


def draw_pictures(results: Results, path: Path) -> Drawing | None:
    """Prompt x method, from each method's first seed; the same noises along a row."""
    folders = {name: method.folders[0] for name, method in results.methods.items()}
    first = folders[results.plan.reference]
    prompts = [str(item["prompt"]) for item in read_listing(first)["held_out"]][:PICTURED_PROMPTS]
    columns = {"base": first / "samples" / "base"}
    columns |= {name: folder / "samples" / "final" for name, folder in folders.items()}
    if not any(columns["base"].glob("*.png")):
        return None
    # One picture of all: hundreds of axes would take a minute to lay out.
    pitch = BLOCK_PIXELS + GAP_PIXELS
    sheet = Image.new("RGB", (pitch * len(columns), pitch * len(prompts)), "white")
    for row in range(len(prompts)):
        for column, folder in enumerate(columns.values()):
            sheet.paste(_block(folder, row), (column * pitch, row * pitch))
    style: dict[Any, Any] = {**STYLE, "axes.grid": False, "xtick.labeltop": True}
    with mpl.rc_context(style):
        figure, axes = grid(1, 1, width=1.2 * len(columns) + 1.6, height=1.2 * len(prompts) + 0.3)
        panel = axes[0][0]
        panel.imshow(sheet)
        centers = [BLOCK_PIXELS / 2 + pitch * place for place in range(len(columns))]
        panel.set_xticks(centers, [textwrap.fill(name, 15) for name in columns], fontsize=8.5)
        panel.tick_params(labelbottom=False, labelcolor=BASE_COLOR)
        panel.set_yticks(
            [BLOCK_PIXELS / 2 + pitch * place for place in range(len(prompts))],
            [textwrap.fill(prompt, 24) for prompt in prompts],
            fontsize=8.5,
        )
        for spine in panel.spines.values():
            spine.set_visible(False)
        save(figure, path, vector=False)
    return Drawing(
        path,
        "Pictures",
        f"Held-out prompts, seed {results.seeds[0]}; pictures at the same place start from the "
        "same noise.",
        f"Pictures of the base and {len(results.methods)} methods for {len(prompts)} prompts.",
    )


def _block(folder: Path, prompt: int) -> Image.Image:
    """Up to four pictures of a prompt as a square."""
    files = sorted(folder.glob(f"{prompt:02d}-*.png"))[:4]
    columns = 1 if len(files) == 1 else 2
    side = BLOCK_PIXELS // columns
    block = Image.new("RGB", (BLOCK_PIXELS, BLOCK_PIXELS), "white")
    for place, file in enumerate(files):
        with Image.open(file) as picture:
            method = (
                Image.Resampling.NEAREST if max(picture.size) <= side else Image.Resampling.LANCZOS
            )
            largest = side - 2
            # In its proportions: a run may have pictures of several.
            sides = [max(1, round(largest * s / max(picture.size))) for s in picture.size]
            shown = picture.convert("RGB").resize((sides[0], sides[1]), method)
        margins = [(largest - s) // 2 for s in shown.size]
        corner = (place % columns * side + margins[0], place // columns * side + margins[1])
        block.paste(shown, corner)
    return block
