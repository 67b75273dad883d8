"""OCR accuracy: which text a prompt names, the formula, and rapidocr on rendered words."""

import functools
import sys
from itertools import product

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from adrpo.embedded.rendering import render
from adrpo.embedded.scenes import CATEGORIES, WORDS, Scene, SceneObject, caption, sample_scene
from adrpo.errors import AdrpoError
from adrpo.rewards.ocr import OcrAccuracy, named_text, ocr_accuracy


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ('a sign that says "Hello World" at night', "Hello World"),
        ("a sign that says “Hello” in “neon”", "Hello"),
        ('a shop called "Deep Learning" next to one called "RL"', "Deep Learning"),
        ("a photo of a dog", None),
        ('an empty sign ""', None),
        ('the word "dog', None),
    ],
)
def test_the_text_in_quotes_is_named(prompt: str, text: str | None) -> None:
    assert named_text(prompt) == text


def test_captions_of_scenes_name_their_word_or_letter() -> None:
    rng = np.random.default_rng(0)
    for category in CATEGORIES:
        for _ in range(20):
            scene = sample_scene(rng, category)
            assert named_text(caption(scene)) == scene.text
    assert named_text("the letter k in red") == "k"


@functools.cache
def distance(a: str, b: str) -> int:
    """Levenshtein's recursion, as defined."""
    if not a or not b:
        return len(a) + len(b)
    return min(
        distance(a[1:], b) + 1,
        distance(a, b[1:]) + 1,
        distance(a[1:], b[1:]) + (a[0] != b[0]),
    )


def test_accuracy_is_the_bounded_share_of_the_edit_distance() -> None:
    texts = ["".join(letters) for n in range(5) for letters in product("ab", repeat=n)]
    for target, read in product(texts[1:], texts):
        expected = 1 - min(distance(read, target), len(target)) / len(target)
        assert ocr_accuracy(read, target) == (1 if target in read else expected), (read, target)


def test_case_and_spaces_do_not_count() -> None:
    assert ocr_accuracy("HELLO\nworld", "Hello World") == 1
    assert ocr_accuracy("He llo", "help") == ocr_accuracy("hello", "help") == 0.5
    # What stands around the target is free, as in the published reward.
    assert ocr_accuracy("open hello world 24h", "Hello World") == 1
    assert ocr_accuracy("", "cat") == 0
    with pytest.raises(ValueError, match="at least one character"):
        ocr_accuracy("cat", " ")


def test_a_missing_rapidocr_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("rapidocr", "onnxruntime"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, module, None)
            with pytest.raises(AdrpoError) as caught:
                OcrAccuracy()
            assert "pip install '.[ocr]' in the folder of adrpo" in str(caught.value)
            assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def ocr() -> OcrAccuracy:
    pytest.importorskip("rapidocr", reason="reads with rapidocr: pip install '.[ocr]'")
    pytest.importorskip("onnxruntime", reason="rapidocr's engine: pip install '.[ocr]'")
    return OcrAccuracy()


def sign(text: str) -> Scene:
    return Scene(category="text", objects=(SceneObject(color="blue", shape="text"),), text=text)


def test_rendered_words_are_read(ocr: OcrAccuracy) -> None:
    rng = np.random.default_rng(0)
    words = ["cat", "fox", "key", "map", "sun"]
    assert set(words) <= set(WORDS)
    pictures = [render(sign(word), rng) for word in words]
    prompts = [f"the word {word} in blue" for word in words]
    assert ocr(prompts, pictures) == [1.0] * len(words)
    # Against another word: what is left of it, which the formula itself gives.
    others = prompts[1:] + prompts[:1]
    expected = [
        ocr_accuracy(word, other) for word, other in zip(words, words[1:] + words[:1], strict=True)
    ]
    assert ocr(others, pictures) == expected
    assert max(expected) < 1


def test_prompts_without_text_have_no_score(ocr: OcrAccuracy) -> None:
    picture = render(sign("cat"), np.random.default_rng(0))
    prompts = ["a red circle", 'a sign that says "CAT"', "a photo of a cat"]
    assert ocr(prompts, [picture] * 3) == [None, 1.0, None]


def test_an_empty_image_reads_as_nothing(ocr: OcrAccuracy) -> None:
    empty = Image.new("RGB", (64, 64), "white")
    assert ocr.read(empty) == ""
    assert ocr(["the word cat in blue"], [empty]) == [0.0]


def test_detection_finds_lines_anywhere(ocr: OcrAccuracy) -> None:
    picture = Image.new("RGB", (320, 320), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size=36)
    draw.text((20, 40), "HELLO", font=font, fill="black")
    draw.text((90, 220), "world", font=font, fill="red")
    prompt = 'a poster that says "hello world"'
    empty = Image.new("RGB", (320, 320), "white")
    assert OcrAccuracy(detect=True)([prompt] * 2, [picture, empty]) == [1.0, 0.0]
    (as_one_line,) = ocr([prompt], [picture])
    assert as_one_line is not None and as_one_line < 1
