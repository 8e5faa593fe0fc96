"""Models that break the limits of the operator table, by operator.

Nothing here loads the compiler: the files of tests/operators, which add to the table, come before it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from compiler.networks import Network

Limits = Mapping[str, int]
Breaking = tuple[Network, str]
"""A network that breaks a limit, and the value the refusal must name."""
Build = Callable[[Limits], Breaking]

BREAKING: dict[str, dict[str, tuple[Build, Mapping[str, int]]]] = {}
"""Operator → number of the march → (model, tight numbers)."""
