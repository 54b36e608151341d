"""Formats of strings that are enforced: a pattern for the grammar, and a check of its own for the finished text.

A pattern may allow fewer texts than the format does (years 1000 to 2999, no leap seconds, no quoted mailboxes), never
more. Formats that are not here are refused, because a grammar without one would let anything pass.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time
from urllib.parse import urlsplit
from uuid import UUID

from ingot.infer.constraint.patterns import Pattern, read_pattern

MONTHS = r"(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\d|30)|02-(?:0[1-9]|1\d|2[0-8]))"
LEAP = r"(?:[12]\d(?:0[48]|[2468][048]|[13579][26])|(?:12|16|20|24|28)00)-02-29"
DATE = rf"(?:[12]\d{{3}}-{MONTHS}|{LEAP})"
TIME = r"(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,6})?(?:Z|[+-](?:[01]\d|2[0-3]):[0-5]\d)"
AMOUNT = r"\d{1,9}"
DAYS, CLOCK = (
    rf"(?:{AMOUNT}{a}(?:{AMOUNT}{b}(?:{AMOUNT}{c})?)?|{AMOUNT}{b}(?:{AMOUNT}{c})?|{AMOUNT}{c})"
    for a, b, c in ("YMD", "HMS")
)
DURATION = rf"P(?:{AMOUNT}W|{DAYS}(?:T{CLOCK})?|T{CLOCK})"
LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
HOSTNAME = rf"{LABEL}(?:\.{LABEL}){{0,2}}"
ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]{1,20}"
EMAIL = rf"{ATOM}(?:\.{ATOM}){{0,2}}@{HOSTNAME}"
BYTE = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
IPV4 = rf"{BYTE}(?:\.{BYTE}){{3}}"
HEX = "[0-9A-Fa-f]{1,4}"
IPV6 = "|".join(
    [rf"(?:{HEX}:){{7}}{HEX}", "::", rf"::{HEX}(?::{HEX}){{0,5}}", rf"{HEX}(?::{HEX}){{0,5}}::"]
    + [rf"{HEX}(?::{HEX}){{{n - 1}}}::{HEX}(?::{HEX}){{0,{5 - n}}}" for n in range(1, 6)]
)
UUID4 = "[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
PATH, QUERY = (rf"(?:[A-Za-z0-9._~!$&'()*+,;=:@/{also}-]|%[0-9A-Fa-f]{{2}})*" for also in ("", "?"))
AUTHORITY = rf"//{HOSTNAME}(?::[1-9]\d{{0,3}})?(?:/{PATH})?"
URI = rf"[A-Za-z][A-Za-z0-9+.-]{{0,30}}:(?:{AUTHORITY}|[A-Za-z0-9]{PATH})(?:\?{QUERY})?(?:#{QUERY})?"


@dataclass(frozen=True)
class Format:
    """pattern: for the whole text. check: raises ValueError, or gives False."""

    pattern: Pattern
    check: Callable[[str], object]


def _is_host(text: str) -> bool:
    labels = text.split(".")
    return len(text) <= 253 and all(0 < len(label) < 64 and label.strip("-") == label for label in labels)


def _is_email(text: str) -> bool:
    name, at, host = text.partition("@")
    return bool(at) and 0 < len(name) <= 64 and ".." not in name and name.strip(".") == name and _is_host(host)


def _is_duration(text: str) -> bool:
    head, _, tail = text.partition("T")
    days, clock = ("".join(letter for letter in part if letter.isalpha()) for part in (head[1:], tail))
    return days + clock == "W" or (days + clock != "" and days in "YMD" and clock in "HMS")


def _is_uuid(text: str) -> bool:
    return str(UUID(text)) == text.lower()


def _is_uri(text: str) -> bool:
    return bool(urlsplit(text).scheme) and text.isascii() and " " not in text


def _format(pattern: str, check: Callable[[str], object]) -> Format:
    return Format(read_pattern(pattern, whole=True), check)


FORMATS: dict[str, Format] = {
    "date": _format(DATE, date.fromisoformat),
    "time": _format(TIME, time.fromisoformat),
    "date-time": _format(f"{DATE}T{TIME}", datetime.fromisoformat),
    "duration": _format(DURATION, _is_duration),
    "email": _format(EMAIL, _is_email),
    "hostname": _format(HOSTNAME, _is_host),
    "ipv4": _format(IPV4, ipaddress.IPv4Address),
    "ipv6": _format(IPV6, ipaddress.IPv6Address),
    "uuid": _format(UUID4, _is_uuid),
    "uri": _format(URI, _is_uri),
}


def holds(name: str, text: str) -> bool:
    """Is this text of that format?"""
    try:
        return FORMATS[name].pattern.accepts(text) and FORMATS[name].check(text) is not False
    except ValueError:
        return False
