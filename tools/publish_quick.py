"""Copy what `make quickstart` left into results/quick, where notebooks and README read it.

    python tools/publish_quick.py [FOLDER]   # default runs/quickstart
"""
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main(folder: Path) -> None:
    "Settings, metrics and predictions of each run; no recommender."
    target = ROOT / "results" / "quick"
    for run in sorted(path.parent for path in folder.glob("*/metrics.json")):
        (target / run.name).mkdir(parents=True, exist_ok=True)
        for name in ("settings.json", "metrics.json", "predictions.parquet"):
            shutil.copyfile(run / name, target / run.name / name)
        print(f"results/quick/{run.name}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/quickstart"))
