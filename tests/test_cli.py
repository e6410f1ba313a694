"""The command line on a small trained run: what it gives, and what it says to bad input."""

import json
import os
import random
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
from PIL import Image

from userllm.core.errors import InputError
from userllm.core.files import read_json
from userllm.cli.main import main
from userllm.cli.names import registered_names
from userllm.cli.parser import make_parser
from userllm.data.dataset import Dataset
from userllm.training.presets import smoke
from userllm.model.recommender import Recommender
from userllm.visual.poster_features import Preparation

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def say(capsys):
    "Run a command line; give its exit code, output and errors."

    def run(*arguments):
        code = main([str(argument) for argument in arguments])
        return (code, *capsys.readouterr())

    return run


def refused(answer, *words):
    "Exit code 2 and a few lines that hold all the words."
    code, out, error = answer
    assert code == 2 and not out, answer
    assert error.startswith("userllm: ") and error.count("\n") <= 3 and "Traceback" not in error, error
    assert all(word in error for word in words), error


def test_what_to_do_stands_on_a_line_of_its_own(runs, say, tmp_path):
    pairs = write_pairs(tmp_path / "pairs.csv", user_id=["nobody"], item_id=["31"])
    for words in (
        ["evaluate", tmp_path / "none"],
        ["rank", runs / "userllm_plus", "--likes", "no such film"],
        ["score", runs / "userllm_plus", "--pairs", pairs, "--out", tmp_path / "scores.csv"],
    ):
        code, _, error = say(*words)
        what, fix = error.splitlines()
        assert code == 2 and what.startswith("userllm: ") and fix.startswith("  Fix: "), error


def write_pairs(path, **columns):
    pd.DataFrame(columns).to_csv(path, index=False)
    return path


def test_evaluate_prints_results_and_differences(runs, say):
    code, out, _ = say("evaluate", runs / "bias", runs / "userllm_plus")
    assert (
        code == 0 and "userllm_plus" in out and "Difference to bias" in out and "posters missing for" in out
    )


def test_rank_prints_titles(runs, say):
    user = pd.read_parquet(runs / "bias" / "predictions.parquet")["user_id"].iloc[0]
    code, out, _ = say("rank", runs / "userllm_plus", "--user", user, "--top", 3, "--device", "cpu")
    assert code == 0 and len(out.splitlines()) == 1 + 2 + 3
    assert re.fullmatch(READ_200, out.splitlines()[0]), out
    code, out, _ = say(*few(runs, "--user", user, "--candidates", 7))
    assert code == 0 and out.startswith("Read: the 7 best of ")
    code, out, _ = say(*few(runs, "--user", user, "--most-liked", 30, "--candidates", "all"))
    assert code == 0 and len(out.splitlines()) == 2 + 3


READ_200 = r"Read: the 200 best of 2,\d{3} movies by \w+, whose recall@200 on validation is \.\d\d\."


def few(runs, *whose):
    return ("rank", runs / "userllm_plus", *whose, "--top", 3, "--device", "cpu")


def test_a_run_says_which_retriever_it_has(runs, say, tmp_path):
    "Its recall is in the metrics; a folder without one reads everything, and says so."
    recorded = read_json(runs / "userllm_plus" / "metrics.json")["retriever"]
    assert recorded["tried"][recorded["name"]] == max(recorded["tried"].values()) == recorded["recall"]["200"]
    assert {"popularity", "itemknn", "ease", "bias", "mf", "logistic"} <= {*recorded["tried"]}
    assert "retriever" not in read_json(runs / "bias" / "metrics.json")

    recommender = Recommender.load(runs / "userllm_plus", device="cpu")
    assert recommender.retriever.record == recorded
    old = replace(recommender, retriever=None).save(tmp_path / "old")
    likes = recommender.dataset.items["item_id"].iloc[:2].tolist()
    code, out, _ = say("rank", old, "--likes", *likes, "--top", 3, "--device", "cpu")
    assert code == 0 and re.search(r"holds no retriever, so all 2,\d{3} movies were read\.", out)


def test_a_reranked_list_is_the_full_one_without_what_was_not_picked(runs):
    recommender = Recommender.load(runs / "userllm_plus", device="cpu")
    user = recommender.dataset.users["user_id"].iloc[5]
    whole, reranked = (
        recommender.with_candidates(count).rank(user, top=9999 if count is None else 200)
        for count in (None, 200)
    )
    events = recommender.dataset.events.query("user == 5")
    items = np.setdiff1d(np.arange(len(recommender.dataset.items)), events["item"])
    rows = recommender.rows_for(np.full(len(items), 5), items)
    picked = recommender.dataset.items["item_id"].iloc[items[recommender.retriever.best(rows, 200)]]
    expected = whole[whole["item_id"].isin(picked)].reset_index(drop=True)
    assert len(whole) == len(items) and len(reranked) == 200
    together = reranked.merge(expected, on="item_id", suffixes=("", "_whole"))
    assert len(together) == 200
    np.testing.assert_allclose(together["probability"], together["probability_whole"], atol=1e-5)
    assert reranked["probability"].is_monotonic_decreasing


