"""Phone numbers: one spelling for the wire and for matching, and a masked one for logs.

Conservative by intent: a wrong number tells a stranger about somebody's purchases, while a missing one only makes the
delivery wait until accounting has a better one. So what could be two numbers, an extension or a placeholder is none.
"""

from __future__ import annotations

import re
from functools import lru_cache

# Digits of every script, and what people put between them. No letters: they are vanity numbers, extensions or remarks.
# No slash, comma or semicolon: they part two numbers, and the library would glue "1234/5678" together.
_SPELLING = re.compile(r"[+\uff0b]?[\d ().\u00a0\u2007\u2009\u202f\u3000\uff08\uff09\u2010-\u2015\u2212\uff0d-]+")
# Direction marks and zero-width characters come along when a number is copied from a telephone's contacts.
_INVISIBLE = dict.fromkeys((0xAD, *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x206A), 0xFEFF))
_SPELLING_MAX = 40  # characters; the longest number has 15 digits
_ZEROS = "0000000"  # a subscriber number of zeros is valid by the numbering plan, and typed by cashiers in a hurry


def normalise(raw: str | None, region: str) -> str | None:
    """Return the number in E.164, or None when it is not certainly one valid number.

    `region` is the ISO 3166 country whose numbers are written without a country code. A miss of the cache costs about
    15 µs, a hit 0.1 µs.
    """
    return _normalise(raw, region) if raw else None


@lru_cache(maxsize=32_768)
def _normalise(raw: str, region: str) -> str | None:
    # Imported late: it takes as long as everything else that most commands import from `rules`, and few meet a phone.
    # A worker calls `prepare` before it has a claim in its hands.
    import phonenumbers

    text = raw.translate(_INVISIBLE).strip()
    if len(text) > _SPELLING_MAX or not _SPELLING.fullmatch(text):
        return None
    try:
        number = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        return None
    if number.extension or _is_placeholder(str(number.national_number)) or not phonenumbers.is_valid_number(number):
        return None
    return str(phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164))


def prepare() -> None:
    """Load the library now rather than with the first number."""
    import phonenumbers  # noqa: F401


def _is_placeholder(national: str) -> bool:
    return national.endswith(_ZEROS) or len(set(national)) == 1


def is_region(region: str) -> bool:
    """Say whether the library knows the region, so that a configuration can be refused before any number is lost."""
    import phonenumbers

    return region in phonenumbers.SUPPORTED_REGIONS


# How many digits a country code has follows from its first two (ITU-T E.164, list of assigned codes; a test compares
# with the library). Written out because masking stands in the path of every log line.
_COUNTRY_CODE = re.compile(r"\+(?:[17]|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]|\d{3})")
_DIGITS_MIN = 7  # fewer are no telephone number, and its last two would be a good part of it
_DIGITS = re.compile(r"\d")


def mask(text: str) -> str:
    """Hide a phone number but for its country code and last two digits: `+380501234589` → `+380*******89`.

    Without a plus the country code cannot be told from the rest, and is hidden too. What is no number is hidden whole.
    """
    digits = "".join(_DIGITS.findall(text))
    if len(digits) < _DIGITS_MIN:
        return "***" if text else ""
    number = "+" + digits if text.lstrip().startswith("+") else digits
    found = _COUNTRY_CODE.match(number)
    shown = found.group() if found else ""
    return f"{shown}{'*' * (len(number) - len(shown) - 2)}{digits[-2:]}"


# What has many digits and is no phone stays legible: instants, addresses, UUIDs. Only then comes what could be one:
# seven digits and more behind a plus (also as it stands in a URL), nine and more without. The first character is a
# class, with what it was looked up behind it: so the search skips over letters three times faster.
_SEARCH = re.compile(
    r"""[\d+%A-Fa-f](?:
      (?<=\d)(?P<instant>\d{3}-\d\d-\d\d[T\x20]\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?)
    | (?<=[\dA-Fa-f])(?P<uuid>[0-9A-Fa-f]{7}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})
    | (?<=[1-9])(?<![\d.]\d)(?P<address>\d{0,2}(?:\.(?:0|[1-9]\d{0,2})){3}(?![\d.]))
    | (?:(?<=\+)|(?<=%)2[Bb])[\x20(]?(?:\d[\x20().\u00a0-]{0,2}){6,}\d
    | (?<=\d)(?:[\x20().\u00a0-]{0,2}\d){8,}
    )""",
    re.VERBOSE,
)
# Most texts hold no number at all, and this finds that out five times faster than the search above.
_MANY_DIGITS = re.compile(r"\d(?:[ ().\u00a0-]{0,2}\d){6}")


def mask_all(text: str) -> str:
    """Hide every digit run in a free text that could be a phone number, however it is punctuated.

    A long number that is none (an order number of nine digits) is hidden too: better unread than read by a stranger.
    """
    return _SEARCH.sub(_mask_found, text) if _MANY_DIGITS.search(text) else text


def _mask_found(found: re.Match[str]) -> str:
    text = found.group()
    if found.lastgroup in {"instant", "uuid"} or (found.lastgroup == "address" and _is_address(text)):
        return text
    return mask("+" + text[3:] if text.startswith("%") else text)


def _is_address(text: str) -> bool:
    return all(int(part) <= 255 for part in text.split("."))
