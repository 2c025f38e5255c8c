"""A front in characters. What each means is told by its shape; colour says it once more."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rich.text import Text

from search.show.pictures.front import FrontPicture, FrontPoint

ROWS = 15  # of the field
MOST_COLUMNS = 72
TICK = len("-0.000")  # columns of a number beside the field
MARGIN = 0.04  # of the field's range, on each side
RECOMMENDED, BASELINE, ACROSS, UPRIGHT = "R", "B", "-", "|"
MARK = {"best": "*", "dominated": "o", "infeasible": "x"}
STYLE = {RECOMMENDED: "bold green", "*": "green", "o": "", "x": "red", BASELINE: "bold cyan"}
MEANS = {
    RECOMMENDED: "recommended",
    "*": "front",
    "o": "dominated",
    "x": "breaks a guard",
    BASELINE: "baseline's mean",
}


@dataclass(frozen=True)
class _Axis:
    """From values to cells of the field."""

    low: float
    high: float
    cells: int

    def cell(self, value: float) -> int:
        return round((value - self.low) / (self.high - self.low) * (self.cells - 1))

    def value(self, cell: int) -> float:
        return self.low + cell / (self.cells - 1) * (self.high - self.low)


def front_in_characters(picture: FrontPicture, width: int) -> tuple[list[Text], list[str]]:
    """The picture, a text per line, and in sentences what its marks mean.

    Args:
        picture: Of a front; without a point and a baseline there is only a sentence.
        width: Of the console, columns.
    """
    if not picture.points and picture.baseline is None:
        return [], ["nothing is measured yet, so there is no front to draw"]
    columns = max(12, min(MOST_COLUMNS, width) - TICK - 2)
    across, upright = _axis(picture, 0, columns), _axis(picture, 1, ROWS)
    field: dict[tuple[int, int], str] = {}  # column, row from below -> character
    for limit in picture.limits:
        for i in range(columns if limit.axis else ROWS):
            at = (i, upright.cell(limit.value)) if limit.axis else (across.cell(limit.value), i)
            field[at] = ACROSS if limit.axis else UPRIGHT
    hidden = _marks(picture, lambda at: (across.cell(at[0]), upright.cell(at[1])), field, columns)
    lines = [Text(f"{picture.objectives[1]} (up is better)")]
    for row in reversed(range(ROWS)):
        tick = f"{upright.value(row):{TICK}.3f}" if row in {0, ROWS // 2, ROWS - 1} else " " * TICK
        line = Text(f"{tick} {'+' if tick.strip() else '|'}")
        for column in range(columns):
            mark = field.get((column, row), " ")
            line.append(mark, STYLE.get(mark, "dim" if mark in {ACROSS, UPRIGHT} else ""))
        line.rstrip()
        lines.append(line)
    edge = list("-" * columns)
    for cell in (0, columns // 2, columns - 1):
        edge[cell] = "+"
    lines += [Text(f"{' ' * TICK} +{''.join(edge)}"), _ticks(across)]
    title = f"{picture.objectives[0]} (right is better)"
    lines.append(Text(f"{title:>{TICK + 2 + columns}}" if len(title) < width else picture.objectives[0]))
    return lines, _legend(picture, set(field.values()), hidden)


def _marks(
    picture: FrontPicture,
    cell: Callable[[tuple[float, float]], tuple[int, int]],
    field: dict[tuple[int, int], str],
    columns: int,
) -> int:
    """Put the points into the field, the most important last; how many others these hide."""
    placed: dict[tuple[int, int], str] = {}
    points = sorted(picture.points, key=_importance)
    marks = [(cell(point.at), RECOMMENDED if point.recommended else MARK[point.group]) for point in points]
    if picture.baseline is not None:
        marks.insert(sum(point.group != "best" for point in points), (cell(picture.baseline), BASELINE))
    for at, mark in marks:
        placed[at] = mark
    field |= placed
    for point in reversed(points):
        if point.group == "best" and placed[cell(point.at)] in {RECOMMENDED, "*"}:
            _number(point.number, cell(point.at), field, placed, columns)
    return len(marks) - len(placed)


def _number(
    number: int,
    at: tuple[int, int],
    field: dict[tuple[int, int], str],
    placed: Mapping[tuple[int, int], str],
    columns: int,
) -> None:
    """Write a trial's number to the right of its mark, or to the left, if there is room."""
    text, (column, row) = str(number), at
    for start in (column + 1, column - len(text)):
        beside = [(start + i, row) for i in range(-(start < column), len(text) + (start > column))]
        if all(one not in placed for one in beside) and start >= 0 and start + len(text) <= columns:
            field |= {(start + i, row): digit for i, digit in enumerate(text)}
            return


def _importance(point: FrontPoint) -> tuple[bool, int, int]:
    """Rising; of the front's trials the first are the most important."""
    return point.recommended, ["infeasible", "dominated", "best"].index(point.group), -point.number


def _axis(picture: FrontPicture, axis: int, cells: int) -> _Axis:
    values = [point.at[axis] for point in picture.points]
    values += [limit.value for limit in picture.limits if limit.axis == axis]
    values += [] if picture.baseline is None else [picture.baseline[axis]]
    low, high = min(values), max(values)
    more = MARGIN * (high - low) or MARGIN
    return _Axis(low - more, high + more, cells)


def _ticks(across: _Axis) -> Text:
    """Numbers below the field: at its left edge, in the middle, at its right edge."""
    line = list(" " * (TICK + 2 + across.cells + 2))
    for cell in (0, across.cells // 2, across.cells - 1):
        number = f"{across.value(cell):.3f}"
        start = min(TICK + 2 + cell - len(number) // 2, TICK + 2 + across.cells - len(number))
        line[start : start + len(number)] = number
    return Text("".join(line).rstrip())


def _legend(picture: FrontPicture, marks: set[str], hidden: int) -> list[str]:
    lines = ["   ".join(f"{mark} {words}" for mark, words in MEANS.items() if mark in marks)]
    lines += [f"{ACROSS * 3 if one.axis else UPRIGHT} guard: {one.words}" for one in picture.limits]
    if picture.spread is not None:
        sds = ", ".join(
            f"{name} ± {sd:.3f}" for name, sd in zip(picture.objectives, picture.spread, strict=True)
        )
        lines.append(f"sd of the baseline's seeds: {sds}")
    lines += picture.remarks
    lines += [f"{hidden} marks lie behind others"] if hidden else []
    return lines
