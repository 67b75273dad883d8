"""Malformed command lines: every argument and option of every command, with what is none."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tools.faults.inputs.cases import Case, Spoil, nothing, trained, write

KIND = "command line"

COMMANDS: dict[str, tuple[list[str], str]] = {
    "demo": (["training.steps=1", "--dry-run"], "flow"),
    "train": (trained(), "llm"),
    "compare": (["recipe.yaml", "--seeds", "1", "--output-dir", "new", "--summary-only"], "llm"),
    "sample": (["run"], "llm"),
    "evaluate": (["run", "--output-dir", "new"], "llm"),
    "recipes list": ([], "llm"),
    "recipes show": (["flow/demo"], "llm"),
    "recipes keys": ([], "llm"),
    "recipes copy": (["flow/demo", "copy.yaml"], "llm"),
    "report": (["run"], "llm"),
    "publish": (["run", "--repo", "who/what", "--dry-run", "--output-dir", "new"], "llm"),
    "doctor": (["recipe.yaml"], "llm"),
}
"""Command -> arguments that it takes, and whose files it is given."""

SERVERS = ("play",)
"""Commands that wait for visitors, whose options have tests of their own."""

OUTPUTS = ("output_dir",)
"""Parameters that name what is to be written."""

NUMBERS = ("x", "", "-1", "nan", "1e400", "9" * 40, "1,5", "0x10", "½")
PATHS = ("", "no/such", ".", "..", "a\nb", "bïñ", "binary.bin", "run", "train.jsonl", "-")
TEXTS = ("", " ", "no/such", "a\nb", ".", "..", "ü" * 300, "x" * 5000, "binary.bin", "../../..")
"""Values that are none of the right ones."""

VALID = {
    "base": "a run that measured the same",
    "against": "a folder that is not there yet",
    "prompt": "a prompt may be any text",
    "seed": "a seed may be any whole number",
    "licence": "a licence may have any name",
}
"""Parameter -> why some of the drawn values may be right."""

BINARY = write("binary.bin", bytes(range(256)) * 8)


def cases(random: random.Random) -> list[Case]:
    """All of them; ``random`` draws values of options."""
    return [*_options(random), *_settings(), *_names()]


def parameters() -> Iterator[tuple[str, Any]]:
    """(command, parameter) for each of the command line, but for servers."""
    import typer

    from adrpo.cli.app import app

    def walk(command: Any, name: str) -> Iterator[tuple[str, Any]]:
        for key, inner in getattr(command, "commands", {}).items():
            yield from walk(inner, f"{name} {key}".strip())
        if not getattr(command, "commands", {}):
            for parameter in command.params if name not in SERVERS else ():
                yield name, parameter

    yield from walk(typer.main.get_command(app), "")


def _options(random: random.Random) -> Iterator[Case]:
    """Values of each option that has one, drawn; and an option that no command has."""
    for command, parameter in parameters():
        if parameter.param_type_name != "option" or parameter.is_flag or "--help" in parameter.opts:
            continue
        option = max(parameter.opts, key=len)
        kind = str(parameter.type_descriptor.annotation)
        if "int" in kind or "float" in kind:
            values = random.sample(NUMBERS, 2)
        elif parameter.name in OUTPUTS:
            values = ["", "train.jsonl"]
            values += ["recipe.yaml/below"] if command != "sample" else []
        else:
            values = ["", *random.sample(PATHS[1:] if "Path" in kind else TEXTS[1:], 2)]
        arguments, domain = COMMANDS[command]
        for value in values:
            without = [word for word in arguments]
            if parameter.name in OUTPUTS and "--output-dir" in without:
                place = without.index("--output-dir")
                del without[place : place + 2]
            if command == "demo":
                without.remove("--dry-run")
            words = command.split() + (without[1:] if without[:1] == [command] else without)
            yield Case(
                KIND, domain, f"{command} {option}={value!r:.30}", [*words, f"{option}={value}"],
                [option, option.strip("-"), *_shown(value), "--summary-only"],
                spoil=BINARY,
                valid=VALID.get(parameter.name, "") if value.strip() else "",
            )  # fmt: skip
    for command, (arguments, domain) in COMMANDS.items():
        words = command.split() + (arguments[1:] if arguments[:1] == [command] else arguments)
        for option in ("--outputdir=x", "--halp", "-Z"):
            yield Case(KIND, domain, f"{command} {option}", [*words, option], [option[:9]])


def _shown(value: str) -> list[str]:
    """Forms in which an error may show ``value``."""
    parts = [value[:15], value.partition("/")[0], repr(value)[1:16]]
    return [part for part in parts if part.strip(". ")]


SETTINGS = {
    "=": ["="],
    "=5": ["=5"],
    "training.steps": ["training.steps"],
    "training.steps=": ["training.steps"],
    "training.steps=five": ["training.steps"],
    "training.steps=1e400": ["training.steps"],
    f"training.steps={'9' * 5000}": ["training.steps"],
    "training.steps=-1": ["training.steps"],
    "training.steps=0": ["training.steps"],
    "training.steps=1.5": ["training.steps"],
    "training.steps=null": ["training.steps"],
    "training.steps=true": ["training.steps"],
    "training.steps=[1]": ["training.steps"],
    "training.steps={a: 1}": ["training.steps"],
    "training.steps={a: 1": ["training.steps"],
    "training.steps=&a [*a]": ["training.steps"],
    "training.steps=!!python/object:os.system x": ["training.steps"],
    "training.steps=2020-01-01": ["training.steps"],
    "training.steps=10:10:10": ["training.steps"],
    "training.learning_rate=nan": ["training.learning_rate"],
    "training.learning_rate=.nan": ["training.learning_rate"],
    "training.learning_rate=.inf": ["training.learning_rate"],
    "training.learning_rate=-1": ["training.learning_rate"],
    "training.learning_rate='1'x": ["training.learning_rate"],
    "trainning.steps=1": ["trainning"],
    "training.stepps=1": ["stepps"],
    "training.steps.more=1": ["training.steps"],
    "training..steps=1": ["training"],
    ".training.steps=1": [".training"],
    "training.=1": ["training"],
    "training=1": ["training"],
    "training=": ["training"],
    "training=null": ["training"],
    "domain=flow": ["domain"],
    "domain=null": ["domain"],
    "extends=recipe.yaml": ["extends"],
    "reward=null": ["reward"],
    "reward=[]": ["reward"],
    "reward=[1]": ["reward"],
    "reward=[{}]": ["reward"],
    "reward.0.name=": ["reward"],
    "reward.0.name=''": ["reward"],
    "reward.0.name=no_such": ["no_such"],
    "reward.0.name=no.such:thing": ["no.such"],
    "reward.0.name=os:": ["os:"],
    "reward.0.name=:os": [":os"],
    "reward.0.name=os:no_such": ["no_such"],
    "reward.0.name=os:sep": ["os:sep"],
    "reward.0.name=a b:c d": ["a b"],
    "reward.0.name=..:x": ["..:x"],
    "reward.0.weight=nan": ["reward"],
    "reward.9.weight=1": ["reward"],
    "reward.-1.weight=1": ["reward"],
    "reward.x.weight=1": ["reward"],
    "reward.0.options=1": ["reward"],
    "reward.0.options={1: 2}": ["reward.0.options"],
    "algorithm.method=no_such": ["no_such"],
    "algorithm.method=null": ["algorithm.method"],
    "algorithm.coefficient.schedule=7": ["schedule"],
    "model.pretrained=''": ["model.pretrained"],
    "model.pretrained=": ["model.pretrained"],
    "model.pretrained=' '": ["model.pretrained"],
    "model.pretrained=.": ["model.pretrained"],
    "model.pretrained=..": ["model.pretrained"],
    "model.pretrained=no/such": ["no/such"],
    "model.pretrained=/no/such": ["/no/such"],
    "model.pretrained=a/b/c": ["a/b/c"],
    "model.pretrained=train.jsonl": ["train.jsonl"],
    "model.pretrained=./run": ["run"],
    'model.pretrained="a\\nb"': ["model.pretrained"],
    'model.pretrained="a\\0b"': ["model.pretrained"],
    "model.pretrained=package:": ["model.pretrained"],
    "model.pretrained=package:no_such": ["no_such"],
    "model.pretrained=~nobody/x": ["nobody"],
    f"model.pretrained={'x' * 5000}": ["xxx"],
    "model.device=gpu": ["model.device"],
    "model.device=cuda:99": ["model.device"],
    "model.device=''": ["model.device"],
    "model.dtype=float8": ["model.dtype"],
    "adapter.start_from=''": ["adapter.start_from"],
    "adapter.start_from=' '": ["adapter.start_from"],
    "adapter.start_from=no/such": ["no/such"],
    "adapter.start_from=.": ["adapter.start_from", ".: "],
    "adapter.start_from=train.jsonl": ["train.jsonl"],
    'adapter.start_from="a\\0b"': ["adapter.start_from"],
    "adapter.rank=1000000000000": ["adapter.rank"],
    "adapter.rank=0": ["adapter.rank"],
    "adapter.alpha=1e39": ["before the first step"],
    "adapter.target_modules=[no_such]": ["no_such"],
    "adapter.target_modules=[]": ["adapter.target_modules"],
    "adapter.target_modules=['(']": ["adapter.target_modules"],
    "adapter.target_modules=['']": ["adapter.target_modules"],
}


def _settings() -> Iterator[Case]:
    """Settings on the command line."""
    for setting, names in SETTINGS.items():
        for domain in (
            ("flow", "llm", "audio") if setting.startswith(("model.p", "adapter")) else ("llm",)
        ):
            yield Case(KIND, domain, f"train {setting:.60}", trained(setting), names)
    for setting in ("", " ", "training", "=", "--", "training.steps=", "training.steps=1 x"):
        yield Case(
            KIND, "llm", f"sample --set {setting!r}", ["sample", "run", f"--set={setting}"],
            ["--set", "KEY=VALUE", "received", "training.steps"],
        )  # fmt: skip


def _names() -> Iterator[Case]:
    """Recipes, runs and models that are none, for every command that takes one."""
    taking: dict[str, Callable[[str], list[str]]] = {
        "train": lambda name: ["train", name, "--output-dir", "new"],
        "compare": lambda name: ["compare", name, "--output-dir", "new"],
        "sample": lambda name: ["sample", name, "--output-dir", "new"],
        "evaluate": lambda name: ["evaluate", name, "--output-dir", "new"],
        "report": lambda name: ["report", name],
        "publish": lambda name: ["publish", name, "--repo", "who/what", "--dry-run"],
        "doctor": lambda name: ["doctor", name],
        "recipes show": lambda name: ["recipes", "show", name],
        "recipes copy": lambda name: ["recipes", "copy", name, "copy.yaml"],
        "train --base": lambda name: [*trained(), "--base", name],
        "evaluate --lora": lambda name: ["evaluate", "model", "--recipe", "recipe.yaml",
                                         "--lora", name, "--output-dir", "new"],
        "evaluate --recipe": lambda name: ["evaluate", "model", "--recipe", name,
                                           "--output-dir", "new"],
        "evaluate --prompts": lambda name: ["evaluate", "run", "--prompts", name,
                                            "--output-dir", "new"],
    }  # fmt: skip
    bad: dict[str, tuple[list[str], Spoil]] = {
        "": (["received", "expected"], nothing),
        " ": (["received", "expected"], nothing),
        ".": (["'.'", " ."], nothing),
        "..": ([".."], nothing),
        "no-such": (["no-such"], nothing),
        "no-such/thing": (["no-such/thing"], nothing),
        "a\nb": (["a b", "a\\nb"], nothing),
        "binary.bin": (["binary.bin"], BINARY),
        "binary.yaml": (["binary.yaml"], write("binary.yaml", bytes(range(256)) * 8)),
        "empty": (["empty"], lambda: Path("empty").mkdir()),
        "folder.yaml": (["folder.yaml"], lambda: Path("folder.yaml").mkdir()),
        "loop": (["loop"], lambda: Path("loop").symlink_to("loop")),
        "x" * 300: (["xxx"], nothing),
        "ü" * 300: (["üüü"], nothing),
        "no.json": (["no.json"], write("no.json", "{")),
        "no.d": (["no.d"], write("no.d/config.yaml", "")),
    }  # fmt: skip
    for command, arguments in taking.items():
        for name, (words, spoil) in bad.items():
            yield Case(KIND, "llm", f"{command} {name!r:.30}", arguments(name), words, spoil)
