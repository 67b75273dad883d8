"""The sizes of a family's latents and images."""

from dataclasses import dataclass

from adrpo.errors import AdrpoError


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """Sizes of a family's latents and images.

    ``channels`` of a latent; ``factor``, pixels a latent's side; ``multiple``, of which an image's
    height and width must be, in pixels; ``default``, the side of its images where none is named;
    ``largest``, the longest side that the network has places for, None where it has for all.
    """

    channels: int
    factor: int
    multiple: int
    default: int
    largest: int | None = None

    def check(self, name: str, where: str = "model.", **sides: int) -> None:
        """Raise AdrpoError for a side of an image, ``height`` or ``width``, that a pipeline of
        class ``name`` can't draw; ``where`` stands before the side's name."""
        for side, pixels in sides.items():
            if pixels % self.multiple:
                raise AdrpoError(
                    f"{where}{side}: expected a multiple of {self.multiple} pixels for {name}; "
                    f"received {pixels}"
                )
            if self.largest is not None and pixels > self.largest:
                raise AdrpoError(
                    f"{where}{side}: expected at most {self.largest} pixels for {name}, whose "
                    f"table of positions ends there; received {pixels}; null is {self.default}"
                )
