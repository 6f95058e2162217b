"""Modules of uploaded networks work under the names that their users gave them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from support.checkout import SUPPORT
from support.closeness import assert_close
from support.odd_networks import UNUSABLE, USABLE, network, path_of
from support.own_files import hooked
from thingsvision_client import Client
from thingsvision_client.errors import InvalidWeightsError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("odd")
    subprocess.run([sys.executable, SUPPORT / "odd_networks.py", made], check=True, timeout=200)
    return made


@pytest.mark.parametrize("name", USABLE)
def test_a_module_has_its_own_name(client: Client, folder: Path, name: str) -> None:
    model = client.upload_model(path_of(folder, name))
    net, asked = network(name), [name, f"{name}.0"]
    assert [module.name for module in client.modules(model)] == ["", name, f"{name}.0", f"{name}.1"]
    batch = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    found = client.extract(model, batch.numpy(), asked).features
    expected = hooked(net, batch, asked)
    for module in asked:
        assert_close(found[module], expected[module])


@pytest.mark.parametrize("name", UNUSABLE)
def test_an_unusable_name_is_refused_with_a_name_that_works(
    client: Client, folder: Path, name: str
) -> None:
    renamed = UNUSABLE[name]
    sentence = re.escape(f"the name {name!r} of a module") + f".*for example to '{renamed}'"
    with pytest.raises(InvalidWeightsError, match=sentence):
        client.upload_model(path_of(folder, name))
