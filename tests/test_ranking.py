"""List metrics against trec_eval on random tables, and a metric of one's own in one place."""

import numpy as np
import pandas as pd
import pytest

from userllm.cli.main import main
from userllm.core.files import read_parquet
from userllm.evaluation.list_scores import scored_lists
from userllm.evaluation.ranking import (
    ListMetric,
    average_precision,
    evaluate_lists,
    hit_rate,
    list_difference_table,
    list_differences,
    list_metrics,
    list_table,
    list_table_text,
    lists_of,
    mean_over_lists,
    ndcg,
    precision,
    recall,
    reciprocal_rank,
)
from userllm.model.recommender import Recommender

# ours -> trec_eval's, which has no cut for the reciprocal rank: it is given lists that end at k
TREC_EVAL = {
    "ndcg": (ndcg, "ndcg_cut_{k}"),
    "recall": (recall, "recall_{k}"),
    "precision": (precision, "P_{k}"),
    "hit": (hit_rate, "success_{k}"),
    "map": (average_precision, "map_cut_{k}"),
    "mrr": (reciprocal_rank, "recip_rank"),
}


def random_table(seed: int, grades: int) -> pd.DataFrame:
    "Lists of 1 to 40 candidates in random order, without ties; some have no relevant one."
    random = np.random.default_rng(seed)
    parts = []
    for user in range(60):
        length = random.integers(1, 41)
        label = random.integers(0, grades + 1, length) * (random.random(length) < 0.3)
        parts.append(pd.DataFrame({"user_id": f"u{user}", "label": label, "logit": random.permutation(length)}))
    table = pd.concat(parts, ignore_index=True)
    table["item_id"] = "i" + table.groupby("user_id").cumcount().astype(str)
    return table.sample(frac=1, random_state=seed)


def by_trec_eval(table: pd.DataFrame, k: int) -> pd.DataFrame:
    "Its values by user. Its gain is the grade itself, so it is given 2^grade - 1."
    pytrec_eval = pytest.importorskip("pytrec_eval", reason="pytrec_eval-terrier is not installed: make setup")
    grades, scores = ({}, {})
    for row in table.itertuples():
        grades.setdefault(row.user_id, {})[row.item_id] = int(2**row.label - 1)
    for user, part in table.groupby("user_id"):
        scores[user] = part.nlargest(k, "logit").set_index("item_id")["logit"].astype(float).to_dict()
    measures = {measure.format(k=k).rsplit("_", 1)[0] + f".{k}" for _, measure in TREC_EVAL.values()}
    measures = {name for name in measures if not name.startswith("recip")} | {"recip_rank"}
    values = pytrec_eval.RelevanceEvaluator(grades, measures).evaluate(scores)
    return pd.DataFrame.from_dict(values, orient="index")


@pytest.mark.parametrize("grades", [1, 4])
@pytest.mark.parametrize("k", [1, 3, 10, 100])
def test_list_metrics_agree_with_trec_eval(k, grades):
    for seed in range(3):
        table = random_table(seed, grades)
        theirs = by_trec_eval(table, k)
        users = table["user_id"].drop_duplicates().to_numpy()  # in the order of the lists
        lists = lists_of(table)
        relevant = table.groupby("user_id")["label"].max().loc[users].to_numpy() > 0
        assert 0 < relevant.sum() < len(users)
        for name, (measure, their_name) in TREC_EVAL.items():
            ours = measure(lists, k)
            expected = theirs.loc[users, their_name.format(k=k)].to_numpy()
            assert np.isnan(ours[~relevant]).all(), name
            np.testing.assert_allclose(ours[relevant], expected[relevant], rtol=0, atol=1e-9, err_msg=name)
        evaluation = evaluate_lists(lists, k, resamples=0)
        assert evaluation["lists_counted"] == relevant.sum() and evaluation["lists"] == len(users)
        their_mean = theirs.loc[users, f"ndcg_cut_{k}"].to_numpy()[relevant].mean()
        assert evaluation[f"ndcg@{k}"]["value"] == pytest.approx(their_mean, abs=1e-9)


