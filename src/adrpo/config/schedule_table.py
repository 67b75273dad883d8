"""The table of losses and schedules of the penalty, as docs/method/equations.md has it."""

from typing import get_args

from adrpo.config.domains import DOMAINS, form_of
from adrpo.config.fields import sections_in, tag_of
from adrpo.config.llm_options import CoefficientKind
from adrpo.config.schedules import CoefficientSchedule
from adrpo.config.shared import MethodSection

SCHEDULES = [tag_of(form) for form in sections_in(CoefficientSchedule)]


def schedule_table() -> str:
    """Markdown: a row for each loss, a column for each schedule; a cell names whose method the two
    are together, "+" what nobody has published, and "-" what can't be combined."""
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for domain in DOMAINS:
        for form in sections_in(form_of(domain).model_fields["algorithm"].annotation):
            assert issubclass(form, MethodSection)
            cells = rows.setdefault((domain, form.loss), dict.fromkeys(SCHEDULES, "-"))
            cells.update({name: form.papers.get(name, "+") for name in _taken(form)})
    lines = [
        f"| domain | loss | {' | '.join(f'`{name}`' for name in SCHEDULES)} |",
        "|---" * (2 + len(SCHEDULES)) + "|",
    ]
    for (domain, loss), cells in rows.items():
        lines.append(f"| {domain} | `{loss}` | {' | '.join(cells[name] for name in SCHEDULES)} |")
    return "\n".join(lines) + "\n"


def _taken(form: type[MethodSection]) -> list[str]:
    """The schedules that a section can have."""
    if "coefficient" in form.model_fields:
        # The regression with a fixed penalty is a method of its own.
        return [name for name in SCHEDULES if (form.loss, name) != ("regression", "fixed")]
    if form.loss == "grpo":
        return list(get_args(CoefficientKind))
    return list(form.papers)
