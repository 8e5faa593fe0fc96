"""What a program is: tensors, operators and the words they use, without bytes and cycles."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields, replace

import numpy as np
import pytest

from arch.samples import every_operator
from openbpu.arch import errors
from openbpu.arch.dtypes import DType
from openbpu.arch.errors import OpenbpuError, must
from openbpu.arch.isa import INSTRUCTIONS, SERVES
from openbpu.arch.program import OPERATORS, Lut, Move, Operator, Program, Space, Tensor

ENGINES = ("TAE", "AAE", "VAE", "TRANS", "VPU", "SPU")
COMPUTING = tuple(d for d in DType if d in (DType.INT8, DType.INT16, DType.INT32))


def tensor(shape: tuple[int, ...], space: Space = Space.CONST, address: int = 0) -> Tensor:
    return Tensor("t", shape, DType.INT16, space, address)


def program(*tensors: Tensor, constants: bytes = b"") -> Program:
    image = np.frombuffer(constants, np.uint8)
    return Program("p", "nash-e", tensors, (), (), (), image, ddr_bytes=0)


# --- tensors ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "nbytes"), [((), 2), ((3,), 6), ((2, 3, 4), 48), ((4, 0, 2), 0)])
def test_nbytes_counts_dense_elements(shape: tuple[int, ...], nbytes: int) -> None:
    assert tensor(shape).nbytes == nbytes


def test_a_tensor_of_billions_of_elements_has_its_size() -> None:
    assert tensor((1 << 20, 1 << 20)).nbytes == 1 << 41


def test_a_constant_is_read_at_its_address_with_its_type_and_shape() -> None:
    data = np.arange(6, dtype=np.int16)
    found = program(tensor((2, 3), address=64), constants=bytes(64) + data.tobytes()).constant(0)
    np.testing.assert_array_equal(found, data.reshape(2, 3))
    assert found.dtype == np.int16


def test_a_constant_cannot_be_written() -> None:
    found = program(tensor((1,)), constants=b"\1\0").constant(0)
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 2


def test_the_root_of_a_view_of_a_view_owns_the_bytes() -> None:
    made = program(tensor((6,), Space.DDR), tensor((2, 3), Space.VIEW, 0), tensor((3, 2), Space.VIEW, 1))
    assert [made.root(i) for i in range(3)] == [0, 0, 0]


def test_programs_with_other_constants_compare_equal_by_their_tables() -> None:
    one = every_operator()
    assert replace(one, constants=one.constants.copy()) == one
    assert replace(one, march="bayes-e") != one


# --- operators --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", OPERATORS, ids=lambda k: k.__name__)
def test_every_operator_says_its_engine_and_its_formula(kind: type[Operator]) -> None:
    text = kind.__doc__ or ""
    assert text.split(".")[0].split("/")[0] in ENGINES
    assert "y" in text or "`numerics." in text


@pytest.mark.parametrize("kind", OPERATORS, ids=lambda k: k.__name__)
def test_every_operator_belongs_to_an_instruction_beside_loads_stores_and_moves(kind: type[Operator]) -> None:
    own = [cls.__name__ for cls, kinds in SERVES.items() if kind in kinds and kinds != OPERATORS]
    assert own or kind is Move


def test_operators_and_instructions_have_names_of_their_own() -> None:
    names = [c.__name__ for c in (*OPERATORS, *INSTRUCTIONS)]
    assert len(set(names)) == len(names)


def test_operators_cannot_be_changed() -> None:
    lut = Lut(inputs=(0,), outputs=(1,), table_id=2)
    with pytest.raises(FrozenInstanceError):
        lut.table_id = 3  # type: ignore[misc]  # what the test is about


def test_constants_of_an_operator_are_its_id_fields_that_are_present() -> None:
    for segment in every_operator().segments:
        for op in getattr(segment, "operators", ()):
            ids = [getattr(op, f.name) for f in fields(op) if f.name.endswith("_id")]
            assert op.constants() == tuple(i for i in ids if i >= 0)


def test_an_absent_table_is_no_constant() -> None:
    op = next(o for o in _operators() if getattr(o, "table_id", -1) >= 0)
    assert op.table_id in op.constants()  # type: ignore[attr-defined]  # chosen for having one
    assert len(replace(op, table_id=-1).constants()) == len(op.constants()) - 1  # type: ignore[call-arg]  # as above


def _operators() -> list[Operator]:
    return [op for segment in every_operator().segments for op in getattr(segment, "operators", ())]


# --- element types ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [d for d in DType if d is not DType.OTHER], ids=lambda d: d.value)
def test_a_dtype_finds_itself_by_its_numpy_type(dtype: DType) -> None:
    assert DType.of(dtype.numpy) is dtype
    assert dtype.nbytes == dtype.numpy.itemsize


@pytest.mark.parametrize("dtype", COMPUTING, ids=lambda d: d.value)
def test_integers_of_the_bpu_have_the_whole_range_of_their_type(dtype: DType) -> None:
    bits = 8 * dtype.nbytes
    assert (dtype.qmin, dtype.qmax) == (-(1 << bits - 1), (1 << bits - 1) - 1)
    assert dtype.is_quantized


@pytest.mark.parametrize("dtype", [d for d in DType if d not in COMPUTING], ids=lambda d: d.value)
def test_other_types_carry_no_scale_on_the_bpu(dtype: DType) -> None:
    assert not dtype.is_quantized


def test_a_type_no_tensor_can_have_is_refused() -> None:
    with pytest.raises(ValueError, match="complex64"):
        DType.of(np.dtype(np.complex64))


# --- error text -------------------------------------------------------------------------------------------


def test_an_error_says_where_what_is_allowed_what_was_found_and_what_to_do() -> None:
    assert must("compile", "opt", "0, 1 or 2", 3) == "compile: opt must be 0, 1 or 2, not 3"
    assert must("a", "b", 1, 2, "try 1") == "a: b must be 1, not 2; try 1"


def test_every_error_of_openbpu_can_be_caught_as_one() -> None:
    kinds = [v for v in vars(errors).values() if isinstance(v, type) and issubclass(v, Exception)]
    assert len(kinds) > 5
    assert all(issubclass(k, OpenbpuError) for k in kinds)
