"""The subcommands; importing this package registers them all."""

from openbpu.cli.app import app
from openbpu.cli.commands import build, inspect, simulate, verify

__all__ = ["app", "build", "inspect", "simulate", "verify"]
