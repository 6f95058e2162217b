"""A user's script that extracts features, and meets an error; run in environments of its own."""

from __future__ import annotations

import sys
from contextlib import suppress

import numpy as np

import thingsvision_client

SERVER, MODEL, MODULE, RESULT, *PHOTOS = sys.argv[1:]

with thingsvision_client.Client(SERVER) as client:
    extraction = client.extract(MODEL, PHOTOS, MODULE, batch_size=1)
    with suppress(thingsvision_client.errors.UnknownModelError):  # its details are protobuf
        sys.exit(str(client.modules("torchvision/unknown")))
np.save(RESULT, extraction.features[MODULE])
