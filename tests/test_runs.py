"""What runs say of themselves: each note once, of whom it is true, and where finished runs are looked for."""

import pandas as pd
import pytest

from userllm.core.errors import InputError
from userllm.core.files import read_json, write_json, write_parquet
from userllm.core.plugins import Origin, require_origins
from userllm.core.settings import override
from userllm.cli.main import choose_verb, main
from userllm.cli.messages import learning_notes
from userllm.cli.train import chosen_settings, effective_changes
from userllm.cli.use import filled_columns
from userllm.model.recommender import Recommender
from userllm.training.methods import find_method
from userllm.training.presets import find_preset


def metrics_of(method, tables=(), **more):
    missing = {"items": 600, "posters_missing": 24, "descriptions_missing": 0, "test_rows_without_poster": 31}
    return {
        "method": method,
        "dataset": "d",
        "rows": 60,
        "missing": missing,
        "settings": {"tables": tables} if tables else {},
        "cold": {"rows": 7, "warm": 0.75, "cold": 0.5 if method == "bias" else 0.625},
    } | more


@pytest.fixture
def runs(tmp_path):
    "A baseline that reads no picture and two methods that do; one of them has linear features."
    predictions = pd.DataFrame(
        {
            "row_id": range(60),
            "user_id": [f"u{row % 12}" for row in range(60)],
            "label": [row % 2 for row in range(60)],
            "logit": [float(row % 7) for row in range(60)],
        }
    )
    image = [["image", "image"]]
    for name, tables, columns in (
        ("bias", (), {}),
        ("userllm", image, {}),
        ("userllm_wide", image, {"linear": predictions["logit"] - 0.1}),
    ):
        more = {"nothing_learnt": ["step 1"]} if name == "userllm" else {}
        write_json(tmp_path / name / "metrics.json", metrics_of(name, tables, **more))
        write_parquet(tmp_path / name / "predictions.parquet", predictions.assign(**columns))
    return tmp_path


def test_notes_of_runs_are_said_once(runs, capsys):
    assert main(["evaluate", *(str(runs / name) for name in ("bias", "userllm", "userllm_wide"))]) == 0
    out = capsys.readouterr().out
    assert (
        out.count("missing for 24 of 600") == 1 and "userllm, userllm_wide: " in out
    )  # the baseline reads no picture
    assert out.count("7 of 60 test rows are cold") == 1 and "all: 7 of 60" in out
    assert [line.split() for line in out.partition("Cold rows apart")[2].splitlines()[3:6]] == [
        ["bias", "0.7500", "0.5000"],
        ["userllm", "0.7500", "0.6250"],
        ["userllm_wide", "0.7500", "0.6250"],
    ]
    assert (
        out.count("own share: AUC") == 1
        and "difference +0.0000 [+0.0000, +0.0000]: the interval includes zero" in out
    )
    assert "userllm: in step 1 nothing was learnt that shows" in out


def test_a_run_alone_says_all_of_its_notes(runs, capsys):
    assert main(["evaluate", str(runs / "bias")]) == 0
    out = capsys.readouterr().out
    assert (
        "bias: 7 of 60 test rows are cold" in out
        and "(warm AUC 0.7500, cold AUC 0.5000)" in out
        and "missing for" not in out
    )


def test_cold_rows_are_left_out_where_runs_scored_other_rows(runs, capsys):
    path = runs / "userllm" / "predictions.parquet"
    write_parquet(path, pd.read_parquet(path).head(40))
    assert main(["evaluate", str(runs / "bias"), str(runs / "userllm")]) == 0
    out = capsys.readouterr().out
    assert "the 40 test rows" in out and "Cold rows apart: left out" in out and "warm AUC" not in out


def test_smoke_says_first_that_it_shows_nothing():
    (note,) = learning_notes({"nothing_learnt": ["step 1"], "settings": {"preset": "smoke"}})
    assert note.startswith("smoke trains on a handful of rows") and "paper" not in note


