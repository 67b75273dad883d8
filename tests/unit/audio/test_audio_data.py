"""Questions about sound as prompts: the embedded world."""

import io

import numpy as np
import soundfile

from adrpo.audio.data import load_held_out, load_train
from adrpo.config.audio_prompts import AudioPromptsSection
from adrpo.embedded.sounds.rendering import render
from adrpo.embedded.sounds.sets import question_set


def test_the_world_is_asked_in_the_form_of_the_embedded_model_with_its_own_clip() -> None:
    section = AudioPromptsSection(train_size=9, held_out_size=3, split_seed=5)
    for prompts, split in ((load_train(section), "train"), (load_held_out(section), "held_out")):
        questions = question_set(len(prompts), split=split, seed=5)  # type: ignore[arg-type]
        for prompt, question in zip(prompts, questions, strict=True):
            text = question.text + "\n" + "".join(f"{choice}\n" for choice in question.choices)
            assert prompt.content == [{"role": "user", "content": text}]
            assert prompt.category == question.task
            assert prompt.columns["choices"] == list(question.choices)
            assert prompt.columns["answer"] == question.answer
            assert prompt.columns["sub_category"] == question.sub_category
            assert prompt.columns["difficulty"] == question.difficulty
            samples, rate = soundfile.read(io.BytesIO(prompt.columns["audio"]["bytes"]))
            assert rate == 16_000
            wanted = render(question.clip, question.seed)
            assert np.abs(samples - wanted).max() <= 0.51 / 32768 + 0.9 / 32768


def test_a_turn_of_the_system_stands_first() -> None:
    section = AudioPromptsSection(train_size=3, system="Listen.", form="think")
    first = load_train(section)[0]
    assert first.content[0] == {"role": "system", "content": "Listen."}
    assert first.content[1]["role"] == "user"  # type: ignore[index]
    assert "<think>" in first.text
