"""The keys that a loaded model shows, in the domains llm and audio."""

from typing import Any

import pytest
import torch

from adrpo.llm.pretrained import training_device
from wiring.adamw import distance
from wiring.table import Elsewhere, Seen, Table
from wiring.text_steps import Laboratory, WatchedText
from wiring.text_steps_table import unchanged

STARTS = "tests/equivalence/test_adapter_start.py::"


def loaded(lab: Laboratory, **sections: Any) -> WatchedText:
    """A trainer, before any step."""
    return WatchedText(lab.run(**sections), lab.new_folder(), moved=False)


def network(watched: WatchedText) -> Any:
    return watched.trainer.accelerator.unwrap_model(watched.trainer.model)


def scored(watched: WatchedText, lab: Laboratory) -> torch.Tensor:
    """log pi of the completions of an unchanged step."""
    batch = unchanged(lab).steps[0].batch
    with torch.no_grad():
        return watched.logps(batch) * batch["completion_mask"]


def loads_this_model(lab: Laboratory, value: str) -> None:
    """The folder's weights, and not those that ship."""
    watched = unchanged(lab)
    folder = watched.config.model.pretrained
    assert value in folder
    source = type(network(watched).get_base_model()).from_pretrained(folder)
    own = dict(network(watched).get_base_model().named_parameters())
    for name, weight in source.named_parameters():
        found = own.get(name)
        if found is None:
            head, _, last = name.rpartition(".")
            found = own[f"{head}.base_layer.{last}"]
        assert torch.equal(found, weight), name


def holds_its_weights_in(lab: Laboratory, value: str) -> None:
    watched = loaded(lab, model={"dtype": value})
    kinds = {"lora" in n: p.dtype for n, p in network(watched).named_parameters()}
    assert kinds == {True: torch.float32, False: getattr(torch, value)}
    assert 1e-5 < distance(scored(watched, lab), scored(loaded(lab), lab)) < 0.05


def computes_in(lab: Laboratory, value: str) -> None:
    """Weights are float32 and the arithmetic is not."""
    watched = loaded(lab, model={"autocast": value})
    assert {p.dtype for p in network(watched).parameters()} == {torch.float32}
    with watched.trainer.accelerator.autocast():
        small = scored(watched, lab)
    assert 1e-5 < distance(small, scored(loaded(lab), lab)) < 0.05


def computes_blocks_twice(lab: Laboratory, value: bool) -> None:
    """Once in the forward pass and again in the backward one, with the same gradients."""
    training = {"steps": 1, "micro_batch_size": 16}
    calls: dict[bool, int] = {}
    steps = {}
    for checkpointing in (False, value):
        watched = WatchedText(
            lab.run(model={"gradient_checkpointing": checkpointing}, training=training),
            lab.new_folder(),
        )
        layers = [m for n, m in network(watched).named_modules() if n.endswith("layers.0.mlp")]
        counted: list[bool] = []
        for layer in layers[-1:]:
            layer.register_forward_pre_hook(lambda *_, c=counted: c.append(True))
        watched.train()
        calls[checkpointing], steps[checkpointing] = len(counted), watched.steps[0]
    assert calls[value] == calls[False] + 1
    ours, theirs = (steps[k].updates[0].gradient for k in (value, False))
    assert distance(ours, theirs) < 1e-3


