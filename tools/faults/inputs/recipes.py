"""Malformed recipes: files that are no YAML, or more than that, and wrong types of every key."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from tools.faults.inputs.cases import Case, Spoil, both, trained, write

KIND = "recipe"
WRONG_TYPES: tuple[Any, ...] = (
    None, True, "text", "", -1, 0.5, 10**30, float("nan"), float("inf"), [], [1], {}, {"a": 1},
    [[1, 2], [3]], "a\nb", "\x00", {"pretrained": "x"},
)  # fmt: skip
DRAWN = 60
"""Keys of each domain that are drawn."""
DEEP = 3000


def cases(random: random.Random) -> list[Case]:
    """All of them; ``random`` draws keys and values."""
    return [*_files(), *_extends(), *_types(random), *_sections()]


def _yaml(name: str) -> Spoil:
    return write("bad.yaml", name)


def _bomb(levels: int, wide: int = 9) -> str:
    lines = ["a0: &a0 [" + ", ".join(["x"] * wide) + "]"]
    lines += [f"a{n}: &a{n} [" + ", ".join([f"*a{n - 1}"] * wide) + "]" for n in range(1, levels)]
    return "\n".join(lines) + f"\ntraining: *a{levels - 1}\n"


def _merge_bomb(levels: int) -> str:
    lines = ["a0: &a0 {k0: 1, l0: 1}"]
    for n in range(1, levels):
        lines.append(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}, *a{n - 1}], k{n}: 1}}")
    return "\n".join(lines) + f"\ntraining: {{<<: *a{levels - 1}}}\n"


GOOD = "training:\n  steps: 1\n"
TEXTS: dict[str, str | bytes] = {
    "empty": "",
    "spaces": "  \n\n",
    "comment": "# nothing\n",
    "a list": "- 1\n- 2\n",
    "a text": "training\n",
    "a number": "7\n",
    "null": "null\n",
    "a date": "2020-01-01\n",
    "two documents": "training: {steps: 1}\n---\ntraining: {steps: 2}\n",
    "tabs": "training:\n\tsteps: 1\n",
    "unclosed": "training: {steps: 1\n",
    "unclosed text": 'training: "a\n',
    "a key twice": "training: {steps: 1}\ntraining: {steps: 2}\n",
    "a key twice below": "training:\n  steps: 1\n  steps: 2\n",
    "a number as a key": "1: 2\n",
    "null as a key": "~: 2\n",
    "a list as a key": "? [a]\n: 1\n",
    "a mapping as a key": "? {a: 1}\n: 1\n",
    "a date as a key": "2020-01-01: 2\n",
    "true as a key": "training: {yes: 1}\n",
    "an empty key": "'': 1\n",
    "an unknown key": "trainings: {steps: 1}\n",
    "NUL": b"training:\n  steps: 1\n\x00",
    "control characters": b"training:\n  steps: \x01\n",
    "UTF-16": GOOD.encode("utf-16"),
    "UTF-32": GOOD.encode("utf-32"),
    "Latin-1": "description: ü\n".encode("latin-1"),
    "binary": bytes(range(256)) * 64,
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(1000),
    "half a surrogate": b"description: \xed\xa0\x80\n",
    "JSON, cut": '{"training": {"steps": 1',
    "an alias bomb": _bomb(9),
    "a deep alias bomb": _bomb(30, 9),
    "a small alias bomb": _bomb(4),
    "a bomb of merges": _merge_bomb(14),
    "an alias of itself": "training: &a\n  steps: *a\n",
    "an alias of itself in a list": "reward: &a [*a]\n",
    "an unknown alias": "training: *nothing\n",
    "an alias of the whole": "&a\ntraining: *a\n",
    "many anchors": "".join(f"a{n}: &a{n} {n}\n" for n in range(20_000)),
    "deep lists": "training: " + "[" * DEEP + "]" * DEEP,
    "deep mappings": "training: " + "{a: " * DEEP + "1" + "}" * DEEP,
    "deep sections": "\n".join(" " * n + "a:" for n in range(1000)),
    "an endless line": "description: [" + "x, " * 200_000 + "x\n",
    "a long key": f"{'k' * 5000}: 1\n",
    "an object of Python": "training: !!python/object:os.system {}\n",
    "a call of Python": "training: !!python/object/apply:os.system ['true']\n",
    "a name of Python": "training: !!python/name:os.system\n",
    "an unknown tag": "training: !thing {steps: 1}\n",
    "a tag that does not fit": "training: {steps: !!int five}\n",
    "a float that does not fit": "training: {learning_rate: !!float five}\n",
    "a time that is none": "training: {steps: !!timestamp five}\n",
    "a date that is none": "training: {steps: 2020-99-99}\n",
    "binary data": "training: {steps: !!binary aGVsbG8=}\n",
    "binary data that is none": "training: {steps: !!binary ü}\n",
    "a set": "training: !!set {steps}\n",
    "an ordered mapping": "training: !!omap [steps: 1]\n",
    "pairs": "training: !!pairs [steps: 1]\n",
    "a merge of a number": "training: {<<: 1}\n",
    "a merge of itself": "training: &a {<<: *a}\n",
    "a directive": "%YAML 9.9\n---\ntraining: {steps: 1}\n",
    "an unknown directive": "%FOO\n---\n- 1\n",
    "a huge number": f"training: {{steps: {'9' * 5000}}}\n",
    "a hexadecimal flood": f"training: {{steps: 0x{'f' * 5000}}}\n",
    "base 60": "training: {steps: 10:10:10}\n",
    "infinity": "training: {learning_rate: .inf}\n",
    "not a number": "training: {learning_rate: .nan}\n",
}  # fmt: skip


def _files() -> Iterator[Case]:
    """Files that are no recipe as a whole."""
    for what, text in TEXTS.items():
        spoil = write("bad.yaml", text)
        yield Case(KIND, "flow", f"train {what}", trained(recipe="bad.yaml"), ["bad.yaml"], spoil)
    uses = {
        "report": ["report", "run"],
        "evaluate": ["evaluate", "run", "--output-dir", "new"],
        "sample": ["sample", "run", "--output-dir", "new"],
        "doctor": ["doctor", "run"],
        "resume": ["train", "recipe.yaml", "--output-dir", "run", "--resume"],
    }
    for what in ("an alias bomb", "deep lists", "binary", "a merge of itself"):
        spoil = write("run/config.yaml", TEXTS[what])
        for use, arguments in uses.items():
            yield Case(KIND, "flow", f"{use}, a run with {what}", arguments,
                       ["run/config.yaml"], spoil)  # fmt: skip


def _extends() -> Iterator[Case]:
    """Files that extend what they can't."""
    texts = {
        "itself": "extends: bad.yaml\n",
        "a circle": "extends: other.yaml\n",
        "nothing that is there": "extends: no_such.yaml\n",
        "no recipe": "extends: flow/no_such\n",
        "null": "extends: null\n",
        "a number": "extends: 7\n",
        "a list": "extends: [flow/demo]\n",
        "an empty text": "extends: ''\n",
        "a folder": "extends: run.yaml\n",
        "a line break": 'extends: "a\\nb"\n',
        "NUL": 'extends: "a\\0b.yaml"\n',
        "a long name": f"extends: {'x' * 5000}.yaml\n",
        "a file that is broken": "extends: broken.yaml\n",
        "another domain": "extends: llm/embedded\ndomain: flow\n",
        "itself by another way": "extends: ../place/bad.yaml\n",
        "a long chain": "extends: chain-1.yaml\n",
    }
    others = both(
        write("other.yaml", "extends: bad.yaml\n"),
        write("broken.yaml", "training: [\n"),
        lambda: Path("run.yaml").mkdir(),
        *(write(f"chain-{n}.yaml", f"extends: chain-{n + 1}.yaml\n") for n in range(1, 1500)),
    )
    for what, text in texts.items():
        yield Case(KIND, "flow", f"extends {what}", trained(recipe="bad.yaml"),
                   ["bad.yaml", "other.yaml", "chain"], both(_yaml(text), others))  # fmt: skip


