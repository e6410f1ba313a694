"""Continuous integration proves everything or fails: a test that is skipped for a missing part is a
failure, and a browser is fetched."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import repository_rules as rules
from conftest import group_of

ROOT = Path(__file__).resolve().parents[1]
SKIPS = """
import pytest

@pytest.mark.skipif(True, reason="no Chromium here: .ci/chromium")
def test_browser(): pass

def test_inside(): pytest.skip("this part is not installed")

@pytest.mark.optional_data
@pytest.mark.skipif(True, reason="USERLLM_DATA names no folder")
def test_data(): pass

@pytest.mark.xfail
def test_known_fault(): assert False

def test_whole(): pass
"""


def pytest_on(folder: Path, ci: str, *arguments: str) -> tuple[int, str]:
    "Exit status and output of a pytest of its own, with this folder's conftest and settings."
    shutil.copy(ROOT / "tests" / "conftest.py", folder)
    shutil.copy(ROOT / "pytest.ini", folder)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        env=os.environ | {"CI": ci},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("processes", [(), ("-n", "2")], ids=["one", "two"])
def test_a_skip_is_a_failure_on_ci_alone(tmp_path, processes):
    (tmp_path / "test_skips.py").write_text(SKIPS, encoding="utf-8")
    status, output = pytest_on(tmp_path, "true", "test_skips.py", *processes)
    assert status == 1 and "1 failed, 1 passed, 1 skipped, 1 xfailed, 1 error" in output, output
    assert "skipped, which CI=true does not allow: this part is not installed" in output
    status, output = pytest_on(tmp_path, "", "test_skips.py", *processes)
    assert status == 0 and "1 passed, 3 skipped, 1 xfailed" in output, output


def test_a_module_that_is_skipped_is_a_failure_on_ci(tmp_path):
    (tmp_path / "test_module.py").write_text(
        "import pytest\npytest.importorskip('novelty', reason='novelty is not installed')", encoding="utf-8"
    )
    status, output = pytest_on(tmp_path, "true", "test_module.py")
    assert status and "does not allow: novelty is not installed" in output, output
    assert "1 skipped" in pytest_on(tmp_path, "false", "test_module.py")[1]


def test_skipped_browser_tests_are_named_loudly(tmp_path):
    (tmp_path / "test_skips.py").write_text(SKIPS, encoding="utf-8")
    output = pytest_on(tmp_path, "", "test_skips.py")[1]
    assert "BROWSER TESTS WERE SKIPPED !!!" in pytest_on(tmp_path, "", "test_skips.py", "-n", "2")[1]
    assert (
        "BROWSER TESTS WERE SKIPPED !!!" in output
        and "\n1 tests of the workbench" in output
        and ".ci/chromium" in output
    )
    (tmp_path / "test_skips.py").write_text("def test_whole(): pass", encoding="utf-8")
    assert "BROWSER" not in pytest_on(tmp_path, "", "test_skips.py")[1]


NOTES = """
import os
from pathlib import Path
import pytest

@pytest.mark.parametrize("notebook", ["slow", "quick", "other"])
def test_notebook(notebook):
    with open(Path(__file__).stem, "a", encoding="utf-8") as notes:
        notes.write(os.environ["PYTEST_XDIST_WORKER"] + " " + os.environ["OMP_NUM_THREADS"] + "\\n")
"""


def test_a_file_and_what_is_trained_once_stay_in_one_process(tmp_path):
    names = ("test_a", "test_b", "test_c", "test_cli", "test_runs")
    for name in names:
        (tmp_path / f"{name}.py").write_text(NOTES, encoding="utf-8")
    status, output = pytest_on(tmp_path, "", "-n", "2")
    assert status == 0 and "15 passed" in output, output
    used = {name: set((tmp_path / name).read_text(encoding="utf-8").splitlines()) for name in names}
    assert all(len(processes) == 1 for processes in used.values()), used
    assert used["test_cli"] == used["test_runs"] and set().union(*used.values()) == {"gw0 1", "gw1 1"}, used


def test_notebooks_are_dealt_out_one_by_one_and_never_timed_beside_the_browser():
    timed = group_of("tests/test_browser.py::test_map")
    groups = []
    for path in rules.notebooks(ROOT):
        test = f"tests/test_notebooks.py::test_notebook[{path.relative_to(ROOT / 'nbs').with_suffix('')}]"
        measures = "assert seconds <" in path.read_text(encoding="utf-8")
        groups.append(group_of(test))
        assert groups[-1] == (timed if measures else test)
    assert len(set(groups)) > 1
    assert group_of("tests/test_notebooks.py::test_a_notebook_that_hangs_is_stopped") == "test_notebooks"


@pytest.fixture
def machine(tmp_path):
    "A PATH of stand-ins that write down how they were called; installing makes a chromium."

    def program(name: str, text: str):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)

    program(
        "apt-get",
        f'echo "apt-get $*" >> {tmp_path}/log; case "$*" in *install*) printf "#!/bin/sh" >'
        f" {tmp_path}/chromium; chmod +x {tmp_path}/chromium;; esac",
    )
    program("sudo", f'echo sudo >> {tmp_path}/log; "$@"')
    program("id", "echo 1000")
    for name in ("bash", "sh", "env", "chmod"):
        (tmp_path / name).symlink_to(shutil.which(name))
    return tmp_path


def chromium(machine: Path) -> list[str]:
    "What `.ci/chromium` called there."
    (machine / "log").write_text("", encoding="utf-8")
    subprocess.run(
        [str(ROOT / ".ci" / "chromium")], env={"PATH": str(machine)}, check=True, capture_output=True
    )
    return (machine / "log").read_text(encoding="utf-8").splitlines()


def test_chromium_is_installed_once(machine):
    assert chromium(machine) == [
        "sudo",
        "apt-get -qq update",
        "sudo",
        "apt-get -qq -y --no-install-recommends install chromium",
    ]
    assert chromium(machine) == []
    (machine / "chromium").rename(machine / "google-chrome")
    assert chromium(machine) == []
    (machine / "google-chrome").unlink()
    (machine / "id").write_text("#!/bin/sh\necho 0\n", encoding="utf-8")
    assert "sudo" not in chromium(machine)


def test_continuous_integration_fetches_a_browser_and_allows_no_skips():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert script.index("export CI=true") < script.index(".ci/chromium") < script.index("make test")
    assert ".ci/run" in (ROOT / ".github" / "workflows" / "test.yaml").read_text(encoding="utf-8")