def test_lists_of_a_file_of_users(runs, say, tmp_path):
    known = pd.read_parquet(runs / "userllm_plus" / "recommender" / "users.parquet")["user_id"].iloc[:3].tolist()
    file = tmp_path / "users.txt"
    file.write_text("\n".join([*known, "nobody", known[0]]), encoding="utf-8")
    lists = tmp_path / "lists.parquet"
    many = ("--users", file, "--out", lists, "--candidates", 10)
    code, out, _ = say(*few(runs, *many))
    assert code == 0 and "3 lists with 9 rows" in out and "No list for 1 unknown user: nobody" in out
    assert "Read for each user: the 10 best movies by" in out and "1 id stood in the file again" in out
    table = pd.read_parquet(lists)
    assert table["user_id"].tolist() == [name for name in known for _ in range(3)]
    assert [path.name for path in tmp_path.iterdir() if "lists" in path.name] == ["lists.parquet"]

    file.write_text("nobody\n", encoding="utf-8")
    refused(say(*few(runs, *many)), "none of 1 user is in the data: nobody")
    refused(say(*few(runs, "--users", tmp_path / "none.txt", "--out", lists)), "cannot read")
    refused(say(*few(runs, "--users", file)), "--users and --out belong together")
    refused(say(*few(runs, "--user", known[0], "--out", lists)), "--users and --out belong together")
    refused(say(*few(runs, "--users", file, "--out", tmp_path / "lists.txt")), "neither .csv nor .parquet")
    for wrong in ("0", "-3", "some"):
        with pytest.raises(SystemExit):
            say(*few(runs, "--user", known[0], "--candidates", wrong))
    with pytest.raises(SystemExit):
        say("rank", runs / "userllm_plus", "--user", known[0], "--top", "0")


def test_texts_are_read_ahead_once(runs, say, monkeypatch, tmp_path):
    "A second process reads nothing of what the first one kept; a baseline reads no texts."
    monkeypatch.setenv("USERLLM_CACHE", str(tmp_path / "cache"))
    user = pd.read_parquet(runs / "userllm_plus" / "recommender" / "users.parquet")["user_id"].iloc[3]
    code, out, _ = say(*few(runs, "--user", user, "--candidates", 5, "--warm", 3))
    assert code == 0 and out.startswith("Read ahead: 3 movies\n")
    again = Recommender.load(runs / "userllm_plus", device="cpu").with_candidates(5)
    listed = again.rank(user, top=3)
    assert [int(id) for id in listed["item_id"]] and listed["title"].iloc[0] in out
    computed = [store.computed for store in again.engine._store.levels if store.level.key == "item"]
    assert computed and not any(computed)
    refused(say("rank", runs / "bias", "--user", user, "--warm", 3), "bias reads no texts")
    code, out, _ = say(*few(runs, "--user", user, "--most-liked", 9, "--candidates", 99_999))
    assert code == 0 and out.startswith("There are no 99,999 movies to read, so all ")


def test_lists_of_a_language_model_are_measured_reranked(runs, say, tmp_path):
    "The best ten of each list are read; how much of nDCG is the retriever's is in a table, and a killed run resumes."
    run = tmp_path / "run"
    shutil.copytree(runs / "userllm_plus", run)
    asked = ("evaluate", run, "--ranking", "--candidates", 10, "--list-users", 3)
    code, out, err = say(*asked)
    assert code == 0, err
    assert re.search(r"3 lists \(a sample, fixed by the data seed: 3 of the \d+ users with a liked test row\)", out)
    assert re.search(r"userllm_plus: 30 prompts, the 10 best by \w+ of each list; about \d+ seconds", out)
    assert "recall@10, the ceiling" in out and "added by reranking" in out and "the retriever alone" in out
    (kept,) = (run / "lists").iterdir()
    before = kept.stat().st_mtime_ns
    assert say(*asked)[1].splitlines()[2:] == out.splitlines()[2:] and kept.stat().st_mtime_ns == before
    refused(say("evaluate", run, "--list-users", 3), "--list-users: these are about lists")
    refused(say("evaluate", run, "--ranking", "--lists", "none"), "none", "full, sampled, rated")
    for wrong in (("--list-users", 0), ("--candidates", 0), ("--candidates", "few")):
        with pytest.raises(SystemExit):
            say("evaluate", run, "--ranking", *wrong)


