"""Make README.md from nbs/index.ipynb, with nbdev's own filters and nbconvert; quarto is not needed.

python tools/build_readme.py            write README.md
python tools/build_readme.py --check    exit with 1 and show the difference where they disagree
"""

import argparse
import difflib
import os
import posixpath
import re
import sys
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter
from nbdev.process import NBProcessor
from nbdev.processors import (
    FrontmatterProc,
    ai_magics,
    clean_magics,
    filter_stream_,
    hide_,
    hide_line,
    rm_export,
    rm_header_dash,
    strip_ansi,
)
from execnb.nbio import nb2str

    # nbdev's filters for documentation, without those that serve a website: pages for functions and
    # links between them.
FILTERS = [
    FrontmatterProc,
    strip_ansi,
    hide_line,
    filter_stream_,
    rm_header_dash,
    rm_export,
    ai_magics,
    clean_magics,
    hide_,
]
NOTE = "<!-- Made from nbs/index.ipynb by `make readme`: edit the notebook, not this file. -->"
_LINK = re.compile(r"(\]\(|\bsrc=\"|\bhref=\")(?![a-z]+:|[#/])([^)\s\"]+)")


def readme(root: Path) -> str:
    "The text of README.md; links that are relative to nbs/ become relative to the top."
    processor = NBProcessor(root / "nbs" / "index.ipynb", procs=FILTERS, rm_directives=True)
    processor.process()
    head = processor.nb.frontmatter_
    notebook = nbformat.reads(nb2str(processor.nb), as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code" and cell.source.startswith(
            "#| echo: false"
        ):  # its answer is wanted, not its code
            answers = [
                output["data"]["text/markdown"]
                for output in cell.outputs
                if "text/markdown" in output.get("data", {})
            ]
            cell.cell_type, cell.source = "markdown", "\n\n".join(map("".join, answers))
    notebook.cells = [cell for cell in notebook.cells if cell.cell_type != "raw" and cell.source.strip()]
    body, resources = MarkdownExporter().from_notebook_node(notebook)
    if resources.get("outputs"):
        raise SystemExit(
            "nbs/index.ipynb holds pictures as outputs: keep them as files in nbs/ and link them."
        )
    body = _LINK.sub(lambda found: found[1] + posixpath.normpath(posixpath.join("nbs", found[2])), body)
    body = re.sub(r"\n{3,}", "\n\n", "\n".join(line.rstrip() for line in body.splitlines())).strip()
    return f"# {head['title']}\n\n{NOTE}\n\n> {head['description']}\n\n{body}\n"


def main() -> int:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--check", action="store_true", help="compare only; exit with 1 where they differ")
    arguments.add_argument(
        "--root", type=Path, default=Path(__file__).resolve().parents[1], help="the project's folder"
    )
    chosen = arguments.parse_args()
    root = chosen.root.resolve()
    os.chdir(root)  # nbdev looks for settings.ini from where it runs
    new, path = readme(root), root / "README.md"
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    if not chosen.check:
        path.write_text(new, encoding="utf-8")
        return 0
    sys.stdout.writelines(
        difflib.unified_diff(old.splitlines(True), new.splitlines(True), "README.md", "nbs/index.ipynb")
    )
    return int(old != new)


if __name__ == "__main__":
    sys.exit(main())
