"""Answers to the questions world's questions, judged exactly."""

from collections.abc import Mapping, Sequence
from typing import Any

from adrpo.embedded.questions import UNKNOWN, parse_question
from adrpo.errors import AdrpoError
from adrpo.rewards.completions import Completion, completion_text


class QuestionAnswer:
    """1 where the completion is the answer of the prompt's question, else 0; ``hedge`` for "?".

    Nothing is learned: the answer is computed from the prompt (:mod:`adrpo.embedded.questions`).
    Spaces around the completion do not count; anything else in it is wrong.

    With ``hedge`` h, the honest "?" is worth more than trying wherever the policy is right with
    p < h, and there is a local optimum: "?" for all, with reward h, while a policy that learns the
    answers reaches 1.

    Args:
        hedge: value of the answer "?", in [0, 1).

    Raises:
        AdrpoError: ``hedge`` outside its range, prompts and completions that differ in number, or
            a prompt that is no question of the questions world.
    """

    def __init__(self, hedge: float = 0.0) -> None:
        if not 0 <= hedge < 1:
            raise AdrpoError(
                f"question_answer: expected hedge in [0, 1), received {hedge!r}; from 1 on the "
                "right answer would be worth no more than '?'"
            )
        self.hedge = float(hedge)

    def __call__(
        self, prompts: Sequence[Any], completions: Sequence[Completion], **columns: Any
    ) -> list[float]:
        """One score a completion; prompts are texts or conversations, as TRL gives them."""
        if len(prompts) != len(completions):
            raise AdrpoError(
                f"question_answer: expected one completion per prompt, received {len(prompts)} "
                f"prompts and {len(completions)} completions"
            )
        return [
            self._score(_question_text(prompt), completion_text(completion).strip())
            for prompt, completion in zip(prompts, completions, strict=True)
        ]

    def _score(self, prompt: str, said: str) -> float:
        try:
            question = parse_question(prompt)
        except ValueError as error:
            raise AdrpoError(
                f"question_answer: {error}; take prompts from adrpo.embedded.questions"
            ) from None
        if said == UNKNOWN:
            return self.hedge
        return float(said == question.answer)


def _question_text(prompt: Any) -> str:
    """A text, or the content of a conversation's last user message."""
    if isinstance(prompt, str):
        return prompt
    if isinstance(prompt, Sequence) and all(isinstance(turn, Mapping) for turn in prompt):
        asked = [turn.get("content") for turn in prompt if turn.get("role") == "user"]
        if asked and isinstance(asked[-1], str):
            return asked[-1]
    raise AdrpoError(
        "question_answer: expected a prompt as text or as messages {'role', 'content'} of which "
        f"one is the user's, received {prompt!r:.60}"
    )
