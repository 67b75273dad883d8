"""Conversations that have their answer are cut or refused, in training and in evaluations."""

import json
from pathlib import Path
from typing import Any

import pytest

from adrpo.config import LanguageConfig
from adrpo.errors import AdrpoError
from adrpo.llm.run_prompts import load_held_out, load_train

ASKED = {"role": "user", "content": "a"}
ANSWERED = {"role": "assistant", "content": "b"}


def written(path: Path, first: str, count: int) -> str:
    answers = [ANSWERED, ANSWERED]
    rows = [{"prompt": [{**ASKED, "content": f"{first} {i}"}, *answers]} for i in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("beside", [False, True])
def test_the_key_cuts_what_is_trained_on_and_what_is_held_out(tmp_path: Path, beside: bool) -> None:
    """Where a share is held out, and where the held-out ones are a source of their own."""
    prompts: dict[str, Any] = {"source": written(tmp_path / "train.jsonl", "a", 6)}
    prompts |= {"train_size": 4, "held_out_share": 0.5}
    if beside:
        prompts["held_out"] = written(tmp_path / "test.jsonl", "b", 3)
    refused = LanguageConfig.model_validate({"prompts": prompts})
    cut = LanguageConfig.model_validate({"prompts": prompts | {"cut_answers": True}})
    for load in (load_train, load_held_out):
        with pytest.raises(AdrpoError, match=r"line 1, .*set prompts\.cut_answers=true"):
            load(refused)
        found = load(cut)
        assert [[turn["role"] for turn in prompt.content] for prompt in found] == [["user"]] * (
            4 if beside and load is load_train else 3
        )
