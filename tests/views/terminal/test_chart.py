import math

import pytest
from rich.cells import cell_len

from manako.views.terminal.chart import Curve, chart

FALLING = [(float(step), 8 * math.exp(-step / 100)) for step in range(1, 1_001)]


@pytest.mark.parametrize("dots", [True, False])
@pytest.mark.parametrize(("columns", "rows"), [(40, 5), (80, 8), (200, 20)])
def test_a_chart_fills_its_room_and_labels_its_ends(columns: int, rows: int, dots: bool) -> None:
    lines = chart([Curve(FALLING)], columns, rows, dots)
    assert len(lines) == rows and all(cell_len(line.plain) <= columns for line in lines)
    assert cell_len(lines[-1].plain) == columns
    assert lines[0].plain.startswith("7.92") and lines[-2].plain.lstrip().startswith("0.00")
    assert lines[-1].plain.split() == ["1", "1,000"]


def test_a_falling_curve_falls_and_has_no_gap() -> None:
    lines = [line.plain[len("7.92  ") :] for line in chart([Curve(FALLING)], 60, 8, dots=False)[:-1]]
    columns = ["".join(line[x : x + 1] for line in lines) for x in range(1, min(map(len, lines)))]
    highest = [column.index("*") for column in columns if "*" in column]
    assert len(highest) == len(columns) and highest == sorted(highest)


def test_dots_of_two_curves_share_a_cell_and_marks_stand_over_them() -> None:
    flat = [(0.0, 1.0), (9.0, 1.0)]
    steep = [(0.0, 0.0), (9.0, 2.0)]
    both = chart([Curve(flat, "cyan"), Curve(steep, "red")], 24, 4)
    alone = chart([Curve(steep, "red")], 24, 4)
    assert both[1].plain != alone[1].plain and both[0].plain[:8] == alone[0].plain[:8]
    marked = chart([Curve(flat, "cyan"), Curve(flat, "yellow", mark="o")], 24, 4)
    assert sum(line.plain.count("o") for line in marked) == 2


def test_what_is_no_number_is_left_out() -> None:
    assert chart([Curve([])], 40, 5) == [] and chart([Curve([(1.0, math.nan)])], 40, 5) == []
    one = chart([Curve([(1.0, 2.0), (2.0, math.inf)])], 40, 5)
    assert one[0].plain.startswith("2.00")
