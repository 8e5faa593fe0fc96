"""Write the pages of docs/ that are made from the sources: `make docs`. A test fails when one is stale.

A page is a row of PAGES: its file name and the function that returns its text.
"""

from __future__ import annotations

import inspect
import io
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from openbpu.arch import isa
from openbpu.arch.definition.instruction import operands
from openbpu.arch.isa import HEADER_DTYPE, RECORD_BYTES, RECORDS, Engine, Instr
from openbpu.arch.march import LIMITS, March, Number, get_march, march_names
from openbpu.arch.numerics.functions import BINARY, POINTWISE, PREDICATES, UNARY
from openbpu.arch.program import OPERATORS
from openbpu.compat.registry import ROWS as NAMES
from openbpu.compiler import compile as compile_model
from openbpu.compiler.ops import OPS, Limit, OpRule, tables
from openbpu.compiler.ops.rule import EVERY
from openbpu.report.latency import latency_table
from openbpu.runtime import Session

HERE = Path(__file__).parent
NOTICE = "<!-- Written by docs/generate.py (`make docs`); do not edit. -->\n\n"
MARKS = {"published": "", "fitted": " ~", "assumed": " ?"}
KINDS = {"<u1": "uint8", "<u2": "uint16", "<u4": "uint32", "<u8": "uint64", "<i4": "int32"}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


# --- isa.md ---

ISA_INTRO = f"""# Instruction set

Every instruction is a record of {RECORD_BYTES} bytes: a header, its operands, zeros. All fields are
little-endian. The code of a core is a table of such records. Each engine takes its own records in order and
runs them one after the other; engines run side by side. `wait[e]` is how many instructions engine e must
have completed before this one may start: that is the only synchronization there is.

On-chip addresses and strides count bytes. What an instruction computes is the formula of its operator
(layer), seen in `openbpu.arch.program`; scales, kernels and the like are read from the operator, geometry
from the instruction.

"""


def isa_page() -> str:
    """Return docs/isa.md."""
    head = table(("header field", "bytes", "type"), _field_rows(HEADER_DTYPE.names or (), HEADER_DTYPE))
    engines = table(("engine", "number", "instructions"), map(_engine_row, Engine))
    parts = [NOTICE, ISA_INTRO, head, "\n", engines]
    for engine in Engine:
        mine = [cls for cls in isa.INSTRUCTIONS if cls.ENGINE is engine]
        parts += [f"\n## {engine.name}\n"] if mine else []
        parts += [_instruction(cls) for cls in mine]
    return "".join(parts)


def _engine_row(engine: Engine) -> tuple[str, str, str]:
    names = [f"`{cls.__name__}`" for cls in isa.INSTRUCTIONS if cls.ENGINE is engine]
    return f"{engine.name}", str(int(engine)), ", ".join(names) or "none yet"


def _instruction(cls: type[Instr]) -> str:
    served = isa.SERVES[cls]
    kinds = "any" if served == OPERATORS else ", ".join(f"`{op.__name__}`" for op in served)
    fields = table(("operand", "bytes", "type"), _field_rows([f.name for f in operands(cls)], RECORDS[cls]))
    text = inspect.cleandoc(cls.__doc__ or "")
    return f"\n### {cls.__name__} (0x{cls.OPCODE:02x})\n\n{text}\n\nOperators: {kinds}.\n\n{fields}"


def _field_rows(names: Iterable[str], dtype: object) -> Iterable[tuple[str, str, str]]:
    places = dict(getattr(dtype, "fields", None) or {})
    for name in names:
        kind, offset = places[name][:2]
        count = f"[{kind.shape[0]}]" if kind.shape else ""
        yield (
            f"`{name}`",
            f"{offset}..{offset + kind.itemsize - 1}",
            KINDS[kind.base.str.replace("|", "<")] + count,
        )


# --- marches.md ---

