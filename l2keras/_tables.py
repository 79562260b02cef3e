"""Tables as plain text, by rich, which Keras prints its own with."""

import html
from collections.abc import Sequence

import rich.box
import rich.console
import rich.table


def console(width: int) -> rich.console.Console:
    """Returns a console that makes text and nothing else of what it prints."""
    return rich.console.Console(
        width=width,
        highlight=False,
        markup=False,
        emoji=False,
        color_system=None,
        force_terminal=False,
        force_jupyter=False,
    )


def table(left: Sequence[str], right: Sequence[str]) -> rich.table.Table:
    """Returns a table with these columns, flush left and flush right.

    What a column has no room for goes on in the next line: a number that is cut
    would be another number.
    """
    made = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
    for name in left:
        made.add_column(name, overflow="fold")
    for name in right:
        made.add_column(name, overflow="fold", justify="right")
    return made


def fitted(
    names: Sequence[str],
    rows: Sequence[Sequence[str]],
    needed: int,
    width: int = 80,
) -> str:
    """A table of numbers as text, as wide as there is room.

    Args:
        names: The names of the columns. They are broken if the table is too
            wide.
        rows: The texts of the cells.
        needed: How many columns there must be. Of the others the last are left
            out if the table is still too wide, and named below it.
        width: The number of characters in a line.
    """
    ruler = console(width=10_000)

    def made(number: int, breaks: str) -> rich.table.Table:
        heads = [name.replace("_", breaks) for name in names[:number]]
        whole = table(left=[], right=heads)
        for row in rows:
            whole.add_row(*row[:number])
        return whole

    number, fits = len(names), made(len(names), "_")
    if ruler.measure(fits).maximum > width:
        fits = made(number, "_\n")
    while ruler.measure(fits).minimum > width and number > needed:
        number -= 1
        fits = made(number, "_\n")
    printer = console(width)
    with printer.capture() as captured:
        printer.print(fits)
        if names[number:]:
            printer.print(f"Not shown: {', '.join(names[number:])}")
    return text(captured.get())


def html_table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in HTML, as notebooks show it."""

    def line(cells: Sequence[str], tag: str) -> str:
        inside = (f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells)
        return f"<tr>{''.join(inside)}</tr>"

    head = line(names, "th")
    body = "".join(line(row, "td") for row in rows)
    return f"<table><thead>{head}</thead><tbody>{body}</tbody></table>"


def text(printed: str) -> str:
    """Returns what a console printed without the blanks at the lines' ends."""
    return "\n".join(line.rstrip() for line in printed.splitlines())
