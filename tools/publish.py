"""Copy what a quickstart left into results/, where notebooks and README read it.

python tools/publish.py [NAME [FOLDER]]   # default quick, runs/quickstart; else NAME, runs/NAME
"""

import shutil
import sys
from pathlib import Path

from userllm.model.published import publish_weights

ROOT = Path(__file__).resolve().parents[1]


def main(name: str, folder: Path) -> None:
    "Settings, metrics and predictions of each run, and what `userllm` of the quickstart has learnt."
    target = ROOT / "results" / name
    for run in sorted(path.parent for path in folder.glob("*/metrics.json")):
        (target / run.name).mkdir(parents=True, exist_ok=True)
        for file in ("settings.json", "metrics.json", "predictions.parquet"):
            shutil.copyfile(run / file, target / run.name / file)
        if (name, run.name) == ("quick", "userllm"):
            publish_weights(run / "recommender", target / run.name / "weights")
        print(f"results/{name}/{run.name}")


if __name__ == "__main__":
    name = sys.argv[1] if len(sys.argv) > 1 else "quick"
    main(
        name,
        Path(sys.argv[2] if len(sys.argv) > 2 else "runs/quickstart" if name == "quick" else f"runs/{name}"),
    )
