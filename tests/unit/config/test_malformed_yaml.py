"""YAML that would take a memory or an hour, or end in an error of what reads it."""

import time

import pytest

from adrpo.config.documents import DEEPEST, MOST, parse_yaml
from adrpo.errors import AdrpoError


def bomb(levels: int) -> str:
    lines = ["a0: &a0 [" + ", ".join("x" * 9) + "]"]
    lines += [f"a{n}: &a{n} [" + ", ".join([f"*a{n - 1}"] * 9) + "]" for n in range(1, levels)]
    return "\n".join(lines)


def merges(levels: int) -> str:
    lines = ["a0: &a0 {k0: 1}"]
    lines += [f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}], k{n}: 1}}" for n in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (bomb(9), f"at most {MOST} values"),
        (bomb(40), f"at most {MOST} values"),
        (merges(30), f"at most {MOST} values"),
        ("a: [" + "1, " * MOST + "1]", f"at most {MOST} values"),
        ("[" * 3000 + "]" * 3000, f"at most {DEEPEST} sections"),
        ("a: " + "{a: " * 3000 + "}" * 3000, f"at most {DEEPEST} sections"),
        ("a: &a [*a]", r"\*a stands within what it names"),
        ("a: &a {<<: *a}", "stands within what it names"),
        ("a: !!int five", "no int"),
        ("a: !!float five", "no float"),
        ("a: !!timestamp five", "no timestamp"),
        ("a: 2020-99-99", "no timestamp"),
        (f"a: {'9' * 5000}", "no int"),
        (f"a: 0x{'f' * 5000}", "more than 300 digits"),
        ("x" * 5_000_000, "5000000 characters"),
    ],
)
def test_it_is_refused_at_once(text: str, named: str) -> None:
    before = time.process_time()
    with pytest.raises(AdrpoError, match=rf"^here.*expected .*{named}") as caught:
        parse_yaml(text, "here")
    assert "\n" not in str(caught.value)
    # Not a matter of speed: written out, the first of them alone is gigabytes.
    assert time.process_time() - before < 30


def test_aliases_are_repeated_and_each_is_counted() -> None:
    assert parse_yaml("a: &a [1, 2]\nb: *a", "here") == {"a": [1, 2], "b": [1, 2]}
    # One list, its entries, and what is above them; each alias is as much as the list.
    fits = (MOST - 10) // 101
    text = "a: &a [" + ", ".join(["1"] * 100) + "]\nb: ["
    assert len(parse_yaml(text + ", ".join(["*a"] * (fits - 1)) + "]", "here")["b"]) == fits - 1
    with pytest.raises(AdrpoError, match="values"):
        parse_yaml(text + ", ".join(["*a"] * (fits + 1)) + "]", "here")


def test_a_number_with_colons_is_a_text_and_not_one_to_the_base_60() -> None:
    assert parse_yaml("[10:10:10, 1:30.5, 12, 0x10, 1.5]", "here") == [
        "10:10:10", "1:30.5", 12, 16, 1.5,
    ]  # fmt: skip


def test_a_text_that_was_read_before_is_a_value_of_its_own() -> None:
    text = "training: {steps: 3, betas: [0.9, 0.99]}\n"
    first = parse_yaml(text, "first")
    first["training"]["betas"].append(1.0)
    assert parse_yaml(text, "second") == {"training": {"steps": 3, "betas": [0.9, 0.99]}}
    for where in ("first", "second"):  # nor does a refusal keep the name of another file
        with pytest.raises(AdrpoError, match=f"{where}, line 1"):
            parse_yaml("{a: 1, a: 2}", where)
