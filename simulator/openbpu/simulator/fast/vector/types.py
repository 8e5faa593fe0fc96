"""LLVM types and small builders shared by the vector kernels."""

from __future__ import annotations

from typing import Any

from llvmlite import ir

I1 = ir.IntType(1)
I8 = ir.IntType(8)
I16 = ir.IntType(16)
I32 = ir.IntType(32)
I64 = ir.IntType(64)
F64 = ir.DoubleType()
VOID = ir.VoidType()
PTR = ir.PointerType()


def vec(kind: Any, lanes: int) -> Any:
    """The type of a vector."""
    return ir.VectorType(kind, lanes)


def const(kind: Any, value: float) -> Any:
    """A constant; for a vector type the same one in every lane."""
    return ir.Constant(kind, [value] * kind.count if isinstance(kind, ir.VectorType) else value)


def at(builder: Any, pointer: Any, index: Any, kind: Any) -> Any:
    """The address of pointer[index], elements of `kind`."""
    where = const(I64, index) if isinstance(index, int) else index
    return builder.gep(pointer, [where], source_etype=kind)


def load(builder: Any, pointer: Any, kind: Any, align: int = 1) -> Any:
    """*pointer."""
    return builder.load(pointer, typ=kind, align=align)


def splat(builder: Any, value: Any, lanes: int) -> Any:
    """`value` in every lane."""
    whole = ir.Constant(vec(value.type, lanes), ir.Undefined)
    first = builder.insert_element(whole, value, const(I32, 0))
    return builder.shuffle_vector(first, whole, const(vec(I32, lanes), 0))


def shuffle(builder: Any, a: Any, b: Any, lanes: list[int]) -> Any:
    """The lanes of a and b (numbered on from a) in a new order."""
    return builder.shuffle_vector(a, b, ir.Constant(vec(I32, len(lanes)), lanes))


def function(module: Any, name: str, arguments: list[Any], result: Any = VOID) -> Any:
    """A new function; pointers it gets never alias."""
    made = ir.Function(module, ir.FunctionType(result, arguments), name)
    for argument in made.args:
        if isinstance(argument.type, ir.PointerType):
            argument.add_attribute("noalias")
    made.attributes.add("nounwind")
    return made


def external(module: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    """An LLVM intrinsic, declared once."""
    found = module.globals.get(name)
    return found or ir.Function(module, ir.FunctionType(result, arguments), name)
