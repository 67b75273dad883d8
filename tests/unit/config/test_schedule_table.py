"""The table of losses and schedules, and the recipes in their groups."""

from pathlib import Path
from typing import Any

import pytest

from adrpo.config import form_of, load_recipe
from adrpo.config.fields import sections_in
from adrpo.config.schedule_table import SCHEDULES, schedule_table
from adrpo.errors import AdrpoError
from support.command_line import Command

KEYS: dict[str, dict[str, Any]] = {
    "gated": {"scores": [{"name": "aesthetic"}]},
    "mixture": {"parts": [{"coefficient": {"schedule": "fixed"}}]},
}
"""Schedule -> keys that it can't do without."""
BETA_0 = {
    "awm": {"beta_0": 0.3},
    "diffusion_nft": {"kl_beta": 0.3},
    "fdfo": {"beta_0": 0.3},
}


def cells() -> dict[tuple[str, str, str], str]:
    """(domain, loss, schedule) -> cell."""
    found = {}
    for line in schedule_table().splitlines()[2:]:
        domain, loss, *row = (cell.strip(" `") for cell in line.strip("|").split("|"))
        found |= {(domain, loss, name): cell for name, cell in zip(SCHEDULES, row, strict=True)}
    return found


def test_the_document_has_the_table() -> None:
    page = Path("docs/method/equations.md").read_text(encoding="utf-8")
    assert schedule_table() in page, "put what adrpo.config.schedule_table returns into it"


FLOW = [key[1:] for key in cells() if key[0] == "flow"]


@pytest.mark.parametrize(("loss", "schedule"), FLOW)
def test_a_cell_is_what_can_be_set(loss: str, schedule: str) -> None:
    """A combination of the table is a configuration; what is none is refused."""
    forms = sections_in(form_of("flow").model_fields["algorithm"].annotation)
    accepted = set()
    for form in (form for form in forms if form.loss == loss):
        method = form.model_fields["method"].annotation.__args__[0]
        coefficient = {"schedule": schedule, **KEYS.get(schedule, {})}
        try:
            section = form.model_validate(
                {"method": method, **BETA_0.get(method, {}), "coefficient": coefficient}
            )
        except ValueError:
            continue
        accepted.add(section.schedule_name)
    if (loss, schedule) == ("regression", "fixed"):
        accepted.add("fixed")  # the method fixed_beta, which has no such key
    assert accepted == ({schedule} if cells()["flow", loss, schedule] != "-" else set())


def test_each_loss_has_its_usual_schedule_named() -> None:
    """The recipe's own cell is that of a paper."""
    table = cells()
    assert table["flow", "regression", "adaptive"] == "ADRPO (2510.18053)"
    assert table["flow", "crd", "reward_adaptive"] == "CRD (2603.14128)"
    assert table["flow", "flow_grpo", "gated"] == "GARDO (2512.24138)"
    assert table["llm", "grpo", "gated"] == "-" and table["audio", "grpo", "sign_gated"] == "+"


RECIPES = {"raft": "flow/raft", "dgpo": "flow/dgpo", "dpo": "flow/dpo"}
REASONS = {"flow": "has no penalty that it could weigh", "grpo": "a batch of TRL carries neither"}


@pytest.mark.parametrize(
    ("domain", "loss", "schedule"), [key for key, cell in cells().items() if cell == "-"]
)
def test_what_can_not_be_combined_is_refused_with_the_reason(
    domain: str, loss: str, schedule: str
) -> None:
    if domain == "flow":
        given = [RECIPES[loss], f"algorithm.coefficient.schedule={schedule}"]
        reason = REASONS["flow"]
    else:
        given, reason = [f"{domain}/embedded", f"algorithm.method={schedule}"], REASONS["grpo"]
    with pytest.raises(AdrpoError, match=reason):
        load_recipe(given[0], given[1:])


def test_grpo_has_no_section_coefficient() -> None:
    for recipe in ("llm/embedded", "audio/embedded"):
        with pytest.raises(AdrpoError, match=r"algorithm\.coefficient: expected method: adrpo"):
            load_recipe(recipe, ["algorithm.coefficient.schedule=adaptive"])


def test_recipes_stand_by_loss_and_schedule(command: Command) -> None:
    assert command("recipes", "list") == 0
    told = command.out
    groups = dict(part.split("\n", 1) for part in told.strip().split("\n\n"))
    assert "flow/gardo" in groups["flow: loss flow_grpo, penalty gated"]
    assert "flow/awm" in groups["flow: loss awm, no penalty"]
    adaptive = groups["flow: loss regression, penalty adaptive"]
    assert "flow/adrpo " in adaptive and "flow/fixed-beta" not in adaptive
    assert command("recipes") == 0
    assert command.out == told
