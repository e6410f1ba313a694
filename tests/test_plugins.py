"""Code of one's own: a run belongs to its source, and a recommender opens wherever it can be imported."""

import importlib
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from userllm.core.errors import InputError
from userllm.core.files import read_json
from userllm.cli.main import main
from userllm.model.history_encoders import encoders
from userllm.knowledge.llms import tiny_llm
from userllm.model.engines import engines
from userllm.model.mappers import mapper_kinds
from userllm.training.feature_sources import feature_sources
from userllm.training.methods import methods
from userllm.model.prompts import templates
from userllm.model.recommender import Recommender

MODULE = """
from dataclasses import replace
from torch import nn
from userllm.model.history_encoders import encoders
from userllm.model.mappers import Mapper, mapper_kinds, MapperSettings
from userllm.training.methods import find_method, methods
from userllm.model.prompts import find_template, templates
from userllm.model.history_encoders import UHEMSettings

LOUDNESS = 1.0

def pooled(history):
    return history.means(by_item=False)[:, 0]

class Pooled(nn.Module):
    "Reads the mean of a history."
    def __init__(self, width, tokens=1, input_spread=1.0):
        super().__init__()
        self.spread, self.layer = input_spread, nn.Linear(width, width)

    def forward(self, history): # one token
        return LOUDNESS * self.layer(pooled(history) / self.spread)[:, None]

class Bent(Mapper):
    "A mapper with another end."
    def forward(self, features):
        return super().forward(features).tanh()

def mine():
    method = find_method("without_collaborative")
    model = replace(method.model, order="my_words", uhem=UHEMSettings("pooled"), mapper=MapperSettings(kind="bent"))
    return replace(method, name="mine", model=model)

"""
REGISTERED = (
    MODULE
    + """
encoders["pooled"], mapper_kinds["bent"], methods["mine"] = Pooled, Bent, mine()
templates["my_words"] = lambda: replace(find_template("paper"), name="my_words")
"""
)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a small dataset, a tiny LLM, and the module; registries and imports are as
    before in the end."""
    random, registries = np.random.default_rng(0), (encoders, mapper_kinds, methods, templates)
    before = [dict(registry) for registry in registries]
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("USERLLM_CACHE", str(tmp_path / "cache"))
    pairs = random.permutation(40 * 30)[:700]
    pd.DataFrame(
        {
            "user_id": pairs // 30,
            "item_id": pairs % 30,
            "timestamp": random.integers(0, 10**6, 700),
            "label": random.integers(0, 2, 700),
        }
    ).to_csv("rows.csv", index=False)
    pd.DataFrame(
        {"item_id": range(30), "title": [f"Thing {item}" for item in range(30)], "description": "A thing."}
    ).to_csv("items.csv", index=False)
    tiny_llm(tmp_path / "llm", width=16, layers=1)
    assert main("prepare table --interactions rows.csv --items items.csv --out data".split()) == 0
    (tmp_path / "my_code.py").write_text(REGISTERED, encoding="utf-8")
    yield tmp_path
    for registry, entries in zip(registries, before):
        registry.clear()
        registry.update(entries)
    forget()


def forget(*names):
    "As in a new process: no module, and nothing that it registered."
    sys.modules.pop("my_code", None)
    importlib.invalidate_caches()
    for registry in (encoders, mapper_kinds, methods, templates):
        for name in ("pooled", "bent", "mine", "my_words"):
            registry.pop(name, None)


TRAIN = "train mine --data data --preset smoke --llm llm --device cpu --precision fp32".split()
TRAIN += "--out run --plugin my_code".split()


def test_a_run_belongs_to_the_source_of_its_code(place, capsys):
    assert main(TRAIN[:-2]) == 2 and "with --plugin" in capsys.readouterr().err
    assert main(TRAIN) == 0
    assert "--top 10 --plugin my_code" in capsys.readouterr().out  # what to type next works as it stands
    settings = read_json(place / "run" / "settings.json")
    assert [(each["kind"], each["code"]) for each in settings["code"]] == [
        ("history encoder", "my_code:Pooled"),
        ("mapper", "my_code:Bent"),
        ("prompt", "my_code:<lambda>"),
    ]
    capsys.readouterr()
    assert main(TRAIN) == 0 and "finished before" in capsys.readouterr().out

    edits = {
        "helper": ("by_item=False)[:, 0]", "by_item=False)[:, -1] * 2"),
        "constant": ("LOUDNESS = 1.0", "LOUDNESS = 2.0"),
        "mapper": (".tanh()", ".sin()"),
    }
    for old, new in edits.values():
        (place / "my_code.py").write_text(REGISTERED.replace(old, new), encoding="utf-8")
        forget()
        assert main(TRAIN) == 2
        assert "holds a run with other settings (code)" in capsys.readouterr().err
    (place / "my_code.py").write_text(
        "# A comment changes nothing.\n" + REGISTERED.replace("# one token", "# K is 1"), encoding="utf-8"
    )
    forget()
    assert main(TRAIN) == 0 and "finished before" in capsys.readouterr().out


def test_a_recommender_opens_where_its_code_can_be_imported(place, capsys, tmp_path_factory):
    assert main(TRAIN) == 0
    scored = pd.read_parquet(place / "run" / "predictions.parquet")
    scored[["user_id", "item_id", "timestamp"]].to_csv("pairs.csv", index=False)
    forget()
    score = "score run --pairs pairs.csv --out scores.csv --device cpu".split()
    capsys.readouterr()
    assert main(score) == 2  # nothing is imported that nobody named
    error = capsys.readouterr().err
    assert (
        "needs the history encoder 'pooled', which is my_code:Pooled" in error and "--plugin my_code" in error
    )
    assert "my_code" not in sys.modules

    # as in a process that knows nothing
    code = "import sys; from userllm.cli.main import main; sys.exit(main(sys.argv[1:]))"
    subprocess.run(
        [
            sys.executable,
            "-I",
            "-c",
            "import sys; sys.path[:0] = sys.argv.pop(1).split(':'); " + code,
            ":".join(filter(None, sys.path)),
            *score,
            "--plugin",
            "my_code",
        ],
        check=True,
    )
    there = pd.read_csv("scores.csv")
    assert np.abs(there["logit"] - scored["logit"]).max() < 1e-4

    (place / "my_code.py").write_text(
        MODULE.replace(
            "def mine",
            "templates['my_words'] = lambda: replace(find_template('paper'), name='my_words')\ndef mine",
        ),
        encoding="utf-8",
    )
    forget()
    again = Recommender.load(
        "run", device="cpu", plugins=["my_code"]
    )  # it registers no encoder and no mapper: they are found by their names
    pairs = pd.read_csv("pairs.csv", dtype={"user_id": str, "item_id": str})
    assert np.abs(again.score(pairs)["logit"] - scored["logit"]).max() < 1e-4
    assert Recommender.load(again.save(place / "copy"), device="cpu").model.origins == again.model.origins

    (place / "my_code.py").write_text(
        REGISTERED.replace("LOUDNESS = 1.0", "LOUDNESS = 3.0"), encoding="utf-8"
    )
    forget()
    with pytest.raises(
        InputError,
        match=(
            "history encoder 'pooled' has another source here than the recommender .*run.* was trained with"
        ),
    ):
        Recommender.load("run", device="cpu", plugins=["my_code"])
    (place / "my_code.py").write_text(
        REGISTERED.replace('find_template("paper")', 'find_template("user_first")'), encoding="utf-8"
    )
    forget()
    with pytest.raises(InputError, match="wording of the prompt 'my_words'"):
        Recommender.load("run", device="cpu", plugins=["my_code"])


def test_a_name_of_ours_under_which_other_code_stands_is_refused(place, monkeypatch):
    assert (
        main(
            "train without_collaborative --data data --preset smoke --llm llm --device cpu --precision fp32"
            " --out run".split()
        )
        == 0
    )

    class Other(encoders["gru"]):
        "Bears the name of another."

    monkeypatch.setitem(encoders, "gru", Other)
    with pytest.raises(
        InputError,
        match="trained with userllm's own history encoder 'gru', and this name is taken here by tests?.*Other",
    ):
        Recommender.load("run", device="cpu")


def test_code_that_was_redefined_is_saved_as_what_was_trained(place, monkeypatch):
    "In a notebook a class may have been edited between training and saving."
    assert main(TRAIN) == 0
    my_code = sys.modules["my_code"]
    loaded = Recommender.load("run", device="cpu", plugins=["my_code"])
    trained = loaded.model.origins

    class Pooled(my_code.Pooled):
        def forward(self, history):
            return -super().forward(history)

    monkeypatch.setitem(encoders, "pooled", Pooled)
    loaded.save(place / "copy")
    assert [each["source"] for each in read_json(place / "copy" / "recommender.json")["code"]] == [
        origin.source for origin in trained
    ]
    with pytest.raises(InputError, match="another source here"):
        Recommender.load(place / "copy", device="cpu")


def test_code_that_cannot_be_restored_is_refused_before_training(place, capsys):
    drawn = (
        REGISTERED.replace(
            "nn.Linear(width, width)\n", "nn.Linear(width, width)\n        self.noise = torch.randn(width)\n"
        )
        .replace("self.layer(pooled", "self.noise * self.layer(pooled")
        .replace("from torch import nn", "import torch\nfrom torch import nn")
    )
    (place / "my_code.py").write_text(drawn, encoding="utf-8")
    assert main(TRAIN) == 2
    error = capsys.readouterr().err
    assert (
        "neither a parameter nor a buffer" in error
        and "my_code:Pooled" in error
        and not (place / "cache" / "step1").exists()
    )
    (place / "my_code.py").write_text(
        drawn.replace("self.noise = torch.randn(width)", 'self.register_buffer("noise", torch.randn(width))'),
        encoding="utf-8",
    )
    forget()
    TRAIN_AGAIN = [*TRAIN[:-3], "run2", *TRAIN[-2:]]
    assert main(TRAIN_AGAIN) == 0
    assert Recommender.load("run2", device="cpu", plugins=["my_code"]).method == "mine"


SOUND = """
import numpy as np
from userllm.model.mappers import FeatureTable, standardise
from userllm.training.feature_sources import FeatureSource, MadeTable, feature_sources

