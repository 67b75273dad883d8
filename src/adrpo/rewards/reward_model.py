"""A learned reward of text: a language model with one number as its output."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import torch

from adrpo.errors import AdrpoError, reading
from adrpo.rewards.completions import Completion
from adrpo.runs.model_folder import NO_CODE, check_words

Message = dict[str, str]

PROBE = "a system turn"
EMBEDDED = "embedded"
"""Name of the model that the package carries."""


class RewardModel:
    """The logit of a sequence-classification model for the whole conversation; unbounded.

    The conversation, prompt and completion, is written out by the model's own chat template with
    no generation prompt, and the logit is read at its last token. A prompt that is a text is one
    user turn, a completion that is a text one assistant turn; an empty one is scored as an empty
    turn. What only some templates take is adapted for the others: a system turn becomes the
    beginning of the first user turn, and turns of one role in sequence become one, joined by an
    empty line. The special tokens of the model's tokenizer are removed from the messages: a policy
    that writes them can't open turns of its own. Of a conversation of more than ``max_length``
    tokens the last ones are read, behind the beginning-of-text token where the template has one.

    The reward of a Bradley-Terry model is known up to a constant; differences within a prompt are
    log-odds of preference. RM-Gemma-2B (weqweasdas/RM-Gemma-2B), the paper's, is such a model.

    Args:
        model: a folder or Hub id of a model with a sequence-classification head of one output and
            its tokenizer with a chat template; "embedded" is the one that the package carries, of
            answers to its questions.
        device: where the model runs.
        dtype: of its weights and arithmetic; in bfloat16 the last digits of a score depend on
            what is scored beside it.
        max_length: tokens of a conversation.
        tokens_per_batch: tokens of a forward pass, padding included; a memory knob. Conversations
            are sorted by length, so that little of it is padding.

    Raises:
        AdrpoError: no such model, a head of another size or without weights, no chat template, a
            setting out of range; on a call, a conversation that the template rejects.
    """

    reads_whole_turns = True
    """A thought that the chat template opened is part of what is read."""

    def __init__(
        self,
        model: str | Path,
        device: str | torch.device = "cpu",
        dtype: Literal["bfloat16", "float32"] = "bfloat16",
        max_length: int = 4096,
        tokens_per_batch: int = 16384,
    ) -> None:
        dtypes = {"bfloat16": torch.bfloat16, "float32": torch.float32}
        if dtype not in dtypes:
            raise AdrpoError(f"reward_model: expected {' or '.join(dtypes)}, received {dtype!r}")
        for name, value in (("max_length", max_length), ("tokens_per_batch", tokens_per_batch)):
            if value < 2:
                raise AdrpoError(f"reward_model: expected {name} >= 2, received {value!r}")
        self.name = str(model)
        self._model, self._tokenizer = _load(_source(self.name), dtypes[dtype])
        self._model.to(device).eval().requires_grad_(False)
        self._device = torch.device(device)
        self.max_length, self.tokens_per_batch = max_length, tokens_per_batch
        added = self._tokenizer.added_tokens_decoder.values()
        self._special_tokens = [str(token.content) for token in added if token.special]
        system = [_message("system", PROBE), _message("user", "u"), _message("assistant", "a")]
        # A template may refuse a system turn, or leave it out without a word.
        self._takes_system = PROBE in (self._try_template(system) or "")
        twice = [_message("user", "u"), _message("user", "u"), _message("assistant", "a")]
        self._takes_repeated_roles = self._try_template(twice) is not None

    @torch.inference_mode()
    def __call__(
        self,
        prompts: Sequence[str | Sequence[Mapping[str, Any]]],
        completions: Sequence[Completion],
        **columns: Any,
    ) -> list[float]:
        """One logit a completion."""
        rows = [
            self.token_ids(prompt, completion)
            for prompt, completion in zip(prompts, completions, strict=True)
        ]
        logits: dict[int, float] = {}
        for indices in self._batches([len(row) for row in rows]):
            logits |= zip(indices, self._forward([rows[index] for index in indices]), strict=True)
        return [logits[index] for index in range(len(rows))]

    def token_ids(
        self, prompt: str | Sequence[Mapping[str, Any]], completion: Completion
    ) -> list[int]:
        """The tokens of one conversation, as the model reads them.

        Raises:
            AdrpoError: a conversation that the template rejects.
        """
        messages = [*_messages(prompt, "user"), *_messages(completion, "assistant")]
        text = self._render(self._adapt([self._without_special_tokens(m) for m in messages]))
        # The template has written the special tokens; the tokenizer would add a second bos.
        ids = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        if len(ids) <= self.max_length:
            return ids
        bos = ids[:1] if ids[0] == self._tokenizer.bos_token_id else []
        return [*bos, *ids[len(ids) - self.max_length + len(bos) :]]

    def _adapt(self, messages: list[Message]) -> list[Message]:
        if not self._takes_system:
            system = [m["content"] for m in messages if m["role"] == "system"]
            messages = [m for m in messages if m["role"] != "system"]
            if system and messages and messages[0]["role"] == "user":
                first = "\n\n".join([*system, messages[0]["content"]])
                messages = [_message("user", first), *messages[1:]]
            elif system:
                messages = [_message("user", "\n\n".join(system)), *messages]
        if self._takes_repeated_roles:
            return messages
        return [
            _message(role, "\n\n".join(m["content"] for m in turns))
            for role, turns in groupby(messages, key=lambda m: m["role"])
        ]

    def _without_special_tokens(self, message: Message) -> Message:
        content, before = message["content"], ""
        # Again and again: "<bo<bos>s>" holds one, and then another.
        while content != before:
            before = content
            for token in self._special_tokens:
                content = content.replace(token, "")
        return _message(message["role"], content)

    def _render(self, messages: list[Message]) -> str:
        from jinja2 import TemplateError

        try:
            return self._tokenizer.apply_chat_template(messages, tokenize=False)
        except TemplateError as error:
            roles = ", ".join(message["role"] for message in messages) or "none"
            raise AdrpoError(
                f"reward_model {self.name!r}: expected a conversation that its chat template "
                f"takes, received turns of {roles}, which it rejects ({error}); correct the prompts"
            ) from error

    def _try_template(self, messages: list[Message]) -> str | None:
        """The text that the template makes of ``messages``, None where it rejects them."""
        from jinja2 import TemplateError

        try:
            return self._tokenizer.apply_chat_template(messages, tokenize=False)
        except TemplateError:
            return None

    def _batches(self, lengths: Sequence[int]) -> list[list[int]]:
        """Indices in batches of similar length, of at most ``tokens_per_batch`` with padding."""
        batches: list[list[int]] = []
        # The longest first: where the memory does not suffice, it shows at once.
        for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
            longest = lengths[batches[-1][0]] if batches else 0
            if batches and (len(batches[-1]) + 1) * longest <= self.tokens_per_batch:
                batches[-1].append(index)
            else:
                batches.append([index])
        return batches

    def _forward(self, rows: Sequence[Sequence[int]]) -> list[float]:
        length = max(len(row) for row in rows)
        filler = self._filler({token for row in rows for token in row})
        ids = torch.full((len(rows), length), filler)
        mask = torch.zeros_like(ids)
        for index, row in enumerate(rows):
            ids[index, : len(row)] = torch.tensor(row)
            mask[index, : len(row)] = 1
        self._model.config.get_text_config().pad_token_id = filler
        output = self._model(
            input_ids=ids.to(self._device), attention_mask=mask.to(self._device), use_cache=False
        )
        return output.logits[:, 0].float().tolist()

    def _filler(self, used: set[int]) -> int:
        """A token to pad with that no conversation holds.

        The model reads its logit at the right-most token that is not its pad token. A tokenizer
        may have none, or one that also ends a turn.
        """
        own = self._tokenizer.pad_token_id
        if own is not None and own not in used:
            return own
        return next(token for token in range(len(used) + 1) if token not in used)


def _message(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def _messages(turns: str | Sequence[Mapping[str, Any]], role: str) -> list[Message]:
    """``turns`` as messages of text; a text is one turn of ``role``."""
    if isinstance(turns, str):
        return [_message(role, turns)]
    messages: list[Message] = []
    for turn in turns:
        known = turn if isinstance(turn, Mapping) else {}
        if not isinstance(known.get("role"), str) or not isinstance(known.get("content"), str):
            raise AdrpoError(
                "reward_model: expected each message as {'role', 'content'}, both texts, "
                f"received {turn!r:.60}"
            )
        messages.append(_message(known["role"], known["content"]))
    return messages


def _source(model: str) -> str:
    """A folder or Hub id."""
    if model != EMBEDDED:
        return model
    from adrpo.embedded.weights import weights_path

    return str(weights_path("language_reward"))


def _load(source: str, dtype: torch.dtype) -> tuple[Any, Any]:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    with reading(
        f"reward_model: expected a folder or Hub id of a sequence-classification model and its "
        f"tokenizer, received {source!r}",
        "download it again, or name another",
    ):
        tokenizer = AutoTokenizer.from_pretrained(source, **NO_CODE)
        check_words(tokenizer, source)
        loaded: Any = AutoModelForSequenceClassification.from_pretrained(
            source, dtype=dtype, output_loading_info=True, **NO_CODE
        )
    model, info = loaded
    if info["missing_keys"]:
        raise AdrpoError(
            f"expected a complete reward model in {source!r}, but its weights lack "
            f"{len(info['missing_keys'])} tensors, {min(info['missing_keys'])!r} among them: name "
            "a model that was trained as a reward model"
        )
    if model.config.num_labels != 1:
        raise AdrpoError(
            f"expected a reward model with one output in {source!r}, received one with "
            f"{model.config.num_labels}: name a model that was trained as a reward model"
        )
    if not tokenizer.chat_template:
        raise AdrpoError(
            f"expected a chat template in the tokenizer of {source!r}, found none: save there the "
            "tokenizer with which the reward model was trained"
        )
    return model, tokenizer
