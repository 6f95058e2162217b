"""Finds out who else may read the server's private key."""

from __future__ import annotations

import os
import stat
from pathlib import Path

_GROUP_WRITES = stat.S_IWGRP | stat.S_IXGRP


def find_key_fault(path: Path) -> str:
    """Return why a private key is not private, as the end of a sentence; an empty text if it is.

    A group may read it if the server is in the group, as certificates of a system are given to
    services (`root:ssl-cert`, mode 0640), and secrets to containers (`fsGroup`).

    Raises OSError if there is no such file.
    """
    if os.name != "posix":
        return ""
    found = path.stat()  # of what a link leads to: certbot and Kubernetes make links
    mode = stat.S_IMODE(found.st_mode)
    if mode & (stat.S_IRWXO | _GROUP_WRITES):
        return f"must be readable by the server alone (0600, or 0640 for its group), got {mode:04o}"
    own = {os.getegid(), *os.getgroups()}
    if mode & stat.S_IRGRP and os.geteuid() != 0 and found.st_gid not in own:
        return (
            f"must be readable by the server alone, got {mode:04o} and the group {found.st_gid}, "
            "which the server is not in"
        )
    return ""
