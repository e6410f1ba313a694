"""Many rows: folders of pairs to folders of scores, with faults of rows, workers, drivers and disks."""

import contextlib
import os
import random
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest

from many_rows import command, dataset, ended, finished, parts, save_recommender, write_pairs

FAULTS: dict[str, dict] = {}  # what went wrong -> counts


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    "A recommender, and pairs with the scores that it gives them one by one."
    place = tmp_path_factory.mktemp("many")
    save_recommender(place)
    write_pairs(place / "pairs", 2_000)
    return place


@pytest.fixture(scope="module")
def expected(place) -> pd.DataFrame:
    "The pairs that can be scored, with the scores of `Recommender.score`."
    from userllm.model.recommender import Recommender

    pairs = pd.concat(
        [pd.read_parquet(path) for path in sorted((place / "pairs").iterdir())], ignore_index=True
    )
    good = pairs["user_id"].str.startswith("u") & pairs["item_id"].str.startswith("i")
    scores = Recommender.load(place / "recommender", device="cpu").score(pairs[good])
    return scores.set_index(np.flatnonzero(good))


def same(out, expected) -> None:
    "All rows once, with the same scores."
    scored = parts(out)
    assert scored.index.tolist() == expected.index.tolist()
    for name in ("user_id", "item_id", "timestamp"):
        assert scored[name].tolist() == expected[name].tolist()
    assert np.abs(scored["logit"] - expected["logit"]).max() < 1e-5
    faults = pd.read_parquet(out / "faults.parquet")
    assert faults[["row", "fault"]].values.tolist() == [[3, "unknown user_id"], [1_000, "unknown item_id"]]
    counts = finished(out)
    assert counts["rows"] == counts["done"] + sum(counts["faults"].values()) == 2_000
    left = {path.name for path in out.iterdir() if not path.name.startswith("part-")}
    assert left == {"request.json", "faults.parquet"}


def score(place, out, *words, **environment):
    return command(
        "score",
        place / "recommender",
        "--device",
        "cpu",
        "--pairs",
        place / "pairs",
        "--out",
        out,
        *words,
        **environment,
    )


def test_a_folder_of_pairs_becomes_a_folder_of_scores(place, expected, tmp_path):
    output = ended(score(place, tmp_path / "scores", "--shard-rows", "300"))
    assert "2,000 rows in, 1,998 scored, 2 faults; 7 parts" in output
    same(tmp_path / "scores", expected)


def test_a_title_of_a_megabyte_is_set_aside_and_named(tmp_path):
    data = dataset()
    data.items.loc[5, "title"] = "long " * 200_000
    save_recommender(tmp_path, data, title=10**9)
    pairs = pd.DataFrame({"user_id": ["u1", "u2", "u3"], "item_id": ["i4", "i5", "i6"]})
    pairs.to_parquet(tmp_path / "pairs.parquet")
    out = tmp_path / "scores"
    output = ended(
        command(
            "score",
            tmp_path / "recommender",
            "--pairs",
            tmp_path / "pairs.parquet",
            "--out",
            out,
            "--device",
            "cpu",
        )
    )
    assert "3 rows in, 2 scored, 1 fault;" in output
    faults = pd.read_parquet(out / "faults.parquet")
    assert faults[["row", "user_id", "item_id"]].values.tolist() == [[1, "u2", "i5"]]
    assert "the longest prompt has" in faults["fault"][0]
    assert parts(out)["item_id"].tolist() == ["i4", "i6"]


def counted(name: str, kills: int, out, expected) -> None:
    """Look at every row, and add a line to the table of faults, which goes where USERLLM_FAULTS says
    (results/faults.json)."""
    same(out, expected)
    rows = np.concatenate([pd.read_parquet(path, columns=["row"])["row"] for path in out.glob("part-*")])
    aside = pd.read_parquet(out / "faults.parquet", columns=["row"])["row"]
    times = np.bincount([*rows, *aside], minlength=2_000)
    lost = int((times == 0).sum())
    FAULTS[name] = {"rows": 2_000, "kills": kills, "lost": lost, "doubled": int((times > 1).sum())}
    table = pd.DataFrame(FAULTS).T.rename_axis("fault").reset_index()
    print(table.to_string())
    assert not table[["lost", "doubled"]].to_numpy().any()
    if "USERLLM_FAULTS" in os.environ:
        table.to_json(os.environ["USERLLM_FAULTS"], orient="records", indent=1)


# Ray

SLOW = """
import time
from userllm.model.engines import PrefixEngine, engines

@engines.register
class Slow(PrefixEngine):
    "Waits before each batch, so that there is time to kill it."
    name = "slow"

    def batch(self, rows):
        time.sleep(0.1)
        return super().batch(rows)
"""
FULL = """
import errno, os
from pathlib import Path
from userllm.core.stores import FileStore

whole = FileStore.put_parquet

def put_parquet(self, name, frame, group=100_000):
    if name.startswith("part-00002") and Path(os.environ["DISK_FULL"]).exists():
        with self.writing(name) as path:
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
    whole(self, name, frame, group)

FileStore.put_parquet = put_parquet
"""


@pytest.fixture(scope="module")
def plugins(tmp_path_factory) -> dict:
    "Modules of one's own, and where they are found."
    folder = tmp_path_factory.mktemp("plugins")
    (folder / "slow_engine.py").write_text(SLOW, encoding="utf-8")
    (folder / "full_disk.py").write_text(FULL, encoding="utf-8")
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    return {"PYTHONPATH": path, "DISK_FULL": str(folder / "full")}


