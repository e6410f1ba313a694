"""`tools/gpu_check.sh` starts, and its steps are commands that exist."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from userllm.cli.main import choose_verb

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

import gpu_check  # noqa: E402


def check(*words, **named) -> subprocess.CompletedProcess:
    command = ["bash", str(ROOT / "tools" / "gpu_check.sh"), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", **named)


@pytest.mark.parametrize("smoke", [True, False])
def test_each_step_is_a_command_that_the_command_line_takes(tmp_path, smoke):
    for step in gpu_check.steps(tmp_path, smoke):
        words = [str(word) for word in step.command[1:]]
        if words[:2] == ["-m", "userllm"]:
            choose_verb(words[2:])
        else:
            assert (ROOT / words[-1]).is_file()
    assert sum(step.seconds for step in gpu_check.steps(tmp_path, smoke)) <= 900


def test_the_steps_are_listed_without_work(tmp_path):
    done = check("--list", "--smoke", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    names = [line.partition(" (")[0] for line in done.stdout.splitlines()]
    assert names == ["environment", "tests", "bench", "bench-7b", "table3"]
    assert "userllm" in shlex.split(done.stdout.splitlines()[0]) and not any(tmp_path.iterdir())


def test_a_step_that_fails_or_hangs_does_not_lose_the_next(tmp_path, monkeypatch, capsys):
    seconds = "import time; time.sleep(60)"
    todo = [
        gpu_check.Step("wrong", "fails", 20, (sys.executable, "-c", "raise SystemExit(3)")),
        gpu_check.Step("slow", "hangs", 0.5, (sys.executable, "-c", seconds)),
        gpu_check.Step("right", "works", 20, (sys.executable, "-c", "print('here')")),
    ]
    monkeypatch.setattr(gpu_check, "steps", lambda out, smoke: todo)
    assert gpu_check.main(["--smoke", "--out", str(tmp_path / "out")]) == 1
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert [step["ended"] for step in report["steps"]] == ["failed (3)", "stopped after 0 s", "done"]
    assert (tmp_path / "out" / "right.txt").read_text(encoding="utf-8") == "here\n"
    assert "wrong" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_smoke_form_runs_whole_on_a_cpu(tmp_path):
    done = check("--smoke", "--out", tmp_path / "out", "--minutes", 18)
    logs = {path.name: path.read_text(encoding="utf-8")[-1500:] for path in (tmp_path / "out").glob("*.txt")}
    assert done.returncode == 0, logs
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert [step["ok"] for step in report["steps"]] == [True] * 5
    for step in ("bench", "bench-7b"):
        (records,) = [each["results"][f"{step}.json"]["records"] for each in report["steps"] if each["step"] == step]
        assert all(record["share_of_peak"] > 0 for record in records)
    assert "of the peak" in (tmp_path / "out" / "report.txt").read_text(encoding="utf-8")
    assert list((tmp_path / "out" / "table3").rglob("metrics.json"))