def test_rank_for_a_new_user(runs, say):
    likes = (
        pd.read_parquet(runs / "userllm_plus" / "recommender" / "items.parquet")["item_id"].iloc[:2].tolist()
    )
    code, out, _ = say("rank", runs / "userllm_plus", "--likes", *likes, "--top", 3, "--device", "cpu")
    assert code == 0 and len(out.splitlines()) == 5 + 3 and re.fullmatch(READ_200, out.splitlines()[2])
    assert out.splitlines()[1].startswith("Worked out from all ratings: ") and "Unknown" not in out
    code, out, _ = say(
        "rank",
        runs / "userllm_plus",
        "--likes",
        *likes,
        "--most-liked",
        20,
        "--genre",
        "drama",
        "--device",
        "cpu",
    )
    assert code == 0 and out.startswith("Liked: ") and 4 + 20 - len(likes) <= len(out.splitlines()) <= 4 + 20
    refused(
        say("rank", runs / "userllm_plus", "--likes", likes[0], "no such film"),
        "likes: 'no such film' (item 2 of 2)",
    )
    refused(say("rank", runs / "userllm_plus", "--likes", likes[0], ""), "likes: ''")
    refused(say("rank", runs / "userllm_plus", "--likes", likes[0], likes[0]), "is a repetition")
    with pytest.raises(SystemExit):
        say("rank", runs / "userllm_plus", "--likes", likes[0], "--user", "1")

    # what the new user disliked: no part of a history of likes, but of the features
    told = ("rank", runs / "userllm_plus", "--likes", likes[0], "--dislikes", likes[1], "--most-liked", 5)
    code, out, _ = say(*told, "--top", 5, "--device", "cpu")
    assert code == 0 and out.splitlines()[1].startswith("Disliked: ")
    assert "dislikes are not read there" in out.splitlines()[2] and "from all ratings" in out.splitlines()[3]
    code, out, _ = say(
        "rank", runs / "userllm_plus", "--dislikes", *likes, "--most-liked", 5, "--top", 5, "--device", "cpu"
    )
    assert code == 0 and out.startswith("Disliked: ") and "Liked" not in out
    recommender = Recommender.load(runs / "userllm_plus", device="cpu")
    disliked = [recommender.rows_of_new_user([], [9], range(count)) for count in (0, 2, 4)]
    logits = [recommender.logits(rows)[0] for rows in disliked]
    assert np.diff(sorted(logits)).min() > 1e-7
    refused(say("rank", runs / "userllm_plus", "--likes", likes[0], "--dislikes", likes[0]), "among the likes too")
    refused(say("rank", runs / "userllm_plus", "--user", "1", "--dislikes", likes[0]), "is for a new user")
    refused(say("rank", runs / "userllm_plus"), "no user is given")


def test_a_run_folder_loads_like_its_recommender(runs):
    first, second = (
        Recommender.load(folder, device="cpu")
        for folder in (runs / "userllm_plus", runs / "userllm_plus" / "recommender")
    )
    assert first.data == second.data
    with pytest.raises(InputError, match="recommender"):
        Recommender.load(runs / "userllm_plus" / "recommender" / "lora")


def test_score_writes_a_probability_for_each_pair(runs, say, tmp_path):
    test = pd.read_parquet(runs / "userllm_plus" / "predictions.parquet").head(5)
    pairs = write_pairs(
        tmp_path / "pairs.csv", user_id=test["user_id"], item_id=test["item_id"], timestamp=test["timestamp"]
    )
    assert (
        say(
            "score",
            runs / "userllm_plus",
            "--pairs",
            pairs,
            "--out",
            tmp_path / "scores.csv",
            "--device",
            "cpu",
        )[0]
        == 0
    )
    scores = pd.read_csv(tmp_path / "scores.csv")
    assert scores["logit"].tolist() == pytest.approx(test["logit"].tolist(), abs=1e-4)
    assert scores["probability"].between(0, 1).all()
    assert (
        say(
            "score",
            runs / "userllm_plus",
            "--pairs",
            pairs,
            "--out",
            tmp_path / "scores.parquet",
            "--device",
            "cpu",
        )[0]
        == 0
    )
    assert pd.read_parquet(tmp_path / "scores.parquet")["logit"].tolist() == pytest.approx(
        scores["logit"].tolist(), abs=1e-4
    )
    refused(
        say("score", runs / "userllm_plus", "--pairs", pairs, "--out", tmp_path / "scores.txt"),
        "neither .csv nor .parquet",
    )


@pytest.mark.parametrize(
    "columns, words",
    [
        ({"user_id": [], "item_id": []}, ["holds no row"]),
        ({"user_id": ["1"], "film": ["1"]}, ["item_id"]),
        ({"user_id": ["no such user"], "item_id": ["1"]}, ["no such user", "rank --likes"]),
        ({"user_id": ["KNOWN"], "item_id": ["no such item"]}, ["no such item"]),
        ({"user_id": ["KNOWN", "KNOWN"], "item_id": ["ITEM", "ITEM"]}, ["repeat an earlier pair"]),
        ({"user_id": ["KNOWN"], "item_id": ["ITEM"], "timestamp": ["yesterday"]}, ["timestamp"]),
    ],
)
def test_bad_pairs_are_refused(runs, say, tmp_path, columns, words):
    known = pd.read_parquet(runs / "bias" / "predictions.parquet").iloc[0]
    real = {"KNOWN": known["user_id"], "ITEM": known["item_id"]}
    columns = {name: [real.get(value, value) for value in values] for name, values in columns.items()}
    answer = say(
        "score",
        runs / "userllm_plus",
        "--pairs",
        write_pairs(tmp_path / "pairs.csv", **columns),
        "--out",
        tmp_path / "scores.csv",
    )
    refused(answer, *(str(real.get(word, word)) for word in words))
    assert not (tmp_path / "scores.csv").exists()


