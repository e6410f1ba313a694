"""Readers and histories against a slow and obvious reference, on tables that hypothesis makes up."""

import ast
import csv
import gzip
import io
import math
import os
import re
import subprocess
import sys
from unittest import mock

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from userllm.core.errors import InputError
from userllm.cli.main import main
from userllm.data.columns import read_columns
from userllm.data.dataset import Dataset, planted_dataset, SPLIT_KINDS, SPLITS, TIMED_KINDS
from userllm.data.histories import Histories
from userllm.data.leakage import audit
from userllm.data.building import dataset_with_split
from userllm.data.splits import split_kind
from userllm.evaluation.reports import format_table
from userllm.data.sources_movielens import display_title
from userllm.data.sources_movies import movies_metadata
from userllm.data.sources_netflix import netflix_titles, read_netflix
from userllm.data.sources_recbole import read_recbole
from userllm.data.cells import NO_VALUE
from userllm.data.interaction_tables import check_interactions, read_interactions
from userllm.data.pair_tables import read_pairs
from userllm.data.user_tables import read_table

NOW = 1_000
quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
# Text as people write it into cells; surrogates cannot be written as UTF-8, and a NUL ends a
# line for some readers. Invisible characters (Cf) are not allowed in an id.
words = st.text(st.characters(exclude_categories=["Cs", "Cc", "Cf"]), min_size=1, max_size=6)
ids = words.map(str.strip).filter(lambda text: text and text not in NO_VALUE)
splits = st.sampled_from([*SPLITS, "context"])


def write_csv(path, header, rows):
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerow(header)
        writer.writerows(rows)
    return path


@quick
@given(pairs=st.lists(st.tuples(ids, ids), min_size=1, max_size=8, unique=True), data=st.data())
def test_what_is_written_is_read(tmp_path, pairs, data):
    rows = [
        (*pair, data.draw(st.integers(0, NOW)), data.draw(st.integers(-4, 10)) / 2, data.draw(splits))
        for pair in pairs
    ]
    items = list(dict.fromkeys(item for _, item in pairs))
    header = ["user_id", "item_id", "timestamp", "rating", "split"]
    order = data.draw(st.permutations(range(5)))
    blank = st.sampled_from(["", " ", "\t", "\u3000"])  # around a cell it is no part of an id or a title
    around = [data.draw(blank) for _ in range(2)]
    write_csv(
        tmp_path / "rows.csv",
        [data.draw(blank) + header[place] for place in order],
        [
            [row[place] if place in (2, 3) else str(row[place]).join(around) for place in order]
            for row in rows
        ],
    )
    titles = [data.draw(ids) for _ in items]
    write_csv(
        tmp_path / "items.csv",
        ["title", "item_id"],
        [(title.join(around), item) for title, item in zip(titles, items)],
    )
    with mock.patch("userllm.data.columns._PORTION", data.draw(st.sampled_from([1, 3, 1_000]))):
        raw = read_table(tmp_path / "rows.csv", tmp_path / "items.csv", now=NOW)
    assert [
        tuple(row)
        for row in raw.ratings[["user_id", "item_id", "timestamp", "rating", "split"]].itertuples(index=False)
    ] == rows
    assert raw.items[["item_id", "title"]].values.tolist() == [list(row) for row in zip(items, titles)]
    pl.DataFrame(rows, header, orient="row").write_parquet(tmp_path / "rows.parquet")
    again = read_table(tmp_path / "rows.parquet", tmp_path / "items.csv", now=NOW)
    pd.testing.assert_frame_equal(again.ratings, raw.ratings)


cells = {
    "user_id": st.sampled_from(["1", "2", "NA", ""]),
    "item_id": st.sampled_from(["a", " b", "b", ""]),
    "timestamp": st.sampled_from(["0", "5", "7.0", "7.5", "-1", "90000000", "soon", "nan", "inf", ""]),
    "label": st.sampled_from(["0", "1", "1.0", "2", "nan", "yes", ""]),
    "split": st.sampled_from([*SPLITS, "context", "dev", "Train", ""]),
}


def number(text):
    try:
        return float(text)
    except ValueError:
        return None


