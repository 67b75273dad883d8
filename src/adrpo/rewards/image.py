"""Rewards that look at images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor

from adrpo.core.placement import sent
from adrpo.errors import AdrpoError, reading
from adrpo.runs.model_folder import NO_CODE, check_finite, check_words

EMBEDDED = {"embedded": "reward_clip", "embedded-evaluation": "evaluation_clip"}
"""Names of the CLIP models that the package carries -> their weight folders."""

WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)


class ClipScore:
    """CLIP score: 100 cos(image embedding, text embedding), in [-100, 100].

    The factor matters: with advantages clipped to +-1, a raw cosine (spread 0.02 within a prompt)
    would never leave A = 0.

    Args:
        model: "embedded" or "embedded-evaluation" (carried by the package), a folder, or a Hub id
            of a model with transformers' CLIPModel architecture.
        device: where the model runs, in float32.
        batch_size: images or texts per forward pass; a memory knob.
        processor: folder or Hub id of the tokenizer and image processor, where they are not
            beside the model.

    Raises:
        AdrpoError: there is no such folder or model, or it does not hold a complete CLIP model.
    """

    scale = 100.0
    """Factor of the cosine."""

    def __init__(
        self,
        model: str | Path = "embedded",
        device: str | torch.device = "cpu",
        batch_size: int = 64,
        processor: str | Path | None = None,
    ) -> None:
        source = resolve_model(str(model))
        self.device = torch.device(device)
        self.batch_size = batch_size
        self._model = _load_model(source)
        self._tokenizer, self._image_processor = _load_processor(str(processor or source))
        self._model.to(self.device).eval().requires_grad_(False)
        self._max_tokens = self._model.config.text_config.max_position_embeddings

    def __call__(
        self, prompts: list[str], images: list[Image], **columns: Any
    ) -> list[float | None]:
        """scale cos(image_i, prompt_i) for each i. Texts longer than the model takes are cut."""
        # Samples of one prompt share its text: embed each once.
        rows = {prompt: row for row, prompt in enumerate(dict.fromkeys(prompts))}
        texts = self.embed_texts(list(rows))[[rows[prompt] for prompt in prompts]]
        return (self.scale * (self.embed_images(images) * texts).sum(dim=1)).tolist()

    @torch.inference_mode()
    def embed_images(self, images: Sequence[Image]) -> Tensor:
        """Image embeddings, [images, projection], float32, of length 1, on the CPU."""
        features = []
        for batch in batches(images, self.batch_size):
            pixels = self._image_processor(images=list(batch), return_tensors="pt")["pixel_values"]
            features.append(self._model.get_image_features(sent(pixels, self.device)).pooler_output)
        return _unit_rows(features)

    @torch.inference_mode()
    def embed_texts(self, prompts: Sequence[str]) -> Tensor:
        """Text embeddings, [texts, projection], float32, of length 1, on the CPU."""
        features = []
        for batch in batches(prompts, self.batch_size):
            tokens = self._tokenizer(
                list(batch),
                padding=True,
                truncation=True,
                max_length=self._max_tokens,
                return_tensors="pt",
            ).to(self.device)
            output = self._model.get_text_features(tokens["input_ids"], tokens["attention_mask"])
            features.append(output.pooler_output)
        return _unit_rows(features)


class ClipNovelty(ClipScore):
    """CLIP novelty: how far an image lies from the others of its prompt, in [0, 200].

        novelty_i = mean over j != i of 100 (1 - cos(e_i, e_j)),  i, j images of one prompt

    With ``nearest`` it is the least of these distances and not their mean. The mean over a prompt's
    images is their CLIP diversity (kind ``cosine100``), by this model. As a term of the reward it
    pays for diversity; alone it pays for mistakes, which are far from everything. None for a prompt
    with one image. Images are compared within the batch that is scored, and those of equal prompts
    are of one prompt here.

    Args:
        model, device, batch_size, processor: as for ``ClipScore``.
        nearest: the distance to the nearest other image, as GARDO's diversity has it
            (arXiv 2512.24138, by DINOv3 there).

    Raises: as ``ClipScore``.
    """

    def __init__(
        self,
        model: str | Path = "embedded",
        device: str | torch.device = "cpu",
        batch_size: int = 64,
        processor: str | Path | None = None,
        nearest: bool = False,
    ) -> None:
        super().__init__(model, device, batch_size, processor)
        self.nearest = nearest

    def __call__(
        self, prompts: list[str], images: list[Image], **columns: Any
    ) -> list[float | None]:
        """The novelty of each image."""
        embeds = self.embed_images(images)
        rows = {prompt: row for row, prompt in enumerate(dict.fromkeys(prompts))}
        groups = torch.tensor([rows[prompt] for prompt in prompts])
        others = (groups[:, None] == groups[None, :]) & ~torch.eye(len(groups), dtype=torch.bool)
        distances = 100 * (1 - embeds @ embeds.T)
        if self.nearest:
            least = distances.masked_fill(~others, torch.inf).amin(dim=1)
            return [float(d) if d.isfinite() else None for d in least]
        count, total = others.sum(dim=1), (distances * others).sum(dim=1)
        return [
            float(distance / n) if n else None for distance, n in zip(total, count, strict=True)
        ]


def batches(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    """``items`` in parts of at most ``size``."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def _unit_rows(features: list[Tensor]) -> Tensor:
    return torch.nn.functional.normalize(torch.cat(features).float(), dim=-1).cpu()


