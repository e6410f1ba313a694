"""Rates as of a row's time, from ratings split by time to a recommender that scores at any time."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from userllm.core.errors import InputError
from userllm.core.runs import StageCache
from userllm.data import past_counts
from userllm.data.prepared import Stage, prepare
from userllm.data.protocols import movie
from userllm.knowledge.llms import tiny_llm
from userllm.model.recommender import Recommender
from userllm.training.methods import find_method
from userllm.training.pipeline import run_baseline, run_method
from userllm.training.stages import load_context, Resources
from userllm.training.presets import smoke


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    "A folder with the runs of the baseline in both readings, and a stage of ratings split by time."
    place = tmp_path_factory.mktemp("as_of_time")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    cache = StageCache(place / "cache")
    protocol = replace(movie(users=40, minimum_item_ratings=25, positives=1_400, negatives=500), split="temporal")
    stage = Stage(prepare(protocol, device="cpu", cache=cache), smoke(), cache=cache)
    for name in ("bias_asof", "bias_asof_frozen"):
        run_baseline(name, stage, place / name)
    yield place, stage
    torch.set_num_threads(threads)


def test_both_readings_are_measured_and_differ(world):
    place, stage = world
    metrics = {
        name: run_baseline(name, stage, place / name) for name in ("bias", "bias_asof", "bias_asof_frozen")
    }
    assert {name: each["leaks"] for name, each in metrics.items()} == dict.fromkeys(metrics, 0)
    assert metrics["bias_asof"]["auc"]["value"] > metrics["bias_asof_frozen"]["auc"]["value"]
    with pytest.raises(InputError, match="other settings"):
        changed = replace(stage.preset, as_of=replace(stage.preset.as_of, smoothing=2.0))
        run_baseline("bias_asof", replace(stage, preset=changed), place / "bias_asof")


def test_a_recommender_scores_at_any_time_and_ranks_in_the_state_that_training_left(world):
    place, stage = world
    online, frozen = (
        Recommender.load(place / name)
        for name in ("bias_asof", "bias_asof_frozen")
    )
    item = stage.dataset.events["item"].value_counts().idxmax()
    times = stage.dataset.rows("test")["timestamp"]
    pairs = pd.DataFrame(
        {
            "user_id": stage.dataset.users["user_id"].iloc[0],
            "item_id": stage.dataset.items["item_id"][item],
            "timestamp": [0, int(times.min()), int(times.max()) + 1],
        }
    )
    start, early, late = online.score(pairs)["logit"]
    assert start == pytest.approx(online.fitted.overall, abs=1e-6)  # nothing was known yet
    assert len({start, early, late}) == 3
    assert frozen.score(pairs)["logit"].iloc[2] != late

    user = stage.dataset.users["user_id"].iloc[0]
    assert online.rank(user, top=10).equals(frozen.rank(user, top=10))


def test_a_new_user_s_rate_comes_from_its_likes(world):
    place, stage = world
    recommender = Recommender.load(place / "bias_asof")
    items = stage.dataset.items["item_id"].tolist()
    none, some = (
        recommender.rank_for_new_user(likes, among=items[10:]).set_index("item_id")["probability"]
        for likes in ([], items[:8])
    )
    assert (some > none.loc[some.index]).all()


def plant_ties(monkeypatch):
    search = past_counts.first_not_before
    monkeypatch.setattr(past_counts, "first_not_before", lambda *parts: search(*parts[:3], parts[3] + 1))


def plant_the_future(monkeypatch):
    allowed = past_counts.countable
    monkeypatch.setattr(past_counts, "countable", lambda dataset, reading: allowed(dataset, "online"))


@pytest.mark.parametrize(
    "plant, name, leak",
    [
        (plant_ties, "bias_asof", "rate not earlier: bias_asof, user"),
        (plant_ties, "logistic_asof_frozen", "rate not earlier: logistic_asof_frozen, user"),
        (plant_the_future, "bias_asof_frozen", "rate after training: bias_asof_frozen, item"),
    ],
)
def test_a_planted_leak_stops_the_run(world, tmp_path, monkeypatch, plant, name, leak):
    _, stage = world
    plant(monkeypatch)
    with pytest.raises(InputError, match="figures are void") as error:
        run_baseline(name, stage, tmp_path / name)
    line = next(line for line in str(error.value).splitlines() if line.startswith(leak))
    assert int(line.removeprefix(leak).split()[0]) > 0


def test_what_is_kept_of_prompts_does_not_hold_features_that_change_with_time(world):
    place, stage = world
    tiny_llm(place / "llm", width=16, layers=1)
    context = load_context(
        Resources(str(place / "llm"), "cpu", "fp32", stage.cache, report=lambda _: None),
        find_method("userllm_asof").model,
    )
    run = place / "userllm_asof"
    assert run_method(find_method("userllm_asof"), stage, context, run)["leaks"] == 0

    recommender = Recommender.load(run, str(place / "llm"), "cpu", cache=stage.cache)
    saved = pd.read_parquet(run / "predictions.parquet")
    assert recommender.score(saved)["logit"].tolist() == pytest.approx(saved["logit"].tolist(), abs=1e-4)

    # rows of one pair at many times: each has its own features, whatever was kept of the one before
    pair = saved.iloc[:1]
    times = np.linspace(saved["timestamp"].min(), saved["timestamp"].max(), 12).astype(np.int64)
    rows = pd.concat([pair] * 12, ignore_index=True).assign(timestamp=times)
    kept, whole = (
        recommender.with_engine(name).score(rows)["logit"].to_numpy() for name in ("reuse", "plain")
    )
    assert kept == pytest.approx(whole, abs=1e-4)
    assert np.unique(kept.round(4)).size > 3
