"""`hbdk4`: the vendor's compiler."""

from __future__ import annotations

from openbpu.compat.registry.row import differs, refused, works

_HBDK = "hbdk4.compiler"
_BUILD = (
    "builds operators by hand",
    "ONNX: build the model there and compile it with openbpu.compiler.compile",
)

ROWS = (
    *works(_HBDK, "convert link March Hbm statistics onnx overlay hbm_tools version"),
    *differs(
        _HBDK,
        {
            "load": "reads ONNX and what `save` wrote; the vendor's own .bc files are refused",
            "save": "writes ONNX, whatever the suffix",
            "compile": "opt above 2 is 2; jobs, progress_bar, debug, cache and time limits change nothing",
            "hbm_perf": "latency is the simulator's; segments of the CPU are estimated and told apart",
            "visualize": "writes the ONNX model and starts no viewer",
            "CacheMode": "nothing is cached: every mode compiles",
        },
    ),
    *works(f"{_HBDK}.onnx", "export statistics"),
    *works(f"{_HBDK}.march", "March"),
    *works(f"{_HBDK}.hbm_tools", "hbm_perf"),
    *differs(f"{_HBDK}.hbm_tools", {"hbm_pack": "as link, of files"}),
    *refused(
        f"{_HBDK}.overlay",
        {
            "PrecisionConfig": (
                "gives operators of a module other types",
                "a quant_config (`openbpu quantize --quant-config`) or the qconfigs of prepare",
            ),
        },
    ),
    *refused(
        f"{_HBDK}.hbm_tools",
        {
            "hbm_extract_desc": ("prints the description of a file", "`openbpu info model.hbm`"),
        },
    ),
    *refused(
        f"{_HBDK}.remote_bpu",
        {
            "": (
                "runs a binary on a board over the network",
                "openbpu.runtime.Session or Hbm.graphs[0].feed, which run it in the simulator",
            ),
            "RemoteBPU": (
                "runs a binary on a board over the network",
                "openbpu.runtime.Session or Hbm.graphs[0].feed, which run it in the simulator",
            ),
        },
    ),
    *refused(
        f"{_HBDK}.torch",
        {"": ("makes a module of a traced model", "horizon_plugin_pytorch.quantization.hbdk4.export")},
    ),
    *refused(
        _HBDK,
        {
            "leap": _BUILD,
            "hbtl": _BUILD,
            "disas": ("prints the instructions of a binary", "`openbpu disasm model.hbm`"),
        },
    ),
    *works("hbdk4.march", "get_all_bpu_march_names get_march_num_cores"),
)
