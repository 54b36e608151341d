"""The dialect of regular expressions against Python's `re`, and the grammar made of it against both."""

import itertools
import re

import pytest
from constrained import refusal, takes
from hypothesis import given, settings
from hypothesis import strategies as st

from ingot.infer.constraint.formats import FORMATS, holds
from ingot.infer.constraint.patterns import read_pattern

ATOMS = st.sampled_from(["a", "b", "1", "中", "[ab]", "[^a]", "[a-c1]", "\\d", "\\w", "\\D", "(?:a|b1)", "(b)", "\\."])
COUNTS = st.sampled_from(["", "", "*", "+", "?", "{2}", "{1,2}", "{0,}", "*?"])
SEQUENCES = st.lists(st.builds(str.__add__, ATOMS, COUNTS), max_size=4).map("".join)
PATTERNS = st.lists(SEQUENCES, min_size=1, max_size=3).map("|".join)
TEXTS = st.text("ab1c中. ", max_size=6)


@settings(max_examples=150, deadline=None)
@given(pattern=PATTERNS, texts=st.lists(TEXTS, max_size=8))
def test_patterns_match_what_re_matches(pattern: str, texts: list[str]) -> None:
    for text in texts:
        assert read_pattern(pattern, whole=True).accepts(text) == bool(re.fullmatch(pattern, text, re.ASCII))
        assert read_pattern(pattern, whole=False).accepts(text) == bool(re.search(pattern, text, re.ASCII))


@pytest.mark.parametrize("pattern", ["^a", "a$", "^a|b$", "^$", "^(a|b)c$", "a|^b"])
def test_anchors_bind_alternatives(pattern: str) -> None:
    for length in range(4):
        for letters in itertools.product("abc", repeat=length):
            text = "".join(letters)
            assert read_pattern(pattern, whole=False).accepts(text) == bool(re.search(pattern, text)), text


@pytest.mark.parametrize("pattern", ["a+b?", "(a|中){2,3}", "[^a]", "\\d{2}|b*1", "a|ab|abc", "(?:1|a1)*"])
def test_the_grammar_takes_what_re_matches(pattern: str) -> None:
    """Every text up to four characters."""
    for length in range(5):
        for letters in itertools.product("ab1中", repeat=length):
            text = "".join(letters)
            assert takes(text, regex=pattern) == bool(re.fullmatch(pattern, text)), text


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("(?=a)b", "looking around"),
        ("(?i)a", "looking around, flags"),
        ("(a)\\1", "\\1 is not supported"),
        ("\\ba", "\\b is not supported"),
        ("\\p{L}", "\\p is not supported"),
        ("a**", "nothing to repeat"),
        ("*a", "nothing to repeat"),
        ("{2}", "nothing to repeat"),
        ("a{3,2}", "larger count"),
        ("(a", "without its )"),
        ("a)", "without its ("),
        ("[a", "ends too early"),
        ("[]", "an empty set"),
        ("[b-a]", "a range that is none"),
        ("[[:alpha:]]", "sets by name"),
        ("a^b", "an anchor inside"),
        ("(a$)", "an anchor inside"),
        ("\\u12", "without its digits"),
        ("(a{1000}){1000}", "counts multiplied out"),
        ("((a{100}){100}){100}", "counts multiplied out"),
        ("(" * 60 + ")" * 60, "groups inside groups"),
        ("(" * 5000, "groups inside groups"),
    ],
)
def test_what_cannot_be_held_is_refused_with_its_place(pattern: str, reason: str) -> None:
    with pytest.raises(ValueError) as caught:
        read_pattern(pattern, whole=True)
    assert reason in str(caught.value)
    assert "at character" in str(caught.value)
    assert reason in refusal(regex=pattern)


def test_half_a_character_is_refused() -> None:
    with pytest.raises(ValueError, match="lone surrogate"):
        read_pattern("a\ud800", whole=True)
    assert "unicode" in refusal(regex="a\ud800")
    assert "lone surrogate" in refusal(json_schema={"properties": {"a": {"pattern": "\ud800"}}})


def test_a_check_that_goes_back_and_forth_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    from ingot.infer.constraint import patterns, proof

    monkeypatch.setattr(patterns, "TIMEOUT", 0.05)
    bomb = read_pattern("(a|a)*(a|b|c)[^c]", whole=True)
    assert proof.pattern_proof(bomb)("a" * 60 + "c") == "matching took too long"


GOOD = {
    "date": ["2024-02-29", "2000-02-29", "1999-12-31"],
    "time": ["23:59:59Z", "00:00:00.5+08:00"],
    "date-time": ["2024-02-29T23:59:59Z", "2025-01-01T00:00:00.123456-05:30"],
    "duration": ["P1Y", "P1Y2M3D", "PT1H30M", "P3W", "P1DT12H", "PT5S"],
    "email": ["a@b", "first.last+x@mail.example.org"],
    "hostname": ["localhost", "a-b.example.org"],
    "ipv4": ["0.0.0.0", "255.10.1.9"],
    "ipv6": ["::", "::1", "1:2:3:4:5:6:7:8", "fe80::a:b", "1::"],
    "uuid": ["123e4567-E89B-12d3-a456-426614174000"],
    "uri": ["http://example.org:80/a%20b?q=1#x", "mailto:a@b", "urn:isbn:1"],
}
BAD = {
    "date": ["2023-02-29", "1900-02-29", "2024-13-01", "2024-04-31", "0000-01-01", "20240229"],
    "time": ["24:00:00Z", "12:60:00Z", "12:00:00", "12:00Z"],
    "date-time": ["2023-02-29T00:00:00Z", "2024-02-29 00:00:00Z", "2024-02-29"],
    "duration": ["P", "PT", "P1D1Y", "P1Y1D", "P1WT1H", "1Y", "P1Y2W"],
    "email": ["a", "a@", "@b", ".a@b", "a..b@c", "a@-b"],
    "hostname": ["-a", "a-", "a..b", "", "a" * 64, "a_b"],
    "ipv4": ["256.1.1.1", "01.2.3.4", "1.2.3"],
    "ipv6": [":::", "1:2:3:4:5:6:7", "1::2::3", "12345::"],
    "uuid": ["123e4567e89b12d3a456426614174000", "123e4567-e89b-12d3-a456-42661417400g"],
    "uri": ["//x", "a", "http://x y", "http://[::1", "1a:b", "http://中"],
}


@pytest.mark.parametrize("name", FORMATS)
def test_formats_hold_good_texts_and_no_bad_ones(name: str) -> None:
    schema = {"type": "string", "format": name}
    for text in GOOD[name]:
        assert holds(name, text), text
        assert takes(f'"{text}"', json_schema=schema), text
    for text in BAD[name]:
        assert not holds(name, text), text
        assert not takes(f'"{text}"', json_schema=schema), text
        assert not takes(f'"{text}"', json_schema=schema | {"enum": [*GOOD[name], text]}), text


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_stands_beside_a_pattern(name: str) -> None:
    text = GOOD[name][0]
    schema = {"type": "string", "format": name, "pattern": f"^{re.escape(text)[:2].rstrip(chr(92))}"}
    assert takes(f'"{text}"', json_schema=schema)
    assert refusal(json_schema=schema | {"pattern": "^☃"}) != ""


def test_a_long_pattern_is_refused_before_it_is_read() -> None:
    with pytest.raises(ValueError, match="60000 characters, 50000 are taken"):
        read_pattern("a|" * 30_000, whole=True)
