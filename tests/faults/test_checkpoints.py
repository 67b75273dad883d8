"""Checkpoints: a kill at any instant leaves the latest whole, and damage is found and named."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adrpo.errors import AdrpoError, AdrpoWarning
from adrpo.runs import RunDirectory, latest_checkpoint, load_checkpoint, save_checkpoint
from adrpo.runs.checkpoints import intact_checkpoint
from support.disk_operations import OPERATIONS, Killed, kill_at, renamed_when_synced


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(tmp_path / "run", "training: {}\n")


def state_of(step: int) -> dict[str, Any]:
    return {"step": step, "weights": torch.full((1000,), float(step))}


def check(path: Path) -> int:
    """The step of the checkpoint at ``path``, whose parts must belong together."""
    state = load_checkpoint(path)
    assert path.name.startswith(f"step-{state['step']:06d}")
    assert torch.equal(state["weights"], state_of(state["step"])["weights"])
    return state["step"]


def latest(run: RunDirectory) -> int | None:
    path = latest_checkpoint(run)
    return None if path is None else check(path)


def names(run: RunDirectory) -> list[str]:
    return sorted(path.name for path in run.checkpoints.iterdir())


def test_state_comes_back_equal(run: RunDirectory):
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "half": torch.ones(2, dtype=torch.bfloat16),
        "list": [1, 2.5, "text", None, True, (3, 4)],
    }
    loaded = load_checkpoint(save_checkpoint(run, 3, state, keep=1))
    assert loaded["list"] == state["list"]
    assert loaded["half"].dtype == torch.bfloat16
    torch.testing.assert_close(loaded["model"], state["model"], rtol=0, atol=0)
    torch.testing.assert_close(
        loaded["optimizer"]["state"], state["optimizer"]["state"], rtol=0, atol=0
    )
    assert loaded["optimizer"]["param_groups"] == state["optimizer"]["param_groups"]


def test_keep_removes_the_oldest_and_order_is_by_number(run: RunDirectory):
    assert latest_checkpoint(run) is None
    for step in (5, 999_999, 1_000_000):
        save_checkpoint(run, step, state_of(step), keep=2)
    assert names(run) == ["step-1000000", "step-999999"]
    assert latest(run) == 1_000_000


def test_same_step_saved_again_is_the_later_state(run: RunDirectory):
    save_checkpoint(run, 5, {"value": 1}, keep=1)
    path = save_checkpoint(run, 5, {"value": 2}, keep=1)
    assert load_checkpoint(path) == {"value": 2}
    assert names(run) == ["step-000005"]


@pytest.mark.parametrize(
    "value", [np.float64(1.0), np.ones(2), {1.5: "key"}, {"deep": [object()]}, {1, 2}]
)
def test_state_that_would_not_load_is_refused_when_saved(run: RunDirectory, value: Any):
    with pytest.raises(TypeError, match=r"state\['bad'\]"):
        save_checkpoint(run, 1, {"bad": value}, keep=1)
    assert latest_checkpoint(run) is None


@pytest.mark.parametrize(("step", "keep"), [(1, 0), (-1, 1)])
def test_numbers_out_of_range_are_refused(run: RunDirectory, step: int, keep: int):
    with pytest.raises(ValueError, match="expected keep >= 1 and step >= 0"):
        save_checkpoint(run, step, {}, keep=keep)


@pytest.mark.parametrize("keep", [1, 2])
@pytest.mark.parametrize(
    ("before", "new"),
    [
        pytest.param((10, 20), 30, id="the next step"),
        pytest.param((20,), 20, id="the same step again, the only one"),
        pytest.param((10, 20), 20, id="the same step again"),
    ],
)
def test_kill_at_every_disk_operation_of_a_save(
    tmp_path: Path, before: tuple[int, ...], new: int, keep: int
):
    call, survived = 0, False
    while not survived:
        call += 1
        run = RunDirectory(tmp_path / str(call))
        run.path.mkdir()
        for step in before:
            save_checkpoint(run, step, state_of(step), keep=keep)
        with pytest.MonkeyPatch.context() as patch:
            calls = kill_at(call, patch)
            try:
                save_checkpoint(run, new, state_of(new), keep=keep)
                survived = True
            except Killed:
                pass
        assert latest(run) in (before[-1], new), f"killed at call {call}"
        # What the kill left behind does not hinder the next process, and is cleared away.
        save_checkpoint(run, 40, state_of(40), keep=keep)
        assert latest(run) == 40
        assert len(names(run)) <= keep
        assert all(name.startswith("step-") for name in names(run))
    # Fewer would mean that the operations are no longer the ones that are counted here.
    assert calls() == call - 1 >= len(OPERATIONS)


SAVE_FOREVER = """
import itertools, sys, torch
from pathlib import Path
from adrpo.runs import RunDirectory, save_checkpoint
run = RunDirectory.open(Path(sys.argv[1]))
for step in itertools.count(int(sys.argv[2])):
    # As state_of, but large enough for a kill to fall into the writing.
    state = {"step": step, "weights": torch.full((1000,), float(step)), "more": torch.ones(300_000)}
    save_checkpoint(run, step, state, keep=2)
    print(step, flush=True)
