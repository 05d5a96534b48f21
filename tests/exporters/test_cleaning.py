import pytest

from querywatch.exporters.cleaning import clean


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("users", "users", id="plain"),
        pytest.param("größe", "größe", id="valid-unicode"),
        pytest.param("\U0001f600", "\U0001f600", id="beyond-the-basic-plane"),
        pytest.param("a\udcffb", "a\ufffdb", id="surrogate-of-an-invalid-byte"),
        pytest.param("\ud83d", "\ufffd", id="half-of-a-pair"),
        pytest.param("x" * 10, "x" * 10, id="at-the-limit"),
        pytest.param("x" * 11, "x" * 9 + "…", id="over-the-limit"),
        pytest.param("", "", id="empty"),
    ],
)
def test_gives_valid_text_of_bounded_length(text, expected):
    assert clean(text, 10) == expected
