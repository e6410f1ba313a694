"""A saved recommender on a tiny LLM with two hundred items, and pairs for it, for the tests of many rows."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd

ITEMS = 200
USERS = 60


def dataset():
    "Items with a description each, and eight events a user."
    from userllm.data.dataset import Dataset

    generator = np.random.default_rng(0)
    items = pd.DataFrame(
        {
            "item": range(ITEMS),
            "item_id": [f"i{item}" for item in range(ITEMS)],
            "title": [f"Film {item}" for item in range(ITEMS)],
            "year": pd.array([1980] * ITEMS, dtype="Int64"),
            "genres": "Drama",
            "description": ["A story of " + "love " * (item % 7) for item in range(ITEMS)],
            "poster": "",
        }
    )
    events = pd.DataFrame(
        {
            "user": np.repeat(range(USERS), 8),
            "item": np.concatenate([generator.choice(ITEMS, 8, replace=False) for _ in range(USERS)]),
            "label": generator.integers(0, 2, 8 * USERS),
            "timestamp": np.tile(np.arange(8) * 10, USERS),
            "split": "train",
        }
    )
    return Dataset(
        interactions=events.assign(row_id=range(len(events))),
        events=events,
        items=items,
        users=pd.DataFrame({"user": range(USERS), "user_id": [f"u{user}" for user in range(USERS)]}),
        protocol={"name": "hand-made", "split": "random", "history_length": 3, "data_seed": 0},
    )


def save_recommender(place: Path, data=None, title: int = 24) -> str:
    "A recommender with random weights in fp32; gives its folder. `title`: tokens of a title in the prompt."
    import torch

    from userllm.knowledge.llms import tiny_llm
    from userllm.model.batches import BatchMaker
    from userllm.model.language_model import LanguageModel, LoRASettings
    from userllm.model.mappers import table_by_position
    from userllm.model.prompts import TextBudget
    from userllm.model.settings import ModelSettings
    from userllm.model.small_models import perturbed
    from userllm.model.userllm import UserLLM
    from userllm.model.userllm_recommender import UserLLMRecommender

    data = data or dataset()
    generator = np.random.default_rng(0)
    tables = {
        "image": table_by_position("image", "item", generator.normal(size=(ITEMS, 3))),
        "item": table_by_position("mf", "item", generator.normal(size=(ITEMS, 4))),
        "user": table_by_position("mf", "user", generator.normal(size=(USERS, 4))),
    }
    llm = tiny_llm(place / "llm", words="movie user Answer likes feature", width=16, layers=1)
    settings = ModelSettings(lora=LoRASettings(rank=2), budget=TextBudget(title=title))
    torch.manual_seed(0)
    language = LanguageModel(llm, settings.lora, settings.score)
    model = UserLLM(language, {slot: table.width for slot, table in tables.items()}, settings)
    perturbed(model)
    language.load_lora(
        {name: torch.randn_like(value) * 0.3 for name, value in language.lora_parameters().items()}
    )
    maker = BatchMaker(data.items, tables, llm.tokenizer, settings)
    UserLLMRecommender.build(model, maker, data, "userllm").save(place / "recommender")
    return str(place / "recommender")


def write_pairs(folder: Path, count: int, parts: int = 3) -> pd.DataFrame:
    "Distinct pairs in Parquet parts; a few of them are of an unknown user or item."
    generator = np.random.default_rng(1)
    codes = generator.choice(ITEMS * USERS, count, replace=False)
    pairs = pd.DataFrame(
        {
            "user_id": [f"u{code % USERS}" for code in codes],
            "item_id": [f"i{code // USERS}" for code in codes],
            "timestamp": np.where(codes % 3 == 0, 45, 100),
        }
    )
    pairs.loc[3, "user_id"] = "nobody"
    pairs.loc[count // 2, "item_id"] = "x" * 1_000_000
    folder.mkdir(parents=True, exist_ok=True)
    for part, rows in enumerate(np.array_split(np.arange(count), parts)):
        pairs.iloc[rows].to_parquet(folder / f"day{part}.parquet", index=False)
    return pairs


def command(*words, **environment) -> subprocess.Popen:
    "`userllm` with these words, one thread, its output in one pipe."
    return subprocess.Popen(
        [sys.executable, "-m", "userllm.cli.entry", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
    )


def ended(process: subprocess.Popen, status: int = 0) -> str:
    "The output of a command that ends with that status."
    output = process.communicate()[0]
    assert process.returncode == status, output
    return output


def parts(out: Path) -> pd.DataFrame:
    "All parts of an output by row; no row twice."
    tables = [pd.read_parquet(path) for path in sorted(out.glob("part-*.parquet"))]
    table = pd.concat(tables).set_index("row").sort_index()
    assert table.index.is_unique
    return table


def finished(out: Path) -> dict:
    "The counts that the driver left."
    return json.loads((out / "request.json").read_text(encoding="utf-8"))["finished"]
