"""A benchmark's questions put to a model behind an OpenAI-compatible endpoint that takes audio."""

import base64
import wave
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

from pydantic import Field, ValidationError

from adrpo.audio.benchmarks.answers import Answers
from adrpo.audio.benchmarks.questions import Question, QuestionSet
from adrpo.config.documents import parse_yaml
from adrpo.config.fields import Count, NonNegativeCount, PositiveNumber, Section, Switch, Text
from adrpo.config.messages import describe
from adrpo.errors import AdrpoError
from adrpo.rewards.transport import JsonClient

PROMPT = (
    "{question}\nChoose one of these:\n{choices}\n"
    "Answer with the text of one choice, word for word, and with nothing else."
)

OWN = ("model", "prompt", "max_tokens", "extra_body")
"""Settings that change an answer: a file of answers has one value of each."""


class EndpointSettings(Section):
    """Settings of an endpoint and its requests; KEY=VALUE on the command line."""

    model: Text = Field(description="The name under which the server has the model.")
    prompt: Text = Field(default=PROMPT, description='With "{question}" and "{choices}" in it.')
    max_tokens: Count = Field(default=1024, description="Of an answer, thoughts among them.")
    extra_body: dict[str, Any] = Field(
        default_factory=dict, description="Further keys of the request; null takes one out."
    )
    api_key_env: Text | None = Field(
        default=None, description="Environment variable with the key, which is written nowhere."
    )
    concurrency: Count = Field(default=4, description="Requests at a time.")
    retries: NonNegativeCount = Field(default=4, description="Attempts after the first.")
    backoff: PositiveNumber = Field(default=1.0, description="Seconds before the first of them.")
    timeout: PositiveNumber = Field(default=120.0, description="Seconds for one answer.")
    dollars_per_minute: PositiveNumber | None = Field(
        default=None, description="Price of a minute of audio, for the estimate."
    )
    dry_run: Switch = Field(default=False, description="Tell the estimate and ask nothing.")


def endpoint_settings(written: Sequence[str]) -> EndpointSettings:
    """The settings that "KEY=VALUE" words give; AdrpoError where one is unknown or wrong."""
    values: dict[str, Any] = {}
    for word in written:
        key, _, text = word.partition("=")
        values[key.strip()] = parse_yaml(text, f"--endpoint, {word:.60}")
    try:
        settings = EndpointSettings.model_validate(values)
    except ValidationError as error:
        raise AdrpoError(describe(error, {}, "--endpoint", EndpointSettings)) from None
    if "{question}" not in settings.prompt or "{choices}" not in settings.prompt:
        raise AdrpoError(
            f"--endpoint: prompt: expected a text with '{{question}}' and '{{choices}}'; received "
            f"{settings.prompt!r:.60}"
        )
    return settings


