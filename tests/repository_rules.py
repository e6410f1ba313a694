"""The repository rules.

Each function takes the root of a checkout and returns what breaks its rule, one line each."""

import ast
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tokenize
from collections import Counter, defaultdict
from contextlib import suppress
from importlib.metadata import packages_distributions
from pathlib import Path

from userllm.core.sealed_folders import UNSAFE as CODE_OR_HIDDEN

LIBRARY = "userllm"
GENERATED = {"__init__.py", "_modidx.py"}
ENTRY = Path(LIBRARY) / "__main__.py"  # for `python -m userllm`; two lines by hand, of no notebook
LEFT_OUT = {
    ".git",
    ".venv",
    "runs",
    "_proc",
    "_docs",
    "build",
    "dist",
    "__pycache__",
    ".pytest_cache",
    ".ipynb_checkpoints",
}
OUTPUT_LIMIT = 200_000  # bytes of stored outputs a notebook
WIDTH = 120  # columns of a line of code
CROWD = 35  # syntax nodes that start on one line of code
PARAMETERS = 6  # of one function; what travels together is one object
# Functions that may take more, with the reason.
WIDE_BY_PURPOSE = {
    "test_any_dialect_is_read_as_others_read_it_or_refused_with_its_line": "hypothesis draws each argument",
    "write_dialect": "one argument for each choice of a dialect",
    "_split_attention": "Transformers calls attention with these",
}
ONE_PART_ERRORS = 0  # raises of `InputError` without `fix=` that are left: this may fall, and may not rise
UNSAFE = CODE_OR_HIDDEN - {".py"}  # formats that can run code, or hide what they hold
# Put together from halves, so that this file does not break the rules that it keeps.
HOSTS = [
    "pypi" + ".org",
    "python" + "hosted.org",
    "download." + "pytorch.org",
    "anaconda" + ".org",
    "pypi." + "nvidia.com",
]
PRIVATE = re.compile(
    r"(?<![\w.}>])(?:/(?:home|Users)/[\w.-]+|/ro"
    r"ot/|[A-Za-z]:\\+Users\\+\w)|\.\./"
    r"shared\b|" + "|".join(re.escape(host) for host in HOSTS)
)


def tracked(root: Path) -> list[Path]:
    "Files that git holds or would hold, relative to `root`; without git, all but environments and products."
    if (root / ".git").exists():
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listing = subprocess.run(command, cwd=root, check=True, capture_output=True).stdout.decode()
        found = {Path(name) for name in listing.split("\0") if name}
    else:
        found = {path.relative_to(root) for path in root.rglob("*")}
        found = {path for path in found if not LEFT_OUT & set(path.parts) and ".egg-info" not in str(path)}
    return sorted(path for path in found if (root / path).is_file())


def copy_of(root: Path, target: Path) -> Path:
    "The tracked files of `root` under `target`, away from the checkout."
    for path in tracked(root):
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # written and removed by a test in another process
            shutil.copyfile(root / path, target / path)
    return target


def notebooks(root: Path) -> list[Path]:
    "All notebooks that nbdev would see, those of the library first."
    found = (
        path
        for path in (root / "nbs").rglob("*.ipynb")
        if not any(part.startswith(("_", ".")) for part in path.relative_to(root / "nbs").parts)
    )
    return sorted(found, key=lambda path: (not re.match(r"\d", path.name), path.name, path))


def sources(notebook: Path, kind: str = "code") -> list[str]:
    "The sources of a notebook's cells of one kind."
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == kind]


def numbered_notebooks(root: Path) -> list[tuple[int, str | None, Path]]:
    "Number, module (or None) and path of each numbered notebook."
    found = []
    for path in notebooks(root):
        number = re.match(r"(\d+)_", path.name)
        if not number:
            continue
        exported = re.search(r"^#\s*\|\s*default_exp\s+(\S+)", "\n".join(sources(path)), flags=re.M)
        found.append((int(number[1]), exported[1] if exported else None, path))
    return found


def imported_modules(source: str) -> set[str]:
    "Modules of the library that a cell imports anywhere, also inside functions and by `import_module`."
    code = "\n".join(line for line in source.splitlines() if not line.lstrip().startswith(("%", "!")))
    found = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(filter(None, [LIBRARY if node.level else "", node.module]))
            names = [f"{base}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            names = [
                part.value
                for part in node.args[:1]
                if isinstance(part, ast.Constant) and isinstance(part.value, str)
            ]
        else:
            continue
        found |= {name.removeprefix(LIBRARY + ".") for name in names if name.startswith(LIBRARY + ".")}
    return found


