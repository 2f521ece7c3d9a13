"""A model to pass on: one file, or a repository on the Hugging Face hub; a model's name → where its files are."""
