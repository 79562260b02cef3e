"""Tables as plain text, by rich, which Keras prints its own with."""

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


def text(printed: str) -> str:
    """Returns what a console printed without the blanks at the lines' ends."""
    return "\n".join(line.rstrip() for line in printed.splitlines())