class Endpoint:
    """The questions that a file of answers lacks, and the endpoint that is to answer them.

    Answers are kept as they arrive (:class:`~adrpo.audio.benchmarks.answers.Answers`); the key
    stands in no file.

    Args:
        url: of chat completions, as "http://host:8000/v1/chat/completions".
        settings: how it is asked.
        questions: with their sounds in the folder of their file, or below it.
        answers: the file; where it is missing, one is begun.

    Raises:
        AdrpoError: a url or setting that is wrong, a sound that is missing, empty or elsewhere, or
            a file that holds something else than this model's answers. Nothing is written then.
    """

    def __init__(
        self, url: str, settings: EndpointSettings, questions: QuestionSet, answers: Path
    ) -> None:
        self.settings, self.questions = settings, questions
        self._client = JsonClient(
            "--endpoint",
            url,
            timeout=settings.timeout,
            retries=settings.retries,
            backoff=settings.backoff,
            concurrency=settings.concurrency,
            api_key_env=settings.api_key_env,
        )
        self._sounds = {one.id: sound_file(one, questions) for one in questions.questions}
        own = {
            "endpoint": self._client.where.partition(": ")[2],
            **{name: getattr(settings, name) for name in OWN},
            "questions_sha256": questions.sha256,
        }
        self.answers = answers
        self._file = Answers(answers, own, questions.questions)

    @property
    def left(self) -> list[Question]:
        """The questions that the file has no answer to."""
        return self._file.left

    def estimate(self) -> str:
        """One line on what asking will take: requests, sound, text, and the price of the sound."""
        sounds = [self._sounds[question.id] for question in self.left]
        lengths = [_seconds(path) for path in sounds]
        minutes = sum(length for length in lengths if length is not None) / 60
        unknown = sum(length is None for length in lengths)
        size = sum(path.stat().st_size for path in sounds) / 1e6
        letters = sum(len(self._text(question)) for question in self.left)
        price = self.settings.dollars_per_minute
        cost = f"{price * minutes:.2f} dollars of audio" if price else "no dollars_per_minute given"
        return (
            f"{len(self.left)} of {len(self._sounds)} questions to ask: {minutes:.1f} minutes of "
            f"audio ({size:.1f} MB{f', {unknown} files of unknown length' if unknown else ''}), "
            f"{letters} letters of text; {cost}"
        )

    def ask(self, told: Callable[[int, int], None]) -> None:
        """Ask what is left; ``told(answered, of)`` is called after each answer, in any thread.

        Raises:
            AdrpoError: no answer after the last attempt, a status that is not tried again, or an
                answer of another form. What was answered before is in the file.
        """
        with self._file.growing() as grow:
            lock, done = Lock(), 0

            def keep(question: Question, answer: Any) -> None:
                nonlocal done
                grow({"id": question.id, self.questions.benchmark.output: self._said(answer)})
                with lock:
                    done += 1
                    told(done, len(self.left))

            self._client.post_all(self.left, self._request, keep=keep)

    def _text(self, question: Question) -> str:
        text = self.settings.prompt.replace("{choices}", "\n".join(question.choices))
        return text.replace("{question}", question.text)

    def _request(self, question: Question) -> dict[str, Any]:
        path = self._sounds[question.id]
        sound = {
            "data": base64.b64encode(path.read_bytes()).decode("ascii"),
            "format": path.suffix[1:].lower(),
        }
        content = [
            # The sound first: models of this kind were trained so.
            {"type": "input_audio", "input_audio": sound},
            {"type": "text", "text": self._text(question)},
        ]
        body = {
            "model": self.settings.model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": self.settings.max_tokens,
            "temperature": 0,
            **self.settings.extra_body,
        }
        return {key: value for key, value in body.items() if value is not None}

    def _said(self, answer: Any) -> str:
        try:
            said = answer["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError):
            said = answer
        if said is not None and not isinstance(said, str):
            raise AdrpoError(
                f"{self._client.where}: expected an answer with choices[0].message.content as a "
                f"text, received {answer!r:.120}; use a server of OpenAI's chat completions"
            )
        # A model that refuses has no content: an answer, and a wrong one.
        return said or ""


def sound_file(question: Question, questions: QuestionSet) -> Path:
    """The file of a question's sound, checked.

    It must lie with the questions: their file, which others wrote, is not to say what of this
    machine is sent away.
    """
    folder = questions.path.parent
    if question.audio is None:
        raise AdrpoError(
            f"{questions.path}: expected {questions.benchmark.audio!r} of {question.id}; received "
            f"a question without a sound"
        )
    path = folder / question.audio
    if not path.resolve().is_relative_to(folder.resolve()):
        raise AdrpoError(
            f"{questions.path}: expected the sound of {question.id} within {folder}; received "
            f"{question.audio!r:.60}"
        )
    if not path.is_file() or not path.stat().st_size:
        raise AdrpoError(
            f"{path}: expected the sound of {question.id}; received "
            f"{'an empty file' if path.is_file() else 'no file'}; download the benchmark's audio"
        )
    return path


def _seconds(path: Path) -> float | None:
    """Length of a WAV file; None for one of another form."""
    try:
        with wave.open(str(path)) as sound:
            return sound.getnframes() / sound.getframerate()
    except (wave.Error, EOFError, ZeroDivisionError):
        return None
