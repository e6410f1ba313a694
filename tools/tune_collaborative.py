"""Validation AUC of collaborative models over a grid, into results/tuning/collaborative.json; goes on where it stopped.

    python tools/tune_collaborative.py [mf|mf_bias|lightgcn|sasrec ...]   # all where left out; an hour or more on one core

No test row is read.
"""
import functools
import itertools
import sys
import time
from dataclasses import asdict
from pathlib import Path

import torch

from userllm.artifacts import read_json, write_json
from userllm.collaborative_alignment import MFSettings, train_mf
from userllm.lightgcn import LightGCNSettings, train_lightgcn
from userllm.protocols import build_dataset, movie
from userllm.sasrec import SASRecSettings, train_sasrec
from userllm.sources import movielens_small

FILE = Path(__file__).resolve().parents[1] / "results" / "tuning" / "collaborative.json"
GRIDS = {
    "mf": (train_mf, MFSettings, {"learning_rate": (1e-2, 1e-3), "weight_decay": (0.0, 1e-5, 1e-4, 1e-3)}),
    "mf_bias": (train_mf, functools.partial(MFSettings, bias=True), {"learning_rate": (1e-2, 1e-3), "weight_decay": (0.0, 1e-5, 1e-4, 1e-3)}),
    "lightgcn": (train_lightgcn, LightGCNSettings, {"learning_rate": (1e-2, 1e-3), "initial_spread": (0.1, 0.01), "weight_decay": (0.0, 1e-6, 1e-5, 1e-4, 1e-3)}),
    "sasrec": (train_sasrec, SASRecSettings, {"learning_rate": (1e-2, 1e-3), "weight_decay": (0.0, 1e-5, 1e-4, 1e-3)}),
}


def main(names: list[str]) -> None:
    raw = movielens_small()
    dataset = build_dataset(raw.ratings, raw.items, movie())
    known = read_json(FILE) if FILE.exists() else {"dataset": dataset.fingerprint, "runs": []}
    if known["dataset"] != dataset.fingerprint:
        sys.exit(f"{FILE} is of other data: remove it to start anew")
    torch.set_num_threads(1)  # models this small are no faster on more
    for name in names:
        train, kind, grid = GRIDS[name]
        for values in itertools.product(*grid.values()):
            settings = kind(**dict(zip(grid, values)))
            if any(run["model"] == name and run["settings"] == asdict(settings) for run in known["runs"]):
                continue
            started = time.monotonic()
            model = train(dataset, settings, progress=False)
            known["runs"].append({"model": name, "settings": asdict(settings), "validation_auc": model.validation_auc,
                                  "best_epoch": model.best_epoch, "seconds": round(time.monotonic() - started, 1)})
            print(name, dict(zip(grid, values)), f"validation AUC {model.validation_auc:.4f} in epoch {model.best_epoch}", flush=True)
            write_json(FILE, known)


if __name__ == "__main__":
    if unknown := set(sys.argv[1:]) - set(GRIDS):
        sys.exit(f"no grid for {', '.join(unknown)}; there are {', '.join(GRIDS)}")
    main(sys.argv[1:] or list(GRIDS))
