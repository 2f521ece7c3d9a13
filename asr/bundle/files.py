"""The names of a model folder's files; `bundle.py` says what they hold. No torch."""

CONFIG, TOKENS, WEIGHTS, DECODER = "config.yaml", "tokens.json", "model.safetensors", "decoder.yaml"
LANGUAGE_MODEL, WORD_LANGUAGE_MODEL, RECURRENT_LANGUAGE_MODEL = "lm.arpa.gz", "lm.words.arpa.gz", "rnnlm"
TRAINING, CARD = "training.json", "README.md"
ONNX_NETWORK = "model.onnx"  # of an export for `asr.runtime`
SCALE = ".scale"  # follows the name of an int8 tensor in that of its scales, see `int8.py`
CHECKPOINTS = "checkpoints"  # the state of the training run; a folder
