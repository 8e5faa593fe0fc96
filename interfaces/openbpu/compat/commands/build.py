"""From a configuration to a compiled file: what `hb_compile -c` and `hb_mapper makertbin -c` do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnx import ModelProto

from openbpu.arch.arrays import Array
from openbpu.arch.errors import InputError, must
from openbpu.arch.hbm import write_hbm
from openbpu.arch.march import find_march, get_march, march_names
from openbpu.compat.commands import types
from openbpu.compat.commands.calibration import found_path, samples
from openbpu.compat.commands.ends import End, ends_of, for_the_board, with_normalisation
from openbpu.compat.commands.schema import Configuration
from openbpu.compat.commands.tables import compared, node_table, output_table
from openbpu.compat.commands.yaml_file import Lines, read
from openbpu.compat.hbdk.build import hbm_perf, save
from openbpu.compat.hbdk.module import MARCH_KEY, Module
from openbpu.compat.screen import say
from openbpu.compat.stages import Order, Stages, staged, write_stages
from openbpu.compat.stages import read as read_model
from openbpu.quantization.onnx import Method
from openbpu.quantization.onnx.inputs import fed_inputs
from openbpu.quantization.onnx.samples import input_of

STAGES = ("export", "convert", "compile")
_METHODS: dict[str, Method] = {"default": "mix", "mix": "mix", "max": "max", "kl": "kl"}
_BALANCE = {"latency": 100, "bandwidth": 0}


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be built. suffix: of the compiled file · stop: the stage that is not done any more."""

    config: Configuration
    lines: Lines
    model: ModelProto
    march: str
    prefix: Path
    suffix: str
    stop: str = ""

    @property
    def is_nash(self) -> bool:
        """Whether the march is one whose quantized model is called "ptq", and whose file is a .hbm."""
        return self.march.startswith("nash")


def planned(path: Path, *, suffix: str = ".hbm", stop: str = "") -> Plan:
    """Read a YAML file and the model it names; raises InputError with the line of what is wrong."""
    config, lines = read(path, Configuration)
    of = config.model_parameters
    if of.onnx_model is None:
        raise lines.wrong(("model_parameters", "onnx_model"), "given", "missing", "name the float ONNX model")
    model = found_path(of.onnx_model, lines)
    if not model.is_file():
        what = f"'{of.onnx_model}', which is missing"
        raise lines.wrong(("model_parameters", "onnx_model"), "an ONNX file", what, "check the path")
    march = march_of(of.march, lines)
    _refuse(config, lines, march)
    prefix = Path(of.working_dir) / of.output_model_file_prefix
    return Plan(config, lines, read_model(model), march, prefix, suffix, stop)


def march_of(given: str | None, lines: Lines) -> str:
    """Return the march's name; raises InputError where it is missing, unknown or no target."""
    targets = ", ".join(name for name in march_names() if get_march(name).target)
    place = ("model_parameters", "march")
    found = None if given is None else find_march(given) or given
    if found is None or found not in march_names():
        raise lines.wrong(place, f"one of {targets}", "missing" if given is None else f"'{given}'")
    if not get_march(found).target:
        raise lines.wrong(place, f"one of {targets}", f"'{given}'", get_march(found).reason)
    return found


def _refuse(config: Configuration, lines: Lines, march: str) -> None:
    """Refuse what a key may be and this march, or this compiler, cannot do."""
    compiler = config.compiler_parameters
    if compiler.optimize_level == "O3" and march.startswith("nash"):
        fix = "O2 gives the lowest latency"
        raise lines.wrong(("compiler_parameters", "optimize_level"), f"O0, O1 or O2 for {march}", "'O3'", fix)
    if compiler.compile_mode == "balance" and compiler.balance_factor is None:
        fix = "0 is for the fewest bytes, 100 for the lowest latency"
        place = ("compiler_parameters", "balance_factor")
        raise lines.wrong(place, "given with compile_mode: balance", "missing", fix)
    cores = get_march(march).chip.cores
    if compiler.core_num > cores:
        raise lines.wrong(("compiler_parameters", "core_num"), f"1..{cores} for {march}", compiler.core_num)
    sources = compiler.input_source
    for source in sources.values() if isinstance(sources, dict) else [sources] if sources else []:
        if source not in {"ddr", "pyramid"}:
            fix = "cut and resize the region before it is fed"
            raise lines.wrong(("compiler_parameters", "input_source"), "ddr or pyramid", f"'{source}'", fix)
    if config.input_parameters.separate_batch:
        fix = "use input_batch, or hbdk4's insert_split"
        raise lines.wrong(("input_parameters", "separate_batch"), "False", True, fix)


def build(plan: Plan) -> Path | None:
    """Quantize, compile and write every file; returns the compiled one, None where it ended before.

    Prints the node table, the output table and the latency. Raises what the engines raise.
    """
    model = types.with_outputs(plan.model, plan.config.model_parameters.output_nodes, plan.lines)
    ends = ends_of(plan.config, model, plan.lines)
    data = _data(plan, ends)
    order, ask = _order(plan, model, ends)
    stages = staged(order, data)
    for note in notes(plan.config):
        say(note)
    _write_models(plan, stages, ends)
    if plan.stop == "export":
        return None
    module = _module(plan, stages.quantized, ends)
    return _compiled(plan, module, stages, data, ask)