def slow_faults(rows) -> set:
    "Row and column of every fault, looked at cell by cell."
    found, seen = set(), set()
    for place, row in enumerate(rows, 1):
        when, label = number(row["timestamp"]), number(row["label"])
        found |= {(place, column) for column in ("user_id", "item_id") if row[column] in ("", "NA")}
        if when is None or not math.isfinite(when) or when < 0 or when != int(when) or when > NOW + 86_400:
            found.add((place, "timestamp"))
        if label not in (0, 1):
            found.add((place, "label"))
        if row["split"] not in (*SPLITS, "context"):
            found.add((place, "split"))
        pair = (row["user_id"], row["item_id"].strip())
        if pair in seen and not {"", "NA"} & set(pair):
            found.add((place, "user_id"))
        seen.add(pair)
    return found


@quick
@given(rows=st.lists(st.fixed_dictionaries(cells), min_size=1, max_size=4))
def test_every_fault_is_found_and_nothing_else(tmp_path, rows):
    # The further column keeps a row of empty cells from being an empty line.
    path = write_csv(
        tmp_path / "rows.csv", [*cells, "more"], [[*(row[name] for name in cells), "x"] for row in rows]
    )
    table = pl.read_csv(path, infer_schema=False).drop("more").with_row_index("row", offset=1)
    table = table.with_columns(pl.when(pl.col(name) != "").then(pl.col(name)) for name in cells)
    _, faults = check_interactions(table, "rows.csv", now=NOW)
    shown = {(fault.row, fault.column) for fault in faults if fault.row is not None}
    wanted = slow_faults(rows)
    assert shown <= wanted
    assert {column for _, column in shown} == {column for _, column in wanted}
    if len(rows) <= 3:  # of one kind, three rows are shown
        assert shown == wanted
    whole = read_interactions(path, now=NOW)[3]
    assert {(fault.row, fault.column) for fault in whole if fault.row is not None} == shown
    with mock.patch("userllm.data.columns._PORTION", 1):  # however the rows are portioned, the same is told
        assert read_interactions(path, now=NOW)[3] == whole


@quick
@given(content=st.binary(max_size=60))
def test_any_bytes_give_columns_or_one_error(tmp_path, content):
    (tmp_path / "x.csv").write_bytes(b"user_id,item_id,timestamp,label\n" + content)
    (tmp_path / "y.csv").write_text("item_id,title\n1,Ran\n", encoding="utf-8")
    try:
        read_table(tmp_path / "x.csv", tmp_path / "y.csv")
    except InputError as error:
        assert "x.csv" in str(error)


@quick
@given(content=st.binary(max_size=60))
def test_any_header_gives_columns_or_one_error(tmp_path, content):
    (tmp_path / "x.csv").write_bytes(content)
    try:
        read_columns(tmp_path / "x.csv", ("user_id",))
    except InputError as error:
        assert "x.csv" in str(error)


