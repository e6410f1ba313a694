"""The workbench in a real browser: each notebook runs without an error and answers clicks; what
is shown is compared with the
plain objects."""

import shutil
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest

from browser import CHROMIUM, lab, page_of, run_notebook
from conftest import NO_CHROMIUM
from userllm.core.theme import number_text
from userllm.workbench.error_analysis import Errors, RowFilter, row_history, select_rows
from userllm.workbench.html_parts import table_html
from userllm.workbench.prompt_inspector import PromptInspector
from userllm.workbench.item_search import find_items
from userllm.workbench.new_users import candidates_for, recommend
from userllm.workbench.opened_runs import demo_run
from userllm.workbench.person_lists import PersonLists
from userllm.workbench.token_map import TokenMap, history_of, neighbours, token_effects
from userllm.workbench.user_errors import changed_users
from userllm.workbench.what_if import WhatIf

pytest.importorskip("playwright", reason="playwright is not installed: make setup")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason=f"{NO_CHROMIUM}: .ci/chromium"),
    pytest.mark.timeout(600),
]
ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tools"))
import store_outputs  # noqa: E402

PICTURES = ROOT / "tests" / "artifacts"
# points on the screen
WHERE = (
    "count => Array.from({length: count}, (_, place) => document.querySelector('.userllm-map"
    " canvas').place(place))"
)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    "What the workbench needs of the project, where a browser may write."
    place = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "results" / "quick", place / "results" / "quick")
    shutil.copytree(ROOT / "nbs" / "workbench", place / "nbs" / "workbench")
    return place


@pytest.fixture(scope="module")
def address(project, tmp_path_factory):
    with lab(project, tmp_path_factory.mktemp("jupyter")) as found:
        yield found


@pytest.fixture
def page(request):
    with page_of(PICTURES / f"{request.node.name}.png") as page:
        yield page


def text_of(page, html: str) -> str:
    "HTML as a person reads it, white space apart."
    return " ".join(
        page.evaluate(
            "html => { const place = document.createElement('div'); place.innerHTML = html;"
            " document.body.append(place); const text = place.innerText; place.remove(); return text }",
            html,
        ).split()
    )


def shown(view, name: str) -> str:
    return " ".join(view.locator(f".userllm-shown-{name}").inner_text().split())


def opened(page, address, project, name, place=-1):
    "The notebook's view after all cells ran without an error; and what its run holds, found in this process."
    assert run_notebook(page, address, f"nbs/workbench/{name}.ipynb") == []
    view = page.locator(".userllm-view").nth(place)
    view.scroll_into_view_if_needed()
    run = demo_run(project=project)
    return view, run, Errors.of(run.predictions, run.dataset)


def write_notebook(path, *sources):
    "A notebook with these code cells."
    metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    }
    nbformat.write(
        nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(source) for source in sources], metadata=metadata
        ),
        path,
    )


ATTACK = "<img src=x onerror=window.struck=1><script>window.struck=1</script>"
HOSTILE = f"""
import numpy as np, pandas as pd
from userllm.workbench.error_analysis import Errors
from userllm.data.dataset import planted_dataset
from userllm.workbench.pickers import PointMap
from userllm.workbench.rows_tool import RowsTool
attack = {ATTACK!r}
dataset = planted_dataset()
dataset = dataset.with_items(title=[attack] * len(dataset.items), genres=[attack] * len(dataset.items))
rows = dataset.rows("test")
of = lambda table, name: getattr(dataset, table)[name + "_id"].to_numpy()[rows[name]]
frame = pd.DataFrame(dict(row_id=rows["row_id"], user_id=of("users", "user"), item_id=of("items", "item"),
                          timestamp=rows["timestamp"], label=rows["label"], split="test", logit=0.0))
tool, points = RowsTool(Errors.of({{attack: frame}}, dataset)), PointMap([0.], [0.], [attack], (attack, attack))
points.paint(pd.Series([attack], name=attack))
tool.view.controls["sure"].value = 0.0
tool.view.box.children += (points,)
tool
"""


