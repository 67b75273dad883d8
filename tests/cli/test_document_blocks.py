"""The blocks of Python and of recipes in README and docs run: shortened, or up to a download."""

import ast
import json
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trl
from diffusers import StableDiffusion3Pipeline
from peft import LoraConfig, PeftModel, get_peft_model
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from adrpo.config import load_recipe
from adrpo.embedded.weights import weights_path
from support.command_line import Command
from support.documents import ROOT, blocks, undefined
from support.sound_files import question, tone, write_clip, write_lines
from support.tiny_language_trainers import LANGUAGE_MARKS
from tools.structure.pages import apply, read_page

pytestmark = LANGUAGE_MARKS

PYTHON = blocks("python")
RECIPES = blocks("yaml")
RUN = (
    '"training.steps=1", "training.prompts_per_step=2", "training.samples_per_prompt=2", '
    '"sampling.steps=2", "evaluation.sampling.steps=2", "evaluation.samples_per_prompt=2", '
    '"prompts.held_out_size=2", "evaluation.strip_prompts=2"'
)
TRL = (
    ", max_steps=1, per_device_train_batch_size=2, num_generations=2, max_completion_length=2, "
    'use_cpu=True, bf16=False, gradient_checkpointing=False, report_to=[], save_strategy="no"'
)
"""Arguments of a configuration of TRL that make one small step."""

UP_TO_A_DOWNLOAD = {"from peft import AutoPeftModelForCausalLM", "import json"}
"""First lines of blocks that need a file of the Hub or a package which is not installed here."""


def block(page: str, beginning: str) -> str:
    """The one block of Python of ``page`` that begins so."""
    (found,) = (text for name, text in PYTHON if name == page and text.startswith(beginning))
    return found


def run(source: str, *changes: tuple[str, str], **known: Any) -> dict[str, Any]:
    """The names that ``source`` defines, with each (before, after) put into it, once."""
    for before, after in changes:
        assert source.count(before) == 1, before
        source = source.replace(before, after)
    names: dict[str, Any] = dict(known)
    exec(compile(source, "block", "exec"), names)
    return names


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder in which the blocks run, one after the other."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("place")
        patch.chdir(folder)
        yield folder


@pytest.mark.parametrize(("page", "text"), PYTHON, ids=[page for page, _ in PYTHON])
def test_a_block_imports_and_defines_what_it_names(page: str, text: str):
    assert undefined(text) == set()
    if text.splitlines()[0] not in UP_TO_A_DOWNLOAD:
        return
    imports = [n for n in ast.parse(text).body if isinstance(n, ast.Import | ast.ImportFrom)]
    run("\n".join(map(ast.unparse, imports)))


def test_the_readme_s_run_and_the_adapter_in_diffusers(place: Path):
    run(block("README.md", "from PIL"), ('"training.steps=20"', RUN))
    final = place / "runs/warmth/final"
    assert (final / "pytorch_lora_weights.safetensors").is_file()
    (place / "runs/mine").mkdir()
    final.rename(place / "runs/mine/final")
    shown = block("docs/start/quick-start.md", "import torch")
    run(shown, ("guidance_scale=1)", "guidance_scale=1, num_inference_steps=1)"))
    with Image.open("circle-and-square.png") as drawn:
        assert drawn.size == (64, 64)


def test_half_of_an_adapter_and_one_that_is_fused(place: Path):
    """Of the run of the test above, on the pipeline that ships."""
    own = StableDiffusion3Pipeline.from_pretrained(
        weights_path("pipeline"), text_encoder_3=None, tokenizer_3=None, dtype=torch.float32
    )
    own.save_pretrained("my-pipeline")
    page = block("docs/use/after-training.md", "import torch")
    run(page, ("guidance_scale=1)", "guidance_scale=1, num_inference_steps=1)"))
    assert (place / "half.png").is_file()
    base, fused = (
        load_file(place / folder / "transformer/diffusion_pytorch_model.safetensors")
        for folder in ("my-pipeline", "mine-fused")
    )
    adapter = load_file(place / "runs/mine/final/pytorch_lora_weights.safetensors")
    layers = {name.rpartition(".lora_")[0] for name in adapter}
    for layer in layers:
        update = adapter[f"{layer}.lora_B.weight"] @ adapter[f"{layer}.lora_A.weight"]
        weight = f"{layer.removeprefix('transformer.')}.weight"
        # One rounding of the sum of two float32.
        torch.testing.assert_close(fused[weight], base[weight] + update, rtol=1e-6, atol=1e-7)
    moved = {name for name in base if not torch.equal(base[name], fused[name])}
    assert moved
    assert {f"transformer.{name.removesuffix('.weight')}" for name in moved} <= layers


