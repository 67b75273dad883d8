"""The examples run, shortened: scripts by their functions, notebooks cell by cell."""

import ast
import json
import runpy
from pathlib import Path
from typing import Any

import matplotlib
import pytest
import trl

from adrpo.embedded.weights import weights_path
from support.documents import ROOT
from support.tiny_language_trainers import LANGUAGE_MARKS

pytestmark = LANGUAGE_MARKS

EXAMPLES = ROOT / "examples"
STEP: dict[str, Any] = {
    "max_steps": 1,
    "per_device_train_batch_size": 4,
    "num_generations": 2,
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": False,
    "report_to": [],
    "save_strategy": "no",
    "disable_tqdm": True,
}
"""Arguments of TRL's for one small step."""


def example(name: str) -> dict[str, Any]:
    """The names of a script, without its main part."""
    return runpy.run_path(str(EXAMPLES / name), run_name="example")


def cells(name: str) -> list[str]:
    """The code of a notebook, which is committed without what it printed."""
    found = json.loads((EXAMPLES / name).read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in found if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    return ["".join(cell["source"]) for cell in code]


def play(name: str, **instead: str) -> dict[str, Any]:
    """The names of a notebook after its cells, with each assignment of ``instead`` in the place of
    the notebook's own."""
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    names: dict[str, Any] = {}
    try:
        for cell in cells(name):
            tree = ast.parse(cell)
            for node in tree.body:
                if (
                    isinstance(node, ast.Assign)
                    and (text := ast.unparse(node.targets[0])) in instead
                ):
                    node.value = ast.parse(instead.pop(text), mode="eval").body
            exec(compile(tree, name, "exec"), names)
    finally:
        plt.close("all")
    assert not instead
    return names


def code(name: str) -> str:
    """A script without its first docstring and its form."""
    tree = ast.parse((EXAMPLES / name).read_text(encoding="utf-8"))
    return ast.unparse(ast.Module(body=tree.body[1:], type_ignores=[]))


def test_every_example_is_run():
    source = Path(__file__).read_text(encoding="utf-8")
    names = {path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".ipynb")}
    # The page of Algorithm 1 has a test of its own, tests/equivalence/test_one_step.py.
    assert {name for name in names - {"one_step.py"} if f'"{name}"' not in source} == set()


def test_the_flow_in_a_minute_gains_by_little_where_the_penalty_is_strong():
    runs = play("flow_in_a_minute.ipynb", **{"(STEPS, SAMPLES)": "40, 128"})["RUNS"]
    means = {name: float(samples[:, 0].mean()) for name, (_, samples) in runs.items()}
    assert 0 < means["beta_0 = 2"] < means["beta_0 = 1"] < means["beta_0 = 0.5, A to ±1"]


def test_the_notebook_of_an_own_reward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    small = [
        "training.steps=2", "evaluation.every=1", "training.prompts_per_step=2",
        "training.samples_per_prompt=2", "sampling.steps=2", "prompts.held_out_size=2",
        "evaluation.samples_per_prompt=2", "evaluation.sampling.steps=2",
        "evaluation.strip_prompts=2",
    ]  # fmt: skip
    names = play("own_reward.ipynb", SETTINGS=repr(small))
    plain, noisy = names["few_colors"](["", ""], [names["plain"], names["noisy"]])
    assert (plain, noisy) == (-1.0, -64.0)
    assert [row["step"] for row in names["evaluations"]] == [0, 1, 2]
    assert (tmp_path / "runs/few-colors/final/pytorch_lora_weights.safetensors").is_file()


def test_an_own_pipeline_s_adapter_draws_another_picture(tmp_path: Path):
    made = example("own_pipeline.py")
    pipeline = str(weights_path("pipeline"))
    small = [
        "training.steps=2", "training.samples_per_prompt=2", "sampling.steps=2",
        "evaluation.samples_per_prompt=2", "evaluation.sampling.steps=2", "evaluation.every=2",
    ]  # fmt: skip
    run = made["train"](pipeline, tmp_path / "run", small)
    before, after = (made["draw"](pipeline, a, steps=2) for a in (None, run / "final"))
    assert before.tobytes() != after.tobytes()


def test_the_script_after_is_the_script_before_with_two_names_changed(tmp_path: Path, model: str):
    before, after = code("trl_before.py"), code("trl_after.py")
    changed = before.replace("from trl import", "from adrpo.llm import")
    assert changed.replace("GRPO", "ADRPO") == after
    trainers = [
        example(name)["main"](model, str(tmp_path / name), max_completion_length=4, **STEP)
        for name in ("trl_before.py", "trl_after.py")
    ]
    assert [trainer.state.global_step for trainer in trainers] == [1, 1]
    assert type(trainers[0]) is trl.GRPOTrainer and isinstance(trainers[1], trl.GRPOTrainer)


def test_the_tones_are_asked_and_scored(tmp_path: Path):
    made = example("audio.py")
    model = str(weights_path("audio_language_model"))
    trainer = made["main"](model, tmp_path, **STEP)
    assert trainer.state.global_step == 1
    answers = [[{"role": "assistant", "content": text}] for text in ("High.", "low", "high or low")]
    assert made["right"](answers, ["high", "high", "low"]) == [1.0, 0.0, 0.0]