def test_titles_stay_text(page, address, project):
    write_notebook(project / "hostile.ipynb", HOSTILE)
    assert run_notebook(page, address, "hostile.ipynb") == []
    view = page.locator(".userllm-view")
    view.locator(".userllm-row tbody tr").first.click()
    page.wait_for_function("() => document.querySelector('.userllm-shown-row img')")
    view.locator(".userllm-map canvas").scroll_into_view_if_needed()
    page.mouse.move(*page.evaluate(WHERE, 1)[0])
    page.wait_for_function(
        "attack => document.querySelector('.userllm-map .card').innerText.includes(attack)", arg=ATTACK
    )
    assert page.evaluate("() => window.struck") is None
    assert view.locator("script, img[src=x]").count() == 0
    assert view.locator(".userllm-row td").first.inner_text() == ATTACK
    assert view.locator(".userllm-shown-row img").first.get_attribute("alt").startswith(ATTACK)


MAP = """
import numpy as np, pandas as pd
from userllm.workbench.pickers import PointMap
from userllm.workbench.widgets import View
x, y = np.random.default_rng(0).normal(size=(2, 200))
points = PointMap(x, y, range(200), ("first", "second"), notes=[f"liked film {n}" for n in range(200)])
points.paint(pd.Series(["Drama", "Comedy", None, "War"] * 50, name="genre"))
view = View("Map", {}, [], [("map", points), "answer"])
def answer():
    count = points.picked["count"]
    view.show("answer", f"{count}: {' '.join(points.picked_ids)}")
    if count == 25:
        points.places = points.places[:80]  # ten points are left
view.connect("map", answer, "picked")
view
"""


def test_no_selection_on_the_map_is_lost(page, address, project):
    """Each drag begins and ends on a point, and the mouse goes on over other points before the
    kernel has answered."""
    write_notebook(project / "map.ipynb", MAP)
    assert run_notebook(page, address, "map.ipynb") == []
    page.locator(".userllm-map canvas").scroll_into_view_if_needed()
    places = page.evaluate(WHERE, 200)
    random = np.random.default_rng(1)
    answer = "answer => document.querySelector('.userllm-shown-answer').innerText.trim() === answer"
    for count in range(1, 21):
        (x1, y1), (x2, y2) = (places[point] for point in random.choice(200, 2, replace=False))
        (left, right), (top, bottom) = sorted((x1, x2)), sorted((y1, y2))
        caught = [point for point, (x, y) in enumerate(places) if left < x < right and top < y < bottom]
        page.mouse.move(x1, y1)
        page.mouse.down()
        page.mouse.move(x2, y2, steps=5)
        page.mouse.up()
        for point in random.choice(200, 10):
            page.mouse.move(*places[point])
        page.wait_for_function(
            "count => document.querySelector('.userllm-shown-answer').innerText.startsWith(count + ':')",
            arg=count,
            timeout=5_000,
        )
        ids = set(page.locator(".userllm-shown-answer").inner_text().split()[1:])
        border = {
            str(point)
            for point, place in enumerate(places)
            if any(abs(a - b) < 0.01 for a, b in zip(place * 2, (x1, y1, x2, y2)))
        }
        assert ids - border == {str(point) for point in caught} - border

    page.mouse.click(*places[7])
    page.wait_for_function(answer, arg="21: 7")
    page.locator(".userllm-map .legend button", has_text="Drama").click()  # hides every fourth point
    page.locator(".userllm-map input[value=lasso]").check()
    corners = page.locator(".userllm-map canvas").bounding_box()
    page.mouse.move(corners["x"] + 60, corners["y"] + 15)
    page.mouse.down()
    for x, y in (
        (corners["width"] - 15, 15),
        (corners["width"] - 15, corners["height"] - 45),
        (60, corners["height"] - 45),
    ):
        page.mouse.move(corners["x"] + x, corners["y"] + y, steps=3)
    page.mouse.up()
    page.wait_for_function(answer, arg="22: " + " ".join(str(point) for point in range(200) if point % 4))
    assert page.locator(".userllm-map .legend button").all_inner_texts() == [
        "Drama (50)",
        "Comedy (50)",
        "War (50)",
        "unknown (50)",
    ]

    page.locator(".userllm-map canvas").focus()  # by keyboard: to a point, choose it, choose nobody
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_function(
        "() => document.querySelector('.userllm-shown-answer').innerText.startsWith('23:')"
    )
    chosen = page.locator(".userllm-shown-answer").inner_text().split()[1:]
    assert len(chosen) == 1 and f"user {chosen[0]}" in page.locator(".userllm-map .spoken").inner_text()
    page.keyboard.press("Escape")
    page.wait_for_function(answer, arg="24:")
    page.mouse.move(*places[150])
    card = page.locator(".userllm-map .card")
    assert card.is_visible()
    page.mouse.click(*places[150])  # whereupon the kernel sends fewer points
    page.wait_for_function(answer, arg="25: 150")
    card.wait_for(state="hidden")
    page.keyboard.press("Enter")  # nothing is pointed at
    page.keyboard.press("Escape")
    page.wait_for_function(answer, arg="26:")
    assert page.locator(".userllm-sign").is_hidden()