def owner_of(name: str, numbers: dict[str, int]) -> str:
    "The module that holds a dotted name, or the name's own parent where no notebook makes any."
    parts = name.split(".")
    known = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((module for module in known if module in numbers), ".".join(parts[:-1]) or name)


def climbing_imports(root: Path) -> list[str]:
    "A notebook imports only from notebooks with a lower number."
    numbers = {module: number for number, module, _ in numbered_notebooks(root) if module}
    problems = []
    for number, _, path in numbered_notebooks(root):
        for cell, source in enumerate(sources(path)):
            try:
                names = imported_modules(source)
            except SyntaxError as error:
                problems.append(
                    f"{path.name}, code cell {cell}: not Python ({error.msg}, line {error.lineno})"
                )
                continue
            for name in sorted({owner_of(name, numbers) for name in names - {"__version__"}}):
                if name not in numbers:
                    problems.append(
                        f"{path.name}, code cell {cell}: imports {LIBRARY}.{name}, which no notebook makes"
                    )
                elif numbers[name] >= number:
                    problems.append(
                        f"{path.name}, code cell {cell}: imports {LIBRARY}.{name} of number"
                        f" {numbers[name]:02d}"
                    )
    return problems


def defined_names(module: Path) -> set[str]:
    "Names that a module defines or imports, at any depth."
    names = set()
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names |= {alias.asname or alias.name for alias in node.names}
    return names


def missing_names(root: Path) -> list[str]:
    "What a page or a test imports from a module of the library stands in that module."
    cells = [(path, source) for path in notebooks(root) for source in sources(path)]
    cells += [(path, path.read_text(encoding="utf-8")) for path in sorted((root / "tests").glob("*.py"))]
    problems = []
    known_names = {}  # by module
    for path, code in cells:
        if LIBRARY not in code:  # most cells import nothing of the library, and reading them takes seconds
            continue
        lines = (line for line in code.splitlines() if not line.lstrip().startswith(("%", "!")))
        for node in ast.walk(ast.parse("\n".join(lines))):
            if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith(LIBRARY + "."):
                continue
            place = root / node.module.replace(".", "/")
            if place not in known_names:
                module = place.with_suffix(".py")
                known_names[place] = defined_names(module) if module.exists() else set()
                known_names[place] |= {part.stem for part in place.glob("*") if part.stem != "__init__"}
            for name in sorted({alias.name for alias in node.names} - known_names[place]):
                problems.append(f"{path.name}: imports {name} from {node.module}, which has no such name")
    return problems


def misplaced_modules(root: Path) -> list[str]:
    """One number and one module a notebook, named alike and in a folder of its package's name; other
    notebooks export nothing."""
    owners, numbers, problems = {}, {}, []
    for number, module, path in numbered_notebooks(root):
        if module is None:
            problems.append(f"{path.name} has a number and no default_exp")
        elif module in owners:
            problems.append(f"{path.name} and {owners[module]} both export {module}")
        if number in numbers:
            problems.append(f"{path.name} and {numbers[number]} have the same number")
        place = ".".join([*path.parent.relative_to(root / "nbs").parts, path.stem.split("_", 1)[1]])
        if module not in (None, place):
            problems.append(f"{path.name} exports {module}, and lies where {place} belongs")
        owners.setdefault(module, path.name)
        numbers.setdefault(number, path.name)
    for path in sorted((root / LIBRARY).rglob("*.py")):
        name = ".".join(path.relative_to(root / LIBRARY).with_suffix("").parts)
        if path.name not in GENERATED and path != root / ENTRY and name not in owners:
            problems.append(f"{path.relative_to(root)} comes from no notebook")
    numbered = {path for _, _, path in numbered_notebooks(root)}
    for path in notebooks(root):
        if path not in numbered and re.search(
            r"^#\s*\|\s*(default_exp|exports?)\b", "\n".join(sources(path)), flags=re.M
        ):
            problems.append(f"{path.relative_to(root)} exports, and has no number")
    return problems


