"""The folders of the models that ship with the package."""

from pathlib import Path

from adrpo.errors import AdrpoError

MODELS = {
    "pipeline": "the text-to-image pipeline (diffusers)",
    "reward_clip": "the CLIP model that scores while training (transformers)",
    "evaluation_clip": "the CLIP model kept for evaluation (transformers)",
    "language_model": "the causal language model (transformers)",
    "language_reward": "the reward model of the language model's answers (transformers)",
    "audio_language_model": "the audio-language model (transformers)",
}


def weights_path(name: str) -> Path:
    """Folder of an embedded model; ``name`` is a key of :data:`MODELS`.

    Raises AdrpoError where the folder is missing from the installation.
    """
    if name not in MODELS:
        raise ValueError(f"expected one of {', '.join(MODELS)}; received {name!r}")
    folder = Path(__file__).parent / "weights" / name
    if not folder.is_dir():
        raise AdrpoError(
            f"the embedded model {name!r} is missing: expected it in {folder}; "
            f"install adrpo again, or build it with 'python -m tools.embedded'"
        )
    return folder
