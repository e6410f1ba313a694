"""Many rows: folders of pairs to folders of scores, with faults of rows, workers, drivers and disks."""

import numpy as np
import pandas as pd
import pytest

from many_rows import command, dataset, ended, finished, parts, save_recommender, write_pairs


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    "A recommender, and pairs with the scores that it gives them one by one."
    place = tmp_path_factory.mktemp("many")
    save_recommender(place)
    write_pairs(place / "pairs", 2_000)
    return place


@pytest.fixture(scope="module")
def expected(place) -> pd.DataFrame:
    "The pairs that can be scored, with the scores of `Recommender.score`."
    from userllm.model.recommender import Recommender

    pairs = pd.concat(
        [pd.read_parquet(path) for path in sorted((place / "pairs").iterdir())], ignore_index=True
    )
    good = pairs["user_id"].str.startswith("u") & pairs["item_id"].str.startswith("i")
    scores = Recommender.load(place / "recommender", device="cpu").score(pairs[good])
    return scores.set_index(np.flatnonzero(good))


def same(out, expected) -> None:
    "All rows once, with the same scores."
    scored = parts(out)
    assert scored.index.tolist() == expected.index.tolist()
    for name in ("user_id", "item_id", "timestamp"):
        assert scored[name].tolist() == expected[name].tolist()
    assert np.abs(scored["logit"] - expected["logit"]).max() < 1e-5
    faults = pd.read_parquet(out / "faults.parquet")
    assert faults[["row", "fault"]].values.tolist() == [[3, "unknown user_id"], [1_000, "unknown item_id"]]
    counts = finished(out)
    assert counts["rows"] == counts["done"] + sum(counts["faults"].values()) == 2_000
    left = {path.name for path in out.iterdir() if not path.name.startswith("part-")}
    assert left == {"request.json", "faults.parquet"}


def score(place, out, *words, **environment):
    return command(
        "score",
        place / "recommender",
        "--device",
        "cpu",
        "--pairs",
        place / "pairs",
        "--out",
        out,
        *words,
        **environment,
    )


def test_a_folder_of_pairs_becomes_a_folder_of_scores(place, expected, tmp_path):
    output = ended(score(place, tmp_path / "scores", "--shard-rows", "300"))
    assert "2,000 rows in, 1,998 scored, 2 faults; 7 parts" in output
    same(tmp_path / "scores", expected)


def test_a_title_of_a_megabyte_is_set_aside_and_named(tmp_path):
    data = dataset()
    data.items.loc[5, "title"] = "long " * 200_000
    save_recommender(tmp_path, data, title=10**9)
    pairs = pd.DataFrame({"user_id": ["u1", "u2", "u3"], "item_id": ["i4", "i5", "i6"]})
    pairs.to_parquet(tmp_path / "pairs.parquet")
    out = tmp_path / "scores"
    output = ended(
        command(
            "score",
            tmp_path / "recommender",
            "--pairs",
            tmp_path / "pairs.parquet",
            "--out",
            out,
            "--device",
            "cpu",
        )
    )
    assert "3 rows in, 2 scored, 1 fault;" in output
    faults = pd.read_parquet(out / "faults.parquet")
    assert faults[["row", "user_id", "item_id"]].values.tolist() == [[1, "u2", "i5"]]
    assert "the longest prompt has" in faults["fault"][0]
    assert parts(out)["item_id"].tolist() == ["i4", "i6"]
