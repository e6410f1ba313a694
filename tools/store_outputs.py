"""Run notebooks in place and keep what they show, so that they read well where nothing is run.

    python tools/store_outputs.py [--check] [NOTEBOOK...]     # all notebooks of nbs where none is named

Two notebooks run at a time, each on one thread, so that its numbers are the same on every run. Of a widget its
still picture is kept, because the widget itself shows nothing without a running kernel. Pictures are kept in 256
colours, a third of the size. Cells with `#| hide` or `#| export` keep nothing. A notebook is left as it was where
it raises, where its outputs are too large, and where they show what differs from run to run: an address in
memory, a temporary folder, the place of this checkout. `--check` writes nothing, and names the notebooks whose stored
outputs are not what they show now.

The prompt of the tour inspect_prompts is kept as nbs/images/prompt.png too, where the README shows it.
"""

import base64
import io
import json
import os
import re
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
WIDGET = "application/vnd.jupyter.widget-view+json"
LIMIT = 200_000  # bytes of outputs a notebook
TOGETHER = 2  # notebooks that run at a time
EMBEDDED = re.compile(r"(?<=data:image/png;base64,)[A-Za-z0-9+/=]+")
HIDDEN = re.compile(r"^\s*#\s*\|\s*(hide|export)\b", flags=re.M)
STEADY = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONHASHSEED": "0", "PYTHONWARNINGS": "ignore"}
CHANGING = {
    "an address in memory": re.compile(r"\b0x[0-9a-f]{8,}"),
    "a temporary folder": re.compile(re.escape(tempfile.gettempdir()) + r"/\w+"),
    "the place of this checkout": re.compile(re.escape(str(ROOT))),
}


def smaller(picture: str) -> str:
    "A PNG in base64 with 256 colours at most."
    kept = io.BytesIO()
    colours = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB").quantize(256)
    colours.save(kept, "PNG", optimize=True)
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
            data["text/html"] = EMBEDDED.sub(lambda match: smaller(match[0]), data["text/html"])
        if "execution_count" in output:
            output["execution_count"] = None
        kept.append(output)
    return kept


def size(notebook) -> int:
    "Bytes of all outputs of a notebook."
    return sum(len(json.dumps(cell.outputs)) for cell in notebook.cells if cell.cell_type == "code")


def faults(notebook) -> list[str]:
    "Why the outputs of a notebook cannot be stored."
    found = []
    if size(notebook) > LIMIT:
        found.append(f"would store {size(notebook):,} bytes of outputs, over {LIMIT:,}: show less in it")
    for number, cell in enumerate(notebook.cells):
        text = EMBEDDED.sub("", json.dumps(cell.get("outputs", [])))
        for what, pattern in CHANGING.items():
            if match := pattern.search(text):
                found.append(f"shows {what} ({match[0]}) in cell {number}: print something else there")
    return found


def run(path: Path) -> nbformat.NotebookNode:
    "The notebook with what it shows now."
    os.environ.update(STEADY)
    notebook = nbformat.read(path, as_version=4)
    quiet = ["--IPKernelApp.log_level=ERROR"]
    resources = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, timeout=1_800, resources=resources, extra_arguments=quiet).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.execution_count = None
            cell.outputs = [] if HIDDEN.search(cell.source) else shown(cell.outputs)
    notebook.metadata.pop("widgets", None)
    return notebook


def keep_prompt(notebook, images: Path) -> None:
    "The first picture of the tour of prompts, where README shows it."
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    pictures = [output["data"]["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    (images / "prompt.png").write_bytes(base64.b64decode(pictures[0]))


def outputs_of(notebook) -> list:
    "The outputs of all code cells."
    return [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]


def store(path: Path, check: bool = False) -> tuple[str, list[str]]:
    "Run one notebook and keep its outputs, or compare them; gives a line on it, and its faults."
    started = time.monotonic()
    try:
        notebook = run(path)
    except CellExecutionError as error:
        return "", [f"raises {error.ename}: {error.evalue}"]
    found = faults(notebook)
    if check and outputs_of(notebook) != outputs_of(nbformat.read(path, as_version=4)):
        found.append("shows something else now: store its outputs anew")
    if not found and not check:
        metadata = nbformat.read(path, as_version=4).metadata  # a kernel adds its version to it
        notebook.metadata = metadata
        notebook.metadata.pop("widgets", None)
        nbformat.write(notebook, path)
        if path.stem == "inspect_prompts":
            keep_prompt(notebook, path.parents[1] / "images")
    return f"{size(notebook):,} bytes of outputs, {time.monotonic() - started:.0f} s", found


def main(paths: list[Path], check: bool = False) -> None:
    "Store or compare the outputs of some notebooks; exits with an error where any was refused."
    if len(paths) == 1:
        refused = report([(paths[0], store(paths[0], check))], 1)
    else:
        with ProcessPoolExecutor(TOGETHER, get_context("spawn")) as pool:
            futures = {pool.submit(store, path, check): path for path in paths}
            done = ((futures[future], future.result()) for future in as_completed(futures))
            refused = report(done, len(paths))
    if refused:
        raise SystemExit("\n".join(["", f"{len(refused)} of {len(paths)} notebooks were refused:", *refused]))


def report(done, count: int) -> list[str]:  # path, (line, faults) of each notebook as it ends
    "Print a line on each notebook; gives a line for each that was refused."
    refused = []
    for number, (path, (line, found)) in enumerate(done, 1):
        print(f"[{number}/{count}] {path}: {'; '.join(found) or line}", flush=True)
        if found:
            refused.append(f"{path} {'; '.join(found)}")
    return refused


def every_notebook() -> list[Path]:
    "All notebooks of nbs, those that take longest first."
    paths = [path for path in (ROOT / "nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts]
    return sorted(paths, key=lambda path: (path.parent.name != "experiments", path))


if __name__ == "__main__":
    arguments = sys.argv[1:]
    if {"-h", "--help"} & set(arguments):
        sys.exit(__doc__)
    named = [Path(name) for name in arguments if name != "--check"]
    main(named or every_notebook(), check="--check" in arguments)
