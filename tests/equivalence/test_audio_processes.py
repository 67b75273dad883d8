"""AudioADRPOTrainer on two processes: every row has its own clips on both."""

import json
from pathlib import Path

import pytest
import torch

from support.started_processes import TESTS, launch


@pytest.mark.slow
def test_rows_of_two_processes_keep_their_clips(tmp_path: Path) -> None:
    result = launch("ddp.yaml", TESTS / "support" / "audio_processes.py", tmp_path)
    assert result.returncode == 0, result.stderr
    parts = [json.loads((tmp_path / f"seen-{rank}.json").read_text()) for rank in range(2)]
    for losses in parts:
        assert len(losses) == 3 * 2
        # float32, whose sums have another order in a batch.
        assert max(loss["difference"] for loss in losses) < 2e-5
    # A group of four was on both: some prompt is in the first batch of either.
    first = [{text for loss in losses[:2] for text in loss["prompts"]} for losses in parts]
    assert first[0] & first[1] and first[0] != first[1]
    adapters = [torch.load(tmp_path / f"adapter-{rank}.pt", weights_only=True) for rank in range(2)]
    assert adapters[0].keys() == adapters[1].keys() and adapters[0]
    assert all(torch.equal(adapters[0][name], adapters[1][name]) for name in adapters[0])
