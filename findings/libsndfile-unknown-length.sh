#!/usr/bin/env bash
# libsndfile 1.2.2, as the Python package soundfile 0.14.0 brings it
#
# Expected: a file whose header says "length not known" is read to its end. A
#   program that writes to a pipe cannot go back and fill the length in, so
#   FLAC, WAV and AU all have a way to leave it open.
# What happens: the same 800 samples get a different answer in each case.
#   - FLAC with total samples 0 (RFC 9639: "unknown"): `frames` is 2^63-1;
#     soundfile.read fails with numpy's "array is too big". read(799) works,
#     read(800) fails with "Internal psf_fseek() failed": the samples can be
#     had only by one who knows their number and asks for one less.
#   - WAV with data size 0xFFFFFFFF, AU with 0xFFFFFFFF: 800 samples.
#   - WAV with data size 0 (the writer never came back to its header: it
#     streamed, or the recorder died): no samples and no error.
# Why it matters: speech corpora are full of recordings made through a pipe or
#   cut off. A buffer sized by `frames` is a trap, and a loader over this
#   library hands on empty clips without a warning.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install --quiet soundfile==0.14.0 numpy==2.4.6

"$tmp/venv/bin/python" - <<'PY'
import io
import struct

import numpy as np
import soundfile as sf

print("soundfile", sf.__version__, "libsndfile", sf.__libsndfile_version__)
samples = (np.arange(800) % 100 * 100).astype("<i2")


def flac():
    """A good FLAC, its number of samples then set to 0 (36 bits)."""
    out = io.BytesIO()
    sf.write(out, samples, 8000, "PCM_16", format="FLAC")
    data = bytearray(out.getvalue())
    field = int.from_bytes(data[18:26], "big")
    assert field & (1 << 36) - 1 == 800
    data[18:26] = (field - 800).to_bytes(8, "big")
    return bytes(data)


def wav(size):
    head = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 16000, 2, 16)
    riff = size and 0xFFFFFFFF
    return b"RIFF" + struct.pack("<I", riff) + head + b"data" + struct.pack("<I", size) + samples.tobytes()


au = b".snd" + struct.pack(">5I", 24, 0xFFFFFFFF, 3, 8000, 1) + samples.astype(">i2").tobytes()


def read(data, count=-1):
    try:
        return len(sf.SoundFile(io.BytesIO(data)).read(count, dtype="int16"))
    except (ValueError, sf.LibsndfileError) as e:
        return f"{type(e).__name__}: {str(e)[:32]}"


files = {"FLAC 0": flac(), "WAV -1": wav(0xFFFFFFFF), "AU -1": au, "WAV 0": wav(0)}
seen = {}
for name, data in files.items():
    frames = sf.info(io.BytesIO(data)).frames
    seen[name] = (frames, read(data), read(data, 799), read(data, 800))
    print(f"  {name:7} frames {frames}; read() {seen[name][1]}; read(799) {seen[name][2]}; read(800) {seen[name][3]}")

frames, everything, one_less, exact = seen["FLAC 0"]
assert frames == 2**63 - 1 and "too big" in everything, seen
assert one_less == 799 and "psf_fseek" in exact, seen
assert seen["WAV -1"] == seen["AU -1"] == (800, 800, 799, 800), seen
assert seen["WAV 0"] == (0, 0, 0, 0), seen
print("seen: of unknown length, FLAC fails, WAV and AU read, WAV with 0 is empty")
PY