@quick
@given(
    titles=st.lists(
        st.tuples(
            st.one_of(st.none(), st.integers(1890, 2005)),
            st.text(st.characters(codec="latin-1", exclude_categories=["Cc", "Zs"]), min_size=1, max_size=8),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_netflix_titles(tmp_path, titles):
    lines = [f"{place},{year or 'NULL'},{title}\n" for place, (year, title) in enumerate(titles, 1)]
    content = "".join(lines).encode("latin-1")
    try:
        content.decode("utf-8")
        told = None if not content.isascii() else titles
    except UnicodeDecodeError:
        told = titles
    (tmp_path / "movie_titles.csv").write_bytes(content)
    if told:  # Latin-1 that happens to be UTF-8 is read as that
        assert netflix_titles(tmp_path / "movie_titles.csv").rows() == [
            (place, title, year) for place, (year, title) in enumerate(told, 1)
        ]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    movies=st.lists(
        st.tuples(
            st.integers(1, 9),
            st.lists(st.tuples(st.integers(1, 12), st.integers(1, 5), st.integers(1, 28)), max_size=4),
        ),
        min_size=1,
        max_size=4,
    ),
    block=st.integers(3, 60),
)
def test_netflix_ratings(tmp_path, movies, block):
    lines, wanted, twice, named = [], [], [], set()
    for movie, ratings in movies:
        lines.append(f"{movie}:")
        twice += [len(lines)] * (movie in named)
        named.add(movie)
        for place, (user, rating, day) in enumerate(ratings):
            lines.append(f"{user},{rating},1970-01-{day:02}")
            twice += [len(lines)] * (user in [earlier for earlier, _, _ in ratings[:place]])
            wanted.append((user, movie, rating, (day - 1) * 86_400))
    (tmp_path / "combined_data_1.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    try:
        found = read_netflix([tmp_path / "combined_data_1.txt"], tmp_path / "out.parquet", block)
    except InputError as error:
        told = [int(re.search(r", line (\d+): ", line)[1]) for line in str(error).splitlines()[:3]]
        assert told == twice[:3]
        return
    assert not twice and pl.read_parquet(found).rows() == wanted


# Parts of a sequence: a word, or several in quotes, neither with a quote at its ends.
plain = st.text("abc'-&", min_size=1, max_size=5).filter(lambda part: part.strip("'") == part)
quoted = st.text("abc ,&", min_size=1, max_size=6)
years = st.sampled_from(["", "1999", "1984.0", "V", "unkonwn", "1922-1930", "1999.5", "123456"])


def slow_year(text):
    return int(number(text)) if (number(text) or 0) % 1 == 0 and 0 < (number(text) or 0) < 10_000 else None


@quick
@given(
    items=st.lists(
        st.tuples(ids, ids, years, st.lists(st.tuples(st.booleans(), plain, quoted), max_size=3)),
        min_size=1,
        max_size=5,
        unique_by=lambda item: item[0],
    ),
    named=st.tuples(
        st.sampled_from(["item_id", "movie_id"]),
        st.sampled_from(["title", "movie_title"]),
        st.sampled_from(["year", "release_year"]),
        st.sampled_from(["genre", "class", "categories"]),
    ),
    parts=st.sampled_from([[None], ["train", "test"], [*SPLITS]]),
    data=st.data(),
)
def test_recbole(tmp_path, items, named, parts, data):
    for file in tmp_path.iterdir():
        file.unlink()
    kinds, order = (
        dict(zip(named, ("token", "token_seq", "token", "token_seq"))) | {"price": "float"},
        data.draw(st.permutations(range(5))),
    )
    lines, sequences = [[f"{name}:{kind}" for name, kind in kinds.items()]], []
    for item, title, year, genres in items:
        sequences.append(
            [name for several, word, quoted in genres if (name := quoted.strip() if several else word)]
        )
        lines.append(
            [
                item,
                title,
                year,
                (
                    data.draw(st.sampled_from([" ", ","])).join(f"'{name}'" for _, _, name in genres)
                    if all(several for several, _, _ in genres)
                    else " ".join(f'"{name}"' if several else word for several, word, name in genres)
                ),
                "3",
            ]
        )
    (tmp_path / "x.item").write_text(
        "".join("\t".join(line[place] for place in order) + "\n" for line in lines), encoding="utf-8"
    )
    wanted = []
    for split in parts:  # each user has rated each item at most once, and in one split
        rows = data.draw(
            st.lists(
                st.tuples(
                    ids,
                    st.sampled_from([item[0] for item in items]),
                    st.integers(-4, 10),
                    st.integers(0, NOW),
                ),
                min_size=1,
                max_size=4,
                unique_by=lambda row: row[:2],
            )
        )
        rows = [(f"{split}{user}", item, rating / 2, time) for user, item, rating, time in rows]
        text = "".join(f"{item}\t{rating}\t{user}\tx\t{time}\n" for user, item, rating, time in rows)
        (tmp_path / ("x.inter" if split is None else f"x.{split}.inter")).write_text(
            "item_id:token\trating:float\tuser_id:token\tmood:token\ttimestamp:float\n" + text,
            encoding="utf-8",
        )
        wanted += [row if split is None else (*row, split) for row in rows]
    raw = read_recbole(tmp_path, now=NOW)
    assert list(raw.ratings.itertuples(index=False, name=None)) == wanted
    found = [
        (film.item_id, film.title, None if pd.isna(film.year) else film.year, film.genres)
        for film in raw.items.itertuples()
    ]
    assert found == [
        (item, display_title(title), slow_year(year), "|".join(genres))
        for (item, title, year, _), genres in zip(items, sequences)
    ]
    unread = [year for _, _, year, _ in items if year and slow_year(year) is None]
    assert [note for note in raw.notes if "years" in note] == (
        [
            f"x.item: {len(unread)} years that are no numbers are taken for missing, the first in row "
            f"{next(place for place, item in enumerate(items, 1) if item[2] == unread[0])}, {unread[0]!r}"
        ]
        if unread
        else []
    )


metadata = {
    "id": st.sampled_from(["7", "8", " 9 ", "10.0", "1997-08-20", "x", "", "11"]),
    "title": st.sampled_from(["", "  ", "Ran", ' M, or "so" ']),
    "original_title": st.sampled_from(["", "Heat\nor not"]),
    "release_date": st.sampled_from(["1995-10-30", "", "1995", "10/30/1995", "1995-10-30 "]),
    "genres": st.sampled_from(
        [
            "[]",
            "[{'id': 1, 'name': 'Drama'}, {'id': 2, 'name': \"Children's\"}]",
            '[{"name": "War"}]',
            "",
            "Released",
            "[{'id': 1}]",
            "[1]",
        ]
    ),
    "overview": st.sampled_from(["", "No overview found.", "n/a", " Told. ", "No overviewer sleeps."]),
    "poster_path": st.sampled_from(["/a.jpg", "/b.jpg"]),
}


def slow_genres(text):
    "None where the text is no list of names."
    try:
        return "|".join(entry["name"] for entry in ast.literal_eval(text))
    except (ValueError, SyntaxError, TypeError, KeyError):
        return None


def slow_metadata(rows):
    """Row by row: the films, and how many rows are numberless, come again, have unreadable genres,
    say that there is no overview."""
    films, counts = {}, [0, 0, 0, 0]
    for row in rows:
        match = re.fullmatch(r"\d+(\.0)?", row["id"].strip())
        if not match or (tmdb := int(float(row["id"]))) in films:
            counts[1 if match else 0] += 1
            continue
        genres, silent = slow_genres(row["genres"]), row["overview"] in ("No overview found.", "n/a")
        counts[2] += bool(row["genres"]) and genres is None
        counts[3] += silent
        year = int(row["release_date"][:4]) if re.fullmatch(r"\d{4}-\d\d-\d\d", row["release_date"]) else None
        title = row["title"].strip() or row["original_title"].strip() or None
        films[tmdb] = (
            tmdb,
            title,
            year,
            genres or "",
            "" if silent else row["overview"].strip(),
            row["poster_path"],
        )
    return list(films.values()), counts


@quick
@given(
    rows=st.lists(st.fixed_dictionaries(metadata), min_size=1, max_size=7),
    order=st.permutations(list(metadata)),
)
def test_movies_metadata(tmp_path, rows, order):
    path = write_csv(
        tmp_path / "movies_metadata.csv",
        [*order, "adult"],
        [[*(row[name] for name in order), "False"] for row in rows],
    )
    films, notes = movies_metadata(path)
    wanted, counts = slow_metadata(rows)
    assert films.rows() == [
        (*film[:1], film[1] and film[1].replace("\n", " "), *film[2:]) for film in wanted
    ]  # a title stands in one line
    broken = sum("\n" in (film[1] or "") for film in wanted)
    what = [
        ("row", "rows", "without a number left out"),
        ("row", "rows", "of a number that came before left out"),
        ("row", "rows", "with unreadable genres"),
        ("overview that says", "overviews that say", "there is none left out"),
    ]
    counted = [(count, *words) for count, words in zip(counts, what) if count]
    left_out = [f"{count} {one if count == 1 else many} {why}" for count, one, many, why in counted]
    signs = (
        [
            f"movies_metadata.csv: blanks replace control characters (tabs and the like) in {broken} of"
            " the column title"
        ]
        if broken
        else []
    )
    assert notes == (
        f"movies_metadata.csv: {len(rows)} rows, {len(rows)} read",
        *(f"movies_metadata.csv: {note}" for note in left_out),
        *signs,
    )


def slow_history(events, row, allowed, likes_only, length):
    "Walk through all events; the row's item and what is not strictly earlier are left out."
    found = [
        item
        for item, _ in sorted(
            (
                (event.item, event.timestamp)
                for event in events.itertuples()
                if event.user == row.user
                and event.split in allowed
                and event.item != row.item
                and event.timestamp < row.timestamp
                and (event.label == 1 or not likes_only)
            ),
            key=lambda pair: (pair[1], pair[0]),
        )
    ]
    return found if length is None else found[max(len(found) - length, 0) :]


@quick
@given(
    seed=st.integers(0, 10**6),
    kind=st.sampled_from(SPLIT_KINDS),
    events=st.integers(1, 40),
    likes_only=st.booleans(),
    length=st.sampled_from([0, 1, 3, None]),
)
def test_histories(seed, kind, events, likes_only, length):
    data = planted_dataset(users=4, items=12, events=events, seconds=9, split=kind, seed=seed)
    rows = data.interactions
    allowed = ("context", *SPLITS) if kind in TIMED_KINDS else ("context", "train")
    picked, lengths = Histories.for_dataset(data, likes_only).pick(
        rows["user"], rows["timestamp"], rows["item"], length
    )
    for row, found, count in zip(rows.itertuples(), picked, lengths):
        assert found[:count].tolist() == slow_history(data.events, row, allowed, likes_only, length)


def slow_kind(rows, context_items):
    "Compare each pair of rows."
    order = {name: place for place, name in enumerate(SPLITS)}
    pairs = [(a, b) for a in rows for b in rows if order[a[2]] < order[b[2]]]
    if all(a[1] < b[1] for a, b in pairs):
        return "temporal"
    if all(a[1] < b[1] for a, b in pairs if a[0] == b[0]):
        return "temporal_user"
    held_out = {row[3] for row in rows if row[2] != "train"}
    apart = all(a[3] != b[3] for a, b in pairs) and not held_out & context_items
    return "cold_items" if apart else "random"


@quick
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 5), st.sampled_from(SPLITS), st.integers(0, 6)), max_size=7
    ),
    context_items=st.sets(st.integers(0, 6), max_size=2),
)
def test_kinds_of_split(rows, context_items):
    frame = pd.DataFrame(rows, columns=["user", "timestamp", "split", "item"])
    kind = split_kind(frame, np.array([*context_items], int))
    assert kind == slow_kind(rows, context_items)


