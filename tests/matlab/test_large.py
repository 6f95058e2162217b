"""3 GB of features go into a .mat file in flat memory; only with --all."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from support.octave import run_octave
from support.serving import TestServer
from thingsvision_client import Client

MODEL, MODULE = "torchvision/squeezenet1_1@random:0", "features.0"
COUNT = 1000


def test_memory_stays_flat(
    server: TestServer, photos: list[Path], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if not request.config.getoption("--all"):
        pytest.skip("3 GB: only with --all")
    files = f"repmat({{'{photos[0]}', '{photos[1]}'}}, 1, {COUNT // 2})"
    done = run_octave(
        f"c = thingsvision.Client('{server.address}', 'Verbose', false); "
        f"c.saveFeatures('{MODEL}', {files}, '{MODULE}', 'large.mat', 'BatchSize', 2); "
        f"folders = glob('{tmp_path}/oct-*'); beat = fileread([folders{{1}} '/beat']); "
        "status = fileread(sprintf('/proc/%d/status', sscanf(beat, '%*d %d'))); "
        "disp(regexp(status, 'VmHWM:\\s*(\\d+)', 'tokens'){1}{1})",
        tmp_path,
    )
    peak_kib = int(done["printed"].split()[-1])
    assert peak_kib < 700 * 1024
    with Client(server.address) as client:
        rows = client.extract(MODEL, photos[:2], MODULE, batch_size=2).features[MODULE]
    with h5py.File(tmp_path / "large.mat") as file:
        assert file["features"].nbytes > 3e9
        for place in (0, 1, COUNT // 2, COUNT - 1):
            # h5py reverses MATLAB's H x W x C x N.
            np.testing.assert_array_equal(file["features"][place], rows[place % 2].swapaxes(1, 2))