def test_the_order_of_items_does_not_matter_to_ties():
    table = random_table(0, 4).assign(logit=lambda rows: rows["logit"] // 7)
    backwards = table[::-1]
    for measure, _ in TREC_EVAL.values():
        users = [part["user_id"].drop_duplicates().to_numpy() for part in (table, backwards)]
        first, second = (
            pd.Series(measure(lists_of(part), 5), names) for part, names in zip((table, backwards), users)
        )
        np.testing.assert_allclose(second.loc[users[0]], first, atol=1e-12)


@pytest.fixture
def toy():
    "The share of lists whose first item is irrelevant: fewer is better."
    measure = lambda lists, k: mean_over_lists(lists, 1 - precision(lists, 1))
    metric = ListMetric("toy", "wrong first", measure, False, main=True, compared=True)
    yield list_metrics.register(metric)
    list_metrics.pop("toy")


def test_a_list_metric_of_ones_own_is_measured_compared_and_shown(toy):
    lists = lists_of(random_table(0, 1))
    systems = {"right": lists, "wrong": lists.with_scores(-lists.relevance)}
    evaluations = {name: evaluate_lists(each, 5, 50) for name, each in systems.items()}
    assert evaluations["wrong"]["toy@5"]["value"] > evaluations["right"]["toy@5"]["value"] > 0
    assert "wrong first@5" in list_table_text(list_table(evaluations, 5))
    table = list_difference_table(list_differences(systems, "right", 5, 50), "right")
    assert "wrong first@5" in list_table_text(table) and table["wrong first@5"][0] > 0


def test_without_it_nothing_is_left_of_it():
    known = ["ndcg", "recall", "precision", "hit", "mrr", "map", "coverage", "gini", "popularity", "novelty"]
    assert list(list_metrics) == known


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    "Runs of baselines on few ratings, as the command line leaves them."
    home = tmp_path_factory.mktemp("lists")
    for name in ("popularity", "popularity_recent", "itemknn", "ease"):
        assert main(["train", name, "--preset", "smoke", "--out", str(home / name)]) == 0
    return home


def test_baselines_for_lists_are_scored_by_pairs_too(runs):
    for name in ("popularity", "popularity_recent", "itemknn", "ease"):
        predictions = read_parquet(runs / name / "predictions.parquet")
        assert predictions["logit"].nunique() > 10 and np.isfinite(predictions["logit"]).all()


def test_evaluate_compares_lists(runs, capsys):
    arguments = ["evaluate", *(str(runs / name) for name in ("popularity", "ease", "itemknn")), "--ranking"]
    assert main([*arguments, "--k", "5", "20"]) == 0
    printed = capsys.readouterr().out
    for words in ("nDCG@5", "recall@20", "coverage@20", "candidates each on average (full)", "p nDCG@5"):
        assert words in printed
    assert "Krichene" not in printed
    recommenders = {name: Recommender.load(runs / name) for name in ("popularity", "ease")}
    _, scored = scored_lists(recommenders)
    value = evaluate_lists(scored["ease"], 5, 0)["ndcg@5"]["value"]
    assert f"{value:.4f} [" in printed
    kept = [*(runs / "ease" / "lists").iterdir()]
    assert len(kept) == 1
    before = kept[0].stat().st_mtime_ns
    assert main([*arguments, "--lists", "sampled"]) == 0
    assert "Krichene and Rendle 2020" in capsys.readouterr().out
    assert kept[0].stat().st_mtime_ns == before  # what is there is read


def test_bad_input_is_one_line_each(runs, capsys):
    run = str(runs / "ease")
    assert main(["evaluate", run, "--ranking", "--k", "0"]) != 0
    assert "k is 0" in capsys.readouterr().err
    assert main(["evaluate", run, "--k", "5"]) != 0
    assert "add --ranking" in capsys.readouterr().err


def test_likes_of_a_new_user_fold_in(runs):
    ease = Recommender.load(runs / "ease")
    ids = ease.dataset.items["item_id"].tolist()
    liked = ids[ease.dataset.events.query("label == 1 and split == 'train'")["item"].mode()[0]]
    with_like = ease.rank_for_new_user([liked], top=5)
    without = ease.rank_for_new_user([], top=5)
    assert with_like["probability"].nunique() > 1 and without["probability"].nunique() == 1
    user = ease.dataset.users["user_id"].iloc[0]
    assert len(ease.rank(user, top=5)) == 5