@quick
@given(seed=st.integers(0, 10**6))
def test_a_given_split_keeps_every_row_and_leaks_nothing(seed):
    random = np.random.default_rng(seed)
    pairs = random.permutation(60)[:40]
    ratings = pd.DataFrame(
        {
            "user_id": pairs // 10,
            "item_id": pairs % 10,
            "rating": random.integers(1, 6, 40).astype(float),
            "timestamp": random.integers(0, 12, 40),
            "split": random.choice([*SPLITS, "context"], 40),
        }
    )
    items = pd.DataFrame({"item_id": range(10), "title": "Film", "year": None, "genres": ""})
    if any(ratings.loc[ratings["split"] == split, "rating"].ge(2.5).nunique() < 2 for split in SPLITS):
        with pytest.raises(InputError, match="the split"):
            dataset_with_split(ratings, items)
        return
    data = dataset_with_split(ratings, items)
    told = data.events.merge(data.users).merge(data.items)
    told = set(
        zip(
            told["user_id"].astype(int),
            told["item_id"].astype(int),
            told["timestamp"],
            told["split"],
            told["label"],
        )
    )
    assert told == set(
        zip(
            ratings["user_id"],
            ratings["item_id"],
            ratings["timestamp"],
            ratings["split"],
            (ratings["rating"] >= 2.5).astype(int),
        )
    )
    assert len(data.interactions) == (ratings["split"] != "context").sum() and audit(data).total == 0


