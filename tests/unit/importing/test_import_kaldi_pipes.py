"""Commands of a wav.scp: understood as file and channel, or refused by line; never run."""

import shutil
import subprocess

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

import asr
from asr.corpus.cut_audio import load_cut
from asr.corpus.manifest import read_manifest
from asr.errors import ManifestError
from asr.importing.kaldi import read_kaldi
from asr.importing.kaldi_pipes import piped_file

UNDERSTOOD = [
    ("cat a.wav |", "a.wav", None, False),
    ("/bin/cat 'my audio/a b.wav' |", "my audio/a b.wav", None, False),
    ("flac -c -d -s /db/84/84-1-0000.flac |", "/db/84/84-1-0000.flac", None, False),
    ("flac -cds a.flac|", "a.flac", None, False),
    ("/usr/bin/flac --decode --stdout --silent a.flac |", "a.flac", None, False),
    ("sph2pipe -f wav -p -c 1 /db/en_4065.sph |", "/db/en_4065.sph", 0, False),
    ("/kaldi/tools/sph2pipe_v2.5/sph2pipe -p -f wav -c2 a.sph |", "a.sph", 1, False),
    ("sph2pipe -f wav a.sph |", "a.sph", None, False),
    ("sox a.mp3 -t wav - |", "a.mp3", None, False),
    ("sox -V1 -t wavpcm 'a b.wav' -t wav -r 16k -b 16 -e signed-integer -c 1 - |", "a b.wav", None, True),
    ("sox a.wav -t wav - remix 2 rate -v 16000 |", "a.wav", 1, True),
    ("sox a.wav -t wav - channels 1 |", "a.wav", None, False),
    ("ffmpeg -i a.m4a -f wav - |", "a.m4a", None, False),
    (
        "/opt/ffmpeg -nostdin -v error -y -i a.mp4 -vn -ac 1 -ar 16000 -acodec pcm_s16le -f wav pipe:1 |",
        "a.mp4",
        None,
        True,
    ),
    ('ffmpeg -loglevel quiet -i "a b.m4a" -c:a pcm_s16le -f wav - 2>/dev/null |', "a b.m4a", None, False),
    ("ffmpeg -v 8 -i file:a.m4a -f wav -acodec pcm_s16le -|", "a.m4a", None, False),
    ("flac -c -d -s a.flac | sox -t wav - -r 8000 -t wav - |", "a.flac", None, True),
    ("sph2pipe -f wav -p -c 2 a.sph | ffmpeg -i pipe:0 -ar 16k -f wav - |", "a.sph", 1, True),
]

REFUSED = [
    ("| cat", "which is to get the audio"),
    ("|", "which is to get the audio, not to give it|what 'nothing' does"),
    ("nc -l 80 |", "what 'nc' does is not known"),
    ("wget -O - https://x/a.wav |", "what 'wget' does"),
    ("cat a.wav b.wav |", "'b.wav' changes the audio"),
    ("cat -v a.wav |", "'a.wav'|does not|changes the audio"),
    ("cat a.wav; rm -r x |", "with ';'"),
    ("cat a.wav > b.wav |", "with '>'"),
    ("cat a.wav & |", "with '&'"),
    ("cat $HOME/a.wav |", "a shell would replace"),
    ("cat `ls` |", "a shell would replace"),
    ("cat 'a.wav |", "quotation mark is not closed"),
    ("cat |", "names no file"),
    ("flac -c -s a.wav |", "not flac -c -d with one file"),
    ("flac -c -d --skip=1000 a.flac |", "option --skip=1000"),
    ("flac -c -d --until 5 a.flac |", "option --until"),
    ("sph2pipe -f wav -t 1:2 a.sph |", "option -t"),
    ("sph2pipe -f wav -p -c 3x a.sph |", "option -c 3x"),
    ("sph2pipe -f raw a.sph |", "option -f raw"),
    ("sph2pipe -u -f wav a.sph |", "option -u"),
    ("sph2pipe -f wav a.sph b.wav |", "'b.wav' changes the audio"),
    ("sox -v 0.5 a.wav -t wav - |", "option -v"),
    ("sox -r 8000 a.wav -t wav - |", "option -r"),
    ("sox -t raw a.raw -t wav - |", "option -t raw"),
    ("sox a.wav -t wav - trim 0 10 |", "'trim' changes"),
    ("sox a.wav -t wav - speed 1.1 |", "'speed' changes"),
    ("sox a.wav -t wav - remix 1,2 |", "'remix 1,2' changes"),
    ("sox a.wav -t wav - remix 1 remix 1 |", "'remix 1' changes"),
    ("sox a.wav -b 8 -t wav - |", "option -b 8"),
    ("sox a.wav b.wav -t wav - |", "standard output"),
    ("sox a.wav -t wav b.wav |", "standard output"),
    ("ffmpeg -ss 5 -i a.mp4 -f wav - |", "option -ss"),
    ("ffmpeg -i a.mp4 -t 5 -f wav - |", "option -t"),
    ("ffmpeg -i a.mp4 -af atempo=2 -f wav - |", "option -af"),
    ("ffmpeg -i a.mp4 -i b.mp4 -f wav - |", "option -i"),
    ("ffmpeg -i https://x/a.mp4 -f wav - |", "reads https://x/a.mp4"),
    ("ffmpeg -i a.mp4 -f wav b.wav |", "standard output"),
    ("ffmpeg -f wav - |", "no file with -i"),
    ("sox - -t wav - |", "not clear which file"),
    ("cat a.wav | sox b.wav -t wav - |", "not clear which file"),
    ("sph2pipe -f wav -c 1 a.sph | sox -t wav - -t wav - remix 1 |", "chooses a channel twice"),
]


