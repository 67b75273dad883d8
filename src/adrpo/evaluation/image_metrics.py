"""Image metrics as pure functions of CLIP embeddings.

Embeddings need not be normalized: every metric here, except the diversity of kind "l2_raw",
depends on their directions only, and is computed in float32 whatever their dtype. An embedding of
length zero has no direction; its metric is NaN, which :mod:`adrpo.evaluation.intervals` refuses.
"""

from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from adrpo.errors import AdrpoError

DiversityKind = Literal["cosine100", "l2_unit", "l2_raw", "vendi"]


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
        d = |e_i - e_j|                     l2_raw, at least 0, in the embeddings' own unit

        clip_diversity = exp(-sum_k lambda_k log lambda_k)      vendi, range [1, K]
        lambda_k: the eigenvalues of the matrix cos(e_i, e_j) / K

    The first three are means over the ordered pairs of different images, so their expectation
    does not depend on K. 0 where all images of a prompt coincide; higher is more diverse. Images
    of different prompts are never compared. No reduction over prompts. The first distance is 50
    times the square of the second, so a share of 0.81 kept of the first is about 0.9 of the
    second: name the kind with every figure. l2_raw needs embeddings as the projection gives them:
    on unit vectors it is l2_unit.

    The Vendi score is an effective number of different images: 1 where all coincide, K where all
    are orthogonal. It grows with K: compare values of one K only.

    ``among`` chooses images: only they, and pairs of two of them, count (with vendi, K becomes
    their number). A prompt with fewer than two is NaN. With the images that satisfy their
    prompt, this is the diversity that is left when mistakes no longer count as variety.

    Source: arXiv 2510.18053's ClipDiversity, the average pairwise distance between the CLIP
    embeddings of several images. The paper leaves the distance open; 100 (1 - cos) is our
    default, of the size of the values reported there (1.9 to 5.1), as l2_raw can be. Vendi
    score: arXiv 2210.02410.

    Raises AdrpoError where K < 2, or the kind is not one of the four.
    """
    samples = image_embeds.shape[1]
    if samples < 2:
        raise AdrpoError(
            f"clip_diversity: expected at least 2 images per prompt; received {samples}; set "
            f"evaluation.samples_per_prompt to 2 or more"
        )
    if kind not in get_args(DiversityKind):
        raise AdrpoError(
            f"clip_diversity: expected kind {', '.join(get_args(DiversityKind))}; received {kind!r}"
        )
    if among is None:
        among = torch.ones(image_embeds.shape[:2], dtype=torch.bool, device=image_embeds.device)
    if kind == "vendi":
        return _vendi(image_embeds, among)
    distance = _distances(image_embeds, kind)
    # The diagonal is 0 only up to rounding, so it is cut out instead of summed.
    different = ~torch.eye(samples, dtype=torch.bool, device=distance.device)
    pairs = different & among[:, :, None] & among[:, None, :]
    return torch.where(pairs, distance, 0).sum((1, 2)) / pairs.sum((1, 2))


def _distances(
    image_embeds: Float[Tensor, "prompts K d"], kind: DiversityKind
) -> Float[Tensor, "prompts K K"]:
    if kind == "l2_raw":
        embeds = image_embeds.float()
        # Through a matrix product, close pairs would lose most of their digits.
        return torch.cdist(embeds, embeds, compute_mode="donot_use_mm_for_euclid_dist")
    unit = _unit(image_embeds)
    distance = 100 * (1 - unit @ unit.transpose(1, 2))
    return (distance / 50).clamp(min=0).sqrt() if kind == "l2_unit" else distance


def _vendi(
    image_embeds: Float[Tensor, "prompts K d"], among: Bool[Tensor, "prompts K"]
) -> Float[Tensor, " prompts"]:
    unit = _unit(image_embeds)
    chosen = among.sum(1)
    # An image left out becomes an eigenvalue 0, which adds nothing to the entropy.
    both = among[:, :, None] & among[:, None, :]
    kernel = torch.where(both, unit @ unit.transpose(1, 2), 0) / chosen[:, None, None]
    defined = kernel.isfinite().all(2).all(1) & (chosen >= 2)
    # The solver refuses NaN, in one prompt for all of them.
    eigenvalues = torch.linalg.eigvalsh(torch.where(defined[:, None, None], kernel, 0))
    entropy = torch.special.entr(eigenvalues.clamp(min=0)).sum(1)
    return torch.where(defined, entropy.exp(), torch.nan)