MARCH_INTRO = """# Marches

The chips openbpu knows, one JSON file each under `arch/openbpu/arch/march/`. Every number there carries its
unit, its source and how far to trust it: published (no mark), fitted to published latencies (~), assumed
(?). A march of your own is a file in the same form; `"based_on": "nash-e"` lets it state only what differs.

Wherever a march is given, by `--march`, in Python or in a script for the vendor's modules, a product does as
well, in any spelling: `S100`, `rdk-s100`, `J6E` and `Journey 6E` are nash-e.

"""

SECTIONS = {
    "chip": "Chip",
    "tae": "TAE, the tensor engine",
    "vae": "VAE, the vector engine",
    "aae": "AAE, pooling and resizing",
    "trans": "TRANS, the layout engine",
    "vpu": "VPU, quantize and dequantize",
    "ddr": "External memory",
    "cpu": "The CPU beside it",
}
FACTS = {
    "engines": "engines",
    "conv_pairs": "convolution: input×weight types",
    "matmul_pairs": "matrix product: input×weight types",
    "high_precision": "high-precision output types",
    "quantize_on_bpu": "Quantize and Dequantize run on the BPU",
}


def marches_page() -> str:
    """Return docs/marches.md."""
    marches = [get_march(name) for name in march_names()]
    overview = table(("march", "product", "compiles"), [_overview_row(m) for m in marches])
    parts = [NOTICE, MARCH_INTRO, overview, "\n## Types and engines\n\n", _numbers(marches, FACTS)]
    for section, title in SECTIONS.items():
        keys = [key for key in marches[0].numbers if key.startswith(f"{section}.")]
        parts += [f"\n## {title}\n\n", _section_text(marches[0], section)]
        parts.append(_numbers(marches, {key: f"`{key}`" for key in keys}))
    limits = {f"limits.{key}": f"`{key}`: {text}" for key, text in LIMITS.items()}
    parts += ["\n## Operator limits\n\n", _numbers(marches, limits), "\n## Operators left to the CPU\n\n"]
    parts += [_cpu_ops(marches), "\n## Sources\n"]
    parts += [_sources(march) for march in marches]
    return "".join(parts)


def _overview_row(march: March) -> tuple[str, str, str]:
    return f"`{march.name}`", march.product, "yes" if march.target else f"no: {march.reason}"


def _section_text(march: March, section: str) -> str:
    return inspect.cleandoc(type(getattr(march, section)).__doc__ or "") + "\n\n"


def _numbers(marches: Sequence[March], keys: dict[str, str]) -> str:
    rows = []
    for key, title in keys.items():
        unit = marches[0].numbers[key].unit
        rows.append([title, unit, *(_shown(m.numbers[key]) for m in marches)])
    return table(["", "unit", *(m.name for m in marches)], rows)


def _shown(number: Number) -> str:
    value = number.value
    if isinstance(value, bool):
        text = "yes" if value else "no"
    elif isinstance(value, list):
        text = ", ".join(value)
    elif isinstance(value, int):
        text = f"{value:,}"
    else:
        text = str(value)
    return text + MARKS[number.confidence]


def _cpu_ops(marches: Sequence[March]) -> str:
    ops = sorted({op for march in marches for op in march.cpu_ops})
    rows = [[f"`{op}`", *(m.cpu_ops[op].when if op in m.cpu_ops else "" for m in marches)] for op in ops]
    note = "always: there is no unit for it; default: unless it is asked onto the BPU.\n\n"
    return note + table(["operator", *(m.name for m in marches)], rows)


def _sources(march: March) -> str:
    """List the numbers of a march by confidence and source."""
    groups: dict[tuple[str, str], list[str]] = {}
    for key, number in march.numbers.items():
        groups.setdefault((number.confidence, number.source), []).append(f"`{key}`")
    lines = [f"\n### {march.name}\n\n"]
    for (confidence, source), keys in sorted(
        groups.items(), key=lambda item: (item[0][0] != "published", item[0])
    ):
        lines.append(f"- *{confidence}*, {source}: {', '.join(keys)}\n")
    return "".join(lines)


# --- supported_ops.md ---

