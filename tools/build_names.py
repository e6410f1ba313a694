"""Write userllm/assets/names.json, the names and lines that the command line's help shows, from the registries.

`make export` runs it after the modules are exported.
"""

import json
from pathlib import Path

from userllm.cli.names import registered_names


def main() -> None:
    path = Path(__file__).resolve().parents[1] / "userllm" / "assets" / "names.json"
    text = json.dumps(registered_names(), indent=1, ensure_ascii=False) + "\n"
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
