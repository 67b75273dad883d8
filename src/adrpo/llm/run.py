"""A run of the domain ``llm``: TRL trains, the run directory is ours."""

import re
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.trainer_callback import PrinterCallback

from adrpo.config import LanguageConfig, config_to_yaml
from adrpo.errors import AdrpoError
from adrpo.llm.arguments import lora, reward_functions, trainer_arguments
from adrpo.llm.evaluator import LanguageEvaluator
from adrpo.llm.pretrained import loading_options, model_source, tokenizer_options
from adrpo.llm.prompt_rows import load_prompt_rows
from adrpo.llm.recorder import Recorder
from adrpo.llm.trainer import STATE_FILE, ADRPOTrainer
from adrpo.rewards.loading import build_measured, build_reward
from adrpo.runs.directory import RunDirectory
from adrpo.runs.durable import replace_folder
from adrpo.runs.lock import exclusive
from adrpo.runs.progress import TrainingProgress
from adrpo.runs.resuming import check_same_run
from adrpo.runs.seeding import seed_everything


class LanguageRun:
    """Trains a language model by a configuration, as ``adrpo train`` does.

    Everything is in :class:`ADRPOTrainer`; this is for those who want a run directory with its
    evaluations and its report instead of a script of their own.
    """

    def __init__(self, config: LanguageConfig) -> None:
        self.config = config
        self.source = model_source(config.model)
        self.train_rows, self.held_out = load_prompt_rows(config.prompts)
        on_gpu = config.model.device == "auto" and torch.cuda.is_available()
        device = "cuda" if on_gpu else "cpu"
        self.terms = build_reward(config.reward, device)
        self.others = build_measured(config.evaluation.rewards, device)

    def train(self, output_dir: str | Path, *, resume: bool = False, progress: bool = True) -> Path:
        """Run the configured steps into ``output_dir`` and return its path.

        With ``resume`` the run that lies there goes on from its last complete checkpoint.

        Raises AdrpoError for a folder that holds another run or that another process works in,
        a model that can't be loaded, or a loss that is not finite.
        """
        path = Path(output_dir)
        if resume:
            run = RunDirectory.open(path)
        else:
            run = RunDirectory.create(path, config_to_yaml(self.config))
        with exclusive(run.path):
            checkpoint = self._go_back(run) if resume else None
            self._train(run, checkpoint, progress)
        return run.path

    def _go_back(self, run: RunDirectory) -> Path | None:
        """The checkpoint to go on from, with the rows after it dropped."""
        check_same_run(run, self.config.model_dump(mode="json"))
        checkpoint = latest_complete(run.checkpoints)
        run.truncate_after(-1 if checkpoint is None else _step(checkpoint))
        return checkpoint

    def _train(self, run: RunDirectory, checkpoint: Path | None, progress: bool) -> None:
        # Before the model is made: an adapter's first weights are drawn from torch's generator.
        seed_everything(self.config.training.seed)
        trainer = self._trainer(run)
        rows = run.read_metrics()
        before = rows[-1]["wall_seconds"] if rows else 0.0
        evaluator = self._evaluator(trainer)
        steps = self.config.training.steps
        with TrainingProgress(steps, completed=len(rows), enabled=progress) as bar:
            trainer.add_callback(Recorder(self.config, run, evaluator, bar, seconds_before=before))
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        _save_final(trainer, run)

    def base_evaluator(self, folder: Path) -> LanguageEvaluator:
        """The evaluator of the untrained model; what TRL writes goes to ``folder``."""
        return self._evaluator(self._trainer(RunDirectory(folder)))

    def _evaluator(self, trainer: ADRPOTrainer) -> LanguageEvaluator:
        return LanguageEvaluator(
            self.config, trainer, self._reference(trainer), self.terms, self.others, self.held_out
        )

    def _trainer(self, run: RunDirectory) -> ADRPOTrainer:
        source, options = self.source, tokenizer_options(self.config.model)
        try:
            tokenizer = AutoTokenizer.from_pretrained(source, padding_side="left", **options)
        except (OSError, ValueError) as error:
            raise _not_loaded(source, error) from error
        try:
            trainer = ADRPOTrainer(
                model=source,
                reward_funcs=reward_functions(self.terms),
                args=trainer_arguments(self.config, self.terms, run),
                train_dataset=Dataset.from_list(self.train_rows),
                processing_class=tokenizer,
                peft_config=lora(self.config.adapter),
            )
        except OSError as error:
            raise _not_loaded(source, error) from error
        trainer.remove_callback(PrinterCallback)
        return trainer

    def _reference(self, trainer: ADRPOTrainer) -> nn.Module | None:
        """A frozen copy for the KL of evaluations, where the trainer keeps none (beta_0 = 0)."""
        if trainer.ref_model is not None or self.config.adapter is not None:
            return None
        model: Any = AutoModelForCausalLM.from_pretrained(
            self.source, **loading_options(self.config.model)
        )
        return model.to(trainer.accelerator.device).eval().requires_grad_(False)


def _not_loaded(source: str, error: Exception) -> AdrpoError:
    reason = " ".join(str(error).split())[:300]
    return AdrpoError(
        f"model.pretrained: expected a causal language model with its tokenizer, received "
        f"{source!r}, which can't be loaded: {reason}"
    )


def load_final(trainer: ADRPOTrainer, config: LanguageConfig, final: Path) -> None:
    """Put the weights that training left in ``final`` into the model of ``trainer``.

    Raises AdrpoError where they are not those of ``config``'s model.
    """
    model: Any = trainer.accelerator.unwrap_model(trainer.model)
    try:
        if config.adapter is None:
            trained = AutoModelForCausalLM.from_pretrained(final, dtype=config.model.dtype)
            model.load_state_dict(trained.state_dict())
            return
        from peft import load_peft_weights, set_peft_model_state_dict

        set_peft_model_state_dict(model, load_peft_weights(str(final)))
    except (OSError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise AdrpoError(
            f"{final}: expected the weights that this run's training left, received others or "
            f"none: {reason}"
        ) from error


def latest_complete(checkpoints: Path) -> Path | None:
    """The latest checkpoint that was written to its end; its own state comes last."""
    complete = [path for path in checkpoints.glob("checkpoint-*") if (path / STATE_FILE).is_file()]
    return max(complete, key=_step, default=None)


def _step(checkpoint: Path) -> int:
    found = re.fullmatch(r"checkpoint-(\d+)", checkpoint.name)
    return int(found[1]) if found else -1


def _save_final(trainer: ADRPOTrainer, run: RunDirectory) -> None:
    """The model, or its adapter, as transformers and PEFT load it, beside its tokenizer."""
    with replace_folder(run.final) as partial:
        trainer.save_model(str(partial))
