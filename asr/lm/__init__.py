"""Text → language models: n-gram estimation, ARPA files, recurrent models."""
