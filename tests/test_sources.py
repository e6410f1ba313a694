"""A data source of a person's own is registered in one place, and everything else finds it."""

from dataclasses import replace
from unittest import mock

import pandas as pd
import pytest

from userllm.cli.main import main
from userllm.core.errors import InputError
from userllm.data.datasets import poster_manifest
from userllm.data.dataset import Dataset
from userllm.data.nouns import ItemNoun
from userllm.data.sources import EVERY_ROW, Option, Source, sources
from userllm.data.sources_movielens import movielens_small
from userllm.visual.posters import read_poster_manifest, tmdb_pictures


def read_toys(options):
    "The first ratings of MovieLens, as if they were of toys."
    raw = movielens_small(options["cache"])
    ratings = raw.ratings[: options["rows"] or 3_000]
    return replace(raw, ratings=ratings, name="toys", noun=ItemNoun("toy"), movielens_ids=False)


TOYS = Source(
    "toys",
    "ratings of toys",
    read_toys,
    (Option("rows", "how many ratings are read", "N", int),),
    EVERY_ROW | {"like_threshold": 3.5, "history_length": 4},
)


@pytest.fixture
def toys():
    with mock.patch.dict(sources):
        sources.register(TOYS)
        yield TOYS


def test_help_lists_it_with_its_options(toys, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["prepare", "--help"])
    assert ended.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "toys: ratings of toys" in text and "toys: how many ratings are read" in text
    assert "default 2.5, for netflix 4, for toys 3.5" in text


def test_it_is_read_and_prepared(toys, capsys, tmp_path):
    assert main(["prepare", "toys", "--rows", "4000", "--out", str(tmp_path / "kept"), "--device", "cpu"]) == 0
    assert "Will the user like the toy?" in capsys.readouterr().out
    dataset = Dataset.load(tmp_path / "kept")
    assert dataset.protocol["name"] == "toys" and dataset.protocol["history_length"] == 4
    assert dataset.protocol["like_threshold"] == 3.5 and dataset.noun.many == "toys"


def test_its_options_are_its_own(toys, capsys):
    assert main(["prepare", "movielens", "--rows", "9", "--device", "cpu"]) == 2
    assert "--rows is for prepare toys" in capsys.readouterr().err
    assert main(["prepare", "toys", "--overviews", "--device", "cpu"]) == 2
    assert "--overviews is for prepare movies" in capsys.readouterr().err


def test_a_name_is_given_once(toys):
    with pytest.raises(InputError, match="a data source named 'table' exists already"):
        sources.register(replace(TOYS, name="table"))


def test_the_posters_that_a_source_names_can_be_fetched(tmp_path):
    (tmp_path / "own.jpg").write_bytes(b"a picture")
    items = pd.DataFrame({"item_id": list("abc"), "poster": ["HTTPS://x.example/a.jpg", "/b.jpg", "own.jpg"]})
    poster_manifest(items, tmp_path)[0].to_csv(tmp_path / "posters.csv", index=False)
    urls = read_poster_manifest(tmp_path / "posters.csv")["url"]
    assert urls.tolist() == ["HTTPS://x.example/a.jpg", f"{tmdb_pictures}/b.jpg", ""]
