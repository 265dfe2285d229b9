"""The identity of a release: what `.release.json` records after a successful `up`."""

from __future__ import annotations

import hashlib
import json

from mesh.state.deployment import SecretPart, StackRelease


def release_id(stack: StackRelease) -> str:
    """12 hexadecimal characters over everything in the release. Values of secrets count by the services' digests only."""
    content = {
        "services": [[service.name, service.digest] for service in stack.services],
        "files": [
            [
                file.path,
                file.mode,
                file.owner,
                file.group,
                [[part.name, part.quoting] if isinstance(part, SecretPart) else part for part in file.text],
            ]
            for file in stack.files
        ],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
