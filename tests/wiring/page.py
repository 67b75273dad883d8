"""The keys of a domain, as the settings page lists them."""

import re

from adrpo.config.keys import keys_page


def keys_of(domain: str) -> list[str]:
    """Every key on the page in its order: "training.seed", and "algorithm[raft].best" where a
    section has a form for each method."""
    _, _, chapter = keys_page().partition(f"## Domain `{domain}`\n")
    chapter, _, _ = chapter.partition("\n## ")
    found = []
    for part in chapter.split("\n### ")[1:]:
        heading, _, table = part.partition("\n")
        section, method = re.fullmatch(r"`([\w.]+)`(?: with `method: (\w+)`)?", heading).groups()  # type: ignore[union-attr]
        prefix = section if method is None else f"{section}[{method}]"
        found += [f"{prefix}.{name}" for name in re.findall(r"^\| `(\w+)` \|", table, re.M)]
    return found
