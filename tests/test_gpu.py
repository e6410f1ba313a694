"""What has to hold on a GPU too. `USERLLM_GPU_TESTS=cpu` runs these on a CPU, to know that they start."""

import os

import numpy as np
import pytest
import torch

WHERE = "cpu" if os.environ.get("USERLLM_GPU_TESTS") == "cpu" else "cuda"
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(WHERE == "cuda" and not torch.cuda.is_available(), reason="there is no GPU here"),
]


@pytest.fixture
def small(tmp_path):
    "Logits of six rows by a small model on the CPU in fp32, and the model again on the GPU."
    from userllm.knowledge.llms import load_llm
    from userllm.model.batches import BatchMaker
    from userllm.model.language_model import LanguageModel
    from userllm.model.small_models import reference_logits, small_items, small_model, small_rows, small_tables
    from userllm.model.userllm import UserLLM

    model, maker = small_model(tmp_path)
    expected = reference_logits(model, maker, small_rows()).numpy()

    def on(precision):
        llm = load_llm(str(tmp_path), WHERE, precision)
        tables = small_tables()
        language = LanguageModel(llm, model.settings.lora, model.settings.score)
        there = UserLLM(language, {slot: table.width for slot, table in tables.items()}, model.settings).eval()
        language.load_lora(model.language.lora_parameters())
        with torch.no_grad():
            for name, value in there.alignment_parameters().items():
                value.copy_(model.alignment_parameters()[name])
        return there, BatchMaker(small_items(), tables, llm.tokenizer, model.settings)

    return expected, on, small_rows()


@pytest.mark.parametrize(("precision", "bound"), [("fp32", 1e-3), ("bf16", 0.1)])
@pytest.mark.parametrize("engine", ["plain", "reuse"])
def test_engines_give_the_cpus_logits(small, engine, precision, bound):
    from userllm.model.engines import find_engine

    expected, on, rows = small
    model, maker = on(precision)
    logits = find_engine(model, maker, engine).logits(rows, batch_size=4)
    assert np.abs(logits - expected).max() <= bound * max(1, np.abs(expected).max())


def test_the_engine_check_finds_reuse(small):
    from userllm.model.engine_check import check_engine

    _, on, _ = small
    assert check_engine(*on("fp32")).engine == "reuse"


def test_a_training_on_a_gpu_is_opened_on_a_cpu(tmp_path):
    from userllm.core.runs import StageCache
    from userllm.data.prepared import Stage, prepare
    from userllm.data.protocols import movie
    from userllm.knowledge.llms import tiny_llm
    from userllm.model.recommender import Recommender
    from userllm.training.methods import find_method
    from userllm.training.pipeline import run_method
    from userllm.training.presets import smoke
    from userllm.training.stages import Resources, load_context

    tiny_llm(tmp_path / "llm", width=16, layers=1)
    data = prepare(movie(users=40, minimum_item_ratings=25, positives=1_400, negatives=500), device="cpu")
    stage = Stage(data, smoke(), cache=StageCache(tmp_path / "cache"))
    context = load_context(Resources(str(tmp_path / "llm"), WHERE, "fp32"), find_method("userllm").model)
    metrics = run_method(find_method("userllm"), stage, context, tmp_path / "run")
    assert metrics["leaks"] == 0

    user = data.dataset.users["user_id"][0]
    lists = [Recommender.load(tmp_path / "run", device=where).rank(user, top=5) for where in (WHERE, "cpu")]
    assert lists[0]["probability"].tolist() == pytest.approx(lists[1]["probability"].tolist(), abs=1e-3)
