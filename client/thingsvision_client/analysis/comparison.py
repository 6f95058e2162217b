"""RSA in one call: RDMs of a model's modules, from the server, compared with reference RDMs.

References stay on the user's machine and are compared there. A comparison is arithmetic on one
number per pair of images (4,186 for 92 images), which the client has anyway as soon as it has the
RDMs, while data of patients and of unpublished studies must often not leave the lab.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays import Float64Array
from ..errors import InvalidRequestError
from .references import Reference, as_references
from .request import origin_of_rdms, served, served_rdms, stimuli_of
from .result import RSAResult
from .score import Score
from .statistics import (
    Bootstrap,
    check_comparison,
    interval,
    noise_ceiling,
    require_rsatoolbox,
    scores_by_subject,
)

if TYPE_CHECKING:
    from ..client import Client
    from ..library.extractor import Extractor
    from ..progress import Progress
    from ..rpc.rdms import RDMs
    from ..values.model import Model

Bounds = tuple["float | None", "float | None"]

_FEWEST_PAIRS = 3


@dataclass(frozen=True)
class Comparison:
    """How RDMs are compared; `bootstrap` None leaves out intervals, `ceiling` False ceilings.

    `correlation` is a key of statistics.COMPARISONS. Raises InvalidRequestError, and
    MissingDependencyError where rsatoolbox is needed, but not there.
    """

    correlation: str = "spearman"
    bootstrap: Bootstrap | None = None
    ceiling: bool = True

    def __post_init__(self) -> None:
        check_comparison(self.correlation)
        if self.bootstrap is not None:
            require_rsatoolbox("A bootstrap (but bootstrap=0 gives scores without it)")

    def has_ceiling(self, reference: Reference) -> bool:
        """Whether a noise ceiling is due: one subject has none."""
        return self.ceiling and reference.subject_count > 1

    def check_ceilings(self, references: Sequence[Reference]) -> None:
        """Raise MissingDependencyError where one is due, and rsatoolbox is not there."""
        if any(map(self.has_ceiling, references)):
            require_rsatoolbox("A noise ceiling (noise_ceiling=False leaves it out)")


def rsa(
    images: Any,
    reference_rdms: Any,
    model: Model | str | Extractor,
    modules: str | Sequence[str],
    *,
    metric: str = "correlation",
    correlation: str = "spearman",
    reference_images: Sequence[str] | None = None,
    bootstrap: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    noise_ceiling: bool = True,
    server: str | None = None,
    client: Client | None = None,
    progress: Progress | None = None,
    **extraction: Any,
) -> RSAResult:
    """Return how well the RDM of every module fits every reference RDM.

    `images` is all that `Client.rdm` takes, a dataset or a DataLoader of this package. `model` is
    a Model, `source/name[@weights]`, or an extractor, which brings its server. `reference_rdms` is
    all that `as_references` takes: arrays, files, objects of rsatoolbox, by name where there are
    several; they are not sent anywhere. Their rows are in the order of the images, or
    `reference_images` names them: then they are put in order, and rows too many are left out.

    `metric` is that of the modules' RDMs; `correlation` compares RDMs: `pearson`, `spearman`, or
    another key of statistics.COMPARISONS. With RDMs of several subjects a score is the mean over
    subjects, and `noise_ceiling` tells what a perfect model could score. `bootstrap` draws images
    with replacement that often for an interval of `confidence`; 0 leaves it out. The same `seed`
    gives the same interval. `extraction` are further arguments of `Client.rdm`, such as
    `batch_size` or `token_extraction`.

    Pairs of images that are NaN in the reference or in the RDM of the module are left out; a module
    of which no three are left, or that does not vary, scores NaN. Raises ThingsvisionError:
    InvalidRequestError for what is no RDM of these images, and MissingDependencyError without
    rsatoolbox for a bootstrap, a noise ceiling, or another correlation than Pearson's and
    Spearman's.
    """
    comparison = Comparison(correlation, _bootstrap(bootstrap, confidence, seed), noise_ceiling)
    references = as_references(reference_rdms, reference_images)
    stimuli = stimuli_of(images)
    _check_count(stimuli.queue.count, references)
    comparison.check_ceilings(references)
    options = {"progress": progress, **extraction}
    rdms, origin = served_rdms(
        stimuli, served(model, client, server), modules, metric=metric, options=options
    )
    return _scored(rdms, references, comparison, origin=origin, progress=progress)


def compare_rdms(
    rdms: RDMs,
    reference_rdms: Any,
    *,
    correlation: str = "spearman",
    reference_images: Sequence[str] | None = None,
    bootstrap: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    noise_ceiling: bool = True,
    progress: Progress | None = None,
) -> RSAResult:
    """Return the same as `rsa` of RDMs that are there: what `Client.rdm` or `rdm_of` returned."""
    comparison = Comparison(correlation, _bootstrap(bootstrap, confidence, seed), noise_ceiling)
    references = as_references(reference_rdms, reference_images)
    return _scored(rdms, references, comparison, origin=origin_of_rdms(rdms, {}), progress=progress)


def _bootstrap(samples: int, confidence: float, seed: int) -> Bootstrap | None:
    return Bootstrap(samples, confidence, seed) if samples else None


def _check_count(image_count: int | None, references: Sequence[Reference]) -> None:
    """Tell before anything is sent that references are of other images."""
    for reference in references:
        count = reference.rdms.shape[1]
        if reference.images is None and image_count is not None and count != image_count:
            raise InvalidRequestError(
                f"Reference {reference.name!r} has {count} images, but there are {image_count} to "
                "send: give RDMs of the same images in the same order, or the names of their rows "
                "as reference_images."
            )


def _scored(
    rdms: RDMs,
    references: Sequence[Reference],
    comparison: Comparison,
    *,
    origin: Mapping[str, Any],
    progress: Progress | None,
) -> RSAResult:
    total = len(references) * len(rdms.rdms)
    scores: list[Score] = []
    for reference in references:
        ours = reference.of_images(rdms.images)
        ceiling = _ceiling(ours, comparison)
        for module, rdm in rdms.rdms.items():
            if progress is not None:
                progress("comparing with references", len(scores), total)
            scores.append(_score(module, rdm, ours, comparison=comparison, ceiling=ceiling))
    if progress is not None:
        progress("comparing with references", total, total)
    facts = {one.name: {"subjects": one.subject_count, "sha256": one.sha256} for one in references}
    return RSAResult(
        tuple(scores), rdms, comparison.correlation, comparison.bootstrap, facts, origin
    )


def _ceiling(reference: Reference, comparison: Comparison) -> Bounds:
    if not comparison.has_ceiling(reference):
        return None, None
    return noise_ceiling(reference.rdms, reference.measured, comparison.correlation)


def _score(
    module: str, rdm: Float64Array, reference: Reference, *, comparison: Comparison, ceiling: Bounds
) -> Score:
    pairs = reference.measured & np.isfinite(rdm)
    count = int(np.triu(pairs, k=1).sum())
    subjects, correlation = reference.rdms, comparison.correlation
    by_subject = [float("nan")] * len(subjects)
    if count >= _FEWEST_PAIRS:
        by_subject = scores_by_subject(rdm, subjects, pairs, correlation)
    score = float(np.mean(by_subject))
    bounds: Bounds = (None, None)
    if comparison.bootstrap is not None and np.isfinite(score):
        bounds = interval(
            rdm, subjects, pairs, correlation=correlation, bootstrap=comparison.bootstrap
        )
    return Score(reference.name, module, score, *bounds, *ceiling, count, tuple(by_subject))
