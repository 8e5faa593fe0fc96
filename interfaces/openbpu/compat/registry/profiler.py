"""`horizon_plugin_profiler`."""

from __future__ import annotations

from openbpu.compat.registry.row import differs, refused, works

_PROFILER = "horizon_plugin_profiler"

ROWS = (
    *works(
        _PROFILER,
        "model_profiler featuremap_similarity get_raw_features profile_featuremap compare_weights "
        "get_module_called_count check_unfused_operations check_qconfig check_deploy_device ModelProfiler "
        "set_preserve_qat_mode",
    ),
    *differs(_PROFILER, {"QuantAnalysis": "tune_bad_case is refused: train on those samples instead"}),
    *refused(
        _PROFILER,
        {
            "HbirModelProfiler": (
                "writes every tensor of a module that was exported",
                "`openbpu analyze --dump`, which writes those of a QDQ model and of a binary",
            ),
            "HbirModelVerifier": (
                "compares a module with the model that it was exported from",
                "`openbpu verify`, and convert, whose outputs are the simulator's bits",
            ),
            "script_profile": (
                "prints every tensor of a scripted model",
                "featuremap_similarity or model_profiler on the model before it is scripted",
            ),
            "compare_script_models": (
                "compares two scripted models",
                "featuremap_similarity on the models before they are scripted",
            ),
            "show_cuda_memory_consumption": (
                "prints the GPU memory of every layer",
                "torch.cuda.memory_summary",
            ),
        },
    ),
)