@pytest.mark.parametrize(("command", "path", "channel", "is_resampled"), UNDERSTOOD)
def test_a_command_that_decodes_is_its_file_and_channel(command, path, channel, is_resampled):
    assert piped_file(command) == (path, channel, is_resampled)


@pytest.mark.parametrize(("command", "reason"), REFUSED)
def test_any_other_command_is_refused_with_what_is_wrong_and_the_way_out(command, reason):
    with pytest.raises(ManifestError, match=f"({reason}).*are not run. Write its output to a wav or flac file"):
        piped_file(command)


@given(st.lists(st.sampled_from(" ".join(command for command, *_ in UNDERSTOOD + REFUSED).split()), max_size=8))
def test_of_any_words_a_command_is_understood_or_refused(words):
    try:
        path, channel, _ = piped_file(" ".join(words))
    except ManifestError as error:
        path, channel, refusal = "", None, str(error)
    else:
        refusal = ""
    assert ("are not run" in refusal) is (path == "")
    assert path in " ".join(words)
    assert channel in (None, 0, 1)


@pytest.fixture
def stereo(tmp_path, rng):
    path = tmp_path / "a b.wav"
    soundfile.write(path, rng.integers(-9999, 9999, (8000, 2)).astype(np.int16), 8000)
    return path


def imported(folder, out):
    report = asr.import_kaldi(folder, out, split=asr.SplitRule(dev_share=0, test_share=0))
    return report, {cut.id: load_cut(cut) for cut in read_manifest(out / "train.jsonl.gz")}


def test_what_is_read_is_what_the_commands_write(tmp_path, stereo):
    commands = {"r1": f"cat '{stereo}' |"}
    if shutil.which("ffmpeg"):
        commands["r2"] = f"ffmpeg -v quiet -i '{stereo}' -ac 1 -c:a pcm_s16le -f wav - 2>/dev/null |"
        commands["r3"] = f"cat '{stereo}' | ffmpeg -v quiet -i - -ac 1 -c:a pcm_s16le -f wav - |"
    (tmp_path / "wav.scp").write_text("".join(f"{name} {command}\n" for name, command in commands.items()))
    (tmp_path / "text").write_text("".join(f"{name} hello\n" for name in commands))
    report, samples = imported(tmp_path, tmp_path / "out")
    for name, command in commands.items():
        wav = tmp_path / f"{name}.wav"
        wav.write_bytes(subprocess.run(command[:-1], shell=True, capture_output=True, check=True).stdout)
        written, _ = soundfile.read(wav, always_2d=True)
        np.testing.assert_allclose(samples[name], written.mean(axis=1), atol=2**-15)  # ffmpeg mixes 16-bit integers
    assert (
        f"{tmp_path}/wav.scp: {len(commands)} commands are read as the files that they decode; none is run"
        in report.notes
    )


def test_each_side_of_a_call_is_an_utterance_of_its_own(tmp_path, stereo):
    (tmp_path / "wav.scp").write_text(
        f"A sph2pipe -f wav -p -c 1 '{stereo}' |\n"
        f"B sox '{stereo}' -t wav -r 16k - remix 2 |\n"
        f"C sox '{stereo}' -t wav - trim 1 |\n"
    )
    (tmp_path / "segments").write_text("a A 0 0.5\nb B 0.5 1\nc C 0 1\nd A 0 1 1\n")
    (tmp_path / "text").write_text("a one\nb two\nc three\nd four\n")
    report, samples = imported(tmp_path, tmp_path / "out")
    both, _ = soundfile.read(stereo)
    np.testing.assert_allclose(samples["a"], both[:4000, 0], atol=1e-6)
    np.testing.assert_allclose(samples["b"], both[4000:, 1], atol=1e-6)
    assert [line.partition(": ")[0].rpartition("/")[2] for line in report.skipped] == [
        "wav.scp:3",
        "segments:3",
        "segments:4",
    ]
    assert any("1 commands resample; the files' own rates are kept" in note for note in report.notes)


def test_a_command_is_never_run(tmp_path, stereo):
    for command in (f"cat '{stereo}' | sox - -t wav {tmp_path}/made |", f"touch {tmp_path}/made |", "cat a.wav |"):
        (tmp_path / "wav.scp").write_text(f"r1 {command}\n")
        (tmp_path / "text").write_text("r1 x\n")
        with pytest.raises(ManifestError):
            imported(tmp_path, tmp_path / "out")
        assert not (tmp_path / "made").exists()


def test_genders_channels_of_segments_and_lengths_are_kept(tmp_path, stereo):
    for name, content in {
        "wav.scp": f"r1 {stereo}\nr2 {stereo}\n",
        "segments": "u1 r1 0 0.5 A\nu2 r1 0 0.5 1\nu3 r1 0 0.5 -1\nu4 r2 0 0.5\n",
        "text": "u1 a\nu2 b\nu3 c\nu4 d\n",
        "utt2spk": "u1 anna\nu2 ben\nu3 anna\nu4 carl\n",
        "spk2gender": "anna f\nben m\n",
        "reco2dur": "r1 1.02\nr2 4.5\nr3 soon\n",
    }.items():
        (tmp_path / name).write_text(content)
    first, second, third, fourth = read_kaldi(tmp_path).utterances
    assert [first.gender, second.gender, third.gender, fourth.gender] == ["f", "m", "f", None]
    assert [first.channel, second.channel, third.channel] == [0, 1, None]
    report, _ = imported(tmp_path, tmp_path / "out")
    assert f"1 recording longer or shorter than the source says: 1 s ({tmp_path}/reco2dur:2 says 4.5 s)" in report.notes
    assert report.skipped == (f"{tmp_path}/reco2dur:3: 'soon' is not a number of seconds",)