AT_ONCE = """
import sys
from userllm.cli.entry import main
try:
    status = main(sys.argv[1:])
except SystemExit as stop:
    status = stop.code
heavy = {"torch", "pandas", "numpy", "polars", "transformers"} & sys.modules.keys()
sys.exit(f"{sys.argv[1:]} imported {sorted(heavy)}" if heavy else status)
"""


@pytest.mark.parametrize(
    "line, status, words",
    [
        ("--help", 0, "check the installation:"),
        ("train --help", 0, "logistic"),
        ("prepare --help", 0, "--interactions"),
        ("reproduce --help", 0, "table5"),
        ("ablations --help", 0, "encoder"),
        ("reproduce --help", 0, "--set KEY=VALUE"),
        ("ablations --help", 0, "--set KEY=VALUE"),
        ("quickstart --help", 0, "--set KEY=VALUE"),
        ("train userlm", 2, "did you mean userllm"),
        ("train userllm --preset huge", 2, "use quick, paper, full, smoke"),
        ("train userllm --presett quick", 2, "unrecognized arguments"),
        ("train userllm --set step2.learning_rte=1", 2, "did you mean step2.learning_rate"),
        ("train userllm --set model.uhem.encoder=similarty", 2, "did you mean similarity"),
        ("train userllm --set model.order=papr", 2, "did you mean paper"),
        ("train userllm --set model.mapper.kind=x", 2, "two_layers"),
        ("rank run --user 1 --likes Up", 2, "not allowed with argument"),
    ],
)
def test_help_and_wrong_words_wait_for_nothing(line, status, words):
    done = subprocess.run(
        [sys.executable, "-c", AT_ONCE, *line.split()], capture_output=True, text=True, encoding="utf-8"
    )
    assert done.returncode == status and words in done.stdout + done.stderr, done.stderr


def test_each_verb_has_a_function_that_does_it():
    verbs = make_parser(registered_names())._subparsers._group_actions[0].choices
    assert {"prepare", "train", "evaluate", "share", "doctor"} <= {*verbs}
    for name, verb in verbs.items():
        module = import_module(f"userllm.cli.{verb.get_default('module')}")
        assert callable(getattr(module, f"{name}_verb")), name


def test_help_lists_what_the_registries_hold():
    shipped = files("userllm") / "assets" / "names.json"
    assert json.loads(shipped.read_text(encoding="utf-8")) == json.loads(json.dumps(registered_names()))


def test_help_lists_what_a_plugin_registers(tmp_path):
    (tmp_path / "mine_for_help.py").write_text(
        "from dataclasses import replace\n"
        "from userllm.training.methods import find_method, methods\n"
        "methods.register(replace(find_method('tallrec'), name='quiet', about='says little'))\n"
        "from userllm import ListMetric, list_metrics\n"
        "list_metrics.register(ListMetric('depth', 'depth of lists', lambda lists, k: None))\n",
        encoding="utf-8",
    )
    for verb, words in (("train", "says little"), ("evaluate", "depth of lists")):
        done = subprocess.run(
            [sys.executable, "-m", "userllm", verb, "--plugin", "mine_for_help", "--help"],
            capture_output=True,
            text=True,
            encoding="utf-8",
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        )
        assert done.returncode == 0 and words in done.stdout, done.stderr


