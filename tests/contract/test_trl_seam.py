"""What ADRPOTrainer needs of TRL, and that a constant coefficient is stock GRPO bit for bit.

Run it under every supported release of TRL, as `make test-trl-lowest` does under the oldest: the
source checks name the line that moved, the others show whether it matters.
"""

import ast
import inspect
import os
import textwrap
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import trl
from datasets import Dataset
from packaging.requirements import Requirement
from peft import LoraConfig
from torch import Tensor
from trl import GRPOConfig, GRPOTrainer

from adrpo.llm import ADRPOConfig, ADRPOTrainer
from support.tiny_language_trainers import LANGUAGE_MARKS, SETTINGS, count_a

pytestmark = LANGUAGE_MARKS

LOSS_TYPES = ["grpo", "bnpo", "dr_grpo", "dapo", "luspo", "cispo", "sapo", "vespo"]
BETA = 0.04
PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
PROMPTS = Dataset.from_dict({"prompt": ["a b c", "d e f", "g h", "i j k l"]})


def test_the_trl_under_test_is_the_one_that_is_meant() -> None:
    """A stray folder on the path would make a run under another release prove nothing."""
    extras = tomllib.loads(PYPROJECT.read_text())["project"]["optional-dependencies"]
    ranges = [Requirement(line) for name in ("llm", "dev") for line in extras[name]]
    supported = [one.specifier for one in ranges if one.name == "trl"]
    assert len(supported) == 2 and supported[0] == supported[1]
    assert trl.__version__ in supported[0]
    # Set by make; without it any supported release will do.
    assert trl.__version__ == os.environ.get("ADRPO_EXPECT_TRL", trl.__version__)


def settings(folder: Path) -> dict[str, Any]:
    own = {"output_dir": str(folder), "beta": BETA, "per_device_train_batch_size": 4}
    return SETTINGS | own | {"gradient_accumulation_steps": 2, "max_steps": 3}


def always_one(completions: list[str], **columns: Any) -> list[float | None]:
    return [1.0] * len(completions)


@pytest.fixture(scope="module")
def trainers(model: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """Stock GRPO and ADRPO, whose policies were moved away from their reference alike."""
    folder = tmp_path_factory.mktemp("runs")
    stock = GRPOTrainer(model, count_a, GRPOConfig(**settings(folder)), PROMPTS)
    ours = ADRPOTrainer(model, count_a, ADRPOConfig(**settings(folder)), PROMPTS)
    for trainer in (stock, ours):
        move(trainer)
        trainer.current_gradient_accumulation_steps = 2
    return stock, ours


def move(trainer: Any) -> None:
    generator = torch.Generator().manual_seed(1)
    for parameter in trainer.model.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)


@pytest.fixture
def batch(trainers: tuple[Any, Any]) -> dict[str, Any]:
    """Four scored completions of a policy that has moved on since it wrote them."""
    stock, _ = trainers
    torch.manual_seed(2)
    stock.model.train()
    batch = stock._generate_and_score_completions([{"prompt": "a b c"}] * 4)
    assert (batch["advantages"] != 0).any()
    assert not batch["completion_mask"].all(), "no padding: draw with another seed"
    logps = log_probabilities(stock, batch)
    batch["old_per_token_logps"] = logps + 0.2 * torch.randn(logps.shape)
    return batch


def log_probabilities(trainer: Any, batch: dict[str, Any]) -> Tensor:
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    tokens = batch["completion_ids"].shape[1]
    with torch.no_grad():
        return trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, tokens)[0]


def loss_and_gradients(trainer: Any, batch: dict[str, Any], **options: Any) -> list[Tensor]:
    for name, value in options.items():
        setattr(trainer.args, name, value)
        if hasattr(trainer, name):
            setattr(trainer, name, value)
    trainer.model.train()
    trainer.model.zero_grad()
    loss = trainer._compute_loss(trainer.model, dict(batch))
    loss.backward()
    gradients = [p.grad.clone() for p in trainer.model.parameters() if p.grad is not None]
    return [loss.detach(), *gradients]


def constant(batch: dict[str, Any]) -> dict[str, Any]:
    return batch | {"kl_coefficient": torch.full_like(batch["advantages"], BETA)}


