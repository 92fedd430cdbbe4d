"""From a request to samples: text, language, reference audio."""