@pytest.fixture
def tables(tmp_path):
    "A table with a split of its own, whose test rows have an unseen user, and an unseen item."
    random = np.random.default_rng(0)
    pairs = random.permutation(40 * 30)[:600]
    rows = pd.DataFrame(
        {
            "user_id": pairs // 30,
            "item_id": pairs % 30,
            "timestamp": random.integers(0, 10**6, 600),
            "label": random.integers(0, 2, 600),
            "mood": "good",
        }
    )
    rows["split"] = np.select(
        [rows["timestamp"] < 7 * 10**5, rows["timestamp"] < 8 * 10**5], SPLITS[:2], SPLITS[2]
    )
    cold = pd.DataFrame(
        {
            "user_id": [99, 3],
            "item_id": [3, 99],
            "timestamp": 10**6,
            "label": [1, 0],
            "mood": "bad",
            "split": "test",
        }
    )
    pd.concat([rows, cold]).to_csv(tmp_path / "rows.csv", index=False)
    pd.DataFrame(
        {
            "item_id": [*range(30), 99],
            "title": [f"Film {item}" for item in range(31)],
            "description": "A film.",
        }
    ).to_parquet(tmp_path / "items.parquet")
    return tmp_path


def test_large_tables_are_announced(tables, capsys, monkeypatch):
    arguments = [
        "prepare",
        "table",
        "--interactions",
        f"{tables}/rows.csv",
        "--items",
        f"{tables}/items.parquet",
    ]
    assert main(arguments) == 0 and capsys.readouterr().err == ""
    monkeypatch.setattr("userllm.cli.prepare.LARGE", 1)
    assert main(arguments) == 0 and "reading, checking and shaping 0 MB" in capsys.readouterr().err