def test_any_setting_is_changed_from_the_command_line(say, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    changes = ("--set", "mf.epochs=2", "--set", "mf.learning_rate=1e-2", "--set", "trees.leaves=3")
    code, out, error = say("train", "mf", "--preset", "smoke", *changes)
    assert code == 0 and "changed settings: mf.learning_rate=0.01, mf.epochs=2" in out, error
    assert "mf does not read trees.leaves" in out
    (run,) = (tmp_path / "runs").iterdir()
    assert run.name == "smoke-random-mf-mf.learning_rate=0.01-mf.epochs=2-seed0"
    settings = read_json(run / "settings.json")
    assert (settings["mf"]["epochs"], settings["mf"]["learning_rate"]) == (2, 0.01)


@pytest.mark.parametrize(
    "name, change, recorded",
    [
        ("ease", "ease.penalties=50,200", {"ease": {"penalties": [50.0, 200.0], "most_items": 20_000}}),
        ("itemknn", "itemknn.neighbours=7", {"itemknn": {"neighbours": 7, "shrinkage": 10.0}}),
        ("popularity_recent", "popularity_recent.days=30", {"days": 30}),
    ],
)
def test_settings_of_list_baselines_are_changed_and_recorded(say, tmp_path, monkeypatch, name, change, recorded):
    monkeypatch.chdir(tmp_path)
    code, out, error = say("train", name, "--preset", "smoke", "--set", change)
    assert code == 0 and f"changed settings: {name}." in out and "does not read" not in out, error
    (run,) = (tmp_path / "runs").iterdir()
    settings = read_json(run / "settings.json")
    assert {key: settings[key] for key in recorded} == recorded


def test_config_prints_what_a_system_reads_and_nothing_else(say):
    code, out, _ = say("config", "ease")
    parts = {line.partition(".")[0] for line in out.splitlines() if re.match(r"[a-z_0-9]+\.", line)}
    assert code == 0 and parts == {"protocol", "ease"}
    for name, wanted, other in (("logistic", "item_cf.", "ease."), ("tallrec", "step1.clip", "model.uhem")):
        out = say("config", name)[1]
        assert wanted in out and other not in out


@pytest.mark.parametrize("key", ["model.uhem.encoder", "model.order", "model.mapper.kind"])
def test_a_setting_that_names_nothing_is_refused(say, key):
    refused(say("config", "userllm", "--set", f"{key}=xyz"), "'xyz' does not exist", "Fix: use")


def test_a_file_of_settings_is_read_and_the_command_line_wins(say, tmp_path):
    code, out, _ = say("config", "userllm", "--json", "--set", "model.uhem.encoder=transformer")
    assert code == 0
    (tmp_path / "mine.json").write_text(out, encoding="utf-8")
    again = say(
        "config", "userllm", "--json", "--config", tmp_path / "mine.json", "--set", "step2.rows=none"
    )[1]
    first, second = json.loads(out), json.loads(again)
    assert first["model.uhem.encoder"] == second["model.uhem.encoder"] == "transformer"
    assert {key for key in first if first[key] != second[key]} == {"step2.rows"}
    assert "# the name of a history encoder" in say("config", "userllm")[1]
    (tmp_path / "nested.json").write_text('{"step2": {"rows": "many"}}', encoding="utf-8")
    refused(say("config", "userllm", "--config", tmp_path / "nested.json"), "step2.rows", "a whole number or none")
    refused(say("train", "mf", "--set", "model.order=paper"), "'model.order' does not exist")
    refused(say("train", "mf", "--set", "step2.row=1"), "did you mean step2.rows")


def test_unknown_user_of_rank_is_refused(runs, say):
    refused(say("rank", runs / "userllm_plus", "--user", "nobody"), "nobody")


def test_a_baseline_of_the_built_in_ratings_ranks(runs, say):
    test = pd.read_parquet(runs / "bias" / "predictions.parquet")
    code, out, _ = say("rank", runs / "bias", "--user", test["user_id"].iloc[0], "--top", "3")
    assert code == 0 and len(re.findall(r"(?m)^\s*[123] ", out)) == 3, out


def test_what_is_not_there_is_told_as_that(say, tmp_path):
    refused(say("rank", ROOT / "results" / "quick", "--user", "2"), "name one of the runs", "userllm")
    refused(say("rank", tmp_path / "none", "--user", "1"), "no run folder at")
    refused(
        say("train", "userllm_wid", "--out", tmp_path / "run"), "userllm_wide_context", "method or baseline", "trees"
    )
    refused(
        say("train", "userllm", "--data", tmp_path / "none", "--llm", tmp_path / "llm"), "holds no dataset"
    )  # before the LLM is looked for
    assert not (tmp_path / "run").exists()


def test_a_run_that_has_not_ended_and_a_folder_without_data_say_so(say, tmp_path):
    (tmp_path / "settings.json").write_text("{}", encoding="utf-8")
    refused(say("rank", tmp_path, "--user", "1"), "its training is unfinished")
    refused(say("train", "userllm", "--data", tmp_path), "holds no dataset")


@pytest.mark.parametrize(
    "part",
    ["alignment.safetensors", "lora/adapter_model.safetensors", "features/item.safetensors", "items.parquet"],
)
@pytest.mark.parametrize("how", ["missing", "altered"])
def test_broken_recommenders_are_refused_by_part(runs, say, tmp_path, part, how):
    shutil.copytree(runs / "userllm_plus", tmp_path / "run")
    path = tmp_path / "run" / "recommender" / part
    if how == "missing":
        path.unlink()
    else:
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    refused(say("rank", tmp_path / "run", "--user", "1", "--device", "cpu"), part)


@pytest.mark.parametrize("part", ["metrics.json", "predictions.parquet"])
def test_incomplete_runs_are_refused_by_part(runs, say, tmp_path, part):
    shutil.copytree(runs / "bias", tmp_path / "run")
    (tmp_path / "run" / part).unlink()
    refused(say("evaluate", tmp_path / "run"), part)


@pytest.mark.slow
def test_histories_may_be_whole(runs, say, tmp_path):
    code, out, _ = say(
        "train",
        "userllm_plus",
        "--history",
        "all",
        "--preset",
        "smoke",
        "--llm",
        runs.parent / "llm",
        "--device",
        "cpu",
        "--precision",
        "fp32",
        "--out",
        tmp_path / "run",
    )
    assert code == 0 and "userllm_plus" in out
    assert (
        json.loads((tmp_path / "run" / "settings.json").read_text(encoding="utf-8"))["protocol"][
            "history_length"
        ]
        is None
    )
    recommender = json.loads(
        (tmp_path / "run" / "recommender" / "recommender.json").read_text(encoding="utf-8")
    )
    assert recommender["history"]["length"] is None


def test_history_length_is_checked(say, capsys):
    code, out, _ = say("prepare", "--history", "all")
    assert code == 0 and "Leaks counted: 0" in out
    with pytest.raises(SystemExit, match="2"):
        say("prepare", "--history", 0)
    assert "argument --history: 0 is not 1 or more" in capsys.readouterr().err


def test_bench_times_preparation(say, tmp_path):
    code, out, _ = say("bench", "--netflix", 200_000, "--out", tmp_path / "bench.json")
    assert code == 0 and "ratings, netflix:" in out and "peak memory" in out
    assert [path.name for path in tmp_path.iterdir()] == ["bench.json"]
    (found,) = read_json(tmp_path / "bench.json")
    assert found["ratings"] > 190_000 and found["seconds"]["read"] > 0


def test_what_is_asked_is_checked_before_a_model_is_loaded(runs, say, tmp_path, monkeypatch):
    from userllm.model import userllm_recommender

    monkeypatch.setattr(userllm_recommender, "load_llm", lambda *_: pytest.fail("the LLM was loaded"))
    pairs = write_pairs(tmp_path / "pairs.csv", user_id=["nobody"], item_id=["1"])
    refused(say("score", runs / "userllm_plus", "--pairs", pairs, "--out", tmp_path / "out.csv"), "nobody")
    refused(say("rank", runs / "userllm_plus", "--user", "nobody"), "nobody")
    refused(
        say("train", "bias", "--vit", "vit_small_patch16_224.dino", "--out", tmp_path / "run"), "--posters"
    )


def test_output_folder_that_cannot_be_written_is_refused(runs, say, tmp_path):
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    refused(say("train", "bias", "--out", tmp_path / "file" / "run"), str(tmp_path / "file"))


def test_full_disk_is_refused_before_work(say, tmp_path, monkeypatch):
    full = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    refused(say("train", "bias", "--out", tmp_path / "run"), "space")


def test_other_run_in_the_folder_is_refused(runs, say):
    before = json.loads((runs / "bias" / "metrics.json").read_text(encoding="utf-8"))
    refused(say("train", "mf", "--out", runs / "bias", "--preset", "smoke"), "other settings")
    assert json.loads((runs / "bias" / "metrics.json").read_text(encoding="utf-8")) == before


def test_a_split_without_both_classes_is_refused(say, tmp_path, monkeypatch):
    from userllm.training import presets

    always_liked = replace(smoke(), protocol=replace(smoke().protocol, like_threshold=0.0))
    monkeypatch.setitem(presets.presets, "smoke", lambda: always_liked)
    refused(say("train", "bias", "--preset", "smoke", "--natural", "--out", tmp_path / "run"), "dislikes")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("reproduce", "table4"), ("without_uhem", "to do", "0 of ")),
        (("reproduce", "figure3"), ("bench.json", "lacks 24")),
        (("ablations", "tokens"), ("tokens-8", "to do", "0 of 4")),
    ],
)
def test_many_runs_are_listed_before_they_are_made(say, tmp_path, arguments, words):
    code, out, _ = say(*arguments, "--dry-run", "--results", tmp_path / "none", "--out", tmp_path / "work")
    assert code == 0 and all(word in out for word in words), out
    assert not list(tmp_path.iterdir())


