"""A person who is not in the data is known by likes and dislikes: the same numbers as for a user of the data."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from userllm.collaborative.baseline_recommender import BaselineRecommender
from userllm.collaborative.baselines import baselines
from userllm.collaborative.cross_features import affinity
from userllm.collaborative.lightgcn import LightGCNSettings
from userllm.collaborative.mf import MFSettings, train_mf
from userllm.collaborative.rates import planted_ratings
from userllm.collaborative.sasrec import SASRecSettings
from userllm.core.runs import StageCache
from userllm.data.histories import RatedItems, Rows
from userllm.data.prepared import Stage, prepare
from userllm.data.protocols import movie
from userllm.evaluation.metrics import auc
from userllm.model.fold_in import Rescaled
from userllm.model.mappers import FeatureTable, load_table, save_table
from userllm.model.recommender import Recommender
from userllm.model.side_features import planted_sides
from userllm.training.feature_sources import feature_sources
from userllm.training.presets import find_preset

SOLVED = ("mf", "mf_bias", "lightgcn")
FEATURES = (
    "logistic",
    "trees",
    "logistic_context",
    "trees_context",
    "logistic_content",
    "trees_content",
    "logistic_asof",
    "trees_asof",
)


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    "Films, with settings that are trained in seconds."
    data = movie(users=60, minimum_item_ratings=25, positives=1_800, negatives=800)
    preset = replace(
        find_preset("smoke"),
        mf=MFSettings(dimensions=8, learning_rate=1e-2, batch_size=256, patience=5),
        mf_slots=MFSettings(dimensions=8, learning_rate=1e-2, batch_size=256, patience=5),
        lightgcn=LightGCNSettings(dimensions=8, patience=5),
        sasrec=SASRecSettings(dimensions=8, epochs=3),
    )
    prepared = prepare(data, device="cpu")
    prepared = replace(prepared, dataset=planted_sides(prepared.dataset))  # with further columns
    return Stage(prepared, preset, cache=StageCache(tmp_path_factory.mktemp("cache")))


def rated_by(stage, user):
    rows = stage.dataset.rows("train").query(f"user == {user}")
    return RatedItems.of(dict(zip(rows["item"], rows["label"])))


def users_of(stage):
    return stage.dataset.rows("train")["user"].value_counts().index[::6]


def as_new(recommender, rated, items):
    return recommender.rows_of_new_user(dict(zip(rated.items, rated.labels)), items)


def both_ways(stage, recommender):
    "Logits (2, n): of users of the data, and of the same people as new users with the same training rows."
    items = np.arange(len(stage.dataset.items))
    pairs = []
    for user in users_of(stage):
        new = as_new(recommender, rated_by(stage, user), items)
        known = recommender.rows_for(np.full(len(items), user), items)
        pairs.append([recommender.logits(rows) for rows in (known, new)])
    return np.stack(pairs, 1).reshape(2, -1)


def saved_and_loaded(stage, name, folder):
    baseline = baselines[name]
    built = BaselineRecommender.build(baseline, baseline.fit(stage), stage)
    return Recommender.load(built.save(folder / name))


@pytest.mark.parametrize("name", SOLVED)
def test_a_factor_that_is_solved_for_is_nearly_the_trained_one(stage, tmp_path, name):
    known, new = both_ways(stage, saved_and_loaded(stage, name, tmp_path))
    assert np.corrcoef(known, new)[0, 1] > 0.9
    assert np.abs(known - new).mean() < 0.5 * known.std()


def test_two_means_are_those_of_a_user_of_the_data(stage, tmp_path):
    known, new = both_ways(stage, saved_and_loaded(stage, "bias", tmp_path))
    np.testing.assert_allclose(new, known, atol=1e-5)


@pytest.mark.parametrize("name", FEATURES)
def test_features_are_those_of_a_user_of_the_data(stage, tmp_path, name):
    recommender = saved_and_loaded(stage, name, tmp_path)
    assert set(recommender.new_user_features.values()) == {True}
    items = np.arange(40)
    for user in users_of(stage):
        known = recommender.fitted.features(recommender.rows_for(np.full(40, user), items))
        new = recommender.fitted.features(as_new(recommender, rated_by(stage, user), items))
        for column in known:
            # of context interactions only what a person tells is known, and as of time both kinds count
            if "mf" in column or "history" in column or "_context" in column or "as_of" in column:
                continue
            np.testing.assert_allclose(new[column], known[column], atol=1e-5, err_msg=column)


@pytest.mark.parametrize("name", ("item_cf_context", "target_encoding_context"))
def test_context_features_are_those_of_a_user_with_this_context(stage, name):
    events = stage.dataset.events.query("split == 'context'")
    slot = "user" if name == "target_encoding_context" else f"{name}_user"
    table = feature_sources[name].make(stage, slot).table
    column = slice(2, 3) if slot == "user" else slice(None)
    user = events["user"].value_counts().index[0]
    own = events[events["user"] == user]
    new = table.of_new_user(RatedItems.of(dict(zip(own["item"], own["label"]))))
    torch.testing.assert_close(new[column], table.values[user, -1, column], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ("asof", "asof_frozen"))
def test_a_rate_as_of_time_counts_all_that_the_person_told(stage, name):
    table = feature_sources[name].make(stage, "user").table
    events = stage.dataset.events.query("split in ('context', 'train')")
    user = users_of(stage)[0]
    own = events[events["user"] == user]
    rated = RatedItems.of(dict(zip(own["item"], own["label"])))
    rows = Rows(np.array([user, -1]), np.zeros(2, int), np.zeros((2, 0)), timestamps=np.full(2, -1), rated=rated)
    known, new = table.of_rows(rows)[0]
    assert torch.equal(known, new)


SAY_NOTHING_OF_USERS = ("image", "genres", "content", "item_features")
NOT_TOLD_BY_LIKES = ("user_features",)  # an age; its test is in test_columns


@pytest.mark.parametrize(
    "name", [name for name in feature_sources if name not in (*SAY_NOTHING_OF_USERS, *NOT_TOLD_BY_LIKES)]
)
def test_every_source_of_features_of_users_says_how_a_new_user_is_folded_in(stage, tmp_path, name):
    cross = [f"{name}_user"] if name in feature_sources and hasattr(feature_sources[name], "feature") else ["user"]
    table = feature_sources[name].make(stage, cross[0]).table
    assert table.knows_new_users
    rated = RatedItems.of({item: item % 2 for item in stage.dataset.rows("train")["item"].unique()[:6]})
    rows = Rows(np.full(3, -1), np.arange(3), np.zeros((3, 0)), timestamps=np.full(3, -1), rated=rated)
    values, missing = table.of_rows(rows)
    assert not missing.any() and torch.isfinite(values).all() and values.abs().sum() > 0
    save_table(table, tmp_path / "table.safetensors")
    torch.testing.assert_close(load_table(tmp_path / "table.safetensors").of_rows(rows)[0], values)


READ_LIKES_ALONE = ("sasrec", "popularity", "popularity_recent", "itemknn", "ease", "itemknn_rows", "ease_rows")


@pytest.mark.parametrize("name", [*baselines])
def test_dislikes_alone_are_enough(stage, tmp_path, name):
    recommender = saved_and_loaded(stage, name, tmp_path)
    items = stage.dataset.rows("train")["item"].value_counts().index
    ids = stage.dataset.items["item_id"].to_numpy()
    nobody, grim = (
        recommender.rank_for_new_user(dislikes=ids[items[:count]], top=9999, among=ids[items[8:]])
        .set_index("item_id")["probability"]
        for count in (0, 8)
    )
    assert len(grim) == len(nobody) > 50
    if name in READ_LIKES_ALONE:
        assert grim.equals(nobody)
    else:
        assert grim.mean() < nobody.mean()


def test_the_rule_of_a_plugin_that_is_not_here_leaves_new_users_unknown(tmp_path):
    class Own(Rescaled):
        pass

    table = FeatureTable("own", "user", torch.ones(3, 1, 2), torch.zeros(3, dtype=torch.bool))
    table = replace(table, fold_in=Own(None, np.zeros(2), np.ones(2)))
    from userllm.model.fold_in import fold_ins

    fold_ins["Own"] = Own
    save_table(table, tmp_path / "own.safetensors")
    assert load_table(tmp_path / "own.safetensors").knows_new_users
    del fold_ins["Own"]
    assert not load_table(tmp_path / "own.safetensors").knows_new_users


def planted_dislikes():
    "Two kinds of items and of users: each likes its own kind, so whoever dislikes one kind likes the other."
    made = planted_ratings(rows=3_600)
    draw = np.random.default_rng(0)

    def planted(table):
        same = (table["user"] % 2 == table["item"] % 2).to_numpy()
        return table.assign(label=np.where(draw.random(len(table)) < 0.1, ~same, same).astype("int8"))

    return replace(made, interactions=planted(made.interactions), events=planted(made.events))


@pytest.mark.parametrize("kind", (0, 1))
def test_where_only_dislikes_tell_the_other_kind_comes_first(kind):
    dataset = planted_dislikes()
    settings = MFSettings(dimensions=8, learning_rate=1e-2, batch_size=256, patience=5, bias=True)
    factors = train_mf(dataset, settings, progress=False)
    content = np.random.default_rng(1).normal(0, 0.3, (80, 4))
    content[:, 0] += np.where(np.arange(80) % 2, 1, -1)
    taste = affinity("content_affinity", dataset, content)
    disliked = RatedItems.of(dict.fromkeys(range(kind, 10, 2), 0))
    others = np.arange(10, 79)
    rows = Rows(np.full(69, -1), others, np.zeros((69, 0)), rated=disliked)
    wanted = others % 2 != kind
    for name, scores in (("mf_bias", factors.logits(rows)), ("content", taste.of_rows(rows).numpy())):
        assert auc(wanted, scores) > 0.9, name
    nobody = replace(rows, rated=None)
    assert 0.3 < auc(wanted, factors.logits(nobody)) < 0.7