def test_a_table_is_prepared_kept_and_trained_on(tables, capsys):
    arguments = [
        "prepare",
        "table",
        "--interactions",
        f"{tables}/rows.csv",
        "--items",
        f"{tables}/items.parquet",
        "--out",
        f"{tables}/data",
    ]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert (
        "ignored mood" in out
        and "Leaks counted: 0" in out
        and "Cold rows" in out
        and f"--data {tables}/data" in out
    )
    data = Dataset.load(tables / "data")
    assert (
        len(data.interactions) == 602
        and data.protocol["split"] == "temporal"
        and (data.items["description"] == "A film.").all()
    )
    assert main(["train", "bias", "--data", f"{tables}/data", "--out", f"{tables}/run"]) == 0
    cold = [line for line in capsys.readouterr().out.splitlines() if "test rows are cold" in line]
    assert main(["evaluate", f"{tables}/run"]) == 0 and f"bias: {cold[0]}\n" in capsys.readouterr().out
    predictions = pd.read_parquet(tables / "run" / "predictions.parquet")
    assert len(predictions) == len(data.rows("test")) and "99" in set(predictions["user_id"]) & set(
        predictions["item_id"]
    )
    assert main(["prepare", "--data", f"{tables}/data"]) == 0
    pd.read_csv(tables / "rows.csv").drop(columns="split").to_csv(
        tables / "rows.tsv.gz", sep="\t", index=False
    )  # the protocol splits it
    capsys.readouterr()
    assert (
        main(
            [
                "prepare",
                "table",
                "--interactions",
                f"{tables}/rows.tsv.gz",
                "--items",
                f"{tables}/items.parquet",
            ]
        )
        == 0
    )
    out = capsys.readouterr().out
    assert (
        "A like is a label of 1: " in out
        and "of the events that are kept are likes\n"
        "The events are of 1970-01-01 to 1970-01-12\nWhat each step left" in out
    )
    before = (tables / "data" / "interactions.parquet").read_bytes()  # of which the run above was made
    assert (
        main(
            [
                "prepare",
                "table",
                "--interactions",
                f"{tables}/rows.tsv.gz",
                "--items",
                f"{tables}/items.parquet",
                "--out",
                f"{tables}/data",
            ]
        )
        == 2
    )
    assert (
        "holds another dataset" in capsys.readouterr().err
        and (tables / "data" / "interactions.parquet").read_bytes() == before
    )


def test_a_reader_that_goes_away_takes_nothing_with_it(tables):
    files = ["--interactions", f"{tables}/rows.csv", "--items", f"{tables}/items.parquet"]
    words = ["prepare", "table", *files, "--out", f"{tables}/data"]
    code = f"import sys; from userllm.cli.entry import main; sys.exit(main({words!r}))"
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
    )
    child.stdout.close()  # as head does, once it has its lines
    said = child.stderr.read()
    assert (
        b"Traceback" not in said and b"its reader has closed the pipe" in said and child.wait() == 0
    )  # what was asked for is there
    assert len(Dataset.load(tables / "data").interactions) == 602


def test_a_column_of_a_strange_kind_does_not_hide_the_others(tmp_path):
    pl.DataFrame(
        {"item_id": [1, 2], "title": ["Ran", " "], "genres": [{"name": "Drama"}, {"name": "War"}]}
    ).write_parquet(tmp_path / "items.parquet")
    (tmp_path / "rows.csv").write_text("user_id,item_id,timestamp,label\n1,1,5,2\n", encoding="utf-8")
    with pytest.raises(InputError) as refused:
        read_table(tmp_path / "rows.csv", tmp_path / "items.parquet")
    assert all(
        words in str(refused.value)
        for words in ("column genres: is of type", "row 2, column title", "row 1, column label")
    )


def test_a_faulty_table_is_refused_with_all_its_faults(tables, capsys):
    rows = pd.read_csv(tables / "rows.csv", dtype=str)
    rows.loc[3, "label"], rows.loc[5, "timestamp"], rows.loc[7, "split"] = "nan", "never", "dev"
    rows.to_csv(tables / "rows.csv", index=False)
    assert (
        main(
            [
                "prepare",
                "table",
                "--interactions",
                f"{tables}/rows.csv",
                "--items",
                f"{tables}/items.parquet",
                "--out",
                f"{tables}/data",
            ]
        )
        == 2
    )
    error = capsys.readouterr().err
    assert error.startswith("userllm: 3 faults in rows.csv") and error.count("\n") == 5
    assert error.splitlines()[-1].startswith("  Fix: ")
    assert all(
        words in error
        for words in [
            "row 4, column label, value 'nan'",
            "row 6, column timestamp, value 'never'",
            "row 8, column split, value 'dev'",
        ]
    )
    assert not (tables / "data").exists()

    # Cells as people write them, and what makes readers disagree: quotes of both kinds, separators,
    # line ends, blanks.