def test_quickstart_takes_own_data_and_settings(shop, runs, say):
    prepared(shop, say, "--like-threshold", 3, "--out", shop / "data")
    where = ("--device", "cpu", "--precision", "fp32", "--llm", runs.parent / "llm", "--out", shop / "quick")
    wanted = ("step2.rows=16", "mf.epochs=1", "model.uhem.encoder=mean")
    changes = ("--preset", "smoke", *(word for setting in wanted for word in ("--set", setting)))
    code, out, error = say("quickstart", "--data", shop / "data", *where, *changes)
    assert code == 0 and "changed settings: step2.rows=16, mf.epochs=1, model.uhem.encoder=mean" in out, error
    for method in ("userllm", "userllm_wide"):
        model = read_json(shop / "quick" / method / "settings.json")["model"]
        assert model["uhem"]["encoder"] == "mean", method
    assert "--candidates all" in out and "logistic" in out
    assert read_json(shop / "quick" / "userllm" / "settings.json")["step2"]["rows"] == 16
    assert read_json(shop / "quick" / "mf" / "settings.json")["mf"]["epochs"] == 1


def test_a_dry_run_says_what_training_costs_and_starts_nothing(shop, runs, say):
    prepared(shop, say, "--like-threshold", 3, "--out", shop / "data")
    where = ("--data", shop / "data", "--device", "cpu", "--out", shop / "none", "--dry-run")
    llm = ("--precision", "fp32", "--llm", runs.parent / "llm")
    steps = ("--set", "pretrained=true", "--set", "tuning=two_steps_then_joint")
    code, out, error = say("train", "userllm_plus", "--preset", "full", *steps, *llm, *where)
    assert code == 0 and "at most about" in out and "Nothing was started" in out, error
    assert all(step in out for step in ("pretraining", "step1", "step2", "joint", "test")), out
    code, out, error = say("quickstart", "--preset", "smoke", *llm, *where)
    assert code == 0 and "userllm_wide" in out and out.count("step1") == 1, (out, error)
    code, out, error = say("train", "trees", *where)
    assert code == 0 and "seconds to minutes" in out, error
    assert not (shop / "none").exists()


