"""What all tests share: the small trained runs; no silent skips where continuous integration runs them."""

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

# One process of several (`make test`) computes on one core: with more threads they would wait for each other.
if "PYTEST_XDIST_WORKER" in os.environ:
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS"):
        os.environ.setdefault(name, "1")

MEMORY = 4e9  # bytes that one process of the tests may need
MOST_PROCESSES = 4
TRAINED = {"test_cli", "test_edges", "test_hub", "test_runs"}  # files that use the fixture `runs`
ON_CI = os.environ.get("CI", "").lower() in ("true", "1", "yes")
NO_CHROMIUM = "no Chromium here"  # how the reason of a browser test that is skipped for want of one begins


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    "The baseline and one method, trained on a tiny LLM and the real ratings."
    import torch

    from userllm.core.runs import StageCache
    from userllm.knowledge.llms import tiny_llm
    from userllm.data.prepared import Stage, prepare
    from userllm.training.pipeline import quickstart
    from userllm.training.stages import Resources
    from userllm.training.presets import smoke

    place = tmp_path_factory.mktemp("cli")
    tiny_llm(place / "llm", width=16, layers=1)
    preset = smoke()
    preset = replace(preset, step2=replace(preset.step2, rows=16, evaluate_every=16))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    cache = StageCache(place / "cache")
    stage = Stage(prepare(preset.protocol, device="cpu", cache=cache), preset, cache=cache)
    systems = ("bias", "mf", "mf_bias", "logistic", "userllm_plus")
    quickstart(place / "runs", stage, systems, Resources(str(place / "llm"), "cpu", "fp32", cache))
    torch.set_num_threads(threads)
    return place / "runs"


def pytest_xdist_auto_num_workers(config) -> int:
    "For `-n auto`: as many processes as have a core and memory of their own."
    import psutil

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    by_memory = int(psutil.virtual_memory().available / MEMORY)
    return max(1, min(cores, by_memory, MOST_PROCESSES))


def group_of(test: str) -> str:
    """Which tests one process runs, by a test's id: those of a file, those that share the trained runs, and
    those that measure time. A browser takes more than one core, so these do not run beside it.

    All other notebooks are dealt out one by one."""
    file, _, name = test.partition("::")
    stem = Path(file).stem
    if stem in TRAINED:
        return "trained"
    if stem == "test_browser":
        return "timed"
    notebook = re.fullmatch(r"test_notebook\[(.+)\]", name)
    if stem != "test_notebooks" or not notebook:
        return stem
    text = (Path(__file__).parents[1] / "nbs" / f"{notebook[1]}.ipynb").read_text(encoding="utf-8")
    return "timed" if "assert seconds <" in text else test


def pytest_xdist_make_scheduler(config, log):
    "With `-n`, tests are dealt out in the groups of `group_of`, the largest first."
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    return Groups(config, log)


def reason_of(report) -> str:
    "Why a test, or a module of tests, was skipped."
    found = report.longrepr
    return str(found[2] if isinstance(found, tuple) else found).removeprefix("Skipped: ")


def refuse_skip(report) -> None:
    "Make a failure of a skip: what is missing on a machine that is to prove everything must not pass unseen."
    report.longrepr = (
        f"skipped, which CI=true does not allow: {reason_of(report)}\n"
        "Install what is missing. Only tests marked optional_data or gpu may be skipped."
    )
    report.outcome = "failed"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    marked = any(item.get_closest_marker(name) for name in ("optional_data", "gpu"))
    expected = marked or hasattr(report, "wasxfail")
    if ON_CI and report.skipped and not expected:
        refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    report = yield
    if ON_CI and report.outcome == "skipped":
        refuse_skip(report)
    return report


def pytest_terminal_summary(terminalreporter):
    "Browser tests that did not run are named where nobody overlooks them."
    skipped = [
        report
        for report in terminalreporter.stats.get("skipped", [])
        if reason_of(report).startswith(NO_CHROMIUM)
    ]
    if skipped:
        terminalreporter.section("BROWSER TESTS WERE SKIPPED", sep="!", red=True, bold=True)
        terminalreporter.line(
            f"{len(skipped)} tests of the workbench in a real browser did not run: there is no Chromium here."
        )
        terminalreporter.line(
            "To run them: .ci/chromium (which installs it by apt), or put chromium or google-chrome on the"
            " PATH; then make test again."
        )
