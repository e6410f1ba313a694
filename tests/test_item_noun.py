"""What items are called: nothing that a person or a model reads about a foreign dataset speaks of movies."""

import re

import numpy as np
import pandas as pd
import pytest
import torch

from userllm.knowledge import endpoints
from userllm.cli.main import main
from userllm.workbench.html_parts import prompt_html
from userllm.workbench.inspection import explain_prompt, GENERATED
from userllm.workbench.item_search import item_cards
from userllm.data.dataset import Dataset
from userllm.knowledge.llms import tiny_llm
from userllm.training.methods import methods
from userllm.collaborative.baselines import baselines
from userllm.model.batches import BatchMaker
from userllm.model.prompts import find_template, templates
from userllm.model.recommender import Recommender
from userllm.workbench.new_user_tool import NewUserTool
from userllm.workbench.what_if_tool import WhatIfTool

FILM = re.compile("movie|film|cinema", re.IGNORECASE)
NAMED = re.compile(
    r"MovieLens('s)?|\bmovielens\b|the film with that title and year"
)  # what is shipped, and for what, in a help text
SOURCES = re.compile(
    r"The Movies Dataset|the-movies-dataset|movie_titles\.csv|data/movies|\bmovies\b"
)  # films are what these are


def speaks_of_films(text: str) -> list[str]:
    "The lines that do, the names of film sources left out."
    return [line for line in text.splitlines() if FILM.search(SOURCES.sub("", line))]


def write_shop(folder) -> list[str]:
    "40 customers rate 12 of 20 things each, the dear ones better; the arguments that name both files."
    random = np.random.default_rng(0)
    kinds = np.array(["Garden|Tools", "Kitchen", "Sport", ""])
    things = [f"{name} {number}" for number in range(5) for name in ("Spade", "Kettle", "Racket", "Box")]
    items = pd.DataFrame(
        {
            "item_id": [f"sku{n}" for n in range(20)],
            "title": things,
            "genres": np.tile(kinds, 5),
            "description": ["", "Of good steel."] * 10,
        }
    )
    bought = np.concatenate([random.permutation(20)[:12] for _ in range(40)])
    rows = pd.DataFrame(
        {
            "user_id": [f"c{n}" for n in np.repeat(np.arange(40), 12)],
            "item_id": items["item_id"].to_numpy()[bought],
            "timestamp": 10**9 + np.arange(480) * 1000,
            "rating": random.integers(1, 6, 480),
        }
    )
    items.to_csv(folder / "things.csv", index=False)
    rows.to_csv(folder / "bought.csv", index=False)
    return [
        "--interactions",
        str(folder / "bought.csv"),
        "--items",
        str(folder / "things.csv"),
        "--like-threshold",
        "3",
        "--minimum-likes",
        "2",
    ]


@pytest.fixture(scope="module", params=[(), ("--item-noun", "product")], ids=["unnamed", "product"])
def shop(request, tmp_path_factory):
    """A dataset prepared, and a method trained on it, by the command line: its folder, what was
    printed and what a describing model was asked."""
    place = tmp_path_factory.mktemp("shop")
    patch = pytest.MonkeyPatch()
    printed, asked = [], []

    def answers(self, questions, new_tokens):
        asked.extend(questions)
        return ["Made of wood."] * len(questions)

    def run(*arguments):
        import contextlib
        import io

        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = main([str(argument) for argument in arguments])
        printed.append(said.getvalue())
        return code

    patch.setenv("USERLLM_CACHE", str(place / "cache"))
    patch.setattr(endpoints.Endpoint, "answers", answers)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    tiny_llm(place / "llm", width=16, layers=1)
    assert (
        run(
            "prepare",
            "table",
            *write_shop(place),
            *request.param,
            "--describe-with",
            "http://localhost/v1#wise",
            "--out",
            place / "data",
        )
        == 0
    )
    fixed = ("--preset", "smoke", "--data", place / "data", "--device", "cpu")
    assert (
        run("train", "userllm_plus", *fixed, "--llm", place / "llm", "--category", "--out", place / "run")
        == 0
    )
    assert run("train", "mf", *fixed, "--out", place / "mf") == 0
    test = pd.read_parquet(place / "run" / "predictions.parquet")
    test[["user_id", "item_id", "timestamp"]].head(3).to_csv(place / "pairs.csv", index=False)
    assert run("rank", place / "run", "--user", test["user_id"][0], "--top", 3, "--device", "cpu") == 0
    assert (
        run("rank", place / "run", "--likes", "Spade 0", "sku3", "--most-liked", 10, "--device", "cpu") == 0
    )
    assert (
        run(
            "score",
            place / "run",
            "--pairs",
            place / "pairs.csv",
            "--out",
            place / "scores.csv",
            "--device",
            "cpu",
        )
        == 0
    )
    assert run("evaluate", place / "run", place / "mf") == 0
    for wrong in (
        ("rank", place / "run", "--user", "nobody"),
        ("rank", place / "run", "--likes", "nothing"),
        ("rank", place / "run", "--user", "c1", "--genre", "none"),
    ):
        assert run(*wrong) == 2
    yield place, "\n".join(printed), asked, "product" if request.param else "item"
    torch.set_num_threads(threads)
    patch.undo()


