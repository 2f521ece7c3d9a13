"""Manifests → pages on which people listen to utterances and correct them; corrections → manifests."""
