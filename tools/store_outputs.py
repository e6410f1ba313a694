"""Run notebooks in place and keep what they show, so that they read well where nothing is run.

    python tools/store_outputs.py NOTEBOOK...

Widgets are left out: without a running kernel they are an empty place. Pictures are kept in 256 colours, a third of the size.
The prompt of the tour inspect_prompts is kept as nbs/images/prompt.png too, where the README shows it.
"""
import base64
import io
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

WIDGET = "application/vnd.jupyter.widget-view+json"


def smaller(picture: str) -> str:
    "A PNG in base64 with 256 colours at most."
    kept = io.BytesIO()
    Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB").quantize(256).save(kept, "PNG", optimize=True)
    return base64.b64encode(kept.getvalue()).decode()


def shown(outputs: list) -> list:
    "The outputs without widgets and without what was written to the error stream."
    kept = [output for output in outputs if WIDGET not in output.get("data", {}) and output.get("name") != "stderr"]
    for output in kept:
        if "image/png" in output.get("data", {}): output["data"]["image/png"] = smaller(output["data"]["image/png"])
    return kept


def main(paths: list[Path]) -> None:
    for path in paths:
        notebook = nbformat.read(path, as_version=4)
        NotebookClient(notebook, timeout=1_800, resources={"metadata": {"path": str(path.parent)}}).execute()
        for cell in notebook.cells:
            if cell.cell_type == "code": cell.outputs = shown(cell.outputs)
        notebook.metadata.pop("widgets", None)
        nbformat.write(notebook, path)
        print(path)
        if path.stem == "inspect_prompts":
            pictures = [output["data"]["image/png"] for cell in notebook.cells for output in cell.get("outputs", []) if "image/png" in output.get("data", {})]
            (path.parents[1] / "images" / "prompt.png").write_bytes(base64.b64decode(pictures[0]))


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]] or sys.exit(__doc__))