ANOTHER = "download it again, or name another"
"""Advice where a model can't be loaded."""


def resolve_model(model: str, what: str = "CLIP") -> str:
    """A folder that holds a model, or a Hub id; ``what`` it is a model of, in words.

    Raises AdrpoError where there is no such folder, or none with weights.
    """
    if model in EMBEDDED:
        from adrpo.embedded.weights import weights_path

        return str(weights_path(EMBEDDED[model]))
    folder = Path(model).expanduser()
    if not folder.exists():
        if folder.is_absolute() or model.startswith((".", "~")) or model.count("/") != 1:
            raise AdrpoError(
                f"expected 'embedded', a folder or a Hub id ('owner/name') for the {what} model, "
                f"received {model!r}: there is no such folder"
            )
        return model
    if not any((folder / name).is_file() for name in WEIGHT_FILES):
        raise AdrpoError(
            f"expected a {what} model with weights ({WEIGHT_FILES[0]}) in folder {str(folder)!r}, "
            "found none: save it there with save_pretrained, or name another folder"
        )
    return str(folder)


def _load_model(source: str) -> Any:
    from transformers import CLIPModel

    with reading(f"expected a CLIP model, received {source!r}", ANOTHER):
        loaded: Any = CLIPModel.from_pretrained(
            source, dtype=torch.float32, output_loading_info=True
        )
    model, info = loaded
    if info["missing_keys"]:
        raise AdrpoError(
            f"expected a complete CLIP model in {source!r}, but its weights lack "
            f"{len(info['missing_keys'])} tensors, {min(info['missing_keys'])!r} among them: "
            "name a model of the CLIPModel architecture"
        )
    check_finite(Path(source), dict(model.named_parameters()))
    return model


def _load_processor(source: str) -> tuple[Any, Any]:
    """Tokenizer and image processor."""
    return load_tokenizer(source), load_image_processor(source)


def load_image_processor(source: str, what: str = "CLIP") -> Any:
    """A model's image processor, of a folder or a Hub id; ``what`` it is a model of, in words.

    Raises AdrpoError where there is none.
    """
    from transformers import AutoImageProcessor

    with reading(f"expected a {what} model's image processor in {source!r}", ANOTHER):
        # Resizing differs between backends; Pillow's is everywhere and the scores then agree.
        return AutoImageProcessor.from_pretrained(source, backend="pil", **NO_CODE)


def load_tokenizer(source: str) -> Any:
    """A CLIP model's tokenizer, of a folder or a Hub id.

    Raises AdrpoError where there is none, or one without words.
    """
    from transformers import AutoTokenizer

    with reading(f"expected a CLIP model's tokenizer in {source!r}", ANOTHER):
        tokenizer = AutoTokenizer.from_pretrained(source, **NO_CODE)
    check_words(tokenizer, source, "the CLIP model's tokenizer")
    return tokenizer
