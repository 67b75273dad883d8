"""What a card says of a run: its numbers, its samples, its base, and code that loads it."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from adrpo.config import FlowModelSection
from adrpo.config.shared import AdapterSection
from adrpo.errors import AdrpoError
from adrpo.flow.facts import FACTS as FLOW
from adrpo.flow.models.loading import load_policy
from adrpo.llm.facts import FACTS as LANGUAGE
from adrpo.publishing import Base, base_of, compose, unknown_base
from adrpo.publishing.card import _what, cut
from adrpo.publishing.markdown import escaped, fenced
from adrpo.report.summary import metric_table
from adrpo.runs.directory import RunDirectory
from adrpo.runs.facts import Facts, write_facts
from support.fabricated_run import HOSTILE
from support.published_runs import language_run, published_run

# PEFT asks transformers by a name that it gives up.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is:FutureWarning")

MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable("table")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return published_run(tmp_path_factory.mktemp("runs") / "pictures")


@pytest.fixture(scope="module")
def folder(run: RunDirectory, tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = base_of(run, ask=False)
    return compose(run, "tester/pictures", base, tmp_path_factory.mktemp("to") / "publication")


def read(folder: Path) -> tuple[dict[str, Any], str]:
    card = ModelCard.load(folder / "README.md")
    return card.data.to_dict(), card.text


def cells(text: str) -> list[list[str]]:
    """The text of all tables' cells in ``text``, row by row, as a reader sees them."""
    rows: list[list[str]] = []
    for token in MARKDOWN.parse(text):
        if token.type == "tr_open":
            rows.append([])
        if token.type == "inline" and rows and token.level >= 3:
            children = token.children or []
            rows[-1].append(
                "".join(c.attrs["src"] if c.type == "image" else c.content for c in children)
            )  # type: ignore[misc]
    return rows


def test_a_card_has_the_numbers_of_the_report(run: RunDirectory, folder: Path) -> None:
    seen = cells(read(folder)[1])
    for split in ("unseen", "seen"):
        table = metric_table(run.read_evaluations(), split)
        assert table is not None and table.metrics
        for row in table.metrics:
            sides = (row.base, row.final, row.change)
            numbers = ["" if side is None else f"{side.value} {side.interval}" for side in sides]
            assert [row.label, *map(str.strip, numbers), row.verb] in seen


def test_foreign_text_arrives_as_text(folder: Path) -> None:
    text = read(folder)[1]
    assert HOSTILE in [row[0] for row in cells(text)]
    html = MARKDOWN.render(text)
    # The fold around the recipe is the one piece of HTML that a card has.
    assert set(re.findall(r"<(script|details)", html)) == {"details"}


@pytest.mark.parametrize(
    "text", ["a | b", "1. one", "- x", "# x", "> x", "[a](b)", "![a](b)", "*a* _b_ `c`",
             "&amp; <b>", "a\nb", "\\", "~~x~~", "0.5 [0.4, 0.6]", "+1.0", "==="],
)  # fmt: skip
def test_a_line_is_read_as_it_was(text: str) -> None:
    (paragraph,) = [t for t in MARKDOWN.parse(escaped(text)) if t.type == "inline"]
    assert {child.type for child in paragraph.children or []} <= {"text", "text_special"}
    assert "".join(child.content for child in paragraph.children or []) == " ".join(text.split())
    ((cell,),) = cells(f"| {escaped(text)} |\n| --- |")
    assert cell == " ".join(text.split())


@pytest.mark.parametrize(
    ("description", "end"), [("less than it was.", ": less than it was."), ("", ".")]
)
def test_the_first_sentence_is_one(description: str, end: str) -> None:
    settings = {"algorithm": {"method": "raft"}}
    said = _what("A LoRA adapter", Base(name="embedded"), settings, description)
    assert said.endswith(f"method raft of the package adrpo{end}")


def test_a_block_of_code_holds_its_own_fence() -> None:
    text = "before\n```\nafter\n````x"
    (block,) = MARKDOWN.parse(fenced(text))
    assert block.content == text + "\n"


def test_pictures_lie_beside_the_card(run: RunDirectory, folder: Path) -> None:
    metadata, text = read(folder)
    rows = [row for row in cells(text) if row[1:2] == ["samples/base-01.png"]]
    assert [row[2] for row in rows] == ["samples/final-01.png"]
    for side in ("base", "final"):
        assert (folder / f"samples/{side}-01.png").read_bytes() == (
            run.samples / side / "01-0.png"
        ).read_bytes()
    assert metadata["widget"][1]["output"]["url"] == "samples/final-01.png"
    assert metadata["widget"][0]["text"] == HOSTILE


def test_the_metadata_is_of_the_run(folder: Path) -> None:
    metadata, _ = read(folder)
    assert metadata["library_name"] == "diffusers"
    assert metadata["pipeline_tag"] == "text-to-image"
    assert metadata["tags"] == ["adrpo", "lora"]
    # The embedded model is no repository of the Hub; its licence is that of the package.
    assert "base_model" not in metadata
    assert metadata["license"] == "apache-2.0"


def test_the_weights_are_those_of_the_run(run: RunDirectory, folder: Path) -> None:
    name = "pytorch_lora_weights.safetensors"
    assert (folder / name).read_bytes() == (run.final / name).read_bytes()
    assert {path.name for path in folder.iterdir()} == {name, "README.md", "samples"}


def test_the_recipe_is_the_runs(run: RunDirectory, folder: Path) -> None:
    found = re.search(r"```yaml\n(.*?)\n```", read(folder)[1], flags=re.DOTALL)
    assert found is not None
    assert yaml.safe_load(found[1]) == run.read_settings()


