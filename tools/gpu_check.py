"""The steps of tools/gpu_check.sh: each a command with a time limit, its output, and how it ended.

What is left of the time goes to the steps that are left. A step that fails or takes too long is noted, and the next
one begins. `report.json` and `report.txt` are written after each step, so that they are there whenever this is stopped.
"""

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Step:
    "One thing to do."

    name: str
    about: str
    seconds: float  # its limit
    command: tuple  # words
    results: tuple = ()  # files in the folder that it leaves, for the report


def userllm(*words) -> tuple:
    return (sys.executable, "-m", "userllm", *map(str, words))


def steps(out: Path, smoke: bool) -> list[Step]:
    "What is done, the cheap and telling first."
    where = ("--device", "cpu", "--precision", "fp32") if smoke else ("--device", "cuda", "--precision", "bf16")
    llm = ("--llm", out / "tiny-llm") if smoke else ()
    shape = "llama-tiny" if smoke else "vicuna-7b"
    bench = ("--histories", 5, "--rows", 4, "--repeats", 1) if smoke else ("--histories", 5, 50, "--rows", 64)
    preset = "smoke" if smoke else "quick"
    systems = ("mf", "tallrec") if smoke else ("mf", "sasrec", "lightgcn", "tallrec", "collm", "userllm")
    tests = ("-m", "gpu", "-q", "-p", "no:cacheprovider", "tests/test_gpu.py")
    return [
        Step("environment", "the machine, and what is installed", 60, userllm("doctor")),
        Step("tests", "tests that need a GPU", 150, (sys.executable, "-m", "pytest", *tests)),
        Step(
            "bench",
            "speed and share of peak with the 135M language model",
            120,
            userllm("bench", *bench, *llm, *where, "--out", out / "bench.json"),
            ("bench.json",),
        ),
        Step(
            "bench-7b",
            f"the same with random weights of the shape {shape}",
            180,
            userllm("bench", "--shape", shape, *bench, *llm, *where, "--out", out / "bench-7b.json"),
            ("bench-7b.json",),
        ),
        Step(
            "table3",
            f"the first systems of table 3, one seed, preset {preset}",
            300,
            userllm(
                *("reproduce", "table3", "--on", "movie", "--seeds", 1, "--preset", preset),
                *("--only", *systems, *llm, *where),
                *("--results", out / "table3", "--out", out / "runs"),
            ),
        ),
    ]


def machine() -> dict:
    "Processor, GPU and versions, as plain values."
    import torch

    about = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "gpus": [],
    }
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        about["gpus"].append({"name": properties.name, "memory": properties.total_memory})
    if tool := shutil.which("nvidia-smi"):
        about["nvidia-smi"] = subprocess.run([tool], capture_output=True, text=True, encoding="utf-8").stdout
    return about


def run(step: Step, out: Path, limit: float, environment: dict) -> dict:
    "Do a step; gives how it ended. Its output goes to a file of its name."
    started = time.monotonic()
    with open(out / f"{step.name}.txt", "w", encoding="utf-8") as output:
        child = subprocess.Popen(
            [str(word) for word in step.command],
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env=environment,
            start_new_session=True,
        )
        try:
            status = child.wait(limit)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            status = None
    ended = {0: "done", None: f"stopped after {limit:.0f} s"}.get(status, f"failed ({status})")
    record = {"step": step.name, "about": step.about, "ended": ended, "ok": status == 0}
    record |= {"seconds": round(time.monotonic() - started, 1), "limit": round(limit), "results": {}}
    for name in step.results:
        if (out / name).is_file():  # whole or absent, also where the step was stopped
            record["results"][name] = json.loads((out / name).read_text(encoding="utf-8"))
    return record


def shares(record: dict) -> list[str]:
    "A line on each way that a bench measured: rows a second, and the share of the machine's peak."
    lines = []
    for name, bench in record["results"].items():
        for each in bench.get("records", []):
            share = each.get("share_of_peak")
            peak = f", {share:.2f} of the peak" if share else ""
            rows = f"{each['rows_per_second']:.1f} rows a second"
            lines.append(f"    {each['work']}, {each['way']}, history of {each['history']}: {rows}{peak}")
    return lines


def write_report(out: Path, report: dict) -> None:
    "As JSON and as text."
    (out / "report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    gpus = ", ".join(gpu["name"] for gpu in report["machine"]["gpus"]) or "no GPU"
    lines = [f"{gpus}; torch {report['machine']['torch']}{'; smoke' if report['smoke'] else ''}"]
    for record in report["steps"]:
        lines.append(f"{record['step']:12} {record['seconds']:6.0f} s  {record['ended']}: {record['about']}")
        lines += shares(record)
    (out / "report.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def parse(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tools/gpu_check.sh", description=__doc__.partition("\n")[0])
    parser.add_argument("--out", default="gpu-check", metavar="DIR", help="default gpu-check")
    parser.add_argument("--wheels", metavar="DIR", help="install from this folder first")
    parser.add_argument("--minutes", type=float, default=10, help="for all steps together; default 10")
    parser.add_argument("--smoke", action="store_true", help="in small, on a CPU")
    parser.add_argument("--list", action="store_true", help="only print the steps")
    return parser.parse_args(words)


def main(words: list[str]) -> int:
    options = parse(words)
    out = Path(options.out).absolute()
    todo = steps(out, options.smoke)
    if options.list:
        for step in todo:
            print(f"{step.name} ({step.seconds:.0f} s at most): {' '.join(map(str, step.command[1:]))}")
        return 0

    import torch

    if not options.smoke and not torch.cuda.is_available():
        print("there is no GPU here; add --smoke to try the steps in small on a CPU", file=sys.stderr)
        return 2
    out.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"USERLLM_CACHE": str(out / "cache"), "CI": ""}
    if options.smoke:
        from userllm.knowledge.llms import tiny_llm

        tiny_llm(out / "tiny-llm", width=16, layers=1)
        environment["USERLLM_GPU_TESTS"] = "cpu"
    report = {"smoke": options.smoke, "machine": machine(), "steps": []}
    deadline = time.monotonic() + 60 * options.minutes
    for step in todo:
        left = deadline - time.monotonic()
        if left < 5:
            ended = {"step": step.name, "about": step.about, "ended": "no time was left", "ok": False}
            report["steps"].append(ended | {"seconds": 0, "limit": 0, "results": {}})
        else:
            print(f"{step.name}: {step.about}", flush=True)
            report["steps"].append(run(step, out, min(step.seconds, left), environment))
        write_report(out, report)
    print((out / "report.txt").read_text(encoding="utf-8"))
    return 0 if all(record["ok"] for record in report["steps"]) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
