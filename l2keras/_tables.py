"""Tables as plain text, by rich, which Keras prints its own with."""

import html
from collections.abc import Sequence
from typing import Any

import rich.box
import rich.console
import rich.table


def console(width: int) -> rich.console.Console:
    """A console that prints plain text."""
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
    """A table with these columns, flush left and flush right.

    Text that is wider than its column goes on in the next line: a number that
    is cut would be another number.
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


def of_paths(
    names: Sequence[str],
    rows: Sequence[Sequence[str]],
    width: int,
    wrapped: Sequence[str] = (),
    dispensable: Sequence[str] = (),
) -> rich.table.Table:
    """A table that is at most so wide, with a path in each row's first cell.

    Columns without an entry are left out. Where there is no room, text is
    wrapped at blanks, then columns are left out, and paths are broken after
    slashes, never inside a name.

    Args:
        names: The names of the columns.
        rows: The texts of the cells.
        width: The number of characters in a line.
        wrapped: The columns whose text may be wrapped.
        dispensable: The columns that may be left out, the first before paths
            are broken, the others if that is not enough.
    """
    left = {names[0], "Shape", *wrapped}

    def made(
        kept: list[int], is_tight: bool, room: int = 0
    ) -> rich.table.Table:
        whole = rich.table.Table(
            box=rich.box.SIMPLE_HEAD, pad_edge=False, collapse_padding=is_tight
        )
        for index in kept:
            name = names[index]
            whole.add_column(
                name,
                no_wrap=name not in wrapped,
                overflow="fold",
                justify="left" if name in left else "right",
            )
        for row in rows:
            cells = [_broken(row[0], room) if room else row[0], *row[1:]]
            whole.add_row(*(cells[index] for index in kept))
        return whole

    kept = [
        index
        for index in range(len(names))
        if not rows or any(row[index] for row in rows)
    ]
    ruler = console(width=10_000)
    table = made(kept, is_tight=False)
    if ruler.measure(table).maximum <= width:
        return table
    longest = max((len(row[0]) for row in rows), default=0)
    for number, name in enumerate(("", *dispensable)):
        kept = [index for index in kept if names[index] != name]
        table = made(kept, is_tight=True)
        excess = ruler.measure(table).minimum - width
        if excess > 0 and (number or not dispensable):
            table = made(kept, is_tight=True, room=max(1, longest - excess))
        if ruler.measure(table).minimum <= width:
            break
    return table


def _broken(path: str, room: int) -> str:
    """A path in lines that are at most so long, if its names let it."""
    lines = [""]
    for part in path.replace("/", "/\n").split("\n"):
        if lines[-1] and len(lines[-1]) + len(part) > room:
            lines.append("  ")
        lines[-1] += part
    return "\n".join(lines)


def html_table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in HTML, as notebooks show it."""

    def line(cells: Sequence[str], tag: str) -> str:
        inside = (f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells)
        return f"<tr>{''.join(inside)}</tr>"

    head = line(names, "th")
    body = "".join(line(row, "td") for row in rows)
    return f"<table><thead>{head}</thead><tbody>{body}</tbody></table>"


def html_lines(lines: Sequence[str]) -> str:
    """Lines of text in HTML."""
    return f"<p>{'<br>'.join(map(html.escape, lines))}</p>" if lines else ""


def frame(content: Any) -> Any:
    """A data frame of pandas, with a column for each key.

    Args:
        content: The columns by name, or a list of rows, dictionaries by column.

    Raises:
        ImportError: If pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise ImportError(
            "`to_frame` needs pandas. Install it with `pip install pandas`."
        ) from error
    return pandas.DataFrame(content)


def text(printed: str) -> str:
    """Printed text without the blanks at the lines' ends."""
    return "\n".join(line.rstrip() for line in printed.splitlines())
