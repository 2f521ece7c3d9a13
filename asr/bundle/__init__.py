"""The model folder: its file names, reading, writing, the model card, weights of 8 bits."""