"""


def test_sigkill_while_saving_leaves_the_latest_whole(run: RunDirectory):
    delay = random.Random(0)
    reached = 0
    for _ in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", SAVE_FOREVER, str(run.path), str(reached + 1)],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert process.stdout is not None
        for _ in range(3):
            reached = int(process.stdout.readline())
        # A save takes milliseconds: the kill falls anywhere in one.
        time.sleep(delay.uniform(0, 0.02))
        process.send_signal(signal.SIGKILL)
        # Saves that were finished before the kill must be there.
        finished = [reached, *map(int, process.stdout.read().split())]
        process.stdout.close()
        assert process.wait() == -signal.SIGKILL
        found = latest(run)
        assert found in (finished[-1], finished[-1] + 1)
        reached = found


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def test_one_flipped_bit_is_named_with_both_checksums_and_the_way_out(run: RunDirectory):
    save_checkpoint(run, 40, state_of(40), keep=3)
    path = save_checkpoint(run, 50, state_of(50), keep=3)
    before = checksum(path / "state.pt")
    flip(path / "state.pt", 2000)
    with pytest.raises(AdrpoError) as caught:
        load_checkpoint(path)
    assert str(caught.value) == (
        f"{path / 'state.pt'}: expected sha256 {before}, received {checksum(path / 'state.pt')}; "
        f"the checkpoint is damaged: step-000040 is intact, and --resume goes on from there"
    )
    with pytest.warns(AdrpoWarning, match=r"state\.pt: .* going on from step-000040"):
        assert intact_checkpoint(run) == run.checkpoints / "step-000040"


def checksum(path: Path) -> str:
    """Independent of hashlib: coreutils."""
    result = subprocess.run(["sha256sum", str(path)], check=True, capture_output=True, text=True)
    return result.stdout.split()[0]


def test_way_out_passes_over_damaged_ones(run: RunDirectory):
    one, two, three = (save_checkpoint(run, s, state_of(s), keep=3) for s in (10, 20, 30))
    for path in (two, three):
        flip(path / "state.pt", 2000)
    with pytest.raises(AdrpoError, match="step-000010 is intact"):
        load_checkpoint(three)
    with pytest.warns(AdrpoWarning) as told:
        assert intact_checkpoint(run) == one
    assert [path.name in str(note.message) for path, note in zip((three, two), told, strict=True)]
    flip(one / "state.pt", 2000)
    with pytest.raises(AdrpoError, match=r"step-000030/state.*and no other in .* is intact"):
        intact_checkpoint(run)
    with pytest.raises(AdrpoError, match="no older checkpoint is intact, train again"):
        load_checkpoint(three)


def test_any_damaged_byte_of_the_manifest_is_found(run: RunDirectory):
    path = save_checkpoint(run, 50, state_of(50), keep=1)
    manifest = path / "manifest.json"
    whole = manifest.read_bytes()
    unseen = []
    for position in range(len(whole)):
        flip(manifest, position)
        try:
            load_checkpoint(path)
            unseen.append(whole[position : position + 1])
        except AdrpoError:
            pass
        manifest.write_bytes(whole)
    # Space and newline are one bit from other characters that JSON does not allow between values.
    assert unseen == []


@pytest.mark.parametrize("size", [0, 1, 3000])
def test_truncated_state_is_found(run: RunDirectory, size: int):
    path = save_checkpoint(run, 50, state_of(50), keep=1)
    os.truncate(path / "state.pt", size)
    with pytest.raises(AdrpoError, match=r"state\.pt: expected sha256"):
        load_checkpoint(path)


@pytest.mark.parametrize("name", ["state.pt", "manifest.json"])
def test_missing_file_is_named(run: RunDirectory, name: str):
    path = save_checkpoint(run, 50, state_of(50), keep=1)
    (path / name).unlink()
    with pytest.raises(AdrpoError, match=f"{name}: expected .*, received none"):
        load_checkpoint(path)


def test_what_becomes_a_checkpoint_is_on_disk_before(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
):
    with renamed_when_synced(monkeypatch) as renamed:
        for step in (1, 1, 2):
            save_checkpoint(run, step, state_of(step), keep=1)
    assert renamed.count(".manifest.json.partial") == renamed.count(".partial-step-000001") + 1 == 3


def test_checkpoint_moved_under_another_step_is_found(run: RunDirectory):
    path = save_checkpoint(run, 50, state_of(50), keep=1)
    moved = path.rename(path.with_name("step-000060"))
    with pytest.raises(AdrpoError, match=r"manifest\.json: expected step 60, received 50"):
        load_checkpoint(moved)


def test_other_folders_are_no_checkpoints(run: RunDirectory):
    save_checkpoint(run, 5, state_of(5), keep=1)
    for name in (".partial-step-000099", "step-000098.tmp", "step-xyz", "notes"):
        (run.checkpoints / name).mkdir()
    assert latest(run) == 5
    with pytest.raises(AdrpoError, match="expected a checkpoint, a folder such as step-000010"):
        load_checkpoint(run.checkpoints / "notes")


def test_pickled_code_is_not_run(run: RunDirectory):
    """Checksums show damage, not malice: the state is read as data only."""
    path = save_checkpoint(run, 5, state_of(5), keep=1)
    before = checksum(path / "state.pt")
    torch.save({"code": Payload()}, path / "state.pt")
    manifest = path / "manifest.json"
    manifest.write_text(manifest.read_text().replace(before, checksum(path / "state.pt")))
    with pytest.raises(Exception, match="Weights only load failed"):
        load_checkpoint(path)


class Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("code in a checkpoint was run",))
