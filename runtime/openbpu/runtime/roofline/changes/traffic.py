"""Changes of what is paid per image: constants loaded, layers set up, feature maps through DDR."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from openbpu.arch.timing import Costs
from openbpu.runtime.latency import images_of
from openbpu.runtime.roofline.site import Site

BATCH = 4
"""Images per run that the advice about batches computes with."""


def batch(site: Site, index: int) -> str:
    """Say what the layer pays once per image, where the model can be compiled for several."""
    program = site.program
    if dict(program.options).get("batchable") == "no" or images_of(program) > 1:
        return ""
    mine = site.mask([index])
    loaded = sum(int(c.moved[k & m].sum()) for c, k, m in zip(site.costs, site.constant, mine, strict=True))
    what = f"{loaded:,} bytes of constants loaded, the layer set up" if loaded else "the layer set up"
    return f"{what} for every image: --batch {BATCH}"


def batched(site: Site) -> list[Costs]:
    """Constants and setting-up are paid once for BATCH images; costs are per image."""
    once = [
        replace(c, cycles=c.cycles - setup + -(-setup // BATCH))
        for c, setup in zip(site.costs, site.setup, strict=True)
    ]
    return site.with_transfers(once, [np.where(constant, 1 / BATCH, 1.0) for constant in site.constant])


def spilled(site: Site, index: int) -> str:
    """Say how much of the feature maps passes through DDR."""
    mine = site.mask([index])
    moved = sum(int(c.moved[s & m].sum()) for c, s, m in zip(site.costs, site.spilled, mine, strict=True))
    if not moved:
        return ""
    chip = site.march.chip_bytes / 1024
    near = ", or --max-l2m-size" if site.march.chip.shared_bytes else ""
    return (
        f"{moved / 1024:.0f} KiB of feature maps pass through DDR ({chip:.0f} KiB on chip): "
        f"smaller maps, that stay on chip{near}"
    )


def on_chip(site: Site) -> list[Costs]:
    """Feature maps between layers move no byte through DDR."""
    return site.with_transfers(site.costs, [np.where(spilled, 0.0, 1.0) for spilled in site.spilled])