class Audio(FeatureSource):
    def make(self, stage, slot):
        items = stage.dataset.items["item_id"]
        loudness = np.array([[float(item) % 7] for item in items])
        return MadeTable(standardise(FeatureTable.from_ids(items, loudness, stage.dataset, "audio")))

feature_sources.register(Audio("audio", "loudness of the trailer"))
"""

ENGINE = """
import torch
from userllm.model.engines import ScoringEngine, engines

class Undecided(ScoringEngine):
    "Gives every row the logit 0."
    def batch(self, rows):
        return torch.zeros(len(rows))

engines["undecided"] = Undecided
"""


def test_a_source_of_ones_own_stands_in_a_slot_and_beside_history_items(place, capsys):
    "By words on the command line; and the recommender needs the module no more."
    (place / "my_code.py").write_text(SOUND, encoding="utf-8")
    train = "train without_collaborative --slot audio --data data --preset smoke --llm llm --device cpu".split()
    try:
        assert main([*train, "--out", "slot", "--plugin", "my_code"]) == 0
        beside = ["--set", "model.history_tables=image,audio", "--out", "beside"]
        assert main([*train, *beside, "--plugin", "my_code"]) == 0
    finally:
        feature_sources.pop("audio", None)
        forget()
    assert "without_collaborative_audio" in capsys.readouterr().out

    runs = {name: Recommender.load(name, device="cpu") for name in ("slot", "beside")}
    assert {name: run.settings.tables_of_history for name, run in runs.items()} == {
        "slot": ("image",),
        "beside": ("image", "audio"),
    }
    item = runs["slot"].dataset.items["item_id"].iloc[:1]
    ranked = {name: run.rank_for_new_user([*item], top=3) for name, run in runs.items()}
    read = {name: run.engine.counts()["history tokens"] for name, run in runs.items()}
    assert {name: len(rows) for name, rows in ranked.items()} == {"slot": 3, "beside": 3}
    assert read["beside"] == read["slot"] + 1, "one more token beside the one item"
    assert main([*train, "--out", "none"]) == 2
    assert "feature source 'audio'" in capsys.readouterr().err

    # Another engine, by its name.
    users = runs["slot"].dataset.users["user_id"][:2]
    pd.DataFrame({"user_id": users, "item_id": item.iloc[0]}).to_csv("pairs.csv", index=False)
    score = "score slot --pairs pairs.csv --out scores.csv --device cpu --engine".split()
    assert main([*score, "plane"]) == 2
    assert "did you mean plain" in capsys.readouterr().err
    assert main([*score, "plain"]) == 0
    assert pd.read_csv("scores.csv")["logit"].abs().min() > 0
    (place / "my_code.py").write_text(ENGINE, encoding="utf-8")
    try:
        assert main([*score, "undecided", "--plugin", "my_code"]) == 0
    finally:
        engines.pop("undecided", None)
    assert pd.read_csv("scores.csv")["logit"].tolist() == [0.0, 0.0]
