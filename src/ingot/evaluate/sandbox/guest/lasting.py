"""Whether tests could leave anything behind in the checker that runs them, or see what others left.

Judged before they run, from their compiled code: they may set no attribute, all that they import must be on a list, and
so must every name that they look up: functions that change nothing but what they are given, methods of plain values;
names that the tests themselves or the program give may stand beside it. So no module, class or setting of the checker
is within their reach, whatever values a program answers with. A list of what is harmless, so that tests with a name
nobody thought of get a checker to themselves.
"""

from __future__ import annotations

import types
from collections import deque
from collections.abc import Collection
from opcode import opmap

_SETTING = {opmap["STORE_ATTR"], opmap["DELETE_ATTR"]}
_DEFINING = {opmap["STORE_NAME"]}
_IMPORTING = {opmap["IMPORT_NAME"], opmap["IMPORT_FROM"]}
_VALUES = (str, bytes, bytearray, int, float, complex, list, tuple, dict, set, frozenset, range, deque)
_HARMLESS = frozenset(
    {name for kind in _VALUES for name in dir(kind) if not name.startswith("_")}.union(
        """
        __name__ abs all any ascii bin bool bytearray bytes callable chr complex dict divmod enumerate filter float
        format frozenset hash hex int isinstance issubclass iter len list map max min next object oct ord pow print
        range repr reversed round set slice sorted str sum tuple type zip
        ArithmeticError AssertionError AttributeError BaseException EOFError Exception IndexError KeyError LookupError
        MemoryError NameError NotImplementedError OverflowError RecursionError RuntimeError StopIteration TypeError
        UnicodeError ValueError ZeroDivisionError
        math acos acosh asin asinh atan atan2 atanh cbrt ceil comb copysign cos cosh degrees dist e erf erfc exp exp2
        expm1 fabs factorial floor fmod frexp fsum gamma gcd hypot inf isclose isfinite isinf isnan isqrt lcm ldexp
        lgamma log log10 log1p log2 modf nan nextafter perm pi prod radians sin sinh sqrt tan tanh tau trunc ulp
        random Random choice choices randint randrange sample seed shuffle uniform
        copy deepcopy
        string ascii_letters ascii_lowercase ascii_uppercase digits hexdigits octdigits punctuation whitespace
        collections Counter OrderedDict defaultdict most_common move_to_end total
        itertools accumulate chain combinations combinations_with_replacement compress cycle dropwhile from_iterable
        groupby islice pairwise permutations product repeat starmap takewhile zip_longest
        functools partial reduce
        re compile end findall finditer fullmatch group groups match search span split start sub
        typing Any Callable Dict FrozenSet Generator Iterable Iterator List Mapping Optional Sequence Set Tuple Union
        """.split()  # noqa: SIM905
    )
)


def names_of(code: types.CodeType) -> set[str]:
    """All names that code looks up, with those of the functions in it."""
    return set().union(*(part.co_names for part in _parts(code)))


def is_lasting(codes: Collection[types.CodeType], given: Collection[str]) -> bool:
    """Of the code of modules that run one after the other in one space; `given` are the program's names."""
    own = {name for code in codes for name in _operands(code, _DEFINING) if not name.startswith("__")}
    known = _HARMLESS.union(given, own)
    return any(
        not known.issuperset(part.co_names)
        or not _HARMLESS.issuperset(_operands(part, _IMPORTING))
        or not _SETTING.isdisjoint(part.co_code[::2])
        for code in codes
        for part in _parts(code)
    )


def _parts(code: types.CodeType) -> list[types.CodeType]:
    """The code, and that of the functions in it."""
    inner = (constant for constant in code.co_consts if isinstance(constant, types.CodeType))
    return [code, *(part for constant in inner for part in _parts(constant))]


def _operands(code: types.CodeType, operations: Collection[int]) -> set[str]:
    """The names that these operations of some code work on."""
    found, high = set(), 0
    for operation, argument in zip(code.co_code[::2], code.co_code[1::2], strict=True):
        argument |= high
        if operation in operations:
            found.add(code.co_names[argument])
        high = argument << 8 if operation == opmap["EXTENDED_ARG"] else 0
    return found
