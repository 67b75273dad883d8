# transformers' hints are narrower than what these classes take.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false
"""The embedded audio-language model before its training: its tokenizer, features and layers."""

import json
import re
import string

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GenerationConfig,
    PreTrainedTokenizerFast,
    Qwen2_5OmniThinkerForConditionalGeneration,
    WhisperFeatureExtractor,
)
from transformers.models.qwen2_5_omni.configuration_qwen2_5_omni import Qwen2_5OmniThinkerConfig

from adrpo.audio.processor import AudioProcessor
from adrpo.embedded.sounds.meaning import prompt_text
from adrpo.embedded.sounds.sets import question_set
from adrpo.embedded.sounds.words import RATE, WORDS

CONTEXT = 512
SECONDS = 4
"""Whole seconds that the model hears: the longest clip has 3."""

HOP, WINDOW, MELS = 256, 1536, 144
"""Samples between two frames and within one, and bands: 10 Hz between the lines of a spectrum,
so that low notes a semitone apart differ."""

FRAMES_A_TOKEN = 4
WIDTH, HEAD_WIDTH = 128, 32
HEARING_LAYERS = 4
LAYERS = 4

PAD, END, OTHER = "<pad>", "<eos>", "<unk>"
AUDIO, AUDIO_START, AUDIO_END = "<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>"
MARKERS = (AUDIO, AUDIO_START, AUDIO_END, "<|IMAGE|>", "<|VIDEO|>")
MARKERS += ("<|vision_bos|>", "<|vision_eos|>")

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'audio' or 'audio' in part %}"
    "{{ '<|audio_bos|><|AUDIO|><|audio_eos|>' }}"
    "{% elif 'text' in part %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}"
    "{% elif message['role'] == 'system' %}{{ '\\n' }}{% endif %}"
    "{% endfor %}"
)
"""A conversation is its clips and texts: a question ends with the line after which its answer
stands, so that no sign of its own asks for it."""

_PIECES = r" ?[a-z]+| ?[A-Z][a-z]+|\n|."


def world_words() -> list[str]:
    """Every word of the world's questions, with the space before it where it has one."""
    questions = question_set(2000, split="train", seed=0)
    found = {piece for q in questions for piece in re.findall(_PIECES, prompt_text(q))}
    found |= {before + word for word in WORDS for before in ("", " ")}
    return sorted(piece for piece in found if len(piece.strip()) > 1)


def new_tokenizer() -> PreTrainedTokenizerFast:
    """A word of the world is one token, any other text goes by characters; padded on the left."""
    words = world_words()
    learner = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=10_000,
        show_progress=False,
        min_frequency=1,
        initial_alphabet=[*string.printable[:95], "\n"],
    )
    learner.train_from_iterator(words, trainer)
    learned = json.loads(learner.to_str())["model"]
    pieces = [PAD, END, OTHER, *MARKERS, *sorted(learned["vocab"], key=learned["vocab"].get)]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    merges = [tuple(pair) for pair in learned["merges"]]
    words_first = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token=OTHER))
    words_first.pre_tokenizer = pre_tokenizers.Split(Regex(_PIECES), "isolated")
    words_first.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words_first,
        pad_token=PAD,
        eos_token=END,
        unk_token=OTHER,
        extra_special_tokens=list(MARKERS),
        padding_side="left",
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    if long := [word for word in words if len(tokenizer(word).input_ids) != 1]:
        raise RuntimeError(f"expected one token a word; received more for {long}")
    return tokenizer


def new_processor() -> AudioProcessor:
    extractor = WhisperFeatureExtractor(
        feature_size=MELS,
        sampling_rate=RATE,
        hop_length=HOP,
        chunk_length=SECONDS,
        n_fft=WINDOW,
    )
    return AudioProcessor(new_tokenizer(), extractor)


def new_model(
    tokenizer: PreTrainedTokenizerFast,
) -> Qwen2_5OmniThinkerForConditionalGeneration:
    """A Thinker with random weights, its part for pictures as small as its class allows."""
    ids = tokenizer.convert_tokens_to_ids
    # A clip is one piece: nothing of it is hidden from the rest.
    window = SECONDS * RATE // HOP // 2
    config = Qwen2_5OmniThinkerConfig(
        audio_config={
            "num_mel_bins": MELS,
            "encoder_layers": HEARING_LAYERS,
            "encoder_attention_heads": WIDTH // HEAD_WIDTH,
            "encoder_ffn_dim": 4 * WIDTH,
            "d_model": WIDTH,
            "max_source_positions": window,
            "n_window": window,
            "output_dim": WIDTH,
        },
        vision_config={
            "depth": 1,
            "hidden_size": 8,
            "intermediate_size": 8,
            "num_heads": 2,
            "out_hidden_size": WIDTH,
            "fullatt_block_indexes": [0],
        },
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": WIDTH,
            "intermediate_size": 3 * WIDTH,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": WIDTH // HEAD_WIDTH,
            "num_key_value_heads": WIDTH // HEAD_WIDTH,
            "max_position_embeddings": CONTEXT,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
            "tie_word_embeddings": True,
            "initializer_range": 0.05,
            "rope_parameters": {
                "rope_theta": 100_000.0,
                "rope_type": "default",
                "mrope_section": [4, 6, 6],
            },
        },
        audio_token_id=ids(AUDIO),
        audio_start_token_id=ids(AUDIO_START),
        audio_end_token_id=ids(AUDIO_END),
        image_token_id=ids("<|IMAGE|>"),
        video_token_id=ids("<|VIDEO|>"),
        vision_start_token_id=ids("<|vision_bos|>"),
        vision_end_token_id=ids("<|vision_eos|>"),
        user_token_id=tokenizer.unk_token_id,
        tie_word_embeddings=True,
    )
    model = Qwen2_5OmniThinkerForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    return model
