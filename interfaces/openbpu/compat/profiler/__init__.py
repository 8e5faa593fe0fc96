"""`horizon_plugin_profiler`: the vendor's debugging functions under their names, arguments and file names.

What they measure is `openbpu.quantization.torch.profiler` for models in PyTorch, and
`openbpu.evaluation.analysis` for a binary. Each prints its table, writes its file to `out_dir` (default: the
working directory) and returns the rows.
"""

from openbpu.compat.profiler.analysis import QuantAnalysis
from openbpu.compat.profiler.checks import (
    check_deploy_device,
    check_qconfig,
    check_unfused_operations,
    get_module_called_count,
    set_preserve_qat_mode,
)
from openbpu.compat.profiler.recorder import ModelProfiler
from openbpu.compat.profiler.report import model_profiler
from openbpu.compat.profiler.tables import (
    compare_weights,
    featuremap_similarity,
    get_raw_features,
    profile_featuremap,
)

__all__ = [
    "ModelProfiler",
    "QuantAnalysis",
    "check_deploy_device",
    "check_qconfig",
    "check_unfused_operations",
    "compare_weights",
    "featuremap_similarity",
    "get_module_called_count",
    "get_raw_features",
    "model_profiler",
    "profile_featuremap",
    "set_preserve_qat_mode",
]
