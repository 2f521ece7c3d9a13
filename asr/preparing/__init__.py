"""Published corpora and recipes: downloads, what a recipe states, recipes for one's own manifests."""
