"""A benchmark's questions put to a model on this machine, a trained one or any other."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from adrpo.audio.benchmarks.answers import Answers
from adrpo.audio.benchmarks.endpoint import sound_file
from adrpo.audio.benchmarks.questions import Question, QuestionSet
from adrpo.audio.benchmarks.scorers import chosen
from adrpo.audio.facts import EMBEDDED
from adrpo.config.audio import AudioConfig
from adrpo.data.base import Content, Prompt
from adrpo.errors import AdrpoError
from adrpo.rewards.multiple_choice import choice_texts

OWN = (
    "model.dtype",
    "model.autocast",
    "model.chat_template_kwargs",
    "prompts.form",
    "prompts.system",
    "generation.max_completion_length",
)
"""Settings that change an answer: a file of answers has one value of each. An adapter's are further
ones."""

WEIGHTS = ("*.safetensors", "pytorch_model*.bin", "adapter_model.bin")
"""Names of the files with weights in a folder."""


def shift_file(answers: Path, shift: int) -> Path:
    """The file of the answers to choices moved by ``shift`` places; ``answers`` itself for 0."""
    return answers.with_name(f"{answers.stem}.shift-{shift}.jsonl") if shift else answers


def shifts_of(questions: QuestionSet) -> int:
    """The greatest number of choices, each of which can stand first."""
    return max(len(question.choices) for question in questions.questions)


class LocalModel:
    """A model on this machine and what its file of answers lacks.

    Answers are the likeliest tokens, without a draw, and kept as they arrive
    (:class:`~adrpo.audio.benchmarks.answers.Answers`). A row has "choices" in the order shown,
    the benchmark's key with the choice that the answer names, as the benchmark writes it (the
    whole answer where it names none, or several), and "said", the whole answer.

    Args:
        name: what the user called it.
        config: its settings; the form and the system's turn of its prompts ask the questions.
        final: folder of trained weights; None: it is asked as it is.
        questions: with their sounds in the folder of their file, or below it.
        answers: the file; where it is missing, one is begun.
        shifts: whether each choice comes first once, in a file of its own
            (:func:`shift_file`).

    Raises:
        AdrpoError: a model that does not hear, a sound that is missing, empty or elsewhere, or a
            file that holds something else than this model's answers. Nothing is written then.
    """

    def __init__(
        self,
        name: str,
        config: Any,
        final: Path | None,
        questions: QuestionSet,
        answers: Path,
        *,
        shifts: bool,
    ) -> None:
        if not isinstance(config, AudioConfig):
            raise AdrpoError(
                f"--benchmark: expected a model that hears (domain audio), received {name}, of the "
                f"domain {config.domain}; name a run or a recipe of the domain audio"
            )
        self.config, self.final, self.questions = config, final, questions
        self._sounds = {one.id: sound_file(one, questions) for one in questions.questions}
        settings = config.model_dump(mode="json")
        asked = {
            "model": config.model.pretrained,
            "model_sha256": _sha256(_folder(config)),
            "weights_sha256": _sha256(final),
            "adapter": None if final is None else _adapter(settings),
            **{key: _value(settings, key) for key in OWN},
            "questions_sha256": questions.sha256,
        }
        count = shifts_of(questions) if shifts else 1
        self.files = [
            Answers(shift_file(answers, shift), {**asked, "shift": shift}, _with(questions, shift))
            for shift in range(count)
        ]

    @property
    def left(self) -> int:
        """Number of answers that the files lack."""
        return sum(len(file.left) for file in self.files)

    def ask(self, told: Callable[[int, int], None]) -> None:
        """Ask what is left; ``told(answered, of)`` is called after each batch.

        Raises:
            AdrpoError: a model that can't be loaded, or a sound that it can't hear; nothing is
                asked then.
        """
        from adrpo.audio.run import AudioRun

        if not self.left:
            return
        left, done = self.left, 0
        run = AudioRun(self.config)
        self._check_sounds(run.processor.feature_extractor)
        first = next(question for file in self.files for question in file.left)
        run.held_out = [Prompt(self._asked(first, 0))]
        at_once = self.config.evaluation.batch_size
        with run.subject() as subject:
            if self.final is not None:
                subject.take(self.final)
            drawing: Any = subject.evaluator.drawing
            for shift, file in enumerate(self.files):
                with file.growing() as keep:
                    for start in range(0, len(file.left), at_once):
                        batch = file.left[start : start + at_once]
                        for row in self._answered(drawing, batch, shift):
                            keep(row)
                        done += len(batch)
                        told(done, left)

    def _check_sounds(self, extractor: Any) -> None:
        """Hear what is left to ask about once: a file that can't be heard is told before the work,
        and not within it."""
        from adrpo.audio.data.clips import ROW, check_clips

        left = {question.id: question for file in self.files for question in file.left}
        prompts = [
            Prompt(one.text, columns={"audio": str(self._sounds[one.id]), ROW: one.id})
            for one in left.values()
        ]
        check_clips(prompts, longest=extractor.chunk_length)

    def _answered(
        self, drawing: Any, questions: Sequence[Question], shift: int
    ) -> list[Mapping[str, Any]]:
        rows = [
            {"prompt": self._asked(one, shift), "audio": str(self._sounds[one.id])}
            for one in questions
        ]
        return [
            {
                "id": question.id,
                "choices": shifted(question.choices, shift),
                self.questions.benchmark.output: _output(question, said, shift),
                "said": said,
            }
            for question, said in zip(questions, drawing.complete(rows), strict=True)
        ]

    def _asked(self, question: Question, shift: int) -> Content:
        from adrpo.audio.data.forms import conversation

        prompts = self.config.prompts
        choices = shifted(_texts(question), shift)
        return conversation(question.text, choices, form=prompts.form, system=prompts.system)


def shifted(choices: Sequence[str], shift: int) -> list[str]:
    """``choices``, the one at the place ``shift`` first, and those before it last."""
    return [*choices[shift:], *choices[:shift]]


def _texts(question: Question) -> list[str]:
    """The choices as they are shown: letters that the data has before them would not move."""
    return choice_texts(question.choices) or []


def _output(question: Question, said: str, shift: int) -> str:
    """The choice that ``said`` names, as the data writes it; all of ``said`` where it names none
    or several."""
    shown = shifted(_texts(question), shift)
    named = chosen(said, shown)
    return said if named is None else shifted(question.choices, shift)[shown.index(named)]


def _with(questions: QuestionSet, shift: int) -> list[Question]:
    """The questions that have a choice at the place ``shift``."""
    return [question for question in questions.questions if len(question.choices) > shift]


def _value(settings: Mapping[str, Any], key: str) -> Any:
    section, _, name = key.partition(".")
    return settings[section][name]


def _folder(config: AudioConfig) -> Path | None:
    """The folder of the model as it was before training; None on the Hub, where a name tells it."""
    from adrpo.llm.pretrained import model_source

    folder = Path(model_source(config.model, embedded=EMBEDDED))
    return folder if folder.is_dir() else None


def _adapter(settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """The settings of an adapter that change an answer: where its training began does not."""
    adapter = settings["adapter"]
    return adapter and {k: v for k, v in adapter.items() if k not in ("start_from", "reference")}


def _sha256(folder: Path | None) -> str | None:
    """The checksum of the weights in a folder, whatever it is called; None for None.

    Raises AdrpoError where there are none.
    """
    if folder is None:
        return None
    from adrpo.llm.adapter_weights import check_adapter_folder

    check_adapter_folder(folder)
    found = hashlib.sha256()
    for path in sorted(path for name in WEIGHTS for path in folder.glob(name)):
        with path.open("rb") as file:
            found.update(hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()
