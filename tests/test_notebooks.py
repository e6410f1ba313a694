"""Every notebook runs from its first cell to its last: what nbdev_test does, one test a notebook,
each with a time limit."""

import os
import sys
import time
from pathlib import Path

import pytest

import repository_rules as rules
from processes import WarmInterpreter, run_within

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 240  # a notebook is meant to take under 60 on 2 quiet cores; a busy machine may take four times as long
STARTS_RAY = "648_ray_runner"


def as_parameter(path: Path):
    "A notebook under its own name; the one that starts Ray is marked."
    name = str(path.relative_to(ROOT / "nbs").with_suffix(""))
    marks = [pytest.mark.ray] if path.stem == STARTS_RAY else []
    return pytest.param(path, id=name, marks=marks)


@pytest.fixture(scope="session")
def interpreter():
    "Importing the libraries takes longer than most notebooks: it is done once in each process of the tests."
    made = WarmInterpreter()
    yield made
    made.close()


def run_notebook(interpreter: WarmInterpreter, path: Path, root: Path, seconds: float = SECONDS):
    "Run one notebook; fail with what it printed where a cell raises or time runs out."
    status, output = interpreter.run(path, seconds, root)
    if status is None:
        pytest.fail(f"{path.name} was still running after {seconds} s\n{output}", pytrace=False)
    if status:
        pytest.fail(f"{path.name} failed\n{output}", pytrace=False)
    assert "Success." in output, output


@pytest.mark.parametrize("path", [as_parameter(path) for path in rules.notebooks(ROOT)])
def test_notebook(interpreter, path):
    run_notebook(interpreter, path, ROOT)


@pytest.fixture
def project(tmp_path) -> Path:
    "A project with nothing but settings and a folder for notebooks."
    (tmp_path / "settings.ini").write_bytes((ROOT / "settings.ini").read_bytes())
    (tmp_path / "nbs").mkdir()
    return tmp_path


def notebook_of(project: Path, source: str) -> Path:
    "A notebook of one code cell."
    import nbformat

    path = project / "nbs" / "one.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)]), path)
    return path


def test_a_notebook_that_raises_fails_and_shows_why(interpreter, project):
    path = notebook_of(project, "kept = 41\nassert kept == 42, f'it was {kept}'")
    with pytest.raises(pytest.fail.Exception, match="it was 41"):
        run_notebook(interpreter, path, project)
    run_notebook(interpreter, notebook_of(project, "kept = 42\nassert kept == 42"), project)


def test_a_notebook_that_hangs_is_stopped(interpreter, project):
    path = notebook_of(project, "import time\ntime.sleep(600)")
    with pytest.raises(pytest.fail.Exception, match="still running after 4 s"):
        run_notebook(interpreter, path, project, seconds=4)
    run_notebook(interpreter, notebook_of(project, "assert True"), project)


def alive(process: int) -> bool:
    "Whether a process runs; one that has ended and waits for its parent does not count."
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{process}/stat")
    return not (state.exists() and state.read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0] == "Z")


@pytest.mark.parametrize("last, expected", [("time.sleep(600)", None), ("sys.exit(3)", 3)])
def test_nothing_of_a_group_outlives_it(tmp_path, last, expected):
    code = (
        "import subprocess, sys, time; child = subprocess.Popen([sys.executable, '-c', 'import time;"
        f" time.sleep(600)']); print(child.pid, flush=True); {last}"
    )
    status, output = run_within([sys.executable, "-c", code], 3, tmp_path)
    assert status == expected
    for _ in range(50):
        if not alive(int(output)):
            return
        time.sleep(0.1)
    pytest.fail(f"process {output.strip()} is still alive")
