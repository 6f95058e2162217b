"""Images on their way to inputs: kept on disk, decoded ahead of the device."""
