"""What a test starts once for each process: the tiny Thinker, trained by all of them together."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adrpo.runs.processes import end_process
from support.tiny_audio_trainers import ALIKE, audio_trainer, scores, scores_alone

if __name__ == "__main__":
    folder, rank = Path(sys.argv[1]), os.environ["RANK"]
    questions = dict(list(ALIKE.items())[:3])
    trainer = audio_trainer(
        folder / "run",
        questions,
        # The second of three groups lies on both processes.
        per_device_train_batch_size=3,
        gradient_accumulation_steps=2,
        num_generations=4,
        max_steps=3,
    )
    compute, seen = trainer._compute_loss, []

    def spy(model: Any, inputs: dict[str, Any]) -> Tensor:
        difference = scores(trainer, inputs, size=None) - scores_alone(trainer, inputs, questions)
        prompts = trainer.processing_class.batch_decode(inputs["prompt_ids"])
        seen.append({"difference": float(difference.abs().max()), "prompts": prompts})
        return compute(model, inputs)

    trainer._compute_loss = spy
    trainer.train()
    (folder / f"seen-{rank}.json").write_text(json.dumps(seen))
    torch.save(
        {name: value for name, value in trainer.model.state_dict().items() if "lora_" in name},
        folder / f"adapter-{rank}.pt",
    )
    torch.distributed.destroy_process_group()
    end_process(0)
