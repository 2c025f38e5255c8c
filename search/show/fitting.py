"""Tables and sentences that fit a terminal: no number is cut off and no word broken, however narrow it is.

A table that is too wide is first set without rules, its headers and cells in several lines; if that does not
help, each row becomes a sentence. Knows nothing of what is shown.
"""

import re
import textwrap
from collections.abc import Sequence
from itertools import groupby

from rich import box
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

NO_EDGE = 10**4  # columns that any table fits in
INDENT = 4  # of what goes on in a further line
BOUND = "\N{NO-BREAK SPACE}"  # between what stays together in a sentence
# What a line may be parted between: words, what a name consists of, but no sign and its number.
_PART = r"(?:[±≥≤] \S+|[^\s_/]+[_/]*|[_/]+)"
COMMAND = ": rarecall "  # before what a person may type


def show(console: Console, table: Table, heads: int = 0) -> None:
    """Print a table as wide as the console allows.

    Args:
        console: Where to.
        table: Of strings and texts.
        heads: So many of its first columns are empty but for the first row of a group; where it is narrow
            they become a line above the group.
    """
    console.print(fitted(console, table, heads))


def fitted(console: Console, table: Table, heads: int = 0) -> RenderableType:
    """The table itself if the console is wide enough, else what says the same in fewer columns."""
    needed = console.measure(table, options=console.options.update_width(NO_EDGE)).maximum
    if needed <= console.width:
        return table
    caption = [] if table.caption is None else _sentences(table.caption, console.width)
    body = _narrow(table, console.width, heads) or _rows_as_sentences(table, console.width, heads)
    title = [] if table.title is None else [Text("\n".join(_wrapped(str(table.title), console.width)))]
    return Group(*title, *body, *caption)


def say(console: Console, line: str) -> None:
    """Print a line of text; on a terminal wrapped between words, further lines indented.

    A command at its end stays in one piece, so that it can be copied.
    """
    for part in _wrapped(line, console.width) if console.is_terminal else [line]:
        console.print(Text(part), soft_wrap=True, highlight=False)


def _wrapped(line: str, width: int) -> list[str]:
    """The line in pieces of at most `width` columns, as far as words and commands allow."""
    if cell_len(line) <= width:
        return [line]
    before, colon, command = line.partition(COMMAND)
    if colon:
        return [*_wrapped(f"{before}:", width), f"{' ' * INDENT}{colon[2:]}{command}"]
    labelled = re.match(r"\s*(\d+  )?", line)  # ` 11  retention 0.40`, or an indented line
    assert labelled is not None
    further = len(labelled.group()) if labelled.group(1) else len(labelled.group()) + INDENT
    return textwrap.wrap(
        line,
        width,
        subsequent_indent=" " * further,
        break_long_words=False,
        break_on_hyphens=False,
        replace_whitespace=False,
        drop_whitespace=True,
    )


def _sentences(caption: RenderableType, width: int) -> list[RenderableType]:
    return [Text(part) for line in str(caption).splitlines() for part in _wrapped(line, width)]


# In several lines


def _narrow(table: Table, width: int, heads: int) -> list[RenderableType] | None:
    """The table without rules, every column as narrow as its longest word; None if that is too wide still."""
    columns = table.columns[heads:]
    widths = [_least_width(column) for column in columns]
    left = width - (sum(widths) + len(widths) - 1)
    if left < 0:
        return None
    for i, column in enumerate(columns):  # names and sentences get the room that is left
        if column.justify == "left":
            more = min(left, max(0, _natural_width(column) - widths[i]))
            widths[i], left = widths[i] + more, left - more
    found: list[RenderableType] = []
    for _, group in groupby(_numbered(table, heads), key=lambda one: one[0]):
        rows = [row for _, row in group]
        if heads:
            found.append(Text(_head(table, rows[0], heads), style=table.rows[rows[0]].style or ""))
        found.append(_narrow_part(table, rows, heads, widths, header=rows[0] == 0))
    return found


