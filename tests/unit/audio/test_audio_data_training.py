"""Questions from files of several forms, as a script of one's own trains on them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset

from adrpo.audio import AudioADRPOTrainer
from adrpo.audio.data import check_clips, load_train
from adrpo.config.audio_prompts import AudioPromptsSection
from support.sound_files import question, tone, write_clip, write_lines
from support.tiny_audio_trainers import AUDIO_MARKS
from support.tiny_language_trainers import config
from support.tiny_thinker import tiny_processor, tiny_thinker

pytestmark = AUDIO_MARKS


def test_a_trainer_takes_checked_prompts_and_rewards_get_their_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    names = ("0.wav", "1.mp3", "2.flac", "3.ogg")
    for number, name in enumerate(names):
        sound = tone(300 + number, rate=44_100)
        write_clip(tmp_path / name, np.stack([sound, sound], axis=1), 44_100)
    rows = [question(n, audio=name, choices=list("abcd"), answer="abcd"[n])
            for n, name in enumerate(names)]  # fmt: skip
    source = str(write_lines(tmp_path / "questions.jsonl", rows))
    section = AudioPromptsSection(source=source, held_out="sounds:test")
    prompts = check_clips(load_train(section), longest=4, progress=False)
    seen = dict[str, Any]()

    def right(prompts: Any, completions: Any, **columns: Any) -> list[float]:
        for place, prompt in enumerate(prompts):
            seen[prompt[0]["content"]] = {
                name: columns[name][place] for name in ("choices", "answer", "source_row")
            }
        return [float(number % 2) for number in range(len(prompts))]

    trainer = AudioADRPOTrainer(
        tiny_thinker(),
        right,
        config(tmp_path, max_steps=2),  # each of two prompts
        Dataset.from_list([{"prompt": prompt.content, **prompt.columns} for prompt in prompts]),
        processing_class=tiny_processor(),
    )
    trainer.train()
    assert trainer.state.log_history[0]["grad_norm"] > 0
    assert len(seen) == 4
    for number, row in enumerate(rows):
        (text,) = (text for text in seen if text.startswith(row["question"]))
        assert text == "\n".join([row["question"], *seen[text]["choices"], ""])
        assert seen[text]["answer"] == row["answer"]
        assert seen[text]["source_row"] == f"{source}, line {number + 1}"
