//! Sounds through the one entry, `Sound::decode`.

use sonograd::Sound;

use crate::driver::{Grammar, Target, run};

fn judge(bytes: &[u8]) -> Result<bool, String> {
    let Ok(sound) = Sound::decode(bytes) else {
        return Ok(false);
    };
    let samples = &sound.waveform().samples;
    match samples.is_empty() || samples.iter().any(|x| !x.is_finite()) {
        true => Err("gives no samples, or some that are not finite".into()),
        false => Ok(true),
    }
}

fn try_all(name: &'static str, inputs: u64, seeds: Vec<Vec<u8>>, words: &[&[u8]]) {
    let grammar = Grammar::Bytes;
    let target = Target {
        name,
        inputs,
        grammar,
        seeds,
        words,
    };
    run(&target, &mut judge);
}

/// 64 samples of 16 bits, the lower byte first.
fn samples() -> Vec<u8> {
    let sample = |n: i32| ((n * n * 7919) % 20_000 - 10_000) as i16;
    (0..64).flat_map(|n| sample(n).to_le_bytes()).collect()
}

fn chunk(name: &[u8], content: &[u8]) -> Vec<u8> {
    [name, &(content.len() as u32).to_le_bytes(), content].concat()
}

/// The chunk `fmt ` of a WAV.
fn format(tag: u16, channels: u16, bits: u16) -> Vec<u8> {
    let frame = channels * bits / 8;
    let rate = 16_000u32;
    let mut format = [tag.to_le_bytes(), channels.to_le_bytes()].concat();
    format.extend(rate.to_le_bytes());
    format.extend((rate * u32::from(frame)).to_le_bytes());
    format.extend(frame.to_le_bytes());
    format.extend(bits.to_le_bytes());
    format
}

fn wav(tag: u16, channels: u16, bits: u16) -> Vec<u8> {
    let chunks = [
        chunk(b"fmt ", &format(tag, channels, bits)),
        chunk(b"LIST", b"INFOISFT"),
        chunk(b"data", &samples()),
    ];
    chunk(b"RIFF", &[b"WAVE".to_vec(), chunks.concat()].concat())
}

#[test]
fn wav_file() {
    let seeds = vec![wav(1, 1, 16), wav(1, 2, 24), wav(7, 1, 8), wav(6, 1, 8)];
    let words: [&[u8]; 9] = [
        b"RIFF",
        b"WAVE",
        b"fmt ",
        b"data",
        b"LIST",
        b"fact",
        b"RIFX",
        b"ds64",
        b"ID3\x03\0\0",
    ];
    try_all("wav_file", 4_000, seeds, &words);
}

#[test]
fn long_wav() {
    let samples = samples();
    let mut sizes = (samples.len() as u64 + 80).to_le_bytes().to_vec();
    sizes.extend((samples.len() as u64).to_le_bytes());
    sizes.extend([0; 12]);
    let stated = |name: &[u8], content: &[u8]| [name, &[255; 4], content].concat();
    let rf64 = |name: &[u8]| {
        let chunks = [
            chunk(b"ds64", &sizes),
            chunk(b"fmt ", &format(1, 1, 16)),
            stated(b"data", &samples),
        ];
        stated(name, &[b"WAVE".to_vec(), chunks.concat()].concat())
    };
    const RIFF: &[u8] = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\0\0";
    const REST: &[u8] = b"\xf3\xac\xd3\x11\x8c\xd1\0\xc0\x4f\x8e\xdb\x8a";
    let wide = |name: &[u8], content: &[u8]| {
        let length = (content.len() as u64 + 24).to_le_bytes();
        [name, REST, &length, content].concat()
    };
    let w64 = |content: &[u8]| {
        let length = (content.len() as u64 + 40).to_le_bytes();
        [RIFF, &length, b"wave", REST, content].concat()
    };
    let chunks = [wide(b"fmt ", &format(1, 1, 16)), wide(b"data", &samples)].concat();
    let seeds = vec![rf64(b"RF64"), rf64(b"BW64"), w64(&chunks)];
    let words: [&[u8]; 6] = [b"RF64", b"BW64", b"ds64", b"data", RIFF, REST];
    try_all("long_wav", 2_000, seeds, &words);
}

