"""The command line at its edges: alphabets, closed and full streams, no home, full and odd places.
One line each, and no traceback."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from userllm.cli.main import main

ENTRY = "import sys; from userllm.cli.entry import main; sys.exit(main())"
NOBODY = "import os, pwd; os.environ.pop('HOME', None); pwd.getpwuid = lambda number: {}[number]; " + ENTRY
PLAIN = {
    "LC_ALL": "C",
    "PYTHONUTF8": "0",
    "PYTHONCOERCECLOCALE": "0",
}  # a locale of ASCII, as Python 3.14 and older take it


def command(
    *arguments, how: str = "", code: str = ENTRY, folder: Path | None = None, **environment
) -> subprocess.CompletedProcess:
    "Run the command in a shell, with its redirections."
    line = f"{shlex.join([sys.executable, '-c', code, *map(str, arguments)])} {how}"
    kept = {name: value for name, value in os.environ.items() if name != "USERLLM_CACHE"}
    return subprocess.run(["sh", "-c", line], cwd=folder, env=kept | environment, capture_output=True)


def said(done: subprocess.CompletedProcess) -> str:
    "What is wrong and what to do, a line each on the error stream; progress bars are left out."
    text = done.stderr.decode()
    assert "Traceback" not in text, text
    lines = [line for line in text.splitlines() if line.startswith("userllm: ")]
    fixes = [line for line in text.splitlines() if line.startswith("  Fix: ")]
    assert len(lines) <= 1 and len(fixes) <= len(lines), text
    return "".join(lines + fixes)


@pytest.fixture(scope="module")
def rank(runs) -> list[str]:
    "To rank 20 items for somebody who likes a film with an accent in its title: 24 lines."
    items = pd.read_parquet(runs / "userllm_plus" / "recommender" / "items.parquet")
    accented = items.loc[[not title.isascii() for title in items["title"]], "item_id"].iloc[0]
    return ["rank", str(runs / "userllm_plus"), "--likes", accented, "--most-liked", "20", "--device", "cpu"]


ASCII = {"PYTHONIOENCODING": "ascii"}


@pytest.mark.parametrize("environment", [PLAIN, ASCII, {"PYTHONIOENCODING": "latin-1"}])
def test_an_answer_is_the_same_whatever_the_locale(rank, tmp_path, environment):
    done = command(*rank, how="> answer.txt", folder=tmp_path, **environment)
    answer = (tmp_path / "answer.txt").read_bytes()
    assert done.returncode == 0 and not said(done) and answer.count(b"\n") == 24
    assert answer.splitlines()[0].removeprefix(b"Liked: ") == rank_likes(rank).encode()  # in UTF-8


def rank_likes(rank: list[str]) -> str:
    "The title and year of the item that is liked."
    items = pd.read_parquet(Path(rank[1]) / "recommender" / "items.parquet").set_index("item_id")
    liked = items.loc[rank[3]]
    return f"{liked['title']} ({liked['year']})"


def test_errors_are_the_same_whatever_the_locale(tmp_path):
    done = command("evaluate", "Żółć", folder=tmp_path, **ASCII)
    assert done.returncode == 2 and "Żółć" in done.stderr.decode()


@pytest.mark.parametrize(
    "how, words",
    [(">&-", "nothing can be printed"), (">/dev/full", "No space left on device"), (">&- 2>&- <&-", "")],
)
def test_an_answer_that_nobody_gets_is_refused(rank, how, words):
    done = command(*rank, how=how)
    assert done.returncode == 2 and words in said(done)


def test_bars_do_not_run_into_the_answer_of_a_log_file(rank, tmp_path):
    done = command(*rank, how="> log.txt 2>&1", folder=tmp_path)
    log = (tmp_path / "log.txt").read_text(encoding="utf-8")
    assert done.returncode == 0 and "candidates: 100%" in log
    answer = [line for line in log.split("\n") if "rank  item id" in line or "Liked: " in line]
    assert len(answer) == 2 and all(line.startswith(("rank", "Liked")) for line in answer)


def test_a_reader_that_has_enough_is_no_error(rank):
    done = command(*rank, how="| head -n 1")
    assert done.stdout.startswith(b"Liked: ") and done.stdout.count(b"\n") == 1 and not said(done)


def test_work_that_is_done_counts_although_nobody_can_read_of_it(runs, tmp_path):
    predictions = pd.read_parquet(runs / "userllm_plus" / "predictions.parquet").head(3)
    predictions[["user_id", "item_id"]].to_csv(tmp_path / "pairs.csv", index=False)
    done = command(
        "score",
        runs / "userllm_plus",
        "--pairs",
        "pairs.csv",
        "--out",
        "scores.csv",
        how=">/dev/full",
        folder=tmp_path,
    )
    assert done.returncode == 0 and "the work is done" in said(done)
    assert len(pd.read_csv(tmp_path / "scores.csv")) == 3


def test_without_a_home_the_cache_wants_a_place(rank, tmp_path):
    (tmp_path / "home").write_text(
        "", encoding="utf-8"
    )  # a home that is no folder can't be written, not even by an administrator
    for how in ({"code": NOBODY}, {"HOME": str(tmp_path / "home")}):
        done = command(
            "train", "bias", "--preset", "smoke", "--out", tmp_path / "run", folder=tmp_path, **how
        )
        assert done.returncode == 2 and "USERLLM_CACHE" in said(done)
    assert command(*rank, folder=tmp_path, code=NOBODY).returncode == 0  # which needs no cache
    assert (
        b"Fix: name a folder in USERLLM_CACHE"
        in command("doctor", folder=tmp_path, code=NOBODY).stdout
    )
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


LONG = "x" * 300
STORM = [
    "train bias --preset smoke --out FILE",
    "train bias --preset smoke --out FILE/run",
    f"train bias --preset smoke --out {LONG}",
    "train bias --preset smoke --out LOOP/run",
    "train bias --preset smoke --out /dev/full",
    "train bias --preset smoke --out /proc/none/run",
    "train bias --data FILE",
    f"train bias --data {LONG}",
    "train bias --data LOOP",
    "train userllm --llm FILE",
    f"train userllm --llm {LONG}/x",
    "train userllm --llm LOOP/x",
    "train userllm --llm LLMS/typo",
    "train bias --posters FILE",
    f"train bias --posters {LONG}",
    "train bias --posters LOOP",
    "score RUN --pairs FOLDER --out s.csv",
    "score RUN --pairs FILE --out s.csv",
    "score RUN --pairs LOOP --out s.csv",
    f"score RUN --pairs {LONG} --out s.csv",
    "score RUN --pairs PAIRS --out FILE/s.csv",
    f"score RUN --pairs PAIRS --out {LONG}.csv",
    "score RUN --pairs PAIRS --out LOOP/s.csv",
    "score RUN --pairs PAIRS --out /proc/none/s.csv",
    "score RUN --pairs PAIRS --out FOLDER",
    "score RUN --llm FILE --pairs PAIRS --out s.csv",
    "rank FILE --user 1",
    "rank LOOP --user 1",
    f"rank {LONG} --user 1",
    "evaluate FILE",
    "evaluate LOOP",
    f"evaluate {LONG}",
    "evaluate FOLDER",
    "prepare table --interactions FOLDER",
    "prepare table --interactions LOOP",
    f"prepare table --interactions {LONG}",
    "prepare table --interactions FILE",
    "prepare table --interactions PAIRS --items FOLDER",
    "prepare movies --folder FILE",
    "prepare movies --folder LOOP",
    "prepare netflix --folder FILE",
    "prepare recbole --folder FILE",
    "prepare recbole --folder LOOP",
    "prepare --out FILE",
    "prepare --out FILE/data",
    f"prepare --out {LONG}",
    "prepare --out LOOP",
    "prepare --posters FOLDER --out /proc/none",
    "posters --manifest FOLDER --out p",
    "posters --manifest FILE --out p",
    "posters --manifest LOOP --out p",
    "posters --manifest LIST --out FILE",
    "posters --manifest LIST --out LOOP",
    "posters --manifest LIST --out /proc/none",
    "quickstart --preset smoke --llm LLM --out FILE",
    "quickstart --preset smoke --llm LLM --out LOOP",
    f"quickstart --preset smoke --llm LLM --out {LONG}",
    "reproduce table3 --dry-run --results FILE",
    "reproduce table3 --dry-run --results LOOP",
    f"reproduce table3 --dry-run --results {LONG}",
    "reproduce figure3 --dry-run --results LOOP/x",
    "ablations --dry-run --results LOOP",
    "ablations --written FOLDER --dry-run",
    "ablations --written LOOP --dry-run",
    "bench --table 1000 --out FILE/b.json",
    "bench --table 1000 --out LOOP/b.json",
    "bench --table 1000 --out FOLDER",
    "bench --llm LLM --histories 1 --rows 1 --repeats 1 --out FILE/b.json",
    "bench --llm LLM --histories 1 --rows 1 --repeats 1 --out /proc/none/b.json",
]


@pytest.fixture
def act(runs, tmp_path, monkeypatch, capsys):
    """Give a line to the command line, with names for what lies here; gives its exit code and what
    it said on the error stream."""
    (tmp_path / "file").write_text("in the way\n", encoding="utf-8")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "list.csv").write_text("item_id,path\n1,file\n", encoding="utf-8")
    pairs = pd.read_parquet(runs / "bias" / "predictions.parquet").head(2)[["user_id", "item_id"]]
    pairs.to_csv(tmp_path / "pairs.csv", index=False)
    names = {
        "FILE": tmp_path / "file",
        "FOLDER": tmp_path / "folder",
        "LOOP": tmp_path / "loop",
        "LIST": tmp_path / "list.csv",
        "PAIRS": tmp_path / "pairs.csv",
        "RUN": runs / "userllm_plus",
        "LLMS": runs.parent,
        "LLM": runs.parent / "llm",
    }
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("USERLLM_CACHE", str(runs.parent / "cache"))

    def act(line: str) -> tuple[int, str]:
        words = [word.partition("/") for word in line.split()]
        status = main([f"{names.get(first, first)}{slash}{rest}" for first, slash, rest in words])
        return status, capsys.readouterr().err

    return act


@pytest.mark.parametrize("line", STORM)
def test_odd_places_are_refused_in_a_line(act, line):
    status, error = act(line)
    said = [text for text in error.splitlines() if text.startswith("userllm: ")]
    if "--dry-run" not in line:  # which may find nothing there, and lists what is to do
        assert status == 2
    assert len(said) == (status == 2) and len(error) < 2500, error


@pytest.mark.parametrize(
    "line",
    [
        "train bias --preset smoke --out LOOP/run",
        "quickstart --preset smoke --llm LLM --out FILE",
        "score RUN --pairs PAIRS --out LOOP/s.csv",
        "bench --table 1000 --out FOLDER",
        "bench --llm LLM --out FILE/b.json",
        "reproduce table3 --llm LLM --results LOOP",
        "reproduce table3 --llm LLM --out FILE",
        "reproduce figure3 --llm LLM --results FILE/x",
        "ablations tokens --llm LLM --results FILE",
    ],
)
def test_places_are_asked_before_any_work(act, monkeypatch, line):
    for work in (
        "cli.prepare.prepare",
        "cli.quickstart.quickstart",
        "cli.bench.run_bench",
        "cli.reproduce.reproduce",
        "cli.reproduce.run_bench",
        "cli.ablations.run_ablations",
        "cli.bench.ProcessPoolExecutor",
        "model.userllm_recommender.load_llm",
    ):
        monkeypatch.setattr(f"userllm.{work}", lambda *_, **__: pytest.fail("work was begun"))
    status, error = act(line)
    assert status == 2 and ("folder" in error or "write" in error), error
