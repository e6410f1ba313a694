"""Every method and every baseline, from preparation to a finished run, on real ratings and a tiny LLM."""

import contextlib
import io
import json
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
import torch

from userllm.collaborative.baselines import Baseline, baselines
from userllm.core.errors import InputError
from userllm.core.files import read_json, write_json
from userllm.core.runs import StageCache
from userllm.data.histories import HistorySettings
from userllm.data.prepared import Stage, prepare
from userllm.data.protocols import movie
from userllm.evaluation.metrics import auc
from userllm.evaluation.reports import results_table
from userllm.knowledge.llms import tiny_llm
from userllm.model.mappers import FeatureTable, standardise
from userllm.model.recommender import Recommender
from userllm.model.side_features import planted_sides
from userllm.training.feature_sources import FeatureSource, MadeTable, feature_sources
from userllm.training.methods import find_method, methods
from userllm.training.pipeline import quickstart, run_baseline, run_method
from userllm.training.stages import load_context, Resources
from userllm.training.presets import smoke
from userllm.training.runs import require_same_training, training_settings


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    "A folder, a stage with a small dataset and a preset of a few rows, and a tiny LLM."
    place = tmp_path_factory.mktemp("methods")
    tiny_llm(place / "llm", width=16, layers=1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    cache = StageCache(place / "cache")
    preset = smoke()
    preset = replace(
        preset,
        step1=replace(preset.step1, rows=8, evaluate_every=8),
        step2=replace(preset.step2, rows=16, evaluate_every=16),
    )
    prepared = prepare(
        movie(users=40, minimum_item_ratings=25, positives=1_400, negatives=500), device="cpu", cache=cache
    )
    prepared = replace(prepared, dataset=planted_sides(prepared.dataset))  # with further columns
    resources = Resources(str(place / "llm"), "cpu", "fp32", cache, report=lambda _: None)
    yield place, Stage(prepared, preset, cache=cache), load_context(resources)
    torch.set_num_threads(threads)


def scores_again(place, run, cache):
    "Whether a run's recommender, loaded, gives the logits of its predictions."
    saved = pd.read_parquet(run / "predictions.parquet")
    loaded = Recommender.load(run, str(place / "llm"), "cpu", cache=cache)
    assert loaded.score(saved)["logit"].tolist() == pytest.approx(saved["logit"].tolist(), abs=1e-4)
    return loaded


@pytest.mark.parametrize("name", methods)
def test_a_method_is_trained_measured_and_saved(world, name):
    place, stage, context = world
    run = place / "runs" / name
    metrics = run_method(find_method(name), stage, context, run)
    settings = json.loads((run / "settings.json").read_text(encoding="utf-8"))
    assert metrics["rows"] == len(stage.dataset.rows("test")) and metrics["leaks"] == 0
    # the same budget of rows in the settings of all
    trained = {"two_steps": 8 + 16, "text": settings["step1"]["rows"], "one_step": settings["step2"]["rows"]}[
        find_method(name).tuning
    ]
    assert trained == 24
    scores_again(place, run, stage.cache)


@pytest.mark.parametrize("name", baselines)
def test_a_baseline_is_fitted_measured_and_saved(world, name):
    place, stage, _ = world
    run = place / "runs" / name
    metrics = run_baseline(name, stage, run)
    assert metrics["rows"] == len(stage.dataset.rows("test")) and metrics["leaks"] == 0
    with pytest.raises(InputError, match="other settings"):
        run_baseline(name, replace(stage, run_seed=1), run)

    loaded = scores_again(place, run, stage.cache)
    items = stage.dataset.items["item_id"]
    best = loaded.rank(stage.dataset.users["user_id"][0], top=5)
    assert len(best) == 5 and best["probability"].is_monotonic_decreasing
    best = loaded.rank_for_new_user(items[:2].tolist(), top=5)
    assert len(best) == 5 and not set(best["item_id"]) & set(items[:2])


def test_methods_with_the_same_text_share_step_1(world):
    _, stage, _ = world
    assert (
        len(list((stage.cache.root / "step1").glob("*/meta.json"))) == 4
    )  # descriptions; titles of histories; the same with TALLRec's rows; the title alone


@pytest.mark.parametrize("name", ["userllm", "collm_sasrec", "without_uhem"])
def test_a_method_with_rated_histories_gets_them_and_its_recommender_remembers_them(world, name):
    place, stage, context = world
    method = find_method(name)
    model = replace(method.model, history_events="rated", history_length=7)
    method = replace(method, name=f"{name}_with_rated_histories", model=model)
    run = place / "runs" / method.name
    metrics = run_method(method, stage, context, run)
    assert metrics["leaks"] == 0
    require_same_training(metrics["settings"], training_settings(method, stage.preset), run)
    with pytest.raises(InputError, match="other settings .model."):
        run_method(replace(method, model=replace(model, history_length=8)), stage, context, run)

    loaded = scores_again(place, run, stage.cache)
    assert loaded.history == HistorySettings(7, likes_only=False)
    frame = stage.dataset.rows("test")
    rows = loaded.rows_for(frame["user"], frame["item"], frame["timestamp"])
    assert rows.histories.shape[1] == 7 and {0, 1} <= set(rows.history_labels.ravel())
    likes, dislikes = ([1, 2, 3], []), ([1, 2], [3])
    answers = [loaded.logits(loaded.rows_of_new_user(liked, [9], disliked))[0] for liked, disliked in (likes, dislikes)]
    assert abs(answers[0] - answers[1]) > 1e-7


@dataclass(frozen=True)
class FittedPopularity:
    counts: np.ndarray  # (items,)
    trained_rows: np.ndarray

    def logits(self, rows):
        return np.log(self.counts + 1)[rows.items]

    def save(self, folder):
        write_json(folder / "counts.json", {"counts": self.counts.tolist(), "rows": self.trained_rows.tolist()})


class Popularity(Baseline):
    "How often an item was rated."

    def fit(self, stage):
        rows = stage.dataset.rows("train")
        counts = np.bincount(rows["item"], minlength=len(stage.dataset.items))
        return FittedPopularity(counts, rows["row_id"].to_numpy())

    def load(self, folder):
        saved = read_json(folder / "counts.json")
        return FittedPopularity(np.array(saved["counts"]), np.array(saved["rows"]))


class Loudness(FeatureSource):
    "A feature of items that is no part of userllm."

    def make(self, stage, slot):
        items = stage.dataset.items
        loudness = np.array([[len(title) % 7] for title in items["title"]], dtype=float)
        return MadeTable(standardise(FeatureTable.from_ids(items["item_id"], loudness, stage.dataset, "loudness")))


def help_of(verb):
    from userllm.cli.main import main

    with contextlib.redirect_stdout(io.StringIO()) as printed, pytest.raises(SystemExit):
        main([verb, "--help"])
    return printed.getvalue()


def test_a_baseline_that_is_registered_in_one_place_is_found_everywhere(world, monkeypatch):
    place, stage, _ = world
    monkeypatch.setitem(baselines, "popularity", Popularity("popularity", "how often an item was rated"))
    assert "popularity" in help_of("train")
    runs = place / "popular"
    results = quickstart(runs, stage, ("bias", "popularity"), Resources(report=lambda _: None))
    assert "popularity" in results_table(results).to_string()
    loaded = scores_again(place, runs / "popularity", stage.cache)
    assert loaded.method == "popularity" and len(loaded.rank_for_new_user([], top=3)) == 3

    monkeypatch.delitem(baselines, "popularity")
    with pytest.raises(InputError, match="needs the baseline 'popularity'"):
        Recommender.load(runs / "popularity")


def test_a_feature_source_that_is_registered_in_one_place_stands_in_a_slot(world, monkeypatch):
    place, stage, context = world
    monkeypatch.setitem(feature_sources, "loudness", Loudness("loudness", "how loud the trailer is"))
    method = find_method("userllm").with_slot("audio", "loudness")
    monkeypatch.setitem(methods, method.name, method)
    assert "userllm_audio" in help_of("train")
    run = place / "runs" / method.name
    metrics = run_method(find_method("userllm_audio"), stage, context, run)
    assert "userllm_audio" in results_table({method.name: metrics}).to_string()
    assert [origin["name"] for origin in metrics["settings"]["feature_sources"]] == ["loudness"]
    loaded = scores_again(place, run, stage.cache)
    assert loaded.tables["audio"].name == "loudness"


def test_pretraining_and_a_joint_step(world):
    "Pre-training, step 1 with the pre-trained slots, step 2, and all together once more; and the net without the LLM."
    place, stage, context = world
    run = place / "runs" / "pretrained"
    small = replace(
        stage,
        preset=replace(
            stage.preset,
            pretraining=replace(stage.preset.pretraining, rows=64, batch_size=16, evaluate_every=32),
            joint=replace(stage.preset.joint, rows=8, evaluate_every=8),
        ),
    )
    method = replace(
        find_method("userllm_wide"), pretrained=True, step1_slots=True, tuning="two_steps_then_joint"
    )
    metrics = run_method(method, small, context, run)
    log = [json.loads(line)["step"] for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert list(dict.fromkeys(log)) == ["pretraining", "step1", "step2", "joint"]
    assert metrics["leaks"] == 0 and 0 <= metrics["pretraining_validation_auc"] <= 1
    assert set(metrics["token_lengths"]) == {"image", "item", "user", "history"}
    assert metrics["settings"]["pretraining"]["rows"] == 64
    assert metrics["settings"]["tuning"] == "two_steps_then_joint"

    saved = pd.read_parquet(run / "predictions.parquet")
    assert metrics["without_llm"]["auc"]["value"] == pytest.approx(auc(saved["label"], saved["pretrained_logit"]))
    scores_again(place, run, stage.cache)

    # the artifact is found again, by another LoRA too
    artifacts = list((stage.cache.root / "pretraining").glob("*/weights.safetensors"))
    lora = replace(method.model, lora=replace(method.model.lora, alpha=8))
    again = run_method(
        replace(method, model=lora, tuning="two_steps", step1_slots=False), small, context, place / "runs" / "again"
    )
    assert again["pretraining_validation_auc"] == metrics["pretraining_validation_auc"]
    assert list((stage.cache.root / "pretraining").glob("*/weights.safetensors")) == artifacts