STRIP = """
import pandas as pd
from IPython.display import HTML
from userllm.workbench.html_parts import strip_html
HTML(strip_html(pd.DataFrame({"item_id": list("abc"), "title": ["Heat", "Alien", "Big"], "year": [1995, 1979, 1988],
                              "genres": ["Action|Crime", "Horror", "Comedy"]})))
"""


TOOLS = """
import numpy as np, pandas as pd, time, ipywidgets
from userllm.workbench.html_parts import strip_html
from userllm.workbench.pickers import RowGrid
from userllm.workbench.widgets import View
frame = pd.DataFrame({"title": [f"The long title of item number {n}" for n in range(250)]}
                     | {f"column number {c}": np.arange(250.) for c in range(16)})
grid = RowGrid()
grid.fill(frame, list(range(250)))
controls = {"row": grid, "reach": ipywidgets.FloatRangeSlider(description="x from, to"),
            "go": ipywidgets.Button(description="Go")}
view = View("Tools", controls, [["reach", "go"], ["row"]], ["answer"])
view.connect("go", lambda: view.show("answer", "answered"))
def sort():
    name, up = grid.order
    grid.fill(frame.sort_values(name, ascending=up), list(range(250)))
view.connect("row", sort, "order")
view
"""


def test_a_view_in_a_narrow_window(page, address, project):
    """One tab stop, headings and rows by arrows, the sorted column and the open row in sight,
    nothing wider than its window."""
    write_notebook(project / "tools.ipynb", TOOLS, "grid.select(60)")
    page.set_viewport_size({"width": 700, "height": 1000})
    assert run_notebook(page, address, "tools.ipynb") == []
    page.evaluate("() => window.jupyterapp.commands.execute('application:toggle-left-area')")
    view = page.locator(".userllm-view")
    stops = (
        "() => [...document.querySelectorAll('.userllm-row .frame *')].filter(place => place.tabIndex ==="
        " 0).map(place => place.tagName)"
    )
    page.wait_for_function(
        "() => document.querySelector('.userllm-row tr[aria-selected=true]')?.dataset.key === '60'"
    )  # marked by a program
    in_sight = """selector => {
        const place = document.querySelector(selector).getBoundingClientRect();
        const frame = document.querySelector('.userllm-row .frame').getBoundingClientRect();
        return place.left >= frame.left - 1 && place.right <= frame.right + 1
            && place.top >= frame.top - 1 && place.bottom <= frame.bottom + 1;
    }"""
    page.wait_for_function(in_sight, arg=".userllm-row tr[aria-selected=true] td")
    assert page.evaluate(stops) == ["TR"]

    view.locator(".userllm-row tbody tr").first.focus()
    for key in ("ArrowUp", "End", "Enter"):  # to the headings, to the last of them, sort by it
        page.keyboard.press(key)
    page.wait_for_function(
        "() => document.querySelector('.userllm-row th[aria-sort]')?.innerText.startsWith('column number 15')"
    )
    page.wait_for_function(in_sight, arg=".userllm-row th[aria-sort] button")
    page.wait_for_function("() => document.activeElement.dataset.name === 'column number 15'")
    assert page.evaluate(stops) == ["BUTTON"]

    labels = view.locator(".userllm-reach [role=slider]").evaluate_all(
        "handles => handles.map(handle => handle.ariaLabel)"
    )
    assert labels == ["x from, to: lower end", "x from, to: upper end"]
    assert view.evaluate("view => view.scrollWidth <= view.parentElement.clientWidth + 1")
    page.evaluate(
        "() => window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'})"
    )
    page.wait_for_function(
        "() => getComputedStyle(document.querySelector('.userllm-row td')).color === 'rgba(255, 255, 255,"
        " 0.87)' || getComputedStyle(document.querySelector('.userllm-row td')).color.match(/\\d+/g).slice(0,"
        " 3).every(part => part > 150)"
    )
    page.evaluate(
        "() => window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Light'})"
    )


