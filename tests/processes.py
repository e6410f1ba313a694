"""Run a command or a notebook in a process group of its own, so that nothing of it outlives its time."""
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from pathlib import Path


def run_within(command: list[str], seconds: float, folder: Path) -> tuple[int | None, str]:
    "Exit status (None where time ran out) and all output; the whole group is killed at the end, whatever happened."
    # Output goes to a file: a pipe would stay open for as long as a grandchild holds it.
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                                   start_new_session=True)
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass  # the group is empty already
            process.wait()
        output.seek(0)
        return status, output.read().decode(errors="replace")


class WarmInterpreter:
    "Runs notebooks in copies of a process that has imported the heavy libraries already (see `warm.py`)."

    def __init__(self):
        self.process = subprocess.Popen([sys.executable, str(Path(__file__).with_name("warm.py"))], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, bufsize=1)
        assert self.process.stdout.readline() == "ready\n", "the process that runs notebooks did not start"

    def run(self, path: Path, seconds: float, folder: Path) -> tuple[int | None, str]:
        "As `run_within`, for a notebook."
        with tempfile.NamedTemporaryFile("r") as output:
            print(json.dumps({"path": str(path), "folder": str(folder), "output": output.name}), file=self.process.stdin)
            child = int(self.process.stdout.readline())
            in_time, _, _ = select.select([self.process.stdout], [], [], seconds)
            try:
                os.killpg(child, signal.SIGKILL)  # itself where time ran out, and whatever it has left behind
            except (ProcessLookupError, PermissionError):
                pass
            status = int(self.process.stdout.readline())
            return status if in_time else None, Path(output.name).read_text(errors="replace")

    def close(self) -> None:
        "End it."
        self.process.stdin.close()
        self.process.wait(10)
