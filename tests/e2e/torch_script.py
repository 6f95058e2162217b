"""A user's script that sends PyTorch networks of its own; run by test_own_network in a child."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from typing import Any

import numpy as np
import torch
from script_outcome import ARRAYS, FOLDER, SAID, images, opened, refusal, run
from torch import nn
from torchvision import transforms

from thingsvision_client import DataLoader, get_extractor, get_extractor_from_model
from thingsvision_client.model_class import Model


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8))
        self.act = nn.ReLU()
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.drop(self.act(self.stem(x))).mean((2, 3)))


class Two(nn.Module):
    """Takes more than images; has parameters and buffers of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
        self.head = nn.Linear(4, 3)
        self.gain = nn.Parameter(torch.tensor([2.0, 3.0, 4.0, 5.0]))
        self.register_buffer("offset", torch.tensor(0.25))

    def forward(self, x: torch.Tensor, y: Any) -> torch.Tensor:
        if y is None:
            raise ValueError("y is missing")
        return self.head(self.body(x).mean((2, 3)) * self.gain + self.offset + y)


class Flat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3 * 16 * 16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x.flatten(1))


class Windows(nn.Module):
    """Cuts its maps into windows, by an arithmetic of sizes that no server takes."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 4, 4, stride=4)
        self.head = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patches(x)
        x = nn.functional.pad(x, (0, (7 - x.shape[3] % 7) % 7, 0, (7 - x.shape[2] % 7) % 7))
        b, c, h, w = x.shape
        x = x.view(b, c, h // 7, 7, w // 7, 7).permute(0, 2, 4, 3, 5, 1).reshape(-1, 49, c)
        x = torch.softmax(x, 1).view(b, h // 7, w // 7, 7, 7, c)
        return self.head(x.permute(0, 5, 1, 3, 2, 4).reshape(b, c, h, w).amax((2, 3)))


class One(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x.reshape(1, 3, 16 * 16).mean(-1))


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x) if x.sum() > 0 else x


@torch.library.custom_op("mine::twice", mutates_args=())
def twice(x: torch.Tensor) -> torch.Tensor:
    """Double a tensor, by an operator that no server has."""
    return x * 2


twice.register_fake(torch.empty_like)


class Custom(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return twice(x)


def made(kind: type[nn.Module]) -> Any:
    """Return a network, the same each time."""
    torch.manual_seed(0)
    net = kind()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
    return net


def hooked(
    net: nn.Module, batch: torch.Tensor, names: list[str], call: Any = None
) -> dict[str, np.ndarray]:
    """Return modules' outputs by PyTorch itself, the network evaluating."""
    found: dict[str, np.ndarray] = {}
    modules = dict(net.named_modules())
    modes = {module: module.training for module in net.modules()}
    handles = [
        modules[name].register_forward_hook(
            lambda _m, _i, out, name=name: found.update({name: out.clone().numpy()})
        )
        for name in names
    ]
    with torch.no_grad():
        net.eval()
        (call or net)(batch)
    for handle in handles:
        handle.remove()
    for module, mode in modes.items():
        module.training = mode
    return found


def keep(scenario: str, found: dict[str, Any], expected: dict[str, np.ndarray]) -> None:
    """Keep features and what they have to be."""
    ARRAYS.update({f"{scenario}/found/{name}": np.asarray(x) for name, x in found.items()})
    ARRAYS.update({f"{scenario}/expected/{name}": x for name, x in expected.items()})


def steps(resize: int, crop: int, mean: tuple[float, ...], std: Any) -> transforms.Compose:
    """Return a user's preprocessing."""
    return transforms.Compose(
        [
            transforms.Resize(resize),
            transforms.CenterCrop(crop),
            transforms.ToTensor(),
            transforms.Normalize(mean, std),
        ]
    )


def batch_of(preprocess: transforms.Compose) -> torch.Tensor:
    """Return the photographs, preprocessed here."""
    return torch.stack([preprocess(image) for image in opened()])