def test_a_wait_and_an_ended_kernel_are_said(page, address, project):
    # in one go: no other thread gets a turn
    work = "time.sleep(.5)\nsum(range(200_000_000 if view.shown['answer'].value else 1))"
    write_notebook(project / "busy.ipynb", TOOLS, work)
    assert run_notebook(page, address, "busy.ipynb") == []
    page.locator(".userllm-go").click()
    page.wait_for_function(
        "() => document.querySelector('.userllm-shown-answer').innerText.includes('answered')"
    )
    assert page.locator(".userllm-sign").is_hidden()
    page.evaluate("() => { window.jupyterapp.shell.currentWidget.content.activeCellIndex = 1 }")
    page.evaluate(
        "() => { window.jupyterapp.commands.execute('notebook:run-cell') }"
    )  # which now takes some seconds
    page.wait_for_function(
        "() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === 'busy'"
    )
    page.wait_for_timeout(1_000)
    page.locator(".userllm-go").click()
    page.wait_for_function(
        "() => document.querySelector('.userllm-sign').innerText.includes('at work')", timeout=3_000
    )
    page.wait_for_function("() => document.querySelector('.userllm-sign').hidden", timeout=20_000)
    page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    page.wait_for_function(
        "() => document.querySelector('.userllm-sign')?.innerText.includes('Run, Run All Cells')",
        timeout=20_000,
    )


def test_cells_out_of_order(page, address, project):
    "The kernel says which cell makes what is missing."
    write_notebook(project / "order.ipynb", "import userllm.workbench.widgets", "tokens = 5", "print(tokens)")
    assert run_notebook(page, address, "order.ipynb") == []
    page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    page.wait_for_function(
        "() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === 'idle'"
    )
    for cell in (0, 2):
        page.evaluate(
            "cell => { window.jupyterapp.shell.currentWidget.content.activeCellIndex = cell }", cell
        )
        page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-cell')")
    said = page.locator(".jp-OutputArea").last
    said.get_by_text("NameError").first.wait_for()
    said.get_by_text("tokens is defined in code cell 2 of 3, by: tokens = 5").wait_for()


