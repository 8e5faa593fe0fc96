"""Facts about the marches that ship: what is public is stated as published, the rest is not."""

import json
import re
from pathlib import Path

import pytest

from openbpu.arch.dtypes import DType
from openbpu.arch.errors import MarchError
from openbpu.arch.isa import Engine
from openbpu.arch.march import (
    CONFIDENCES,
    LIMITS,
    March,
    find_march,
    get_march,
    march_names,
    march_products,
    with_values,
)
from openbpu.arch.march.names import key_of
from openbpu.arch.timing import conv_cycles

MARCHES = march_names()
TARGETS = [name for name in MARCHES if name != "bernoulli2"]

# name, advertised TOPS, clock if published, BPU cores, alignment and NV12 stride if published
PUBLISHED = [
    ("bernoulli2", 5, 1_000_000_000, 2, None, None),
    ("bayes", 128, None, 2, None, None),
    ("bayes-e", 10, 1_000_000_000, 1, 64, 32),
    ("nash-e", 80, 1_000_000_000, 1, 64, 32),
    ("nash-m", 128, 1_500_000_000, 1, 64, 32),
    ("nash-p", 560, None, 4, 256, 64),
    ("nash-h", 420, None, 3, 256, 64),
    ("nash-b", 18, None, 1, 128, 32),
]


def fact(march: March, key: str) -> int | None:
    """The value of a number that is published, None for one that is not."""
    number = march.numbers[key]
    return number.value if number.confidence == "published" else None


@pytest.mark.parametrize(("name", "tops", "clock", "cores", "alignment", "stride"), PUBLISHED)
def test_march_states_exactly_the_public_facts_as_published(
    name: str, tops: int, clock: int | None, cores: int, alignment: int | None, stride: int | None
) -> None:
    march = get_march(name)
    keys = ("tops", "clock_hz", "cores", "alignment", "nv12_stride")
    assert [fact(march, f"chip.{key}") for key in keys] == [tops, clock, cores, alignment, stride]


@pytest.mark.parametrize("name", MARCHES)
def test_every_number_carries_unit_source_and_confidence(name: str) -> None:
    for key, number in get_march(name).numbers.items():
        assert number.unit, key
        assert number.source, key
        assert number.confidence in CONFIDENCES, key


@pytest.mark.parametrize("name", MARCHES)
def test_array_geometry_and_chip_memory_are_nowhere_called_published(name: str) -> None:
    march = get_march(name)
    hidden = [k for k in march.numbers if k.startswith(("tae.", "vae.", "aae.", "trans.", "ddr."))]
    assert all(march.numbers[k].confidence != "published" for k in [*hidden, "chip.chip_bytes"])


@pytest.mark.parametrize("name", MARCHES)
def test_file_name_is_the_march_name(name: str) -> None:
    assert get_march(name).name == name


@pytest.mark.parametrize("name", MARCHES)
def test_every_limit_has_a_number_and_a_meaning(name: str) -> None:
    assert set(get_march(name).limits) == set(LIMITS)
    assert all(LIMITS.values())


def test_no_limit_is_named_twice_in_different_units() -> None:
    units = {key: {get_march(n).numbers[f"limits.{key}"].unit for n in MARCHES} for key in LIMITS}
    assert {key: u for key, u in units.items() if len(u) != 1} == {}


@pytest.mark.parametrize("name", TARGETS)
def test_march_is_a_target(name: str) -> None:
    assert get_march(name).target


def test_bernoulli2_is_refused_for_its_power_of_two_scales() -> None:
    march = get_march("bernoulli2")
    assert not march.target
    assert "power-of-two scales" in march.reason


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nash-e", True),
        ("nash-m", True),
        ("nash-p", True),
        ("nash-h", True),
        ("nash-b", False),
        ("bayes-e", False),
    ],
)
def test_quantize_runs_on_the_bpu_where_there_is_a_vpu(name: str, expected: bool) -> None:
    march = get_march(name)
    assert march.quantize_on_bpu is expected
    assert (Engine.VPU in march.engines) is expected
    assert (march.vpu.lanes > 0) is expected


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("nash-e", DType.INT32), ("nash-m", DType.INT32), ("nash-p", DType.FLOAT32), ("nash-h", DType.FLOAT32)],
)
def test_high_precision_output(name: str, dtype: DType) -> None:
    assert get_march(name).high_precision == (dtype,)


@pytest.mark.parametrize("name", ["nash-e", "nash-m", "nash-p", "nash-h", "nash-b"])
def test_nash_multiplies_any_pair_but_two_int16(name: str) -> None:
    both = (DType.INT16, DType.INT16)
    march = get_march(name)
    assert len(march.conv_pairs) == len(march.matmul_pairs) == 3
    assert both not in march.conv_pairs
    assert both not in march.matmul_pairs


def test_softmax_is_on_the_cpu_of_bayes_unless_asked_for() -> None:
    assert get_march("bayes-e").cpu_ops["Softmax"].when == "default"
    assert get_march("bayes").cpu_ops["Erf"].when == "always"
    assert "Softmax" not in get_march("nash-e").cpu_ops


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("nash-e", "conv_kernel_max", 31),
        ("nash-m", "conv_taps_max", 65536),
        ("nash-e", "conv_dilation_max", 18),
        ("bayes-e", "conv_dilation_max", 16),
        ("bayes", "conv_taps_max", 65535),
        ("bayes-e", "rank_max", 4),
        ("nash-e", "rank_max", 10),
        ("bernoulli2", "conv_kernel_max", 7),
        ("bernoulli2", "batch_max", 128),
        ("nash-e", "avgpool_window_bytes_max", 24576),
        ("nash-e", "gather_index_max", 32768),
    ],
)
def test_limit_of_the_public_tables(name: str, key: str, value: int) -> None:
    march = get_march(name)
    assert march.limits[key] == value
    assert march.numbers[f"limits.{key}"].confidence == "published"