def _keys(domain: str) -> list[tuple[str, ...]]:
    """Each key of a recipe of ``domain``, as it stands in the file that has all."""
    from adrpo.config import form_of

    def walk(value: Any, above: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        if isinstance(value, dict) and value:
            for key, inner in value.items():
                yield from walk(inner, (*above, key))
        elif len(above) > 1:  # a section of its own is in _sections
            yield above

    form: Any = form_of(domain)
    return list(walk(form().model_dump(mode="json"), ()))


def _types(random: random.Random) -> Iterator[Case]:
    """Wrong types of keys, drawn."""
    for domain in ("flow", "llm", "audio"):
        keys = _keys(domain)
        for path in random.sample(keys, min(DRAWN, len(keys))):
            value = random.choice(WRONG_TYPES)
            yield Case(
                KIND, domain, f"{'.'.join(path)} = {value!r}",
                [*trained(recipe="bad.yaml"), "--dry-run"], [path[-1], ".".join(path)],
                both(_set(path, value)),
                valid="a value that the key may have",
            )  # fmt: skip


def _sections() -> Iterator[Case]:
    """Wrong types of whole sections."""
    from adrpo.config import form_of

    for domain in ("flow", "llm", "audio"):
        for section in form_of(domain).model_fields:
            for value in (None, 7, "text", [], [{"a": 1}], {"no_such": 1}):
                yield Case(
                    KIND, domain, f"{section} = {value!r}",
                    [*trained(recipe="bad.yaml"), "--dry-run"], [section],
                    _set((section,), value),
                    valid="a value that the section may have",
                )  # fmt: skip


def _set(path: tuple[str, ...], value: Any) -> Callable[[], None]:
    def act() -> None:
        found = yaml.safe_load(Path("recipe.yaml").read_text(encoding="utf-8"))
        section = found
        for key in path[:-1]:
            section[key] = section[key] if isinstance(section.get(key), dict) else {}
            section = section[key]
        section[path[-1]] = value
        Path("bad.yaml").write_text(yaml.safe_dump(found, sort_keys=False), encoding="utf-8")

    return act
