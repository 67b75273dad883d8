"""Words of a command line: what a shell completes, options that are settings, flags in the help."""

import pytest

from support.command_line import Command


@pytest.fixture
def completed(command: Command, monkeypatch: pytest.MonkeyPatch):
    """What bash offers behind ``words``, the last of which is being typed."""

    def complete(*words: str) -> list[str]:
        monkeypatch.setenv("_ADRPO_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", " ".join(("adrpo", *words)))
        monkeypatch.setenv("COMP_CWORD", str(len(words)))
        assert command() == 0
        return command.out.split()

    return complete


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("tr",), ["train"]),
        (("train", "--dr"), ["--dry-run"]),
        (("train", "flow/adr"), ["flow/adrpo", "flow/adrpo-paper"]),
        (("recipes", "show", "audio/embedded-d"), ["audio/embedded-double-clip"]),
        (("evaluate", "embedded", "--recipe", "llm/emb"), ["llm/embedded"]),
        (("compare", "flow/adrpo", "flow/raf"), ["flow/raft"]),
        # Twice, so that no shell puts a space between = and the value.
        (("demo", "training.ste"), ["training.steps=", "training.steps=VALUE"]),
        (("compare", "flow/adrpo", "training.se"), ["training.seed=", "training.seed=VALUE"]),
    ],
)
def test_a_shell_completes_commands_options_recipes_and_settings(completed, words, offered):
    found = completed(*words)
    assert [word for word in found if word in offered] == offered
    assert all(word.startswith(words[-1]) for word in found)


def test_completion_can_be_installed(command: Command):
    assert command("--help") == 0
    assert "--install-completion" in command.out and "--show-completion" in command.out


@pytest.mark.parametrize(
    ("arguments", "written"),
    [
        (["train", "flow/demo", "--steps", "3"], "no option --steps; write training.steps=3;"),
        (["demo", "--steps", "3"], "write training.steps=3;"),
        (["compare", "flow/demo", "--steps=3"], "write training.steps=3;"),
        (["train", "flow/demo", "--learning-rate", "1e-3"], "write training.learning_rate=1e-3;"),
        (["train", "flow/demo", "--adapter.rank", "4"], "write adapter.rank=4;"),
        (["demo", "--no-such"], "No such option: --no-such"),
        (["train", "flow/demo", "--every", "5"], "evaluation.every=5 or checkpoint.every=5;"),
        # Its words are names of recipes.
        (["recipes", "show", "--steps", "3"], "No such option: --steps"),
    ],
)
def test_an_option_that_is_a_setting_is_answered_with_how_it_is_written(
    command: Command, arguments: list[str], written: str
):
    assert command(*arguments) == 2
    assert written in command.err and command.err.count("\n") == 1
    assert command.err.startswith("adrpo: error: ") and command.err.endswith(" --help\n")


@pytest.mark.parametrize("words", [[], ["train"], ["compare"], ["recipes", "show"]])
def test_flags_have_no_type(command: Command, words: list[str]):
    assert command(*words, "--help") == 0
    assert "--help" in command.out and "bool" not in command.out.lower()
