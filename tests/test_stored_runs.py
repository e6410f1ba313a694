"Every stored run of the experiments was made by what its name stands for now."

import json
from pathlib import Path

import pytest

from userllm.evaluation.systems import find_system
from userllm.training.presets import find_preset
from userllm.training.runs import baseline_settings, require_same_training, training_settings

ROOT = Path(__file__).parents[1]
STORED = sorted(ROOT.glob("results/experiments/*/*/*/seed*/settings.json"))


def expected(path: Path) -> dict:
    "The settings that a run at this place has now."
    preset = find_preset(path.parts[-5])
    system = find_system(path.parts[-3])
    return baseline_settings(system.of, preset) if system.is_baseline else training_settings(system.method({}), preset)


def test_stored_runs_are_those_of_now():
    assert len(STORED) > 100
    for path in STORED:
        require_same_training(json.loads(path.read_text(encoding="utf-8")), expected(path), path.relative_to(ROOT))


def test_a_stored_run_of_another_method_is_found():
    path = next(path for path in STORED if path.parts[-3] == "userllm")
    settings = json.loads(path.read_text(encoding="utf-8"))
    settings["model"]["order"] = "user_first"
    with pytest.raises(Exception, match="made with other settings"):
        require_same_training(settings, expected(path), "a run")
