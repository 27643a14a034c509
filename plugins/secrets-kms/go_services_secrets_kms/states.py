"""What DescribeKey tells about a key, as operators see it.

Source: AWS KMS API Reference, KeyMetadata; Developer Guide, "Key states of AWS KMS keys".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from go_services_core.model import KeyRef
from go_services_core.wrapping_keys import KeyInfo, KeyState
from go_services_envelope.policy import KeyPolicy


def described(
    metadata: Mapping[str, Any], key: KeyRef, *, primary: bool, policy: KeyPolicy, prefix: str = ""
) -> KeyInfo:
    """The key with its state: ``Enabled`` is primary or decrypt-only, a coming deletion is a warning with its date."""
    state_there = str(metadata.get("KeyState", "unknown"))
    warnings = list(policy.warnings(key))
    state: KeyState
    if state_there == "Enabled":
        state = "primary" if primary else "decrypt-only"
    elif state_there in ("PendingDeletion", "PendingReplicaDeletion"):
        state = "pending-deletion"
        day = metadata.get("DeletionDate")
        when = f"on {day:%Y-%m-%d}" if day is not None else "once its replicas are"
        warnings.insert(0, f"AWS deletes it {when}: cancel that, or wrap every row anew before")
    else:
        state = "disabled"
        warnings.insert(0, f"its state in AWS is {state_there}")
    parts = [f"{prefix}AWS KMS", "rotations inside AWS need no rewrap"]
    if metadata.get("MultiRegion"):
        role = str(metadata.get("MultiRegionConfiguration", {}).get("MultiRegionKeyType", "")).lower()
        parts.insert(1, f"multi-Region {role}".rstrip())
    if metadata.get("Origin", "AWS_KMS") != "AWS_KMS":
        parts.insert(1, f"material from {metadata['Origin']}")
    return KeyInfo(key=key, state=state, detail="; ".join(parts), warnings=tuple(warnings))
