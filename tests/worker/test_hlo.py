"""Reading XLA's optimised programs."""

from jaxaccel.worker.hlo import array_operations, operations, operations_outside, outline

PROGRAM = """\
HloModule jit_f, is_scheduled=true

%added (p.0: f32[4], p.1: f32[4]) -> f32[4] {
  %p.0 = f32[4]{0} parameter(0)
  %p.1 = f32[4]{0} parameter(1)
  ROOT %add.1 = f32[4]{0} add(%p.0, %p.1), metadata={op_name="jit(f)/while/body/add"}
}

%body.2 (arg: (s32[], f32[4], f32[4])) -> (s32[], f32[4], f32[4]) {
  %arg = (s32[], f32[4]{0}, f32[4]{0}) parameter(0)
  %sum = f32[4]{0} fusion(%a, %b), kind=kLoop, calls=%added
  ROOT %tuple.1 = (s32[], f32[4]{0}, f32[4]{0}) tuple(%i, %sum, %b)
}

%condition.3 (arg.1: (s32[], f32[4], f32[4])) -> pred[] {
  ROOT %less = pred[] compare(%i, %n), direction=LT
}

ENTRY %main.9 (a.1: f32[4,4], x.1: f32[4]) -> f32[4] {
  %dot.1 = f32[4]{0} dot(%a.1, %x.1), metadata={op_name="jit(f)/while/body/dot_general"}
  %while.1 = (s32[], f32[4]{0}, f32[4]{0}) while(%init), condition=%condition.3, body=%body.2
  ROOT %out = f32[4]{0} get-tuple-element(%while.1), index=1
}
"""


def test_all_operations_of_a_program_are_found() -> None:
    assert {"dot", "while", "fusion", "add", "compare"} <= operations(PROGRAM)


def test_only_what_a_loop_repeats_is_inside_it() -> None:
    inside = operations(PROGRAM, inside_loops=True)
    assert {"fusion", "add", "tuple"} <= inside
    assert "dot" not in inside
    assert "compare" not in inside


def test_operations_on_arrays_are_told_from_those_on_single_numbers() -> None:
    assert "dot" in array_operations(PROGRAM)
    assert "compare" not in array_operations(PROGRAM)  # of the loop's count
    assert array_operations(PROGRAM, inside_loops=True) == {"parameter", "fusion", "add"}
    narrow = "ENTRY %m (x: s4[16,1]) -> s4[16,1] {\n  ROOT %n = s4[16,1]{1,0:E(4)} negate(%x)\n}"
    assert array_operations(narrow) == {"negate"}
    assert array_operations(narrow.replace("16", "1")) == set()


def test_a_program_without_a_loop_has_nothing_inside_one() -> None:
    assert (
        operations("ENTRY %m (x: f32[4]) -> f32[4] {\n  ROOT %n = f32[4]{0} negate(%x)\n}", inside_loops=True)
        == set()
    )


def test_what_a_loop_does_not_repeat_is_outside_even_where_another_of_its_name_is_within() -> None:
    twice = PROGRAM.replace(
        "%sum = f32[4]{0} fusion", "%again = f32[4]{0} dot(%a, %b)\n  %sum = f32[4]{0} fusion"
    )
    assert "dot" in operations(twice, inside_loops=True)
    assert "dot" in operations_outside(twice)
    assert "fusion" not in operations_outside(twice)


def test_a_program_is_the_same_whatever_its_names_are_and_in_whatever_order_it_comes() -> None:
    renamed = PROGRAM.replace("%sum", "%total.7").replace("jit(f)/", "jit(call)/call_exported/")
    first, second = "  %p.0 = f32[4]{0} parameter(0)\n", "  %p.1 = f32[4]{0} parameter(1)\n"
    swapped = renamed.replace(first + second, second + first)
    assert swapped != renamed != PROGRAM
    assert outline(swapped) == outline(PROGRAM)


def test_another_shape_or_operation_makes_another_program() -> None:
    assert outline(PROGRAM.replace("f32[4]{0} add", "f32[4]{0} subtract")) != outline(PROGRAM)
    assert outline(PROGRAM.replace("kind=kLoop", "kind=kInput")) != outline(PROGRAM)
    assert outline(PROGRAM.replace("%dot.1 = f32[4]", "%dot.1 = f64[4]")) != outline(PROGRAM)
