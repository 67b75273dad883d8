"""Malformed data: prompts, data sets, questions, sounds and pairs of pictures."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tools.faults.inputs.cases import Case, Spoil, both, trained, write

KIND = "data"
SOURCES = {"flow": "train", "llm": "source", "audio": "source"}


def cases(random: random.Random) -> list[Case]:
    """All of them."""
    del random
    return [*_prompts(), *_folders(), *_questions(), *_clips(), *_benchmarks(), *_published()]


def _lines(*rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


GOOD = {"prompt": "a b"}
TEXTS: dict[str, str | bytes] = {
    "empty.txt": "",
    "blank.txt": "\n \n",
    "empty.jsonl": "",
    "empty.csv": "",
    "binary.txt": bytes(range(256)) * 8,
    "latin.txt": "ü\n".encode("latin-1"),
    "utf16.jsonl": _lines(GOOD).encode("utf-16"),
    "broken.jsonl": '{"prompt": "a"\n',
    "cut.jsonl": _lines(GOOD, GOOD)[:-5],
    "list.jsonl": "[1, 2]\n",
    "number.jsonl": "7\n",
    "null.jsonl": "null\n",
    "text.jsonl": '"a"\n',
    "nan.jsonl": "NaN\n",
    "column.jsonl": _lines({"promt": "a"}),
    "blank.jsonl": _lines({"prompt": " "}),
    "empty_prompt.jsonl": _lines({"prompt": ""}),
    "null_prompt.jsonl": _lines({"prompt": None}),
    "number_prompt.jsonl": _lines({"prompt": 7}),
    "mapping_prompt.jsonl": _lines({"prompt": {"a": 1}}),
    "list_prompt.jsonl": _lines({"prompt": ["a", "b"]}),
    "no_turns.jsonl": _lines({"prompt": []}),
    "turn.jsonl": _lines({"prompt": [{"role": "user"}]}),
    "content.jsonl": _lines({"prompt": [{"role": "user", "content": 7}]}),
    "answered.jsonl": _lines({"prompt": [{"role": "assistant", "content": "a"}]}),
    "role.jsonl": _lines({"prompt": [{"role": 1, "content": "a"}]}),
    "category.jsonl": _lines({"prompt": "a b", "category": {"x": 1}}),
    "category_null.jsonl": _lines(*[{"prompt": f"{x} b", "category": None} for x in "abcde"]),
    "height.jsonl": _lines(*[{"prompt": f"{x} b", "height": "tall"} for x in "abcde"]),
    "width.jsonl": _lines(*[{"prompt": f"{x} b", "width": 7} for x in "abcde"]),
    "negative.jsonl": _lines(*[{"prompt": f"{x} b", "negative_prompt": [1]} for x in "abcde"]),
    "mixed.jsonl": _lines(
        *[{"prompt": f"{x} b", "answer": {"a": 1}} for x in "ab"],
        *[{"prompt": f"{x} b", "answer": x} for x in "cdefgh"],
    ),
    "taken.jsonl": _lines(*[{"prompt": f"{x} b", "completions": 1} for x in "abcde"]),
    "images.jsonl": _lines(*[{"prompt": f"{x} b", "images": "no.png"} for x in "abcde"]),
    "deep.jsonl": '{"prompt": ' + "[" * 3000 + "]" * 3000 + "}\n",
    "huge_number.jsonl": '{"prompt": "a b", "answer": ' + "9" * 5000 + "}\n",
    "nul.jsonl": b'{"prompt": "a\\u0000b"}\n' * 4,
    "surrogate.jsonl": b'{"prompt": "a \\ud800 b"}\n' + b'{"prompt": "c"}\n{"prompt": "d"}\n',
    "long.jsonl": _lines(*[{"prompt": f"{x} " + "a " * 100_000} for x in "abcd"]),
    "twice.jsonl": '{"prompt": "a", "prompt": 7}\n',
    "quote.csv": 'prompt,answer\n"a,1\n',
    "fields.csv": "prompt,answer\na\n",
    "header.csv": "prompt,prompt\na,b\n",
    "noname.csv": "prompt,\na,b\n",
            "big_field.csv": "prompt\n" + "a" * 200_000 + "\n",
    "one.txt": "a b\n",
    "missing.txt": None or b"",
    "fake.parquet": "no parquet",
    "fake.json": "[",
}  # fmt: skip


# What is no mistake in a domain that reads more than another.
VALID = {
    "one.txt": "one prompt makes a group",
    "nul.jsonl": "a tokenizer or an encoder reads any character",
    "surrogate.jsonl": "a tokenizer may read any character",
    "twice.jsonl": "",
    "list_prompt.jsonl": "",
    "long.jsonl": "encoders cut a prompt",
    "huge_number.jsonl": "a column that nothing reads",
    "category_null.jsonl": "no category",
    **dict.fromkeys(
        ("negative.jsonl", "height.jsonl", "width.jsonl"), "a column that pictures alone have"
    ),
    "mixed.jsonl": "columns that no reward reads",
    "big_field.csv": "encoders cut a prompt",
    "turn.jsonl": "",
}


def _prompts() -> Iterator[Case]:
    """Files of prompts, for the domains that read them."""
    for name, text in TEXTS.items():
        spoil: Spoil = (lambda: None) if name == "missing.txt" else write(name, text or b"")
        for domain, key in SOURCES.items():
            if domain == "audio" and not name.endswith(".jsonl"):
                continue
            yield Case(
                KIND, domain, f"prompts.{key}={name}", trained(f"prompts.{key}={name}"),
                [name, f"prompts.{key}", "prompts"], spoil, VALID.get(name, ""),
            )  # fmt: skip
    for domain in SOURCES:
        for what, held_out in (("missing", "no.jsonl"), ("broken", "bad.jsonl")):
            yield Case(KIND, domain, f"prompts.held_out {what}",
                       trained(f"prompts.held_out={held_out}"), [held_out],
                       write("bad.jsonl", '{"prompt"'))  # fmt: skip
            yield Case(KIND, domain, f"evaluate --prompts {what}",
                       ["evaluate", "run", "--prompts", held_out, "--output-dir", "new"],
                       [held_out], write("bad.jsonl", '{"prompt"'))  # fmt: skip
            yield Case(KIND, domain, f"doctor prompts.held_out {what}",
                       ["doctor", "recipe.yaml", f"prompts.held_out={held_out}"], [held_out],
                       write("bad.jsonl", '{"prompt"'))  # fmt: skip


def _saved() -> None:
    import datasets

    rows = [{"prompt": f"{x} b", "category": x} for x in "abcdef"]
    datasets.Dataset.from_list(rows).save_to_disk("set")


def _without_data() -> None:
    for path in Path("set").glob("*.arrow"):
        path.unlink()


def _table(name: str) -> Spoil:
    def act() -> None:
        import datasets

        rows = [{"prompt": f"{x} b", "category": x} for x in "abcdef"]
        Path("set").mkdir()
        datasets.Dataset.from_list(rows).to_parquet(f"set/{name}")

    return act


def _cut(pattern: str, keep: float = 0.5) -> Spoil:
    def act() -> None:
        for path in sorted(Path().glob(pattern)):
            content = path.read_bytes()
            path.write_bytes(content[: int(len(content) * keep)])

    return act


def _folders() -> Iterator[Case]:
    """Folders of data sets, as the package ``datasets`` reads them."""
    spoilt: dict[str, Spoil] = {
        "empty": lambda: Path("set").mkdir(),
        "only a note": write("set/README.md", "hello"),
        "a broken card": write("set/README.md", "---\nconfigs: [\n---\n"),
        "a card of other files": write(
            "set/README.md", "---\nconfigs:\n- config_name: a\n  data_files: no.csv\n---\n"
        ),
        "broken JSON": write("set/train.jsonl", '{"prompt": "a"\n{'),
        "empty JSON": write("set/train.jsonl", ""),
        "JSON of numbers": write("set/train.jsonl", "1\n2\n"),
        "JSON of mixed types": write("set/train.jsonl", '{"prompt": "a"}\n{"prompt": [1]}\n'),
        "JSON without the column": write("set/train.jsonl", '{"promt": "a"}\n'),
        "binary JSON": write("set/train.jsonl", bytes(range(256))),
        "an empty table": write("set/train.csv", ""),
        "a binary table": write("set/train.csv", bytes(range(256))),
        "no parquet": write("set/train.parquet", "no parquet"),
        "a cut parquet": both(_table("train.parquet"), _cut("set/*.parquet")),
        "an empty parquet": write("set/train.parquet", b""),
        "no arrow": write("set/train.arrow", b"no arrow"),
        "a script": write("set/set.py", "raise SystemExit(3)"),
        "only a test split": write("set/test.jsonl", '{"prompt": "a"}\n'),
        "saved, without data": both(_saved, _without_data),
        "saved, data cut": both(_saved, _cut("set/*.arrow")),
        "saved, data cut late": both(_saved, _cut("set/*.arrow", 0.9)),
        "saved, data empty": both(_saved, _cut("set/*.arrow", 0)),
        "saved, state broken": both(_saved, write("set/state.json", "{")),
        "saved, state empty": both(_saved, write("set/state.json", "{}")),
        "saved, state a list": both(_saved, write("set/state.json", "[]")),
        "saved, info broken": both(_saved, write("set/dataset_info.json", "{")),
        "saved, info of another form": both(_saved, write("set/dataset_info.json", "[]")),
        "saved, info of other columns": both(
            _saved, write("set/dataset_info.json", '{"features": {"x": {"_type": "No"}}}')
        ),
        "several saved, broken": write("set/dataset_dict.json", "{"),
        "several saved, missing": write("set/dataset_dict.json", '{"splits": ["train"]}'),
        "several saved, of another form": write("set/dataset_dict.json", '{"splits": 7}'),
        "an archive": write("set/train.zip", b"PK\x03\x04" + bytes(100)),
        "a broken archive": write("set/train.jsonl.gz", b"\x1f\x8b" + bytes(100)),
    }  # fmt: skip
    for what, spoil in spoilt.items():
        for domain, key in SOURCES.items():
            yield Case(KIND, domain, f"a data set, {what}", trained(f"prompts.{key}=./set"),
                       ["./set", "set/"], spoil, "")  # fmt: skip


def _question(**changed: Any) -> str:
    row = {
        "audio": "clips/0.wav", "question": "Which?", "choices": ["dog", "cat"], "answer": "cat",
    } | changed  # fmt: skip
    rows = [row | {"question": f"Which in {n}?"} for n in range(4)]
    return _lines(*({k: v for k, v in one.items() if v != "absent"} for one in rows))


def _questions() -> Iterator[Case]:
    """Files of questions about sound."""
    spoilt = {
        "no clip": _question(audio="absent"),
        "a clip that is not there": _question(audio="clips/no.wav"),
        "a clip of null": _question(audio=None),
        "a clip of an empty name": _question(audio=""),
        "a clip that is a number": _question(audio=7),
        "a clip that is a list": _question(audio=["clips/0.wav"]),
        "a clip that is a mapping": _question(audio={"path": "clips/no.wav"}),
        "a clip that is a folder": _question(audio="clips"),
        "a clip of a long name": _question(audio="x" * 5000),
        "a clip with NUL in its name": _question(audio="a\0b"),
        "no choices": _question(choices="absent"),
        "no choice": _question(choices=[]),
        "one choice": _question(choices=["cat"]),
        "choices of one text": _question(choices="cat"),
        "choices of numbers": _question(choices=[1, 2]),
        "choices of null": _question(choices=None),
        "equal choices": _question(choices=["cat", "cat"]),
        "no answer": _question(answer="absent"),
        "an answer that is none": _question(answer="bird"),
        "an answer of null": _question(answer=None),
        "an answer that is a list": _question(answer=["cat"]),
        "a number as an answer": _question(answer=7),
    }
    for what, text in spoilt.items():
        yield Case(KIND, "audio", f"questions, {what}", trained("prompts.source=bad.jsonl"),
                   ["bad.jsonl"], write("bad.jsonl", text),
                   "questions need no choices" if "choices" in what else "")  # fmt: skip


def _clips() -> Iterator[Case]:
    """Files of sound."""

    def sound(samples: Any, rate: int = 16_000) -> Spoil:
        def act() -> None:
            import soundfile

            soundfile.write("clips/0.wav", samples, rate)

        return act

    import numpy as np

    spoilt: dict[str, Spoil] = {
        "empty": write("clips/0.wav", b""),
        "text": write("clips/0.wav", "no sound"),
        "a picture": write("clips/0.wav", b"\x89PNG\r\n\x1a\n" + bytes(100)),
        "zeros": write("clips/0.wav", bytes(10_000)),
        "a cut header": _cut("clips/0.wav", 0.001),
        "a header alone": write("clips/0.wav", b"RIFF\xff\xff\xff\xffWAVE"),
        "a cut": _cut("clips/0.wav"),
        "no samples": sound(np.zeros(0)),
        "one sample": sound(np.zeros(1)),
        "silence": sound(np.zeros(8000)),
        "not numbers": lambda: __import__("soundfile").write(
            "clips/0.wav", np.full(8000, np.nan), 16_000, subtype="FLOAT"
        ),
        "infinite": lambda: __import__("soundfile").write(
            "clips/0.wav", np.full(8000, np.inf), 16_000, subtype="FLOAT"
        ),
        "a rate of 1": sound(np.zeros(8000), 1),
        "60 channels": sound(np.zeros((800, 60))),
        "missing": lambda: Path("clips/0.wav").unlink(),
        "a folder": both(lambda: Path("clips/0.wav").unlink(), lambda: Path("clips/0.wav").mkdir()),
    }
    valid = {
        "silence": "a sound", "one sample": "a short sound", "60 channels": "they are mixed",
        "a cut": "what is left is a sound", "a rate of 1": "a slow sound",
    }  # fmt: skip
    for what, spoil in spoilt.items():
        yield Case(KIND, "audio", f"a clip, {what}", trained(), ["0.wav"], spoil,
                   valid.get(what, ""))  # fmt: skip
        yield Case(KIND, "audio", f"sample --audio, {what}",
                   ["sample", "run", "--prompt", "what?", "--audio", "clips/0.wav"],
                   ["0.wav"], spoil, valid.get(what, ""))  # fmt: skip


def _benchmarks() -> Iterator[Case]:
    """Published sets of questions and files of answers."""
    row = {
        "id": "1", "audio_id": "./x.wav", "audio_path": "./x.wav", "question": "Which?",
        "choices": ["dog", "cat"], "answer": "cat", "modality": "sound", "category": "a",
        "task": "sound", "difficulty": "easy", "sub-category": "a", "dataset": "d", "split": "test",
    }  # fmt: skip
    spoilt: dict[str, tuple[str | bytes, str | bytes]] = {
        "questions that are no JSON": ("[", _lines({"1": "cat"})),
        "questions that are empty": ("", _lines({"1": "cat"})),
        "no question": ("[]", _lines({"1": "cat"})),
        "questions that are numbers": ("[1, 2]", _lines({"1": "cat"})),
        "a question that is one": (json.dumps(row), _lines({"1": "cat"})),
        "questions without an id": (json.dumps([{**row, "id": None}]), _lines({"1": "cat"})),
        "questions without choices": (json.dumps([{**row, "choices": 7}]), _lines({"1": "cat"})),
        "questions twice": (json.dumps([row, row]), _lines({"1": "cat"})),
        "binary questions": (bytes(range(256)), _lines({"1": "cat"})),
        "answers that are no JSON": (json.dumps([row]), "{"),
        "answers that are empty": (json.dumps([row]), ""),
        "answers that are numbers": (json.dumps([row]), "7\n"),
        "answers to others": (json.dumps([row]), _lines({"9": "cat"})),
        "answers that are a list": (json.dumps([row]), _lines({"1": ["cat"]})),
        "binary answers": (json.dumps([row]), bytes(range(256))),
    }  # fmt: skip
    valid = {"answers that are empty": "nothing answered is wrong"}
    for name in ("mmau", "mmar"):
        for what, (questions, answers) in spoilt.items():
            yield Case(
                KIND, "audio", f"{name}, {what}",
                ["evaluate", "--benchmark", name, "--data", "q.json", "--predictions", "a.jsonl",
                 "--output-dir", "new"],
                ["q.json", "a.jsonl"],
                both(write("q.json", questions), write("a.jsonl", answers)), valid.get(what, ""),
            )  # fmt: skip


def _published() -> Iterator[Case]:
    """Published sets of prompts, from files that are none."""
    contents: dict[str, str | bytes] = {
        "empty": "", "binary": bytes(range(256)), "text": "hello", "JSON": '{"a": [1',
        "columns": "a,b\n1,2\n", "tabs": "a\tb\n1\t2\n",
    }  # fmt: skip
    for kind in ("drawbench", "geneval", "partiprompts", "pickapic"):
        for what, content in contents.items():
            for ending in (".csv", ".jsonl", ".tsv", ".parquet"):
                name = f"set{ending}"
                if (len(what) + len(ending) + len(kind)) % 3:
                    continue
                yield Case(KIND, "flow", f"{kind}, {what}{ending}",
                           trained(f"prompts.train={kind}:{name}"), [name, "prompts.train"],
                           write(name, content))  # fmt: skip
