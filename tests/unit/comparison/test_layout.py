"""Tables of the comparison fit the page, whatever the number of metrics."""

from hypothesis import given
from hypothesis import strategies as st

from adrpo.comparison.layout import LARGE, NAME_MOST, PADDING, PAGE, SMALL, parts
from adrpo.comparison.tables import PrintedCell

CELLS = st.none() | st.builds(
    PrintedCell,
    value=st.text("0123456789.±", max_size=20),
    interval=st.text("0123456789.,[]", max_size=24),
    rank=st.just(0),
    differs=st.just(False),
)


@given(st.data(), st.integers(1, 14), st.lists(st.text("abc-", max_size=30), max_size=4))
def test_every_column_stands_once_in_a_table_that_fits(
    data: st.DataObject, count: int, names: list[str]
) -> None:
    labels = [data.draw(st.sampled_from(["CLIP score, reward CLIP", "KL"])) for _ in range(count)]
    rows = [(name, [data.draw(CELLS) for _ in labels]) for name in names]
    found = list(parts(labels, rows))
    assert [label for columns, _ in found for label in labels[columns]] == labels
    for columns, part in found:
        assert [name for name, _ in part] == names
        assert [cells for _, cells in part] == [cells[columns] for _, cells in rows]
        widest = [
            max(
                [
                    SMALL * max(map(len, label.split())),
                    *(LARGE * len(c.value) for _, cells in part if (c := cells[place])),
                    *(SMALL * len(c.interval) for _, cells in part if (c := cells[place])),
                ]
            )
            for place, label in enumerate(labels[columns])
        ]
        first = min(max([LARGE * len(name) for name in names] + [0]), NAME_MOST)
        assert len(widest) == 1 or first + sum(widest) + PADDING * len(widest) <= PAGE


def test_few_columns_stay_in_one_table() -> None:
    rows = [("base", [PrintedCell("0.47", "[0.31, 0.63]", 0, False)] * 6)]
    assert [columns for columns, _ in parts(["CLIP score"] * 6, rows)] == [slice(0, 6)]
    assert list(parts([], [])) == []