def test_a_notebook_that_is_not_trusted_shows_pictures(page, address, project):
    """What a fresh clone or a code host shows of a saved notebook: cards side by side with their alt
    texts, and a still map."""
    write_notebook(project / "saved.ipynb", MAP, STRIP)
    store_outputs.main([project / "saved.ipynb"])
    page.goto(address.format("saved.ipynb"))
    page.wait_for_function("() => document.querySelectorAll('.jp-OutputArea img').length === 4")
    assert (
        page.evaluate("() => window.jupyterapp.shell.currentWidget.content.model.cells.get(0).trusted")
        is False
    )
    alts = page.locator(".jp-OutputArea img").evaluate_all("pictures => pictures.map(picture => picture.alt)")
    assert alts[0].startswith("A map of 200 points") and alts[1:] == [
        "Heat, 1995, Action",
        "Alien, 1979, Horror",
        "Big, 1988, Comedy",
    ]
    page.wait_for_function(
        "() => [...document.querySelectorAll('.jp-OutputArea img')].every(picture => picture.naturalWidth"
        " > 0)"
    )
    boxes = [picture.bounding_box() for picture in page.locator(".jp-OutputArea figure").all()]
    apart = [
        first["x"] + first["width"] <= second["x"] or first["y"] + first["height"] <= second["y"]
        for first, second in zip(boxes, boxes[1:])
    ]
    assert all(apart)


def test_browse_predictions(page, address, project):
    view, _, errors = opened(page, address, project, "browse_predictions", place=0)
    count = (
        "count => [...document.querySelectorAll('.userllm-shown-count')].at(-1).innerText.startsWith(count)"
    )
    cells = "() => window.jupyterapp.shell.currentWidget.content.model.cells.length"
    before = page.evaluate(cells)
    run = view.locator(".userllm-run select")
    run.focus()
    for key, name in (
        ("ArrowDown", "userllm_wide"),
        ("ArrowUp", "userllm"),
    ):  # by keys alone, which JupyterLab would like to have
        page.keyboard.press(key)
        expected = select_rows(errors, RowFilter(name))
        page.wait_for_function(count, arg=f"{len(expected):,} of")
        assert run.input_value() == name
    lines = view.locator(".userllm-row tbody tr")
    assert [
        int(key) for key in lines.evaluate_all("lines => lines.map(line => line.dataset.key)")
    ] == expected["row_id"].head(100).tolist()
    view.locator(".userllm-row th button", has_text="title").click()
    page.wait_for_function(
        "() => [...document.querySelectorAll('.userllm-row th')].find(head => head.ariaSort ==="
        " 'ascending')?.innerText.startsWith('title')"
    )
    expected = select_rows(errors, RowFilter("userllm"), sort="title", ascending=True)
    assert lines.nth(3).locator("td").first.inner_text() == expected["title"][3]
    column = view.locator(".userllm-row th button").all_inner_texts().index("P userllm")
    assert lines.nth(3).locator("td").nth(column).inner_text() == f"{expected['P userllm'][3]:.3f}"
    lines.first.focus()
    for key in ["PageDown", *["ArrowDown"] * 4, "ArrowUp", "Enter"]:
        if key == "ArrowDown":
            page.wait_for_function(
                "() => document.querySelector('.userllm-row').innerText.includes('101 to') &&"
                " document.activeElement.matches('.userllm-row tr')"
            )
        page.keyboard.press(key)
    row = expected.iloc[103]
    for key in "bx":  # would insert a cell, and cut one
        page.keyboard.press(key)
    assert page.evaluate(cells) == before
    page.wait_for_function(
        "title => [...document.querySelectorAll('.userllm-shown-row img')].at(-1)?.alt.startsWith(title)",
        arg=row["title"],
    )
    assert f"User {row['user_id']}," in shown(view, "row")
    page.wait_for_function(
        "() => [...document.querySelectorAll('.userllm-shown-scores')].at(-1)?.innerText.trim()"
    )  # what is computed anew comes a moment later
    for name in errors.runs:
        assert f"{name} {row[f'P {name}']:.3f}" in shown(view, "scores")
    history, candidate = row_history(errors, row["row_id"])
    assert candidate["title"] == row["title"]
    assert view.locator(".userllm-shown-history").first.locator("figure").count() == len(history)

    what = view.locator(".userllm-view")  # of the row that was opened
    page.wait_for_function(
        "text => document.querySelectorAll('.userllm-view')[1]?.innerText.includes(text)",
        arg=f"user {row['user_id']} and {row['title']}",
    )
    what.locator(".userllm-place select").select_option(index=0)
    what.locator(".userllm-remove").click()
    page.wait_for_function(
        "left => document.querySelectorAll('.userllm-view')[1].querySelectorAll('.userllm-shown-history"
        " figure').length === left",
        arg=len(history) - 1,
    )
    plain = WhatIf(
        demo_run(recommender=True, project=project).recommender,
        row["user_id"],
        row["item_id"],
        int(row["timestamp"]),
    )
    assert f"{plain.remove(0):.3f}" in shown(what, "answer")
    view.evaluate("view => view.scrollIntoView()")  # for the picture


