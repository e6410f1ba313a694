"""Run a command in a process group of its own, so that nothing of it outlives its time."""
import os
import signal
import subprocess
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
