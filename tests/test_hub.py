"""Sharing what was trained: through a stand-in of the Hub on loopback, and as a folder; with users and without."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import huggingface_hub
import pandas as pd
import pytest
from hub import Hub

from userllm.cli.main import main
from userllm.collaborative.baselines import baselines
from userllm.collaborative.lightgcn import LightGCNSettings
from userllm.collaborative.mf import MFSettings
from userllm.collaborative.rates import planted_ratings
from userllm.collaborative.sasrec import SASRecSettings
from userllm.core.errors import InputError
from userllm.core.files import read_tensors
from userllm.core.runs import StageCache
from userllm.data.prepared import Stage, prepare
from userllm.model.recommender import Recommender, share_folder
from userllm.training.pipeline import run_baseline
from userllm.training.presets import smoke

SYSTEMS = (
    "bias", "bias_asof", "mf", "mf_bias", "lightgcn", "sasrec", "logistic_asof", "popularity", "itemknn", "ease"
)

# What a person does, in a process that finds the Hub's address in its environment before anything is imported.
CLIENT = """
import sys
import pandas as pd
from userllm.cli.main import main
from userllm.core.errors import InputError
from userllm.model.recommender import Recommender
run, pairs, likes, out = sys.argv[1:]
assert main(["share", run, "--to", "me/whole"]) == 0
assert main(["share", run, "--to", "me/nobody", "--without-users", "--public"]) == 0
pairs = pd.read_parquet(pairs)
Recommender.from_pretrained("me/whole", device="cpu").score(pairs).to_parquet(out + "/scores.parquet")
nobody = Recommender.from_pretrained("me/nobody", revision="main", device="cpu")
nobody.rank_for_new_user(likes.split(","), top=20).to_parquet(out + "/list.parquet")
try:
    nobody.score(pairs)
except InputError as error:
    print(error)