def unclean_notebooks(root: Path) -> list[str]:
    "Small outputs, no widget state, no execution counts, and nothing left for nbdev_clean."
    from nbdev.clean import clean_nb, process_write

    problems = []
    for path in notebooks(root):
        name, notebook = path.relative_to(root), json.loads(path.read_text(encoding="utf-8"))
        code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
        size = sum(len(json.dumps(cell.get("outputs", []))) for cell in code if cell.get("outputs"))
        if size > OUTPUT_LIMIT:
            problems.append(f"{name} stores {size:,} bytes of outputs, over {OUTPUT_LIMIT:,}")
        if "widgets" in notebook["metadata"] or any(
            "widget-view" in json.dumps(cell.get("outputs", [])) for cell in code
        ):
            problems.append(f"{name} stores the state of widgets")
        counts = [cell.get("execution_count") for cell in code]
        counts += [output.get("execution_count") for cell in code for output in cell.get("outputs", [])]
        if any(count is not None for count in counts):
            problems.append(f"{name} stores execution counts")
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(shutil.copy(path, folder))
            process_write(f"{name} can't be cleaned", clean_nb, copy)
            if copy.read_bytes() != path.read_bytes():
                problems.append(f"{name} is not as nbdev_clean leaves it: make export")
    return problems


def sections_show_something(root: Path) -> list[str]:
    """Every `##` section of a numbered notebook has a stored output in a code cell that is not hidden: on a code
    host a section without one is prose and asserts."""
    hidden = re.compile(r"^\s*#\s*\|\s*(hide|export)", flags=re.M)
    problems = []
    for _, _, path in numbered_notebooks(root):
        silent = {}  # heading -> whether nothing was shown so far
        heading = None
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            source = "".join(cell["source"])
            if cell["cell_type"] == "markdown" and (titles := re.findall(r"^## +(.+)$", source, flags=re.M)):
                silent |= dict.fromkeys(titles, True)
                heading = titles[-1]
            elif heading and cell["cell_type"] == "code" and cell.get("outputs") and not hidden.search(source):
                silent[heading] = False
        name = path.relative_to(root)
        problems += [f"{name}: nothing is shown under `## {title}`" for title, empty in silent.items() if empty]
    return problems


def swallowed_prose(root: Path) -> list[str]:
    """The cell of a title holds `# title` and `> one line` alone: nbdev turns it into metadata, and
    drops the rest from the docs."""
    problems = []
    for path in notebooks(root):
        lines = [line for line in "".join(sources(path, "markdown")[:1]).splitlines() if line.strip()]
        if len(lines) != 2 or not lines[0].startswith("# ") or not lines[1].startswith("> "):
            problems.append(
                f"{path.relative_to(root)}: the first text cell must be `# title` and `> one line`, and no"
                " more"
            )
    return problems


def drifted_export(root: Path) -> list[str]:
    "`userllm/*.py` is what nbdev_export makes of the notebooks."
    with tempfile.TemporaryDirectory() as folder:
        copy = copy_of(root, Path(folder).resolve())
        for path in (copy / LIBRARY).rglob("*.py"):
            if path.name != "__init__.py" and path != copy / ENTRY:
                path.unlink()
        environment = {
            name: value for name, value in os.environ.items() if name != "IN_TEST"
        }  # nbdev exports nothing under it
        command = [
            sys.executable,
            "-c",
            "from nbdev.doclinks import nbdev_export; nbdev_export.__wrapped__()",
        ]
        done = subprocess.run(
            command, cwd=copy, env=environment, capture_output=True, text=True, encoding="utf-8"
        )
        if done.returncode:
            return [f"nbdev_export fails: {(done.stderr or done.stdout).strip().splitlines()[-1]}"]
        fresh = {path.relative_to(copy): path.read_bytes() for path in (copy / LIBRARY).rglob("*.py")}
    held = {path.relative_to(root): path.read_bytes() for path in (root / LIBRARY).rglob("*.py")}
    return [
        f"{path} is not what the notebooks export: make export"
        for path in sorted(fresh.keys() | held.keys())
        if fresh.get(path) != held.get(path)
    ]


