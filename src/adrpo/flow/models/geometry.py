"""The sizes of a family's latents and images."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """Sizes of a family's latents and images.

    ``channels`` of a latent; ``factor``, pixels a latent's side; ``multiple``, of which an image's
    height and width must be, in pixels; ``default``, the side of its images where none is named.
    """

    channels: int
    factor: int
    multiple: int
    default: int
