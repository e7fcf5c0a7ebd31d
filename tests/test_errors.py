"""What errors of other libraries come to."""

from ifam.errors import first_line


def test_one_line_of_any_error() -> None:
    assert first_line(ValueError("one\ntwo")) == "one"
    assert first_line(ValueError("\n  one\ntwo")) == "one"
    for silent in (OSError(), ValueError(" \n"), ValueError("")):
        assert first_line(silent) == type(silent).__name__
