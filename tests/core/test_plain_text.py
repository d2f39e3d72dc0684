import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.plain_text import LONGEST, plain, plain_lines, plain_values


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "the candidate is ready: 5 % of Zürich, 日本, 🙂",
            "the candidate is ready: 5 % of Zürich, 日本, 🙂",
        ),
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("\x9b31m", "\\x9b31m"),
        ("ok\r\nPromoted: all is well", "ok  Promoted: all is well"),
        ("next\u2028line\u0085and\x0bpage", "next line and page"),
        ("abc\u202edcb", "abc\\u202edcb"),
        ("zero\u200bwidth", "zero\\u200bwidth"),
        ("half \ud83d a pair", "half \\ud83d a pair"),
        ("nul\x00, del\x7f", "nul\\x00, del\\x7f"),
    ],
)
def test_what_a_terminal_would_obey_is_shown_by_its_code(text: str, shown: str) -> None:
    assert plain(text) == shown


def test_a_long_text_is_cut_with_a_sign_of_it() -> None:
    assert plain("x" * 1_000_000) == "x" * (LONGEST - 3) + "..."
    assert plain("\x1b" * 10, longest=20) == "\\x1b\\x1b\\x1b\\x1b\\..."
    assert plain("x" * 20, longest=20) == "x" * 20


@given(st.text(st.characters()))
def test_any_text_becomes_one_printable_line_which_stays_as_it_is(text: str) -> None:
    shown = plain(text)
    assert shown.isprintable()
    assert len(shown) <= LONGEST
    assert plain(shown) == shown
    shown.encode()


@given(st.text())
def test_what_is_plain_already_is_not_touched(text: str) -> None:
    printable = "".join(filter(str.isprintable, text))
    assert plain(printable) == printable


def test_the_lines_of_our_own_texts_stay() -> None:
    text = "it was deployed:\n  gcloud run services update-traffic \x1b[8mweb\n\nand so on"
    assert (
        plain_lines(text) == "it was deployed:\n  gcloud run services update-traffic \\x1b[8mweb\n\nand so on"
    )


def test_values_keep_their_form_and_every_text_in_them_is_plain() -> None:
    values = {"a\x1b": ["b\n", {"c": ("\u202e", 1, 2.5, None, True)}], "d": ValueError("\x07")}
    assert plain_values(values) == {"a\\x1b": ["b ", {"c": ["\\u202e", 1, 2.5, None, True]}], "d": "\\x07"}
    assert json.dumps(plain_values(values))
