"""Implicit feedback: purchases alone are prepared, trained on and measured by lists."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from userllm.cli.main import main
from userllm.collaborative.as_of_time import as_of_tables
from userllm.collaborative.cross_features import item_cf
from userllm.collaborative.list_models import like_matrix
from userllm.collaborative.mf import MFSettings, train_mf
from userllm.collaborative.lightgcn import LightGCNSettings, train_lightgcn
from userllm.collaborative.target_encoding import target_encodings
from userllm.core.errors import InputError
from userllm.core.files import read_json
from userllm.data.dataset import Dataset
from userllm.data.drawn_negatives import draw_counts, with_drawn_negatives
from userllm.data.histories import Histories
from userllm.data.leakage import audit
from userllm.data.lists import ListProtocol, candidate_lists
from userllm.data.past_counts import PastCounts
from userllm.data.prepared import prepare

USERS = 40
ITEMS = 30


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    "Purchases of customers who buy of one half of the goods, ratings of the same, and a prepared dataset."
    folder = tmp_path_factory.mktemp("shop")
    random = np.random.default_rng(0)
    user = np.repeat(np.arange(USERS), 14)
    item = np.concatenate(
        [random.permutation(ITEMS // 2)[:12] * 2 + number % 2 for number in range(USERS)]
    ).reshape(USERS, 12)
    item = np.concatenate([item, random.integers(0, ITEMS, (USERS, 2))], 1).ravel()
    # days on which several things were bought
    day = np.sort(random.integers(0, 60, (USERS, 14)), 1).ravel()
    rows = pd.DataFrame({"user_id": user, "item_id": item, "timestamp": 10**9 + day * 86_400})
    rows.to_csv(folder / "bought.csv", index=False)
    rows.drop_duplicates(["user_id", "item_id"]).assign(rating=5).to_csv(folder / "rated.csv", index=False)
    goods = pd.DataFrame({"item_id": range(ITEMS), "title": [f"Thing {number}" for number in range(ITEMS)]})
    goods.assign(genres=np.where(goods["item_id"] % 2, "odd", "even")).to_csv(folder / "goods.csv", index=False)
    assert prepared(folder, "bought", "--out", f"{folder}/data") == 0
    return folder


def prepared(folder, name, *further, implicit=("--implicit", "--negatives", "2")):
    files = ["--interactions", f"{folder}/{name}.csv", "--items", f"{folder}/goods.csv"]
    return main(["prepare", "table", *files, "--split", "temporal_user", *implicit, *further])


def test_prepare_says_what_is_drawn_and_what_is_left_out(shop, capsys):
    assert prepared(shop, "bought") == 0
    said = capsys.readouterr().out
    bought = pd.read_csv(shop / "bought.csv")
    repeats = int(bought.duplicated(["user_id", "item_id"]).sum())
    assert repeats and f"bought.csv: {repeats:,} rows left out" in said
    assert "negatives are drawn (2 a like, uniform, data seed 0)" in said and "--ranking" in said
    data = Dataset.load(shop / "data")
    assert data.events["label"].all() and audit(data).total == 0
    assert len(data.events) == len(bought) - repeats


def test_data_that_are_not_implicit_are_refused(shop, capsys):
    for name, implicit, words in (
        ("rated", ("--implicit",), "a column of ratings, and with --implicit every row is a like"),
        ("bought", (), "where every row is a like, such as a purchase: --implicit"),
        ("rated", ("--like-threshold", "3", "--negatives", "2"), "--negatives says how negatives are drawn"),
        ("bought", ("--implicit", "--negatives", "0"), "drawn_negatives is 0"),
        ("bought", ("--implicit", "--negative-sampling", "mood"), "'mood' of drawing negatives"),
    ):
        assert prepared(shop, name, implicit=implicit) == 2
        assert words in " ".join(capsys.readouterr().err.split())


def test_ratings_from_a_threshold_on_are_the_same_purchases(shop, capsys):
    liked = ("--implicit", "--negatives", "2", "--like-threshold", "4")
    assert prepared(shop, "rated", "--out", f"{shop}/rated_data", implicit=liked) == 0
    assert "0 of" in capsys.readouterr().out
    ours, theirs = (Dataset.load(shop / name) for name in ("data", "rated_data"))
    pd.testing.assert_frame_equal(ours.interactions, theirs.interactions)


def test_fewer_items_than_negatives_wanted_are_drawn_and_counted(shop, capsys):
    assert prepared(shop, "bought", "--out", f"{shop}/many", implicit=("--implicit", "--negatives", "20")) == 0
    counts = draw_counts(Dataset.load(shop / "many"))
    missing = int((counts["wanted"] - counts["drawn"]).sum())
    assert missing > 0 and f"{missing:,} negatives fewer than wanted" in capsys.readouterr().out
    assert audit(Dataset.load(shop / "many")).total == 0


def test_drawn_negatives_count_for_nothing_but_examples(shop):
    data = Dataset.load(shop / "data")
    other = with_drawn_negatives(replace(data, protocol=data.protocol | {"data_seed": 7}))
    plain = data.without_drawn
    assert not data.interactions.equals(other.interactions)
    for side in ("user", "item"):
        counts = [PastCounts.of(each, side) for each in (data, other, plain)]
        assert all(np.array_equal(counts[0].likes, each.likes) for each in counts)
        assert all(np.array_equal(counts[0].latest, each.latest) for each in counts)
        assert (counts[0].latest[:, 0] == counts[0].latest[:, 1]).all()  # all events are likes
    rated = [Histories.for_dataset(each, likes_only=False) for each in (data, other)]
    assert all(np.array_equal(getattr(rated[0], part), getattr(rated[1], part)) for part in ("items", "labels"))
    assert (rated[0].labels == 1).all()
    assert (like_matrix(data) != like_matrix(other)).nnz == 0
    tables = [target_encodings(each).item_table.values[:, -1, 0] for each in (data, other, plain)]
    assert (tables[0] == tables[1]).all() and (tables[0] == tables[2]).all()
    past = [as_of_tables(each)["item"].past for each in (data, other)]
    assert np.array_equal(past[0].likes, past[1].likes)
    vectors = [item_cf(each).item_table.values[:, -1].abs() for each in (data, other)]
    assert np.allclose(*vectors, atol=1e-5)  # signs of principal components aside
    for split in ("valid", "test"):
        lists = [candidate_lists(each, ListProtocol(split=split)) for each in (data, other, plain)]
        assert all(np.array_equal(lists[0].items, each.items) for each in lists)
        assert all(np.array_equal(lists[0].relevance, each.relevance) for each in lists)
    with pytest.raises(InputError, match="implicit feedback has no rated items"):
        candidate_lists(data, ListProtocol("rated"))


def test_a_share_of_the_training_rows_draws_for_its_own_likes(shop):
    whole = prepare(dataset=Dataset.load(shop / "data"))
    half = whole.with_training_share(0.5).dataset
    assert half.protocol["training_share"] == 0.5 and audit(half).total == 0
    likes = [len(data.without_drawn.rows("train")) for data in (whole.dataset, half)]
    assert likes[1] == likes[0] // 2
    for split in ("valid", "test"):
        assert half.rows(split).to_numpy().tolist() == whole.dataset.rows(split).to_numpy().tolist()


@pytest.mark.parametrize("loss", ["bce", "bpr", "softmax"])
@pytest.mark.parametrize("train, settings", [(train_mf, MFSettings), (train_lightgcn, LightGCNSettings)])
def test_each_loss_learns_whose_goods_are_whose(shop, loss, train, settings):
    data = Dataset.load(shop / "data")
    chosen = settings(loss=loss, dimensions=8, epochs=40, patience=40, learning_rate=3e-2, batch_size=256)
    model = train(data, chosen, progress=False)
    logits = model.item_logits(np.arange(len(data.users)))
    side = np.array([int(name) % 2 for name in data.users["user_id"]])
    goods = np.array([int(name) % 2 for name in data.items["item_id"]])
    own = side[:, None] == goods
    assert logits[own].mean() > logits[~own].mean()
    curve = [record["validation_ndcg@10"] for record in model.history]
    assert model.best_epoch == 1 + int(np.argmax(curve))  # lists decide, whatever the AUC
    assert train(data, chosen, progress=False).history == model.history


def test_of_all_losses_the_one_with_the_best_validation_lists_is_kept(shop):
    data = Dataset.load(shop / "data")
    settings = MFSettings(dimensions=8, epochs=30, patience=30, learning_rate=3e-2, batch_size=256)
    losses = ("bce", "bpr", "softmax")
    alone = {loss: train_mf(data, replace(settings, loss=loss), progress=False) for loss in losses}
    tried = {loss: max(line["validation_ndcg@10"] for line in model.history) for loss, model in alone.items()}
    model = train_mf(data, settings, progress=False)
    assert model.tried == {loss: round(quality, 4) for loss, quality in tried.items()}
    assert model.history == alone[max(tried, key=tried.get)].history


def test_a_loss_of_lists_is_refused_for_labels(shop):
    data = Dataset.load(shop / "data")
    protocol = {name: value for name, value in data.protocol.items() if name != "implicit"}
    labelled = replace(data, protocol=protocol)
    with pytest.raises(InputError, match="the loss bpr draws negatives"):
        train_mf(labelled, MFSettings(loss="bpr"), progress=False)
    with pytest.raises(InputError, match="loss 'hinge' does not exist"):
        MFSettings(loss="hinge")


@pytest.mark.parametrize("name", ["popularity", "itemknn", "ease", "mf", "lightgcn", "logistic", "trees"])
def test_baselines_train_and_print_their_lists(shop, capsys, name):
    settings = {
        "mf": ["mf.epochs=3"],
        "lightgcn": ["lightgcn.epochs=3"],
        "logistic": ["mf.epochs=3"],
        "trees": ["mf.epochs=3"],
    }
    changed = [word for text in settings.get(name, ()) for word in ("--set", text)]
    folder = shop / name
    assert main(["train", name, "--data", f"{shop}/data", "--out", f"{folder}", *changed]) == 0
    said = capsys.readouterr().out
    assert "Negatives are drawn (2 a like, uniform, data seed 0)" in said
    assert "nDCG@10" in said and "full" in said
    assert ("chosen by nDCG@10 of validation lists: bce" in said) == (name in ("mf", "lightgcn"))
    assert read_json(folder / "metrics.json")["leaks"] == 0
    if name == "popularity":
        assert main(["evaluate", f"{folder}"]) == 0
        assert "negatives are drawn" in capsys.readouterr().out
