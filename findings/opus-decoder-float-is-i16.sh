#!/usr/bin/env bash
# opus-decoder 0.1.1 (Rust), against the Opus decoder in ffmpeg 7.0.2
#
# Expected: decode_float gives the decoder's own floating-point samples; that is
#   what a float call is for. The crate's notes say that the float path is used
#   throughout.
# What happens: decode_float decodes to i16 and divides by 32768. Every sample
#   lies on that grid; a sound below half a step comes out as exact zeros, and
#   peaks over full scale, common after lossy coding, are cut off at 1.
# Why it matters: a log-mel front end normalises, so quiet far-field speech is
#   scaled up together with the rounding: its features, and gradients taken at
#   the samples, differ from those of other decoders.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install --quiet imageio-ffmpeg==0.6.0
ffmpeg=$("$tmp/venv/bin/python" -c 'import imageio_ffmpeg as f; print(f.get_ffmpeg_exe())')
make() { # name, expression of the samples
    "$ffmpeg" -v error -f lavfi -i "aevalsrc=$2:s=48000:d=1" -c:a libopus -b:a 64k "$tmp/$1.ogg"
    "$ffmpeg" -v error -i "$tmp/$1.ogg" -f f32le "$tmp/$1.f32"
}
make quiet '0.00001*sin(2*PI*440*t)'
make soft '0.001*sin(2*PI*440*t)'
make loud '0.99*(2*gt(sin(2*PI*440*t)\,0)-1)'

mkdir "$tmp/src"
cat > "$tmp/Cargo.toml" <<'TOML'
[package]
name = "show"
version = "0.0.0"
edition = "2021"

[dependencies]
ogg = "=0.9.2"
opus-decoder = "=0.1.1"
TOML
cat > "$tmp/src/main.rs" <<'RUST'
use std::fs::{read, File};

/// Peak, and the share of samples that are whole steps of 1/32768.
fn look(who: &str, samples: &[f32]) -> (f32, f32) {
    let peak = samples.iter().fold(0.0_f32, |m, x| m.max(x.abs()));
    let whole = samples.iter().filter(|x| (**x * 32768.0).fract() == 0.0).count();
    let share = whole as f32 / samples.len() as f32;
    println!("    {who:13} {} samples, peak {peak:.7}, on the grid {:.1} %", samples.len(), share * 100.0);
    (peak, share)
}

fn both(name: &str) -> [(f32, f32); 2] {
    println!("  {name}");
    let mut packets = ogg::PacketReader::new(File::open(format!("{name}.ogg")).expect("a file"));
    let mut decoder = opus_decoder::OpusDecoder::new(48_000, 1).expect("a decoder");
    let (mut samples, mut count) = (Vec::new(), 0);
    while let Some(packet) = packets.read_packet().expect("a packet") {
        count += 1;
        if count > 2 { // after the two headers
            let mut block = vec![0.0; 5760];
            let n = decoder.decode_float(&packet.data, &mut block, false).expect("sound");
            samples.extend_from_slice(&block[..n]);
        }
    }
    let other = read(format!("{name}.f32")).expect("a file");
    let other: Vec<f32> = other.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    [look("opus-decoder", &samples), look("ffmpeg", &other)]
}

fn main() {
    let [quiet, soft, loud] = ["quiet", "soft", "loud"].map(both);
    let on_grid = [quiet, soft, loud].iter().all(|x| x[0].1 == 1.0 && x[1].1 < 0.5);
    let as_described = on_grid && quiet[0].0 == 0.0 && quiet[1].0 > 5e-6 && loud[0].0 <= 1.0 && loud[1].0 > 1.05;
    if !as_described {
        println!("not as described any more");
        std::process::exit(1);
    }
    println!("seen: float samples are i16 ones: rounded, zero below the step, cut at 1");
}
RUST
cd "$tmp"
echo "opus-decoder 0.1.1, $("$ffmpeg" -version | head -1 | cut -d' ' -f1-3)"
CARGO_TARGET_DIR="$tmp/target" cargo run --quiet
