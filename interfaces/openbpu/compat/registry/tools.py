"""`hmct`, which quantizes, and `horizon_tc_ui`, the package of the command line."""

from __future__ import annotations

from openbpu.compat.registry.row import differs, refused, works

_DEBUGGER = "hmct.quantizer.debugger"
_ANALYZE = "`openbpu analyze FLOAT.onnx QUANTIZED.onnx --data SAMPLES --page PAGE.html`"
_FLOAT = "quantizes a float model (what hmct was called before)"

ROWS = (
    *differs(
        "hmct.api",
        {
            "build_model": "returns and writes plain QDQ models; nodes have no HzCalibration",
            "check_model": "prints the placement with reasons and fixes",
        },
    ),
    *refused(
        "hmct.ir",
        {
            "OnnxModel": (
                "wraps an ONNX model for its passes",
                "onnx.load: openbpu.quantization.onnx and openbpu.compiler take a ModelProto",
            ),
        },
    ),
    *differs(
        _DEBUGGER,
        {
            "get_sensitivity_of_nodes": "of a node, not of its inputs and weights apart",
            "sensitivity_analysis": "as get_sensitivity_of_nodes, for a list of nodes",
            **dict.fromkeys(
                ("plot_distribution", "plot_acc_error", "get_channelwise_data_distribution", "runall"),
                "writes the page of `openbpu analyze`, analysis.html, and analysis.csv",
            ),
        },
    ),
    *refused(
        _DEBUGGER,
        {
            "tensor_analysis": ("prints the values of a tensor", f"{_ANALYZE}, or --dump DIR --tensor NAME"),
            "select_sensitive_samples": (
                "finds the calibration samples that suit least",
                "QuantAnalysis.auto_find_bad_case of horizon_plugin_profiler, or `openbpu eval --records`",
            ),
        },
    ),
    *differs(
        "horizon_tc_ui",
        {
            "HBRuntime": "a .bc is what `save` wrote, compiled for its march and simulated",
            "HB_ONNXRuntime": "HBRuntime under its older name; input_offset changes nothing",
        },
    ),
    *works("horizon_tc_ui.hb_runtime", "HBRuntime"),
    *works("horizon_tc_ui.utils.tool_utils", "get_march_list"),
    *refused("horizon_nn", {"": (_FLOAT, "hmct.api.build_model, or openbpu.quantization.onnx.quantize")}),
)
