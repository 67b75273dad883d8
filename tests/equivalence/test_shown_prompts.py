"""How many prompts of a language model's evaluation a run keeps for its report."""

import json
from pathlib import Path
from typing import Any

from adrpo.llm.run import LanguageRun
from support.tiny_language_runs import tiny_language_config, write_material
from support.tiny_language_trainers import LANGUAGE_MARKS

pytestmark = LANGUAGE_MARKS

HELD_OUT = 6


def shown(run: Path, name: str) -> list[dict[str, Any]]:
    text = (run / "samples" / name).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_as_many_prompts_as_asked_for_are_kept(tmp_path: Path) -> None:
    material = write_material(tmp_path / "material")
    kept: dict[int, list[str]] = {}
    for count in (2, HELD_OUT + 3):
        config = tiny_language_config(
            material, training={"steps": 1}, evaluation={"shown_prompts": count}
        )
        run = LanguageRun(config).train(tmp_path / f"run-{count}", progress=False)
        base, final = shown(run, "base.jsonl"), shown(run, "final.jsonl")
        kept[count] = [row["prompt"] for row in base]
        # The same prompts before and after, each with all of its completions and their rewards.
        assert [row["prompt"] for row in final] == kept[count]
        per_prompt = config.evaluation.samples_per_prompt
        for row in base + final:
            assert len(row["completions"]) == len(row["rewards"]) == per_prompt
    assert {count: len(prompts) for count, prompts in kept.items()} == {2: 2, 9: HELD_OUT}
    # Fewer are some of more, and no prompt comes twice.
    assert set(kept[2]) < set(kept[9])
    assert len(set(kept[9])) == HELD_OUT
