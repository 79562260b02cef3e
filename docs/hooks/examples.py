"""Docstrings in Keras's dialect, for a site that reads Google's.

In it an example follows the line `Example:` without indentation, after a blank
line. As Markdown `>>>` would be a quotation of a quotation of a quotation.
"""

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"^(?P<indent> *)>>> .*\n?(?:^ *\S.*\n?)*", re.MULTILINE)


class Examples(griffe.Extension):
    """Puts fences round examples, so that they are shown as code."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Looks at everything that may have a docstring."""
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)


def fenced(text: str) -> str:
    """Returns a docstring with fences round its examples."""
    text = EXAMPLE.sub(
        lambda block: (
            f"{block['indent']}```pycon\n{block[0].rstrip()}\n"
            f"{block['indent']}```\n"
        ),
        text,
    )
    return re.sub(r"^Example:$", "**Example:**", text, flags=re.MULTILINE)
