"""How full the pages are: figures of the exported modules and of the notebooks, and the fullest modules.

    python tools/page_statistics.py [--root FOLDER] [--worst 10]

What nbdev adds to a module, its docstring and `__all__`, is left out. A line of code holds something beside comments.
Nodes are those of Python's syntax tree, contexts such as `Load` included. An example cell is a code cell without
`#| hide`, `#| export` or `#| default_exp`, and not the cell of imports.
"""

import argparse
import ast
import io
import json
import re
import tokenize
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GENERATED = {"__init__.py", "_modidx.py"}
PARAMETERS = 6  # of one function
NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}
DIRECTIVE = re.compile(r"^#\s*\|\s*(hide|export|default_exp)", flags=re.M)


def is_packed(node: ast.AST) -> bool:
    "Whether it assigns several values to several names at once."
    if not isinstance(node, ast.Assign):
        return False
    return isinstance(node.targets[0], ast.Tuple) and isinstance(node.value, ast.Tuple)


def is_wide(node: ast.AST) -> bool:
    "Whether it is a function of more than six parameters, `self` left out."
    if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return False
    parameters = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
    return sum(each.arg not in ("self", "cls") for each in parameters) > PARAMETERS


def module_statistics(source: str) -> dict[str, int]:
    "The counts of one module."
    tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    code = [token for token in tokens if token.type not in NO_CODE]
    lines = {line for token in code for line in range(token.start[0], token.end[0] + 1)}
    widths = [len(line) for line in source.splitlines()]
    nodes = list(ast.walk(ast.parse(source)))
    imports = [len(node.names) for node in nodes if isinstance(node, ast.ImportFrom) and node.level]
    return {
        "lines": len(lines),
        "nodes": len(nodes),
        "past 100": sum(width > 100 for width in widths),
        "past 120": sum(width > 120 for width in widths),
        "semicolons": sum(token.type == tokenize.OP and token.string == ";" for token in code),
        "packed": sum(map(is_packed, nodes)),
        "imported": sum(imports),
        "wide": sum(map(is_wide, nodes)),
    }


def written_part(source: str) -> str:
    "The exported cells of a module, without the docstring and `__all__` that nbdev puts before them."
    _, marker, cells = source.partition("\n# %% ../")
    return marker + cells if marker else source


def all_modules(root: Path) -> dict[str, dict[str, int]]:
    "Module -> its counts."
    library = root / "userllm"
    paths = [path for path in sorted(library.rglob("*.py")) if path.name not in GENERATED]
    modules = {}
    for path in paths:
        name = ".".join(path.relative_to(library).with_suffix("").parts)
        modules[name] = module_statistics(written_part(path.read_text(encoding="utf-8")))
    return modules


def is_example(cell: dict) -> bool:  # of a notebook
    "Whether a cell shows how something is used."
    source = "".join(cell["source"])
    if cell["cell_type"] != "code" or DIRECTIVE.search(source):
        return False
    lines = source.splitlines()
    code = "\n".join("pass" if line.lstrip().startswith(("%", "!")) else line for line in lines)
    statements = ast.parse(code).body
    imports = [isinstance(each, (ast.Import, ast.ImportFrom)) for each in statements]
    return not (any(imports[:1]) and all(imports[:-1]))  # a cell of imports may end in a setting


def example_cells(root: Path) -> tuple[int, int]:
    "How many example cells the numbered notebooks have, and how many of them show an output."
    notebooks = [path for path in (root / "nbs").rglob("[0-9]*.ipynb") if ".ipynb_checkpoints" not in path.parts]
    cells = [cell for path in notebooks for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]]
    examples = [cell for cell in cells if is_example(cell)]
    return len(examples), sum(bool(cell["outputs"]) for cell in examples)


def nodes_a_line(counts: dict[str, int]) -> float:
    "How many syntax nodes a line of code has."
    return counts["nodes"] / max(1, counts["lines"])


def report(root: Path, worst: int) -> None:
    "Print the figures of all modules, and the fullest ones."
    modules = all_modules(root)
    total = {name: sum(counts[name] for counts in modules.values()) for name in module_statistics("")}
    widest = max(modules, key=lambda name: modules[name]["imported"])
    examples, shown = example_cells(root)
    figures = {
        "modules": len(modules),
        "lines of code": f"{total['lines']:,}",
        "mean syntax nodes a line": f"{nodes_a_line(total):.2f}",
        "lines past 100 columns": f"{total['past 100']:,}",
        "lines past 120 columns": total["past 120"],
        "semicolons": total["semicolons"],
        "packed assignments": total["packed"],
        "largest import list": f"{modules[widest]['imported']} names ({widest})",
        "functions with over six parameters": total["wide"],
        "example cells that show an output": f"{shown} of {examples}",
    }
    for name, value in figures.items():
        print(f"{name:36}{value}")

    print(f"\n{'fullest modules':36}{'nodes a line':>14}{'past 100':>10}{'lines':>8}")
    for name in sorted(modules, key=lambda name: -nodes_a_line(modules[name]))[:worst]:
        counts = modules[name]
        print(f"{name:36}{nodes_a_line(counts):14.2f}{counts['past 100']:10}{counts['lines']:8}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--root", type=Path, default=ROOT, help="a checkout")
    parser.add_argument("--worst", type=int, default=10, help="how many of the fullest modules are listed")
    arguments = parser.parse_args()
    report(arguments.root, arguments.worst)