def workers_of(process) -> list:
    "The processes of Ray's workers that do shards."
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if any("ShardActor" in word for word in child.cmdline()):
                found.append(child)
    return found


def any_worker_of(process, moments: random.Random, seconds: float = 120):
    "One of the workers, when there is one: a worker that was killed takes a while to be started again."
    end = time.monotonic() + seconds
    while not (workers := workers_of(process)):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end, "no worker"
        time.sleep(0.05)
    return moments.choice(workers)


def wait_for_parts(process, out, count: int, seconds: float = 120) -> None:
    "Return when so many parts are there."
    end = time.monotonic() + seconds
    while len(list(out.glob("part-*.parquet"))) < count:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end, "no parts"
        time.sleep(0.05)


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_a_worker_is_killed_and_its_shard_is_done_again(place, expected, plugins, tmp_path):
    out = tmp_path / "scores"
    words = ("--shard-rows", "400", "--engine", "ray,slow", "--workers", "2", "--plugin", "slow_engine")
    process = score(place, out, *words, **plugins)
    wait_for_parts(process, out, 1)
    workers_of(process)[0].kill()
    output = ended(process)
    assert "1 worker died, and the shards were done again" in output
    for noise in ("core_worker.cc", "local Ray instance", "usage statistics", "Dataset"):
        assert noise not in output, output
    counted("a worker killed", 1, out, expected)


def test_without_ray_the_command_to_install_it_is_named(place, tmp_path):
    hidden = "import importlib.util as u; find = u.find_spec\n"
    hidden += "u.find_spec = lambda name, *more: None if name == 'ray' else find(name, *more)\n"
    (tmp_path / "no_ray.py").write_text(hidden, encoding="utf-8")
    words = ("--engine", "ray", "--plugin", "no_ray")
    output = ended(score(place, tmp_path / "scores", *words, PYTHONPATH=str(tmp_path)), status=2)
    assert "needs Ray, which is not installed" in output and "pip install 'userllm[ray]'" in output


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_workers_are_killed_three_times_at_random(place, expected, plugins, tmp_path):
    out = tmp_path / "scores"
    words = ("--shard-rows", "100", "--engine", "ray,slow", "--workers", "2", "--plugin", "slow_engine")
    process = score(place, out, *words, **plugins)
    moments = random.Random(0)
    for kill in range(3):
        wait_for_parts(process, out, 2 + 4 * kill)
        time.sleep(moments.uniform(0, 2))
        any_worker_of(process, moments).kill()
    assert "workers died, and the shards were done again" in ended(process)
    counted("workers killed at random moments", 3, out, expected)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("engine", ["local,slow", "ray,slow"])
def test_the_driver_is_killed_and_the_command_given_again(place, expected, plugins, tmp_path, engine):
    out = tmp_path / "scores"
    words = ("--shard-rows", "200", "--engine", engine, "--plugin", "slow_engine")
    for kill in range(2):
        process = score(place, out, *words, **plugins)
        wait_for_parts(process, out, 2 + 3 * kill)
        left = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.communicate()
        psutil.wait_procs(left, timeout=120)  # Ray's own agents notice it late on a busy machine
        assert not [child for child in left if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    assert not list(out.glob("*.parquet.tmp"))
    output = ended(score(place, out, *words, **plugins))
    assert "of these had been scored before, by the same request" in output
    counted(f"driver killed and started again ({engine.partition(',')[0]})", 2, out, expected)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("engine", ["local", "ray"])
def test_a_full_disk_leaves_nothing_half_and_can_be_resumed(place, expected, plugins, tmp_path, engine):
    out = tmp_path / "scores"
    words = ("--shard-rows", "400", "--engine", engine, "--plugin", "full_disk")
    full = Path(plugins["DISK_FULL"])
    full.touch()
    output = ended(score(place, out, *words, **plugins), status=2)
    assert "No space left on device" in output and "Traceback" not in output
    assert not list(out.glob("part-00002*")) and not list(out.glob(".tmp-*"))
    full.unlink()
    ended(score(place, out, *words, **plugins))
    counted(f"disk full in a worker ({engine})", 0, out, expected)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_second_driver_at_one_output_is_refused(place, expected, plugins, tmp_path):
    out = tmp_path / "scores"
    words = ("--shard-rows", "200", "--engine", "ray,slow", "--workers", "2", "--plugin", "slow_engine")
    first = score(place, out, *words, **plugins)
    wait_for_parts(first, out, 1)
    output = ended(score(place, out, *words, **plugins), status=2)
    assert f"is being written by process {first.pid}" in output
    ended(first)
    counted("two drivers at one output: the second refused", 0, out, expected)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_lists_of_ray_are_those_of_the_local_engine(place, tmp_path):
    (tmp_path / "users.txt").write_text("\n".join([*dataset().users["user_id"], "nobody"]), encoding="utf-8")
    tables = []
    for engine in ("local", "ray"):
        out = tmp_path / engine
        words = ("--users", tmp_path / "users.txt", "--out", out, "--engine", engine, "--shard-rows", "20")
        output = ended(command("rank", place / "recommender", *words, "--top", "5", "--candidates", "all"))
        assert "61 users in, 60 ranked, 1 fault; 3 parts" in output
        tables.append(pd.concat(map(pd.read_parquet, sorted(out.glob("part-*"))), ignore_index=True))
    pd.testing.assert_frame_equal(*tables, rtol=1e-5)
