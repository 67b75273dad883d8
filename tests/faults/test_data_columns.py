"""Prompts with further columns: every reward of every domain is given them, in training and
evaluation alike."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pydantic import ValidationError

from adrpo.config import LanguageConfig, load_recipe
from adrpo.errors import AdrpoError
from adrpo.flow.domain import build_trainer
from adrpo.flow.run_prompts import load_held_out
from adrpo.llm.domain import DOOR
from adrpo.llm.run import LanguageRun
from adrpo.llm.run_prompts import load_held_out as load_new
from adrpo.llm.run_prompts import load_train
from adrpo.runs.directory import RunDirectory
from support.tiny_language_runs import tiny_language_config, write_material
from support.tiny_language_trainers import LANGUAGE_MARKS
from support.tiny_runs import darkness, tiny_config

TABLE = """prompt,category,side,weight
a red circle,shapes,left,1
a red circle,shapes,right,2
a blue square,shapes,left,3
two green stars,counts,,4
"""


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def pictured(folder: Path, **sections: Any) -> Any:
    train = write(folder / "train.csv", TABLE)
    rows = [{"prompt": f"{n} kites ", "side": "left", "weight": n} for n in (5, 6, 7, 8)]
    held_out = write(folder / "new.jsonl", "\n".join(map(json.dumps, rows)))
    prompts = {"train": train, "held_out": held_out}
    return tiny_config(prompts=prompts, **{"training": {"steps": 2}, **sections})


@pytest.mark.parametrize("method", ["adrpo", "dpo"])
def test_a_reward_of_pictures_reads_the_columns_of_a_table(tmp_path: Path, method: str):
    asked: set[tuple[Any, ...]] = set()

    def sided(
        prompts: list[str],
        images: list[Image.Image],
        *,
        side: list[str],
        weight: list[Any],
        category: list[str],
    ) -> Sequence[float | None]:
        asked.update(zip(prompts, category, side, weight, strict=True))
        values = darkness(prompts, images)
        return [float(w) + (v or 0) for w, v in zip(weight, values, strict=True)]

    config = pictured(
        tmp_path,
        algorithm={"method": method} | ({"pairs_samples": 2} if method == "dpo" else {}),
        evaluation={"every": 2, "seen_prompts": 4, "strip_prompts": 1},
    )
    build_trainer(config, reward=sided).train(tmp_path / "run", progress=False)
    trained = {
        ("a red circle", "shapes", "left", "1"),
        ("a red circle", "shapes", "right", "2"),
        ("a blue square", "shapes", "left", "3"),
        ("two green stars", "counts", "", "4"),
    }
    # As JSON has them, and without the space at the end.
    assert asked == trained | {(f"{n} kites", "", "left", n) for n in (5, 6, 7, 8)}
    assert len(RunDirectory.open(tmp_path / "run").read_metrics()) == 2


def test_a_recipe_takes_a_table_by_its_path(tmp_path: Path):
    table = write(tmp_path / "new.csv", TABLE)
    config = load_recipe("flow/demo", [f"prompts.held_out={table}"])
    assert [prompt.columns["weight"] for prompt in load_held_out(config)] == list("1234")  # type: ignore[arg-type]


def test_a_conversation_is_no_prompt_for_pictures(tmp_path: Path):
    row = {"prompt": [{"role": "user", "content": "draw a kite"}]}
    held_out = write(tmp_path / "new.jsonl", json.dumps(row))
    with pytest.raises(AdrpoError) as caught:
        load_held_out(tiny_config(prompts={"held_out": held_out}))
    assert str(caught.value) == (
        f"prompts.held_out: {held_out}: expected texts, which a text-to-image model takes, "
        "received a conversation that ends with 'draw a kite'; name a source of texts"
    )


class TestLanguage:
    pytestmark = LANGUAGE_MARKS

    def test_training_and_evaluation_hand_a_reward_the_same_values(self, tmp_path: Path):
        """Arrow has one type a column: 1 beside 2.5 became 1.0, and a text beside a number ended
        the run with a traceback."""
        answers = [1, 2.5, "three", None, True, {"a": 1}, {"b": [1, "x"]}]
        rows = [
            {"prompt": f"{letter} {n}", "answer": answers[n % len(answers)], "completion": "gold"}
            for n, letter in enumerate("abcdef" * 5)
        ]
        material = write_material(tmp_path)
        source = write(tmp_path / "mixed.jsonl", "\n".join(map(json.dumps, rows)))
        config = tiny_language_config(
            material,
            prompts={"source": source, "train_size": None, "held_out_size": None},
            training={"steps": 2},
        )
        asked: list[dict[str, Any]] = []

        def length(completions: list[str], **columns: Any) -> list[float]:
            asked.append(columns)
            return [float(len(completion)) for completion in completions]

        LanguageRun(config, reward=length).train(tmp_path / "run", progress=False)
        # A trial, the base, two steps, and the end.
        assert [len(columns["prompts"]) for columns in asked] == [4, 12, 16, 16, 12]
        told = {row["prompt"]: (repr(row["answer"]), "gold", "") for row in rows}
        names = ("prompts", "answer", "completion", "category")
        for columns in asked:
            given = zip(*(columns[name] for name in names), strict=True)
            for prompt, answer, completion, category in given:
                # repr: 1 == 1.0 == True.
                assert (repr(answer), completion, category) == told[prompt]

    def test_texts_beside_conversations_are_refused_in_one_line(self, tmp_path: Path):
        last = {"role": "user", "content": "b"}
        chats = [[{"role": "system", "content": str(n)}, last] for n in range(9)]
        rows = [{"prompt": prompt} for prompt in ("a", *chats)]
        source = write(tmp_path / "mixed.jsonl", "\n".join(map(json.dumps, rows)))
        prompts = {"source": source, "held_out_share": 0.5}
        with pytest.raises(AdrpoError) as caught:
            load_train(tiny_language_config(tmp_path, prompts=prompts))
        assert str(caught.value) == (
            f"prompts.source: {source}: expected texts or conversations, received both: the text "
            "that begins 'a' and the conversation that ends with 'b'; write all of them in one form"
        )

    def test_another_source_is_held_out_whole_by_the_name_it_has_in_every_domain(
        self, tmp_path: Path
    ):
        table = write(tmp_path / "p.csv", TABLE)
        config = tiny_language_config(
            tmp_path, prompts={"source": "sums", "train_size": None, "held_out_size": 3}
        )
        for source, count in ((table, 4), ("questions:held_out", 3), ("art-style:held_out", 112)):
            on_others = DOOR.on_prompts(config, source)
            prompts = on_others.prompts
            assert prompts.held_out == source
            assert len(load_new(on_others)) == count
            assert len(load_train(on_others)) == 400  # all sums, else but for a share of them
            # A run's config.yaml says what was evaluated.
            assert (
                LanguageConfig.model_validate({"prompts": prompts.model_dump()}).prompts == prompts
            )
        named = tiny_language_config(
            tmp_path, prompts={"source": "sums", "held_out": table, "held_out_size": 3}
        )
        assert [prompt.columns["weight"] for prompt in load_new(named)] == list("123")

    @pytest.mark.parametrize(
        ("prompts", "message"),
        [
            ({"source": "questions", "held_out": "questions:train"}, "expected a source without"),
            (
                {"source": "a.csv", "held_out": "a.csv:held_out"},
                "expected a source without prompts",
            ),
            ({"held_out": "art-stile"}, "did you mean 'art-style'"),
            ({"source": "sums", "held_out": "scenes:train", "held_out_size": None}, "has no end"),
        ],
    )
    def test_what_can_t_be_held_out_is_refused_before_anything_is_loaded(
        self, prompts: dict[str, Any], message: str
    ):
        with pytest.raises(ValidationError, match=message):
            LanguageConfig.model_validate({"prompts": prompts})
        LanguageConfig.model_validate(
            {"prompts": {"source": "questions", "held_out": "questions:held_out"}}
        )
