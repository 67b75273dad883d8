"""Facts of language models, for those that read their runs."""

from adrpo.runs.facts import Facts

# The draws of an evaluation go by its batches, and so their size is no affair of the machine alone.
FACTS = Facts(
    domain="llm",
    samples="completions",
    machine_keys=("model.device",),
    task="text-generation",
    base_class="transformers.AutoModelForCausalLM",
    embedded='weights_path("language_model")',
)