def stale_readme(root: Path) -> list[str]:
    "README.md is what its notebook says, and its relative links lead somewhere."
    builder = Path(__file__).resolve().parents[1] / "tools" / "build_readme.py"
    done = subprocess.run(
        [sys.executable, str(builder), "--check", "--root", str(root)],
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    problems = (
        [f"README.md is not what nbs/index.ipynb makes: make readme\n{done.stdout}{done.stderr}"]
        if done.returncode
        else []
    )
    text = (root / "README.md").read_text(encoding="utf-8")
    for link in re.findall(r"\]\((?![a-z]+:|#)([^)\s#]+)", text):
        if not (root / link).exists():
            problems.append(f"README.md links {link}, which is not there")
    return problems


def pages(root: Path) -> list[tuple[str, str]]:
    "Name and Python source of each code cell of a notebook, and of each file of tests/ and tools/."
    found = []
    for path in notebooks(root):
        name = path.relative_to(root)
        found += [(f"{name}, code cell {cell}", source) for cell, source in enumerate(sources(path))]
    scripts = [path for folder in ("tests", "tools") for path in sorted((root / folder).rglob("*.py"))]
    found += [(str(path.relative_to(root)), path.read_text(encoding="utf-8")) for path in scripts]
    return found


def wide_lines(root: Path) -> list[str]:
    "No line of code is wider than 120 columns."
    return [
        f"{name}, line {number}: {len(line)} columns wide, over {WIDTH}"
        for name, source in pages(root)
        for number, line in enumerate(source.splitlines(), 1)
        if len(line) > WIDTH
    ]


def joined_statements(root: Path) -> list[str]:
    "One statement a line: no semicolon parts two of them. One at a cell's end hides its output, and may stay."
    problems = []
    for name, source in pages(root):
        code = "\n".join(
            "" if line.lstrip().startswith(("%", "!")) else line
            for line in source.rstrip().removesuffix(";").splitlines()
        )
        tokens = tokenize.generate_tokens(io.StringIO(code + "\n").readline)
        problems += [
            f"{name}, line {token.start[0]}: two statements on one line"
            for token in tokens
            if token.type == tokenize.OP and token.string == ";"
        ]
    return problems


def crowded_lines(root: Path) -> list[str]:
    "No line starts more than 35 nodes of Python's syntax tree: give the parts names, or lines of their own."
    problems = []
    for name, source in pages(root):
        code = "\n".join("" if line.lstrip().startswith(("%", "!")) else line for line in source.splitlines())
        tree = ast.parse(code)
        # Before Python 3.12 all parts of a text over several lines count as on its first line.
        texts = (node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) and node.end_lineno > node.lineno)
        unplaced = {part for text in texts for part in ast.walk(text)}
        nodes = (node for node in ast.walk(tree) if hasattr(node, "lineno") and node not in unplaced)
        counts = Counter(node.lineno for node in nodes)
        problems += [
            f"{name}, line {number}: {count} nodes, over {CROWD}"
            for number, count in sorted(counts.items())
            if count > CROWD
        ]
    return problems


def python_files(root: Path, *folders: str) -> list[tuple[str, ast.Module]]:
    "Name and syntax tree of each Python file of some folders."
    paths = [path for folder in folders for path in sorted((root / folder).rglob("*.py"))]
    return [(str(path.relative_to(root)), ast.parse(path.read_text(encoding="utf-8"))) for path in paths]


def wide_signatures(root: Path) -> list[str]:
    "No function takes more than six parameters, `self` and `*more` left out: what travels together is one object."
    problems = []
    for name, tree in python_files(root, LIBRARY, "tests", "tools"):
        for node in ast.walk(tree):
            if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                continue
            arguments = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
            count = sum(argument.arg not in ("self", "cls") for argument in arguments)
            if count > PARAMETERS and node.name not in WIDE_BY_PURPOSE:
                problems.append(f"{name}:{node.lineno}: {node.name} takes {count} parameters, over {PARAMETERS}")
    return problems


def one_part_errors(root: Path) -> list[str]:
    "An `InputError` has two parts: what is wrong and where, and by `fix=` what to do."
    problems = [
        f"{name}:{node.lineno}: an InputError without fix="
        for name, tree in python_files(root, LIBRARY)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) == "InputError"
        and len(node.args) == 1
        and not node.keywords
    ]
    return problems if len(problems) > ONE_PART_ERRORS else []


def single_child_bases(root: Path) -> list[str]:
    "No private class is the base of one class alone: a class may be as long as it is."
    places, children = {}, defaultdict(list)
    for name, tree in python_files(root, LIBRARY):
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                places[node.name] = f"{name}:{node.lineno}"
                for base in node.bases:
                    children[ast.unparse(base).split("[")[0]].append(node.name)
    return [
        f"{places[base]}: {base} is the base of {names[0]} alone: join the two"
        for base, names in sorted(children.items())
        if base.startswith("_") and base in places and len(names) == 1
    ]