@pytest.mark.slow
def test_analyse_errors(page, address, project):
    view, _, errors = opened(page, address, project, "analyse_errors")
    view.locator(".userllm-first select").select_option("bias")
    view.locator(".userllm-second select").select_option("userllm_wide")
    view.locator(".userllm-compare").click()
    page.wait_for_function(
        "() =>"
        " [...document.querySelectorAll('.userllm-shown-overall')].at(-1).innerText.includes('userllm_wide -"
        " bias')"
    )
    changed = changed_users(errors, "bias", "userllm_wide")
    assert text_of(page, table_html(changed.head(8), headings={"change": "change (nats)"})) in shown(
        view, "users"
    )


@pytest.mark.slow
def test_explore_tokens(page, address, project):
    view, run, _ = opened(page, address, project, "explore_tokens")
    users = run.dataset.users
    assert view.locator(".userllm-map .legend button").count() > 2
    view.locator(".userllm-colour select").select_option("events")
    page.wait_for_function(
        "() => document.querySelector('.userllm-map .legend b').innerText === 'events' &&"
        " document.querySelector('.userllm-map .bar')"
    )

    chart = view.locator(".userllm-map canvas")
    chart.scroll_into_view_if_needed()
    places = page.evaluate(WHERE, len(users))
    tokens = TokenMap.of(demo_run(recommender=True, project=project).recommender)
    users = tokens.users
    right = int(users["x"].argmax())
    page.mouse.move(*places[right])
    latest = history_of(tokens, users["user_id"][right])["title"].iloc[-1]
    page.wait_for_function(
        "title => document.querySelector('.userllm-map .card').innerText.includes(title)", arg=latest
    )
    page.mouse.click(*places[right])
    chosen = users["user_id"][right]
    page.wait_for_function(
        "name => [...document.querySelectorAll('.userllm-shown-user')].at(-1).innerText.includes('User ' +"
        " name)",
        arg=chosen,
    )
    chart.scroll_into_view_if_needed()
    places = page.evaluate(WHERE, len(users))
    ordered = sorted(x for x, _ in places)
    border = (ordered[-6] + ordered[-7]) / 2  # six users are to the right of it
    box = chart.bounding_box()
    page.mouse.move(border, box["y"] + 12)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 13, box["y"] + box["height"] - 42, steps=5)
    page.mouse.up()
    page.wait_for_function(
        "() => [...document.querySelectorAll('.userllm-shown-area')].at(-1).innerText.startsWith('6 users')"
    )
    caught = view.locator(".userllm-shown-area table tbody tr").all_inner_texts()
    assert {row.split()[0] for row in caught} == set(users.nlargest(6, "x")["user_id"])

    view.locator(".userllm-user input").fill("2")
    view.locator(".userllm-user input").press("Enter")
    page.wait_for_function(
        "() => [...document.querySelectorAll('.userllm-shown-user')].at(-1).innerText.includes('User 2')"
    )
    events = run.dataset.events
    liked = events[
        (events["user"] == run.dataset.user_of("2"))
        & (events["label"] == 1)
        & events["split"].isin(["context", "train"])
    ]
    assert view.locator(".userllm-shown-user figure").count() == min(5, len(liked))
    near = neighbours(tokens, "2")
    assert text_of(page, table_html(near)) in shown(view, "neighbours")
    assert text_of(page, table_html(token_effects(tokens, "2"))) in shown(view, "user")


