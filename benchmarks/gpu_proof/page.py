"""The page of a proof, of what its parts have found so far."""

from typing import Any


def to_markdown(summary: dict[str, Any]) -> str:
    """Markdown of a summary, from it alone."""
    text = ["# What a GPU showed", ""]
    if summary["rehearsed"]:
        text += [
            "A rehearsal on a CPU, at sizes of seconds: none of its numbers means anything.",
            "",
        ]
    text += [f"`{summary['command']}`, {summary['minutes']:g} minutes at most.", ""]
    text += ["| part | outcome | seconds | claims that hold |", "|---|---|---|---|"]
    for row in summary["parts"]:
        checks = row["found"].get("checks", [])
        held = f"{sum(check['holds'] for check in checks)} of {len(checks)}" if checks else ""
        reason = f": {_cell(row['reason'])}" if row["reason"] else ""
        text.append(f"| {row['title']} | {row['status']}{reason} | {row['seconds']:.0f} | {held} |")
    for row in summary["parts"]:
        if row["found"]:
            text += ["", f"## {row['title']}", "", *_part(row)]
    return "\n".join(text).rstrip() + "\n"


def _part(row: dict[str, Any]) -> list[str]:
    found = row["found"]
    text: list[str] = [*found.get("lines", [])]
    for check in found.get("checks", []):
        verdict = "holds" if check["holds"] else "**does not hold**"
        what = check["what"][:1].upper() + check["what"][1:]
        text += ["", f"{what}: {verdict} ({_cell(check['found'])})."]
    for stage, error in found.get("errors", {}).items():
        text += ["", f"**Failed** at {stage}: `{_cell(error['line'])}`"]
    if "skipped" in found:
        text += ["", f"Skipped: {found['skipped']}."]
    return text


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")[:400]