def runs_on(lab: Laboratory, value: str) -> None:
    """Also where there is a GPU, which "auto" takes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: True)
        config = lab.config(model={"device": value})
        assert training_device(config.model) == value
        assert training_device(lab.config(model={"device": "auto"}).model) == "cuda"
    assert network(unchanged(lab)).device == torch.device("cpu")


def attends_by(lab: Laboratory, value: str) -> None:
    watched = loaded(lab, model={"attn_implementation": value})
    assert network(watched).config._attn_implementation == value
    assert network(loaded(lab)).config._attn_implementation != value


def tells_the_template(lab: Laboratory, value: dict[str, Any]) -> None:
    """Without the words that open the answer, by an argument that any template takes."""
    config = lab.config(model={"chat_template_kwargs": value})
    watched = WatchedText(lab.form(config), lab.new_folder(), moved=False)
    trainer = watched.trainer
    tokenizer = getattr(trainer.processing_class, "tokenizer", trainer.processing_class)
    template = getattr(trainer.processing_class, "chat_template", tokenizer.chat_template)
    trainer.processing_class.chat_template = "{% if quiet %}a b {% endif %}" + template
    rows = [{"prompt": [{"role": "user", "content": "c"}], "audio": None}]
    ids = trainer.prompt_batch(rows).ids[0]
    said = tokenizer.decode(ids).split()
    assert said[:2] == ["a", "b"]


def has_rank(lab: Laboratory, value: int) -> None:
    watched = loaded(lab, adapter={"rank": value})
    ranks = {min(p.shape) for n, p in network(watched).named_parameters() if "lora" in n}
    assert ranks == {value}


def scales_the_update(lab: Laboratory, value: float) -> None:
    """alpha / rank times B A: twice alpha is twice B."""
    ours = loaded(lab, adapter={"alpha": value})
    plain = loaded(lab)
    assert value == 2 * plain.config.adapter.alpha
    names = [n for n, p in network(plain).named_parameters() if p.requires_grad]
    draws = torch.Generator().manual_seed(3)
    values = [0.1 * torch.randn(p.shape, generator=draws) for p in plain.parameters()]
    doubled = [2 * v if "lora_B" in n else v for n, v in zip(names, values, strict=True)]
    with ours.at(values), plain.at(doubled):
        one, other = scored(ours, lab), scored(plain, lab)
    with plain.at(values):
        assert distance(one, other) < 1e-4 < distance(scored(plain, lab), other)


def adapts_these_layers(lab: Laboratory, value: list[str]) -> None:
    watched = loaded(lab, adapter={"target_modules": value})
    adapted = {
        n.partition(".lora_")[0] for n, p in network(watched).named_parameters() if "lora" in n
    }
    assert adapted and {name.rpartition(".")[2] for name in adapted} == set(value)
    assert len(adapted) == 2  # the language model's two layers


NF4 = "tests/equivalence/test_quantized_language_model.py::"
PARTS: Table = {
    "model.pretrained": Seen("material", loads_this_model),
    "model.dtype": Seen("bfloat16", holds_its_weights_in),
    "model.gradient_checkpointing": Seen(True, computes_blocks_twice),
    "model.device": Seen("cpu", runs_on),
    "model.autocast": Seen("bfloat16", computes_in),
    "model.attn_implementation": Seen("eager", attends_by),
    "model.chat_template_kwargs": Seen({"quiet": True}, tells_the_template),
    "adapter.rank": Seen(2, has_rank),
    "adapter.alpha": Seen(16.0, scales_the_update),
    "adapter.target_modules": Seen(["q_proj"], adapts_these_layers),
}
LANGUAGE: Table = {
    "model.quantization": Elsewhere((f"{NF4}test_each_weight_is_at_its_nearest_level",)),
    "model.gguf_file": Elsewhere(
        (
            "tests/equivalence/test_gguf_checkpoints.py::test_the_weights_are_those_that_were_written",
        )
    ),
    **{
        f"adapter.{key}": Elsewhere((f"{STARTS}test_a_language_models_run_goes_on_with_it",))
        for key in ("start_from", "reference")
    },
}
AUDIO: Table = {
    "model.quantization": Elsewhere(
        (f"{NF4}test_a_thinker_in_4_bits_hears_and_learns_by_its_adapter",)
    ),
    "adapter.start_from": Elsewhere((f"{STARTS}test_a_model_that_hears_goes_on_with_it",)),
    # The line that reads it is the domain llm's.
    "adapter.reference": Elsewhere((f"{STARTS}test_a_language_models_run_goes_on_with_it",)),
}
