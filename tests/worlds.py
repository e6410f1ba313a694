"""Worlds in which only one part of the prompt knows the answer, so that a method without that
part cannot do better than chance.

Items are of two kinds, people too, and somebody likes the items of their own kind. Each item is
shown to as many people of one kind as of the other,
and each person is shown as many items of one kind as of the other: no label can be guessed from
the item alone, or from the person alone. The items of
the test rows are in no training row (in the collaborative world, where items must be known, the
pairs are not)."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch

from userllm.collaborative.mf import MFSettings, train_mf
from userllm.data.dataset import Dataset
from userllm.model.mappers import table_by_position, standardise
from userllm.training.methods import find_method
from userllm.evaluation.metrics import auc
from userllm.data.histories import Rows
from userllm.model.language_model import LanguageModel
from userllm.model.settings import ModelSettings
from userllm.model.batches import BatchMaker
from userllm.model.userllm import init_linear_weights, UserLLM
from userllm.training.loop import tune, TuningRun
from userllm.training.schedule import StepSettings
from userllm.training.steps import step2
from userllm.model.engines import PrefixEngine

USERS, ITEMS, SHOWN, LIKES = (
    32,
    320,
    8,
    4,
)  # of each kind; people of each kind that see an item; items in a history
WORDS = ("film", "about", "space", "love", "movie", "user", "Answer", "likes", "feature")


@dataclass
class World:
    "Items, tables and rows."

    items: pd.DataFrame
    tables: dict
    rows: dict  # split -> Rows


def _nothing(name: str, key: str, count: int, width: int = 8):
    "A feature table that says nothing."
    return table_by_position(name, key, np.zeros((count, width)), missing=np.ones(count, dtype=bool))


def _pairs() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    "Users, items and labels (n,) of all rows; the kind of a user or item is its number's parity."
    users, items = [], []
    for item in range(2 * ITEMS):
        for kind in (0, 1):
            of_kind = 2 * ((item // 2 * 5 + np.arange(SHOWN)) % USERS) + kind
            users.append(of_kind)
            items.append(np.full(SHOWN, item))
    users, items = np.concatenate(users), np.concatenate(items)
    return users, items, (users % 2 == items % 2).astype(int)


# What the users of kind 0 rated in the rated worlds: item's kind and label, in blocks of time; the other kind turned.
_EVENTS = {
    # one like of each kind, and dislikes of the other kind
    "dislikes": [[(0, 1), (1, 1), (1, 0), (1, 0)]],
    # the old taste and then the new one: as many likes and dislikes of either kind
    "time": [[(0, 0), (1, 1)], [(0, 1), (1, 0)]],
}


def _rated(name: str, users: np.ndarray, generator) -> tuple[np.ndarray, np.ndarray]:
    "Kinds and labels (n, LIKES) of rated histories; within a block in random order."
    lines = []
    for user in users:
        events = [event for block in _EVENTS[name] for event in generator.permutation(block)]
        lines.append([((kind + user) % 2, label) for kind, label in events])
    kinds, labels = np.moveaxis(np.array(lines), 2, 0)
    return kinds, labels.astype(np.int8)


def _histories(users: np.ndarray, generator, by_order: bool) -> np.ndarray:
    """Items of the user's own kind; or as many of each, of which the last is of the user's kind.

    They are never candidates."""
    pool = 2 * ITEMS + 2 * generator.integers(0, ITEMS, (len(users), LIKES))
    if not by_order:
        return pool + users[:, None] % 2
    kinds = np.tile([0, 0, 1, 1], (len(users), 1))
    kinds = np.stack([generator.permutation(line) for line in kinds])
    turn = kinds[:, -1] != users % 2
    kinds[turn] = 1 - kinds[turn]
    return pool + kinds


def make_world(name: str, seed: int = 0) -> World:
    """The world where only `poster`, `description`, `order`, `collaborative`, or in rated histories `dislikes` or
    the order in `time` tells."""
    generator, count = np.random.default_rng(seed), 4 * ITEMS
    users, items, labels = _pairs()
    kinds = np.arange(count) % 2
    telling = np.array(["space", "love"])[kinds] if name == "description" else np.full(count, "film")
    frame = pd.DataFrame(
        {"title": ["film"] * count, "description": [f"film about {word}" for word in telling]}
    )
    posters = np.where(kinds[:, None], 1.0, -1.0) * np.ones(8) + generator.normal(size=(count, 8))
    tables = {
        "image": table_by_position("image", "item", posters)
        if name in ("poster", "order", *_EVENTS)
        else _nothing("image", "item", count),
        "item": _nothing("mf", "item", count),
        "user": _nothing("mf", "user", 2 * USERS),
    }
    parts = items // 2 % 8 if name != "collaborative" else (users // 2 + items // 2) % 8
    split = np.where(
        parts < 2, "test", np.where(parts == 2, "valid", "train")
    )  # a quarter: by luck an AUC is seldom further from 0.5 than 0.03
    histories = _histories(users, generator, name == "order")
    whole = Rows(users, items, histories, labels=labels, row_ids=np.arange(len(users)))
    if name in _EVENTS:
        pool = 2 * ITEMS + 2 * generator.integers(0, ITEMS, histories.shape)
        kinds, whole.history_labels = _rated(name, users, generator)
        whole.histories = pool + kinds
    if name == "collaborative":
        tables |= _factorised(users, items, labels, split, count)
    return World(frame, tables, {part: whole.take(split == part) for part in ("train", "valid", "test")})


def _factorised(users, items, labels, split, count: int) -> dict:
    "Embeddings of matrix factorisation, trained on the training rows."
    rows = pd.DataFrame(
        {
            "row_id": np.arange(len(users)),
            "user": users,
            "item": items,
            "timestamp": 0,
            "label": labels,
            "split": split,
        }
    )
    people = pd.DataFrame({"user": range(2 * USERS), "user_id": [f"u{user}" for user in range(2 * USERS)]})
    catalogue = pd.DataFrame(
        {
            "item": range(count),
            "item_id": [f"i{item}" for item in range(count)],
            "title": "film",
            "year": 2000,
            "genres": "Drama",
            "description": "",
            "poster": "",
        }
    )
    dataset = Dataset(
        interactions=rows,
        events=rows.drop(columns="row_id"),
        items=catalogue,
        users=people,
        protocol={"name": "world", "split": "random", "history_length": LIKES, "data_seed": 0},
    )
    model = train_mf(
        dataset, MFSettings(dimensions=4, initial_spread=0.1, learning_rate=1e-2), progress=False
    )
    return {"item": standardise(model.item_table), "user": standardise(model.user_table)}


def with_and_without(name: str) -> tuple[ModelSettings, ModelSettings]:
    "USER-LLM, and USER-LLM without the part that knows."
    whole = find_method("userllm").model
    if name in _EVENTS:  # the dislikes, or the order, left out
        likes = replace(whole, uhem=replace(whole.uhem, encoder="gru_item"))
        rated = replace(likes, history_events="rated")
        return rated, likes if name == "dislikes" else replace(rated, uhem=replace(rated.uhem, encoder="mean"))
    if name == "order":
        return whole, replace(whole, uhem=replace(whole.uhem, encoder="mean"))
    return whole, find_method({"description": "without_knowledge"}.get(name, f"without_{name}")).model


def rows_for(world: World, settings: ModelSettings, split: str) -> Rows:
    "The rows of a split as a model of these settings is given them: with rated histories, or with likes alone."
    rows = world.rows[split]
    return rows if settings.rated else replace(rows, histories=rows.likes, history_labels=None)


def trained(
    world: World, settings: ModelSettings, llm, folder, steps: StepSettings, seed: int = 0
) -> tuple[UserLLM, BatchMaker]:
    "A model after step 2 in a world."
    maker, language = (
        BatchMaker(world.items, world.tables, llm.tokenizer, settings),
        LanguageModel(llm, settings.lora, settings.score),
    )
    language.fresh_lora(seed)
    torch.manual_seed(seed)
    model = UserLLM(language, {slot: table.width for slot, table in world.tables.items()}, settings)
    train, valid = (rows_for(world, settings, split) for split in ("train", "valid"))
    init_linear_weights(model, maker, train)
    tune(step2(model, maker), train, valid, steps, folder, TuningRun(seed))
    return model, maker


def learn(world: World, settings: ModelSettings, llm, folder, steps: StepSettings, seed: int = 0) -> float:
    "Train step 2 in a world; gives the AUC of its test rows."
    model, maker = trained(world, settings, llm, folder, steps, seed)
    rows = rows_for(world, settings, "test")
    return auc(rows.labels, PrefixEngine(model, maker).logits(rows).round(4))  # rounding errors tell nothing
