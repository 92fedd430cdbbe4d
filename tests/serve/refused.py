"""What a refusal looks like, on every route."""

from __future__ import annotations


def error_of(answer, status, code=None, field=None):
    """Check the shape of an error's body, and that it is the expected one; its inner object."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert set(answer.json()) == {"error"}
    error = answer.json()["error"]
    assert set(error) == {"code", "message", "field", "remedy"}
    assert error["message"]
    assert error["remedy"]
    assert code is None or error["code"] == code
    assert error["field"] == field
    return error