def test_columns_that_are_empty_throughout_are_not_printed():
    table = pd.DataFrame({"title": ["Mug", "Cup"], "year": pd.array([None, None], "Int64")})
    assert list(filled_columns(table)) == ["title"]
    assert list(filled_columns(table.assign(year=[1995, None]))) == ["title", "year"]


@pytest.mark.parametrize(
    "line", ["reproduce table3 --dry-run", "reproduce figure3 --dry-run", "ablations --dry-run --device cpu"]
)
def test_missing_results_are_told(line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(line.split()) == 0
    out = capsys.readouterr().out
    assert "is not here, so every run counts as to do" in out and "clone" in out and "--results" in out
    assert not any(tmp_path.iterdir())


def test_a_run_without_figures_of_cold_rows_stands_in_their_table(runs, capsys):
    path = runs / "bias" / "metrics.json"
    metrics = read_json(path)
    del metrics["cold"]
    write_json(path, metrics)
    assert main(["evaluate", str(runs / "bias"), str(runs / "userllm")]) == 0
    table = capsys.readouterr().out.partition("Cold rows apart")[2].splitlines()
    assert [line.split() for line in table[3:5]] == [["bias", "-", "-"], ["userllm", "0.7500", "0.6250"]]


def test_runs_that_were_changed_by_hand_are_refused(runs, capsys):
    write_json(runs / "bias" / "settings.json", {"preset": "paper"})
    write_json(runs / "bias" / "metrics.json", metrics_of("bias", settings={"preset": "quick", "seed": 0}))
    assert main(["evaluate", str(runs / "bias")]) == 2
    error = capsys.readouterr().err
    assert "settings.json was changed after the run was made (preset, seed)\n  Fix: restore it" in error
    for name, values in (("logit", ["high"] * 60), ("label", [None] * 60), ("logit", [float("nan")] * 60)):
        path = runs / "userllm" / "predictions.parquet"
        whole = pd.read_parquet(path)
        write_parquet(path, whole.assign(**{name: values}))
        assert main(["evaluate", str(runs / "userllm")]) == 2
        assert f"the column {name} holds a value that is not a number" in capsys.readouterr().err
        write_parquet(path, whole)


@pytest.mark.parametrize(
    "key, value",
    [
        ("test_rows", "0"),  # was kept as a run on all rows
        ("step2.batch_size", "-3"),
        ("step1.rows", "0"),
        ("trees.leaves", "0"),
        ("trees.learning_rate", "-1"),
        ("model.mappers", "image"),
        ("model.mappers", [["image"]]),
        ("step2.rows", "1" + "0" * 400),
        ("step2.learning_rate", float("nan")),
    ],
)
def test_settings_that_cannot_be_are_refused_before_any_work(key, value):
    with pytest.raises(InputError):
        override((find_preset("smoke"), find_method("userllm")), {key: value})


def test_settings_that_are_only_valid_together_are_taken():
    line = ["train", "sasrec", "--preset", "smoke", "--set", "sasrec.dimensions=9", "--set", "sasrec.heads=3"]
    for method, read in (("sasrec", ["sasrec.dimensions", "sasrec.heads"]), ("bias", [])):
        options = choose_verb([line[0], method, *line[2:]])[1]
        assert list(effective_changes(options, chosen_settings(options)[2])) == read


@pytest.mark.parametrize("content", ["null", "[1]", "{}", "3", '{"kind": "other"}', ""])
def test_a_folder_whose_record_is_none_is_refused(content, tmp_path):
    (tmp_path / "recommender.json").write_text(content, encoding="utf-8")
    with pytest.raises(InputError):
        Recommender.load(tmp_path)


def test_code_of_an_unknown_kind_is_refused():
    with pytest.raises(InputError, match="unknown kind"):
        require_origins([Origin("new kind", "mine", "module:Mine", "")], {}, "the recommender")