@pytest.mark.parametrize("importance_sampling_level", ["token", "sequence"])
@pytest.mark.parametrize("use_bias_correction_kl", [True, False])
@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_a_constant_coefficient_is_stock_grpo_bit_for_bit(
    loss_type: str,
    use_bias_correction_kl: bool,
    importance_sampling_level: str,
    trainers: tuple[Any, Any],
    batch: dict[str, Any],
) -> None:
    options = {
        "loss_type": loss_type,
        "use_bias_correction_kl": use_bias_correction_kl,
        "importance_sampling_level": importance_sampling_level,
    }
    stock, ours = trainers
    expected = loss_and_gradients(stock, batch, **options)
    received = loss_and_gradients(ours, constant(batch), **options)
    assert len(expected) == len(received) > 1
    assert all(torch.equal(a, b) for a, b in zip(expected, received, strict=True))
    # The KL has a share in it, or the test would hold without any.
    changed = constant(batch) | {"kl_coefficient": torch.zeros_like(batch["advantages"])}
    assert not torch.equal(loss_and_gradients(ours, changed, **options)[1], received[1])
    assert ours.beta == BETA


def test_the_stand_in_is_gone_after_an_error(
    trainers: tuple[Any, Any], batch: dict[str, Any]
) -> None:
    _, ours = trainers
    with pytest.raises(ValueError, match="Unknown loss type"):
        loss_and_gradients(ours, batch, loss_type="no such loss")
    assert ours.beta == BETA


@pytest.mark.parametrize("importance_sampling_level", ["token", "sequence"])
@pytest.mark.parametrize("use_bias_correction_kl", [True, False])
def test_our_own_k3_is_trls(
    use_bias_correction_kl: bool,
    importance_sampling_level: str,
    trainers: tuple[Any, Any],
    batch: dict[str, Any],
) -> None:
    options = {
        "loss_type": "grpo",
        "use_bias_correction_kl": use_bias_correction_kl,
        "importance_sampling_level": importance_sampling_level,
    }
    # A token of a tool, beyond the bound, masked out: the bound acts and changes nothing else.
    tool_mask = torch.ones_like(batch["completion_mask"])
    tool_mask[0, 0] = 0
    ref_logps = batch["ref_per_token_logps"].clone()
    batch = batch | {"tool_mask": tool_mask, "ref_per_token_logps": ref_logps}
    stock, ours = trainers
    expected = loss_and_gradients(stock, batch, **options)
    ref_logps[0, 0] += 50
    received = loss_and_gradients(ours, constant(batch), **options)
    for a, b in zip(expected, received, strict=True):
        # float32: another formula of k3 and another order of sums of numbers of size 1.
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_advantages_per_token_make_coefficients_per_token(
    trainers: tuple[Any, Any], batch: dict[str, Any]
) -> None:
    _, ours = trainers
    options = {"loss_type": "dapo", "importance_sampling_level": "token"}
    per_sample = loss_and_gradients(ours, batch, **options)
    shape = batch["completion_ids"].shape
    per_token = batch | {"advantages": batch["advantages"].unsqueeze(1).expand(shape)}
    received = loss_and_gradients(ours, per_token, **options)
    assert all(torch.equal(a, b) for a, b in zip(per_sample, received, strict=True))
    first_only = per_token["advantages"].clone()
    first_only[:, 1:] = 0
    changed = loss_and_gradients(ours, batch | {"advantages": first_only}, **options)
    assert not torch.equal(changed[1], received[1])


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize(
    ("reward", "options"),
    [
        pytest.param(count_a, {"coefficient": "fixed"}, id="fixed"),
        # Equal rewards have A = 0, and A = 0 is beta_0.
        pytest.param(always_one, {}, id="equal rewards"),
    ],
)
def test_a_run_is_stock_grpos_bit_for_bit(
    reward: Callable[..., list[float | None]],
    options: dict[str, Any],
    lora: bool,
    model: str,
    tmp_path: Path,
) -> None:
    def trained(kind: type, arguments: Any) -> dict[str, Tensor]:
        adapter = LoraConfig(r=2, target_modules=["q_proj", "down_proj"]) if lora else None
        trainer = kind(model, reward, arguments, PROMPTS, peft_config=adapter)
        before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
        # Away from the reference, so that the KL has a gradient from the first step on.
        generator = torch.Generator().manual_seed(1)
        for parameter in trainer.model.parameters():
            if parameter.requires_grad:
                parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
        trainer.train()
        after = {name: p.detach() for name, p in trainer.model.named_parameters()}
        assert any(not torch.equal(after[name], before[name]) for name in after)
        return after

    expected = trained(GRPOTrainer, GRPOConfig(**settings(tmp_path)))
    received = trained(ADRPOTrainer, ADRPOConfig(**settings(tmp_path), **options))
    assert expected.keys() == received.keys()
    assert all(torch.equal(expected[name], received[name]) for name in expected)