"""


@pytest.mark.timeout(300)
def test_a_language_model_goes_to_the_hub_and_comes_back_with_the_same_scores(runs, tmp_path):
    run = runs / "userllm_plus"
    here = Recommender.load(run, device="cpu")
    users = here.dataset.users["user_id"].iloc[:6].tolist()
    items = here.dataset.items["item_id"].iloc[:6].tolist()
    pairs = pd.DataFrame({"user_id": users, "item_id": items})
    pairs.to_parquet(tmp_path / "pairs.parquet")
    words = [run, tmp_path / "pairs.parquet", ",".join(items[:2]), tmp_path]
    with Hub() as hub:
        environment = os.environ | hub.environment | {"HF_HOME": str(tmp_path / "hf")}
        done = subprocess.run(
            [sys.executable, "-c", CLIENT, *map(str, words)],
            env=environment,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=240,
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Uploaded: http") == 2
    assert f"shared without its {len(here.dataset.users)} users" in done.stdout
    assert {name: each.private for name, each in hub.repositories.items()} == {"me/whole": True, "me/nobody": False}

    again = pd.read_parquet(tmp_path / "scores.parquet")
    assert again["logit"].tolist() == pytest.approx(here.score(pairs)["logit"].tolist(), abs=1e-5)
    expected = here.rank_for_new_user(items[:2], top=20)
    answer = pd.read_parquet(tmp_path / "list.parquet")
    assert answer["item_id"].tolist() == expected["item_id"].tolist()
    assert answer["probability"].tolist() == pytest.approx(expected["probability"].tolist(), abs=1e-5)

    # the card is one that the Hub reads, with the metrics of the run
    files = list(hub.repositories["me/nobody"].commits.values())[-1]
    card = huggingface_hub.ModelCard(files["README.md"].decode())
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    shown = {each.metric_type: each.metric_value for each in card.data.eval_results}
    assert shown == {name: round(metrics[name]["value"], 4) for name in ("auc", "uauc", "log_loss")}
    assert card.data.license == "other" and "MovieLens" in card.text and "lora" in card.data.tags


@pytest.fixture(scope="module")
def named_users(tmp_path_factory):
    "Every baseline, fitted on data whose users' ids are known by sight wherever they stand."
    place = tmp_path_factory.mktemp("named")
    data = planted_ratings(users=40, items=30, rows=900)
    ids = [f"person-{number}@private" for number in range(40)]
    data = replace(data, users=data.users.assign(user_id=ids))
    few = {"epochs": 2, "dimensions": 4}
    preset = replace(smoke(), mf=MFSettings(bias=True, **few), mf_slots=MFSettings(**few))
    preset = replace(preset, lightgcn=LightGCNSettings(**few), sasrec=SASRecSettings(**few))
    stage = Stage(prepare(dataset=data, device="cpu"), preset, cache=StageCache(place / "cache"))
    for name in SYSTEMS:
        run_baseline(name, stage, place / name)
    return place


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_baseline_without_users_answers_for_new_users_and_names_nobody(named_users, name, tmp_path):
    folder = share_folder(named_users / name, tmp_path / name, without_users=True)
    whole, without = Recommender.load(named_users / name), Recommender.load(folder)
    ids = whole.dataset.items["item_id"].tolist()
    for likes, dislikes in ((ids[:4], ids[4:6]), ([], [])):
        expected = whole.rank_for_new_user(likes, top=9, dislikes=dislikes)
        answer = without.rank_for_new_user(likes, top=9, dislikes=dislikes)
        assert answer["item_id"].tolist() == expected["item_id"].tolist()
        assert answer["probability"].tolist() == pytest.approx(expected["probability"].tolist(), abs=1e-6)
    known = whole.dataset.users["user_id"][0]
    for ask in (
        lambda: without.rank(known),
        lambda: without.score(pd.DataFrame({"user_id": [known], "item_id": ids[:1]})),
    ):
        with pytest.raises(InputError, match="shared without its 40 users"):
            ask()
    for path in folder.rglob("*"):
        assert not path.is_file() or b"@private" not in path.read_bytes(), path
    assert b"@private" in (named_users / name / "recommender" / "users.parquet").read_bytes()


def test_what_a_baseline_holds_of_users_is_gone(named_users, tmp_path):
    "No array of a shared baseline is as long as the users or their events are many."
    for name in SYSTEMS:
        folder = share_folder(named_users / name, tmp_path / name, without_users=True)
        tensors = read_tensors(folder / "fitted" / "model.safetensors")
        per_user = {part for part, value in tensors.items() if value.ndim and len(value) in (40, 41)}
        assert not per_user, (name, per_user)


def test_a_baseline_that_does_not_say_how_is_not_shared_without_users(named_users, tmp_path, monkeypatch):
    monkeypatch.setattr(type(baselines["bias"]), "load", lambda self, folder: SimpleNamespace())
    with pytest.raises(InputError, match="does not say how it is kept without users"):
        share_folder(named_users / "bias", tmp_path / "bias", without_users=True)
    assert not any(tmp_path.iterdir())


def test_a_share_that_cannot_be_is_refused_before_work(named_users, tmp_path, capsys):
    run = str(named_users / "bias")
    asked = {
        ("--to", "me/films", "--public"): "--public would show users' ids",
        ("--out", run): "exists already",
        ("--out", str(tmp_path / "x"), "--public", "--without-users"): "--public is for a repository",
        ("--to", "films"): "no name on the Hugging Face Hub",
    }
    for options, words in asked.items():
        assert main(["share", run, *options]) == 2
        assert words in capsys.readouterr().err


def test_a_share_as_a_folder_is_opened_like_any_other(named_users, tmp_path, capsys):
    assert main(["share", str(named_users / "ease"), "--out", str(tmp_path / "ease")]) == 0
    assert "README.md" in capsys.readouterr().out
    one, other = Recommender.load(named_users / "ease"), Recommender.from_pretrained(tmp_path / "ease")
    user = one.dataset.users["user_id"][3]
    pd.testing.assert_frame_equal(one.rank(user), other.rank(user))
    assert other.metrics == one.metrics and other.metrics["auc"]
