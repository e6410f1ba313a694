"""Every method and every baseline, from preparation to a finished run, on real ratings and a tiny LLM."""

import json
from dataclasses import replace

import pandas as pd
import pytest
import torch

from userllm.core.errors import InputError
from userllm.core.runs import StageCache
from userllm.knowledge.llms import tiny_llm
from userllm.training.methods import find_method, methods
from userllm.data.prepared import prepare
from userllm.training.pipeline import baselines, run_baseline, run_method, share_llm
from userllm.training.presets import smoke
from userllm.data.protocols import movie
from userllm.model.recommender import Recommender


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    "A small dataset, a tiny LLM, a preset of a few rows."
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
    yield place, cache, preset, prepared, share_llm(str(place / "llm"), "cpu", "fp32", cache=cache)
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", methods)
def test_a_method_is_trained_measured_and_saved(world, name):
    place, cache, preset, prepared, shared = world
    metrics = run_method(
        find_method(name), prepared, preset, shared, place / "runs" / name, cache=cache, say=lambda _: None
    )
    settings = json.loads((place / "runs" / name / "settings.json").read_text(encoding="utf-8"))
    assert metrics["rows"] == len(prepared.dataset.rows("test")) and metrics["leaks"] == 0
    # the same budget of rows in the settings of all
    trained = {"two_steps": 8 + 16, "text": settings["step1"]["rows"], "one_step": settings["step2"]["rows"]}[
        find_method(name).tuning
    ]
    assert trained == 24
    saved = pd.read_parquet(place / "runs" / name / "predictions.parquet")
    loaded = Recommender.load(place / "runs" / name / "recommender", str(place / "llm"), "cpu", cache=cache)
    assert loaded.score(saved)["logit"].tolist() == pytest.approx(saved["logit"].tolist(), abs=1e-4)


@pytest.mark.parametrize("name", baselines)
def test_a_floor_is_fitted_and_measured(world, name):
    place, cache, preset, prepared, _ = world
    metrics = run_baseline(name, prepared, preset, place / "runs" / name, cache=cache)
    assert metrics["rows"] == len(prepared.dataset.rows("test")) and metrics["leaks"] == 0
    with pytest.raises(InputError, match="other settings"):
        run_baseline(name, prepared, preset, place / "runs" / name, run_seed=1, cache=cache)


def test_methods_with_the_same_text_share_step_1(world):
    _, cache, _, _, _ = world
    assert (
        len(list((cache.root / "step1").glob("*/meta.json"))) == 4
    )  # descriptions; titles of histories; the same with TALLRec's rows; the title alone