# Sustained TMAC/s per core of the best published networks.
@pytest.mark.parametrize(
    ("name", "sustained"), [("bayes-e", 1.46), ("nash-e", 8.6), ("nash-m", 12.9), ("nash-p", 19.1)]
)
def test_large_convolution_reaches_what_the_best_networks_sustain(name: str, sustained: float) -> None:
    march = get_march(name)
    out, channels = (16, 64, 128), 256
    cycles = conv_cycles(march, out, (channels, channels), (3, 3))
    rate = 16 * 64 * 128 * channels * 9 / cycles * march.clock_hz / 1e12
    # A network waits for transfers, too: on nash-p, whose port is narrow, for more than a third of the time.
    assert sustained <= rate <= 1.6 * sustained


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(
        MarchError,
        match=r"one of bayes-e, bayes, nash-e, .*, not 'nash-x'; did you mean 'nash-.'\?.* the path",
    ):
        get_march("nash-x")


def test_same_name_gives_the_same_object() -> None:
    assert get_march("nash-e") is get_march("nash-e")


def test_with_values_changes_a_number_in_both_places() -> None:
    march = with_values(get_march("nash-e"), {"tae.fill_cycles": 77, "ddr.burst_bytes": 128})
    assert (march.tae.fill_cycles, march.ddr.burst_bytes) == (77, 128)
    assert march.numbers["tae.fill_cycles"].value == 77
    assert get_march("nash-e").tae.fill_cycles != 77


def test_with_values_refuses_an_unknown_key() -> None:
    with pytest.raises(MarchError, match=r"not 'tae\.nothing'"):
        with_values(get_march("nash-e"), {"tae.nothing": 1})


def test_user_file_may_state_only_what_differs(tmp_path: Path) -> None:
    clock = {"value": 2_000_000_000, "unit": "Hz", "source": "a rumour", "confidence": "assumed"}
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"name": "mine", "based_on": "nash-e", "chip": {"clock_hz": clock}}))
    march = get_march(path)
    assert (march.name, march.clock_hz) == ("mine", 2_000_000_000)
    assert march.tae == get_march("nash-e").tae
    assert march.numbers["chip.clock_hz"].source == "a rumour"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        *(("X5", "bayes-e"), ("rdk x5", "bayes-e"), ("RDK_X5", "bayes-e"), ("Sunrise-X5", "bayes-e")),
        *(("S100", "nash-e"), ("rdk-s100", "nash-e"), ("s100p", "nash-m"), ("RDK S100P", "nash-m")),
        *(("S600", "nash-p"), ("J6E", "nash-e"), ("journey 6e", "nash-e"), ("Journey J6M", "nash-m")),
        *(("j6p", "nash-p"), ("J6-H", "nash-h"), ("Journey6B", "nash-b"), ("J5", "bayes")),
        *(("RDK Ultra", "bayes"), ("X3", "bernoulli2"), ("J3", "bernoulli2"), ("journey 3", "bernoulli2")),
        *(("NASH_E", "nash-e"), ("Nash E", "nash-e"), ("bayes", "bayes"), ("BAYES-E", "bayes-e")),
        ("J6E / S100", "nash-e"),
    ],
)
def test_products_and_spellings_call_a_march(text: str, name: str) -> None:
    assert get_march(text) is get_march(name)


def test_every_product_of_every_march_calls_it() -> None:
    for name, made in march_products().items():
        assert made
        for product in made:
            assert find_march(product) == find_march(product.lower()) == name


def test_no_two_marches_answer_to_one_name() -> None:
    keys = [key_of(n) for n in march_names()] + [
        key_of(p) for made in march_products().values() for p in made
    ]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("J6", "say which: J6E is nash-e, J6M is nash-m, J6P is nash-p, J6H is nash-h, J6B is nash-b"),
        ("Journey 6", "say which: J6E is nash-e"),
        ("nash", "say which: nash-e, nash-m"),
        ("S10", "say which: S100 is nash-e, S100P is nash-m"),
        ("S100Q", "did you mean 'S100'? Or give a product"),
        ("", "give a product (X5, J5, RDK Ultra, "),
        ("X5/S100", "the path of a march file"),
    ],
)
def test_a_name_that_says_too_little_is_answered_with_what_it_may_mean(text: str, said: str) -> None:
    with pytest.raises(MarchError, match=re.escape(said)):
        get_march(text)


def test_a_file_is_a_march_under_any_name(tmp_path: Path) -> None:
    for file in ("mine.json", "mine"):
        (tmp_path / file).write_text('{"based_on": "nash-e", "name": "mine"}')
        assert get_march(tmp_path / file).name == "mine"


@pytest.mark.parametrize("name", MARCHES)
def test_a_number_taken_over_from_another_march_is_the_one_that_stands_there(name: str) -> None:
    march = get_march(name)
    for key, number in march.numbers.items():
        taken = re.search(r"\bas ([a-z][\w-]*)(, (fitted|assumed) there)?(?=$|[,:;])", number.source)
        if taken and taken[1] in set(MARCHES) - {name}:
            assert number.value == get_march(taken[1]).numbers[key].value, key
