"""The built wheel is complete: installed outside the checkout, it imports and holds all of its data."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import repository_rules as rules

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """A folder that the wheel is installed into; built from a copy, since a build leaves files
    behind that would leak into the next."""
    folder = tmp_path_factory.mktemp("wheel")
    copy = rules.copy_of(ROOT, folder / "copy")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(folder), str(copy)],
        check=True,
    )
    (wheel,) = folder.glob("*.whl")
    subprocess.run(
        [*pip, "install", "--no-deps", "--no-index", "--target", str(folder / "site"), str(wheel)], check=True
    )
    return folder / "site"


def run_installed(site: Path, code: str, *arguments: str) -> str:
    """What `code` prints in a new process that finds the installed package first and nothing of the
    checkout by its folder."""
    start = f"import sys; sys.path.insert(0, {str(site)!r})\n"
    done = subprocess.run(
        [sys.executable, "-I", "-c", start + code, *arguments],
        cwd=site.parent,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_the_package_and_nothing_else(site):
    installed = {
        path.relative_to(site)
        for path in (site / "userllm").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert installed == {path for path in rules.tracked(ROOT) if path.parts[0] == "userllm"}
    assert {path.name.split("-")[0] for path in site.iterdir()} <= {"userllm", "bin"}
    commands = next(site.glob("*.dist-info/entry_points.txt")).read_text(encoding="utf-8")
    assert "userllm=userllm.cli.entry:main" in commands.replace(" ", "")


def test_the_installed_package_imports(site):
    code = """
import importlib, pkgutil, userllm
names = [found.name for found in pkgutil.walk_packages(userllm.__path__, 'userllm.')]
modules = [userllm, *map(importlib.import_module, names)]
print('\\n'.join(module.__file__ for module in modules))"""
    files = [Path(line) for line in run_installed(site, code).split()]
    assert len(files) == len(list((ROOT / "userllm").rglob("*.py")))
    assert all(site in path.parents for path in files)


def test_the_installed_package_has_its_data(site):
    data = [path for path in rules.tracked(ROOT) if path.parts[:2] == ("userllm", "assets")]
    assert Path("userllm/assets/LICENSE.md") in data
    code = """
import json
from importlib.resources import files
for name in json.loads(sys.argv[1]):
    place = files('userllm').joinpath(*name.split('/')[1:])
    content = place.read_bytes()
    if name.endswith('.parquet'):
        import pyarrow.parquet
        assert pyarrow.parquet.read_table(str(place)).num_rows > 0, name
    elif name.endswith('.safetensors'):
        from safetensors import safe_open
        assert list(safe_open(str(place), 'pt').keys()), name
    elif name.endswith('.json'):
        json.loads(content)
    print(place, len(content))"""
    lines = run_installed(site, code, json.dumps([path.as_posix() for path in data])).splitlines()
    for path, line in zip(data, lines, strict=True):
        assert line.startswith(str(site)) and (site / path).read_bytes() == (ROOT / path).read_bytes()
