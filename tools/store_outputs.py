"""Run notebooks in place and keep what they show, so that they read well where nothing is run.

    python tools/store_outputs.py NOTEBOOK...

Of a widget its still picture is kept: without a running kernel the widget itself is an empty
place. Pictures are kept in 256 colours,
a third of the size. A notebook that would hold more than the repository rules allow is refused, and left as it was.
The prompt of the tour inspect_prompts is kept as nbs/images/prompt.png too, where the README shows it.
"""

import base64
import io
import json
import re
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

WIDGET = "application/vnd.jupyter.widget-view+json"
LIMIT = 200_000  # bytes of outputs a notebook
EMBEDDED = re.compile(r"(?<=data:image/png;base64,)[A-Za-z0-9+/=]+")


def smaller(picture: str) -> str:
    "A PNG in base64 with 256 colours at most."
    kept = io.BytesIO()
    Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB").quantize(256).save(
        kept, "PNG", optimize=True
    )
    return base64.b64encode(kept.getvalue()).decode()


def shown(outputs: list) -> list:
    "The outputs with widgets as their still pictures, and without what was written to the error stream."
    kept = []
    for output in outputs:
        data = output.get("data", {})
        if output.get("name") == "stderr":
            continue
        if WIDGET in data:
            if "text/html" not in data:
                continue
            del data[WIDGET]
        if "image/png" in data:
            data["image/png"] = smaller(data["image/png"])
        if "text/html" in data:
            data["text/html"] = EMBEDDED.sub(lambda found: smaller(found[0]), data["text/html"])
        kept.append(output)
    return kept


def size(notebook) -> int:
    "Bytes of all outputs of a notebook."
    return sum(len(json.dumps(cell.outputs)) for cell in notebook.cells if cell.cell_type == "code")


def main(paths: list[Path]) -> None:
    for path in paths:
        notebook = nbformat.read(path, as_version=4)
        NotebookClient(notebook, timeout=1_800, resources={"metadata": {"path": str(path.parent)}}).execute()
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs = shown(cell.outputs)
        notebook.metadata.pop("widgets", None)
        if size(notebook) > LIMIT:
            raise SystemExit(
                f"{path} would store {size(notebook):,} bytes of outputs, over {LIMIT:,}: show less in it"
            )
        nbformat.write(notebook, path)
        print(f"{path}: {size(notebook):,} bytes of outputs")
        if path.stem == "inspect_prompts":
            outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
            pictures = [
                output["data"]["image/png"] for output in outputs if "image/png" in output.get("data", {})
            ]
            (path.parents[1] / "images" / "prompt.png").write_bytes(base64.b64decode(pictures[0]))


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]] or sys.exit(__doc__))
