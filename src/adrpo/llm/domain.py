"""The door of language models."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adrpo.data import Prompt
from adrpo.data.base import Content
from adrpo.data.identity import shared_prompts
from adrpo.data.prompts import GENERATED, is_unfetched
from adrpo.errors import AdrpoError
from adrpo.evaluation.door import Door
from adrpo.llm.facts import FACTS
from adrpo.runs.findings import (
    Findings,
    check_device,
    check_memory,
    check_model,
    check_quantization,
    note_unfetched,
)
from adrpo.runs.model_folder import MODEL_CONFIG
from adrpo.runs.start import check_start
from adrpo.runs.trials import Trial

if TYPE_CHECKING:
    from adrpo.llm.playing import TextPlayer
    from adrpo.llm.run import LanguageRun, LanguageSubject


class LanguageDoor:
    """The :class:`~adrpo.evaluation.door.Door` of language models; a domain on top of this one
    replaces what is its own."""

    packages: tuple[str, ...] = ("trl", "datasets")
    extra = "llm"
    options = frozenset({"--lora"})
    facts = FACTS
    usual: tuple[str, ...] = ("llm/embedded",)
    own_keys: tuple[str, ...] = ()

    def build(self, config: Any, *, reward: Callable[..., Any] | None = None) -> "LanguageRun":
        from adrpo.llm.run import LanguageRun

        return LanguageRun(config, reward=reward)

    @contextmanager
    def subject(
        self, config: Any, held_out: Sequence[Prompt] | None = None
    ) -> "Iterator[LanguageSubject]":
        with self._measuring(config, held_out).subject() as subject:
            yield subject

    def _measuring(self, config: Any, held_out: Sequence[Prompt] | None) -> "LanguageRun":
        """The run of ``config``, to be measured on ``held_out``, by default its own."""
        run = self.build(config)
        if held_out is not None:
            run.held_out = run.heard(held_out, progress=False)
        return run

    def on_prompts(self, config: Any, source: str) -> Any:
        # As in every domain: a file or a data set is taken whole.
        size = config.prompts.held_out_size if source in GENERATED else None
        section = config.prompts.model_copy(update={"held_out": source, "held_out_size": size})
        return config.model_copy(update={"prompts": section})

    def sample(
        self,
        config: Any,
        final: Path | None,
        prompts: Sequence[str],
        *,
        size: int,
        seed: int,
        output_dir: Path,
        held_out: Sequence[Prompt] | None = None,
        clips: Sequence[Path] = (),
    ) -> Iterator[str]:
        """Each prompt with its completion; drawn as in training, with numbers of ``seed`` alone.

        A model that is trained on conversations is asked ``prompts`` as their user, after the
        system turns of the first held-out one.
        """
        settings = config.evaluation.model_copy(update={"samples_per_prompt": 1, "seed": seed})
        run = self._measuring(config.model_copy(update={"evaluation": settings}), held_out)
        if prompts:
            run.held_out = run.heard(self.asked(run, prompts, clips), progress=False)
        else:
            run.held_out = run.held_out[:size]
        with run.subject() as subject:
            if final is not None:
                subject.take(final)
            drawn = subject.evaluator.drawing.draw()
        for prompt, text in zip(run.held_out, drawn.texts, strict=True):
            yield f"{prompt.text}\n    {text}"

    @contextmanager
    def player(
        self, config: Any, held_out: Sequence[Prompt] | None = None
    ) -> "Iterator[TextPlayer]":
        """The model in the trainer that its evaluations are drawn by."""
        from adrpo.llm.playing import TextPlayer

        run = self._measuring(config, held_out)
        with run.subject() as subject:
            asking = partial(self.asked, run)
            yield TextPlayer(run, subject, asking, hears="--audio" in self.options)

    def asked(self, run: Any, texts: Sequence[str], clips: Sequence[Path]) -> list[Prompt]:
        """Prompts of a user's own in the form of those of ``run``, with the ``clips`` that they are
        about, where a model hears."""
        del clips
        like = run.held_out[0].content
        return [Prompt(_asked(text, like)) for text in texts]

    def embedded(self) -> Mapping[str, Callable[[], object]]:
        from adrpo.rewards.reward_model import RewardModel

        return {
            "language_model": _load_language_model,
            "language_reward": lambda: RewardModel("embedded"),
        }

    def tried(self, config: Any) -> list[Trial]:
        return self.build(config).tried()

    def reads(self, described: Mapping[str, Any]) -> bool:
        kinds = described.get(MODEL_CONFIG, {}).get("architectures") or ()
        # transformers' names of the classes that AutoModelForCausalLM loads.
        return any(kind.endswith(("ForCausalLM", "LMHeadModel")) for kind in kinds)

    def check(self, findings: Findings, config: Any) -> None:
        from adrpo.llm.pretrained import training_device

        self._check_model(findings, config)
        check_quantization(findings, config.model.quantization)
        check_start(findings, config.adapter)
        prompts = self._check_prompts(findings, config)
        device = training_device(config.model)
        check_device(findings, device)
        try:
            check_memory(findings, device, lambda free: self.memory(config, prompts, free))
        except AdrpoError as error:  # the model, of which its own line tells
            findings.note("memory", f"no estimate: {error}")

    def _check_model(self, findings: Findings, config: Any) -> None:
        from adrpo.llm.pretrained import PACKAGE, gguf_file, model_source, reading_model

        if gguf_file(config.model) is None and not config.model.pretrained.startswith(PACKAGE):
            if Path(config.model.pretrained).is_dir():
                try:
                    with reading_model(config.model.pretrained):
                        self.check_kind(config)
                except AdrpoError as error:
                    findings.bad("model", str(error))
                    return
            check_model(findings, "model", config.model.pretrained)
        else:
            try:
                findings.ok("model", f"folder {model_source(config.model)}")
            except AdrpoError as error:
                findings.bad("model", str(error))

    def check_kind(self, config: Any) -> None:
        """Look at the configuration of the model, which lies on this machine.

        Raises AdrpoError for a model of another domain, a library's error for none.
        """
        from adrpo.llm.context import check_completion_length
        from adrpo.llm.pretrained import check_reads, model_source

        found = check_reads(model_source(config.model), config.model)
        check_completion_length(config.generation.max_completion_length, found)

    def memory(self, config: Any, prompts: Sequence[Prompt], free: float | None) -> list[str]:
        """The memory that training takes, in words; ``prompts`` are all, none where they are not
        here."""
        from adrpo.llm.memory.advice import memory_lines

        return memory_lines(config, [prompt.content for prompt in prompts], free)

    def prompts(self, config: Any) -> tuple[list[Prompt], list[Prompt]]:
        """The prompts that are trained on, and those that are held out."""
        from adrpo.llm.run_prompts import load_held_out, load_train

        return load_train(config), load_held_out(config)

    def shared(self, train: Sequence[Prompt], held_out: Sequence[Prompt]) -> str | None:
        """The fault of held-out prompts that are trained on, too; None without any."""
        return shared_prompts(train, held_out)

    def _check_prompts(self, findings: Findings, config: Any) -> list[Prompt]:
        """All prompts of a run; none where they can't be read, or where some are to be fetched."""
        sources = [name for name in (config.prompts.source, config.prompts.held_out) if name]
        if unfetched := [source for source in sources if is_unfetched(source)]:
            for source in unfetched:
                note_unfetched(findings, "prompts", source)
            return []
        try:
            train, held_out = self.prompts(config)
        except AdrpoError as error:
            findings.bad(*str(error).split(": ", 1))
            return []
        named = " and ".join(sources)
        if (shared := self.shared(train, held_out)) is not None:
            findings.bad("prompts", shared)
            return [*train, *held_out]
        findings.ok("prompts", f"{len(train)} and {len(held_out)} held out from {named}")
        return [*train, *held_out]


def _load_language_model() -> object:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from adrpo.embedded.weights import weights_path

    folder = weights_path("language_model")
    return AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


def _asked(text: str, like: Content) -> Content:
    """``text`` in the form of the prompt ``like``."""
    if isinstance(like, str):
        return text
    system = [turn for turn in like if turn["role"] == "system"]
    return [*system, {"role": "user", "content": text}]


DOOR: Door = LanguageDoor()
