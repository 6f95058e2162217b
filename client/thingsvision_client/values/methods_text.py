"""Writes how features were computed as a paragraph for a paper, with the works to cite."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..citations import Work, works_of_libraries, works_of_model, works_of_weights
from .model import Model

UNKNOWN = "no citation known"


INPUTS = ("images", "texts")
"""What features may be of."""

_TOKENS = {
    "cls_token": "the class token",
    "avg_pool": "the mean of the patch tokens",
    "cls_token+avg_pool": "the class token and the mean of the patch tokens",
}
_METRICS = {
    "correlation": "1 minus Pearson's correlation",
    "cosine": "1 minus the cosine similarity",
    "euclidean": "the Euclidean distance",
    "gaussian": "1 - exp(-D / mean(D)), where D is the squared Euclidean distance,",
}


@dataclass(frozen=True)
class Subject:
    """What a paragraph is about, beside its provenance; None where it is not known.

    `inputs` are `images` or `texts`, `count` is their number, `metric` belongs to RDMs.
    """

    modules: tuple[str, ...] | None = None
    count: int | None = None
    inputs: str = "images"
    token_extraction: str | None = None
    metric: str | None = None


def subject_of(
    facts: Mapping[str, Any], modules: Sequence[str | None], count: int | None
) -> Subject:
    """Return the subject of features, by what metadata say of them and of their modules."""
    known = tuple(name for name in modules if name is not None)
    return Subject(
        modules=known if known and len(known) == len(modules) else None,
        count=count,
        inputs="texts" if facts.get("input") == "text" else "images",
        token_extraction=facts.get("token_extraction"),
        metric=facts.get("metric"),
    )


def write_paragraph(facts: Mapping[str, Any], subject: Subject) -> str:
    """Return the paragraph of what `Provenance.to_dict` says; works are cited as in Pandoc."""
    sentences = [
        _about_model(facts, subject),
        _about_inputs(facts["preprocessing"], subject.inputs),
        _about_passes(facts),
        *_about_tokens(subject.token_extraction),
        *_about_reduction(facts),
        *_about_rdms(subject.metric),
    ]
    return " ".join(sentences)


def cited_works(model: Model) -> list[Work]:
    """Return the works that the paragraph cites, each once."""
    kind, tag = _kind_of_weights(model)
    works = works_of_model(model.source, model.name)
    works += works_of_weights(model.source, tag) if kind == "pretrained" else []
    works += works_of_libraries(model.source)
    return list({work.key: work for work in works}.values())


def _about_model(facts: Mapping[str, Any], subject: Subject) -> str:
    model = Model.parse(facts["model"])
    own = model.source == "own"
    what = "a network of our own" if own else f"{model.name} of {model.source}"
    works = "" if own else f" ({_cite(works_of_model(model.source, model.name))})"
    digest = f"SHA-256 of its parameters and buffers: {facts['model_sha256']}"
    return (
        f"Features{_of_inputs(subject)} were extracted {_from_modules(subject.modules)}{what}"
        f"{works}, with {_weights_of(model)} ({digest})."
    )


def _of_inputs(subject: Subject) -> str:
    if subject.count is None:
        return "" if subject.inputs == "images" else f" of {subject.inputs}"
    word = subject.inputs.removesuffix("s") if subject.count == 1 else subject.inputs
    return f" of {subject.count:,} {word}"


def _from_modules(modules: Sequence[str] | None) -> str:
    """Return what precedes the model's name; the whole model has an empty name."""
    if modules is None or list(modules) == [""]:
        return "with "
    names = [name or "the whole model" for name in modules]
    listed = f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
    return f"from the module{'s' if len(names) > 1 else ''} {listed} of "


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


def _about_inputs(preprocessing: Mapping[str, Any], inputs: str) -> str:
    steps = " ".join(preprocessing["description"].split()).rstrip(".")
    if not steps:
        return "Inputs were preprocessed beforehand."
    owner = preprocessing.get("owner")
    whose = f" (the preprocessing of {owner})" if owner and owner != "user" else ""
    return f"{inputs.capitalize()} were preprocessed as follows{whose}: {steps}."


def _about_passes(facts: Mapping[str, Any]) -> str:
    model = Model.parse(facts["model"])
    ways = [
        *(["each image alone"] if facts["deterministic"] else []),
        *(["compiled by torch.compile"] if facts["compiled"] else []),
        *(["in the memory format channels_last"] if facts["memory_format"] != "contiguous" else []),
    ]
    how = f", {' and '.join(ways)}" if ways else ""
    return (
        f"Forward passes ran in {facts['precision']} on {facts['device']}{_hardware(facts)} with "
        f"{facts['framework']}{how}, by thingsvision-service {facts['server_version']}, which "
        f"reproduces THINGSvision ({_cite(works_of_libraries(model.source))})."
    )


def _hardware(facts: Mapping[str, Any]) -> str:
    return f" ({facts['hardware']})" if facts.get("hardware") else ""


def _about_tokens(selected: str | None) -> Iterable[str]:
    if selected:
        yield f"Of each sequence of tokens, {_TOKENS.get(selected, selected)} was taken."


def _about_rdms(metric: str | None) -> Iterable[str]:
    if metric:
        named = _METRICS.get(metric, f"the metric {metric}")
        yield f"The dissimilarity of two images is {named} of their features."


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
