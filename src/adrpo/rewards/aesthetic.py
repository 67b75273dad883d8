"""The LAION aesthetic predictor."""

from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image

from adrpo.errors import AdrpoError
from adrpo.rewards.conversion import read_checkpoint
from adrpo.rewards.image import ClipScore
from adrpo.rewards.linear_head import linear_head

PUBLISHED = (
    "the aesthetic predictor's 'sac+logos+ava1-l14-linearMSE.pth' "
    "(github.com/christophschuhmann/improved-aesthetic-predictor)"
)


class AestheticScore:
    """Aesthetic score of an image: about 1 to 10, greater is more pleasing; the prompt is ignored.

        aesthetic = head(e / |e|),   e the image embedding of CLIP ViT-L/14

    The head is the published stack of linear layers without activations, hence
    ``w . e/|e| + b`` with |w| near 18.0 and b near 5.24: no image leaves [-12.8, 23.2]. Diffusion
    models lie near 5 to 6.5. Source: christophschuhmann/improved-aesthetic-predictor (Apache-2.0),
    the linear-MSE weights, as in ImageReward (arXiv 2304.05977). LAION's older one-layer
    ``sa_0_4_vit_l_14_linear.pth`` is another predictor and is refused.

    Images pass the CLIP model's own image processor, with Pillow's resizing: the shortest side
    becomes 224 (bicubic), then the center is cropped.

    Args:
        weights: ``sac+logos+ava1-l14-linearMSE.pth`` (3,714,759 bytes, sha256 21dd590f...f0e1) of
            the repository above, or its conversion to safetensors.
        clip: the CLIP model that ``ClipScore`` takes; the head was trained on OpenAI's ViT-L/14.
        device: where the models run, in float32.
        batch_size: images per forward pass; a memory knob.

    Raises:
        AdrpoError: the weights or the CLIP model can't be found or read, or do not fit each other.
    """

    def __init__(
        self,
        weights: str | Path,
        clip: str | Path = "openai/clip-vit-large-patch14",
        device: str | torch.device = "cpu",
        batch_size: int = 64,
    ) -> None:
        tensors = read_checkpoint(weights, published=PUBLISHED)
        self._head = linear_head(tensors, prefix="layers.", source=str(weights)).to(device)
        self._clip = ClipScore(clip, device, batch_size)
        self._device = torch.device(device)
        expected = tensors["layers.0.weight"].shape[1]
        # Texts and images are embedded in one space.
        received = self._clip.embed_texts(["an image"]).shape[1]
        if received != expected:
            raise AdrpoError(
                f"expected a CLIP model with embeddings of {expected} numbers for the aesthetic "
                f"head {str(weights)!r}, received {received} from {str(clip)!r}: the published "
                "head needs OpenAI's ViT-L/14"
            )

    @torch.inference_mode()
    def __call__(self, prompts: list[str], images: list[Image], **columns: Any) -> list[float]:
        """One score an image."""
        embeds = self._clip.embed_images(images).to(self._device)
        return self._head(embeds)[:, 0].tolist()
