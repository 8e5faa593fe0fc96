"""Kernels become one object file: numba functions and hand-written vector IR alike.

numba translates a kernel to LLVM IR; its own cache and dispatcher are not used, because plain object code
loads in milliseconds without importing numba, and is rebuilt exactly when a source changed. A kernel
therefore works on plain addresses only: it allocates nothing and raises nothing.
"""

from __future__ import annotations

import sys
from typing import Any

from openbpu.simulator.fast.jit.cpu import host


def target_machine() -> Any:
    """Return LLVM's code generator for this CPU."""
    import llvmlite.binding as llvm  # noqa: PLC0415 - loaded when kernels are

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    cpu = host()
    # MCJIT links ELF objects only, on every system.
    triple = llvm.get_process_triple() + ("-elf" if sys.platform == "win32" else "")
    target = llvm.Target.from_triple(triple)
    return target.create_target_machine(cpu=cpu.name, features=cpu.features, opt=3, jit=True)


def numba_module(family: str) -> Any:
    """Return one LLVM module with the kernels that a family exports, as `family.kernel`."""
    import llvmlite.binding as llvm  # noqa: PLC0415

    from openbpu.simulator.fast.language.lang import EXPORTS, compiled_for  # noqa: PLC0415

    whole = llvm.parse_assembly("")
    for kernel, (function, signature) in EXPORTS[family].items():
        name = f"{family}.{kernel}"
        result = compiled_for(signature, function)
        module = llvm.parse_assembly(result.library.get_llvm_str())
        _keep_only(module, result.fndesc.llvm_func_name, name)
        whole.link_in(module)
    return whole


def _keep_only(module: Any, symbol: str, name: str) -> None:
    """Rename the kernel and hide every helper, so that modules link without a clash."""
    module.get_function(symbol).name = name
    for function in module.functions:
        if function.name != name and not function.is_declaration:
            function.linkage = "internal"
    for variable in module.global_variables:
        if not variable.is_declaration:
            variable.linkage = "internal"


def vector_module(text: str) -> Any:
    """Return the module of hand-written IR. It is not optimised: its instructions are already chosen."""
    import llvmlite.binding as llvm  # noqa: PLC0415

    module = llvm.parse_assembly(text)
    module.verify()
    return module


def emit(module: Any) -> bytes:
    """Return the object code of a module."""
    machine = target_machine()
    module.triple = machine.triple
    return bytes(machine.emit_object(module))