def test_nothing_printed_speaks_of_films(shop):
    _, printed, _, noun = shop
    assert not speaks_of_films(printed)
    assert f"Will the user like the {noun}?" in printed and f"of 20 {noun}s" in printed
    assert ("--item-noun" in printed) == (noun == "item"), (
        "whoever gave no word hears that there is one to give"
    )


def test_no_description_is_asked_of_a_film(shop):
    _, _, asked, noun = shop
    assert len(asked) == 10 and all(f"a concise {noun} description" in question for question in asked)
    assert not speaks_of_films("\n".join(asked))


def test_what_a_model_made_up_is_marked_wherever_it_is_shown(shop):
    place, printed, _, _ = shop
    source = "made up from the title by wise"
    assert f"10 {source}" in printed
    recommender = Recommender.load(place / "run", device="cpu")
    dataset = recommender.dataset
    written = dataset.items["described_by"]
    assert set(written) == {"", source} and set(dataset.items["description"][written != ""]) == {"Made of wood."}
    user = dataset.users["user_id"][0]
    for number in (0, int((written == "").to_numpy().argmin()), int((written == "").to_numpy().argmax())):
        item = dataset.items["item_id"][number]
        generated = bool(written[number])
        segments = explain_prompt(recommender, user, item).segments.query("name == 'description'")
        assert segments["generated"].tolist() == [generated]
        assert (GENERATED in prompt_html(segments)) == generated
        tool = WhatIfTool(recommender, user, item)
        assert (GENERATED in tool.view.shown["candidate"].value) == generated
        assert bool(item_cards(dataset, [number])["described_by"][0]) == generated


def test_the_dataset_keeps_its_word(shop):
    place, _, _, noun = shop
    assert Dataset.load(place / "data").noun.one == noun


def test_prompts_have_the_word_and_the_categories(shop):
    place, _, _, noun = shop
    recommender = Recommender.load(place / "run", device="cpu")
    maker, rows = recommender.maker, recommender.rows_for([0, 1], [0, 1])
    for segments in (maker.segments, maker.text_segments):
        for pieces in maker.pieces(rows, segments):
            text = "".join(maker.text.tokenizer.decode(list(piece.ids)) for piece in pieces)
            assert f"like the {noun}?" in text and re.search(r"\((Garden, Tools|Kitchen)\)", text), text
            assert not speaks_of_films(text), text
    again = BatchMaker(recommender.dataset, maker.features.tables, maker.text.tokenizer, maker.settings)
    assert (again.noun.one, again.segments) == (noun, maker.segments), "a maker of the dataset has its word"
    for name in templates:
        words = "".join(
            getattr(segment, "text", "") for segment in find_template(name, recommender.dataset.noun).segments
        )
        assert not speaks_of_films(words) and noun in words.lower()


def test_the_model_card_has_the_word(shop):
    place, _, _, noun = shop
    card = (place / "run" / "recommender" / "README.md").read_text(encoding="utf-8")
    assert not speaks_of_films(card)
    assert f"like {'an item' if noun == 'item' else 'a product'}" in card and f"20 {noun}s" in card


def test_the_workbench_has_the_word(shop):
    place, _, _, noun = shop
    recommender = Recommender.load(place / "run", device="cpu")
    user, item = recommender.dataset.users["user_id"][0], recommender.dataset.items["item_id"][0]
    what_if = WhatIfTool(recommender, user, item)
    what_if.do("no_poster")
    assert "with no picture" in what_if.view.shown["candidate"].value
    for tool in (what_if, NewUserTool(recommender, [item])):
        seen = [getattr(control, "description", "") for control in tool.view.controls.values()] + [
            html.value for html in tool.view.shown.values() if hasattr(html, "value")
        ]
        assert f"Find {noun}" in seen and not speaks_of_films("\n".join(seen)), seen
        assert not any("poster" in text.lower() for text in seen), (
            "films have posters, other things have pictures"
        )
    sources = "\n".join(explain_prompt(recommender, user, item).segments["source"])
    assert not speaks_of_films(sources)


@pytest.mark.parametrize("verb", ["", "prepare", "posters", "train", "evaluate", "score", "rank"])
def test_help_speaks_of_films_only_where_sources_of_films_are_named(capsys, verb):
    with pytest.raises(SystemExit):
        main([*verb.split(), "--help"])
    told = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert not speaks_of_films(NAMED.sub("", told))


def test_what_methods_are_about_speaks_of_no_film():
    assert not speaks_of_films(
        "\n".join(each.about for each in (*methods.values(), *baselines.values()))
    )
