#!/usr/bin/env bash
# symphonia 0.6.1 (symphonia-bundle-mp3 0.6.1, Rust)
#
# Expected: an MP3 is its frames. Without a Xing/Info tag its length is not
#   known beforehand; a reader may guess it for a progress bar, and decodes all.
# What happens: if the source can seek, the length is guessed from the size of
#   the first 17 frames (or 16 KiB), and the guess is then used to trim: what
#   comes after it is handed out as packets of length 0. If the file begins with
#   larger frames than it goes on with, its end is silently gone. The same bytes
#   from a source that cannot seek are decoded whole.
# Why it matters: recorders and streams write MP3 without that tag, at a
#   variable rate. A transcript that ends too early looks like a model's fault,
#   and it depends on whether the file was opened or piped.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
mkdir "$tmp/src"
cat > "$tmp/Cargo.toml" <<'TOML'
[package]
name = "show"
version = "0.0.0"
edition = "2021"

[dependencies]
symphonia = { version = "=0.6.1", default-features = false, features = ["mp3"] }
symphonia-bundle-mp3 = "=0.6.1"
TOML
cat > "$tmp/src/main.rs" <<'RUST'
use std::io::Cursor;

use symphonia::core::formats::{probe::Hint, TrackType};
use symphonia::core::io::{MediaSource, MediaSourceStream, ReadOnlySource};

/// A silent MPEG-1 Layer III frame, 44.1 kHz, mono: 1152 samples.
fn frame(bitrate_index: u8, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    bytes[..4].copy_from_slice(&[0xff, 0xfb, bitrate_index << 4, 0xc0]);
    bytes
}

/// How many packets there are, and how many samples come out.
fn decode(source: Box<dyn MediaSource>) -> (usize, usize) {
    let stream = MediaSourceStream::new(source, Default::default());
    let mut format = symphonia::default::get_probe()
        .probe(&Hint::new(), stream, Default::default(), Default::default())
        .expect("an MP3");
    let track = format.default_track(TrackType::Audio).expect("a track");
    println!("    length by the track: {:?}", track.num_frames);
    let params = track.codec_params.as_ref().and_then(|p| p.audio()).expect("sound");
    let mut decoder = symphonia::default::get_codecs()
        .make_audio_decoder(params, &Default::default())
        .expect("a decoder");
    let (mut packets, mut samples) = (0, 0);
    while let Some(packet) = format.next_packet().expect("a packet") {
        packets += 1;
        samples += decoder.decode(&packet).expect("sound").frames();
    }
    (packets, samples)
}

fn main() {
    // A variable rate, no tag: 20 frames at 320 kbit/s, 200 at 32 kbit/s.
    let mut mp3 = frame(14, 1044).repeat(20);
    mp3.extend(frame(1, 104).repeat(200));
    println!("  220 frames of 1152 samples are {}", 220 * 1152);
    let seekable = decode(Box::new(Cursor::new(mp3.clone())));
    println!("  can seek:    {} packets, {} samples", seekable.0, seekable.1);
    let piped = decode(Box::new(ReadOnlySource::new(Cursor::new(mp3))));
    println!("  cannot seek: {} packets, {} samples", piped.0, piped.1);
    let as_described = piped == (220, 220 * 1152) && seekable.1 < piped.1 / 2;
    if !as_described {
        println!("not as described any more");
        std::process::exit(1);
    }
    println!("seen: the end is dropped where the source can seek");
}
RUST
cd "$tmp"
echo "symphonia 0.6.1"
CARGO_TARGET_DIR="$tmp/target" cargo run --quiet