def test_an_adapter_of_a_language_model_asked_and_merged(place: Path, model: str):
    base = AutoModelForCausalLM.from_pretrained(model)
    # Else B is 0, and merging would change nothing.
    lora = LoraConfig(r=2, target_modules=["v_proj"], init_lora_weights=False)
    get_peft_model(base, lora).save_pretrained("runs/lora/final")
    names = run(block("docs/use/after-training.md", "from peft"), ("Qwen/Qwen3-0.6B", model))
    loaded = AutoModelForCausalLM.from_pretrained(model)
    merged = AutoModelForCausalLM.from_pretrained(place / "merged")
    with torch.no_grad():
        before = loaded(**names["inputs"]).logits
        with_adapter = PeftModel.from_pretrained(loaded, "runs/lora/final")(**names["inputs"])
        after = merged(**names["inputs"]).logits
    # W x + B A x against (W + B A) x: float32 in another order.
    torch.testing.assert_close(after, with_adapter.logits, rtol=1e-4, atol=1e-5)
    assert (after - before).abs().max() > 1e-3


def test_trl_s_engines_are_options_of_ours():
    engines = [("use_vllm=True", "use_vllm=True, use_cpu=True, bf16=False")]
    batching = "use_transformers_continuous_batching=True"
    engines.append((batching, f"{batching}, use_cpu=True, bf16=False"))
    made = run(block("docs/use/faster.md", "from adrpo.llm"), *engines)
    assert made["by_vllm"].vllm_importance_sampling_correction


def test_the_distances_of_two_sets_of_images(place: Path):
    page = block("docs/reference/metrics.md", "import numpy")
    made = run(page, ("prompt_set(60", "prompt_set(8"), ("subset_size=50", "subset_size=4"))
    assert [len(features) for features in made["features"]] == [8, 8]


def test_a_script_of_trl_s_with_two_names_changed(place: Path, model: str):
    names = run(block("README.md", "from adrpo.llm"))
    assert issubclass(names["ADRPOTrainer"], trl.GRPOTrainer)
    page = block("docs/use/llm.md", "from datasets")
    small = ('output_dir="qwen3-adrpo"', f'output_dir="qwen3-adrpo"{TRL}')
    made = run(page, ("Qwen/Qwen3-0.6B", model), small)
    assert made["trainer"].state.global_step == 1


def test_the_trainer_of_models_that_hear(place: Path):
    folder = run(block("docs/use/audio.md", "from adrpo.embedded"))["folder"]
    write_clip(place / "clips/0001.wav")
    page = block("docs/use/audio.md", "from datasets import Dataset\n\nfrom adrpo.audio import")
    small = ('output_dir="omni-adrpo"', f'output_dir="omni-adrpo"{TRL}')
    made = run(page, ("Qwen/Qwen2.5-Omni-7B", folder), small, ("bfloat16", "float32"))
    assert made["trainer"].state.global_step == 1


def test_the_questions_of_a_file(place: Path):
    write_lines(place / "questions.jsonl", [question(number) for number in range(8)])
    for number in range(8):
        write_clip(place / f"clips/{number}.wav", tone(200 + 100 * number))
    made = run(block("docs/use/audio.md", "from datasets import Dataset\n\nfrom adrpo.audio.data"))
    assert len(made["questions"]) + len(made["held_out"]) == 8


def test_a_reward_that_reads_a_column():
    right = np.zeros((4, 4, 3), dtype=np.uint8)
    right[:, :2] = 255
    image = Image.fromarray(right)
    reward = run(block("docs/use/prompts.md", "import numpy"))["on_its_side"]
    assert reward(["", ""], [image, image], side=["left", "right"]) == [-255.0, 255.0]


@pytest.mark.parametrize(("page", "text"), RECIPES, ids=[page for page, _ in RECIPES])
def test_a_part_of_a_recipe_is_one(
    page: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SCORES_KEY", "a key")
    if text.startswith("options:"):
        text = f"reward:\n- name: http_reward\n  {text}"
    recipe = tmp_path / "part.yaml"
    base = "" if text.startswith("extends:") else "extends: flow/adrpo\n"
    recipe.write_text(f"{base}{text}", encoding="utf-8")
    assert load_recipe(recipe) != load_recipe("flow/adrpo")


def test_the_page_of_one_s_own_things_from_top_to_bottom(command: Command, tmp_path: Path):
    """As it stands, in this process: its files, its commands, its adapter in plain diffusers."""
    kept = set(sys.modules)
    for change in read_page(ROOT / "docs/start/your-own.md"):
        if change.kind == "create":
            apply(change, tmp_path)
            continue
        program, *words = shlex.split(change.text.splitlines()[0])
        if program == "adrpo":
            assert command(*words) == 0, command.err
        elif program == "python":
            runpy.run_path(words[0], run_name="__main__")
        else:
            subprocess.run(["bash", "-euc", change.text], check=True)
    for name in ("my_rewards",):
        assert name in set(sys.modules) - kept
        del sys.modules[name]
    rows = (tmp_path / "runs/mine/evaluations.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(rows[-1])["in_color_change_low"] > 0
    before, after = ((tmp_path / f"{name}.png").read_bytes() for name in ("before", "after"))
    assert before != after
    assert "adrpo" not in (tmp_path / "use_adapter.py").read_text().partition('"""\n\n')[2]
