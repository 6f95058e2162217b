"""A user's script, over TLS with a token: sends networks and weights that others may use."""

from __future__ import annotations

import json
import os
import pickle
import sys

import torch
from torch import nn

from thingsvision_client import connect, get_extractor, get_extractor_from_model, vision
from thingsvision_client.errors import InvalidRequestError
from thingsvision_client.model_class import Model

url, ca, weights = sys.argv[1:]
connect(url, ca=ca, token=os.environ["TOKEN"])


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 5, stride=4), nn.ReLU()).eval()


class Own(Model):
    def load_model(self) -> None:
        self.model = network(5)


shape = (3, 32, 32)
sent = {
    "shared": get_extractor_from_model(network(1), None, "pt", input_shape=shape, share=True),
    "own": get_extractor_from_model(network(2), None, "pt", input_shape=shape),
    "weights": get_extractor(
        "squeezenet1_1", True, None, "torchvision", model_path=weights, share=True
    ),
    "paper": Own("of mine", False, None, share=True).extractor,
}
assert vision.load_model("squeezenet1_1", True, None, weights, share=True)[0].model_path == weights
models = {name: str(one._served.model) for name, one in sent.items()}

grown = pickle.loads(pickle.dumps(sent["shared"]._served.network))
models["grown"] = str(sent["shared"]._served.network.send(sent["shared"].client, (3, 48, 48)))
assert grown.share

assigned = get_extractor("squeezenet1_1", True, None, "torchvision", model_path=weights, share=True)
assigned.model = network(3)
models["assigned"] = str(assigned._served.model)

refused = ""
try:
    get_extractor("alexnet", False, None, "torchvision", share=True)
except InvalidRequestError as error:
    refused = str(error)
print(json.dumps({"models": models, "refused": refused}))