#[test]
fn aiff() {
    let big: Vec<u8> = samples()
        .chunks(2)
        .flat_map(|two| [two[1], two[0]])
        .collect();
    let chunk = |name: &[u8], content: &[u8]| {
        [name, &(content.len() as u32).to_be_bytes(), content].concat()
    };
    let common = b"\0\x01\0\0\0\x40\0\x10\x40\x0c\xfa\0\0\0\0\0\0\0";
    let sound = chunk(b"SSND", &[vec![0; 8], big].concat());
    let plain = [b"AIFF".to_vec(), chunk(b"COMM", common), sound.clone()].concat();
    let common = [&common[..], b"sowt\0\0"].concat();
    let longer = [
        b"AIFC".to_vec(),
        chunk(b"FVER", b"\xa2\x80\x51\x40"),
        chunk(b"COMM", &common),
        sound,
    ];
    let seeds = vec![chunk(b"FORM", &plain), chunk(b"FORM", &longer.concat())];
    let words: [&[u8]; 10] = [
        b"FORM", b"AIFC", b"COMM", b"SSND", b"NONE", b"sowt", b"ulaw", b"alaw", b"fl32", b"fl64",
    ];
    try_all("aiff", 3_000, seeds, &words);
}

#[test]
fn au_file() {
    let au = |kind: u8, length: u32| {
        let mut bytes = b".snd\0\0\0\x1c".to_vec();
        bytes.extend(length.to_be_bytes());
        bytes.extend([0, 0, 0, kind, 0, 0, 0x3e, 0x80, 0, 0, 0, 1, 0, 0, 0, 0]);
        bytes.extend(samples());
        bytes
    };
    let seeds = vec![au(3, 128), au(1, 128), au(27, 128), au(3, u32::MAX)];
    let words: [&[u8]; 2] = [b".snd", b"dns."];
    try_all("au_file", 2_000, seeds, &words);
}

#[test]
fn sphere() {
    let sphere = |coding: &str, bytes: usize| {
        let mut file = format!(
            "NIST_1A\n   1024\nchannel_count -i 1\nsample_rate -i 16000\nsample_n_bytes -i {bytes}\n\
             sample_count -i {}\nsample_byte_format -s2 01\nsample_coding -s{} {coding}\nend_head\n",
            128 / bytes,
            coding.len(),
        )
        .into_bytes();
        file.resize(1_024, b' ');
        file.extend(samples());
        file
    };
    let seeds = vec![sphere("pcm", 2), sphere("ulaw", 1)];
    let words: [&[u8]; 8] = [
        b"NIST_1A\n",
        b"end_head\n",
        b"sample_count -i ",
        b" -r ",
        b"-1",
        b"10",
        b"1",
        b"pcm,embedded-shorten-v2.00",
    ];
    try_all("sphere", 2_000, seeds, &words);
}

/// Files of the tests of formats.
fn fixtures(names: &[&str]) -> Vec<Vec<u8>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/audio/");
    let read = |name: &&str| std::fs::read(format!("{folder}{name}")).unwrap();
    names.iter().map(read).collect()
}

#[test]
fn mp3() {
    let words: [&[u8]; 6] = [
        b"\xff\xfb\x90\x00",
        b"Xing",
        b"Info",
        b"LAME3.100",
        b"ID3\x04\0\0\0\0\x0f\x76",
        b"TAG",
    ];
    try_all("mp3", 1_000, fixtures(&["speech.mp3"]), &words);
}

#[test]
fn aac() {
    let words: [&[u8]; 3] = [b"\xff\xf1\x60\x40", b"\xff\xf9", b"ID3"];
    try_all("aac", 1_000, fixtures(&["speech.aac"]), &words);
}

#[test]
fn ogg() {
    let words: [&[u8]; 6] = [
        b"OggS\0\x02",
        b"\x01vorbis",
        b"\x03vorbis",
        b"\x05vorbis",
        b"\x7fFLAC",
        b"fLaC",
    ];
    let seeds = fixtures(&["speech.ogg", "speech_flac.ogg", "speech.opus"]);
    try_all("ogg", 2_000, seeds, &words);
}

