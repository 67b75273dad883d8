"""One minute pipeline for each supported family that edits, as those of tests/tiny_pipelines.py."""

from typing import Any

from diffusers import FluxKontextPipeline

from support.family import Family, plain
from support.tiny_pipelines import FAMILIES, flux


def flux_kontext() -> Any:
    """FLUX.1 dev's parts: the network and its sizes are the same."""
    return FluxKontextPipeline(**flux(distilled=True).components)


EDITORS = {
    "flux kontext": Family(
        flux_kontext,
        plain,
        options={"_auto_resize": False, "max_area": None},  # that of the edit
        edits=True,
    ),
}
ALL = FAMILIES | EDITORS
