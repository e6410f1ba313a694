"""Training under `accelerate launch` with two processes on a CPU: each takes its share of every
batch, one of them measures."""

import json
import os
import subprocess
import sys

import pytest

from test_kill import CHILD


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_processes_train_one_run(tmp_path):
    from userllm.knowledge.llms import tiny_llm

    tiny_llm(tmp_path / "llm", width=16, layers=1)
    (tmp_path / "train.py").write_text(CHILD, encoding="utf-8")
    metrics = {}
    for processes in (1, 2):
        run = tmp_path / f"run-{processes}"
        launch = [
            sys.executable,
            "-m",
            "accelerate.commands.accelerate_cli",
            "launch",
            "--cpu",
            "--num_machines",
            "1",
            "--mixed_precision",
            "no",
            "--dynamo_backend",
            "no",
            "--num_processes",
            str(processes),
            "--num_cpu_threads_per_process",
            "1",
        ]
        subprocess.run(
            [
                *launch,
                str(tmp_path / "train.py"),
                str(tmp_path / "llm"),
                str(tmp_path / f"cache-{processes}"),
                str(run),
            ],
            check=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            timeout=300,
        )
        metrics[processes] = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    # The rows of every update are the same; only which random slots are dropped differs.
    assert [record["rows"] for record in metrics[2]["history"]] == [
        record["rows"] for record in metrics[1]["history"]
    ]
    assert metrics[2]["history"][-1]["loss"] == pytest.approx(metrics[1]["history"][-1]["loss"], abs=0.05)
    assert metrics[2]["rows"] == metrics[1]["rows"] >= 500
