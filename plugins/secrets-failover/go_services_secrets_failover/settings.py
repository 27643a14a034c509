"""What ``[secrets.failover]`` may hold."""

from __future__ import annotations

from typing import Literal, get_args

from go_services_core.config import setting, settings
from go_services_core.errors import ConfigError

Policy = Literal["strict_fail", "fallback_allowed"]


@settings
class FailoverSettings:
    """Which backends, and what happens when the primary does not answer."""

    primary: str = setting(help="Secret backend that wraps, by its id.", example="kms")
    fallback: str | None = setting(
        default=None, help="Secret backend that still opens what it wrapped, and may stand in.", example="appkey"
    )
    policy: Policy = setting(
        default="strict_fail", help="Whether the fallback may wrap while the primary does not answer."
    )
    failures_to_open: int = setting(
        default=3, help="Calls in a row that the primary does not answer before it is left alone."
    )
    probe_seconds: float = setting(default=15.0, help="Seconds that it is left alone before one call tries it again.")
    timeout: float = setting(default=5.0, help="Seconds that the primary may take for a call.")

    def check(self) -> None:
        """Refuse what cannot work.

        Raises:
            ConfigError: naming the setting.
        """
        if self.policy not in get_args(Policy):
            known = " or ".join(repr(policy) for policy in get_args(Policy))
            raise _refused("policy", f"is {known}, not {self.policy!r}.")
        if self.fallback is None and self.policy == "fallback_allowed":
            raise _refused("fallback", "is needed by the policy 'fallback_allowed'.")
        if self.fallback == self.primary:
            raise _refused("fallback", "must be another backend than the primary.")
        if self.failures_to_open < 1:
            raise _refused("failures_to_open", "is at least 1.")
        for name in ("probe_seconds", "timeout"):
            if not 0 < getattr(self, name) < float("inf"):
                raise _refused(name, "is more than 0 seconds.")


def _refused(name: str, problem: str) -> ConfigError:
    field = f"secrets.failover.{name}"
    return ConfigError(f"{field} {problem}", plugin="secrets-failover", field=field)
