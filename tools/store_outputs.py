"""Run notebooks in place and keep what they show, so that they read well where nothing is run.

    python tools/store_outputs.py NOTEBOOK...

Widgets are left out: without a running kernel they are an empty place.
"""
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

WIDGET = "application/vnd.jupyter.widget-view+json"


def shown(outputs: list) -> list:
    "The outputs without widgets and without what was written to the error stream."
    return [output for output in outputs if WIDGET not in output.get("data", {}) and output.get("name") != "stderr"]


def main(paths: list[Path]) -> None:
    for path in paths:
        notebook = nbformat.read(path, as_version=4)
        NotebookClient(notebook, timeout=1_800, resources={"metadata": {"path": str(path.parent)}}).execute()
        for cell in notebook.cells:
            if cell.cell_type == "code": cell.outputs = shown(cell.outputs)
        notebook.metadata.pop("widgets", None)
        nbformat.write(notebook, path)
        print(path)


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]] or sys.exit(__doc__))