@pytest.mark.slow
def test_inspect_prompts(page, address, project):
    view, _, _ = opened(page, address, project, "inspect_prompts", place=0)
    before = shown(view, "answers")
    view.locator(".userllm-text textarea").fill(' Movie, and a good one: "')
    view.locator(".userllm-score").click()
    page.wait_for_function(
        "() => document.querySelector('.userllm-shown-prompt').innerText.includes('and a good one')"
    )
    inspector = PromptInspector(demo_run(recommender=True, project=project).recommender)
    chosen = {
        name: " ".join(view.locator(f".userllm-{name} select option:checked").first.text_content().split())
        for name in ("item", "segment")
    }
    items = inspector.recommender.dataset.items
    item = items.loc[
        (items["title"] == chosen["item"])
        | (
            items["title"] + " (" + items["year"].astype(str) + ", " + items["genres"] + ")" == chosen["item"]
        ),
        "item_id",
    ].iloc[0]
    user = view.locator(".userllm-user input").input_value()
    edits = {int(chosen["segment"].split(":")[0]): ' Movie, and a good one: "'}  # and none of a later cell
    answer = inspector.inspect(user, item, edits=edits).explanation.probability
    assert f"this prompt {answer:.3f}" in shown(view, "answers") != before
    what = page.locator(".userllm-view").last
    count = what.locator(".userllm-place select option").count()
    what.locator(".userllm-place select").select_option(index=count - 1)
    what.locator(".userllm-remove").click()
    page.wait_for_function(
        "left => [...document.querySelectorAll('.userllm-place select')].at(-1).options.length === left",
        arg=count - 1,
    )
    page.wait_for_function(
        "left =>"
        " [...document.querySelectorAll('.userllm-view')].at(-1).querySelectorAll('.userllm-shown-history"
        " figure').length === left",
        arg=count - 1,
    )


@pytest.mark.slow
def test_try_it_yourself(page, address, project):
    view, run, _ = opened(page, address, project, "try_it_yourself", place=0)
    view.locator(".userllm-search input").fill("Notting Hill")
    page.wait_for_function(
        "() => [...document.querySelectorAll('.userllm-item select')].at(-1).options.length === 1"
    )
    view.locator(".userllm-add").click()
    page.wait_for_function("() => document.querySelectorAll('.userllm-shown-likes figure').length === 4")
    view.locator(".userllm-recommend").click()
    page.wait_for_function(
        "() => document.querySelectorAll('.userllm-shown-found figure').length === 12", timeout=240_000
    )
    recommender = demo_run(recommender=True, project=project).recommender
    titles = ("Alien", "Blade Runner", "Star Trek: First Contact", "Notting Hill")
    likes = [find_items(run.dataset, title)["item_id"].iloc[0] for title in titles]
    best = recommend(recommender, likes, candidates_for(recommender, likes, recommender.candidates))
    assert run.dataset.items.set_index("item_id").loc[likes, "title"].tolist() == list(titles)
    expected = [
        f"{place} {row.probability:.2f} ({number_text(row.change, signed=True)})"
        for place, row in enumerate(best[:12].itertuples(), 1)
    ]
    assert [
        text.strip() for text in view.locator(".userllm-shown-found figcaption").all_inner_texts()
    ] == expected


