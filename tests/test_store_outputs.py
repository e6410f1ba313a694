"""What `tools/store_outputs.py` keeps of a notebook's outputs: a widget's still picture, and not the
widget."""

import base64
import io
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tools"))
import store_outputs  # noqa: E402

WIDGET_CELL = """
from userllm.workbench.pickers import PointMap
from userllm.workbench.widgets import View
points = PointMap([0, 1], [0, 1], ["a", "b"], ("x", "y"))
View("Map", {}, [], [("map", points)])
"""


def picture() -> str:
    content = io.BytesIO()
    Image.effect_noise((60, 60), 50).convert("RGB").save(content, "PNG")
    return base64.b64encode(content.getvalue()).decode()


def test_a_widget_is_kept_as_its_still_picture(tmp_path):
    import nbformat

    path = tmp_path / "one.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(WIDGET_CELL)]), path)
    store_outputs.main([path])
    (output,) = nbformat.read(path, as_version=4).cells[0].outputs
    assert store_outputs.WIDGET not in output.data
    assert (
        'alt="A map of 2 points' in output.data["text/html"]
        and "data:image/png;base64," in output.data["text/html"]
    )


def test_outputs_are_made_small():
    bare = {"output_type": "display_data", "data": {store_outputs.WIDGET: {}, "text/plain": "Widget"}}
    image = picture()
    drawn = {
        "output_type": "display_data",
        "data": {"text/html": f'<img src="data:image/png;base64,{image}">'},
    }
    noise = {"output_type": "stream", "name": "stderr", "text": "warning"}
    (kept,) = store_outputs.shown([bare, drawn, noise])
    assert 0 < len(kept["data"]["text/html"]) < len(image)


@pytest.mark.parametrize(
    "line, reason",
    [
        ("object()", "an address in memory"),
        ("import tempfile; print(tempfile.mkdtemp())", "a temporary folder"),
        ("import store_outputs", "raises ModuleNotFoundError"),
    ],
)
def test_what_differs_from_run_to_run_is_refused(tmp_path, line, reason):
    import nbformat

    path = tmp_path / "changing.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(line)]), path)
    before = path.read_bytes()
    with pytest.raises(SystemExit, match=reason):
        store_outputs.main([path])
    assert path.read_bytes() == before


def test_several_run_together_and_are_checked_afterwards(tmp_path, capsys):
    import nbformat

    paths = [tmp_path / f"{name}.ipynb" for name in ("one", "two", "three")]
    for path in paths:
        cells = [nbformat.v4.new_code_cell(f"print('{path.stem}')"), nbformat.v4.new_code_cell("#| hide\nprint(1)")]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    store_outputs.main(paths)
    assert "[3/3]" in capsys.readouterr().out
    for path in paths:
        shown, hidden = nbformat.read(path, as_version=4).cells
        assert (shown.outputs[0].text, hidden.outputs) == (f"{path.stem}\n", [])
    store_outputs.main(paths, check=True)
    edited = nbformat.read(paths[1], as_version=4)
    edited.cells[0].source = "print('other')"
    nbformat.write(edited, paths[1])
    with pytest.raises(SystemExit, match="two.ipynb shows something else now"):
        store_outputs.main(paths, check=True)


def test_too_much_is_refused_and_the_notebook_left_as_it_was(tmp_path):
    import nbformat

    path = tmp_path / "long.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("print('x' * 200_001)")]), path)
    before = path.read_bytes()
    with pytest.raises(SystemExit, match="over 200,000"):
        store_outputs.main([path])
    assert path.read_bytes() == before
