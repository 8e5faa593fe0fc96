"""The packages of the board: here they run the simulator."""

from __future__ import annotations

from openbpu.compat.registry.row import differs, refused, works

ROWS = (
    *differs(
        "hbm_runtime",
        {"HB_HBMRuntime": "runs in the simulator; priority and cores are checked and change no value"},
    ),
    *works("hbm_runtime", "QuantParams"),
    *differs(
        "hobot_dnn.pyeasy_dnn",
        {"load": "runs in the simulator; core_id and priority are checked and change no value"},
    ),
    *works("hobot_dnn", "pyeasy_dnn"),
    *refused(
        "hbm_infer",
        {
            "": (
                "runs a binary on a board over the network",
                "hbm_runtime.HB_HBMRuntime or openbpu.runtime.Session, which run it in the simulator",
            ),
        },
    ),
)
