"""Pages that people open in a browser: one look, one way from data to HTML."""
