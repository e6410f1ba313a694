"""The figures of `tools/page_statistics.py`, on a small repository."""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tools"))
import page_statistics  # noqa: E402

MODULE = """
from .other import one, two, three

def wide(self, a, b, c, d, e, f, g):
    return a


left, right = 1, 2; last = 3
""" + "name = " + "x" * 100 + "\n"


def test_a_module_is_counted_line_by_line():
    counts = page_statistics.module_statistics(MODULE)
    expected = {"lines": 5, "past 100": 1, "past 120": 0, "semicolons": 1, "packed": 1, "imported": 3, "wide": 1}
    assert {name: counts[name] for name in expected} == expected
    more = page_statistics.module_statistics(MODULE + "# a comment\n\nname\n")
    assert more["lines"] == counts["lines"] + 1
    assert more["nodes"] == counts["nodes"] + 3  # the statement, the name, and that it is read


def test_what_nbdev_adds_is_left_out():
    generated = '"""About."""\n__all__ = ["wide"]\n\n# %% ../nbs/10_room.ipynb #c001\nvalue = 1\n'
    assert page_statistics.module_statistics(page_statistics.written_part(generated))["lines"] == 1


def test_examples_are_cells_that_show_how_something_is_used(tmp_path):
    not_shown = ["#| export\nvalue = 1", "#| hide\nvalue", "#| default_exp room", "import json"]
    sources = [*not_shown, "value", "%time\nvalue + 1"]
    cells = [{"cell_type": "code", "source": source, "outputs": []} for source in sources]
    cells[len(not_shown)]["outputs"] = [{"output_type": "execute_result"}]
    cells.append({"cell_type": "markdown", "source": "words"})
    (tmp_path / "nbs").mkdir()
    (tmp_path / "nbs" / "10_room.ipynb").write_text(json.dumps({"cells": cells}), encoding="utf-8")
    assert page_statistics.example_cells(tmp_path) == (2, 1)


def test_this_repository_is_reported(capsys):
    page_statistics.report(ROOT, worst=3)
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in printed if line.startswith("semicolons")] == ["0"]
    assert len(printed) == 10 + 2 + 3