odd = st.text("ab1 \"',;\t|é\n\r", max_size=5)
tame = st.text("ab1 \"'é", max_size=5)


def write_dialect(path, rows, separator, end, quoting, bom, encoding, final):
    "A table in some tool's writing; with `quoting` None nothing is quoted, whatever the cells hold."
    text = io.StringIO(newline="")
    if quoting is None:
        text.write("".join(separator.join(row) + end for row in rows))
    else:
        csv.writer(text, delimiter=separator, quoting=quoting, lineterminator=end).writerows(rows)
    written = text.getvalue() if final else text.getvalue().removesuffix(end)
    content = (b"\xef\xbb\xbf" if bom and encoding == "utf-8" else b"") + written.encode(encoding)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return written


def one_end(cell):
    return (cell or "").replace("\r\n", "\n").replace("\r", "\n")


def known_cells(records):
    "Row number and the first two cells of each record below the header that has one of them."
    padded = [
        (number, *(one_end(cell) for cell in [*record, "", ""][:2]))
        for number, record in enumerate(records[1:], 1)
    ]
    return [row for row in padded if row[1] or row[2]]


def slow_records(text, separator):
    """What Python's csv module reads; where no quote closes a cell nothing is quoted, and a quote is
    a sign like others."""
    if not re.search(rf'"({re.escape(separator)}|\r|\n|$)', text):
        return [
            line.split(separator)
            for line in re.split("\r\n|\n|\r", text.removesuffix("\n").removesuffix("\r"))
        ]
    return list(csv.reader(io.StringIO(text, newline=""), delimiter=separator))


