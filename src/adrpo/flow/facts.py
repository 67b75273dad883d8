"""Facts of text-to-image models, for those that read their runs."""

from adrpo.runs.facts import Facts

FACTS = Facts(
    domain="flow",
    samples="pictures",
    machine_keys=("model.device", "evaluation.batch_size"),
    task="text-to-image",
    base_class="diffusers.DiffusionPipeline",
    embedded='weights_path("pipeline"), text_encoder_3=None, tokenizer_3=None',
)
