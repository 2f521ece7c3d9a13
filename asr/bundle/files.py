"""The names of all files in a model folder, in an exported folder and in a decode folder.

Only this module spells them. It imports nothing, so every room may use it.
"""

# Written by `asr train`.
CONFIG = "config.yaml"  # the settings, except those of the search
DECODER = "decoder.yaml"  # the settings of the search; `asr tune` writes them anew
TOKENS = "tokens.json"  # the token table; with sub-word pieces also their sentencepiece model, in base64
WEIGHTS = "model.safetensors"  # the weights, in float32 or int8, and the means and variances for normalisation
ENCODER = "encoder.json"  # form and checksum of the pretrained encoder, if the model has one in front
TRAINING = "training.json"  # what the model was trained on, for the card
CARD = "README.md"  # the model card
CHECKPOINTS = "checkpoints"  # a folder: the state of the training run
TRAINING_LOG = "log.jsonl"  # a line per epoch
SKIPPED_STEPS = "skipped.jsonl"  # a line per training step that was skipped
TRACKED_RUN = "tracker.json"  # beside the checkpoints: by what name a tracker knows the run
TENSORBOARD = "tensorboard"  # a folder: the curves of the training
FAILED_STEPS = "failed"  # a folder: the batch of the last skipped step, if there were too many

# Written by `asr pretrain`, with `config.yaml`, `checkpoints`, `log.jsonl` and `tensorboard`, into a folder that is no
# model folder.
PRETRAINED = "pretrained.safetensors"  # the weights of a network without an output layer

# Written by `asr lm ngram --model` and `asr lm rnn --model`. Each is optional.
LANGUAGE_MODEL = "lm.arpa.gz"  # an n-gram over tokens
WORD_LANGUAGE_MODEL = "lm.words.arpa.gz"  # an n-gram over words; its words are the lexicon
RNN_LM_FOLDER = "rnnlm"  # a training run of a recurrent language model
RNN_LM_WEIGHTS = "rnnlm.safetensors"  # the file in that folder that holds the model
RNN_LM = f"{RNN_LM_FOLDER}/{RNN_LM_WEIGHTS}"

# Written by `asr tune`.
CALIBRATION = "calibration.json"  # how evidence becomes confidence
EXPECTED_ERRORS = "expected_errors.json"  # how an utterance's signs of errors become expected errors
TUNE_TRIALS = "tune.json"  # what was tried
TUNE_PLOT = "tune.png"  # the same as a picture
REJECTION = "rejection.json"  # by `asr tune --grammar`: when none of a grammar's texts counts as said

# Written by `asr adapt`.
SPEAKERS = "speakers"  # a folder: what is known of single speakers, a file each
SPEAKER_SUFFIX = ".safetensors"  # of these files

# Written by `asr diagnose`.
DIAGNOSIS = "diagnosis.json"  # gradients at the hidden states
DIAGNOSIS_PLOT = "diagnosis.png"  # the same as a picture

# All that a transcript depends on. A file that is missing counts too: it may be added later.
READ_BY_TRANSCRIBING = (
    *(CONFIG, TOKENS, WEIGHTS, DECODER, CALIBRATION, REJECTION, ENCODER),
    *(LANGUAGE_MODEL, WORD_LANGUAGE_MODEL, RNN_LM),
)

# Written by `asr features`, in a data folder.
FEATURES = "features.json"  # of which encoder the features beside it are

# Written by `asr export --format onnx`, beside a card.
ONNX_NETWORK = "model.onnx"  # recording → log-posteriors
ONNX_DESCRIPTION = "model.json"  # sample rate, frame shift, tokens
ONNX_SPEECH_DETECTOR = "speech_detector.npz"  # the weights of Silero VAD, which finds where somebody speaks
ONNX_SPEECH_DETECTOR_LICENCE = "speech_detector.LICENSE"  # the licence of these weights

# Written by `asr export --format web`, besides a page.
WEB_MODEL = "model"  # a folder: what `asr export --format onnx` writes, and the next files
WEB_FILES = "files.json"  # the names of the folder's files that the page reads
ONNX_SPEECH_DETECTOR_NETWORK = "speech_detector.onnx"  # windows → probabilities of speech, the same weights

# In a decode folder, which is often inside a model folder. Written by `asr decode`.
REFERENCES = "ref.trn"  # what was said, one utterance per line
HYPOTHESES = "hyp.trn"  # what was recognised, one utterance per line
RECOGNISED = "hyp.jsonl"  # of each utterance: audio, manifest's fields, words with times and confidences, n-best list
POSTERIORS = "posteriors.safetensors"  # of each frame the probable tokens, in 8 bits
DECODE_RUN = "run.json"  # which manifest was decoded, how, and how fast

# In a decode folder, written by `asr score`.
SCORES = "wer.json"  # the error rates
SCORES_TEXT = "wer.txt"  # the same to read, with every error
SCORES_PAGE = "report.html"  # the same as a page for the browser
SCORE_REPORTS = (SCORES, SCORES_TEXT, SCORES_PAGE)

# Written by `asr pack` and `asr push`, beside the files that they pass on.
PACKED_LIST = "files.json"  # the size and the SHA-256 of each file

# Written by `asr pull`.
PULLED = "pulled.json"  # the name of the model on the hub, with its revision

# All that is passed on. What is known of single speakers is not: it is theirs.
SHARED = (
    *READ_BY_TRANSCRIBING,
    *(TRAINING, CARD, EXPECTED_ERRORS),
    *(ONNX_NETWORK, ONNX_DESCRIPTION, ONNX_SPEECH_DETECTOR, ONNX_SPEECH_DETECTOR_LICENCE),
)

# The scales of an int8 tensor are stored under the tensor's name with this suffix, see `bundle.py`.
SCALE = ".scale"
