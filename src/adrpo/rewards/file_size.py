"""The size of an image file: a reward without a model, to try a training setup with."""

import io
from typing import Any

from PIL.Image import Image

from adrpo.errors import AdrpoError


class JpegSize:
    """Size of the image as a JPEG file, in kB (1000 bytes): incompressibility.

        jpeg_size = bytes / 1000

    Greater than 0; detail and noise raise it. With ``weight: -1`` the term rewards
    compressibility. The size grows with the number of pixels and with the quality: compare values
    of one resolution and quality only. Source: the (in)compressibility rewards of DDPO
    (arXiv 2305.13301), which use quality 95. The prompt is ignored.

    Args:
        quality: of the JPEG encoder, 1 to 95, as Pillow counts it; chroma is halved (4:2:0).

    Raises:
        AdrpoError: the quality is out of range.
    """

    def __init__(self, quality: int = 95) -> None:
        if not 1 <= quality <= 95:
            raise AdrpoError(f"jpeg_size: expected a quality from 1 to 95, received {quality!r}")
        self.quality = quality

    def __call__(self, prompts: list[str], images: list[Image], **columns: Any) -> list[float]:
        """One size in kB an image."""
        return [self._kilobytes(image) for image in images]

    def _kilobytes(self, image: Image) -> float:
        file = io.BytesIO()
        image.convert("RGB").save(file, format="JPEG", quality=self.quality, subsampling="4:2:0")
        return file.tell() / 1000
