"""Executes the notebooks: `python notebooks/run.py` writes their outputs anew.

With `--check` nothing is written: it only fails if a cell does.
"""

import argparse
import pathlib

import nbclient
import nbformat


def main() -> None:
    """Executes each notebook in its folder, in the order of their numbers."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    folder = pathlib.Path(__file__).parent
    for path in sorted(folder.glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        nbclient.NotebookClient(
            notebook, timeout=600, resources={"metadata": {"path": folder}}
        ).execute()
        print(f"{path.name}: {len(notebook.cells)} cells")
        if not arguments.check:
            for cell in notebook.cells:
                # When a cell ran, and what TensorFlow reports of the machine
                # before it can be told not to, would be new each time.
                cell.metadata.pop("execution", None)
                if cell.cell_type != "code":
                    continue
                cell.outputs = [
                    output
                    for output in cell.outputs
                    if output.get("name") != "stderr"
                ]
            nbformat.write(notebook, path)


if __name__ == "__main__":
    main()
