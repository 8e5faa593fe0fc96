"""Quantization of PyTorch models: float `nn.Module` → prepared (fake-quantized) → QDQ ONNX.

    set_march(March.NASH_M)
    model = prepare(float_model.eval(), example_inputs, qconfig_setter=default_calibration_qconfig_setter)
    model.eval(); set_fake_quantize(model, FakeQuantState.CALIBRATION); model(data)
    model.eval(); set_fake_quantize(model, FakeQuantState.VALIDATION);  model(data)
    onnx_model = export(model, example_inputs)

Names:

    QTensor: int_repr(), dequantize(), q_scale(), q_zero_point(), q_per_channel_axis(), dtype
    QuantStub(scale=None, zero_point=None, qconfig=None), DeQuantStub()
    FloatFunctional(): add, sub, mul, cat, matmul, sum, mean, exp, … · SegmentLUT(function)
    FakeQuantize, FakeQuantState.{CALIBRATION, QAT, VALIDATION}, set_fake_quantize(model, state)
    MinMaxObserver, MovingAverageMinMaxObserver, PerChannelMinMaxObserver,
    MovingAveragePerChannelMinMaxObserver, PercentileObserver, MSEObserver, KLObserver, HistogramObserver,
    MixObserver, ClipObserver, FixedScaleObserver
    QConfig(activation, weight), get_qconfig(observer=MSEObserver, in_dtype=None, weight_dtype=qint8,
    out_dtype=qint8, fix_scale=None), get_default_qconfig(activation_fake_quant, weight_fake_quant,
    activation_observer, weight_observer, …), get_default_qat_qconfig(), get_default_qat_out_qconfig(),
    get_default_calib_qconfig(), get_default_calib_out_qconfig(),
    default_{qat,calib}[_out]_{8,16}bit_fake_quant_qconfig
    default_calibration_qconfig_setter, default_qat_qconfig_setter,
    {calibration,qat}_8bit_weight_16bit_act_qconfig_setter,
    {default_qat,qat_8bit_weight_16bit,sensitive_op_qat_8bit_weight_16bit}_fixed_act_qconfig_setter
    sensitive_op_{calibration,qat}_8bit_weight_16bit_act_qconfig_setter(table, topk=None, ratio=None),
    ModuleNameQconfigSetter({name: qconfig}), QconfigSetter(reference_qconfig, templates),
    ModuleNameTemplate, ConvDtypeTemplate, MatmulDtypeTemplate, SensitivityTemplate
    prepare(model, example_inputs, qconfig_setter=None, method=PrepareMethod.SYMBOLIC) -> nn.Module
    prepare_qat(model, inplace=False), prepare_qat_fx(model, qconfig_dict, example_inputs=None),
    fuse_modules(model, modules_to_fuse, inplace=False, fuser_func=fuse_known_modules), fuse_known_modules,
    fuse_fx, PrepareMethod.{EAGER, SYMBOLIC, JIT, JIT_STRIP}
    convert(model, inplace=False) -> nn.Module (integer arithmetic), convert_fx
    export(model, example_inputs, path=None, *, input_names=None, output_names=None) -> onnx.ModelProto
    sensitivity_table(model, baseline, inputs), statistics_table(model, inputs)
    check_qat_model(model, example_inputs, save_results=False, out_dir=None) -> CheckResult;
    model_check_result.txt and qconfig_info.txt, which prepare(…, report_dir=folder) writes too

Needs the extra `openbpu[torch]`. Imports torch, numpy, `openbpu.arch`, and onnx when it exports.
`check_model(model, example_inputs, march=None, advice=None)` and `compile_model(model, example_inputs,
hbm=..., march=None, opt=2)`, which need the compiler, are in `openbpu.compat.deploy`.
"""

