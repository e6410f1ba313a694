"""Files from elsewhere: columns of other names, and further columns of items and users."""
import numpy as np
import pandas as pd
import pytest

from userllm.cli.main import main
from userllm.core.files import read_json
from userllm.data.dataset import Dataset

PLAIN = {"user_id": "customer", "item_id": "sku", "timestamp": "when", "rating": "stars"}


@pytest.fixture
def shop(tmp_path):
    "Ratings and goods in usual names (plain) and in those of a shop (own)."
    random = np.random.default_rng(0)
    pairs = random.permutation(30 * 40)[:700]
    rows = pd.DataFrame({"user_id": pairs // 40, "item_id": pairs % 40, "timestamp": random.integers(0, 10**6, 700)})
    rows["rating"] = random.integers(1, 6, 700)
    goods = pd.DataFrame({"item_id": range(40), "title": [f"Thing {number}" for number in range(40)]})
    rows.to_csv(tmp_path / "plain.csv", index=False)
    goods.to_csv(tmp_path / "plain_goods.csv", index=False)
    rows.rename(columns=PLAIN).to_csv(tmp_path / "own.csv", index=False)
    goods.rename(columns={"item_id": "id", "title": "name"}).to_csv(tmp_path / "own_goods.csv", index=False)
    return tmp_path


def prepare(shop, name, *further):
    files = ["--interactions", f"{shop}/{name}.csv", "--items", f"{shop}/{name}_goods.csv"]
    return main(["prepare", "table", *files, "--like-threshold", "4", *further])


def named(names):
    return [word for ours, theirs in names.items() for word in ("--column", f"{ours}={theirs}")]


def test_columns_of_other_names_give_the_same_dataset(shop, capsys):
    names = named(PLAIN | {"items.item_id": "id", "title": "name"})
    assert prepare(shop, "own", *names, "--out", f"{shop}/own") == 0
    said = capsys.readouterr().out
    assert "own.csv: read customer as user_id, sku as item_id" in said and "own_goods.csv: read id as item_id" in said
    assert prepare(shop, "plain", "--out", f"{shop}/plain") == 0
    own, plain = (Dataset.load(shop / name) for name in ("own", "plain"))
    assert own.fingerprint == plain.fingerprint and own.interactions.equals(plain.interactions)
    assert own.read_from["columns"][0] == "user_id=customer" and not plain.read_from
    assert "read_from" not in read_json(shop / "plain" / "dataset.json")


@pytest.mark.parametrize(
    "names, words",
    [
        (["user_id=custmer"], ["no column custmer in interactions or items", "did you mean customer?"]),
        (["user_id=customer", "user_id=sku"], ["user_id is named twice"]),
        (["user_id=customer", "item_id=customer"], ["the column customer is to be two things"]),
        (["userid=customer"], ["'userid' is no column that is read", "use user_id"]),
        (["customer"], ["names no two columns"]),
        (["item_id=sku"], ["column user_id: the column is missing", "--column user_id=NAME"]),
    ],
)
def test_a_name_that_fits_nothing_is_refused(shop, capsys, names, words):
    assert prepare(shop, "own", *(word for name in names for word in ("--column", name))) == 2
    said = capsys.readouterr().err
    assert all(word in said for word in words) and "Traceback" not in said, said


def test_names_of_columns_are_for_tables_alone(capsys):
    assert main(["prepare", "movielens", "--column", "user_id=customer"]) == 2
    assert "--column is for prepare table" in capsys.readouterr().err


@pytest.fixture
def priced(shop):
    "The shop's plain files with a price and a brand of each thing, and a file of people with an age."
    random = np.random.default_rng(1)
    goods = pd.read_csv(shop / "plain_goods.csv")
    goods["price"] = random.gamma(2, 10, 40).round(2)
    goods.loc[::7, "price"] = np.nan
    goods["brand"] = random.choice(["Acme", "Zed", "Mira"], 40)
    goods.to_csv(shop / "plain_goods.csv", index=False)
    people = pd.DataFrame({"user_id": range(1, 33), "age": random.integers(18, 80, 32), "zip": "01"})
    people.assign(zip=people["age"].mod(3)).to_csv(shop / "people.csv", index=False)
    return shop


SIDES = ("--item-features", "price,brand", "--user-features", "age,zip:category")


def test_further_columns_are_kept_described_and_counted(priced, capsys):
    people = ("--users-file", f"{priced}/people.csv")
    assert prepare(priced, "plain", *SIDES, *people, "--out", f"{priced}/sides") == 0
    said = capsys.readouterr().out
    for words in (
        "people.csv: 32 rows, 32 read",
        "item features price (number, 6 empty), brand (category)",
        "3 categories, most often",
    ):
        assert words in said, said
    assert "ignored" not in said
    data = Dataset.load(priced / "sides")
    count = len(data.users)
    known = data.user_features["age"].notna().sum()
    counted = f"user features: {known} of {count} users have a row; {32 - known} further rows"
    assert known < count and counted in said, said
    goods = pd.read_csv(priced / "plain_goods.csv", dtype={"item_id": str}).set_index("item_id")
    kept = data.item_features.set_axis(data.items["item_id"])
    assert kept["price"].equals(goods["price"].reindex(kept.index))
    assert data.read_from["user_features"] == {"age": "number", "zip": "category"}
    assert prepare(priced, "plain", "--out", f"{priced}/bare") == 0
    assert Dataset.load(priced / "bare").fingerprint == data.fingerprint  # the same rows


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("--item-features", "prise"), "did you mean price?"),
        (("--item-features", "brand:number"), "row 1, column brand, value"),
        (("--item-features", "price,price"), "names price twice"),
        (("--item-features", "item_id"), "item_id names an item"),
        (("--user-features", "age"), "no file of users is named"),
        (("--users-file", "people.csv"), "none of its columns is named"),
    ],
)
def test_a_further_column_that_fits_nothing_is_refused(priced, capsys, arguments, words):
    assert prepare(priced, "plain", *arguments) == 2
    said = capsys.readouterr().err
    assert words in said and "Traceback" not in said, said


def test_a_cell_that_is_no_number_is_named(priced, capsys):
    goods = pd.read_csv(priced / "plain_goods.csv", dtype=str)
    goods.loc[4, "price"] = "free"
    goods.to_csv(priced / "plain_goods.csv", index=False)
    assert prepare(priced, "plain", "--item-features", "price") == 2
    assert "plain_goods.csv, row 5, column price, value 'free': not a number" in capsys.readouterr().err