def notes(config: Configuration) -> Iterator[str]:
    """Yield what the file asks for and gets in another way, or not at all."""
    compiler, model = config.compiler_parameters, config.model_parameters
    if config.calibration_parameters.per_channel:
        yield "per_channel: activations have one scale per tensor, weights one per channel, in any case"
    if model.layer_out_dump:
        yield "layer_out_dump: nothing is written here; `openbpu analyze --dump DIR` writes every tensor"
    if compiler.max_time_per_fc:
        yield "max_time_per_fc: a call takes as long as it takes, nothing is cut"
    if compiler.cache_mode != "disable":
        yield "cache_mode: nothing is cached, a compilation takes seconds"
    if compiler.extra_params:
        yield f"extra_params: {compiler.extra_params} changes nothing here"


def _data(plan: Plan, ends: Sequence[End]) -> dict[str, list[Array]] | None:
    kind = plan.config.calibration_parameters.calibration_type
    if kind in {"skip", "load"}:
        return None
    return samples(ends, plan.lines)


def _order(plan: Plan, model: ModelProto, ends: Sequence[End]) -> tuple[Order, tuple[str, ...]]:
    """Return what is quantized, and the operators and nodes that are asked onto the BPU."""
    of = plan.config.calibration_parameters
    asked = types.asked(plan.config, model, plan.lines)
    shapes = {e.name: tuple(n for n in e.taker.shape or () if isinstance(n, int)) for e in ends}
    method = "max" if of.max_percentile is not None else _METHODS.get(of.calibration_type, "max")
    if asked.config.model.activation.calibration_type or asked.config.model.activation.max_percentile:
        method = "max"  # the config says it
    return Order(model, plan.march, asked.config, method, shapes, asked.bpu), asked.bpu


def _write_models(plan: Plan, stages: Stages, ends: Sequence[End]) -> None:
    """Write the models as users feed them: with the normalisation of pixels in front."""
    whole = Stages(
        *(with_normalisation(m, ends) for m in (stages.original, stages.optimized, stages.quantized))
    )
    for path in write_stages(whole, plan.prefix, "ptq" if plan.is_nash else "quantized"):
        say(f"wrote {path}")


def _module(plan: Plan, quantized: ModelProto, ends: Sequence[End]) -> Module:
    module = for_the_board(quantized, ends)
    of_model = plan.config.model_parameters
    if of_model.remove_node_type or of_model.remove_node_name:
        removed = module[0].remove_io_op(list(of_model.remove_node_type) or None, of_model.remove_node_name)
        say(f"removed at the ends: {', '.join(removed) or 'no node of these stands there'}")
    named = module.with_note(MARCH_KEY, plan.march)
    named.model.graph.name = plan.prefix.name
    return named


def _compiled(
    plan: Plan, module: Module, stages: Stages, data: dict[str, list[Array]] | None, ask: Sequence[str]
) -> Path | None:
    from openbpu import compiler  # noqa: PLC0415  # only when it is used

    there = {n for node in module.model.graph.node for n in (node.name, node.op_type)}
    wishes = tuple(wish for wish in ask if wish in there)
    if plan.is_nash and plan.stop != "convert":
        path = plan.prefix.with_name(f"{plan.prefix.name}_quantized_model.bc")
        save(module, path)
        say(f"wrote {path}")
    placement = compiler.check(module.model, march=plan.march, remove_io=module.removed, bpu_ops=wishes)
    found = compared(stages.original, stages.quantized, data) if stages.choice is not None else None
    say(node_table(placement, found))
    told = output_table(stages.original, stages.quantized, data) if stages.choice is not None else ""
    if told:
        say(told)
    if plan.stop in {"convert", "compile"}:
        return None
    of = plan.config.compiler_parameters
    program = compiler.compile(
        module.model,
        march=plan.march,
        opt=min(int(of.optimize_level[1]), 2),
        balance=_balance(plan),
        core_num=of.core_num,
        max_l2m_size=of.max_l2m_size,
        remove_io=module.removed,
        bpu_ops=wishes,
        batch=plan.config.input_parameters.input_batch or 0,
    )
    path = plan.prefix.with_name(f"{plan.prefix.name}{plan.suffix}")
    write_hbm(program, path)
    say(f"wrote {path}")
    hbm_perf(path, path.parent)
    return path


def _balance(plan: Plan) -> int:
    of = plan.config.compiler_parameters
    return _BALANCE.get(of.compile_mode, of.balance_factor or 0)


def _of_one(shape: Sequence[int | str | None]) -> list[int]:
    """Return the sizes with a free batch of 1; nothing where another axis is free."""
    found = [1 if place == 0 and not isinstance(size, int) else size for place, size in enumerate(shape)]
    return [size for size in found if isinstance(size, int)] if all(isinstance(s, int) for s in found) else []


def random_plan(
    model: Path,
    march: str,
    shapes: dict[str, list[int]],
    folder: Path,
    *,
    suffix: str,
    core_num: int = 1,
    stop: str = "",
) -> Plan:
    """Return the plan of `--fast-perf`: ranges from noise, ends stripped; files go to `folder`.

    Raises InputError for a march that is none.
    """
    proto = read_model(model)
    lines = Lines("the command line")
    own = {value.name: input_of(value).shape or () for value in fed_inputs(proto)}
    for name in shapes:
        if name not in own:
            raise InputError(must("-i", "the input", f"one of {', '.join(own)}", f"'{name}'"))
    sizes = {name: shapes.get(name) or _of_one(shape) for name, shape in own.items()}
    known = {"input_name": list(own), "input_shape": ["x".join(map(str, s)) for s in sizes.values()]}
    given: dict[str, Any] = {
        "model_parameters": {"remove_node_type": "Quantize;Dequantize;Transpose"},
        "input_parameters": known if all(sizes.values()) else {},
        "calibration_parameters": {"calibration_type": "skip"},
        "compiler_parameters": {"core_num": core_num},
    }
    config = Configuration.model_validate(given)
    return Plan(config, lines, proto, march_of(march, lines), folder / model.stem, suffix, stop)