from openbpu.quantization.torch.convert import convert, convert_fx
from openbpu.quantization.torch.debug import sensitivity_table, statistics_table
from openbpu.quantization.torch.dtype import QDType, qinfo, qint8, qint16, qint32
from openbpu.quantization.torch.errors import (
    CalibrationInTrainModeWarning,
    CpuOperatorWarning,
    EvalAfterStateWarning,
    ExportError,
    FloatValidationWarning,
    InitialScaleWarning,
    PrepareError,
    QatEvaluationWarning,
    QTensorError,
    QuantizationWarning,
    SharedModuleWarning,
    StateNotSetWarning,
    UnknownModuleWarning,
)
from openbpu.quantization.torch.export import export
from openbpu.quantization.torch.fake_quantize import FakeQuantize, FakeQuantState, set_fake_quantize
from openbpu.quantization.torch.functional import FloatFunctional
from openbpu.quantization.torch.learnable import LearnableFakeQuantize
from openbpu.quantization.torch.march import March, get_march, set_march
from openbpu.quantization.torch.observers import (
    ClipObserver,
    FixedScaleObserver,
    HistogramObserver,
    KLObserver,
    MinMaxObserver,
    MixObserver,
    MovingAverageMinMaxObserver,
    MovingAveragePerChannelMinMaxObserver,
    MSEObserver,
    PercentileObserver,
    PerChannelMinMaxObserver,
)
from openbpu.quantization.torch.prepare import (
    PrepareMethod,
    fuse_fx,
    fuse_known_modules,
    fuse_modules,
    prepare,
    prepare_qat,
    prepare_qat_fx,
)
from openbpu.quantization.torch.prepare.check import CheckResult, check_qat_model
from openbpu.quantization.torch.qat_mode import QATMode, get_qat_mode, set_qat_mode
from openbpu.quantization.torch.qconfig import (
    QConfig,
    default_calib_8bit_fake_quant_qconfig,
    default_calib_8bit_weight_16bit_act_fake_quant_qconfig,
    default_calib_8bit_weight_32bit_out_fake_quant_qconfig,
    default_calib_16bit_fake_quant_qconfig,
    default_calib_out_8bit_fake_quant_qconfig,
    default_calib_out_16bit_fake_quant_qconfig,
    default_qat_8bit_fake_quant_qconfig,
    default_qat_8bit_weight_16bit_act_fake_quant_qconfig,
    default_qat_8bit_weight_32bit_out_fake_quant_qconfig,
    default_qat_16bit_fake_quant_qconfig,
    default_qat_out_8bit_fake_quant_qconfig,
    default_qat_out_16bit_fake_quant_qconfig,
    get_default_calib_out_qconfig,
    get_default_calib_qconfig,
    get_default_qat_out_qconfig,
    get_default_qat_qconfig,
    get_default_qconfig,
    get_qconfig,
)
from openbpu.quantization.torch.qtensor import QTensor
from openbpu.quantization.torch.segment_lut import SegmentLUT
from openbpu.quantization.torch.setters import (
    PASS,
    ModuleNameQconfigSetter,
    Place,
    calibration_8bit_weight_16bit_act_qconfig_setter,
    default_calibration_qconfig_setter,
    default_qat_fixed_act_qconfig_setter,
    default_qat_qconfig_setter,
    qat_8bit_weight_16bit_act_qconfig_setter,
    qat_8bit_weight_16bit_fixed_act_qconfig_setter,
    sensitive_op_calibration_8bit_weight_16bit_act_qconfig_setter,
    sensitive_op_qat_8bit_weight_16bit_act_qconfig_setter,
    sensitive_op_qat_8bit_weight_16bit_fixed_act_qconfig_setter,
)
from openbpu.quantization.torch.stubs import DeQuantStub, QuantStub
from openbpu.quantization.torch.templates import (
    ConvDtypeTemplate,
    MatmulDtypeTemplate,
    ModuleNameTemplate,
    QconfigSetter,
    SensitivityTemplate,
)

__all__ = [
    "PASS",
    "CalibrationInTrainModeWarning",
    "CheckResult",
    "ClipObserver",
    "ConvDtypeTemplate",
    "CpuOperatorWarning",
    "DeQuantStub",
    "EvalAfterStateWarning",
    "ExportError",
    "FakeQuantState",
    "FakeQuantize",
    "FixedScaleObserver",
    "FloatFunctional",
    "FloatValidationWarning",
    "HistogramObserver",
    "InitialScaleWarning",
    "KLObserver",
    "LearnableFakeQuantize",
    "MSEObserver",
    "March",
    "MatmulDtypeTemplate",
    "MinMaxObserver",
    "MixObserver",
    "ModuleNameQconfigSetter",
    "ModuleNameTemplate",
    "MovingAverageMinMaxObserver",
    "MovingAveragePerChannelMinMaxObserver",
    "PerChannelMinMaxObserver",
    "PercentileObserver",
    "Place",
    "PrepareError",
    "PrepareMethod",
    "QATMode",
    "QConfig",
    "QDType",
    "QTensor",
    "QTensorError",
    "QatEvaluationWarning",
    "QconfigSetter",
    "QuantStub",
    "QuantizationWarning",
    "SegmentLUT",
    "SensitivityTemplate",
    "SharedModuleWarning",
    "StateNotSetWarning",
    "UnknownModuleWarning",
    "calibration_8bit_weight_16bit_act_qconfig_setter",
    "check_qat_model",
    "convert",
    "convert_fx",
    "default_calib_8bit_fake_quant_qconfig",
    "default_calib_8bit_weight_16bit_act_fake_quant_qconfig",
    "default_calib_8bit_weight_32bit_out_fake_quant_qconfig",
    "default_calib_16bit_fake_quant_qconfig",
    "default_calib_out_8bit_fake_quant_qconfig",
    "default_calib_out_16bit_fake_quant_qconfig",
    "default_calibration_qconfig_setter",
    "default_qat_8bit_fake_quant_qconfig",
    "default_qat_8bit_weight_16bit_act_fake_quant_qconfig",
    "default_qat_8bit_weight_32bit_out_fake_quant_qconfig",
    "default_qat_16bit_fake_quant_qconfig",
    "default_qat_fixed_act_qconfig_setter",
    "default_qat_out_8bit_fake_quant_qconfig",
    "default_qat_out_16bit_fake_quant_qconfig",
    "default_qat_qconfig_setter",
    "export",
    "fuse_fx",
    "fuse_known_modules",
    "fuse_modules",
    "get_default_calib_out_qconfig",
    "get_default_calib_qconfig",
    "get_default_qat_out_qconfig",
    "get_default_qat_qconfig",
    "get_default_qconfig",
    "get_march",
    "get_qat_mode",
    "get_qconfig",
    "prepare",
    "prepare_qat",
    "prepare_qat_fx",
    "qat_8bit_weight_16bit_act_qconfig_setter",
    "qat_8bit_weight_16bit_fixed_act_qconfig_setter",
    "qinfo",
    "qint8",
    "qint16",
    "qint32",
    "sensitive_op_calibration_8bit_weight_16bit_act_qconfig_setter",
    "sensitive_op_qat_8bit_weight_16bit_act_qconfig_setter",
    "sensitive_op_qat_8bit_weight_16bit_fixed_act_qconfig_setter",
    "sensitivity_table",
    "set_fake_quantize",
    "set_march",
    "set_qat_mode",
    "statistics_table",
]