# A name that stands in many rooms: the one module that spells it, and what the others import.
SPELLED_ONCE = {"image": ("core/theme.py", "PICTURES")}


def names_spelled_once(root: Path) -> list[str]:
    "The name of the slot of pictures is spelled in one module; the others import it."
    return [
        f"{name}:{node.lineno}: {node.value!r} is spelled out: import {constant} from {home}"
        for name, tree in python_files(root, LIBRARY)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in SPELLED_ONCE
        for home, constant in [SPELLED_ONCE[node.value]]
        if name != f"{LIBRARY}/{home}"
    ]


def unmapped_notebooks(root: Path) -> list[str]:
    "CONTRIBUTING.md has one row for each numbered notebook, and README's map one for each package."
    listed = (root / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\|\s*\[?`?(\d+_\w+)`?", listed, flags=re.M)
    problems = [
        f"CONTRIBUTING.md lists {name} {rows.count(name)} times"
        for name in sorted(set(rows))
        if rows.count(name) > 1
    ]
    there = [path for _, _, path in numbered_notebooks(root)]
    problems += [f"CONTRIBUTING.md has no row for {path.stem}" for path in there if path.stem not in rows]
    for link in re.findall(r"\]\((?![a-z]+:|#)([^)\s#]+)", listed):
        if not (root / link).exists():
            problems.append(f"CONTRIBUTING.md links {link}, which is not there")
    readme = (root / "README.md").read_text(encoding="utf-8")
    packages = sorted({path.parent.name for path in there if path.parent != root / "nbs"})
    return problems + [
        f"README.md has no row for the package {name}: add it to nbs/index.ipynb"
        for name in packages
        if not re.search(rf"^\|\s*\[?`{name}`", readme, flags=re.M)
    ]


def stale_paths(root: Path) -> list[str]:
    "A notebook that README, a text, a cell, a module or a tool names by its path is there."
    places = [(Path("README.md"), (root / "README.md").read_text(encoding="utf-8"))]
    for path in notebooks(root):
        text = "\n".join(sources(path, "markdown") + sources(path))
        places.append((path.relative_to(root), text))
    for folder in (LIBRARY, "tools"):
        for path in sorted((root / folder).rglob("*.py")):
            places.append((path.relative_to(root), path.read_text(encoding="utf-8")))
    return [
        f"{name} names {named}, which is not there"
        for name, text in places
        for named in sorted(set(re.findall(r"\bnbs/[\w/.-]+?\.ipynb", text)))
        if not (root / named).is_file()
    ]


def private_text(root: Path) -> list[str]:
    "No path of somebody's machine, no folder outside the project, no registry's host."
    own = [str(place) for place in (root.resolve(), Path.home()) if len(str(place)) > 4]
    problems = []
    for path in tracked(root):
        try:
            text = (root / path).read_text(encoding="utf-8")
        except (UnicodeDecodeError, FileNotFoundError):  # no text; or removed by a test in another process
            continue
        for number, line in enumerate(text.splitlines(), 1):
            found = PRIVATE.search(line)
            held = [found[0]] if found else [place for place in own if place in line]
            problems += [f"{path}:{number}: {place}" for place in held[:1]]
    return problems


def unsafe_files(root: Path) -> list[str]:
    "Results and models are kept in safe formats: safetensors, Parquet, JSON."
    return [
        f"{path}: keep it as safetensors, Parquet or JSON"
        for path in tracked(root)
        if path.suffix.lower() in UNSAFE
    ]


def plain_name(requirement: str) -> str:
    "`Some_Name>=1` -> `some-name`"
    return re.split(r"[<>=!~\[;]", requirement)[0].lower().replace("_", "-")


def undeclared_imports(root: Path) -> list[str]:
    """What is imported stands in `requirements` of settings.ini, in those of an extra such as `ray_requirements`, or
    in requirements-offline.txt; in notebooks `dev_requirements` count too."""
    settings = (root / "settings.ini").read_text(encoding="utf-8")
    wanted = {
        kind: {plain_name(name) for name in names.split()}
        for kind, names in re.findall(r"^((?:\w+_)?requirements)\s*=(.*)$", settings, flags=re.M)
    }
    for extra in wanted.keys() - {"requirements", "dev_requirements"}:
        wanted["requirements"] |= wanted[extra]
    wheels = root / "requirements-offline.txt"
    offline = (
        re.findall(r"^([\w.-]+)==", wheels.read_text(encoding="utf-8"), flags=re.M) if wheels.exists() else []
    )
    wanted["requirements"] |= {plain_name(name) for name in offline}
    places = [
        (path, path.read_text(encoding="utf-8"), wanted["requirements"])
        for path in sorted((root / LIBRARY).rglob("*.py"))
    ]
    places += [(path, "\n".join(sources(path)), set().union(*wanted.values())) for path in notebooks(root)]
    owners, problems = packages_distributions(), []
    for path, code, allowed in places:
        lines = (line for line in code.splitlines() if not line.lstrip().startswith(("%", "!")))
        nodes = list(ast.walk(ast.parse("\n".join(lines))))
        names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and not node.level}
        for name in sorted({name.split(".")[0] for name in names} - sys.stdlib_module_names - {LIBRARY}):
            if not {plain_name(owner) for owner in owners.get(name, [name])} & allowed:
                problems.append(
                    f"{path.relative_to(root)} imports {name}, which settings.ini does not require"
                )
    return problems


def unpinned_requirements(root: Path) -> list[str]:
    "Every requirement of settings.ini has its version in constraints.txt, and the two agree."
    settings = (root / "settings.ini").read_text(encoding="utf-8")
    pins = dict(
        re.findall(r"^([\w.-]+)==(\S+)", (root / "constraints.txt").read_text(encoding="utf-8"), flags=re.M)
    )
    pins = {plain_name(name): version for name, version in pins.items()}
    problems = []
    for wanted in " ".join(re.findall(r"^(?:\w+_)?requirements\s*=(.*)$", settings, flags=re.M)).split():
        name, _, version = wanted.partition("==")
        pinned = pins.get(plain_name(name))
        if pinned is None:
            problems.append(f"{wanted} is not in constraints.txt: make constraints")
        elif version and version != pinned:
            problems.append(f"{wanted} in settings.ini, {pinned} in constraints.txt")
    return problems


def unstated_encodings(root: Path) -> list[str]:
    "Text is opened, read and written with its encoding stated: the locale's differs from machine to machine."
    problems = []
    places = [
        path for folder in (LIBRARY, "tools", "tests") for path in sorted((root / folder).rglob("*.py"))
    ]
    for path in places + [root / "setup.py"] * (root / "setup.py").exists():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and not states_encoding(node):
                problems.append(
                    f"{path.relative_to(root)}:{node.lineno}: {ast.unparse(node.func)}() without an encoding"
                )
    return problems


TEXT = {"read_text": 0, "write_text": 1, "TextIOWrapper": 1}  # how many arguments stand before the encoding
PACKED = {"gzip", "bz2", "lzma"}  # whose `open` is binary where no mode is given
NO_TEXT = {"os", "Image", "self", "webbrowser"}  # whose `open` opens something else
PROCESSES = {"run", "Popen", "check_output", "check_call"}  # text=True decodes what a child prints


def states_encoding(call: ast.Call) -> bool:
    "Whether a call opens no text, or says in which encoding."
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    owner = ast.unparse(call.func.value) if isinstance(call.func, ast.Attribute) else ""
    given = {word.arg: word.value for word in call.keywords}
    if "encoding" in given or None in given:  # or in what ** holds
        return True
    if name in TEXT:
        return len(call.args) > TEXT[name]
    if name in PROCESSES:
        as_text = [given[word] for word in ("text", "universal_newlines") if word in given]
        return not any(isinstance(value, ast.Constant) and value.value for value in as_text)

    temporary = name in ("TemporaryFile", "NamedTemporaryFile", "SpooledTemporaryFile")
    if not temporary and (name not in ("open", "fdopen") or name == "open" and owner in NO_TEXT):
        return True
    is_path = name == "open" and owner not in (
        "",
        "io",
        "codecs",
        *PACKED,
    )  # the mode comes first in path.open(mode)
    place = 0 if is_path or temporary else 1
    if name == "SpooledTemporaryFile":
        place = 1
    mode = given.get("mode", call.args[place] if len(call.args) > place else None)
    if mode is None:
        return temporary or owner in PACKED
    if not isinstance(mode, ast.Constant):
        return False
    return "b" in mode.value or owner in PACKED and "t" not in mode.value
