"""`horizon_plugin_pytorch` and what is used beside it."""

from __future__ import annotations

from openbpu.compat.registry.row import differs, refused, works

_PLUGIN = "horizon_plugin_pytorch"
_QUANT = f"{_PLUGIN}.quantization"

_TRACED = "prepare runs the model as it is, so nothing has to be kept from a tracer: it changes nothing"

ROWS = (
    *works(_PLUGIN, "set_march get_march with_march March"),
    *works(
        _QUANT,
        "QuantStub DeQuantStub prepare set_fake_quantize FakeQuantState QconfigSetter get_qconfig qint8 "
        "qint16 hbdk4 QATMode set_qat_mode get_qat_mode PrepareMethod fuse_modules load_observer_params "
        "convert check_qat_model",
    ),
    *differs(
        _QUANT,
        {
            "check_model": "prints the placement with reasons and fixes; returns 0",
            "compile_model": "opt above 2 is 2",
            "perf_model": "latency is the simulator's",
        },
    ),
    *refused(
        _QUANT,
        {
            "auto_calibrate": (
                "tries observers and percentiles on a prepared model until the metric is best",
                "an observer that searches (MSEObserver, MixObserver), or `openbpu quantize --method mix`",
            ),
            "weight_reconstruction": (
                "learns how weights round, block by block",
                "quantization-aware training, or `openbpu quantize --adaptive-rounding`",
            ),
        },
    ),
    *works(f"{_QUANT}.prepare", "prepare PrepareMethod"),
    *works(f"{_QUANT}.fuse_modules", "fuse_modules"),
    *works(
        f"{_QUANT}.qconfig_setter",
        "QconfigSetter ModuleNameTemplate ConvDtypeTemplate MatmulDtypeTemplate SensitivityTemplate",
    ),
    *refused(
        f"{_QUANT}.qconfig_setter",
        {
            "SetDynamicQuantTemplate": (
                "takes the scale of an operator from each sample at run time",
                "fixed scales of int16: ModuleNameTemplate({name: qint16})",
            ),
        },
    ),
    *works(f"{_QUANT}.observer_v2", "HistogramObserver MinMaxObserver FixedScaleObserver MSEObserver"),
    *works(
        f"{_QUANT}.qconfig_template",
        "calibration_8bit_weight_16bit_act_qconfig_setter qat_8bit_weight_16bit_act_qconfig_setter "
        "qat_8bit_weight_16bit_fixed_act_qconfig_setter default_calibration_qconfig_setter "
        "default_qat_qconfig_setter default_qat_fixed_act_qconfig_setter "
        "sensitive_op_calibration_8bit_weight_16bit_act_qconfig_setter "
        "sensitive_op_qat_8bit_weight_16bit_act_qconfig_setter "
        "sensitive_op_qat_8bit_weight_16bit_fixed_act_qconfig_setter ModuleNameQconfigSetter",
    ),
    *differs(
        f"{_QUANT}.hbdk4",
        {
            "export": "gives the QDQ ONNX model, which hbdk4.compiler takes",
            "pre_export": "returns the model: export does what it would do",
            "get_hbir_input_flattener": "orders what is nested as it stands there; every leaf is an input",
        },
    ),
    *refused(
        f"{_QUANT}.hbdk4",
        {
            "get_hbir_output_unflattener": (
                "puts flat outputs back into the lists and dicts that the model returned",
                "outputs by name: Hbm.graphs[0].flatten_outputs",
            ),
        },
    ),
    *works(f"{_PLUGIN}.qat_mode", "QATMode set_qat_mode get_qat_mode"),
    *refused(
        f"{_PLUGIN}.qat_mode",
        {
            "ConsistencyStrategy": (
                "chooses how far training and the binary may differ",
                "convert, whose outputs are the binary's bits, and `openbpu verify`",
            ),
        },
    ),
    *differs(f"{_PLUGIN}.fx.jit_scheme", {"Tracer": f"dynamic_block only; {_TRACED}"}),
    *differs(f"{_PLUGIN}.utils.fx_helper", {"wrap": _TRACED}),
    *refused(
        f"{_PLUGIN}.nn",
        {
            "QFunctional": (
                "is what convert makes of a FloatFunctional",
                "FloatFunctional; convert gives it integer arithmetic",
            ),
            "Interpolate": ("resizes", "torch.nn.functional.interpolate or torch.nn.Upsample"),
            "GridSample": ("samples at a grid", "torch.nn.functional.grid_sample"),
        },
    ),
    *refused(
        f"{_PLUGIN}.utils.onnx_helper",
        dict.fromkeys(
            ("export_to_onnx", "export_quantized_onnx", "export_hbir"),
            ("writes ONNX", "openbpu.quantization.torch.export"),
        ),
    ),
    *refused(f"{_PLUGIN}.quantization", {"visualize_model": ("draws a model", "hbdk4.compiler.visualize")}),
    *works("torch.quantization", "QConfig QuantStub DeQuantStub"),
    *refused(
        "pytorch_quantization",
        {
            **{
                f"Quant{kind}": (
                    "is a layer with quantizers of its own",
                    "openbpu.quantization.torch.prepare, which gives a float model's layers their quantizers",
                )
                for kind in ("Conv1d", "Conv2d", "Conv3d", "Linear")
            },
            "quant_modules": (
                "replaces the layers of torch",
                "openbpu.quantization.torch.prepare, which gives a float model's layers their quantizers",
            ),
            "plot_hist": ("draws histograms", "openbpu.quantization.torch.statistics_table"),
        },
    ),
)
