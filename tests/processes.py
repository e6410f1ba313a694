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
    """Exit status (None where time ran out) and all output; the whole group is killed at the end,
    whatever happened."""
    # Output goes to a file: a pipe would stay open for as long as a grandchild holds it.
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
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
        command = [
            sys.executable,
            "-P",
            str(Path(__file__).with_name("warm.py")),
        ]  # -P: this folder is not for the notebooks to import from
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        assert self._line() == "ready"

    def _line(self) -> str:
        line = self.process.stdout.readline()  # unbuffered, so that `select` sees whatever has not been read
        if not line:
            raise RuntimeError("the process that runs notebooks has ended; what it printed says why")
        return line.decode().strip()

    def run(self, path: Path, seconds: float, folder: Path) -> tuple[int | None, str]:
        "As `run_within`, for a notebook."
        with tempfile.NamedTemporaryFile("r", encoding="utf-8") as output:
            order = {"path": str(path), "folder": str(folder), "output": output.name}
            self.process.stdin.write(json.dumps(order).encode() + b"\n")
            child, in_time = int(self._line()), []
            try:
                in_time, _, _ = select.select([self.process.stdout], [], [], seconds)
            finally:
                try:
                    os.killpg(
                        child, signal.SIGKILL
                    )  # itself where time ran out, and whatever it has left behind
                except (ProcessLookupError, PermissionError):
                    pass  # the group is empty already
                status = int(self._line())
            return status if in_time else None, Path(output.name).read_text(
                errors="replace", encoding="utf-8"
            )

    def close(self) -> None:
        "End it."
        self.process.kill()  # it waits for orders and holds nothing
        self.process.wait()