@pytest.mark.parametrize("lora", [False, True])
def test_our_reference_pass_is_trls(lora: bool, model: str, tmp_path: Path) -> None:
    adapter = LoraConfig(r=2, target_modules=["q_proj"]) if lora else None
    trainer: Any = ADRPOTrainer(
        model, count_a, ADRPOConfig(**settings(tmp_path)), PROMPTS, peft_config=adapter
    )
    if lora:
        move(trainer)
    trainer.model.train()
    torch.manual_seed(2)
    inputs = [{"prompt": "a b c"}] * 8
    of_trl = GRPOTrainer._generate_and_score_completions(trainer, inputs)
    every_row = torch.ones(8, dtype=torch.bool)
    assert torch.equal(trainer._reference_logps(of_trl, every_row), of_trl["ref_per_token_logps"])


# --- the source of the installed TRL ---

SIGNATURES = {
    "_compute_loss": ["self", "model", "inputs"],
    "_generate_and_score_completions": ["self", "inputs"],
    "_calculate_rewards": ["self", "inputs", "prompts", "completions", "completion_ids_list"],
    "_tokenize_prompts": ["self", "prompts"],
    "_save_checkpoint": ["self", "model", "trial"],
    "_load_optimizer_and_scheduler": ["self", "checkpoint"],
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_the_overridden_methods_are_there(name: str) -> None:
    received = list(inspect.signature(getattr(GRPOTrainer, name)).parameters)
    assert received == SIGNATURES[name], f"GRPOTrainer.{name} has other parameters"


class Source:
    """A method's syntax tree, with the line numbers of its file."""

    def __init__(self, text: str, *, file: str = "source", first: int = 1) -> None:
        self.file = file
        self.tree = ast.increment_lineno(ast.parse(textwrap.dedent(text)), first - 1)
        self.parents: dict[ast.AST, Any] = {
            child: node for node in ast.walk(self.tree) for child in ast.iter_child_nodes(node)
        }

    @classmethod
    def of(cls, name: str) -> "Source":
        method = inspect.unwrap(getattr(GRPOTrainer, name))
        lines, first = inspect.getsourcelines(method)
        return cls("".join(lines), file=inspect.getsourcefile(method) or name, first=first)

    def find(self, expression: str) -> list[Any]:
        """Nodes that read as ``expression``, in the order of the source."""
        nodes = [n for n in ast.walk(self.tree) if isinstance(n, ast.expr)]
        found = [n for n in nodes if ast.unparse(n) == expression]
        return sorted(found, key=lambda node: node.lineno)

    def where(self, node: Any) -> str:
        return f"{self.file}:{node.lineno}: {ast.unparse(self.parents.get(node, node))}"


def uses_of_beta(source: Source) -> list[str]:
    """The expressions around each ``self.beta``; fails at one the stand-in does not know."""
    uses = []
    for node in source.find("self.beta"):
        use = ast.unparse(source.parents[node])
        assert use in ("self.beta != 0.0", "self.beta * per_token_kl"), (
            f"the stand-in for self.beta does not serve {source.where(node)}"
        )
        uses.append(use)
    return uses


def test_the_loss_uses_beta_in_two_forms_only() -> None:
    uses = uses_of_beta(Source.of("_compute_loss"))
    assert uses.count("self.beta * per_token_kl") == 1
    assert uses.count("self.beta != 0.0") == 3


def test_the_check_of_the_source_names_the_line() -> None:
    changed = Source("def f(self):\n    if self.beta > 0:\n        pass\n", file="trl.py", first=70)
    with pytest.raises(AssertionError, match=r"trl\.py:71: self\.beta > 0"):
        uses_of_beta(changed)


def test_the_loss_reads_the_reference_after_the_log_probabilities() -> None:
    source = Source.of("_compute_loss")
    (policy,) = source.find("self._get_per_token_logps_and_entropies")
    (reference,) = source.find("inputs['ref_per_token_logps']")
    assert policy.lineno < reference.lineno, source.where(reference)


def test_beta_0_leaves_out_the_reference_pass_and_nothing_else() -> None:
    source = Source.of("_generate_and_score_completions")
    (node,) = source.find("self.beta")
    condition = source.parents[node]
    assert condition in source.find("self.beta != 0.0"), source.where(node)
    branch = source.parents[condition]
    assert isinstance(branch, ast.If), source.where(condition)
    assigned = {
        ast.unparse(name)
        for statement in branch.body
        for name in ast.walk(statement)
        if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)
    }
    assert assigned == {"ref_per_token_logps", "_", "model"}, source.where(condition)
