"""Columns in a terminal: measured widths, who gives way first, what is left of the room."""

from rich.cells import cell_len
from rich.text import Text

from manako.views.terminal.columns import Column, blocks, number, rows


def bar(cells: int) -> str:
    return "#" * cells


NAMES = Column(["猫がいる", "cat"], "名前", most=8, least=4, gives_way=2)
BARS = Column([bar, bar], wide=2, most=6, fills=True, gives_way=1, optional=True)


def shown(columns: list[Column], room: int) -> list[str]:
    return [line.plain for line in rows(columns, room)]


def test_wide_characters_line_up() -> None:
    assert shown([NAMES, number(["1.00%", "12.3%"], "p")], 80) == [
        "名前           p",
        "猫がいる   1.00%",
        "cat        12.3%",
    ]


def test_columns_give_way_in_their_order_and_leave_the_rest_to_the_one_that_fills() -> None:
    table = [NAMES, Column(["x", "y"]), BARS]
    assert shown(table, 40)[1:] == ["猫がいる x ######", "cat      y ######"]  # no wider than its most
    assert shown(table, 14)[1:] == ["猫がいる x ###", "cat      y ###"]
    assert shown(table, 13)[1:] == ["猫がいる x ##", "cat      y ##"]
    assert shown(table, 12)[1:] == ["猫がいる x", "cat      y"]  # the bar first
    assert shown(table, 8)[1:] == ["猫が~  x", "cat    y"]
    assert shown(table, 3)[1:] == ["猫~  x", "cat  y"]  # what does not give way stays as it is


def test_a_column_shrinks_before_it_goes() -> None:
    words = Column(["a b c", "d e f"], gives_way=1, optional=True)
    wide = Column([bar, bar], wide=6, most=9, fills=True, least=3, gives_way=2, optional=True)
    assert shown([wide, words], 20)[0] == "######### a b c"
    assert shown([wide, words], 12)[0] == "###### a b c"
    assert shown([wide, words], 11)[0] == "#########"
    assert shown([wide, words], 3)[0] == "###"
    assert shown([Column(["x", "y"]), wide], 4)[0] == "x"


def test_a_column_is_as_wide_as_its_title_unless_it_fills() -> None:
    table = [Column(["a"], "letter"), number(["1%"], "a long title"), Column([bar], "what follows", wide=4, fills=True)]
    assert shown(table, 26) == ["letter a long title what ~", "a                1% ######"]


def test_a_cell_of_several_lines_has_the_others_empty_beside_it() -> None:
    table = [Column(["1", "2"]), Column([Text("a\nb"), Text("c")]), Column(["x", "y"], right=True)]
    assert shown(table, 80) == ["1 a x", "  b", "2 c y"]


def test_styles_are_of_whole_rows() -> None:
    head, *lines = rows([NAMES], 80, ["bold", ""])
    assert [line.style for line in (head, *lines)] == ["dim", "bold", ""]


def test_blocks_go_on_below_with_the_same_columns_on_the_left() -> None:
    numbers = [number(["1%", "2%"], f"k={k}") for k in range(5)]
    lines = [line.plain for line in blocks([NAMES], numbers, 26)]
    assert lines[0].split() == ["名前", "k=0", "k=1"] and lines[8].split() == ["名前", "k=4"] and lines[3] == ""
    assert {cell_len(line[: line.index("1%")]) for line in lines if "猫" in line} == {14}
    alone = [line.plain for line in blocks([NAMES], numbers, 5)]
    assert sum("k=" in line for line in alone) == 5  # never fewer than one


def test_every_line_fits_a_room_that_holds_what_never_gives_way() -> None:
    columns = [NAMES, number(["+1.00", "-1.00"], "adds"), BARS, Column(["words"] * 2, gives_way=3, optional=True)]
    for room in range(12, 60):
        assert all(cell_len(line) <= room for line in shown(columns, room)), room
