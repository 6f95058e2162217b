"""RSA in one call: RDMs of a model's modules, from the server, compared with reference RDMs.

References stay on the user's machine. Comparing takes one number per pair of images (4,186 for 92
images), which the client has anyway as soon as it has the RDMs, while data of patients and of
unpublished studies often must not leave the lab.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays import Float64Array
from ..calls.caller import warn_caller
from ..calls.signatures import check_arguments
from ..display.progress import open_progress
from ..errors import UndefinedDistanceWarning
from ..values.options import shows_options
from .model_rdms import as_model_rdms
from .references import Reference, References, as_references
from .request import model_request, origin_of_rdms, request_rdms, stimuli_of
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
    from typing_extensions import Unpack

    from ..client import Client
    from ..display.progress import Progress, ProgressChoice
    from ..images.queue import ImageQueue
    from ..library.extractor import Extractor
    from ..rpc.rdms import RDMs
    from ..values.model import Model
    from ..values.options import ComputeArguments

Bounds = tuple["float | None", "float | None"]

_MIN_PAIRS = 3


@dataclass(frozen=True)
class Comparison:
    """How RDMs are compared.

    `correlation` is a key of statistics.COMPARISONS; `bootstrap` None computes no intervals,
    `ceiling` False no noise ceilings. Raises InvalidRequestError, and MissingDependencyError if
    rsatoolbox is needed but not installed.
    """

    correlation: str = "spearman"
    bootstrap: Bootstrap | None = None
    ceiling: bool = True

    def __post_init__(self) -> None:
        check_comparison(self.correlation)
        if self.bootstrap is not None:
            require_rsatoolbox("A bootstrap (which bootstrap=0 leaves out)")

    def has_ceiling(self, reference: Reference) -> bool:
        """Tell whether to compute a noise ceiling, which needs several subjects."""
        return self.ceiling and reference.subject_count > 1

    def check_ceilings(self, references: Sequence[Reference]) -> None:
        """Raise MissingDependencyError if a ceiling is needed and rsatoolbox is not installed."""
        if any(map(self.has_ceiling, references)):
            require_rsatoolbox("A noise ceiling (which noise_ceiling=False leaves out)")


@check_arguments
@shows_options(sends_features=False)
def rsa(
    images: Any,
    reference_rdms: References,
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
    on_error: str = "raise",
    progress: ProgressChoice = None,
    **extraction: Unpack[ComputeArguments],
) -> RSAResult:
    """Return how well the RDM of each module fits each reference RDM.

    The server computes the modules' RDMs; the references stay on this machine. For RDMs of several
    subjects, a score is the mean over subjects. Pairs of images that are NaN in a reference or in a
    module's RDM are left out; a module with fewer than three such pairs left, or whose RDM does not
    vary, scores NaN.

    Args:
        images: A folder, files, arrays or an ImageQueue, as in `Client.rdm`; or a dataset or
            DataLoader of this package.
        reference_rdms: An RDM (images x images), RDMs of subjects (subjects x images x images), a
            table of pandas, an array of xarray, an object of rsatoolbox, what `Client.rdm`
            returned, the path of a file as `save_features` writes them or of a csv table, a list
            of paths, or a mapping from names to any of these.
        model: A Model, `source/name[@weights]`, or an extractor, which brings its server.
        modules: A module or several.
        metric: Of the modules' RDMs: `correlation` (1 - Pearson's r), `cosine`, `euclidean` or
            `gaussian`.
        correlation: How RDMs are compared: `pearson`, `spearman`, or, with rsatoolbox, `kendall`
            (tau-b), `tau-a`, `rho-a`, `cosine`, `corr_cov` or `cosine_cov` (both whitened).
        reference_images: Names of the rows of the reference RDMs; by default the names that they
            carry (in an index, coordinates, descriptors, or in their file). Rows are put in the
            order of the images, and rows of other images are left out; without names, rows must
            already be in that order.
        bootstrap: Number of samples, of images drawn with replacement, for the interval of a score;
            0 computes none.
        confidence: Of the interval, between 0 and 1.
        seed: The same seed gives the same interval.
        noise_ceiling: Compute what a perfect model could score, for references of several subjects.
        server: Address, host:port; by default that of the extractor, or of `Client()`.
        client: The client to use instead.
        on_error: As in `Client.rdm`. To skip images, references need names of their rows.
        progress: As in `Client.rdm`; the last stage is `comparing with references`.
        **extraction: Further arguments of `Client.rdm`, such as `batch_size`.

    Returns:
        The scores and the modules' RDMs, with all that they depend on.

    Raises:
        InvalidRequestError: An invalid argument, or a reference that is not an RDM of these images.
        MissingDependencyError: rsatoolbox is not installed, and a bootstrap, a noise ceiling or
            `correlation` needs it.
        ThingsvisionError: Whatever else the server reports.

    Example:
        ```python
        from thingsvision_client import Client, rsa

        brain = Client().rdm("torchvision/alexnet@random:1", "photos", "features.10").rdms
        modules = ["features.3", "features.10"]
        result = rsa("photos", brain, "torchvision/alexnet", modules, bootstrap=0)
        print(result)
        ```

    """
    comparison = Comparison(correlation, _bootstrap(bootstrap, confidence, seed), noise_ceiling)
    references = as_references(reference_rdms, reference_images)
    stimuli = stimuli_of(images)
    _check_images(stimuli.queue, references)
    comparison.check_ceilings(references)
    asked = model_request(model, client, server)
    with open_progress(progress) as report:
        options = {"progress": report or False, "on_error": on_error, **extraction}
        rdms, origin = request_rdms(stimuli, asked, modules, metric=metric, options=options)
        return _score_all(rdms, references, comparison, origin=origin, progress=report)


@check_arguments
def compare_rdms(
    rdms: References,
    reference_rdms: References,
    *,
    correlation: str = "spearman",
    reference_images: Sequence[str] | None = None,
    bootstrap: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    noise_ceiling: bool = True,
    progress: ProgressChoice = None,
) -> RSAResult:
    """Return how well RDMs that are already computed fit each reference RDM, as `rsa` does.

    Args:
        rdms: What `Client.rdm` or `Client.rdm_of` returned, or RDMs that you computed: a matrix
            (images x images), an object with names, the path of a file, or a mapping from names to
            any of these. Without names, rows are in the order of the reference RDMs.
        reference_rdms: An RDM (images x images), RDMs of subjects (subjects x images x images), a
            table of pandas, an array of xarray, an object of rsatoolbox, what `Client.rdm`
            returned, the path of a file as `save_features` writes them or of a csv table, a list
            of paths, or a mapping from names to any of these.
        correlation: How RDMs are compared: `pearson`, `spearman`, or, with rsatoolbox, `kendall`
            (tau-b), `tau-a`, `rho-a`, `cosine`, `corr_cov` or `cosine_cov` (both whitened).
        reference_images: Names of the rows of the reference RDMs; by default the names that they
            carry (in an index, coordinates, descriptors, or in their file). Rows are put in the
            order of the images, and rows of other images are left out; without names, rows must
            already be in that order.
        bootstrap: Number of samples, of images drawn with replacement, for the interval of a score;
            0 computes none.
        confidence: Of the interval, between 0 and 1.
        seed: The same seed gives the same interval.
        noise_ceiling: Compute what a perfect model could score, for references of several subjects.
        progress: As in `rsa`.

    Returns:
        The scores, with all that they depend on.

    Raises:
        InvalidRequestError: An invalid argument, or a reference that is not an RDM of these images.
        MissingDependencyError: rsatoolbox is not installed, and a bootstrap, a noise ceiling or
            `correlation` needs it.

    Example:
        ```python
        from thingsvision_client import Client, compare_rdms

        client = Client()
        rdms = client.rdm("torchvision/alexnet", "photos", ["features.3", "features.10"])
        brain = client.rdm("torchvision/alexnet@random:1", "photos", "features.10").rdms
        print(compare_rdms(rdms, brain, correlation="pearson", bootstrap=0))
        ```

    """
    comparison = Comparison(correlation, _bootstrap(bootstrap, confidence, seed), noise_ceiling)
    references = as_references(reference_rdms, reference_images)
    ours = as_model_rdms(rdms, references)
    origin = origin_of_rdms(ours, {})
    with open_progress(progress) as report:
        return _score_all(ours, references, comparison, origin=origin, progress=report)


def _bootstrap(samples: int, confidence: float, seed: int) -> Bootstrap | None:
    return Bootstrap(samples, confidence, seed) if samples else None


def _check_images(queue: ImageQueue, references: Sequence[Reference]) -> None:
    """Raise InvalidRequestError, before anything is sent, for references of other images."""
    names = [image.name for image in queue.images] if queue.is_reiterable else None
    for reference in references:
        if names is not None:
            reference.match(names)
        elif reference.has_names:
            continue
        elif queue.count is not None:
            reference.check_count(queue.count)


def _score_all(
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
    _warn_of_undefined(scores)
    facts = {one.name: _facts(one, rdms.images) for one in references}
    return RSAResult(
        scores=tuple(scores),
        rdms=rdms,
        correlation=comparison.correlation,
        bootstrap=comparison.bootstrap,
        references=facts,
        origin=origin,
    )


def _warn_of_undefined(scores: Sequence[Score]) -> None:
    """Warn of scores that are NaN, and why that can be."""
    undefined = [f"{one.module!r} with {one.reference!r}" for one in scores if isnan(one.score)]
    if undefined:
        warn_caller(
            f"{len(undefined)} of {len(scores)} scores are undefined (NaN), such as of "
            f"{undefined[0]}: an RDM has the same distance for all pairs, or fewer than "
            f"{_MIN_PAIRS} pairs were measured.",
            UndefinedDistanceWarning,
        )


def _facts(reference: Reference, images: Sequence[str]) -> dict[str, Any]:
    facts = {"subjects": reference.subject_count, "sha256": reference.sha256}
    match = reference.match(images)
    return facts if match is None else {**facts, "rows": f"by {match.labels.where}"}


def _ceiling(reference: Reference, comparison: Comparison) -> Bounds:
    if not comparison.has_ceiling(reference):
        return None, None
    return noise_ceiling(reference.rdms, reference.pairs, comparison.correlation)


def _score(
    module: str, rdm: Float64Array, reference: Reference, *, comparison: Comparison, ceiling: Bounds
) -> Score:
    pairs = reference.pairs & np.isfinite(rdm)
    count = int(np.triu(pairs, k=1).sum())
    subjects, correlation = reference.rdms, comparison.correlation
    by_subject = [float("nan")] * len(subjects)
    if count >= _MIN_PAIRS:
        by_subject = scores_by_subject(rdm, subjects, pairs, correlation)
    score = float(np.mean(by_subject))
    bounds: Bounds = (None, None)
    if comparison.bootstrap is not None and np.isfinite(score):
        bounds = interval(
            rdm, subjects, pairs, correlation=correlation, bootstrap=comparison.bootstrap
        )
    return Score(reference.name, module, score, *bounds, *ceiling, count, tuple(by_subject))