def test_folders_of_the_machine_are_cut() -> None:
    settings = {
        "model": {"pretrained": "/home/ann/models/sd3"},
        "prompts": ["drawbench:/home/ann/a.csv:train", "~/x.txt", "data/own.txt", "sums"],
        "url": "http://127.0.0.1:8000/score",
        "said": "Starts from /home/ann/lora; its reference is that",
    }
    assert cut(settings) == {
        "model": {"pretrained": "sd3"},
        "prompts": ["drawbench:a.csv:train", "x.txt", "data/own.txt", "sums"],
        "url": "http://127.0.0.1:8000/score",
        "said": "Starts from lora; its reference is that",
    }


def code_of(folder: Path) -> str:
    found = re.search(r"```python\n(.*?)\n```", read(folder)[1], flags=re.DOTALL)
    assert found is not None
    return found[1]


def test_the_code_of_a_diffusers_adapter_loads_it(folder: Path, tmp_path: Path) -> None:
    policy = load_policy(FlowModelSection(device="cpu"))
    policy.add_adapter(AdapterSection(rank=2))
    for parameter in policy.adapter_parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    policy.save_adapter(tmp_path)
    space: dict[str, Any] = {}
    exec(code_of(folder).replace('"tester/pictures"', repr(str(tmp_path))), space)
    ours = adapter_of(policy.pipeline.transformer)
    theirs = adapter_of(space["pipeline"].transformer)
    assert ours and ours.keys() == theirs.keys()
    for name, (down, up) in ours.items():
        # alpha / rank is a factor of the file.
        assert torch.allclose(up @ down, theirs[name][1] @ theirs[name][0], atol=1e-6)


def adapter_of(transformer: Any) -> dict[str, tuple[Any, Any]]:
    """lora_A and lora_B, with its scale, of each layer that has an adapter."""
    return {
        name: (down.weight, up.weight * layer.scaling[adapter])
        for name, layer in transformer.named_modules()
        if hasattr(layer, "lora_A")
        for adapter, down in layer.lora_A.items()
        for up in [layer.lora_B[adapter]]
    }


def test_the_code_of_a_peft_adapter_loads_it(tmp_path: Path, model: str) -> None:
    run = language_run(tmp_path / "run", model, facts=LANGUAGE)
    folder = compose(run, "tester/words", base_of(run, ask=False), tmp_path / "to")
    metadata, text = read(folder)
    assert metadata["library_name"] == "peft"
    assert not {"license", "base_model"} & metadata.keys()
    assert "was not known where this card was written" in text
    assert not (folder / "training_args.bin").exists()
    assert str(Path(model).parent) not in text
    assert model in unknown_base(folder, base_of(run, ask=False))
    code = code_of(folder).replace('"tester/words"', repr(str(folder)))
    space: dict[str, Any] = {}
    exec(code.replace(f'"{Path(model).name}"', repr(model)), space)
    tuned, words = space["model"], torch.arange(5).unsqueeze(0)
    with torch.no_grad(), tuned.disable_adapter():
        before = tuned(words).logits
    assert (tuned(words).logits - before).abs().max() > 1e-3


def test_a_base_of_the_hub_is_named_where_the_run_has_a_copy(tmp_path: Path, model: str) -> None:
    (Path(model) / "README.md").write_text("---\nlicense: other\nlicense_name: own\n---\n")
    run = language_run(tmp_path / "run", model, facts=LANGUAGE)
    base = base_of(run, hub_id="owner/base", ask=False)
    folder = compose(run, "tester/words", base, tmp_path / "to")
    (Path(model) / "README.md").unlink()
    metadata, text = read(folder)
    assert (metadata["base_model"], metadata["license"]) == ("owner/base", "other")
    assert metadata["license_name"] == "own" and "own: the licence of owner/base" in text
    assert unknown_base(folder, base) == ""
    assert '"base_model_name_or_path": "owner/base"' in (folder / "adapter_config.json").read_text()


def test_a_hub_id_is_the_base_and_no_other_may_be_named(tmp_path: Path) -> None:
    run = published_run(tmp_path / "run", pictured=0)
    text = run.read_config_yaml().replace("pretrained: embedded", "pretrained: owner/base")
    run.config.write_text(text)
    base = base_of(run, ask=False, licence="mit")
    assert (base.hub_id, dict(base.licence)) == ("owner/base", {"license": "mit"})
    with pytest.raises(AdrpoError, match=r"--base: expected owner/base, .* received other/base"):
        base_of(run, ask=False, hub_id="other/base")
    with pytest.raises(AdrpoError, match="--base: expected the name of a repository"):
        base_of(run, ask=False, hub_id="nobody")


def test_a_run_of_an_earlier_version_guesses_no_class(tmp_path: Path, model: str) -> None:
    run = language_run(tmp_path / "run", model, facts=LANGUAGE)
    write_facts(run, Facts(domain="llm", samples="completions"))
    folder = compose(run, "tester/words", base_of(run, ask=False), tmp_path / "to")
    assert "AutoModel" not in code_of(folder)
    assert "pipeline_tag" not in read(folder)[0]


def test_every_domain_says_how_its_base_is_loaded() -> None:
    import diffusers
    import transformers

    from adrpo.audio.facts import FACTS as AUDIO
    from adrpo.embedded.weights import weights_path

    for facts in (FLOW, LANGUAGE, AUDIO):
        package, name = facts.base_class.split(".")
        loader = getattr({"diffusers": diffusers, "transformers": transformers}[package], name)
        assert callable(loader.from_pretrained)
        found = re.match(r'weights_path\("(\w+)"\)', facts.embedded)
        assert found is not None
        embedded = ModelCard.load(weights_path(found[1]) / "README.md").data
        assert embedded.license == "apache-2.0"
