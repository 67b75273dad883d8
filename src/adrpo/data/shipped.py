"""Prompt sets that ship with the package: written for it, so under its own licence."""

from collections.abc import Callable
from pathlib import Path

from adrpo.data.base import Prompt
from adrpo.data.rows import read_prompts

ARTISTS = {
    "Bosch": 1516,
    "Botticelli": 1510,
    "Caravaggio": 1610,
    "Cézanne": 1906,
    "Hokusai": 1849,
    "Klimt": 1918,
    "Monet": 1926,
    "Morisot": 1895,
    "Munch": 1944,
    "Rembrandt": 1669,
    "Seurat": 1891,
    "Turner": 1851,
    "Van Gogh": 1890,
    "Vermeer": 1675,
}
"""Artist -> year of death. More than 70 years ago: their works are in the public domain."""

OBJECTS = (
    "armchair",
    "bicycle",
    "bridge",
    "goose",
    "horse",
    "kettle",
    "lantern",
    "lemon tree",
    "lighthouse",
    "owl",
    "rowing boat",
    "steam train",
    "teapot",
    "umbrella",
    "violin",
    "windmill",
)


def drawbench_style() -> list[Prompt]:
    """180 prompts of the kinds that DrawBench asks for, none of them from DrawBench.

    Categories are named as in DrawBench (Saharia et al., arXiv 2205.11487), so that a model
    trained on these can be evaluated on those, category by category: Colors, Counting,
    Positional, Text, Conflicting, Descriptions, DALL-E (shapes, materials, points of view),
    Gary Marcus et al. (parts, wholes and relations in several clauses), Misspellings, Rare Words,
    Reddit (whimsical scenes with a medium or a style). The names "DALL-E", "Gary Marcus et al."
    and "Reddit" say which kind a prompt is, not where it comes from.
    """
    return read_prompts(str(Path(__file__).parent / "sets" / "drawbench_style.jsonl"))


def art_style() -> list[Prompt]:
    """ "{artist} style {object}" for each of ARTISTS and each of OBJECTS, category = artist.

    The kind of prompt on which RAFT (Dong et al., arXiv 2304.06767) shows style transfer; its
    own list is unpublished. Split in halves, what is held out is combinations: each artist
    stands on both sides.
    """
    return [Prompt(f"{artist} style {thing}", artist) for artist in ARTISTS for thing in OBJECTS]


SHIPPED: dict[str, Callable[[], list[Prompt]]] = {
    "drawbench-style": drawbench_style,
    "art-style": art_style,
}
"""Name of a shipped set -> what gives it."""
