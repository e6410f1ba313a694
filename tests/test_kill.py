"""Training that is killed with SIGKILL at random moments and started again ends like training that
never was."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

CHILD = """
import sys, torch
from dataclasses import replace
from userllm.core.runs import StageCache
from userllm.training.methods import find_method
from userllm.data.prepared import Stage, prepare
from userllm.data.protocols import movie
from userllm.training.pipeline import run_method
from userllm.training.presets import smoke
from userllm.training.stages import Resources, load_context
torch.set_num_threads(1)
llm, cache, folder = sys.argv[1], StageCache(sys.argv[2]), sys.argv[3]
preset = smoke()
preset = replace(preset, step1=replace(preset.step1, rows=1_600, checkpoint_every=100, evaluate_every=800),
                 step2=replace(preset.step2, rows=480, checkpoint_every=8, evaluate_every=80, patience=99))
stage = Stage(prepare(movie(), device="cpu"), preset, cache=cache)
context = load_context(Resources(llm, "cpu", "fp32"))
print("ready", flush=True)
run_method(find_method("userllm_plus"), stage, context, folder)
"""


def start(place: Path, name: str) -> subprocess.Popen:
    "A child that trains into `name`; returns when it has begun."
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(place / "llm"), str(place / f"cache-{name}"), str(place / name)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        encoding="utf-8",
    )
    assert child.stdout.readline() == "ready\n"
    return child


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_killed_and_resumed_training_gives_the_same_metrics(tmp_path):
    from userllm.knowledge.llms import tiny_llm

    tiny_llm(tmp_path / "llm", width=16, layers=1)
    whole = start(tmp_path, "whole")
    began = time.monotonic()
    assert whole.wait() == 0
    length, moments = time.monotonic() - began, random.Random(0)
    killed = 0
    while killed < 5:
        child = start(tmp_path, "killed")
        time.sleep(moments.uniform(0.02, 0.45) * length)
        if child.poll() is not None:
            break
        child.send_signal(signal.SIGKILL)
        child.wait()
        killed += 1
    assert killed == 5, "training ended before it was killed five times"
    assert start(tmp_path, "killed").wait() == 0
    metrics = [
        json.loads((tmp_path / name / "metrics.json").read_text(encoding="utf-8"))
        for name in ("whole", "killed")
    ]
    for key in ("auc", "uauc", "log_loss"):
        assert metrics[1][key] == pytest.approx(metrics[0][key], abs=1e-6)
    assert metrics[1]["history"] == metrics[0]["history"]
