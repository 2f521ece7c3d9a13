"""Audio → transcript: the recogniser, streams, decoding of manifests, alignment of a given text."""
