"""Text → language models."""
