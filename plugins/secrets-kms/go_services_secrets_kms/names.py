"""What KMS calls a key: key id, key ARN, alias name or alias ARN.

Sources: AWS KMS Developer Guide, "Key identifiers (KeyId)" and "Multi-Region keys in AWS KMS": the keys of one
multi-Region set have the same key id, which begins with ``mrk-``, and ARNs that differ in the Region alone.
"""

from __future__ import annotations

import re
from typing import Final

from attrs import evolve, frozen

REGION: Final = re.compile(r"[a-z]{2,6}(-[a-z]+)+-[0-9]{1,2}")
_KEY_ID: Final = r"mrk-[0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_ALIAS: Final = r"alias/[A-Za-z0-9/_-]{1,250}"
_NAME: Final = re.compile(
    rf"(?:arn:(?P<partition>aws[a-z-]*):kms:(?P<region>[a-z0-9-]+):(?P<account>[0-9]{{12}}):"
    rf"(?:key/(?P<arn_id>{_KEY_ID})|(?P<arn_alias>{_ALIAS}))|(?P<id>{_KEY_ID})|(?P<alias>{_ALIAS}))"
)


@frozen
class KeyName:
    """One of the four ways to name a key."""

    id: str = ""
    """Id of the key; empty when an alias names it."""
    alias: str = ""
    """With its ``alias/``; empty when the key's id names it."""
    region: str = ""
    """The Region that an ARN names; empty without an ARN."""
    partition: str = ""
    account: str = ""

    @property
    def is_key_arn(self) -> bool:
        """Whether it names one key of one Region, whoever asks and wherever."""
        return bool(self.region and self.id)

    @property
    def multi_region(self) -> bool:
        """Whether the key has the same id and material in several Regions."""
        return self.id.startswith("mrk-")

    @property
    def family(self) -> str:
        """Equal for the ARNs of one multi-Region key; any other name is its own."""
        return f"{self.partition}:{self.account}:{self.id}" if self.multi_region and self.region else str(self)

    def at(self, region: str, *, home: bool) -> str | None:
        """How to name this key to the endpoint of ``region``; None when that cannot serve it.

        Args:
            region: the endpoint's Region.
            home: whether it is the Region that the settings name first.
        """
        if self.multi_region and self.region:
            return str(evolve(self, region=region))
        if self.region:
            return str(self) if self.region == region else None
        return str(self) if home or self.alias or self.multi_region else None

    def __str__(self) -> str:
        resource = self.alias or (f"key/{self.id}" if self.region else self.id)
        return f"arn:{self.partition}:kms:{self.region}:{self.account}:{resource}" if self.region else resource


def parse(text: str) -> KeyName | None:
    """The key that ``text`` names; None when KMS has no such form of name."""
    found = _NAME.fullmatch(text)
    if found is None:
        return None
    part = found.groupdict(default="")
    return KeyName(
        id=part["arn_id"] or part["id"],
        alias=part["arn_alias"] or part["alias"],
        region=part["region"],
        partition=part["partition"],
        account=part["account"],
    )


def without_version(text: str) -> tuple[str, int | None]:
    """Key id and version of ``KEY-ID`` or ``KEY-ID:VERSION``, as the rules of secret backends write keys."""
    head, colon, tail = text.rpartition(":")
    return (head, int(tail)) if colon and tail.isascii() and tail.isdigit() else (text, None)
