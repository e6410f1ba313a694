"""Validation AUC of collaborative models over a grid, into results/tuning/collaborative.json;
goes on where it stopped.

    python tools/tune_collaborative.py [mf|mf_bias|lightgcn|sasrec ...]   # all where left out; an
    hour on one core

Every setting of a grid is tried with run seed 0, and its best three with four more seeds: what
the best of many single runs
owes to luck shows then. No test row is read.
"""

import functools
import itertools
import sys
import time
from dataclasses import asdict
from pathlib import Path

import torch

from userllm.core.files import read_json, write_json
from userllm.collaborative.mf import MFSettings, train_mf
from userllm.collaborative.lightgcn import LightGCNSettings, train_lightgcn
from userllm.data.building import build_dataset
from userllm.data.protocols import movie
from userllm.collaborative.sasrec import SASRecSettings, train_sasrec
from userllm.data.sources_movielens import movielens_small

FILE = Path(__file__).resolve().parents[1] / "results" / "tuning" / "collaborative.json"
MF_GRID = {
    "learning_rate": (1e-2, 1e-3),
    "initial_spread": (0.1, 0.01, 0.003),
    "weight_decay": (0.0, 1e-5, 1e-4, 1e-3),
}
GRIDS = {
    "mf": (train_mf, MFSettings, MF_GRID),
    "mf_bias": (train_mf, functools.partial(MFSettings, bias=True), MF_GRID),
    "lightgcn": (
        train_lightgcn,
        LightGCNSettings,
        {
            "learning_rate": (1e-2, 1e-3),
            "initial_spread": (0.1, 0.01),
            "weight_decay": (0.0, 1e-6, 1e-5, 1e-4, 1e-3),
        },
    ),
    "sasrec": (
        train_sasrec,
        SASRecSettings,
        {"learning_rate": (1e-2, 1e-3), "weight_decay": (0.0, 1e-5, 1e-4, 1e-3)},
    ),
}


def tried(known: dict, name: str, settings, run_seed: int) -> dict | None:
    "That run, where it was done before."
    return next(
        (
            run
            for run in known["runs"]
            if (run["model"], run["settings"], run["run_seed"]) == (name, asdict(settings), run_seed)
        ),
        None,
    )


def attempt(known: dict, dataset, name: str, settings, run_seed: int) -> dict:
    "One training run, done where it is not there yet."
    if not (run := tried(known, name, settings, run_seed)):
        started = time.monotonic()
        model = GRIDS[name][0](dataset, settings, run_seed, progress=False)
        run = {
            "model": name,
            "settings": asdict(settings),
            "run_seed": run_seed,
            "validation_auc": model.validation_auc,
            "best_epoch": model.best_epoch,
            "seconds": round(time.monotonic() - started, 1),
        }
        known["runs"].append(run)
        write_json(FILE, known)
        varied = {key: run["settings"][key] for key in GRIDS[name][2]}
        print(
            name,
            varied,
            f"seed {run_seed}: validation AUC {model.validation_auc:.4f} in epoch {model.best_epoch}",
            flush=True,
        )
    return run


def main(names: list[str]) -> None:
    raw = movielens_small()
    dataset = build_dataset(raw.ratings, raw.items, movie())
    known = read_json(FILE) if FILE.exists() else {"dataset": dataset.fingerprint, "runs": []}
    if known["dataset"] != dataset.fingerprint:
        sys.exit(f"{FILE} is of other data: remove it to start anew")
    torch.set_num_threads(1)  # models this small are no faster on more
    for name in names:
        _, kind, grid = GRIDS[name]
        every = [kind(**dict(zip(grid, values))) for values in itertools.product(*grid.values())]
        best = sorted(
            every, key=lambda settings: -attempt(known, dataset, name, settings, 0)["validation_auc"]
        )[:3]
        for settings, run_seed in itertools.product(best, range(1, 5)):
            attempt(known, dataset, name, settings, run_seed)


if __name__ == "__main__":
    if unknown := set(sys.argv[1:]) - set(GRIDS):
        sys.exit(f"no grid for {', '.join(unknown)}; there are {', '.join(GRIDS)}")
    main(sys.argv[1:] or list(GRIDS))
