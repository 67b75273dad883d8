# diffusers' and transformers' hints are narrower than what these classes take.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false
"""The tokenizer of every embedded model: CLIP's byte-level BPE with the captions' words whole."""

from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from adrpo.embedded.scenes import COLORS, COUNTS, LETTERS, RELATIONS, SHAPES, STYLES, WORDS

MAX_LENGTH = 16
"""Tokens of a caption, begin and end included; the longest caption has eleven."""

START, END = "<|startoftext|>", "<|endoftext|>"


def caption_words() -> list[str]:
    """Every word that a caption of the scenes world can hold."""
    plurals = [shape + ("es" if shape == "cross" else "s") for shape in SHAPES]
    relations = [word for relation in RELATIONS for word in relation.split()]
    words = {"a", "an", "and", "the", "letter", "word", "in", *relations, *plurals}
    return sorted(words | {*COLORS, *SHAPES, *STYLES, *COUNTS, *LETTERS, *WORDS})


def build_tokenizer(output: Path) -> CLIPTokenizer:
    """Learn the merges, so that each caption word is one token and any other text falls back
    to bytes, and save the tokenizer in CLIP's format."""
    words = caption_words()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(
        vocab_size=10_000, show_progress=False, end_of_word_suffix="</w>", min_frequency=1
    )
    learner.train_from_iterator(words, trainer)
    learned = learner.get_vocab()
    model = learner.model
    assert isinstance(model, models.BPE)
    folder = output / "merges"
    folder.mkdir(parents=True)
    _, merges_file = model.save(str(folder))
    lines = Path(merges_file).read_text(encoding="utf-8").splitlines()
    merges = [tuple(line.split(" ")) for line in lines if not line.startswith("#")]
    for leftover in folder.iterdir():
        leftover.unlink()
    folder.rmdir()
    base = [*alphabet, *(symbol + "</w>" for symbol in alphabet)]
    pieces = [*base, *sorted(set(learned) - set(base)), START, END]
    vocab = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = CLIPTokenizer(
        vocab=vocab,
        merges=merges,
        unk_token=END,
        bos_token=START,
        eos_token=END,
        pad_token=END,
        model_max_length=MAX_LENGTH,
    )
    for word in words:
        if len(tokenizer(word).input_ids) != 3:
            raise RuntimeError(f"the word {word!r} is not one token")
    tokenizer.save_pretrained(output)
    return tokenizer
