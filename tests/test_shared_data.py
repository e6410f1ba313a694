"""What is shipped against the files that it was made from, where `USERLLM_DATA` names the folder
that holds them."""

import os
from pathlib import Path

import pytest
import torch

from userllm.core.runs import StageCache
from userllm.visual.posters import find_posters, pictures_in, shipped_posters
from userllm.visual.poster_features import poster_features, shipped_features

POSTERS = Path(os.environ.get("USERLLM_DATA", "nowhere")) / "movielens-small" / "posters"


@pytest.mark.optional_data
@pytest.mark.skipif(
    not POSTERS.is_dir(),
    reason="USERLLM_DATA names no folder with movielens-small/posters, pictures named by MovieLens id",
)
def test_posters_give_the_shipped_features(tmp_path, monkeypatch):
    shipped, known = shipped_features(), shipped_posters()
    there = sorted(pictures_in(POSTERS).keys() & known.keys(), key=int)
    posters = find_posters(POSTERS, there[:: max(len(there) // 20, 1)][:20])
    assert len(posters) == 20 and posters["poster"].tolist() == [
        known[item_id] for item_id in posters["item_id"]
    ]
    monkeypatch.setattr("userllm.visual.poster_features.shipped_features", dict)  # so that they are computed
    features, faults = poster_features(posters, device="cpu", cache=StageCache(tmp_path))
    assert not faults and features.keys() == set(posters["poster"])
    made, kept = (
        torch.stack([table[poster].float() for poster in posters["poster"]]) for table in (features, shipped)
    )
    distances = 1 - torch.cosine_similarity(made, kept)
    print(f"largest cosine distance of {len(posters)} posters: {distances.max():.1e}")
    assert distances.max() < 1e-2, distances
    assert (1 - torch.cosine_similarity(made, kept.roll(1, 0))).min() > 1e-2  # of another poster