@settings(quick, max_examples=300)
@given(
    data=st.data(),
    separator=st.sampled_from(",;\t|"),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    bom=st.booleans(),
    packed=st.booleans(),
    final=st.booleans(),
    quoting=st.sampled_from([None, csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    encoding=st.sampled_from(["utf-8", "utf-8", "utf-8", "latin-1"]),
)
def test_any_dialect_is_read_as_others_read_it_or_refused_with_its_line(
    tmp_path, data, separator, end, bom, packed, final, quoting, encoding
):
    cell = tame if quoting is None else odd
    rows = [
        ["one", "two", "more"],
        *data.draw(st.lists(st.lists(cell, min_size=3, max_size=3), min_size=1, max_size=6)),
    ]
    path = tmp_path / ("x.csv.gz" if packed else "x.csv")
    text = write_dialect(path, rows, separator, end, quoting, bom, encoding, final)
    with mock.patch("userllm.data.csv_bytes._PIECE", data.draw(st.sampled_from([1, 5, 2**20]))):
        try:
            table = read_columns(path, ("one", "two"))
            refusal = "\n".join(map(str, table.faults))
        except InputError as error:
            refusal = str(error)
    broken = (
        quoting is None and '"' in text or any("\r" in part or "\n" in part for row in rows for part in row)
    )
    foreign = encoding == "latin-1" and "é" in text
    if refusal:
        assert broken or foreign, refusal
        assert re.search(r"\b(row|line|lines) \d", refusal), refusal
        return
    assert not foreign
    records = slow_records(text, separator)
    found = [(number, one_end(one), one_end(two)) for number, one, two in table.frame.rows()]
    assert [row for row in found if row[1] or row[2]] == known_cells(records)
    assert (table.count.rows, table.count.read) == (len(records) - 1, len(table.frame))
    if (
        any(len(record) != 3 for record in records)
        or '"' in text
        and not re.search(rf'"({re.escape(separator)}|\r|\n|$)', text)
    ):
        return
    frame = pd.read_csv(
        path, sep=separator, dtype=str, keep_default_na=False, index_col=False, skip_blank_lines=False
    )
    assert known_cells([[], *frame.values.tolist()]) == known_cells(records)


def small_ratings():
    return [
        [
            str(user),
            str(100 + (user * 7 + step) % 40),
            str(1_200_000_000 + user * 1000 + step * 3600),
            str(1 + (user + step) % 5),
        ]
        for user in range(1, 31)
        for step in range(20)
    ]


def write_lines(path, rows, separator=",", end="\n", header=("user_id", "item_id", "timestamp", "rating")):
    path.write_bytes("".join(separator.join(row) + end for row in [header, *rows]).encode())


@pytest.fixture
def shop(tmp_path):
    write_lines(
        tmp_path / "films.csv",
        [[str(number), f"Film {number}"] for number in range(100, 140)],
        header=("item_id", "title"),
    )
    return tmp_path


def prepared(folder, name, capsys):
    code = main(["prepare", "table", "--interactions", f"{folder}/{name}", "--items", f"{folder}/films.csv"])
    return code, *capsys.readouterr()


def test_inch_signs_in_an_ignored_column_lose_no_row(shop, capsys):
    rows = [
        [*row, 'seen on a 5" screen' if number in (100, 300) else "fine"]
        for number, row in enumerate(small_ratings())
    ]
    write_lines(shop / "ratings.csv", rows, header=("user_id", "item_id", "timestamp", "rating", "remark"))
    films = [
        [str(number), f"Film {number}", 'a 5" tale' if number in (107, 120) else "fine"]
        for number in range(100, 140)
    ]
    write_lines(shop / "films.csv", films, header=("item_id", "title", "tagline"))
    code, out, _ = prepared(shop, "ratings.csv", capsys)
    assert code == 0 and "ratings.csv: 600 rows, 600 read\nfilms.csv: 40 rows, 40 read\n" in out
    raw = read_table(shop / "ratings.csv", shop / "films.csv")
    assert (
        raw.ratings[["user_id", "item_id"]].values.tolist() == [row[:2] for row in rows]
        and len(raw.items) == 40
    )
    pairs, count = read_pairs(shop / "ratings.csv")
    assert (len(pairs), str(count)) == (600, "ratings.csv: 600 rows, 600 read")


def test_ids_that_begin_with_a_quote_stay_apart(shop):
    rows = [[f'"Kim{user}' if user in ("3", "9") else user, *rest] for user, *rest in small_ratings()]
    write_lines(shop / "ratings.tsv", rows, "\t")
    assert read_table(shop / "ratings.tsv", shop / "films.csv").ratings["user_id"].tolist() == [
        row[0] for row in rows
    ]
    rows[0][1] = '"100"'  # now something is quoted, and nobody can tell what else is
    write_lines(shop / "ratings.tsv", rows, "\t")
    with pytest.raises(InputError, match="a quote that opens in line 42 and closes amid line 43"):
        read_table(shop / "ratings.tsv", shop / "films.csv")


def test_lone_carriage_returns_end_lines_and_are_not_echoed(shop, capsys):
    write_lines(shop / "ratings.csv", small_ratings(), end="\r")
    assert len(read_table(shop / "ratings.csv", shop / "films.csv").ratings) == 600
    text = (shop / "ratings.csv").read_text(encoding="utf-8")
    (shop / "ratings.csv").write_bytes(
        (text.replace("\n", "\r") + "1,100,5,4\n").encode()
    )  # both kinds of line end
    code, _, error = prepared(shop, "ratings.csv", capsys)
    assert code == 2 and len(error) < 1000 and "ratings.csv" in error


def test_a_file_without_a_header_is_told_so(shop, capsys):
    (shop / "u.data").write_text("196\t242\t3\t881250949\n186\t302\t3\t891717742\n", encoding="utf-8")
    (shop / "ratings.dat").write_text("1::1193::5::978300760\n", encoding="utf-8")
    for name, words in (("u.data", "u.data has no header"), ("ratings.dat", "with :: between its cells")):
        code, _, error = prepared(shop, name, capsys)
        assert code == 2 and words in error and error.count("\n") <= 3, error  # the last one: what to do


def test_what_a_terminal_would_obey_is_written_out(shop, capsys):
    write_lines(
        shop / "ratings.csv", [[f"\x1b[31m{user}" + "x" * 5000, *rest] for user, *rest in small_ratings()]
    )
    code, _, error = prepared(shop, "ratings.csv", capsys)
    assert (
        code == 2
        and "\x1b" not in error
        and r"\x1b[31m1xxx" in error
        and max(map(len, error.splitlines())) < 400
    )
    assert (
        "\x1b" not in format_table(pd.DataFrame({"title": ["\x1b[2J" + "A" * 5000]}))
        and len(format_table(pd.DataFrame({"title": ["A" * 5000]})).splitlines()[2]) == 100
    )
