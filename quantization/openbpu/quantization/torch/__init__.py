"""Quantization of PyTorch models: float `nn.Module` → prepared (fake-quantized) → QDQ ONNX.

    set_march(March.NASH_M)
    model = prepare(float_model.eval(), example_inputs, qconfig_setter=default_calibration_qconfig_setter)
    model.eval(); set_fake_quantize(model, FakeQuantState.CALIBRATION); model(data)
    model.eval(); set_fake_quantize(model, FakeQuantState.VALIDATION);  model(data)
    onnx_model = export(model, example_inputs)

Names (those not imported below yet are on their way, with these signatures):

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

Needs the extra `openbpu[torch]`. Imports torch, numpy, `openbpu.arch`, and onnx when it exports.
`check_model(model, example_inputs, march=None, advice=None)` and `compile_model(model, example_inputs,
hbm=..., march=None, opt=2)`, which need the compiler, are in `openbpu.compat.deploy`.
"""

from openbpu.quantization.torch.dtype import QDType, qinfo, qint8, qint16, qint32
from openbpu.quantization.torch.march import March, get_march, set_march

__all__ = ["March", "QDType", "get_march", "qinfo", "qint8", "qint16", "qint32", "set_march"]
