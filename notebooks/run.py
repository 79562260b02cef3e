"""Executes the notebooks: `python notebooks/run.py` writes their outputs anew.

Or those of the notebooks that are named. With `--check` nothing is written: it
only fails if a cell does. Then two are executed at a time, since nobody reads
what they print of the time that they took.
"""

import argparse
import asyncio
import pathlib

import nbclient
import nbformat

FOLDER = pathlib.Path(__file__).parent


def main() -> None:
    """Executes each notebook in its folder, in the order of their numbers."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("paths", nargs="*", type=pathlib.Path)
    arguments = parser.parse_args()
    paths = arguments.paths or sorted(FOLDER.glob("*.ipynb"))
    asyncio.run(_run(paths, arguments.check))


async def _run(paths: list[pathlib.Path], check: bool) -> None:
    turns = asyncio.Semaphore(2 if check else 1)

    async def run(path: pathlib.Path) -> None:
        async with turns:
            notebook = await _executed(path)
        print(f"{path.name}: {len(notebook.cells)} cells", flush=True)
        if not check:
            _write(notebook, path)

    await asyncio.gather(*map(run, paths))


async def _executed(path: pathlib.Path) -> nbformat.NotebookNode:
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=600, resources={"metadata": {"path": FOLDER}}
    )
    return await client.async_execute()


def _write(notebook: nbformat.NotebookNode, path: pathlib.Path) -> None:
    for cell in notebook.cells:
        # When a cell ran, and what TensorFlow reports of the machine before it
        # can be told not to, would be new each time.
        cell.metadata.pop("execution", None)
        if cell.cell_type != "code":
            continue
        cell.outputs = [
            output for output in cell.outputs if output.get("name") != "stderr"
        ]
    nbformat.write(notebook, path)


if __name__ == "__main__":
    main()
