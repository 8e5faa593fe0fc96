"""Typed memory access for numba kernels: addresses are int64, `p8`… make pointers of them, `ld` and `st` use
them.

numba arrays would bring bounds, reference counts and negative indices; LLVM vectorises plain pointers as
well.
"""

from __future__ import annotations

import platform
from typing import Any

from llvmlite import ir
from numba.core.errors import TypingError

from openbpu.simulator.fast.language.lang import intrinsic, types

P8 = types.CPointer(types.int8)
P64 = types.CPointer(types.int64)


def _pointer_cast(element: Any) -> Any:
    @intrinsic
    def cast(_typing: Any, _address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            return builder.inttoptr(values[0], context.get_value_type(signature.return_type))

        return types.CPointer(element)(types.int64), generate

    return cast


p8 = _pointer_cast(types.int8)
p16 = _pointer_cast(types.int16)
p32 = _pointer_cast(types.int32)
p64 = _pointer_cast(types.int64)
pf32 = _pointer_cast(types.float32)


@intrinsic
def address_of(_typing: Any, pointer: Any) -> Any:
    """The int64 address of a pointer."""

    def generate(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        return builder.ptrtoint(values[0], ir.IntType(64))

    return types.int64(pointer), generate


def _element(context: Any, builder: Any, pointer: Any, values: Any) -> tuple[Any, Any]:
    kind = context.get_data_type(pointer.dtype)
    return kind, builder.gep(values[0], [values[1]], source_etype=kind)


@intrinsic
def ld(_typing: Any, pointer: Any, _index: Any) -> Any:
    """pointer[index]; alignment is that of a byte, since rows start anywhere."""

    def generate(context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        kind, place = _element(context, builder, pointer, values)
        return builder.load(place, align=1, typ=kind)

    if not isinstance(pointer, types.CPointer):
        raise TypingError(f"ld: pointer must be one, not {pointer}; read fields of a record by name")
    return pointer.dtype(pointer, types.int64), generate


@intrinsic
def st(_typing: Any, pointer: Any, _index: Any, _value: Any) -> Any:
    """pointer[index] = value, converted to the element type."""

    def generate(context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        _, place = _element(context, builder, pointer, values)
        builder.store(values[2], place, align=1)
        return context.get_dummy_value()

    return types.void(pointer, types.int64, pointer.dtype), generate


@intrinsic
def rint64(_typing: Any, _value: Any) -> Any:
    """Round a float64 half to even."""

    def generate(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        function = builder.module.declare_intrinsic("llvm.rint", [ir.DoubleType()])
        return builder.call(function, [values[0]])

    return types.float64(types.float64), generate


@intrinsic
def bits32(_typing: Any, _value: Any) -> Any:
    """The bits of a float32 as int32."""

    def generate(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        return builder.bitcast(values[0], ir.IntType(32))

    return types.int32(types.float32), generate


@intrinsic
def call(_typing: Any, _function: Any, arguments: Any) -> Any:
    """Call the function at an address with a tuple of int64 arguments; it returns nothing."""

    def generate(_context: Any, builder: Any, signature: Any, values: Any) -> Any:
        word = ir.IntType(64)
        kind = ir.FunctionType(ir.VoidType(), [word] * signature.args[1].count)
        unpacked = [builder.extract_value(values[1], i) for i in range(signature.args[1].count)]
        builder.call(_function_at(builder, values[0], kind), unpacked)
        return _context.get_dummy_value()

    return types.void(types.int64, arguments), generate


@intrinsic
def call_kernel(_typing: Any, _function: Any, args: Any, _lo: Any, _hi: Any, scratch: Any) -> Any:
    """Call the numba kernel at an address; the first two arguments of numba's convention carry errors, of
    which kernels have none.
    """

    def generate(context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        pointer, word = ir.PointerType(), ir.IntType(64)
        kind = ir.FunctionType(ir.IntType(32), [pointer, pointer, pointer, word, word, pointer])
        slot = builder.alloca(word)
        builder.call(_function_at(builder, values[0], kind), [slot, slot, *values[1:]])
        return context.get_dummy_value()

    return types.void(types.int64, args, types.int64, types.int64, scratch), generate


class _Callee:
    """A pointer to a function of known type: llvmlite's call asks the callee; opaque pointers cannot say."""

    def __init__(self, pointer: Any, kind: Any) -> None:
        self.function_type, self.type, self.get_reference = kind, pointer.type, pointer.get_reference


def _function_at(builder: Any, address: Any, kind: Any) -> Any:
    return _Callee(builder.inttoptr(address, ir.PointerType()), kind)


@intrinsic
def atomic_add(_typing: Any, pointer: Any, _index: Any, _value: Any) -> Any:
    """Add to pointer[index] (int64) and return what it held before."""

    def generate(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        place = builder.gep(values[0], [values[1]], source_etype=ir.IntType(64))
        return builder.atomic_rmw("add", place, values[2], "seq_cst")

    return types.int64(pointer, types.int64, types.int64), generate


@intrinsic
def atomic_load(_typing: Any, pointer: Any, _index: Any) -> Any:
    """pointer[index] (int64) as other threads see it."""

    def generate(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        place = builder.gep(values[0], [values[1]], source_etype=ir.IntType(64))
        return builder.load_atomic(place, "seq_cst", 8, typ=ir.IntType(64))

    return types.int64(pointer, types.int64), generate


@intrinsic
def pause(_typing: Any) -> Any:
    """Tell the core that this thread waits in a loop."""

    def generate(context: Any, builder: Any, _signature: Any, _values: Any) -> Any:
        if platform.machine().lower() in ("x86_64", "amd64"):
            kind = ir.FunctionType(ir.VoidType(), [])
            name = "llvm.x86.sse2.pause"
            found = builder.module.globals.get(name)
            builder.call(found or ir.Function(builder.module, kind, name), [])
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def yield_thread(_typing: Any, _function: Any) -> Any:
    """Call the system's function, at an address, that gives up the core."""

    def generate(context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        kind = ir.FunctionType(ir.IntType(32), [])
        builder.call(_function_at(builder, values[0], kind), [])
        return context.get_dummy_value()

    return types.void(types.int64), generate
