"""The scopes of people, and the table of the scope that each RPC needs."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum


class Scope(Enum):
    """What a person may do; `ADMIN` includes the others."""

    READ = "read"
    EXTRACT = "extract"
    UPLOAD = "upload"
    CONTROL = "control"
    ADMIN = "admin"


ALL_SCOPES = frozenset(Scope)

OPEN_METHODS = frozenset({"/grpc.health.v1.Health/Check"})
"""RPCs that anybody may call: supervisors and load balancers ask for health without a token."""

METHOD_SCOPES: Mapping[str, Scope] = {
    "/thingsvision.v1.FeatureService/ListModels": Scope.READ,
    "/thingsvision.v1.FeatureService/ListModules": Scope.EXTRACT,
    "/thingsvision.v1.FeatureService/Extract": Scope.EXTRACT,
    "/thingsvision.v1.FeatureService/Preprocess": Scope.EXTRACT,
    "/thingsvision.v1.FeatureService/ComputeRDM": Scope.EXTRACT,
    "/thingsvision.v1.ModelService/LoadModel": Scope.CONTROL,
    "/thingsvision.v1.ModelService/UnloadModel": Scope.CONTROL,
    "/thingsvision.v1.ModelService/PinModel": Scope.CONTROL,
    "/thingsvision.v1.ModelService/GetResidency": Scope.READ,
    "/thingsvision.v1.ModelService/UploadWeights": Scope.UPLOAD,
    "/thingsvision.v1.ModelService/ListUploads": Scope.READ,
    "/thingsvision.v1.ModelService/DeleteUpload": Scope.UPLOAD,
    "/thingsvision.v1.PCAService/FitPCA": Scope.EXTRACT,
    "/thingsvision.v1.PCAService/ListPCAs": Scope.READ,
    "/thingsvision.v1.PCAService/DeletePCA": Scope.EXTRACT,
    "/thingsvision.v1.SharingService/Share": Scope.EXTRACT,
    "/thingsvision.v1.SharingService/MoveOwner": Scope.ADMIN,
    "/thingsvision.v1.ImageService/FindImages": Scope.READ,
    "/thingsvision.v1.ImageService/ListImages": Scope.READ,
    "/thingsvision.v1.ImageService/ListCachedImages": Scope.READ,
    "/thingsvision.v1.ImageService/DeleteCachedImages": Scope.EXTRACT,
    "/grpc.health.v1.Health/Watch": Scope.READ,
    "/grpc.health.v1.Health/List": Scope.READ,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": Scope.READ,
}
"""The scope of each RPC. An RPC without a row is denied to everybody."""
