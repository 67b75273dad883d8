"""A run of the domain ``llm``: TRL trains, the run directory is ours."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from datasets import Dataset
from torch import nn
from transformers import AutoTokenizer
from transformers.trainer_callback import PrinterCallback

from adrpo.config.llm import CompletionConfig
from adrpo.data.base import Prompt
from adrpo.data.splits import evaluated
from adrpo.errors import AdrpoError
from adrpo.evaluation.course import Course, is_complete
from adrpo.evaluation.early_stopping import EarlyStopping
from adrpo.evaluation.evaluator import Evaluator
from adrpo.llm.adapter_weights import begin_with, check_weights, same_adapter, take_weights
from adrpo.llm.arguments import (
    completions_of_a_process,
    lora,
    naming_modules,
    trainer_arguments,
)
from adrpo.llm.context import check_completion_length, check_vocabulary
from adrpo.llm.drawing import CompletionDrawing, Completions
from adrpo.llm.facts import FACTS
from adrpo.llm.pretrained import (
    check_reads,
    loading_options,
    model_source,
    reading_model,
    tokenizer_options,
    training_device,
)
from adrpo.llm.recorder import Recorder
from adrpo.llm.run_prompts import load_held_out, load_train, training_set, with_columns
from adrpo.llm.trained_types import in_float32
from adrpo.llm.trainer import ADRPOTrainer
from adrpo.llm.training_reward import TrainingReward
from adrpo.llm.trial import FEW_PADDINGS, try_arithmetic
from adrpo.llm.trl_messages import without_messages
from adrpo.llm.turns import of_whole_turns, thought_opening
from adrpo.metrics import UNSEEN
from adrpo.rewards.loading import build_measured, training_reward
from adrpo.runs.checkpoints import processes_of, step_of
from adrpo.runs.directory import RunDirectory
from adrpo.runs.facts import Facts
from adrpo.runs.inputs import Inputs, callable_name
from adrpo.runs.manifest import sealed_folder
from adrpo.runs.model_folder import check_words
from adrpo.runs.processes import ALONE, Processes, join_processes
from adrpo.runs.progress import TrainingProgress
from adrpo.runs.seeding import seed_everything
from adrpo.runs.session import Session, session
from adrpo.runs.start import START, changed_start, start_of
from adrpo.runs.trials import Trial, check_trials


class LanguageRun:
    """Trains a language model by a configuration, as ``adrpo train`` does.

    Everything is in :class:`ADRPOTrainer`; this is for those who want a run directory with its
    evaluations and its report instead of a script of their own. A domain on top of this one
    replaces the class attributes, and the methods that read prompts and make the trainer.

    Args:
        config: the resolved configuration.
        reward: a callable that replaces the configuration's reward.
    """

    facts: ClassVar[Facts] = FACTS
    embedded: ClassVar[str] = "language_model"
    drawing: ClassVar[type[CompletionDrawing]] = CompletionDrawing

    def __init__(
        self, config: CompletionConfig, *, reward: Callable[..., Any] | None = None
    ) -> None:
        self.config: Any = config
        self.source = model_source(config.model, embedded=self.embedded)
        with reading_model(self.source):
            found = self.check_kind()
        start_of(config.adapter)  # before anything is loaded
        check_completion_length(config.generation.max_completion_length, found)
        self.processes = join_processes(config.model.device)
        device = training_device(config.model)
        self.own_reward = callable_name(reward)
        self.opening = ""
        terms = training_reward(
            config.reward, device, measured=config.evaluation.rewards, replacement=reward
        )
        others = build_measured(config.evaluation.rewards, device)
        self.terms, self.others = (
            of_whole_turns(part, lambda: self.opening) for part in (terms, others)
        )

    @cached_property
    def prompts(self) -> list[Prompt]:
        """The prompts that are trained on; what only measures a model does not look at them."""
        return self.load_train()

    @cached_property
    def held_out(self) -> list[Prompt]:
        """The prompts that training never sees; who measures others sets it to them."""
        return self.load_held_out()

    def check_kind(self) -> Any:
        """The model's configuration, looked at before anything is loaded or written; errors as of
        :func:`~adrpo.llm.pretrained.check_reads`."""
        return check_reads(self.source, self.config.model)

    def heard(self, prompts: Sequence[Prompt], *, progress: bool) -> list[Prompt]:
        """The ``prompts``, what comes with them looked at first; here they are text alone."""
        del progress
        return list(prompts)

    def load_train(self) -> list[Prompt]:
        """Read the prompts that are trained on."""
        return load_train(self.config)

    def load_held_out(self) -> list[Prompt]:
        """Read the prompts that training never sees."""
        return load_held_out(self.config)

    def inputs(self) -> Inputs:
        """The prompts as the run keeps them, to be known again."""
        return Inputs(train=self.prompts, held_out=self.held_out, reward=self.own_reward)

    def train(
        self,
        output_dir: str | Path,
        *,
        resume: bool = False,
        progress: bool = True,
        base: str | Path | None = None,
    ) -> Path:
        """Run the configured steps into ``output_dir`` and return its path.

        With ``resume`` the run that lies there goes on from its last complete checkpoint, and ends
        with the same metrics and the same weights as if it had never stopped. ``base`` is a run
        whose evaluation of the untrained model is taken over.

        Raises AdrpoError for a folder that holds another run or that another process works in,
        a model that can't be loaded, a ``base`` that measured something else, or a loss that is
        not finite.
        """
        self.config.check_trains()
        self._check_processes()
        self._check_count()
        with session(
            output_dir,
            self.config,
            facts=self.facts,
            inputs=self.inputs(),
            splits=list(self._splits()),
            resume=resume,
            base=base,
            processes=self.processes,
        ) as opened:
            if not (resume and is_complete(opened, self.config.training.steps, self._stopping())):
                checkpoint = self._go_back(opened) if resume else None
                self._train(opened.run, checkpoint, progress, base)
        return opened.run.path

    def _check_processes(self) -> None:
        """Raise AdrpoError where the processes can't share the work, before anything is written."""
        engine = self.processes.engine
        if engine is not None:
            raise AdrpoError(
                f"accelerate launch: expected data parallelism for domain "
                f"{self.facts.domain}, whose evaluations draw another number of tokens in each "
                f"process; received {engine}; use recipes/accelerate/ddp.yaml"
            )
        completions_of_a_process(self.config.training, self.processes.count)
        for split, prompts in self._splits().items():
            self.processes.share(len(prompts), f"prompts that are evaluated ({split})")

    def _check_count(self) -> None:
        """Raise AdrpoError where the prompts are too few for a step: TRL would make none."""
        needed, found = self.config.training.prompts_per_step, len(self.prompts)
        if found < needed:
            raise AdrpoError(
                f"prompts: expected at least training.prompts_per_step = {needed} to train on, "
                f"received {found} from {self.config.prompts.source}; lower it, or name more"
            )

    def _go_back(self, opened: Session) -> Path | None:
        """The checkpoint to go on from, with the rows after it dropped.

        Raises AdrpoError where the run began with another adapter, or where another number of
        processes stopped.
        """
        checkpoint = opened.checkpoint()
        if checkpoint and step_of(checkpoint) < self.config.training.steps:
            self._check_number(checkpoint)
        start = start_of(self.config.adapter)
        if checkpoint and start and not same_adapter(start, opened.run.path / START):
            raise changed_start(opened.run.path, str(start))
        opened.go_back(-1 if checkpoint is None else step_of(checkpoint))
        return checkpoint

    def _check_number(self, checkpoint: Path) -> None:
        """Raise AdrpoError where another number of processes than this one made ``checkpoint``:
        each draws its completions by a random state of its own, and the end would be another."""
        expected, received = processes_of(checkpoint), self.processes.count
        if expected not in (0, received):
            raise AdrpoError(
                f"--resume: expected {expected} processes, of which {checkpoint} has the random "
                f"states by which completions are drawn; received {received}; start as many "
                f"(accelerate launch --num_processes {expected}), or train again into another "
                f"--output-dir"
            )

    def _train(
        self, run: RunDirectory, checkpoint: Path | None, progress: bool, base: str | Path | None
    ) -> None:
        # Before the model is made: an adapter's first weights are drawn from torch's generator.
        seed_everything(self.config.training.seed)
        reward = TrainingReward(self.terms, self.config.training, processes=self.processes)
        trainer = self._trainer(run, reward, self.prompts)
        if checkpoint is None:
            self._keep_start(run, trainer)
        course = self._course(trainer)
        steps, done = self.config.training.steps, step_of(checkpoint) if checkpoint else 0
        if checkpoint is not None and (done >= steps or course.ended(run)):
            # Nothing is left but final/, and transformers would make one step more.
            take_weights(trainer, checkpoint)
        else:
            rows = run.read_metrics()
            before = rows[-1]["wall_seconds"] if rows else 0.0
            shown = progress and self.processes.is_main
            with (
                # The progress bar tells of samples without a score once, and metrics.jsonl counts.
                without_messages("All reward functions returned None"),
                TrainingProgress(steps, completed=done, enabled=shown, run=run) as bar,
            ):
                asked = {"trial": lambda: self._try(trainer), "base": base}
                recorder = Recorder(
                    self.config, run, reward, course, bar, seconds_before=before, **asked
                )
                trainer.add_callback(recorder)
                with finite_probabilities():
                    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        course.finish(run)

    def _keep_start(self, run: RunDirectory, trainer: ADRPOTrainer) -> None:
        """Write the adapter that a run begins with into its ``start/``."""
        if start_of(self.config.adapter) is not None and self.processes.is_main:
            model: Any = trainer.accelerator.unwrap_model(trainer.model)
            with sealed_folder(run.path / START) as partial:
                model.save_pretrained(str(partial), selected_adapters=["default"])

    def _try(self, trainer: ADRPOTrainer) -> None:
        """Raise AdrpoError, in all processes, where the arithmetic of ``trainer`` is wrong."""
        with self.processes.failing_together():
            check_trials(try_arithmetic(trainer, self.prompts, paddings=FEW_PADDINGS))

    def tried(self) -> list[Trial]:
        """Try the arithmetic of the untrained model; nothing is trained or kept."""
        with tempfile.TemporaryDirectory() as folder:
            run = RunDirectory(Path(folder))
            trainer = self._trainer(run, TrainingReward(self.terms), self.held_out)
            return try_arithmetic(trainer, self.held_out)

    @contextmanager
    def subject(self) -> "Iterator[LanguageSubject]":
        """The untrained model, to be measured; TRL's own files are gone at the end."""
        with tempfile.TemporaryDirectory() as folder:
            run = RunDirectory(Path(folder))
            trainer = self._trainer(run, TrainingReward(self.terms), self.held_out)
            evaluator = self._evaluator(trainer, self._reference(trainer), UNSEEN, self.held_out)
            with finite_probabilities():
                yield LanguageSubject(trainer, evaluator)

    def _course(self, trainer: ADRPOTrainer) -> Course:
        return Course(
            self._evaluators(trainer),
            self._stopping(),
            lambda folder: trainer.save_model(str(folder)),
            processes=self.processes,
        )

    def _stopping(self) -> EarlyStopping:
        settings = self.config.evaluation
        return EarlyStopping(settings.early_stopping, settings.patience)

    def _splits(self) -> dict[str, Sequence[Prompt]]:
        return evaluated(self.prompts, self.held_out, seen=self.config.evaluation.seen_prompts)

    def _evaluators(self, trainer: ADRPOTrainer) -> list[Evaluator[Completions]]:
        reference = self._reference(trainer)
        return [
            self._evaluator(trainer, reference, split, prompts, self.processes)
            for split, prompts in self._splits().items()
        ]

    def _evaluator(
        self,
        trainer: ADRPOTrainer,
        reference: nn.Module | None,
        split: str,
        prompts: Sequence[Prompt],
        processes: Processes = ALONE,
    ) -> Evaluator[Completions]:
        return Evaluator(
            self.drawing(
                self.config, trainer, reference, prompts, split=split, processes=processes
            ),
            self.terms,
            others=self.others,
            processes=processes,
        )

    def _trainer(
        self, run: RunDirectory, reward: TrainingReward, prompts: Sequence[Prompt]
    ) -> ADRPOTrainer:
        data = self.training_set(prompts)
        with reading_model(self.source), naming_modules(self.config.adapter):
            processing = self.processing()
            check_words(getattr(processing, "tokenizer", processing), self.source)
            self.opening = thought_opening(processing, self.config.model.chat_template_kwargs)
            trainer = self.new_trainer(
                model=self.source,
                processing_class=processing,
                reward_funcs=with_columns(reward, prompts),
                args=trainer_arguments(self.config, run, processes=self.processes.count),
                train_dataset=data,
            )
            check_vocabulary(trainer, prompts)
        trainer.carried = reward.normalizer
        trainer.remove_callback(PrinterCallback)
        self._begin(trainer)
        return trainer

    def _begin(self, trainer: ADRPOTrainer) -> None:
        """Give the new adapter the weights of ``adapter.start_from``, where it names some."""
        adapter = self.config.adapter
        if self.config.model.quantization is not None:
            in_float32(trainer.model)
        if (start := start_of(adapter)) is not None:
            model: Any = trainer.accelerator.unwrap_model(trainer.model)
            begin_with(model, start, is_reference=adapter.reference == "start")

    def training_set(self, prompts: Sequence[Prompt]) -> Dataset:
        """The prompts as TRL trains on them."""
        return training_set(prompts)

    def processing(self) -> Any:
        """Load the model's tokenizer, or what stands in its place."""
        options = tokenizer_options(self.config.model)
        return AutoTokenizer.from_pretrained(self.source, padding_side="left", **options)

    def new_trainer(self, **arguments: Any) -> ADRPOTrainer:
        """Load the model into a trainer, which takes ``arguments`` as they are."""
        return ADRPOTrainer(peft_config=lora(self.config.adapter), **arguments)

    def _reference(self, trainer: ADRPOTrainer) -> nn.Module | None:
        """A frozen copy for the KL of evaluations, where the trainer keeps none (beta_0 = 0)."""
        if trainer.ref_model is not None or self.config.adapter is not None:
            return None
        own: Any = trainer.accelerator.unwrap_model(trainer.model)
        model = type(own).from_pretrained(self.source, **loading_options(self.config.model))
        return model.to(trainer.accelerator.device).eval().requires_grad_(False)


@contextmanager
def finite_probabilities() -> Iterator[None]:
    """Name the cause where torch refuses to draw a token, since a model's logits are no numbers."""
    try:
        yield
    except RuntimeError as error:
        if "probability tensor contains" not in str(error):
            raise
        raise AdrpoError(
            "model: expected finite logits to draw tokens by, received NaN or infinity: the "
            "weights are none, training diverged, or model.dtype can't hold what the model computes"
        ) from error


class LanguageSubject:
    """A language model that is measured on held-out prompts."""

    def __init__(self, trainer: ADRPOTrainer, evaluator: Evaluator[Completions]) -> None:
        self.trainer = trainer
        self.evaluator = evaluator

    def take(self, final: Path) -> None:
        """Take the weights that training left in ``final``.

        Raises AdrpoError where they are not those of the configuration's model.
        """
        take_weights(self.trainer, final)

    def check(self, final: Path) -> None:
        """Raise AdrpoError where ``take`` would; the model is as it was afterwards."""
        check_weights(self.trainer, final)
