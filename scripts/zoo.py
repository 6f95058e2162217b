"""Write the zoo's files: the facts that servers list of models, and the table for readers.

Both come from the libraries installed here. Parameters and modules, which need a built network,
come from the walks in docs/zoo.jsonl; this script lists models that were not walked yet.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from walking import walk
from walks import RUN, Walk, add_walk, read_walks, write_walks

from support.serving import open_sources
from thingsvision_server.sources import Sources
from thingsvision_server.sources.base import ModelKey, Random
from thingsvision_server.sources.facts import FILE, LIBRARIES, ModelFacts, facts_json
from thingsvision_server.sources.weights.folder import PublishingSource

TABLE = Path(__file__).resolve().parents[1] / "docs" / "zoo.md"


def main() -> None:
    """List models that were not walked yet, then write the facts, the walks and the table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--source", default="", help="list only models of this source")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sources = open_sources(Path(folder))
        wanted = [chosen.source] if chosen.source else list(LIBRARIES)
        failures = list_missing(sources, wanted)
        walks = read_walks()
        write_walks(walks)
        TABLE.write_text("".join(f"{line}\n" for line in table(walks, failures)))
        FILE.write_text(facts_json(facts(sources, walks)))
    print(f"{len(walks)} models; failed: {len(failures)}")


def list_missing(sources: Sources, wanted: Iterable[str]) -> dict[str, str]:
    """List the modules of models that have no walk; return the failed models and their errors."""
    failures: dict[str, str] = {}
    for source in wanted:
        known = read_walks()
        names = [name for name in sources[source].names() if f"{source}/{name}" not in known]
        for number, name in enumerate(names):
            print(f"{source} {number + 1}/{len(names)} {name}", flush=True)
            try:
                add_walk(walk(sources, ModelKey(source, name, Random(0)), run=False))
            except Exception as error:  # the table shows any error of a library
                failures[f"{source}/{name}"] = _summarise(error)
    return failures


def _summarise(error: Exception) -> str:
    """Return the first sentence of an error; the rest is about this machine."""
    sentence = re.split(r"[\n.] ?(?=[A-Z]|$)", str(error))[0]
    return f"{type(error).__name__}: {sentence}"


def facts(sources: Sources, walks: Mapping[str, Walk]) -> Iterator[ModelFacts]:
    """Yield the libraries' facts about all models, with the parameters and sizes of the walks."""
    for source in LIBRARIES:
        opened = sources[source]
        if not isinstance(opened, PublishingSource):
            sys.exit(f"the source {source} does not say where its weights are published")
        for name in opened.names():
            # `find_published` comes first: Keras then has more details of the model's entry.
            (entry,) = opened.entries([name])
            tags = [weights.tag for weights in entry.pretrained]
            published = tuple(opened.find_published(name, tag) for tag in tags)
            (entry,) = opened.entries([name])
            known = walks.get(f"{source}/{name}")
            if known is not None:
                count = entry.parameter_count or known.parameters
                shape = entry.input_shape or tuple(known.input_shape)
                entry = replace(entry, parameter_count=count, input_shape=shape)
            yield ModelFacts(entry, published)


def table(walks: Mapping[str, Walk], failures: Mapping[str, str]) -> Iterator[str]:
    """Yield the lines of the document."""
    yield "# How models were tested\n"
    yield (
        "Every model of every source, walked with random weights. **run**: two inputs went through "
        "the model, and every extractable module's output was bit-identical to a plain forward "
        "hook's (Keras: finite values of the listed shape). **listed**: only its modules and their "
        "shapes were determined, without computing values: models with more than 2 GB of weights, "
        "and some whose texts need files from the hub. `scripts/test --all` walks, `scripts/zoo` "
        "writes this page; the walks themselves are in [zoo.jsonl](zoo.jsonl).\n"
    )
    yield from _summary(walks)
    for source in sorted({model.source for model in walks.values()}):
        yield from _of_source(source, [w for w in walks.values() if w.source == source])
    if failures:
        yield "\n## Not listed here\n"
        yield from (f"* `{model}`: {why}" for model, why in sorted(failures.items()))


def _summary(walks: Mapping[str, Walk]) -> Iterator[str]:
    yield "| source | models | run | listed only | modules | extractable | walked with |"
    yield "|---|---|---|---|---|---|---|"
    for source in sorted({model.source for model in walks.values()}):
        of_source = [model for model in walks.values() if model.source == source]
        run = sum(model.walked == RUN for model in of_source)
        versions = ", ".join(f"{name} {v}" for name, v in of_source[0].versions.items())
        yield (
            f"| {source} | {len(of_source)} | {run} | {len(of_source) - run} "
            f"| {sum(model.modules for model in of_source):,} "
            f"| {sum(model.extractable for model in of_source):,} | {versions} |"
        )


def _of_source(source: str, walks: list[Walk]) -> Iterator[str]:
    yield f"\n## {source}\n"
    reasons: Counter[str] = Counter()
    for model in walks:
        reasons.update(model.reasons)
    letters = {reason: chr(ord("a") + n) for n, (reason, _) in enumerate(reasons.most_common(26))}
    if letters:
        yield "Why modules are not extractable:\n"
        yield from (
            f"* **{letters[reason]}** ({reasons[reason]:,}): {reason}" for reason in letters
        )
        yield ""
    yield "| model | parameters | input | extractable / all | why not | walked | on |"
    yield "|---|---|---|---|---|---|---|"
    yield from (_row(model, letters) for model in sorted(walks, key=lambda model: model.name))


def _row(model: Walk, letters: Mapping[str, str]) -> str:
    why = " ".join(f"{letters.get(reason, '…')}:{count}" for reason, count in model.reasons.items())
    size, run_size = (" x ".join(map(str, shape)) for shape in (model.input_shape, model.run_shape))
    walked = f"{model.walked} at {run_size}" if run_size not in ("", size) else model.walked
    return (
        f"| `{model.name}` | {model.parameters:,} | {size} | {model.extractable} / {model.modules} "
        f"| {why} | {walked} | {model.date} |"
    )


if __name__ == "__main__":
    main()