OWN = steps(40, 32, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
SMALL = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def plain() -> None:
    net, names = made(Net), ["stem.0", "act", "head"]
    net.stem.eval()
    extractor = get_extractor_from_model(model=net, device="cpu", transforms=OWN, backend="pt")
    batches = images(extractor.get_transformations())
    found = extractor.extract_features(batches, module_names=names)
    keep("plain", found, hooked(net, batch_of(OWN), names))
    preprocessing = extractor.client.preprocessing(extractor.model)
    SAID["plain"] = {
        "modules": extractor.get_module_names(),
        "training": [net.training, net.act.training, net.stem.training],
        "mean": [round(x, 6) for x in preprocessing.mean],
        "backend": extractor.get_backend(),
        "model": str(extractor.model),
    }


def declared_anew() -> None:
    net, other = made(Net), steps(48, 32, (0.1, 0.2, 0.3), (0.2, 0.25, 0.3))
    extractor = get_extractor_from_model(net, "cpu", "pt", other)
    found = extractor.extract_features(images(None), "head")
    keep("declared anew", {"head": found}, hooked(net, batch_of(other), ["head"]))
    SAID["declared anew"] = {"model": str(extractor.model)}


def own_forward() -> None:
    net, names = made(Two), ["body.0", "head", ""]

    def forward(self: Any, batch: torch.Tensor) -> torch.Tensor:
        return self.model(batch, y=1.5)

    extractor = get_extractor_from_model(net, "cpu", "pt", OWN, forward_fn=forward)
    found = extractor.extract_features(images(None), module_names=names)
    keep("forward", found, hooked(net, batch_of(OWN), names, lambda batch: net(batch, 1.5)))
    SAID["forward"] = {
        "modules": extractor.get_module_names(),
        "stays": refusal(lambda: net(SMALL, None)),
    }


def own_flattening() -> None:
    def flatten(self: Any, activations: torch.Tensor) -> torch.Tensor:
        return activations.mean((2, 3))

    net = made(Net)
    expected = hooked(net, batch_of(OWN), ["stem.0"])["stem.0"].mean((2, 3))
    for scenario, function in [
        ("flatten", flatten),
        ("flatten alone", lambda activations: activations.mean((2, 3))),
    ]:
        extractor = get_extractor_from_model(net, "cpu", "pt", OWN, flatten_fn=function)
        found = extractor.extract_features(images(None), "stem.0", flatten_acts=True)
        keep(scenario, {"stem.0": found}, {"stem.0": expected})
    whole = get_extractor_from_model(net, "cpu", "pt", OWN, flatten_fn=lambda x: x.flatten())
    SAID["flatten"] = {
        "rows lost": refusal(lambda: whole.extract_features(images(None), "head", None, True)),
        "to disk": refusal(
            lambda: whole.extract_features(images(None), "head", None, True, output_dir=FOLDER)
        ),
    }


def any_size() -> None:
    net = made(Net)
    net.head.weight.data.mul_(2)
    extractor = get_extractor_from_model(net, None, "pt")
    for height, width in [(64, 64), (80, 48)]:
        batch = torch.randn(3, 3, height, width)
        found = extractor.extract_batch(batch, module_names=["act", "head"])
        keep(f"any size {height}", found, hooked(net, batch, ["act", "head"]))
    whole = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    SAID["uint8"] = [
        refusal(lambda given=given: extractor.extract_features([given], "head"))
        for given in (whole, (whole, [0, 1]), whole.permute(0, 2, 3, 1), whole.numpy()[0, 0])
    ]
    found = extractor.extract_features([whole.float()], "head")
    keep("uint8 as floats", {"head": found}, hooked(net, whole.float(), ["head"]))
    for kind in (torch.float16, torch.float64):
        wrong = Net().to(kind)
        SAID[str(kind)] = refusal(lambda wrong=wrong: get_extractor_from_model(wrong, None, "pt"))
    imagenet = steps(64, 48, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    batches = images(extractor.get_transformations(resize_dim=64, crop_dim=48))
    found = extractor.extract_features(batches, "head")
    keep("as for ImageNet", {"head": found}, hooked(net, batch_of(imagenet), ["head"]))


def imagenets_size() -> None:
    net, batch = made(Windows), torch.randn(2, 3, 224, 224)
    extractor = get_extractor_from_model(net, None, "pt")
    found = extractor.extract_batch(batch, module_names=["patches", "head"])
    keep("ImageNet's size", found, hooked(net, batch, ["patches", "head"]))
    found = extractor.extract_batch(SMALL, module_names=["patches", "head"])
    keep("other size", found, hooked(net, SMALL, ["patches", "head"]))
    found = extractor.extract_batch(batch, module_names=["patches", "head"])
    keep("ImageNet's size again", found, hooked(net, batch, ["patches", "head"]))


def input_shape() -> None:
    net = made(Flat)
    waiting = get_extractor_from_model(net, None, "pt")
    SAID["waiting"] = {
        "is mine": waiting.model is net,
        "modules": waiting.get_module_names(),
        "images": refusal(lambda: waiting.extract_features(images(None), "head")),
    }
    waiting.model = waiting.model.to("cpu")
    found = waiting.extract_features([SMALL[:2], SMALL[2:]], "head")
    keep("waiting", {"head": found}, hooked(net, SMALL, ["head"]))
    SAID["waiting"]["source"] = str(waiting.model).partition("/")[0]
    wrong = get_extractor_from_model
    SAID["input shape"] = refusal(lambda: wrong(net, None, "pt", input_shape=(3, 16, 15)))
    extractor = get_extractor_from_model(net, None, "pt", input_shape=(3, 16, 16))
    found = extractor.extract_batch(SMALL, "head", output_type="tensor")
    keep("input shape", {"head": found}, hooked(net, SMALL, ["head"]))


def one_by_one() -> None:
    net = made(One)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        extractor = get_extractor_from_model(net, None, "pt", input_shape=(3, 16, 16))
    SAID["one"] = {str(one.message): one.filename for one in caught}
    found = extractor.extract_batch(SMALL, "head")
    rows = [hooked(net, image[None], ["head"])["head"] for image in SMALL]
    keep("one", {"head": found}, {"head": np.concatenate(rows)})


class Named(nn.Module):
    """Loops over a list, uses only attention's weights, and returns values with names."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Conv2d(3, 8, 4, stride=4), nn.Identity(), nn.ReLU(True)])
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: torch.Tensor) -> OrderedDict[str, torch.Tensor]:
        for block in self.blocks:
            x = block(x)
        tokens = x.flatten(2).transpose(1, 2)
        _, weights = self.attention(tokens, tokens, tokens)
        return OrderedDict(weights=weights, maps=x)


def recorded() -> None:
    net = made(Named)
    given = torch.compile(nn.DataParallel(net))
    extractor = get_extractor_from_model(given, None, "pt", input_shape=(3, 16, 16))
    names = ["blocks.0", "blocks.1", "attention", "module.blocks.2", "_orig_mod.module.blocks.0"]
    found = extractor.extract_batch(SMALL, module_names=[*names, "maps", ""])
    plain = {name: name.replace("_orig_mod.", "").replace("module.", "") for name in names}
    outputs: dict[str, Any] = {}
    for name, module in net.eval().named_modules():
        module.register_forward_hook(lambda _m, _i, out, name=name: outputs.update(
            {name: (out[0] if isinstance(out, tuple) else out["weights"] if not name else out)
             .clone().numpy(), **({"maps": out["maps"].numpy()} if not name else {})}
        ))  # fmt: skip
    with torch.no_grad():
        net(SMALL)
    expected = {name: outputs[plain.get(name, name)] for name in found}
    keep("recorded", found, expected)
    SAID["recorded"] = {
        "modules": extractor.get_module_names(),
        "container": refusal(lambda: extractor.extract_batch(SMALL, "blocks")),
    }


class Replaced(Model):
    """As users' subclasses that load a network of their own under a name of their own."""

    def load_model(self) -> None:
        if self.model_name == "mine":
            self.model = made(Net)
            self.model = self.model.to(self.device)
            self.model.eval()
        else:
            super().load_model()


def assigned() -> None:
    net = made(Net)
    imagenet = steps(256, 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    expected = hooked(net, batch_of(imagenet), ["act", "head"])
    extractor = get_extractor("squeezenet1_0", False, "cpu", "torchvision")
    model = Model("alexnet", False, "cpu")
    extractor.model = model.model = net
    found = extractor.extract_features(images(None), module_names=["act", "head"])
    keep("assigned", found, expected)
    rows, _ = model.extract_features(images(None), "head", flatten_acts=True)
    keep("assigned to the paper's", {"head": rows}, {"head": expected["head"]})
    rows, _ = Replaced("mine", False, "cpu").extract_features(images(None), "head", None, True)
    keep("loaded by a subclass", {"head": rows}, {"head": expected["head"]})
    SAID["assigned"] = {
        "names": [name for name, _ in model.model.named_modules()],
        "convolutions": [
            name for name, view in model.model.named_modules() if isinstance(view, nn.Conv2d)
        ],
        "named": str(Replaced("alexnet", False, "cpu").model),
        "training": net.training,
    }


class Toy(nn.Module):
    """Takes one number, and repeats it; its forward may take more than inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.twice = nn.Linear(1, 2, bias=False)
        self.relu = nn.ReLU()
        self.total = nn.Linear(2, 1, bias=False)
        for layer in (self.twice, self.total):
            nn.init.ones_(layer.weight)

    def forward(self, x: torch.Tensor, y: float | None = None) -> torch.Tensor:
        return self.total(self.relu(self.twice(x) + (y or 0.0)))


def toys() -> None:
    """Extract from single numbers, through our loader of a list of tensors."""
    numbers = [torch.tensor([float(number)]) for number in (2, -10, 3)]
    loader = DataLoader(numbers, 2, "pt")

    def forward(self: Any, batch: torch.Tensor) -> torch.Tensor:
        return self.model(batch, y=1.0)

    placed = get_extractor("alexnet", False, "cpu", "torchvision")
    placed.model = Toy()
    placed.backend = "pt"
    for scenario, extractor, more in [
        ("toy", get_extractor_from_model(Toy(), "cpu", "pt"), 0),
        ("toy with a forward", get_extractor_from_model(Toy(), "cpu", "pt", forward_fn=forward), 1),
        ("toy in a model's place", placed, 0),
    ]:
        extractor.model = extractor.model.to("cpu")
        found = extractor.extract_features(loader, module_names=["relu", "total"])
        relu = np.array([[2.0 + more] * 2, [0.0] * 2, [3.0 + more] * 2])
        keep(scenario, found, {"relu": relu, "total": relu.sum(1, keepdims=True)})
        with extractor.batch_extraction("relu", output_type="tensor") as e:
            rows = [e.extract_batch(batch=batch, flatten_acts=False) for batch in loader]
        keep(f"{scenario}, by batch", {"relu": torch.cat(rows)}, {"relu": relu})


def refused() -> None:
    SAID["branching"] = refusal(lambda: get_extractor_from_model(Branching(), None, "pt", OWN))
    SAID["custom operator"] = refusal(lambda: get_extractor_from_model(Custom(), None, "pt", OWN))
    SAID["no network"] = [
        refusal(lambda kind=kind: get_extractor_from_model("resnet", None, kind))
        for kind in ("pt", "tf")
    ]


if __name__ == "__main__":
    run(
        plain,
        declared_anew,
        own_forward,
        own_flattening,
        any_size,
        imagenets_size,
        input_shape,
        one_by_one,
        recorded,
        assigned,
        toys,
        refused,
    )
