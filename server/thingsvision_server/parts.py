"""Makes the parts that the services of one server share, from the settings."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from functools import partial

from .access.image_roots import parse_image_roots
from .allocator import release_freed_memory
from .announcing import announce_folder
from .backends.children.guests import GuestRuntime
from .backends.children.template_memory import TemplateMemory
from .backends.tensorflow.model import TensorFlowRuntime
from .cluster.announcer import Announcer
from .cluster.membership import Membership
from .device_parts import (
    find_device,
    make_lanes,
    make_pass_room,
    make_watch,
)
from .engine.byte_room import ByteRoom
from .engine.device_watch import DeviceWatch
from .engine.extractor import Extractor
from .engine.fairness.in_flight import InFlight
from .engine.images.preparing import ImagePreparer
from .engine.images.server_images import ServerImages
from .engine.images.store import ImageStore
from .engine.images.waiting_files import WaitingFiles
from .engine.models.loading import ModelLoader
from .engine.models.residency import MOST_LOADS, Loading, Patience, Residency
from .engine.passes.lanes import DeviceLanes
from .engine.passes.room import PassRoom
from .engine.pca.store import PCAStore
from .engine.projections import Projections
from .engine.stream_lease import StreamLease
from .images import ImageDecoder, ImageLimits
from .memory_shares import (
    CALL_FILES_BYTES,
    batch_limits,
    decode_bytes,
    host_budget_bytes,
    model_budget,
    person_files_bytes,
    person_load,
    person_pca_bytes,
    person_upload_bytes,
    projection_bytes,
)
from .monitoring.metrics import Metrics
from .rpc.residency_reply import ResidencyReply
from .settings import Settings
from .shared_folder.claims import Claims
from .sources import Sources
from .sources.base import ModelKey
from .sources.context import SourceContext
from .sources.own.trial import check_usable
from .sources.uploads.guests import check_upload
from .sources.uploads.store import UploadStore
from .sources.uploads.upload import FileChecks
from .sources.weights.folder import WeightsFolder
from .threads import BriefThreads


@dataclass(frozen=True)
class Parts:
    """The parts that the services of one server share."""

    metrics: Metrics
    watch: DeviceWatch
    lanes: DeviceLanes
    weights: WeightsFolder
    claims: Claims
    """What this server uses of the folder that it may share with others."""
    tensorflow: TensorFlowRuntime
    guests: GuestRuntime
    sources: Sources
    room: PassRoom
    residency: Residency
    images: ServerImages
    preparer: ImagePreparer
    pcas: PCAStore
    uploads: UploadStore
    projections: Projections
    extractor: Extractor
    membership: Membership
    residency_reply: ResidencyReply

    async def close(self, announcer: Announcer | None) -> None:
        """Remove the announcement, free the models, and end the child processes."""
        if announcer is not None:
            await announcer.stop()
        await self.residency.close()
        await asyncio.to_thread(self.guests.close)
        await asyncio.to_thread(self.claims.close)

    def change(self, settings: Settings) -> None:
        """Use the new values of the options of `wiring.CHANGEABLE` that parts have copied."""
        self.weights.allows_download = settings.allow_download
        self.images.store.set_quota(settings.image_store, settings.person_image_store)
        self.uploads.set_limits(
            settings.max_upload_bytes, settings.upload_quota, person_upload_bytes(settings)
        )
        self.pcas.set_quotas(settings.pca_quota, person_pca_bytes(settings))
        self.residency.wait_seconds = settings.wait_seconds
        self.residency.idle.seconds = settings.idle_seconds


def make_parts(settings: Settings) -> Parts:
    """Make all parts; nothing runs yet."""
    metrics, device = Metrics(settings.metrics_people), find_device(settings)
    watch = make_watch(device)
    lanes = make_lanes(settings, device, watch=watch, metrics=metrics)
    weights_dir = settings.weights_dir.expanduser()
    guests = _make_guests(settings, device)
    weights = WeightsFolder(weights_dir, allow_download=settings.allow_download, guests=guests)
    weights.remove_unfinished()
    tensorflow = TensorFlowRuntime(
        settings.tensorflow_python, keep_freed_memory=settings.keep_freed_memory
    )
    claims = Claims(weights_dir)
    context = SourceContext(weights, tensorflow, claims)
    sources = Sources(context, throttle_imports=settings.throttle_imports)
    room = make_pass_room(device, metrics)
    loader = ModelLoader(sources, lanes, batch_limits(settings, device), metrics, room=room)
    templates = TemplateMemory([lambda: guests.template, lambda: tensorflow.used_template])
    residency = _make_residency(settings, loader, templates, metrics=metrics, room=room)
    images = _make_images(settings, claims)
    preparer = _make_preparer(settings, images, metrics)
    pcas = PCAStore(
        weights_dir / "pca", settings.pca_quota, claims, person_bytes=person_pca_bytes(settings)
    )
    projections = Projections(projection_bytes())
    membership = Membership(announce_folder(settings))

    def lease(key: ModelKey) -> StreamLease:
        return StreamLease(residency, key, settings.lease_seconds, metrics)

    extractor = Extractor(
        loader,
        lease,
        preparer,
        pcas=pcas,
        projections=projections,
        in_flight=InFlight(person_load(settings)),
    )
    return Parts(
        metrics=metrics,
        watch=watch,
        lanes=lanes,
        weights=weights,
        claims=claims,
        tensorflow=tensorflow,
        guests=guests,
        sources=sources,
        room=room,
        residency=residency,
        images=images,
        preparer=preparer,
        pcas=pcas,
        uploads=_make_uploads(settings, context),
        projections=projections,
        extractor=extractor,
        membership=membership,
        residency_reply=ResidencyReply(
            residency, lanes, metrics, membership, cuda_visible_devices=_visible_devices(device)
        ),
    )


def _make_images(settings: Settings, claims: Claims) -> ServerImages:
    store = ImageStore(
        settings.weights_dir.expanduser() / "images",
        settings.image_store,
        claims,
        person_bytes=settings.person_image_store,
    )
    roots = parse_image_roots(settings.image_root or [])
    return ServerImages(store, roots, settings.max_image_bytes)


def _make_uploads(settings: Settings, context: SourceContext) -> UploadStore:
    guests = context.guests
    return UploadStore(
        context.weights.uploads,
        settings.max_upload_bytes,
        settings.upload_quota,
        checks=FileChecks(
            format_of=partial(check_upload, guests=guests),
            usable=partial(check_usable, tensorflow=context.tensorflow, guests=guests),
            end=guests.forget,
            interrupt=guests.interrupt,
            prepare=guests.warm_up,
        ),
        claims=context.claims,
        person_bytes=person_upload_bytes(settings),
    )


def _make_guests(settings: Settings, device: str) -> GuestRuntime:
    from .backends.torch.shortcuts import SHORTCUTS

    return GuestRuntime(
        device=device,
        keep_freed_memory=settings.keep_freed_memory,
        settings=lambda: {"shortcuts": vars(SHORTCUTS)},
    )


def _make_residency(
    settings: Settings,
    loader: ModelLoader,
    templates: TemplateMemory,
    *,
    metrics: Metrics,
    room: PassRoom,
) -> Residency:
    from .backends.torch.device import core_count, use_cores

    device = loader.device
    threads = BriefThreads(MOST_LOADS, "load", partial(use_cores, core_count()))
    return Residency(
        Loading(loader.predict_bytes, loader.load, threads),
        device,
        model_budget(settings, device),
        metrics,
        room=room,
        host_budget_bytes=host_budget_bytes(settings, device),
        patience=Patience(settings.wait_seconds, idle_seconds=settings.idle_seconds),
        templates=templates,
    )


def _make_preparer(settings: Settings, images: ServerImages, metrics: Metrics) -> ImagePreparer:
    from .backends.torch.device import use_cores

    decoder = ImageDecoder(ImageLimits(settings.max_image_bytes, settings.max_image_pixels))
    return ImagePreparer(
        decoder,
        images,
        metrics,
        room=ByteRoom(decode_bytes(settings)),
        waiting_files=WaitingFiles(CALL_FILES_BYTES, person_files_bytes(settings)),
        threads=settings.decode_threads,
        initializer=partial(use_cores, 1),
        release_memory=release_freed_memory,
    )


def _visible_devices(device: str) -> str:
    return "" if device == "cpu" else os.environ.get("CUDA_VISIBLE_DEVICES", "")