OPS_INTRO = """# Supported operators

What runs on the BPU, by ONNX operator: the rows of the operator table (`openbpu.compiler.ops`), which also
give the reasons in `openbpu check`. An operator runs there when its inputs are dequantized and its result is
quantized, its types and limits hold, and the march has a unit for it; everything else, and every operator
that this page does not name, runs on the CPU. QOperator models (`QLinearConv`, …), unsigned and asymmetric
quantization are brought to this form first. Which pairs of types a march multiplies is in
[marches.md](marches.md).

"""

TABLES_INTRO = """
## Tables

Functions of one tensor are look-ups: 256 entries for int8, exact; at most 64 lines for int16. A chain of them
without a rounding in between, as in `x → Add 3 → Clip → Mul x → Quantize`, is one look-up; over int8, so is a
chain with roundings, and each of them is kept. A look-up behind a convolution, a product or an element-wise
operator of two tensors costs nothing of its own. Straight lines over int16 are exact rescales.

"""

LEFT_INTRO = """
## Left to the CPU

What a march has no unit for, or runs better on the CPU. A function without a unit may still be part of a
longer table.

"""

ENGINES = {
    "TAE": "convolutions and products",
    "AAE": "pools and resizing",
    "VAE": "element-wise, tables, reductions, rows",
    "TRANS": "moves",
    "SPU": "elements in order",
}
FREE = "-"


def supported_ops_page() -> str:
    """Return docs/supported_ops.md."""
    marches = [m for m in map(get_march, march_names()) if m.target]
    looked_up = {rule.op for rule in tables.RULES}
    rules = [rule for rule in OPS.values() if rule.op not in looked_up]
    every = "; ".join(line for limit in EVERY for line in _limit_lines(limit, marches))
    parts = [NOTICE, OPS_INTRO, f"Of every operator: {every}.\n"]
    for engine, title in {**ENGINES, FREE: "no data moves"}.items():
        mine = [rule for rule in rules if rule.engine == engine]
        heading = f"{engine}: {title}" if engine in ENGINES else f"Free: {title}"
        parts += [f"\n## {heading}\n\n", _rules(mine, marches), _limits(mine, marches)]
    parts += [TABLES_INTRO, table(("kind", "operators"), _table_rows())]
    parts += [_limits(tables.RULES, marches), LEFT_INTRO]
    parts += [table(("operator", "always", "unless asked with `--bpu`"), _left_rows(marches))]
    return "".join(parts)


def _rules(rules: Sequence[OpRule], marches: Sequence[March]) -> str:
    rows = [[f"`{r.op}`", r.dtypes, _behind(r), ", ".join(_without(r.op, marches)), r.note] for r in rules]
    return table(("operator", "types", "fused behind it", "on the CPU of", "note"), rows)


def _behind(rule: OpRule) -> str:
    fused = ["BatchNormalization"] if rule.fuses and rule.op.startswith("Conv") else []
    fused += ["Add"] if rule.fuses else []
    fused += ["Relu", "Clip"] if rule.clamps else []
    return ", ".join(fused) + ("; or int32 as it is" if rule.raw else "")


def _without(op: str, marches: Sequence[March]) -> list[str]:
    """Return the marches that leave an operator to the CPU; * where it can be asked for."""
    left = [(m.name, m.cpu_ops[op].when) for m in marches if op in m.cpu_ops]
    return [name if when == "always" else f"{name}*" for name, when in left]


