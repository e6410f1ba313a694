"""Each part of the prompt carries what it should: where only that part knows the answer, a method
with it finds it, and one without it does not."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from userllm.knowledge.llms import tiny_llm
from userllm.training.methods import find_method
from userllm.evaluation.metrics import auc
from userllm.model.engines import PrefixEngine
from userllm.training.schedule import StepSettings
from worlds import WORDS, learn, make_world, trained, with_and_without

WORLDS = ("poster", "description", "order", "collaborative", "dislikes", "time")
STEPS = StepSettings(
    rows=4_800, batch_size=32, learning_rate=1e-2, final_learning_rate=1e-3, evaluate_every=4_800
)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """A tiny model is faster so, and does not wait for another program that has a core."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def llm(tmp_path_factory):
    return tiny_llm(tmp_path_factory.mktemp("llm"), words=" ".join(WORDS), width=64, layers=3)


@pytest.mark.parametrize("name", WORLDS)
def test_nothing_can_be_guessed_from_one_side(name):
    rows = make_world(name).rows
    for part in rows.values():
        for ids in (part.users, part.items):
            np.testing.assert_array_equal(2 * np.bincount(ids, part.labels), np.bincount(ids))
    seen = [set(rows[part].items) for part in ("train", "test")]
    assert (not seen[0] & seen[1]) if name != "collaborative" else seen[1] <= seen[0]


@pytest.mark.parametrize("name", WORLDS)
def test_the_part_that_knows_is_heard(name, llm, tmp_path):
    world = make_world(name)
    knows, guesses = (
        learn(world, settings, llm, tmp_path / str(place), STEPS)
        for place, settings in enumerate(with_and_without(name))
    )
    assert knows > 0.85
    assert 0.45 <= guesses <= 0.55


def test_a_sum_hears_the_language_model_where_it_knows(llm, tmp_path):
    world, settings = (
        make_world("poster"),
        replace(find_method("userllm").model, wide=("item", "user")),
    )  # which tell nothing here
    model, maker = trained(world, settings, llm, tmp_path, STEPS)
    rows = world.rows["test"]
    assert model.language_weight > 0.2
    assert auc(rows.labels, PrefixEngine(model, maker).logits(rows).round(4)) > 0.85