def test_a_baseline_ranks_like_a_method(shop, say):
    prepared(shop, say, "--like-threshold", 3, "--out", shop / "data")
    run = ("--data", shop / "data", "--out", shop / "run", "--device", "cpu")
    code, out, error = say("train", "trees", "--preset", "smoke", *run)
    assert code == 0 and f"Next: userllm rank {shop / 'run'}" in out, error
    code, out, error = say("rank", shop / "run", "--user", "u1", "--top", 3, "--device", "cpu")
    assert code == 0 and len(out.splitlines()) == 2 + 3, error


@pytest.mark.parametrize(
    "line, folder",
    [
        ("reproduce table4 --only userllm bias", "quick-step2.rows=500-model.uhem.scale=0.3"),
        ("ablations tokens --precision fp32", "quick-step2.rows=500-model.uhem.scale=0.3"),
    ],
)
def test_studies_take_settings_in_a_folder_of_their_own(say, tmp_path, line, folder):
    where = ("--dry-run", "--results", tmp_path / "results", "--out", tmp_path / "work", "--device", "cpu")
    changes = ("--set", "step2.rows=500", "--set", "model.uhem.scale=0.3")
    code, out, error = say(*line.split(), *where, *changes)
    assert code == 0 and "changed settings: step2.rows=500, model.uhem.scale=0.3" in out, error
    assert folder in out, out
    refused(say(*line.split(), *where, "--set", "model.uhem.scle=1"), "scle", "model.uhem.scale")
    refused(say(*line.split(), *where, "--set", "model.uhem.scale=-1"), "model.uhem.scale is -1")
    assert not list(tmp_path.iterdir())


def test_what_trains_nothing_or_has_its_own_protocols_takes_no_such_settings(say, tmp_path):
    where = ("--dry-run", "--results", tmp_path / "results", "--out", tmp_path / "work")
    refused(say("reproduce", "table2", "--set", "step2.rows=500"), "table2 trains nothing")
    refused(say("reproduce", "table4", *where, "--set", "protocol.history_length=3"), "has its own protocols")


def test_baselines_answer_for_items_that_are_held_out(shop, say):
    split = ("--split", "cold_items", "--fractions", "0.6,0.2,0.2", "--like-threshold", 3)
    out = prepared(shop, say, *split, "--out", shop / "data")
    assert "Leaks counted: 0" in out and "without context interactions of held-out items" in out
    dataset = Dataset.load(shop / "data")
    held_out = dataset.items[dataset.held_out_items]
    assert 5 < len(held_out) < 15 and not dataset.rows("train")["item"].isin(held_out["item"]).any()
    for name in ("bias", "mf", "logistic", "trees", "lightgcn", "sasrec"):
        run = ("--data", shop / "data", "--out", shop / name, "--device", "cpu")
        code, out, error = say("train", name, "--preset", "smoke", *run)
        count = len(dataset.rows("test"))
        assert code == 0 and f"{count} of {count} test rows are cold" in out, error
        assert read_json(shop / name / "metrics.json")["leaks"] == 0
        code, out, error = say("rank", shop / name, "--user", "u1", "--top", 25, "--device", "cpu")
        assert code == 0 and any(title in out for title in held_out["title"]), error


@pytest.mark.parametrize("line", ["reproduce table4", "ablations tokens"])
def test_studies_are_planned_on_own_data(shop, say, line):
    prepared(shop, say, "--like-threshold", 3, "--out", shop / "data")
    folders = ("--dry-run", "--results", shop / "none", "--out", shop / "work")
    code, out, error = say(*line.split(), "--data", shop / "data", *folders)
    assert code == 0 and "to do" in out, error
    assert "random" in out or line.startswith("ablations")
    refused(say("reproduce", "table2", "--data", shop / "data"), "built-in ratings")
    refused(say(*line.split(), "--data", shop / "none"), "holds no dataset")


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("prepare", "--interactions", "mine.csv"), ("--interactions", "prepare table")),
        (("prepare", "--like-threshold", "4"), ("--like-threshold", "prepare table")),
    ],
)
def test_options_of_a_source_need_one(say, arguments, words):
    refused(say(*arguments), *words)


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("reproduce", "table9"), ("table9", "table2", "table3")),
        (("ablations", "colour"), ("colour", "encoder")),
        (("ablations", "--preset", "huge"), ("huge", "quick")),
        (("bench", "--shape", "round"), ("round", "vicuna-7b")),
        (("bench", "--method", "oracle"), ("oracle", "userllm_rated")),
    ],
)
def test_unknown_names_of_studies_are_refused(say, tmp_path, arguments, words):
    refused(say(*arguments), *words)


