"""RSA of layers in one call, on the 92 images with data of brains and behaviour."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from thingsvision_client import Client, Model, get_extractor, load_batches
from thingsvision_client.analysis import RSAResult, compare_rdms, rsa
from thingsvision_client.errors import InvalidRequestError, UndefinedDistanceWarning

MODULES = ["classifier.3", "features.12"]
REFERENCES = ["human_it", "monkey_it", "behaviour"]
COMMAND = Path(sys.executable).parent / "thingsvision-client"

# What THINGSvision 2.7.3 finds: rows are REFERENCES, columns MODULES.
PEARSON = [[0.3081, 0.3727], [0.3858, 0.5903], [0.5385, 0.4809]]
SPEARMAN = [[0.2612, 0.2952], [0.2957, 0.4001], [0.4496, 0.3119]]


@pytest.fixture(scope="module")
def trained(server: Any, shared_data: Path) -> Model:
    with Client(server.address) as client:
        sha = client.upload_weights(shared_data / "squeezenet1_0-imagenet.pth")
    return Model("torchvision", "squeezenet1_0", f"sha256:{sha}")


@pytest.fixture(scope="module")
def folder(shared_data: Path) -> Path:
    return shared_data / "rsa92"


@pytest.fixture(scope="module")
def references(folder: Path) -> dict[str, Path]:
    return {name: folder / f"{name}.npy" for name in REFERENCES}


@pytest.fixture(scope="module")
def result(server: Any, trained: Model, folder: Path, references: dict[str, Path]) -> RSAResult:
    with Client(server.address) as client:
        return rsa(
            folder / "stimuli", references, trained, MODULES,
            bootstrap=100, seed=7, batch_size=32, client=client,
        )  # fmt: skip


def scores(result: RSAResult) -> np.ndarray:
    return np.array([[result.of(ref, one).score for one in MODULES] for ref in REFERENCES])


def of_rsatoolbox(rdm: np.ndarray) -> Any:
    from rsatoolbox.rdm import RDMs

    return RDMs(rdm if rdm.ndim == 3 else rdm[None])


def noisy_subjects(rdm: np.ndarray, count: int) -> np.ndarray:
    generator = np.random.default_rng(3)
    noise = np.triu(generator.normal(scale=rdm.std(), size=(count, *rdm.shape)), k=1)
    return rdm + noise + noise.transpose(0, 2, 1)


def test_the_table_is_the_librarys(result: RSAResult, references: dict[str, Path]) -> None:
    np.testing.assert_allclose(scores(result), SPEARMAN, rtol=0, atol=1e-4)
    pearson = compare_rdms(result.rdms, references, correlation="pearson", bootstrap=0)
    np.testing.assert_allclose(scores(pearson), PEARSON, rtol=0, atol=1e-4)
    assert {score.pair_count for score in result.scores} == {92 * 91 // 2}
    assert [(score.reference, score.module) for score in result.scores] == [
        (reference, module) for reference in REFERENCES for module in MODULES
    ]


def test_the_figure_shows_all_references(result: RSAResult, tmp_path: Path) -> None:
    result.plot(tmp_path / "rsa.svg")
    drawn = (tmp_path / "rsa.svg").read_text()
    for name in (*REFERENCES, *MODULES, "Spearman's ρ"):
        assert f"<!-- {name} -->" in drawn


def test_the_intervals_are_rsatoolboxs(result: RSAResult, references: dict[str, Path]) -> None:
    from rsatoolbox.inference import eval_bootstrap_pattern
    from rsatoolbox.model import ModelFixed

    models = [ModelFixed(name, of_rsatoolbox(result.rdms.rdms[name])) for name in MODULES]
    for reference, path in references.items():
        np.random.seed(7)  # noqa: NPY002
        data = of_rsatoolbox(np.load(path))
        direct = eval_bootstrap_pattern(models, data, method="spearman", N=100)
        low, high = direct.get_ci(0.95, test_type="bootstrap")
        for number, module in enumerate(MODULES):
            score = result.of(reference, module)
            assert (score.low, score.high) == (low[number], high[number])
            assert score.low is not None
            assert score.high is not None
            assert score.low < score.score < score.high


def test_the_bootstrap_leaves_random_numbers_alone(result: RSAResult, folder: Path) -> None:
    human = np.load(folder / "human_it.npy")
    np.random.seed(1)  # noqa: NPY002
    expected = np.random.random(3)  # noqa: NPY002
    np.random.seed(1)  # noqa: NPY002
    first = compare_rdms(result.rdms, human, bootstrap=50, seed=1)
    assert (np.random.random(3) == expected).all()  # noqa: NPY002
    assert compare_rdms(result.rdms, human, bootstrap=50, seed=1).scores == first.scores
    assert compare_rdms(result.rdms, human, bootstrap=50, seed=2).scores != first.scores


@pytest.mark.parametrize(
    ("correlation", "method"), [("spearman", "spearman"), ("pearson", "corr"), ("rho-a", "rho-a")]
)
def test_the_noise_ceiling_is_rsatoolboxs(
    result: RSAResult, folder: Path, correlation: str, method: str
) -> None:
    from rsatoolbox.inference import boot_noise_ceiling, eval_fixed
    from rsatoolbox.model import ModelFixed

    subjects = noisy_subjects(np.load(folder / "behaviour.npy"), 5)
    found = compare_rdms(result.rdms, {"b": subjects}, correlation=correlation, bootstrap=0)
    data = of_rsatoolbox(subjects)
    ceiling = boot_noise_ceiling(data, method=method)
    models = [ModelFixed(name, of_rsatoolbox(result.rdms.rdms[name])) for name in MODULES]
    direct = eval_fixed(models, data, method=method)
    for number, module in enumerate(MODULES):
        score = found.of("b", module)
        assert (score.ceiling_low, score.ceiling_high) == ceiling
        assert score.score == pytest.approx(direct.get_means()[number], abs=1e-12)
        np.testing.assert_allclose(score.by_subject, direct.evaluations[0, number], atol=1e-12)
    assert ceiling[0] < ceiling[1] < 1
    without = compare_rdms(
        result.rdms, subjects, correlation=correlation, bootstrap=0, noise_ceiling=False
    )
    assert without.scores[0].ceiling_low is None


def test_references_in_another_order_are_put_in_order(result: RSAResult, folder: Path) -> None:
    human = np.load(folder / "human_it.npy")
    order = np.random.default_rng(0).permutation(92)
    shuffled = human[np.ix_(order, order)]
    names = [f"somewhere/{row + 1:03d}.png" for row in order]
    more = np.full((94, 94), 0.5)
    more[1:93, 1:93] = shuffled
    for rdm, rows in ((shuffled, names), (more, ["x.png", *names, "y.png"])):
        found = compare_rdms(result.rdms, rdm, reference_images=rows, bootstrap=0)
        assert [one.score for one in found.scores] == pytest.approx(SPEARMAN[0], abs=1e-4)
    unnamed = compare_rdms(result.rdms, shuffled, bootstrap=0)
    assert abs(unnamed.scores[0].score) < 0.1
    with pytest.raises(InvalidRequestError, match=r"no rows for 1 of the images: '001\.png'"):
        compare_rdms(
            result.rdms, shuffled, reference_images=[n.replace("001", "201") for n in names]
        )


def test_pairs_without_a_value_are_left_out_with_a_warning(result: RSAResult, folder: Path) -> None:
    human = np.load(folder / "human_it.npy")
    human[3, :] = human[:, 3] = np.nan
    human[10, 20] = human[20, 10] = np.nan
    with pytest.warns(UndefinedDistanceWarning, match="92 of 4,186 pairs of images are NaN"):
        found = compare_rdms(result.rdms, {"human": human}, bootstrap=60)
    upper = np.triu_indices(92, k=1)
    kept = np.isfinite(human[upper])
    for module in MODULES:
        rdm = result.rdms.rdms[module]
        score = found.of("human", module)
        expected = spearmanr(rdm[upper][kept], human[upper][kept]).statistic
        assert score.score == pytest.approx(expected, abs=1e-12)
        assert score.pair_count == kept.sum() == 4186 - 92
        assert score.low is not None
        assert score.low < score.score


def test_provenance_goes_with_the_table(
    result: RSAResult, trained: Model, folder: Path, references: dict[str, Path]
) -> None:
    told = json.loads(result.to_json())
    assert told["model"] == str(trained)
    assert len(told["model_sha256"]) == 64
    assert told["bootstrap"] == {"samples": 100, "confidence": 0.95, "seed": 7}
    assert (told["metric"], told["correlation"], told["batch_size"]) == (
        "correlation", "spearman", 32,
    )  # fmt: skip
    assert told["image_root"] == str(folder / "stimuli")
    first = (folder / "stimuli" / "001.png").read_bytes()
    assert told["images"][0] == {"name": "001.png", "sha256": sha256(first).hexdigest()}
    assert len(told["images"]) == 92
    human = np.load(references["human_it"]).astype("<f8").tobytes()
    assert told["references"]["human_it"] == {
        "subjects": 1, "sha256": sha256(human).hexdigest(),
    }  # fmt: skip
    assert told["scores"][1]["score"] == result.of("human_it", "features.12").score
    assert told["rsatoolbox_version"]


def test_the_table_is_a_dataframe_and_csv(result: RSAResult) -> None:
    pandas = pytest.importorskip("pandas")
    frame = result.to_dataframe()
    assert isinstance(frame, pandas.DataFrame)
    table = frame.pivot_table(index="reference", columns="module", values="score", sort=False)
    np.testing.assert_allclose(table[MODULES].to_numpy(), SPEARMAN, atol=1e-4)
    rows = list(csv.DictReader(result.to_csv().splitlines()))
    assert [float(row["score"]) for row in rows] == [one.score for one in result.scores]
    assert [row["low"] for row in rows] == [repr(one.low) for one in result.scores]
    assert "human_it   classifier.3  0.2612" in str(result)


def test_an_extractor_and_a_loader_bring_their_settings(
    server: Any, folder: Path, references: dict[str, Path], tmp_path: Path
) -> None:
    extractor = get_extractor(
        "squeezenet1_0", pretrained=False, device="cpu", source="torchvision",
        server=server.address,
    )  # fmt: skip
    transforms = extractor.get_transformations(resize_dim=64, crop_dim=64)
    batches = load_batches(folder / "stimuli", tmp_path, "pt", 16, transforms=transforms)
    found = rsa(batches, references["human_it"], extractor, "features.3", bootstrap=0)
    assert found.origin["batch_size"] == 16
    for told in ("preprocessing_changes", "preprocessing"):
        assert found.origin[told]["owner"] == "THINGSvision"
        assert found.origin[told]["resize_pixels"] == [64]
        assert found.origin[told]["crop_pixels"] == [64]
    features = extractor.extract_features(batches, "features.3", flatten_acts=True)
    rdm = np.corrcoef(features.astype(np.float64))
    upper = np.triu_indices(92, k=1)
    human = np.load(references["human_it"])
    expected = spearmanr(1 - rdm[upper], human[upper]).statistic
    assert found.of("human_it", "features.3").score == pytest.approx(expected, abs=1e-6)


def test_references_of_other_images_are_refused_before_anything_is_sent(
    client: Client, photos: list[Path]
) -> None:
    sent = []

    class Watched(type(photos[0])):  # type: ignore[misc]
        def read_bytes(self) -> bytes:
            sent.append(self)
            return super().read_bytes()

    images = [Watched(path) for path in photos]
    model = Model("torchvision", "squeezenet1_0", "random:0")
    with pytest.raises(InvalidRequestError, match=f"has 92 images, but there are {len(photos)}"):
        rsa(images, np.zeros((92, 92)), model, "features.3", client=client, bootstrap=0)
    with pytest.raises(InvalidRequestError, match="`correlation` must be one of pearson, spear"):
        rsa(images, np.zeros((5, 5)), model, "features.3", client=client, correlation="r2")
    assert not sent


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ, COLUMNS="200")
    command = [str(COMMAND), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def test_the_commands_make_table_and_figures(
    server: Any, shared_data: Path, folder: Path, tmp_path: Path
) -> None:
    done = run(
        "rsa", "--server", server.address, "--source", "torchvision",
        "--model-name", "squeezenet1_0", "--model-path",
        shared_data / "squeezenet1_0-imagenet.pth", "--image-root", folder / "stimuli",
        "--module-name", "classifier.3", "--module-name", "features.12",
        "--reference", folder / "human_it.npy", "--reference", f"V4={folder / 'monkey_it.npy'}",
        "--bootstrap", "0", "--figure", "svg", "--out-path", tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "human_it   features.12   0.2952" in done.stdout
    assert "V4         classifier.3  0.2957" in done.stdout
    assert "\r" not in done.stderr, "a progress bar in a pipe"
    rows = list(csv.DictReader((tmp_path / "rsa.csv").read_text().splitlines()))
    assert [round(float(row["score"]), 4) for row in rows] == SPEARMAN[0] + SPEARMAN[1]
    assert json.loads((tmp_path / "rsa.json").read_text())["image_root"] == str(folder / "stimuli")
    assert b"<svg" in (tmp_path / "rsa.svg").read_bytes()[:600]
    drawn = run(
        "plot-rdms", folder / "human_it.npy", f"monkey={folder / 'monkey_it.npy'}",
        "--image-root", folder / "stimuli", "--scale", "ranks", "--out", tmp_path / "grid.pdf",
    )  # fmt: skip
    assert drawn.returncode == 0, drawn.stderr
    assert (tmp_path / "grid.pdf").read_bytes().startswith(b"%PDF")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "file_names.txt", "grid.pdf", "grid.pdf.json", "rsa.csv", "rsa.json", "rsa.svg",
    ]  # fmt: skip
