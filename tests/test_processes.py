"""Training by several processes through the command line, on a CPU: as one process would, killed and resumed with
another number of processes, and every row scored exactly once.

Accelerate starts several processes by torch.distributed where a configuration says MULTI_GPU; without a GPU these
talk by gloo. (`accelerate launch --cpu` starts one process, whatever number is asked for.)"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "configs"
EXACT = {"model.lora.dropout": 0, "model.slot_drop": 0}  # nothing is drawn, so the number of processes does not count
STEPS = {"rows": 96, "evaluate_every": 48, "checkpoint_every": 16, "validation_rows": 40, "patience": 99}


def settings(**changes) -> list[str]:
    steps = {f"{step}.{name}": value for step in ("step1", "step2") for name, value in (STEPS | changes).items()}
    return [word for key, value in (EXACT | steps).items() for word in ("--set", f"{key}={value}")]


class Place:
    "A folder with a tiny language model, and the commands that train with it."

    def __init__(self, folder: Path):
        from userllm.knowledge.llms import tiny_llm

        self.folder = folder
        tiny_llm(folder / "llm", width=16, layers=1)

    def command(self, processes: int, run: str, config="one_node", options=(), changes={}) -> list[str]:
        train = ["-m", "userllm", "train", "userllm", "--preset", "smoke", "--llm", str(self.folder / "llm")]
        train += ["--device", "cpu", "--precision", "fp32", "--test-rows", "120", "--out", str(self.folder / run)]
        train += settings(**changes)
        if processes == 1:
            return [sys.executable, *train]
        launch = ["-m", "accelerate.commands.accelerate_cli", "launch"]
        launch += ["--config_file", str(CONFIGS / f"{config}.yaml"), "--num_processes", str(processes)]
        return [sys.executable, *launch, *options, *train]

    def start(self, *words, **named) -> subprocess.Popen:
        run = words[1]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "USERLLM_CACHE": str(self.folder / f"cache-{run}")}
        environment = {name: value for name, value in environment.items() if name not in ("RANK", "WORLD_SIZE")}
        output = open(self.folder / f"{run}.log", "a", encoding="utf-8")
        return subprocess.Popen(
            self.command(*words, **named), env=environment, stdout=output, stderr=output, cwd=ROOT
        )

    def train(self, *words, **named) -> dict:
        "The metrics of a whole training."
        child = self.start(*words, **named)
        try:
            assert child.wait(timeout=400) == 0, self.log(words[1])
        finally:
            kill(child)
        return self.metrics(words[1])

    def log(self, run: str) -> str:
        return (self.folder / f"{run}.log").read_text(encoding="utf-8")[-4000:]

    def metrics(self, run: str) -> dict:
        return json.loads((self.folder / run / "metrics.json").read_text(encoding="utf-8"))

    def predictions(self, run: str) -> pd.DataFrame:
        return pd.read_parquet(self.folder / run / "predictions.parquet")


def kill(child: subprocess.Popen) -> None:
    "SIGKILL for a process and all that it started."
    try:
        family = [*psutil.Process(child.pid).children(recursive=True), psutil.Process(child.pid)]
    except psutil.NoSuchProcess:
        return
    for process in family:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    child.wait()


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Place:
    "With a run of one process, against which the others are held."
    place = Place(tmp_path_factory.mktemp("processes"))
    place.train(1, "one")
    return place


def same_run(place: Place, run: str, processes: int | None) -> None:
    "A run is that of one process, within what another order of additions does, and each test row is in it once."
    one, other = place.metrics("one"), place.metrics(run)
    assert other.get("processes") == processes
    for key in ("update", "rows"):
        assert [record[key] for record in other["history"]] == [record[key] for record in one["history"]]
    for key in ("loss", "validation_auc"):
        assert [record[key] for record in other["history"]] == pytest.approx(
            [record[key] for record in one["history"]], abs=2e-3
        )
    first, second = place.predictions("one"), place.predictions(run)
    assert second["row_id"].tolist() == first["row_id"].tolist()
    assert second["row_id"].is_unique and len(second) == other["rows"] == one["rows"] >= 120
    for column in ("logit", "other_history_logit"):
        assert second[column].tolist() == pytest.approx(first[column].tolist(), abs=2e-3, nan_ok=True)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_processes_train_and_score_as_one(place):
    from userllm.model.recommender import Recommender

    place.train(2, "two")
    same_run(place, "two", 2)
    said = place.log("two")
    assert said.count("The run is in") == 1, said  # one of them speaks
    user = place.predictions("two")["user_id"][0]
    lists = [Recommender.load(place.folder / run, device="cpu").rank(user, top=5) for run in ("one", "two")]
    assert lists[1]["probability"].tolist() == pytest.approx(lists[0]["probability"].tolist(), abs=2e-3)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_a_killed_run_is_resumed_by_another_number_of_processes(place, before, after):
    run = f"{before}-then-{after}"
    child = place.start(before, run)
    saved = place.folder / run / "checkpoints" / "step2.safetensors"
    try:
        for _ in range(4000):
            if saved.exists() or child.poll() is not None:
                break
            time.sleep(0.05)
    finally:
        kill(child)
    assert saved.exists() and not (place.folder / run / "metrics.json").exists(), place.log(run)
    place.train(after, run)
    same_run(place, run, after if after > 1 else None)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_machines_train_as_one(place):
    "The configuration for several nodes, both of them here: two launchers that meet at an address."
    run = "machines"
    here = ["--num_machines", "2", "--main_process_ip", "127.0.0.1", "--main_process_port", "29713"]
    children = [
        place.start(2, run, config="several_nodes", options=[*here, "--machine_rank", str(rank)])
        for rank in range(2)
    ]
    try:
        assert [child.wait(timeout=400) for child in children] == [0, 0], place.log(run)
    finally:
        for child in children:
            kill(child)
    same_run(place, run, 2)


SHARDED = """
import sys
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from userllm.knowledge.llms import load_llm
from userllm.model.language_model import LanguageModel, LoRASettings

