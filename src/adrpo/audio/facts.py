"""Facts of audio-language models, for those that read their runs."""

from adrpo.runs.facts import Facts

EMBEDDED = "audio_language_model"
"""Name of the model that ships with the package."""

FACTS = Facts(
    domain="audio",
    samples="completions",
    machine_keys=("model.device",),
    task="audio-text-to-text",
    base_class="transformers.Qwen2_5OmniThinkerForConditionalGeneration",
    embedded=f'weights_path("{EMBEDDED}")',
)
