"""What hides secrets: no password that a URL may hold is left in the text, wherever the URL stands in it."""

from __future__ import annotations

import string

from hypothesis import strategies as st

from matrix.masking import mask
from matrix.shown import shown
from tests.fuzz.target import Target

# RFC 3986: userinfo = *( unreserved / pct-encoded / sub-delims / ":" ); people write "/", "?", "#" and "@" there too.
_USERINFO = string.ascii_letters + string.digits + "-._~!$&'()*+,;=:%@/?#"
_AROUND = st.sampled_from(
    ["", " ", "index ", "error: `", "'", '"', "(", "see <", "UV_INDEX=", "--index-url=", "\n", "a, "]
)
_AFTER = st.sampled_from(["", " ", "` failed", "'", '"', ")", "> for more", "\n", ", and others", ": not found"])


def check_mask(given: tuple[str, str, str, str]) -> None:
    """A secret between ``//`` and ``@`` is gone, raw and shown; what is not part of the URL stays readable."""
    before, scheme, secret, after = given
    text = f"{before}{scheme}user:{secret}@index.example/simple/{after}"
    for masked in (mask(text), mask(shown(text))):
        assert secret not in masked
        assert "index.example" in masked or "***" in masked
    assert len(mask(text * 50)) <= 60 * len(text) + 1_000


_SECRETS = st.text(_USERINFO, min_size=12, max_size=40).filter(lambda text: len(set(text)) > 6)

TARGETS = (
    Target(
        "mask",
        st.tuples(_AROUND, st.sampled_from(["https://", "http://", "HTTPS://", "socks5://"]), _SECRETS, _AFTER),
        check_mask,
        examples=300,
    ),
)
