"""Image metrics as pure functions of CLIP embeddings.

Embeddings need not be normalized: every metric here depends on their directions only, and is
computed in float32 whatever their dtype. An embedding of length zero has no direction; its
metric is NaN, which :mod:`adrpo.evaluation.statistics` refuses.
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from adrpo.errors import AdrpoError

DiversityKind = Literal["cosine100", "l2_unit"]


def _unit(embeds: Tensor) -> Tensor:
    embeds = embeds.float()
    return embeds / embeds.norm(dim=-1, keepdim=True)


def clip_score(
    image_embeds: Float[Tensor, "n d"], text_embeds: Float[Tensor, "n d"]
) -> Float[Tensor, " n"]:
    """CLIP score of each image for its own prompt.

        clip_score_i = 100 cos(image_i, text_i)

    Range [-100, 100], no clamp and no prompt prefix; for photographs and a CLIP of OpenAI's it
    lies near 20 to 35. Higher is a better match. The value depends on the CLIP model, so print
    the model beside it. No reduction: one value an image.

    Source: the cosine similarity of arXiv 2510.18053's ClipScore. The factor 100 is inferred from
    the values reported there (29 to 33).
    """
    if image_embeds.shape != text_embeds.shape:
        raise AdrpoError(
            f"clip_score: expected image_embeds and text_embeds of one shape [n, d]; received "
            f"{list(image_embeds.shape)} and {list(text_embeds.shape)}; pass one text per image, "
            f"embedded by the same CLIP"
        )
    return 100 * (_unit(image_embeds) * _unit(text_embeds)).sum(-1)


def clip_diversity(
    image_embeds: Float[Tensor, "prompts K d"],
    *,
    kind: DiversityKind = "cosine100",
    among: Bool[Tensor, "prompts K"] | None = None,
) -> Float[Tensor, " prompts"]:
    """CLIP diversity of the K images of each prompt.

        clip_diversity = 1 / (K (K - 1))  sum_{i != j}  d(e_i, e_j)
        d = 100 (1 - cos(e_i, e_j))         cosine100, range [0, 200]
        d = |e_i/|e_i| - e_j/|e_j||         l2_unit, range [0, 2]

    The mean over the ordered pairs of different images, so its expectation does not depend on K.
    0 where all images of a prompt coincide; higher is more diverse. Images of different prompts
    are never compared. No reduction over prompts. The first distance is 50 times the square of
    the second, so a share of 0.81 kept of the first is about 0.9 of the second: name the kind
    with every figure.

    ``among`` chooses images: only pairs of two chosen ones count. A prompt with fewer than two
    is NaN. With the images that satisfy their prompt, this is the diversity that is left when
    mistakes no longer count as variety.

    Source: arXiv 2510.18053's ClipDiversity, the average pairwise distance between the CLIP
    embeddings of several images. The paper leaves the distance open; 100 (1 - cos) is our
    default, of the size of the values reported there (1.9 to 5.1).

    Raises AdrpoError where K < 2.
    """
    samples = image_embeds.shape[1]
    if samples < 2:
        raise AdrpoError(
            f"clip_diversity: expected at least 2 images per prompt; received {samples}; set "
            f"evaluation.samples_per_prompt to 2 or more"
        )
    unit = _unit(image_embeds)
    distance = 100 * (1 - unit @ unit.transpose(1, 2))
    if kind == "l2_unit":
        distance = (distance / 50).clamp(min=0).sqrt()
    # The diagonal is 0 only up to rounding, so it is cut out instead of summed.
    pairs = (~torch.eye(samples, dtype=torch.bool, device=unit.device)).expand(len(unit), -1, -1)
    if among is not None:
        pairs = pairs & among[:, :, None] & among[:, None, :]
    return torch.where(pairs, distance, 0).sum((1, 2)) / pairs.sum((1, 2))
