"""The guidance sweep: what classifier-free guidance alone gives, without any training.

The untrained base is drawn with v_uncond + w (v_cond - v_uncond) at each scale w, on the prompts
and noises of an evaluation. w = 1 is the conditional model; a greater w costs two evaluations of
the network where w = 1 costs one.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adrpo.data.base import Prompt
from adrpo.evaluation.door import Guides
from adrpo.evaluation.sweeps import Sweep, read_sweeps, write_sweeps

FILE = "guidance.json"
"""The file in which a comparison keeps its guidance sweep."""

SETTING = "guidance"


def read_guidance(path: Path) -> Sweep:
    """Scale -> metrics of the guided base; empty where there is no file.

    Raises AdrpoError where the file holds something else.
    """
    return read_sweeps(path, SETTING)[0]


def missing_scales(path: Path, scales: Sequence[float]) -> list[float]:
    """The ``scales`` that the file ``path`` lacks."""
    return sorted(set(scales) - read_guidance(path).keys())


def complete_guidance(
    path: Path,
    door: Guides,
    config: Any,
    scales: Sequence[float],
    held_out: Sequence[Prompt] | None = None,
) -> None:
    """Measure the base of ``config`` at the ``scales`` that the file ``path`` lacks, on
    ``held_out`` or the prompts of its settings, and add each as it is measured; what the file has
    stays as it is."""
    sweep = read_guidance(path)
    for scale, evaluator in door.guided(config, missing_scales(path, scales), held_out):
        sweep[scale] = evaluator.measure().values
        write_sweeps(path, SETTING, sweep)
