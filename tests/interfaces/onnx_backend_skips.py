"""Cases of ONNX's backend suite that openbpu cannot pass, each with the reason.

A case is skipped only when it fails *and* its name and its error are those of a row; any other failure fails.
The CPU fallback is ONNX Runtime, so most rows are what the installed ONNX Runtime cannot do, whoever asks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Skip:
    """name: of the case · error: type and message of what it raised; both regular expressions."""

    reason: str
    error: str
    name: str = ""

    def covers(self, name: str, error: str) -> bool:
        return bool(re.search(self.name, name) and re.search(self.error, error))


_ORT = "ModelError: CPU segment .*ONNX Runtime cannot (load|run) it: .*"
_DIFFERS = "AssertionError: Not equal to tolerance"

SKIPS = (
    # What ONNX Runtime's CPU provider does not have.
    Skip(
        "an opset newer than this ONNX Runtime reads",
        "TooNewError: CPU segment .*the opset of ai.onnx must be <= \\d+ for ONNX Runtime",
    ),
    Skip("no CPU kernel in ONNX Runtime for this operator or type", _ORT + "NOT_IMPLEMENTED"),
    Skip("an attribute newer than this ONNX Runtime knows", _ORT + "Unrecognized attribute", "attention"),
    Skip(
        "an operator newer than this ONNX Runtime knows",
        _ORT + "(No Op registered|is not a registered function)",
    ),
    Skip(
        "types that NumPy lacks cannot enter or leave a CPU segment (bfloat16, int4, …)",
        "ModelError: a segment on the CPU: (in|out)put .*: element type must be a type that NumPy has",
    ),
    Skip(
        "types that ONNX Runtime's Python interface cannot take or return (float8, float4, int2, …)",
        _ORT + "(Numpy_type \\d+ can't be converted|No corresponding Numpy type)",
    ),
    Skip(
        "ONNX Runtime's Python interface returns float8 as the uint8 of its bytes",
        "AssertionError:(.|\\n)*dtype\\('uint8'\\)(.|\\n)*float8",
        "FLOAT8",
    ),
    Skip(
        "ONNX Runtime's function body of Attention mixes bfloat16 and float", _ORT + "Type parameter", "bf16"
    ),
    Skip("ONNX Runtime runs recurrent layers in layout 0 only", _ORT + "layout_ == 0", "_batchwise_"),
    Skip(
        "ONNX Runtime's ConvInteger needs one zero point", _ORT + "conv_integer", "convinteger_with_padding"
    ),
    Skip(
        "ONNX Runtime has no ReduceMax of nothing for bool", _ORT + "empty set with bool", "reduce_max_empty"
    ),
    Skip("ONNX Runtime's Attention takes no such mask", _ORT + "attention_helper", "attention_4d_diff_heads"),
    Skip("the operating system lacks the locale of the case", _ORT + "(Locale|string_normalizer)", "strnorm"),
    Skip(
        "the slope of the case broadcasts as torch once did, not as ONNX says",
        r"ModelError: node 'PRelu_0' \(PRelu\): shape of its slope must be one that spreads to",
        "PReLU_.*_multiparam",
    ),
    # What ONNX Runtime computes otherwise than the case expects; openbpu returns what it computes.
    Skip(
        "ONNX Runtime rounds its Fourier transforms beyond the case's tolerance", _DIFFERS, "test_(dft|stft)"
    ),
    Skip("random: the case expects the numbers of one generator", _DIFFERS, "training_dropout"),
    Skip("ONNX Runtime rounds float16 Attention otherwise", _DIFFERS, "attention_4d_causal_fp16"),
    Skip("ONNX Runtime masks the QK output by −3.4e38, not −inf", "inf location mismatch", "qk_matmul_bias"),
    Skip(
        "ONNX Runtime reads output_shape of MaxUnpool otherwise",
        _DIFFERS,
        "maxunpool_export_with_output_shape",
    ),
    Skip(
        "ONNX Runtime rounds the size of the result otherwise",
        _DIFFERS,
        "resize_downsample_scales_.*_align_corners",
    ),
    Skip("the case compares a list with an array", "TypeError: Unable to compare", "loop16_seq_none"),
    # What openbpu does not take.
    Skip(
        "training and preview domains are no inference operators",
        "ModelError: .*domain must be one of .*'ai.onnx.preview",
    ),
    Skip("opset 8 and older are not read", "ModelError: .*opset must be 9 or newer", "scan_sum"),
)
