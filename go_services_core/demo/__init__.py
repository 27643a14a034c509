"""The main job, start to end, against the sandbox provider: what ``go-services demo`` shows."""

from .run import run

__all__ = ["run"]
