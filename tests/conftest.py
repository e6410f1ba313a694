"""What all tests share: the small trained runs; no silent skips where continuous integration runs them."""

import os
from dataclasses import replace

import pytest

ON_CI = os.environ.get("CI", "").lower() in ("true", "1", "yes")
NO_CHROMIUM = "no Chromium here"  # how the reason of a browser test that is skipped for want of one begins


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    "The baseline and one method, trained on a tiny LLM and the real ratings."
    import torch

    from userllm.core.runs import StageCache
    from userllm.knowledge.llms import tiny_llm
    from userllm.training.pipeline import quickstart, smoke

    place = tmp_path_factory.mktemp("cli")
    tiny_llm(place / "llm", width=16, layers=1)
    preset = smoke()
    preset = replace(preset, step2=replace(preset.step2, rows=16, evaluate_every=16))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    quickstart(
        place / "runs",
        preset,
        str(place / "llm"),
        "cpu",
        "fp32",
        names=("userllm_plus",),
        cache=StageCache(place / "cache"),
    )
    torch.set_num_threads(threads)
    return place / "runs"


def reason_of(report) -> str:
    "Why a test, or a module of tests, was skipped."
    found = report.longrepr
    return str(found[2] if isinstance(found, tuple) else found).removeprefix("Skipped: ")


def refuse_skip(report) -> None:
    "Make a failure of a skip: what is missing on a machine that is to prove everything must not pass unseen."
    report.longrepr = (
        f"skipped, which CI=true does not allow: {reason_of(report)}\n"
        "Install what is missing. Only tests marked optional_data may be skipped."
    )
    report.outcome = "failed"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    expected = hasattr(report, "wasxfail") or item.get_closest_marker("optional_data")
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
    "Browser tests that did not run are told so that nobody overlooks it."
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
