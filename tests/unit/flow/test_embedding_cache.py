"""Text embeddings on disk: what is read back, what makes another file, and what damage does."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from adrpo.config import FlowModelSection
from adrpo.embedded.weights import weights_path
from adrpo.errors import AdrpoError, AdrpoWarning
from adrpo.flow.models.conditioning import Conditioning
from adrpo.flow.models.embedding_cache import (
    HASHED_BYTES,
    EmbeddingCache,
    Embeddings,
    encoder_identity,
)
from adrpo.flow.models.families.stable_diffusion_3 import StableDiffusion3Policy
from adrpo.flow.models.loading import _embeddings

PROMPTS = ["a cat", "two birds"]
PARTS = StableDiffusion3Policy.encoding_parts


def record(dtype: torch.dtype = torch.float32) -> Conditioning:
    generator = torch.Generator().manual_seed(0)
    return Conditioning(
        context=torch.randn(2, 3, 4, generator=generator).to(dtype),
        mask=torch.tensor([[True, True, False], [True, True, True]]),
    )


def assert_equal(ours: Conditioning | None, theirs: Conditioning) -> None:
    assert ours is not None
    assert vars(ours).keys() == vars(theirs).keys()
    for name, tensor in vars(theirs).items():
        assert getattr(ours, name).dtype == tensor.dtype
        assert torch.equal(getattr(ours, name), tensor)


def cache(folder: Path, **identity: Any) -> EmbeddingCache:
    return EmbeddingCache(folder / "embeddings", {"model": "m", **identity})


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_what_is_stored_comes_back_bit_for_bit(tmp_path: Path, dtype: torch.dtype):
    cache(tmp_path).store(PROMPTS, record(dtype))
    assert_equal(cache(tmp_path).load(PROMPTS), record(dtype))
    # A set of its own: no prompt is not an empty set, nor the empty prompt.
    cache(tmp_path).store(None, record(dtype).select(torch.tensor([1])))
    assert_equal(cache(tmp_path).load(None), record(dtype).select(torch.tensor([1])))
    assert cache(tmp_path).load([]) is None
    assert cache(tmp_path).load([""]) is None


def test_the_order_of_the_prompts_and_each_setting_make_another_file(tmp_path: Path):
    files = {
        cache(tmp_path).path(PROMPTS),
        cache(tmp_path).path(PROMPTS[::-1]),
        cache(tmp_path).path(["a cattwo birds"]),
        cache(tmp_path, dtype="bfloat16").path(PROMPTS),
        cache(tmp_path, model="n").path(PROMPTS),
        cache(tmp_path, encoders={"text_encoder/model.safetensors": "0"}).path(PROMPTS),
    }
    assert len(files) == 6
    assert cache(tmp_path).path(tuple(PROMPTS)) in files


@pytest.mark.parametrize("damage", ["truncated", "one bit", "not safetensors", "of another set"])
def test_a_damaged_file_counts_as_none_and_says_so(tmp_path: Path, damage: str):
    store = cache(tmp_path)
    store.store(PROMPTS, record())
    path = store.path(PROMPTS)
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        content = content[:-1]
    elif damage == "one bit":
        content[-5] ^= 1
    elif damage == "not safetensors":
        content = bytearray(b"<html>")
    else:
        store.store(PROMPTS[::-1], record())
        content = bytearray(store.path(PROMPTS[::-1]).read_bytes())
    path.write_bytes(content)
    with pytest.warns(AdrpoWarning, match=f"{path.name} is damaged"):
        assert store.load(PROMPTS) is None
    store.store(PROMPTS, record())
    assert_equal(store.load(PROMPTS), record())


def test_a_kill_while_writing_leaves_the_earlier_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    store = cache(tmp_path)
    store.store(PROMPTS, record())

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        store.store(PROMPTS, record(torch.bfloat16))
    assert_equal(store.load(PROMPTS), record())


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path):
    (tmp_path / "embeddings").write_text("a file")
    with pytest.raises(AdrpoError, match=r"model\.embedding_cache: .*embeddings: File exists"):
        cache(tmp_path)


def test_a_cache_that_nothing_is_written_to_leaves_no_folder(tmp_path: Path):
    folder = tmp_path / "runs" / "text-embeddings"
    cache = EmbeddingCache(folder, {"model": "a"})
    assert not list(tmp_path.iterdir())
    cache.store(("a cat",), Conditioning(context=torch.ones(1, 2, 3)))
    assert len(list(folder.iterdir())) == 1
    EmbeddingCache(folder, {"model": "b"})
    assert len(list(folder.iterdir())) == 1


def test_kept_rows_make_up_other_sets():
    embeddings = Embeddings(keep=True)
    embeddings.add(PROMPTS, record())
    embeddings.add(None, record().select(torch.tensor([0])))
    assert_equal(embeddings.find(PROMPTS), record())
    assert embeddings.find(["two birds"]) is None
    wanted = ["two birds", "a cat", "two birds"]
    assert_equal(embeddings.assemble(wanted), record().select(torch.tensor([1, 0, 1])))
    assert embeddings.assemble(["two birds", "a dog"]) is None
    assert Embeddings().find(PROMPTS) is None


def test_encoders_are_told_apart_by_their_files(tmp_path: Path):
    folder = tmp_path / "model"
    for part in ("text_encoder_2", "tokenizer", "transformer"):
        (folder / part).mkdir(parents=True)
        (folder / part / "weights").write_bytes(b"1")
    before = encoder_identity(folder, PARTS)
    assert list(before) == ["text_encoder_2/weights", "tokenizer/weights"]
    (folder / "transformer" / "weights").write_bytes(b"2")
    assert encoder_identity(folder, PARTS) == before
    (folder / "text_encoder_2" / "weights").write_bytes(b"2")
    assert encoder_identity(folder, PARTS) != before
    # A large file is not read: a sparse one of the size, changed later, is another one.
    with (folder / "tokenizer" / "weights").open("wb") as file:
        file.truncate(HASHED_BYTES + 1)
    size, changed = encoder_identity(folder, PARTS)["tokenizer/weights"]
    assert (size, changed) == (
        HASHED_BYTES + 1,
        (folder / "tokenizer" / "weights").stat().st_mtime_ns,
    )
    snapshot = tmp_path / "models--owner--name" / "snapshots" / "abc123"
    snapshot.mkdir(parents=True)
    assert encoder_identity(snapshot, PARTS) == {"commit": "abc123"}


def test_a_model_reads_what_was_kept_of_its_own_encoding_alone(tmp_path: Path):
    """Encoders, length, type, device and batch of the encoding are each part of a file's name."""
    folder = tmp_path / "model"
    shutil.copytree(weights_path("pipeline"), folder)
    section = FlowModelSection(pretrained="m", embedding_cache=str(tmp_path / "kept"))

    def file(model: FlowModelSection = section, tokens: int = 1, device: str = "cpu") -> Path:
        found = _embeddings(
            model, folder, StableDiffusion3Policy, tokens, torch.device(device), keep=False
        )
        assert found.cache is not None
        return found.cache.path(PROMPTS)

    first = file()
    assert file() == first
    files = [
        file(tokens=2),
        file(device="cuda"),
        file(section.model_copy(update={"dtype": "bfloat16"})),
        file(section.model_copy(update={"pretrained": "n"})),
        file(section.model_copy(update={"encoder_batch_size": 3})),
    ]
    weights = next((folder / "text_encoder").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    files.append(file())
    assert len({first, *files}) == 7
