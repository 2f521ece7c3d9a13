"""Models → a server that transcribes for other programs: OpenAI's requests, limits, health, metrics."""
