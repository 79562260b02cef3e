"""Draws the guides' figures: `python docs/figures/draw.py`.

A guide shows the figures that its own code saves. This program runs the code of
those guides that show one, or of those that are named, and keeps the files.
"""

import os
import pathlib
import re
import sys
import tempfile

import matplotlib

FIGURES = pathlib.Path(__file__).resolve().parent
GUIDES = FIGURES.parent / "guides"
CODE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FIGURE = re.compile(r"\]\(\.\./figures/([^)]+)\)")


def main(names: list[str]) -> None:
    """Runs the guides, each in an empty folder, and moves their figures."""
    matplotlib.use("agg")
    for path in sorted(GUIDES.glob("*.md")):
        text = path.read_text(encoding="utf-8")
        figures = FIGURE.findall(text)
        if not figures or (names and path.stem not in names):
            continue
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            exec("".join(CODE.findall(text)), {})
            for figure in figures:
                content = pathlib.Path(figure).read_bytes()
                (FIGURES / figure).write_bytes(content)
                print(f"{path.stem}: {figure}, {len(content):,} bytes")
            os.chdir(FIGURES)


if __name__ == "__main__":
    main(sys.argv[1:])