def test_runs_on_other_test_rows_are_compared_on_those_that_both_have(say, tmp_path):
    for name, more in (("whole", ()), ("some", ("--test-rows", 300))):
        code, _, _ = say("train", "bias", "--out", tmp_path / name, *more)
        assert code == 0
    code, out, _ = say("evaluate", tmp_path / "whole", tmp_path / "some")
    assert code == 0 and "test rows that all of these runs scored" in out and "(--test-rows)" in out
    assert "warm AUC" not in out  # the runs' own figures are of other rows than the tables
    some = read_json(tmp_path / "some" / "metrics.json")
    assert 300 <= some["rows"] < 400 and out.count(f" {some['rows']}") >= 2  # both lines are of the same rows


@pytest.fixture
def shop(tmp_path, monkeypatch):
    "A small shop: stars, products whose column poster names files, and a fresh cache."
    monkeypatch.setenv("USERLLM_CACHE", str(tmp_path / "cache"))
    vit = timm.create_model(
        "vit_tiny_patch16_224", img_size=32, num_classes=0, depth=9, embed_dim=24, pretrained=False
    ).eval()
    monkeypatch.setattr(
        "userllm.visual.poster_features.load_vit",
        lambda *_: (vit, Preparation((32, 32), (0.5,) * 3, (0.5,) * 3)),
    )
    draw = random.Random(0)
    pairs = [(user, item) for user in range(20) for item in draw.sample(range(25), 15)]
    stars = [
        {
            "user_id": f"u{user}",
            "item_id": f"p{item}",
            "timestamp": 1_200_000_000 + place,
            "rating": draw.randint(1, 5),
        }
        for place, (user, item) in enumerate(pairs)
    ]
    pd.DataFrame(stars).to_csv(tmp_path / "stars.csv", index=False)
    (tmp_path / "art").mkdir()
    products = [
        {"item_id": f"p{item}", "title": f"Mug {item}", "year": 1995, "description": "Blue.", "poster": ""}
        for item in range(25)
    ]
    products[3] |= {"title": "Heat", "description": ""}  # which is also a film of 1995
    for item in range(20):
        Image.new("RGB", (20, 30), (10 * item, 50, 90)).save(tmp_path / "art" / f"p{item}.png")
        products[item]["poster"] = f"art/p{item}.png"
    products[24]["poster"] = "art/none.png"
    pd.DataFrame(products).to_csv(tmp_path / "products.csv", index=False)
    return tmp_path


def prepared(shop, say, *more):
    code, out, error = say(
        "prepare",
        "table",
        "--interactions",
        shop / "stars.csv",
        "--items",
        shop / "products.csv",
        "--device",
        "cpu",
        *more,
    )
    assert code == 0, error
    return out


def test_a_dataset_keeps_what_it_was_prepared_with(shop, say):
    out = prepared(shop, say, "--like-threshold", 3, "--out", shop / "data")
    assert "#Poster" in out and "posters: 20 of 25 items" in out.replace("pictures:", "posters:")
    assert "first 'art/none.png'" in out and f"userllm train logistic --data {shop / 'data'}" in out
    shutil.rmtree(shop / "art")  # pictures and the cache of their features may go
    shutil.rmtree(shop / "cache")
    again = say("prepare", "--data", shop / "data", "--device", "cpu")[1]
    assert "20 of 25 items, read by vit_s14_focus" in again and "24 from the data" in again
    assert "--posters" not in again
    code, out, error = say(
        "train", "bias", "--data", shop / "data", "--out", shop / "run", "--device", "cpu"
    )
    assert code == 0 and read_json(shop / "run" / "metrics.json")["missing"]["posters_missing"] == 5, error
    # kept in its own place it loses nothing
    assert say("prepare", "--data", shop / "data", "--out", shop / "data", "--device", "cpu")[0] == 0
    kept = {path.name for path in (shop / "data").iterdir()}
    assert {"posters.csv", "notes.txt", "posters.safetensors", "items.parquet"} <= kept


def test_pictures_that_are_passed_over_are_named(shop, say):
    for name in ("p20.tif", "p21.heic", "p22"):
        (shop / "art" / name).write_text("a picture of another kind", encoding="utf-8")
    (shop / "art" / "p23.png").write_text("broken", encoding="utf-8")
    out = prepared(shop, say, "--like-threshold", 3, "--posters", shop / "art")
    assert "20 of 25 items" in out
    assert all(name in out for name in ("p20.tif", "p21.heic", "p22", "p23.png"))


def test_films_lend_their_descriptions_to_films_alone(shop, say):
    assert "(24 from the data)" in prepared(shop, say, "--like-threshold", 3)
    asked = prepared(shop, say, "--like-threshold", 3, "--shipped-descriptions", "--out", shop / "data")
    assert "(24 from the data, 1 shipped with the library, made up by a language model for films)" in asked
    assert "1 shipped with the library" in say("prepare", "--data", shop / "data", "--device", "cpu")[1]
    assert (pd.read_parquet(shop / "data" / "items.parquet")["described_by"] != "").sum() == 1
    with pytest.raises(SystemExit):
        say("prepare", "--shipped-descriptions", "--describe-with", "smollm2")


def test_what_is_a_like_is_asked_where_nobody_said_it(shop, say):
    assert "Which ratings are likes? Nothing was said, so those from 2.5 on are" in prepared(shop, say)
    assert "Which ratings" not in prepared(shop, say, "--like-threshold", 2.5)
