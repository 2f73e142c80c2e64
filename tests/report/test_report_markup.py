"""Text is escaped unless it says that it is markup."""

import pytest

from rl_jax.report.markup import Markup, command, escape, number, percent, tag


def test_text_and_attributes_are_escaped():
    made = tag("p", "<b>&\"'", title='"><script>')
    assert "<b>" not in made
    assert "<script>" not in made
    assert made.startswith('<p title="&quot;&gt;&lt;script&gt;">&lt;b&gt;&amp;')


def test_markup_is_not_escaped_twice_and_lists_are_joined():
    assert tag("p", [tag("b", "x"), None, " < ", ["y"]]) == "<p><b>x</b> &lt; y</p>"


def test_a_string_made_of_markup_by_other_means_is_text_again():
    assert escape(tag("b", "x") + "<i>").startswith("&lt;b&gt;")
    assert isinstance(escape(Markup("<br>")), Markup)


def test_names_classes_and_void_elements():
    assert tag("div.a.b") == '<div class="a b"></div>'
    assert tag("img", alt="", class_=None, aria_hidden="true") == (
        '<img alt="" aria-hidden="true">'
    )
    assert tag("circle", cx=1.23456, r=2.0) == '<circle cx="1.23" r="2"></circle>'


def test_what_html_and_utf8_forbid_is_replaced():
    assert escape("a\0b\x1b\ud800") == "a\ufffdb\ufffd\ufffd"
    assert escape("a\tb\n") == "a\tb\n"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (float("nan"), "–"),
        (0, "0"),
        (0.0, "0"),
        (3.14159, "3.14"),
        (-41.25, "−41.2"),
        (5208.3, "5,208"),
        (256, "256"),
        (1234, "1,234"),
        (3.2e-7, "3.20e−07"),
    ],
)
def test_numbers_for_people(value, text):
    assert number(value) == text


def test_percent():
    assert percent(0.8437) == "84.4"
    assert percent(None) == "–"


def test_commands_can_be_pasted_into_a_shell():
    assert "&#x27;my runs/a&#x27;" in command("evaluate", "my runs/a")
