"""An HTML page, parsed strictly."""

from html.parser import HTMLParser
from pathlib import Path

VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """Parses a page strictly: every element closed in order. Collects tags, text and cells."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.cells: dict[tuple[str, str, str], str] = {}
        self._split = self._metric = self._column = ""
        self.feed(self.source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        assert len(values) == len(attrs), f"an attribute is given twice: {attrs}"
        self.tags.append((tag, values))
        self._split = values.get("data-split") or self._split
        self._metric = values.get("data-metric") or self._metric
        if tag == "td":
            self._column = values.get("data-column") or ""
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if tag == "td":
            self._column = ""

    def handle_data(self, data: str) -> None:
        self.text += data if not {"style", "script"} & set(self.open) else ""
        if self._column:
            key = (self._split, self._metric, self._column)
            self.cells[key] = f"{self.cells.get(key, '')} {data.strip()}".strip()

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]
