"""Write constraints.txt from what the running environment holds (`make constraints`)."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HEADER = """\
# The exact versions that userllm is tested with, on Linux and Python 3.11. They are constraints, not requirements:
# a line matters only where its package is installed, so those of CUDA do no harm on a machine that has no use for them.
# Made by `make constraints` from what .venv holds. The packages of requirements-offline.txt are pinned there.
"""


def pins() -> list[str]:
    "The `name==version` lines of this environment, without pip, the project and the data-carrying packages."
    frozen = subprocess.run(
        [sys.executable, "-m", "pip", "freeze", "--all", "--exclude-editable"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        encoding="utf-8",
    ).stdout.splitlines()
    offline = re.findall(
        r"^([\w.-]+)==", (ROOT / "requirements-offline.txt").read_text(encoding="utf-8"), flags=re.M
    )
    apart = {name.lower().replace("_", "-") for name in ("pip", "userllm", *offline)}
    plain = [line.split("+")[0] for line in frozen if re.fullmatch(r"[\w.-]+==[\w.!+-]+", line)]
    return [line for line in plain if line.split("==")[0].lower().replace("_", "-") not in apart]


if __name__ == "__main__":
    lines = pins()
    (ROOT / "constraints.txt").write_text(HEADER + "\n".join(lines) + "\n", encoding="utf-8")
    print(f"constraints.txt: {len(lines)} packages")