LISTS = """
from userllm.collaborative.baseline_recommender import BaselineRecommender
from userllm.collaborative.baselines import baselines
from userllm.collaborative.list_models import ItemWeights
from userllm.data.dataset import planted_dataset
from userllm.data.histories import HistorySettings
dataset = planted_dataset(users=60, items=60, events=1500)
both = {name: BaselineRecommender(method=name, dataset=dataset, history=HistorySettings(), baseline=baselines[name],
                                  fitted=getattr(ItemWeights, kind)(dataset))
        for name, kind in (("ease", "ease"), ("itemknn", "knn"))}
"""
LIST_TOOL = """
from userllm.workbench.list_tool import ListTool
tool = ListTool(both, count=20)
tool.compare("u104")
tool
"""
FOLLOWER = """
import ipywidgets
from userllm.workbench.selection import notebook_selection
from userllm.workbench.widgets import View
class Follower:
    def __init__(self):
        self.view = View("Follower", {}, [], ["answer"])
        notebook_selection().follow(self.view, self.followed)
    def followed(self, changed):
        chosen = notebook_selection()
        self.view.show("answer", f"{chosen.user} {chosen.item}")
follower = Follower()
follower.view.box
"""
KEYS = (
    "number => [...document.querySelectorAll('.userllm-lists .lines')[number].children].map(line =>"
    " line.dataset.key)"
)


@pytest.mark.slow
def test_two_lists_side_by_side(page, address, project):
    """The lists are those of the plain object, before and after a what-if; keys go up, down and across;
    what is picked is chosen in another tool; nothing is wider than a narrow window."""
    write_notebook(project / "lists.ipynb", LISTS, LIST_TOOL, FOLLOWER)
    assert run_notebook(page, address, "lists.ipynb") == []
    page.wait_for_selector(".userllm-lists .line")
    made = {}
    exec(LISTS, made)
    lists = PersonLists(made["both"], "u104", 20)
    order = lambda name: lists.table(name)["item_id"].tolist()
    for number, name in enumerate(made["both"]):
        assert page.evaluate(KEYS, number) == order(name)
        later = page.locator(".userllm-lists .later").nth(number).locator("button b").all_inner_texts()
        liked = lists.table(name).query("held_out == 'liked'")
        ranks = zip(liked["rank"], liked["among"])
        assert later == [f"#{rank}" if among else f"(#{rank})" for rank, among in ranks]

    taken = lists.cards.query("liked")["item_id"].iloc[0]
    before = order("ease")
    lists.remove(taken)
    title = lists.dataset.items["title"][lists.dataset.item_of(taken)]
    rated = page.locator(".userllm-place select")
    rated.select_option(rated.locator("option", has_text=f"liked: {title} ").first.get_attribute("value"))
    page.locator(".userllm-remove").first.click()
    page.wait_for_function(
        "words => document.querySelector('.userllm-shown-answer').innerText.includes(words)",
        arg=lists.largest_moves("ease"),
    )
    assert before != page.evaluate(KEYS, 0) == order("ease")
    moved = lists.table("ease").query("moved > 0")
    assert page.locator(".userllm-lists .lines").first.locator(".up").all_inner_texts() == [
        f"\u25b2{ranks}" for ranks in moved["moved"]
    ]

    page.locator(".userllm-lists .line").first.focus()
    active = "() => [document.activeElement.dataset.key, document.activeElement.closest('section').ariaLabel]"
    page.keyboard.press("ArrowDown")
    assert page.evaluate(active) == [order("ease")[1], "ease"]
    page.keyboard.press("ArrowRight")
    assert page.evaluate(active) == [order("ease")[1], "itemknn"]
    page.keyboard.press("Enter")
    page.wait_for_function(
        "text => [...document.querySelectorAll('.userllm-shown-answer')].at(-1).innerText.trim() === text",
        arg=f"u104 {order('ease')[1]}",
    )
    page.wait_for_function("() => document.querySelectorAll('.userllm-lists [aria-selected=true]').length === 2")
    page.wait_for_function(
        "() => document.querySelector('.userllm-shown-reasons').innerText.includes('What holds')"
    )
    page.evaluate("() => window.jupyterapp.commands.execute('application:toggle-left-area')")
    page.set_viewport_size({"width": 700, "height": 1400})
    page.wait_for_timeout(300)
    lines = page.locator(".userllm-lists .line").evaluate_all(
        "lines => lines.every(line => line.scrollWidth <= line.clientWidth + 1)"
    )
    assert lines and page.locator(".userllm-view").first.evaluate(
        "view => view.scrollWidth <= view.parentElement.clientWidth + 1"
    )
