#!/usr/bin/env bash
# symphonia 0.6.1 (symphonia-format-isomp4 0.6.1, symphonia-format-ogg 0.6.1)
#
# Expected: Opus needs its identification header to be decoded. symphonia gives
#   it as the track's `extra_data`, beginning with "OpusHead" whether the stream
#   lies in OGG or in MP4, so one reader of that header serves both.
# What happens: the same stream gives two headers. MP4's box dOps has the fields
#   of OGG's header in the other byte order and with version 0 instead of 1.
#   symphonia writes "OpusHead" before the box's bytes and leaves them as they
#   are: big-endian numbers under the name of a little-endian header. Pre-skip
#   312 is then 14337 to any reader of "OpusHead", 48000 Hz is 2159738880 Hz.
# Why it matters: a decoder drops `pre-skip` samples at the start. 14337 of them
#   are 0.3 s: the first word of the recording is gone, and every time in the
#   transcript is early by that much. No error is raised.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
# An encoder: the ffmpeg inside a Python package.
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install --quiet imageio-ffmpeg==0.6.0
ffmpeg=$("$tmp/venv/bin/python" -c 'import imageio_ffmpeg as f; print(f.get_ffmpeg_exe())')
"$ffmpeg" -v error -f lavfi -i sine=frequency=440:sample_rate=48000:duration=1 \
    -c:a libopus "$tmp/sound.ogg"
"$ffmpeg" -v error -i "$tmp/sound.ogg" -c copy "$tmp/sound.mp4"

mkdir "$tmp/src"
cat > "$tmp/Cargo.toml" <<'TOML'
[package]
name = "show"
version = "0.0.0"
edition = "2021"

[dependencies]
symphonia = { version = "=0.6.1", default-features = false, features = ["isomp4", "ogg"] }
symphonia-format-isomp4 = "=0.6.1"
symphonia-format-ogg = "=0.6.1"
TOML
cat > "$tmp/src/main.rs" <<'RUST'
use std::fs::File;

use symphonia::core::formats::{probe::Hint, TrackType};
use symphonia::core::io::MediaSourceStream;

/// Version, pre-skip and rate of a file's "OpusHead", read as RFC 7845 says.
fn head(path: &str) -> (u8, u16, u32) {
    let file = Box::new(File::open(path).expect("the file"));
    let stream = MediaSourceStream::new(file, Default::default());
    let format = symphonia::default::get_probe()
        .probe(&Hint::new(), stream, Default::default(), Default::default())
        .expect("a known format");
    let track = format.default_track(TrackType::Audio).expect("a track");
    let params = track.codec_params.as_ref().and_then(|p| p.audio()).expect("sound");
    let head = params.extra_data.as_deref().expect("extra data");
    assert_eq!(&head[..8], b"OpusHead");
    let rate = u32::from_le_bytes([head[12], head[13], head[14], head[15]]);
    let seen = (head[8], u16::from_le_bytes([head[10], head[11]]), rate);
    println!("  {path}: bytes {:02x?}", &head[8..]);
    println!("    version {}, pre-skip {}, {} Hz; track.delay {:?}", seen.0, seen.1, seen.2, track.delay);
    seen
}

fn main() {
    let (ogg, mp4) = (head("sound.ogg"), head("sound.mp4"));
    let swapped = (0, ogg.1.swap_bytes(), ogg.2.swap_bytes());
    if ogg.0 != 1 || ogg.1 == mp4.1 || mp4 != swapped {
        println!("not as described any more");
        std::process::exit(1);
    }
    println!("seen: the same stream, the same magic word, numbers in the other byte order");
}
RUST
cd "$tmp"
echo "symphonia 0.6.1, $("$ffmpeg" -version | head -1 | cut -d' ' -f1-3)"
CARGO_TARGET_DIR="$tmp/target" cargo run --quiet
