"""Images on their way to inputs: cached on disk, decoded ahead of the device."""
