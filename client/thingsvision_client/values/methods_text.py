"""Writes how features were computed as a paragraph for a paper, with the works to cite."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..citations import Work, works_of_libraries, works_of_model, works_of_weights
from .model import Model

UNKNOWN = "no citation known"


def write_paragraph(facts: Mapping[str, Any]) -> str:
    """Return the paragraph of what `Provenance.to_dict` says; works are cited as in Pandoc."""
    sentences = [
        _about_model(facts),
        _about_inputs(facts["preprocessing"]),
        _about_passes(facts),
        *_about_reduction(facts),
    ]
    return " ".join(sentences)


def cited_works(model: Model) -> list[Work]:
    """Return the works that the paragraph cites, each once."""
    kind, tag = _kind_of_weights(model)
    works = works_of_model(model.source, model.name)
    works += works_of_weights(model.source, tag) if kind == "pretrained" else []
    works += works_of_libraries(model.source)
    return list({work.key: work for work in works}.values())


def _about_model(facts: Mapping[str, Any]) -> str:
    model = Model.parse(facts["model"])
    own = model.source == "own"
    what = "a network of our own" if own else f"{model.name} of {model.source}"
    works = "" if own else f" ({_cite(works_of_model(model.source, model.name))})"
    digest = f"SHA-256 of its parameters and buffers: {facts['model_sha256']}"
    return f"Features were extracted with {what}{works}, with {_weights_of(model)} ({digest})."


def _weights_of(model: Model) -> str:
    kind, tag = _kind_of_weights(model)
    if kind == "random":
        return f"random weights (seed {tag})"
    if kind == "sha256":
        return f"weights of our own (SHA-256 of the file: {tag.partition(':')[0]})"
    if kind == "own":
        return "its own weights"
    cited = _cite(works_of_weights(model.source, tag))
    return f"the pretrained weights '{tag}' ({cited})" if tag else "its default weights"


def _kind_of_weights(model: Model) -> tuple[str, str]:
    if model.source == "own":
        return "own", ""
    kind, colon, value = (model.weights or "").partition(":")
    return (kind, value) if colon and kind in ("random", "sha256") else ("pretrained", kind)


def _about_inputs(preprocessing: Mapping[str, Any]) -> str:
    steps = " ".join(preprocessing["description"].split()).rstrip(".")
    if not steps:
        return "Inputs were preprocessed beforehand."
    owner = preprocessing.get("owner")
    whose = f" (the preprocessing of {owner})" if owner and owner != "user" else ""
    return f"Images were preprocessed as follows{whose}: {steps}."


def _about_passes(facts: Mapping[str, Any]) -> str:
    model = Model.parse(facts["model"])
    ways = [
        *(["each image alone"] if facts["deterministic"] else []),
        *(["compiled by torch.compile"] if facts["compiled"] else []),
        *(["in the memory format channels_last"] if facts["memory_format"] != "contiguous" else []),
    ]
    how = f", {' and '.join(ways)}" if ways else ""
    return (
        f"Forward passes ran in {facts['precision']} on {facts['device']} with "
        f"{facts['framework']}{how}, by thingsvision-service {facts['server_version']}, which "
        f"reproduces THINGSvision ({_cite(works_of_libraries(model.source))})."
    )


def _about_reduction(facts: Mapping[str, Any]) -> Iterable[str]:
    reduction, pca = facts["reduction"] or {}, facts["pca"]
    if reduction.get("pool"):
        axes = ", ".join(map(str, reduction.get("pool_axes", ())))
        yield f"Features were pooled by their {_word(reduction['pool'])} over the axes {axes}."
    if reduction.get("units"):
        yield f"Of the features, {len(reduction['units'])} units were kept."
    if projection := reduction.get("projection"):
        yield (
            f"They were projected to {projection['component_count']} dimensions by a sparse random "
            f"matrix (seed {projection.get('seed', 0)})."
        )
    if pca:
        yield (
            f"They were reduced to {pca['component_count']} principal components, fitted on "
            f"{pca['image_count']} images (SHA-256 of the PCA: {pca['sha256']})."
        )


def _word(name: str) -> str:
    """Return a word of the contract, such as POOL_MEAN, as users know it."""
    word = name.rpartition("_")[2].lower()
    return {"max": "maximum"}.get(word, word)


def _cite(works: Sequence[Work]) -> str:
    return f"[{'; '.join(f'@{work.key}' for work in works)}]" if works else UNKNOWN