def _narrow_part(table: Table, rows: Sequence[int], heads: int, widths: Sequence[int], header: bool) -> Table:
    part = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=0, show_header=header)
    columns = table.columns[heads:]
    for column, width in zip(columns, widths, strict=True):
        title = _parted(str(column.header), width)
        part.add_column(title, justify=column.justify, width=width, no_wrap=False, overflow="fold")
    for row in rows:
        cells = (
            cell if column.no_wrap else _parted(cell, width) if isinstance(cell, str) else cell
            for column, width in zip(columns, widths, strict=True)
            for cell in (_cell(column, row),)
        )
        part.add_row(*cells, style=table.rows[row].style)
    return part


def _least_width(column: Column) -> int:
    header = max(map(cell_len, _parts(str(column.header))), default=0)
    pieces = [
        piece
        for cell in column.cells
        for piece in (str(cell).splitlines() if column.no_wrap else _parts(str(cell)))
    ]
    return max([1, header, *map(cell_len, pieces)])


def _natural_width(column: Column) -> int:
    return max([0, *(cell_len(line) for cell in column.cells for line in str(cell).splitlines())])


def _parts(text: str) -> list[str]:
    """Where a name or some words may be parted: `minority_recall` into `minority_` and `recall`."""
    return re.findall(_PART, text)


def _parted(text: str, width: int) -> str:
    """The text in lines of at most `width`, as many words or parts of a name in each as fit."""
    lines = []
    for line in text.splitlines():
        now = ""
        for part in re.findall(rf"\s*{_PART}", line):
            if now and cell_len(now + part) > width:
                lines.append(now)
                now = part.lstrip()
            else:
                now += part if now else part.lstrip()
        lines.append(now)
    return "\n".join(lines)


# As sentences


def _rows_as_sentences(table: Table, width: int, heads: int) -> list[RenderableType]:
    """Each row by itself: its first cell or cells, and below them a value for every other column."""
    named = max(heads, 1)
    found: list[RenderableType] = []
    for row in range(table.row_count):
        style = table.rows[row].style or ""
        head = _head(table, row, named)
        lines = _wrapped(head, width) if head else []
        items = [
            f"{_name(column)} {_one_line(_cell(column, row))}".strip()
            for column in table.columns[named:]
            if str(_cell(column, row))
        ]
        lines += _listed(items, width)
        found += [Text(line, style=style) for line in lines]
    return found


def _listed(items: Sequence[str], width: int) -> list[str]:
    """The items behind each other, none of them parted that fits in a line."""
    room = width - INDENT - 1
    bound = [item.replace(" ", BOUND) if cell_len(item) <= room else item for item in items]
    wrapped = textwrap.wrap(
        ", ".join(bound),
        width,
        initial_indent=" " * (INDENT // 2),
        subsequent_indent=" " * (INDENT // 2),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace(BOUND, " ") for line in wrapped]


def _head(table: Table, row: int, named: int) -> str:
    """What a row is called: `trial 11`, or `trial 11, accepted, 5 v 10 seeds`."""
    said = [
        f"{_name(column)} {cell}".strip() if str(cell).strip().isdigit() else _one_line(cell)
        for column in table.columns[:named]
        for cell in (_cell(column, row),)
    ]
    return ", ".join(filter(None, said))


def _numbered(table: Table, heads: int) -> list[tuple[int, int]]:
    """Group and number of each row; a group begins where a head is not empty."""
    found, group = [], 0
    for row in range(table.row_count):
        if any(str(_cell(column, row)) for column in table.columns[:heads]):
            group += 1
        found.append((group, row))
    return found


def _name(column: Column) -> str:
    """Of a column: `minority_recall (higher is better)`."""
    first, *more = str(column.header).splitlines() or [""]
    return " ".join([first, *(f"({line})" for line in more)])


def _cell(column: Column, row: int) -> str | Text:
    cell = list(column.cells)[row]
    return cell if isinstance(cell, Text) else str(cell)


def _one_line(cell: str | Text) -> str:
    return " ".join(str(cell).split())