/// OGG with the sums of its pages made right again, so that what is in them is
/// reached.
#[test]
fn ogg_with_right_sums() {
    let words: [&[u8]; 4] = [b"OggS\0\x02", b"OpusHead\x01", b"OpusTags", b"\x01vorbis"];
    let target = Target {
        name: "ogg_with_right_sums",
        inputs: 2_000,
        grammar: Grammar::Bytes,
        seeds: fixtures(&["speech.opus", "speech.ogg", "speech_flac.ogg"]),
        words: &words,
    };
    run(&target, &mut |bytes| {
        let mut bytes = bytes.to_vec();
        mend_sums(&mut bytes);
        judge(&bytes)
    });
}

/// Writes the sum of each page that is whole (RFC 3533).
fn mend_sums(bytes: &mut [u8]) {
    let mut at = 0;
    while let Some(page) = bytes.get(at..at + 27) {
        if &page[..4] != b"OggS" {
            at += 1;
            continue;
        }
        let table = at + 27..at + 27 + usize::from(page[26]);
        let Some(lengths) = bytes.get(table.clone()) else {
            return;
        };
        let end = table.end + lengths.iter().map(|&n| usize::from(n)).sum::<usize>();
        let Some(page) = bytes.get_mut(at..end) else {
            return;
        };
        page[22..26].fill(0);
        let sum = page.iter().fold(0u32, |sum, &byte| {
            (0..8).fold(sum ^ (u32::from(byte) << 24), |sum, _| {
                (sum << 1) ^ if sum >> 31 == 1 { 0x04c1_1db7 } else { 0 }
            })
        });
        page[22..26].copy_from_slice(&sum.to_le_bytes());
        at = end;
    }
}

#[test]
fn webm() {
    let words: [&[u8]; 7] = [
        b"\x1a\x45\xdf\xa3",
        b"A_OPUS",
        b"A_VORBIS",
        b"\x1f\x43\xb6\x75",
        b"\xa3\x81",
        b"\x01\xff\xff\xff\xff\xff\xff\xff",
        b"OpusHead",
    ];
    let seeds = fixtures(&["speech.webm", "speech_vorbis.webm"]);
    try_all("webm", 2_000, seeds, &words);
}

#[test]
fn flac() {
    let words: [&[u8]; 3] = [b"fLaC", b"\xff\xf8", b"\x80\0\0\x22"];
    try_all("flac", 500, fixtures(&["speech.flac"]), &words);
}

#[test]
fn mp4() {
    let words: [&[u8]; 16] = [
        b"moov", b"trak", b"edts", b"elst", b"mdia", b"mdhd", b"stsz", b"stsc", b"stco", b"co64",
        b"stts", b"esds", b"moof", b"traf", b"mdat", b"dOps",
    ];
    let seeds = fixtures(&["speech_aac.m4a", "speech_opus.mp4", "speech_alac.m4a"]);
    try_all("mp4", 2_000, seeds, &words);
}

/// The edit list alone, where its numbers stand.
#[test]
fn edit_lists() {
    let whole = fixtures(&["speech_aac.m4a"]).remove(0);
    let found = whole.windows(4).position(|name| name == b"elst");
    let at = found.expect("AAC has an edit list") - 4;
    let length = u32::from_be_bytes(whole[at..at + 4].try_into().unwrap()) as usize;
    let target = Target {
        name: "edit_lists",
        inputs: 1_500,
        grammar: Grammar::Bytes,
        seeds: vec![whole[at..at + length].to_vec()],
        words: &[
            b"elst",
            b"\xff\xff\xff\xff",
            b"\0\x01\0\0",
            b"\x7f\xff\xff\xff",
        ],
    };
    run(&target, &mut |list| {
        // As long as before, so that the boxes around it stay right.
        let mut bytes = whole.clone();
        let end = at + list.len().min(length);
        bytes[at..end].copy_from_slice(&list[..end - at]);
        judge(&bytes)
    });
}