dist.init_process_group("gloo")
language = LanguageModel(load_llm(sys.argv[1], "cpu", "fp32"), LoRASettings(dropout=0.0))
torch.manual_seed(1)
language.load_lora({name: torch.randn_like(value) * 0.05 for name, value in language.lora_parameters().items()})
lora = list(language.lora_parameters().values())
embeddings, mask = torch.randn(4, 6, language.width), torch.ones(4, 6, dtype=torch.bool)


def answers():
    logits = language(embeddings, mask)
    kept = language.keys_values(embeddings, mask).layers
    return [logits, *torch.autograd.grad(logits.sum(), lora), *(part for layer in kept for part in layer)]


before = [value.detach().clone() for value in answers()]
mesh = init_device_mesh("cpu", (2,))
for layer in language.decoder.layers:
    fully_shard(layer, mesh=mesh, ignored_params={value for value in layer.parameters() if value.requires_grad})
far = max((now - then).abs().max().item() for now, then in zip(answers(), before))
frozen = [value for value in language.decoder.layers.parameters() if not value.requires_grad]
here, whole = sum(value.to_local().numel() for value in frozen), sum(value.numel() for value in frozen)
assert far <= 1e-5 and here <= 0.51 * whole, (far, here, whole)
dist.destroy_process_group()
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_frozen_layers_can_be_spread_over_two_processes(tmp_path):
    from userllm.knowledge.llms import tiny_llm

    tiny_llm(tmp_path / "llm", width=32, layers=2)
    (tmp_path / "sharded.py").write_text(SHARDED, encoding="utf-8")
    launch = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29714"]
    done = subprocess.run(
        [sys.executable, *launch, str(tmp_path / "sharded.py"), str(tmp_path / "llm")],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_what_several_processes_would_do_twice_is_refused(capsys, monkeypatch):
    from userllm.cli.main import main

    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["evaluate", "nowhere"]) == 2
    assert "works in one process, and 2 were started" in capsys.readouterr().err
