"""KEY=VALUE beside names on a command line: which word is which."""

from pathlib import Path

import pytest

from adrpo.config import names_and_overrides, recipe_names
from adrpo.errors import AdrpoError


@pytest.mark.parametrize(
    ("words", "names", "overrides"),
    [
        (["flow/demo"], ["flow/demo"], []),
        (
            ["flow/demo", "training.steps=3", "reward.0.options.x=[a=b]"],
            ["flow/demo"],
            ["training.steps=3", "reward.0.options.x=[a=b]"],
        ),
        (["training.steps=3", "flow/demo"], ["flow/demo"], ["training.steps=3"]),
        (["flow/demo", "training.steps =3"], ["flow/demo"], ["training.steps =3"]),
        (
            ["flow/demo", "prompts.train=runs/a=b.txt"],
            ["flow/demo"],
            ["prompts.train=runs/a=b.txt"],
        ),
        (["flow/demo", "lr="], ["flow/demo"], ["lr="]),
        # Paths: a key has no "/", no "-" and no "\\" in it.
        (["runs/lr=0.1"], ["runs/lr=0.1"], []),
        (["./lr=0.1.yaml", "training.seed=1"], ["./lr=0.1.yaml"], ["training.seed=1"]),
        (["my-run=2"], ["my-run=2"], []),
        ([r"C:\runs\lr=0.1"], [r"C:\runs\lr=0.1"], []),
    ],
)
def test_a_word_is_a_name_or_an_override(
    words: list[str], names: list[str], overrides: list[str]
) -> None:
    assert names_and_overrides(words) == (names, overrides)


def test_several_names_keep_their_order() -> None:
    words = ["llm/b", "training.steps=3", "llm/a", "training.seed=4"]
    assert names_and_overrides(words, most=None) == (
        ["llm/b", "llm/a"],
        ["training.steps=3", "training.seed=4"],
    )


def test_a_command_may_need_no_name() -> None:
    assert names_and_overrides(["training.steps=3"], least=0, most=0) == ([], ["training.steps=3"])
    with pytest.raises(AdrpoError) as caught:
        names_and_overrides(["flow/adrpo"], least=0, most=0)
    assert str(caught.value) == (
        "expected settings only; received 'flow/adrpo'; a setting is written KEY=VALUE, without "
        "spaces"
    )


def test_no_recipe_is_taken_for_an_override() -> None:
    assert names_and_overrides(recipe_names(), most=None) == (recipe_names(), [])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "expected a recipe; received none"),
        (["training.steps=3"], "expected a recipe; received none beside training.steps=3"),
        (
            ["flow/demo", "training.steps", "3"],
            "expected a recipe; received 'flow/demo' and 'training.steps' and '3'; a setting is "
            "written KEY=VALUE, without spaces",
        ),
        (["flow/demo", "=3"], "expected KEY=VALUE, as training.steps=10; received '=3'"),
    ],
)
def test_what_is_neither_is_told(words: list[str], expected: str) -> None:
    with pytest.raises(AdrpoError) as caught:
        names_and_overrides(words)
    assert str(caught.value) == expected


def test_a_word_that_may_be_both_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that happens to lie here must not change what an override means."""
    monkeypatch.chdir(tmp_path)
    word = "training.steps=3"
    assert names_and_overrides(["flow/demo", word])[1] == [word]
    (tmp_path / word).mkdir()
    with pytest.raises(AdrpoError) as caught:
        names_and_overrides(["flow/demo", word])
    assert str(caught.value) == (
        "expected KEY=VALUE or a recipe; received 'training.steps=3', which is also a path that "
        "exists; name that as ./training.steps=3"
    )
    assert names_and_overrides([f"./{word}"]) == ([f"./{word}"], [])
