"""Questions and answers: options, this machine, tables, JSON, the coverage page."""
