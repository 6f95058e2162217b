"""The source `custom`: model families, each a source of its own, under one name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from ...backends.base import RunnableModel
from ...backends.modules import Structure
from ...inputs import InputTransform
from ..base import ModelEntry, ModelKey, ModelSource
from ..context import SourceContext
from ..imports import import_named
from ..naming import check_name
from ..weights.folder import PublishedWeights, PublishingSource

FAMILIES: Sequence[str] = (
    "align:open_source",
    "clip.source:open_source",
    "cornet.source:open_source",
    "dreamsim.source:open_source",
    "ecoset:open_source",
    "harmonization.of_keras:open_source",
    "harmonization.of_timm:open_source",
    "salobjsub:open_source",
    "segment_anything:open_source",
)
"""The function that opens each family as a source, as `module:function` below this package."""

_NOWHERE = PublishedWeights()


def open_source(context: SourceContext) -> CustomSource:
    """Open the source with all its families."""
    return CustomSource([import_named(path, __package__)(context) for path in FAMILIES])


class CustomSource:
    """A ModelSource that hands every model to its family."""

    def __init__(self, families: Sequence[ModelSource]) -> None:
        self._family_of = {name: family for family in families for name in family.names()}

    def names(self) -> list[str]:
        """Return the names of all models, sorted."""
        return sorted(self._family_of)

    def entries(self, names: list[str]) -> Iterator[ModelEntry]:
        """Yield the entries of these models without building them."""
        for family, of_family in groupby(names, self._family_of.__getitem__):
            yield from family.entries(list(of_family))

    def find_published(self, name: str, tag: str) -> PublishedWeights:
        """Return where the weights of a tag are published."""
        family = self._family_of[name]
        return (
            family.find_published(name, tag) if isinstance(family, PublishingSource) else _NOWHERE
        )

    def resolve(self, key: ModelKey) -> ModelKey:
        """Return the key with its weights named in full; raise if there are no such weights."""
        check_name(key, self._family_of)
        return self._family_of[key.name].resolve(key)

    def structure(self, key: ModelKey, image_shape: tuple[int, ...] | None = None) -> Structure:
        """Return the modules of a resolved model."""
        return self._family_of[key.name].structure(key, image_shape)

    def transforms(self, key: ModelKey) -> Mapping[str, InputTransform]:
        """Return how a resolved model's inputs are made, by modality."""
        return self._family_of[key.name].transforms(key)

    def load(self, key: ModelKey, device: str) -> RunnableModel:
        """Build a resolved model with its weights on a device."""
        return self._family_of[key.name].load(key, device)
