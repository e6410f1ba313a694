"""The repository keeps its rules, and each rule is seen to fail on a planted violation."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import repository_rules as rules

ROOT = Path(__file__).resolve().parents[1]
RULES = [
    rules.climbing_imports,
    rules.missing_names,
    rules.misplaced_modules,
    rules.unclean_notebooks,
    rules.swallowed_prose,
    rules.drifted_export,
    rules.stale_readme,
    rules.unmapped_notebooks,
    rules.stale_paths,
    rules.wide_lines,
    rules.joined_statements,
    rules.crowded_lines,
    rules.wide_signatures,
    rules.one_part_errors,
    rules.single_child_bases,
    rules.names_spelled_once,
    rules.private_text,
    rules.unsafe_files,
    rules.undeclared_imports,
    rules.unpinned_requirements,
    rules.unstated_encodings,
    rules.sections_show_something,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_repository_keeps(rule):
    problems = rule(ROOT)
    assert not problems, f"{rule.__doc__}\n" + "\n".join(problems)


def write_notebook(path: Path, *cells: str, prose: str = "Prose.", **metadata):
    "A clean notebook of a title, a markdown cell and the given code cells."
    text = [
        {"cell_type": "markdown", "id": f"m{index}", "metadata": {}, "source": source.splitlines(True)}
        for index, source in enumerate(["# notebook\n\n> for a test", prose])
    ]
    code = [
        {
            "cell_type": "code",
            "execution_count": None,
            "id": f"c{index}",
            "metadata": {},
            "outputs": [],
            "source": source.splitlines(True),
        }
        for index, source in enumerate(cells)
    ]
    kernel = {"kernelspec": {"display_name": "python3", "language": "python", "name": "python3"}}
    save(path, {"cells": text + code, "metadata": {**kernel, **metadata}, "nbformat": 4, "nbformat_minor": 5})


def save(path: Path, notebook: dict):
    path.write_text(
        json.dumps(notebook, sort_keys=True, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )


@pytest.fixture(scope="session")
def model_repository(tmp_path_factory) -> Path:
    "A repository of two notebooks and an index, in which every rule holds."
    root = tmp_path_factory.mktemp("model") / "repository"
    (root / "nbs").mkdir(parents=True)
    (root / "userllm").mkdir()
    shutil.copy(ROOT / "settings.ini", root)
    shutil.copy(ROOT / "constraints.txt", root)
    shutil.copy(ROOT / "userllm" / "__init__.py", root / "userllm")
    write_notebook(
        root / "nbs" / "00_ground.ipynb",
        "#| default_exp ground",
        "#| export\ndef one(): return 1",
        "assert one() == 1",
    )
    write_notebook(
        root / "nbs" / "10_first.ipynb",
        "#| default_exp first",
        "#| export\nfrom userllm.ground import one",
        "#| export\ndef two(): return one() + 1",
    )
    table = "| notebook | owns |\n|---|---|\n| `00_ground` | one |\n| `10_first` | two |\n"
    (root / "CONTRIBUTING.md").write_text(table, encoding="utf-8")
    write_notebook(root / "nbs" / "index.ipynb", prose=table)
    export(root)
    return root


@pytest.fixture
def small_repository(model_repository, tmp_path) -> Path:
    "A copy of the model repository, for planted violations."
    return Path(shutil.copytree(model_repository, tmp_path / "repository"))


def export(root: Path):
    "What `make export` and `make readme` do."
    subprocess.run(
        [sys.executable, "-c", "from nbdev.doclinks import nbdev_export; nbdev_export.__wrapped__()"],
        cwd=root,
        check=True,
        capture_output=True,
    )
    subprocess.run([sys.executable, str(ROOT / "tools" / "build_readme.py"), "--root", str(root)], check=True)


def edit(path: Path, change):
    "Apply `change` to a notebook in place."
    notebook = json.loads(path.read_text(encoding="utf-8"))
    change(notebook)
    save(path, notebook)


def append(path: Path, text: str):
    path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")


def test_a_small_repository_keeps_every_rule(small_repository):
    assert {rule.__name__: rule(small_repository) for rule in RULES} == {rule.__name__: [] for rule in RULES}


def give_output(path: Path, cell: int, text: str = "1\n"):
    "Store an output in a code cell."

    def change(notebook):
        code = [one for one in notebook["cells"] if one["cell_type"] == "code"]
        code[cell]["outputs"] = [{"name": "stdout", "output_type": "stream", "text": [text]}]

    edit(path, change)


def test_planted_section_that_shows_nothing(small_repository):
    path = small_repository / "nbs" / "10_first.ipynb"
    rule = rules.sections_show_something
    write_notebook(path, "#| default_exp first", "#| export\ndef two(): return 2", "two()", prose="## Two\n\nProse.")
    assert rule(small_repository) == ["nbs/10_first.ipynb: nothing is shown under `## Two`"]
    give_output(path, 2)
    assert rule(small_repository) == []


@pytest.mark.parametrize("directive", ["hide", "export"])
def test_planted_output_that_nobody_sees(small_repository, directive):
    path = small_repository / "nbs" / "10_first.ipynb"
    write_notebook(path, "#| default_exp first", f"#| {directive}\nprint(1)", prose="## Two\n\nProse.")
    give_output(path, 1)
    assert len(rules.sections_show_something(small_repository)) == 1


@pytest.mark.parametrize(
    "line",
    [
        "from userllm.first import two",
        "import userllm.first as first",
        "from userllm import first",
        "from .first import two",
        "def late():\n    from userllm.first import two",
        "from userllm.ground import one",
        "from userllm.deep import first",
        "from importlib import import_module\nimport_module('userllm.first')",
        "%time 1\nimport userllm.first",
        "from userllm.nowhere import thing",
        "def broken(",
    ],
)
def test_a_climbing_import_is_found(small_repository, line):
    write_notebook(small_repository / "nbs" / "00_ground.ipynb", "#| default_exp ground", line)
    assert len(rules.climbing_imports(small_repository)) == 1


def test_a_name_that_its_module_lacks_is_found(small_repository):
    path = small_repository / "nbs" / "20_second.ipynb"
    write_notebook(path, "#| default_exp second", "from userllm.first import three, two", "from userllm import first")
    problem = "20_second.ipynb: imports three from userllm.first, which has no such name"
    assert rules.missing_names(small_repository) == [problem]


def test_misplaced_modules_are_found(small_repository):
    nbs = small_repository / "nbs"
    (nbs / "workbench").mkdir()
    write_notebook(nbs / "20_twice.ipynb", "#| default_exp ground")
    write_notebook(nbs / "workbench" / "30_tools.ipynb", "#| default_exp bench.tools")
    write_notebook(nbs / "10_none.ipynb", "1 + 1")
    write_notebook(nbs / "workbench" / "loud.ipynb", "#| export\nx = 1")
    (small_repository / "userllm" / "old.py").write_text("", encoding="utf-8")
    problems = "\n".join(rules.misplaced_modules(small_repository))
    for part in [
        "30_tools.ipynb exports bench.tools, and lies where workbench.tools belongs",
        "20_twice.ipynb exports ground, and lies where twice belongs",
        "20_twice.ipynb and 00_ground.ipynb both export",
        "10_none.ipynb has a number and no",
        "have the same number",
        "userllm/old.py comes from no notebook",
        "nbs/workbench/loud.ipynb exports",
    ]:
        assert part in problems
    assert len(problems.splitlines()) == 7


def test_unclean_notebooks_are_found(small_repository):
    path = small_repository / "nbs" / "00_ground.ipynb"

    def output(text, **more):
        return [{"name": "stdout", "output_type": "stream", "text": [text], **more}]

    def found(change):
        before = path.read_text(encoding="utf-8")
        edit(path, change)
        problems = "\n".join(rules.unclean_notebooks(small_repository))
        path.write_text(before, encoding="utf-8")
        return problems

    assert found(lambda notebook: None) == ""
    assert found(lambda notebook: notebook["cells"][2].update(outputs=output("small"))) == ""
    assert "bytes of outputs" in found(
        lambda notebook: notebook["cells"][2].update(outputs=output("x" * 200_001))
    )
    assert "state of widgets" in found(lambda notebook: notebook["metadata"].update(widgets={"state": {}}))
    assert "execution counts" in found(lambda notebook: notebook["cells"][2].update(execution_count=3))
    assert "nbdev_clean" in found(lambda notebook: notebook["cells"][2]["metadata"].update(trusted=True))
    assert "nbdev_clean" in found(
        lambda notebook: notebook["metadata"].update(language_info={"name": "python"})
    )


@pytest.mark.parametrize("source", ["# notebook\n\n> for a test\n\nProse.", "# notebook", "notebook\n> for a test"])
def test_swallowed_prose_is_found(small_repository, source):
    edit(
        small_repository / "nbs" / "00_ground.ipynb",
        lambda notebook: notebook["cells"][0].update(source=source.splitlines(True)),
    )
    assert len(rules.swallowed_prose(small_repository)) == 1


def test_a_drifted_export_is_found(small_repository):
    module = small_repository / "userllm" / "ground.py"
    append(module, "extra = 1\n")
    (small_repository / "userllm" / "old.py").write_text("x = 1\n", encoding="utf-8")
    (small_repository / "userllm" / "first.py").unlink()
    assert [problem.split()[0] for problem in rules.drifted_export(small_repository)] == [
        "userllm/first.py",
        "userllm/ground.py",
        "userllm/old.py",
    ]


def test_a_stale_readme_is_found(small_repository):
    append(small_repository / "README.md", "\nsee [gone](nbs/gone.ipynb)\n")
    stale, dead = rules.stale_readme(small_repository)
    assert "-see [gone]" in stale and "nbs/gone.ipynb" in dead


def test_a_notebook_without_a_row_is_found(small_repository):
    (small_repository / "nbs" / "deep").mkdir()
    write_notebook(small_repository / "nbs" / "deep" / "20_new.ipynb", "#| default_exp deep.new")
    append(small_repository / "CONTRIBUTING.md", "see [gone](nbs/gone.ipynb)\n")
    assert rules.unmapped_notebooks(small_repository) == [
        "CONTRIBUTING.md has no row for 20_new",
        "CONTRIBUTING.md links nbs/gone.ipynb, which is not there",
        "README.md has no row for the package deep: add it to nbs/index.ipynb",
    ]


def test_a_stale_path_is_found(small_repository):
    write_notebook(
        small_repository / "nbs" / "tour.ipynb", "open('nbs/gone.ipynb')", prose="See `nbs/old/00_a.ipynb`."
    )
    append(small_repository / "userllm" / "ground.py", "# as in nbs/lost.ipynb and nbs/00_ground.ipynb\n")
    append(small_repository / "README.md", "\nnbs/away.ipynb\n")
    assert [problem.split()[2] for problem in rules.stale_paths(small_repository)] == [
        "nbs/away.ipynb,",
        "nbs/gone.ipynb,",
        "nbs/old/00_a.ipynb,",
        "nbs/lost.ipynb,",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "/ho" + "me/someone/data",
        "/Use" + "rs/someone",
        "/ro" + "ot/.cache",
        "C:" r"\Users\someone",
        "../sha" + "red/data",
        f"https://{rules.HOSTS[0]}/simple",
        f"--index-url https://{rules.HOSTS[2]}/whl",
    ],
)
def test_private_text_is_found(small_repository, text):
    (small_repository / "note.txt").write_text(f"fine\nkept at {text}\n", encoding="utf-8")
    problems = rules.private_text(small_repository)
    assert len(problems) == 1 and problems[0].startswith("note.txt:2: ")


def test_the_own_folder_is_found_and_plain_text_is_not(small_repository):
    (small_repository / "note.txt").write_text(f"made in {small_repository}\n", encoding="utf-8")
    assert len(rules.private_text(small_repository)) == 1
    (small_repository / "note.txt").write_text(
        "root/stage/meta.json, {root}/stage, shared/x, ~/.cache, https://doi.org/10.1/2\n", encoding="utf-8"
    )
    assert rules.private_text(small_repository) == []


@pytest.mark.parametrize("name", ["model.pt", "rows.pkl", "weights.bin", "deep/er/thing.PICKLE"])
def test_unsafe_files_are_found(small_repository, name):
    (small_repository / name).parent.mkdir(parents=True, exist_ok=True)
    (small_repository / name).write_bytes(b"\x80")
    assert len(rules.unsafe_files(small_repository)) == 1


def test_only_what_git_would_hold_is_read(small_repository):
    subprocess.run(["git", "init", "-q", str(small_repository)], check=True)
    (small_repository / ".gitignore").write_text("runs/\n", encoding="utf-8")
    (small_repository / "runs").mkdir()
    (small_repository / "runs" / "model.pt").write_bytes(b"\x80")
    assert rules.unsafe_files(small_repository) == []
    (small_repository / "model.pt").write_bytes(b"\x80")
    assert len(rules.unsafe_files(small_repository)) == 1


def test_undeclared_imports_are_found(small_repository):
    write_notebook(
        small_repository / "nbs" / "00_ground.ipynb",
        "#| default_exp ground",
        "import os, torch.nn, pytest, sklearn.svm, PIL",
        "def late():\n    from novelty.deep import thing",
    )
    (small_repository / "userllm" / "ground.py").write_text(
        "from pytest import fail\nimport numpy as np\n", encoding="utf-8"
    )
    assert rules.undeclared_imports(small_repository) == [
        "userllm/ground.py imports pytest, which settings.ini does not require",
        "nbs/00_ground.ipynb imports novelty, which settings.ini does not require",
    ]


def test_unpinned_requirements_are_found(small_repository):
    settings = small_repository / "settings.ini"
    settings.write_text(
        settings.read_text(encoding="utf-8").replace(
            "requirements = torch ", "requirements = torch novelty "
        ),
        encoding="utf-8",
    )
    constraints = small_repository / "constraints.txt"
    constraints.write_text(
        constraints.read_text(encoding="utf-8").replace("nbdev==2.4.14", "nbdev==2.4.13"), encoding="utf-8"
    )
    assert rules.unpinned_requirements(small_repository) == [
        "novelty is not in constraints.txt: make constraints",
        "nbdev==2.4.14 in settings.ini, 2.4.13 in constraints.txt",
    ]


@pytest.mark.parametrize(
    "line",
    [
        "open('x').read()",
        "open('x', 'w')",
        "path.read_text()",
        "path.write_text('é')",
        "path.open('a')",
        "gzip.open('x', 'rt')",
        "tempfile.NamedTemporaryFile('w')",
        "subprocess.run(['ls'], text=True)",
        "io.TextIOWrapper(raw)",
        "os.fdopen(3, 'w')",
        "def late(mode): return open('x', mode)",
    ],
)
def test_text_without_an_encoding_is_found(small_repository, line):
    (small_repository / "tests").mkdir()
    (small_repository / "tests" / "test_x.py").write_text(f"import gzip\n{line}\n", encoding="utf-8")
    (problem,) = rules.unstated_encodings(small_repository)
    assert problem.startswith("tests/test_x.py:2: ")


def test_text_with_an_encoding_and_bytes_are_not_found(small_repository):
    lines = [
        "open('x', encoding='utf-8')",
        "open('x', 'rb')",
        "path.read_text('utf-8')",
        "path.open('wb')",
        "gzip.open('x')",
        "os.open('x', 0)",
        "tempfile.TemporaryFile()",
        "subprocess.run(['ls'], capture_output=True)",
        "open('x', **how)",
        "self.open(row)",
        "os.fdopen(3, 'rb')",
    ]
    (small_repository / "userllm" / "ground.py").write_text("\n".join(lines), encoding="utf-8")
    assert rules.unstated_encodings(small_repository) == []


@pytest.mark.parametrize(
    "rule, line",
    [
        ("wide_lines", "x = 1  # " + "long " * 24),
        ("joined_statements", "x = 1; y = 2"),
        ("crowded_lines", "x = [" + "f(1) + " * 12 + "f(1)]"),
    ],
)
@pytest.mark.parametrize("place", ["nbs", "tests"])
def test_a_folded_page_is_found(small_repository, rule, line, place):
    assert getattr(rules, rule)(small_repository) == []
    if place == "nbs":
        write_notebook(
            small_repository / "nbs" / "00_ground.ipynb",
            "#| default_exp ground",
            f"def f(n):\n    return n\n\n{line}",
        )
    else:
        (small_repository / "tests").mkdir()
        (small_repository / "tests" / "test_it.py").write_text(
            f"def f(n):\n    return n\n\n{line}\n", encoding="utf-8"
        )
    assert len(getattr(rules, rule)(small_repository)) == 1


@pytest.mark.parametrize(
    "text, count",
    [
        ("def f(a, b, c, d, e, g, h): pass", 1),
        ("async def f(a, b, *, c, d, e, g, h): pass", 1),
        ("class A:\n    def f(self, a, b, c, d, e, g, *more, **others): pass", 0),
    ],
)
def test_a_wide_signature_is_found(small_repository, text, count):
    append(small_repository / "userllm" / "ground.py", text + "\n")
    assert len(rules.wide_signatures(small_repository)) == count


def test_an_allowed_wide_signature_is_not_found(small_repository, monkeypatch):
    monkeypatch.setattr(rules, "WIDE_BY_PURPOSE", {"f": "for a test"})
    append(small_repository / "userllm" / "ground.py", "def f(a, b, c, d, e, g, h): pass\n")
    assert rules.wide_signatures(small_repository) == []


def test_an_error_of_one_part_is_found(small_repository, monkeypatch):
    monkeypatch.setattr(rules, "ONE_PART_ERRORS", 0)
    module = small_repository / "userllm" / "ground.py"
    append(module, "def f():\n    raise InputError('a is missing', fix='give a')\n")
    assert rules.one_part_errors(small_repository) == []
    append(module, "def g():\n    raise InputError('a is missing')\n")
    assert len(rules.one_part_errors(small_repository)) == 1
    monkeypatch.setattr(rules, "ONE_PART_ERRORS", 1)
    assert rules.one_part_errors(small_repository) == []


def test_a_base_of_a_single_child_is_found(small_repository):
    module = small_repository / "userllm" / "ground.py"
    append(module, "class _Half: pass\nclass Whole(_Half): pass\n")
    assert len(rules.single_child_bases(small_repository)) == 1
    append(module, "class Other(_Half): pass\nclass Base: pass\nclass Child(Base): pass\n")
    assert rules.single_child_bases(small_repository) == []


def test_a_name_that_is_spelled_twice_is_found(small_repository):
    module = small_repository / "userllm" / "ground.py"
    append(module, "POSTER = 'images'\n")
    assert rules.names_spelled_once(small_repository) == []
    append(module, "SLOT = 'image'\n")
    assert len(rules.names_spelled_once(small_repository)) == 1


@pytest.mark.parametrize("name", ["rows.npy", "deep/model.joblib"])
def test_what_no_folder_may_hold_the_repository_may_not_hold(small_repository, name):
    (small_repository / name).parent.mkdir(parents=True, exist_ok=True)
    (small_repository / name).write_bytes(b"\x80")
    assert len(rules.unsafe_files(small_repository)) == 1
