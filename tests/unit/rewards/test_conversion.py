"""Pickled checkpoints become safetensors once, and nothing but tensors is unpickled."""

import hashlib
import json
import os
import pickle
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from adrpo.errors import AdrpoError
from adrpo.rewards.conversion import convert_checkpoint, read_checkpoint


def one_line(error: pytest.ExceptionInfo[AdrpoError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def tensors() -> dict[str, torch.Tensor]:
    """What safetensors would refuse as it is: tied, overlapping and transposed tensors."""
    whole = torch.arange(12.0).view(3, 4)
    return {
        "whole": whole,
        "tied": whole,
        "part": whole[1:],
        "transposed": torch.arange(6.0).view(2, 3).T,
        "half": torch.ones(2, dtype=torch.float16) / 3,
        "count": torch.tensor([7]),
    }


@pytest.mark.parametrize("wrapper", [None, "model", "state_dict"])
def test_tensors_keep_their_names_values_and_types(tmp_path: Path, wrapper: str | None) -> None:
    source = tmp_path / "published.pth"
    torch.save({wrapper: tensors(), "epoch": 3} if wrapper else tensors(), source)
    converted = convert_checkpoint(source, tmp_path / "folder")
    assert converted == tmp_path / "folder" / "published.safetensors"
    stored = load_file(converted)
    assert stored.keys() == tensors().keys()
    for name, tensor in tensors().items():
        assert stored[name].dtype == tensor.dtype
        assert torch.equal(stored[name], tensor), name


def test_the_record_names_source_and_content(tmp_path: Path) -> None:
    source = tmp_path / "published.pt"
    torch.save(tensors(), source)
    source.chmod(0o644)
    converted = convert_checkpoint(source, tmp_path)
    assert converted.stat().st_mode == source.stat().st_mode
    assert json.loads((tmp_path / "published.json").read_text(encoding="utf-8")) == {
        "source": "published.pt",
        "sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        "safetensors_sha256": hashlib.sha256(converted.read_bytes()).hexdigest(),
        "tensors": len(tensors()),
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "published.json",
        "published.pt",
        "published.safetensors",
    ]


def test_a_source_is_converted_once_and_again_when_it_changes(tmp_path: Path) -> None:
    source = tmp_path / "published.pt"
    torch.save({"a": torch.zeros(2)}, source)
    converted = convert_checkpoint(source, tmp_path)
    os.utime(converted, (1, 1))
    convert_checkpoint(source, tmp_path)
    assert converted.stat().st_mtime == 1
    torch.save({"a": torch.ones(2)}, source)
    convert_checkpoint(source, tmp_path)
    assert torch.equal(load_file(converted)["a"], torch.ones(2))


def test_a_conversion_cut_short_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "published.pt"
    torch.save({"a": torch.zeros(2)}, source)
    convert_checkpoint(source, tmp_path)
    torch.save({"a": torch.ones(2)}, source)

    def killed(path: Path, content: bytes) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("adrpo.rewards.conversion.write_durably", killed)
        with pytest.raises(KeyboardInterrupt):
            convert_checkpoint(source, tmp_path)
    # The old source again: the old record, had it been kept, would vouch for the new tensors.
    torch.save({"a": torch.zeros(2)}, source)
    assert torch.equal(load_file(convert_checkpoint(source, tmp_path))["a"], torch.zeros(2))


def test_a_file_that_is_no_conversion_is_not_overwritten(tmp_path: Path) -> None:
    source = tmp_path / "published.pt"
    torch.save(tensors(), source)
    save_file({"mine": torch.zeros(1)}, tmp_path / "published.safetensors")
    with pytest.raises(AdrpoError, match=r"without a record 'published\.json'") as caught:
        convert_checkpoint(source, tmp_path)
    one_line(caught)
    assert load_file(tmp_path / "published.safetensors").keys() == {"mine"}


class Payload:
    """Runs a command where it is unpickled without care."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("plain", [True, False])
def test_code_in_a_pickle_is_not_run(tmp_path: Path, plain: bool) -> None:
    source = tmp_path / "published.pt"
    if plain:
        source.write_bytes(pickle.dumps(Payload(tmp_path / "ran"), protocol=2))
    else:
        torch.save({"a": torch.zeros(1), "b": Payload(tmp_path / "ran")}, source)
    with pytest.raises(AdrpoError, match="tensors only") as caught:
        convert_checkpoint(source, tmp_path)
    assert str(source) in one_line(caught)
    assert not (tmp_path / "ran").exists()


def test_what_is_not_a_state_dict_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "published.pt"
    torch.save([torch.zeros(1)], source)
    with pytest.raises(AdrpoError, match=r"expected a state dict.*received list") as caught:
        convert_checkpoint(source, tmp_path)
    one_line(caught)
    torch.save({"a": torch.zeros(1), "step": 3}, source)
    with pytest.raises(AdrpoError, match="received int under 'step'") as caught:
        convert_checkpoint(source, tmp_path)
    one_line(caught)
    source.write_bytes(source.read_bytes()[:100])
    with pytest.raises(AdrpoError, match="damaged") as caught:
        convert_checkpoint(source, tmp_path)
    one_line(caught)
    with pytest.raises(AdrpoError, match="no file there") as caught:
        convert_checkpoint(tmp_path / "nowhere.pt", tmp_path)
    one_line(caught)


def test_floating_tensors_are_read_as_float32(tmp_path: Path) -> None:
    source = tmp_path / "published.bin"
    torch.save(tensors(), source)
    read = read_checkpoint(source, published="it", skip=lambda name: name == "tied")
    assert read.keys() == tensors().keys() - {"tied"}
    for name, tensor in read.items():
        assert tensor.dtype == (torch.int64 if name == "count" else torch.float32)
        assert torch.equal(tensor, tensors()[name].to(tensor.dtype))


def test_weights_that_can_not_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(AdrpoError, match=re.escape("expected it (example.org)")) as caught:
        read_checkpoint(tmp_path / "nowhere.pt", published="it (example.org)")
    assert "nowhere.pt" in one_line(caught)
    (tmp_path / "weights.h5").write_bytes(b"")
    with pytest.raises(AdrpoError, match=r"as \.safetensors, \.pt, \.pth or \.bin") as caught:
        read_checkpoint(tmp_path / "weights.h5", published="it")
    one_line(caught)
    save_file({"a": torch.zeros(100)}, tmp_path / "cut.safetensors")
    whole = (tmp_path / "cut.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[:200])
    with pytest.raises(AdrpoError, match="can't be read") as caught:
        read_checkpoint(tmp_path / "cut.safetensors", published="it")
    one_line(caught)
