"""A metric is one entry: registered in one place, it is measured, kept, compared and shown everywhere."""

import numpy as np
import pytest

from userllm.cli.main import main
from userllm.core.files import read_json, read_parquet
from userllm.evaluation.metrics import main_metrics, metrics
from userllm.evaluation.reports import difference_table, plot_results, results_table

PLUGIN = '''
import numpy as np
from userllm.evaluation.metrics import Metric, mean_over_users, metrics

def first_is_liked(rows):
    "Whether the item that stands first for a user is liked."
    order = np.lexsort((-rows.logits, rows.users))
    first = np.unique(rows.users[order], return_index=True)[1]
    return mean_over_users(rows.labels[order][first].astype(float))

metrics.register(Metric("hit_1", "hit rate at 1", first_is_liked, digits=2))
'''


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    (tmp_path / "toy_metric.py").write_text(PLUGIN, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield "toy_metric"
    metrics.pop("hit_1", None)


def test_a_metric_of_a_plugin_is_measured_kept_and_shown(plugin, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for method in ("bias", "mf"):
        train = ["train", method, "--preset", "smoke", "--plugin", plugin, "--out", f"runs/{method}"]
        assert main(train) == 0, capsys.readouterr().err
    assert "hit rate at 1" in capsys.readouterr().out  # the result of a training

    predictions = {name: read_parquet(tmp_path / "runs" / name / "predictions.parquet") for name in ("bias", "mf")}
    kept = {name: read_json(tmp_path / "runs" / name / "metrics.json") for name in predictions}
    best = predictions["mf"].loc[predictions["mf"].groupby("user_id")["logit"].idxmax()]
    assert kept["mf"]["hit_1"]["value"] == pytest.approx(best["label"].mean(), abs=0.02)  # ties aside
    assert kept["mf"]["hit_1"]["low"] < kept["mf"]["hit_1"]["high"]

    table = results_table(kept)
    assert list(table["hit_1"]) == [kept[name]["hit_1"]["value"] for name in kept]
    differences = difference_table(predictions, against="bias", resamples=50)
    assert differences["hit_1"][0] == pytest.approx(table["hit_1"][1] - table["hit_1"][0])
    panels = [axis.get_xlabel() for axis in plot_results(table).axes]
    assert panels == ["AUC, 95% interval", "UAUC, 95% interval", "hit rate at 1, 95% interval"]

    assert main(["evaluate", "runs/bias", "runs/mf", "--plugin", plugin]) == 0
    results, compared = capsys.readouterr().out.split("Difference to bias")
    assert f"{table['hit_1'][1]:.2f} [" in results  # with the metric's own digits
    assert "hit rate at 1" in compared


def test_without_it_nothing_is_left_of_it():
    assert [metric.name for metric in main_metrics()] == ["auc", "uauc"]
    assert list(metrics) == ["auc", "uauc", "uauc_weighted", "log_loss"]
    assert np.isfinite([metric.digits for metric in metrics.values()]).all()
