"""Timing: no data; an event engine with integer cycles over queues, tokens and shared DDR bandwidth."""

from openbpu.simulator.timing.queues import Queues
from openbpu.simulator.timing.result import CoreTiming, LayerTiming, Timing
from openbpu.simulator.timing.simulate import costs_of, simulate

__all__ = ["CoreTiming", "LayerTiming", "Queues", "Timing", "costs_of", "simulate"]
