"""The keys of a domain, as the settings page lists them."""

import re

from adrpo.config.keys import keys_page


def keys_of(domain: str) -> list[str]:
    """Every key on the page in its order: "training.seed", and "algorithm[raft].best" where a
    section has several forms; the sections in a form stand behind it."""
    _, _, chapter = keys_page().partition(f"## Domain `{domain}`\n")
    chapter, _, _ = chapter.partition("\n## ")
    found, forms = [], dict[str, str]()
    for part in chapter.split("\n### ")[1:]:
        heading, _, table = part.partition("\n")
        parsed = re.fullmatch(r"`([\w.]+)`(?: with `\w+: (\w+)`)?", heading)
        assert parsed is not None, heading
        section, form = parsed.groups()
        inside = [outer for outer in forms if section.startswith(f"{outer}.")]
        if inside:
            outer = max(inside, key=len)
            section = forms[outer] + section.removeprefix(outer)
        if form is not None:
            forms[parsed[1]] = section = f"{section}[{form}]"
        found += [f"{section}.{name}" for name in re.findall(r"^\| `(\w+)` \|", table, re.M)]
    return found
