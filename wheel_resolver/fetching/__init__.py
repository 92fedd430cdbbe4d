"""Files by URL, into the content-addressed cache, checked by their sha256."""
