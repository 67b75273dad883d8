"""Facts of text-to-image models, for those that read their runs."""

from adrpo.runs.facts import Facts

FACTS = Facts(
    domain="flow",
    samples="pictures",
    machine_keys=("model.device", "evaluation.batch_size"),
)