def _limits(rules: Sequence[OpRule], marches: Sequence[March]) -> str:
    """Return the limits of some operators on marches with a unit; those that share them under one heading."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for rule in rules:
        having = [m for m in marches if rule.op not in m.cpu_ops or m.cpu_ops[rule.op].when != "always"]
        lines = tuple(line for limit in rule.limits for line in _limit_lines(limit, having))
        groups.setdefault(lines, []).append(rule.op)
    return "".join(
        f"\n### {', '.join(ops)}\n\n" + "".join(f"- {line}\n" for line in lines)
        for lines, ops in groups.items()
        if lines
    )


def _limit_lines(limit: Limit, marches: Sequence[March]) -> list[str]:
    """Return a limit with its numbers, once per group of marches that share them."""
    groups: dict[str, list[str]] = {}
    for march in marches:
        if not limit.when or march.limits[limit.when]:
            groups.setdefault(limit.text.format_map(march.limits), []).append(march.name)
    everywhere = len(groups) == 1 and len(next(iter(groups.values()))) == len(marches)
    return [text if everywhere else f"{text} ({', '.join(names)})" for text, names in groups.items()]


def _table_rows() -> Iterable[tuple[str, str]]:
    for kind, functions in {
        "of one tensor": UNARY,
        "of two, the other a scalar or the same tensor": BINARY,
        "between a tensor and a Quantize": PREDICATES,
    }.items():
        yield kind, ", ".join(f"`{op}`" for op in sorted(functions))


def _left_rows(marches: Sequence[March]) -> Iterable[tuple[str, str, str]]:
    for op in sorted({op for march in marches for op in march.cpu_ops if op in OPS or op in POINTWISE}):
        names = _without(op, marches)
        always = [n for n in names if not n.endswith("*")]
        yield f"`{op}`", ", ".join(always), ", ".join(n.rstrip("*") for n in names if n not in always)


# --- vendor_scripts.md: the table of names ---

VENDOR = HERE / "vendor_scripts.md"
NAMES_FROM, NAMES_TO = "<!-- names: written by docs/generate.py -->\n", "<!-- end of names -->\n"


def vendor_page() -> str:
    """Return docs/vendor_scripts.md with the table of names as they are registered; the rest as it stands."""
    before, _, rest = VENDOR.read_text(encoding="utf-8").partition(NAMES_FROM)
    _, _, after = rest.partition(NAMES_TO)
    groups: dict[tuple[str, str, str], list[str]] = {}
    for row in NAMES:
        groups.setdefault((row.module, row.status, row.told), []).append(row.name or "the whole module")
    rows = [
        (f"`{module}`", ", ".join(f"`{n}`" if n.isidentifier() else n for n in names), status, told)
        for (module, status, told), names in groups.items()
    ]
    counts = {
        status: sum(row.status == status for row in NAMES) for status in ("works", "differs", "refused")
    }
    told = (
        f"Of {len(NAMES)} names {counts['works']} work, {counts['differs']} differ, "
        f"{counts['refused']} are refused.\n\n"
    )
    made = table(("module", "names", "", "how it differs, or what it does and what there is here"), rows)
    return f"{before}{NAMES_FROM}\n{told}{made}\n{NAMES_TO}{after}"


# --- README.md: the figures of its example ---

README = HERE.parent / "README.md"
DIGITS = HERE.parent / "models" / "digits" / "digits.q.onnx"


def readme_page() -> str:
    """Return README.md with the latency of the example as it is now; the rest is as it stands."""
    latency = Session(compile_model(DIGITS, march="nash-e")).latency
    rows = rendered(latency_table(latency)).splitlines()
    text = README.read_text(encoding="utf-8")
    for start in (" Segment  ", " bpu0  ", " submitting a run  "):
        (now,) = (line.rstrip() for line in rows if line.startswith(start))
        text = re.sub(rf"^{start}.*$", now, text, count=1, flags=re.MULTILINE)
    return text


def rendered(made: Table) -> str:
    """Return a table as a terminal shows it."""
    console = Console(file=io.StringIO(), width=200)
    with console.capture() as captured:
        console.print(made)
    return captured.get()


PAGES: dict[str, Callable[[], str]] = {
    "isa.md": isa_page,
    "marches.md": marches_page,
    "supported_ops.md": supported_ops_page,
    "vendor_scripts.md": vendor_page,
    "../README.md": readme_page,
}


def main() -> None:
    """Write every page."""
    for name, page in PAGES.items():
        (HERE / name).write_text(page(), encoding="utf-8", newline="\n")
        print(f"docs/{name}")


if __name__ == "__main__":
    main()
