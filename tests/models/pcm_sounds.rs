//! Sounds whose samples are numbers: every container and encoding, made byte by
//! byte, and what is said of those that do not state their length.

use sonograd::Sound;
use sonograd::audio::Warning;

const RATE: u32 = 16_000;

/// Full scale, halves and quarters: exact in every integer and float, near in G.711.
const VALUES: [f64; 8] = [0.0, 0.5, -0.5, 0.25, -1.0, 0.75, -0.25, -0.75];

fn samples(bytes: &[u8]) -> Vec<f32> {
    let sound = Sound::decode(bytes).unwrap();
    sound.waveform().samples.clone()
}

fn warnings(bytes: &[u8]) -> Vec<Warning> {
    Sound::decode(bytes).unwrap().warnings().to_vec()
}

fn refusal(bytes: &[u8]) -> String {
    let message = Sound::decode(bytes).unwrap_err().to_string();
    assert!(!message.contains('\n'), "{message}");
    message
}

fn expected() -> Vec<f32> {
    VALUES.map(|x| x as f32).to_vec()
}

#[derive(Clone, Copy, PartialEq)]
enum Order {
    Little,
    Big,
}

use Order::{Big, Little};

/// The values as integers of so many bytes.
fn integers(bytes: usize, order: Order) -> Vec<u8> {
    let scale = (8.0 * bytes as f64 - 1.0).exp2();
    let one = |x: f64| {
        let big = ((x * scale) as i64).to_be_bytes();
        let mut own = big[8 - bytes..].to_vec();
        if order == Little {
            own.reverse();
        }
        own
    };
    VALUES.iter().flat_map(|&x| one(x)).collect()
}

fn unsigned() -> Vec<u8> {
    VALUES.iter().map(|x| (128.0 + 128.0 * x) as u8).collect()
}

fn floats(bytes: usize, order: Order) -> Vec<u8> {
    let one = |x: f64| {
        let mut own = match bytes {
            4 => (x as f32).to_be_bytes().to_vec(),
            _ => x.to_be_bytes().to_vec(),
        };
        if order == Little {
            own.reverse();
        }
        own
    };
    VALUES.iter().flat_map(|&x| one(x)).collect()
}

/// Of ITU-T G.711: 0, 8.031/16, -8.031/16 and so on; half of full scale is nearest to these.
const MU_LAW: ([u8; 4], [f32; 4]) = (
    [0xff, 0x8f, 0x0f, 0x80],
    [
        0.0,
        16_764.0 / 32_768.0,
        -16_764.0 / 32_768.0,
        32_124.0 / 32_768.0,
    ],
);
const A_LAW: ([u8; 4], [f32; 4]) = (
    [0xd5, 0x55, 0x80, 0xaa],
    [
        8.0 / 32_768.0,
        -8.0 / 32_768.0,
        5_504.0 / 32_768.0,
        32_256.0 / 32_768.0,
    ],
);

fn short_chunk(order: Order, name: &[u8; 4], length: u32, content: &[u8]) -> Vec<u8> {
    let length = match order {
        Little => length.to_le_bytes(),
        Big => length.to_be_bytes(),
    };
    let padding = vec![0; content.len() % 2];
    [&name[..], &length, content, &padding].concat()
}

fn chunk(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
    short_chunk(Little, name, content.len() as u32, content)
}

fn format(tag: u16, channels: u16, bits: u16, frame: u16) -> Vec<u8> {
    let mut format = Vec::new();
    format.extend(tag.to_le_bytes());
    format.extend(channels.to_le_bytes());
    format.extend(RATE.to_le_bytes());
    format.extend((RATE * u32::from(frame)).to_le_bytes());
    format.extend(frame.to_le_bytes());
    format.extend(bits.to_le_bytes());
    format
}

/// WAVE_FORMAT_EXTENSIBLE with one channel.
fn extensible(tag: u16, bits: u16, valid: u16, frame: u16) -> Vec<u8> {
    let mut format = format(0xfffe, 1, bits, frame);
    format.extend(22u16.to_le_bytes());
    format.extend(valid.to_le_bytes());
    format.extend(4u32.to_le_bytes());
    format.extend(tag.to_le_bytes());
    format.extend([0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xaa, 0, 0x38, 0x9b, 0x71]);
    format
}

fn form(name: &[u8; 4], kind: &[u8; 4], order: Order, chunks: &[Vec<u8>]) -> Vec<u8> {
    let content = [&kind[..], &chunks.concat()].concat();
    short_chunk(order, name, content.len() as u32, &content)
}

fn wav(chunks: &[Vec<u8>]) -> Vec<u8> {
    form(b"RIFF", b"WAVE", Little, chunks)
}

/// A file with one chunk of format and one of samples.
fn plain(format: &[u8], samples: &[u8]) -> Vec<u8> {
    wav(&[chunk(b"fmt ", format), chunk(b"data", samples)])
}

fn long_chunk(name: &[u8; 4], length: u64, content: &[u8]) -> Vec<u8> {
    let tail: &[u8] = match name {
        b"riff" => &[
            0x2e, 0x91, 0xcf, 0x11, 0xa5, 0xd6, 0x28, 0xdb, 4, 0xc1, 0, 0,
        ],
        _ => &[
            0xf3, 0xac, 0xd3, 0x11, 0x8c, 0xd1, 0, 0xc0, 0x4f, 0x8e, 0xdb, 0x8a,
        ],
    };
    let padding = vec![0; content.len().next_multiple_of(8) - content.len()];
    [name, tail, &length.to_le_bytes(), content, &padding].concat()
}

fn wave64(chunks: &[Vec<u8>]) -> Vec<u8> {
    let wave = &long_chunk(b"wave", 0, &[])[..16];
    let content = [wave, &chunks.concat()].concat();
    long_chunk(b"riff", 24 + content.len() as u64, &content)
}

fn rf64(name: &[u8; 4], promised: u64, samples: &[u8]) -> Vec<u8> {
    let sizes = [0u64, promised, 0].map(u64::to_le_bytes).concat();
    let data = short_chunk(Little, b"data", u32::MAX, samples);
    let format = chunk(b"fmt ", &format(1, 1, 16, 2));
    let sizes = chunk(b"ds64", &[&sizes[..], &[0; 4]].concat());
    form(name, b"WAVE", Little, &[sizes, format, data])
}

fn au(order: Order, kind: u32, channels: u32, length: u32, samples: &[u8]) -> Vec<u8> {
    let fields = [32, length, kind, RATE, channels];
    let (magic, fields) = match order {
        Big => (b".snd", fields.map(u32::to_be_bytes)),
        Little => (b"dns.", fields.map(u32::to_le_bytes)),
    };
    [&magic[..], &fields.concat(), b"comment\0", samples].concat()
}

fn aiff_with(
    kind: Option<&[u8; 4]>,
    bits: u16,
    frames: u32,
    length: u32,
    samples: &[u8],
) -> Vec<u8> {
    let mut common = Vec::new();
    common.extend(1u16.to_be_bytes());
    common.extend(frames.to_be_bytes());
    common.extend(bits.to_be_bytes());
    // 16,000 Hz in 80 bits.
    common.extend([0x40, 0x0c, 0xfa, 0, 0, 0, 0, 0, 0, 0]);
    if let Some(kind) = kind {
        common.extend(kind);
        // A name of even length, with what counts it.
        common.extend(b"\x03abc");
    }
    let common = short_chunk(Big, b"COMM", common.len() as u32, &common);
    let samples = [&[0; 8], samples].concat();
    let sound = short_chunk(Big, b"SSND", length, &samples);
    let name = short_chunk(Big, b"NAME", 3, b"abc");
    let form_kind = if kind.is_some() { b"AIFC" } else { b"AIFF" };
    form(b"FORM", form_kind, Big, &[name, common, sound])
}

fn aiff(kind: Option<&[u8; 4]>, bits: u16, samples: &[u8]) -> Vec<u8> {
    let bytes = match kind {
        Some(b"fl32" | b"FL32" | b"in32" | b"23ni") => 4,
        Some(b"fl64" | b"FL64") => 8,
        Some(b"in24" | b"42ni") => 3,
        Some(b"ulaw" | b"ULAW" | b"alaw" | b"ALAW" | b"raw ") => 1,
        _ => usize::from(bits).div_ceil(8),
    };
    let frames = samples.len() / bytes;
    aiff_with(kind, bits, frames as u32, 8 + samples.len() as u32, samples)
}

fn sphere(lines: &str, header: usize, samples: &[u8]) -> Vec<u8> {
    let head = format!("NIST_1A\n{header:>7}\n{lines}\nend_head\n");
    let mut bytes = head.into_bytes();
    assert!(bytes.len() <= header);
    bytes.resize(header, b' ');
    bytes.extend(samples);
    bytes
}

fn sphere_lines(count: usize, bytes: usize, order: &str, coding: &str) -> String {
    let mut lines = format!(
        "database_id -s5 TIMIT\nsample_rate -i {RATE}\nchannel_count -i 1\nsample_count -i {count}\n\
         sample_n_bytes -i {bytes}"
    );
    for (name, value) in [("sample_byte_format", order), ("sample_coding", coding)] {
        if !value.is_empty() {
            lines += &format!("\n{name} -s{} {value}", value.len());
        }
    }
    lines
}

#[test]
fn wav_of_every_encoding() {
    for (format, bytes) in [
        (format(1, 1, 8, 1), unsigned()),
        (format(1, 1, 16, 2), integers(2, Little)),
        (format(1, 1, 24, 3), integers(3, Little)),
        (format(1, 1, 32, 4), integers(4, Little)),
        (format(1, 1, 64, 8), integers(8, Little)),
        // Bits stand at the top.
        (format(1, 1, 12, 2), integers(2, Little)),
        (format(1, 1, 20, 3), integers(3, Little)),
        (format(3, 1, 32, 4), floats(4, Little)),
        (format(3, 1, 64, 8), floats(8, Little)),
        (extensible(1, 8, 8, 1), unsigned()),
        (extensible(1, 16, 12, 2), integers(2, Little)),
        (extensible(1, 24, 20, 3), integers(3, Little)),
        (extensible(1, 32, 24, 4), integers(4, Little)),
        (extensible(1, 32, 20, 4), integers(4, Little)),
        // No valid bits are said.
        (extensible(1, 32, 0, 4), integers(4, Little)),
        (extensible(3, 32, 32, 4), floats(4, Little)),
        (extensible(3, 64, 64, 8), floats(8, Little)),
    ] {
        let file = plain(&format, &bytes);
        assert_eq!(samples(&file), expected(), "{format:?}");
        assert_eq!(warnings(&file), [], "{format:?}");
    }
    for (tag, (bytes, values)) in [(7, MU_LAW), (6, A_LAW)] {
        assert_eq!(samples(&plain(&format(tag, 1, 8, 1), &bytes)), values);
        assert_eq!(samples(&plain(&extensible(tag, 8, 8, 1), &bytes)), values);
    }
}

#[test]
fn wav_of_other_encodings_is_refused_by_name() {
    let ambiguous = format(1, 1, 24, 4);
    let mut unknown = extensible(1, 16, 16, 2);
    unknown[30] = 7;
    for (format, words) in [
        (ambiguous, "24 bits of 1 channels in 4 bytes"),
        (extensible(1, 24, 24, 2), "24 bits"),
        (format(3, 1, 16, 2), "holds 16-bit floats"),
        (format(1, 0, 16, 2), "no channels"),
        (format(1, 1, 0, 0), "0 bits"),
        (format(1, 3, 16, 4), "3 channels in 4 bytes"),
        (format(2, 1, 4, 256), "Microsoft's ADPCM"),
        (format(0x11, 1, 4, 256), "IMA ADPCM"),
        (format(0x31, 1, 0, 65), "GSM 6.10"),
        (format(0x55, 1, 0, 1), "MP3"),
        (format(0x7abc, 1, 0, 1), "0x7abc"),
        (unknown, "no known name"),
        (vec![1, 0, 1], "too short"),
    ] {
        let message = refusal(&plain(&format, &[0; 512]));
        assert!(message.contains(words), "{message}");
        assert!(message.contains("ffmpeg"), "{message}");
    }
}

/// Programs that write to a pipe cannot come back to write the length.
#[test]
fn wav_without_a_length_is_read_to_its_end() {
    let bytes = integers(2, Little);
    let format = chunk(b"fmt ", &format(1, 1, 16, 2));
    for length in [
        0,
        0xffff_ffff,
        0xffff_ffff - 36,
        0xffff_fffe,
        0x7fff_ffff,
        0x7fff_f000,
        0x7fff_f000 - 36,
        0x8000_0000,
        0x8000_0000 - 44,
    ] {
        for riff in [0, 0xffff_ffff, 0x8000_0024u32, 100] {
            let data = short_chunk(Little, b"data", length, &bytes);
            let mut file = wav(&[format.clone(), data]);
            file[4..8].copy_from_slice(&riff.to_le_bytes());
            assert_eq!(samples(&file), expected(), "{length:x} {riff:x}");
            assert_eq!(
                warnings(&file),
                [Warning::LengthUnknown],
                "{length:x} {riff:x}"
            );
            // Half a sample more.
            file.push(1);
            assert_eq!(samples(&file), expected());
        }
    }
    let note = Warning::LengthUnknown.to_string();
    assert!(note.contains("does not state"), "{note}");
}

#[test]
fn wav_with_a_length_that_is_too_long_is_refused() {
    let bytes = integers(2, Little);
    let format = chunk(b"fmt ", &format(1, 1, 16, 2));
    for length in [18, 1 << 20, 0x7000_0000, 0x9000_0000u32] {
        let data = short_chunk(Little, b"data", length, &bytes);
        let message = refusal(&wav(&[format.clone(), data]));
        let hours = message.contains("4 hours");
        assert!(hours || message.contains("truncated"), "{message}");
    }
}

/// Beyond what 32 bits hold a sample would be infinite to the model.
#[test]
fn floats_too_large_for_32_bits_are_refused() {
    let largest = f64::from(f32::MAX);
    for large in [1e300, 2.0 * largest, -1e39, f64::MAX] {
        let values = [0.5, 0.25, large, 0.0];
        let little: Vec<u8> = values.into_iter().flat_map(f64::to_le_bytes).collect();
        let big: Vec<u8> = values.into_iter().flat_map(f64::to_be_bytes).collect();
        let mut faster = format(3, 1, 64, 8);
        faster[4..8].copy_from_slice(&48_000u32.to_le_bytes());
        for file in [
            plain(&format(3, 1, 64, 8), &little),
            plain(&faster, &little),
            aiff(Some(b"fl64"), 64, &big),
            au(Big, 7, 1, 32, &big),
        ] {
            let message = refusal(&file);
            assert!(message.contains("sample 2 of channel 1"), "{message}");
            assert!(message.contains(&format!("{large:e}")), "{message}");
        }
    }
    // Of two channels the sum may be larger than the mean.
    let pair: Vec<u8> = [largest; 2]
        .into_iter()
        .flat_map(f64::to_le_bytes)
        .collect();
    assert_eq!(samples(&plain(&format(3, 2, 64, 16), &pair)), [f32::MAX]);
    // A step that goes beyond itself when it is resampled.
    let step = [[f32::MAX; 4000], [f32::MIN; 4000]].concat();
    let message = Sound::new(&step, 48_000).unwrap_err().to_string();
    assert!(message.contains("too large"), "{message}");
}

/// Each of these chunks once led to a look at all that follow.
#[test]
fn many_chunks_are_read_in_little_time() {
    let bytes = integers(2, Little);
    let mut chunks = vec![chunk(b"fmt ", &format(1, 1, 16, 2))];
    chunks.extend(vec![chunk(b"data", &[]); 100_000]);
    chunks.push(chunk(b"data", &bytes));
    let file = wav(&chunks);
    let begin = std::time::Instant::now();
    assert_eq!(samples(&file), expected());
    let seconds = begin.elapsed().as_secs_f64();
    assert!(seconds < 10.0, "{seconds} s");
}

/// What stands behind the stated end is named unless it is a part of the file.
#[test]
fn what_is_not_read_of_a_file_is_warned_of() {
    let bytes = integers(2, Little);
    let whole = plain(&format(1, 1, 16, 2), &bytes);
    // Samples whose bytes could be a name, and fewer than a chunk's head has.
    for (more, surplus) in [
        (&b"abcdefgh"[..], 8),
        (&[0x41; 600], 600),
        (&[1, 2, 3, 4], 4),
        (b"abcd", 4),
        (&[7], 1),
        (&[0; 4], 0),
        (b"LIST\xff\0\0\0abc", 0),
        (b"id3 \xff\0\0\0abc", 0),
        (b"odd!\x02\0\0\0ab", 0),
    ] {
        let file = [&whole[..], more].concat();
        assert_eq!(samples(&file), expected());
        let found = warnings(&file);
        let warned = Warning::Surplus { bytes: surplus };
        assert_eq!(found, &[warned][..usize::from(surplus > 0)], "{more:?}");
    }
    let big = integers(2, Big);
    let lines = sphere_lines(4, 2, "10", "pcm");
    for short in [au(Big, 3, 1, 8, &big), sphere(&lines, 1024, &big)] {
        assert_eq!(samples(&short), expected()[..4]);
        assert_eq!(warnings(&short), [Warning::Surplus { bytes: 8 }]);
    }
    let filled = au(Big, 3, 1, 16, &[&big[..], &[0; 5]].concat());
    assert_eq!(warnings(&filled), []);
}

#[test]
fn chunks_of_wav_stand_in_any_order_and_number() {
    let format = chunk(b"fmt ", &format(1, 1, 16, 2));
    let bytes = integers(2, Little);
    let data = chunk(b"data", &bytes);
    let (list, odd) = (chunk(b"LIST", b"INFOICMT"), chunk(b"bext", b"abc"));
    for file in [
        wav(&[
            list.clone(),
            odd.clone(),
            format.clone(),
            list.clone(),
            data.clone(),
            list.clone(),
        ]),
        wav(&[format.clone(), data.clone(), odd.clone(), list.clone()]),
        // The format behind the samples.
        wav(&[data.clone(), format.clone()]),
        // Padding behind the last chunk.
        [wav(&[format.clone(), data.clone()]), vec![0; 11]].concat(),
        // A cut chunk behind the samples.
        [
            wav(&[format.clone(), data.clone()]),
            b"LIST\xff\0\0\0abc".to_vec(),
        ]
        .concat(),
    ] {
        assert_eq!(samples(&file), expected());
        assert_eq!(warnings(&file), []);
    }
    let parts = wav(&[
        format.clone(),
        chunk(b"data", &bytes[..6]),
        odd,
        chunk(b"data", &bytes[6..]),
    ]);
    assert_eq!(samples(&parts), expected());
    assert_eq!(warnings(&parts), [Warning::Several { count: 2 }]);

    // A recorder that died after it wrote a length.
    let more = [wav(&[format.clone(), data.clone()]), vec![0x81; 600]].concat();
    assert_eq!(samples(&more), expected());
    assert_eq!(warnings(&more), [Warning::Surplus { bytes: 600 }]);

    let nothing = wav(&[format.clone(), chunk(b"data", &[]), list]);
    assert!(refusal(&nothing).contains("holds no samples"));
    assert!(refusal(&wav(&[format])).contains("truncated"));
    assert!(refusal(&wav(&[data])).contains("does not say how samples are written"));
}

/// RIFX is WAV with the higher byte first.
#[test]
fn wav_with_the_higher_byte_first() {
    for (tag, bits, bytes) in [
        (1u16, 16u16, integers(2, Big)),
        (1, 24, integers(3, Big)),
        (3, 32, floats(4, Big)),
        (3, 64, floats(8, Big)),
    ] {
        let frame = bits / 8;
        let mut format = [tag, 1].map(u16::to_be_bytes).concat();
        format.extend(
            [RATE, RATE * u32::from(frame)]
                .map(u32::to_be_bytes)
                .concat(),
        );
        format.extend([frame, bits].map(u16::to_be_bytes).concat());
        let format = short_chunk(Big, b"fmt ", 16, &format);
        let data = |length| short_chunk(Big, b"data", length, &bytes);
        let whole = form(
            b"RIFX",
            b"WAVE",
            Big,
            &[format.clone(), data(bytes.len() as u32)],
        );
        assert_eq!(samples(&whole), expected());
        assert_eq!(warnings(&whole), []);
        let piped = form(b"RIFX", b"WAVE", Big, &[format, data(u32::MAX)]);
        assert_eq!(warnings(&piped), [Warning::LengthUnknown]);
    }
}

#[test]
fn rf64_and_wave64() {
    let bytes = integers(2, Little);
    let length = bytes.len() as u64;
    for name in [b"RF64", b"BW64"] {
        assert_eq!(samples(&rf64(name, length, &bytes)), expected());
        assert_eq!(warnings(&rf64(name, length, &bytes)), []);
        for unknown in [0, u64::MAX, i64::MAX as u64, u32::MAX.into()] {
            let file = rf64(name, unknown, &bytes);
            assert_eq!(samples(&file), expected(), "{unknown:x}");
            assert_eq!(warnings(&file), [Warning::LengthUnknown], "{unknown:x}");
        }
        for long in [length + 2, 1 << 30, 1 << 40] {
            let message = refusal(&rf64(name, long, &bytes));
            assert!(
                message.contains("truncated") || message.contains("4 hours"),
                "{message}"
            );
        }
    }
    for (format, bytes) in [
        (format(1, 1, 16, 2), bytes.clone()),
        (format(3, 1, 64, 8), floats(8, Little)),
        (extensible(1, 32, 24, 4), integers(4, Little)),
    ] {
        let format = long_chunk(b"fmt ", 24 + format.len() as u64, &format);
        // Filled up to 8 bytes.
        let fact = long_chunk(b"fact", 24 + 4, &[8, 0, 0, 0]);
        let with = |length: u64| {
            let data = long_chunk(b"data", length, &bytes);
            wave64(&[format.clone(), fact.clone(), data])
        };
        let length = 24 + bytes.len() as u64;
        assert_eq!(samples(&with(length)), expected());
        assert_eq!(warnings(&with(length)), []);
        for unknown in [24, i64::MAX as u64, u64::MAX] {
            assert_eq!(samples(&with(unknown)), expected());
            assert_eq!(warnings(&with(unknown)), [Warning::LengthUnknown]);
        }
        for long in [length + 8, 1 << 40] {
            let message = refusal(&with(long));
            assert!(
                message.contains("truncated") || message.contains("4 hours"),
                "{message}"
            );
        }
        refusal(&with(3));
    }
}

#[test]
fn aiff_of_every_encoding() {
    for (kind, bits, bytes) in [
        (None, 8, integers(1, Big)),
        (None, 16, integers(2, Big)),
        (None, 12, integers(2, Big)),
        (None, 24, integers(3, Big)),
        (None, 32, integers(4, Big)),
        (Some(b"NONE"), 16, integers(2, Big)),
        (Some(b"twos"), 24, integers(3, Big)),
        (Some(b"sowt"), 16, integers(2, Little)),
        (Some(b"sowt"), 24, integers(3, Little)),
        (Some(b"raw "), 8, unsigned()),
        (Some(b"in24"), 24, integers(3, Big)),
        (Some(b"in32"), 32, integers(4, Big)),
        (Some(b"42ni"), 24, integers(3, Little)),
        (Some(b"23ni"), 32, integers(4, Little)),
        (Some(b"fl32"), 32, floats(4, Big)),
        (Some(b"FL32"), 32, floats(4, Big)),
        (Some(b"fl64"), 64, floats(8, Big)),
        (Some(b"FL64"), 64, floats(8, Big)),
    ] {
        let file = aiff(kind, bits, &bytes);
        assert_eq!(samples(&file), expected(), "{kind:?}");
        assert_eq!(warnings(&file), [], "{kind:?}");
    }
    for (kind, (bytes, values)) in [
        (b"ulaw", MU_LAW),
        (b"ULAW", MU_LAW),
        (b"alaw", A_LAW),
        (b"ALAW", A_LAW),
    ] {
        // Programs write 8 or 16 bits.
        for bits in [8, 16] {
            assert_eq!(samples(&aiff(Some(kind), bits, &bytes)), values);
        }
    }
    // No program writes them, and AIFF has no more than 32.
    for bits in [0, 33, 40, 64, 65, u16::MAX] {
        let file = aiff_with(None, bits, 8, 8 + 64, &[0; 64]);
        let message = refusal(&file);
        assert!(message.contains(&format!("({bits} bits)")), "{message}");
    }
    let message = refusal(&aiff(Some(b"ima4"), 16, &[0; 64]));
    assert!(message.contains("AIFF-C with ima4"), "{message}");
}

#[test]
fn aiff_that_is_unfinished_or_cut() {
    let bytes = integers(2, Big);
    for (frames, length) in [
        (0, 0),
        (0, 0xffff_ffff),
        (u32::MAX, u32::MAX),
        (0x3f7f_fff0, 0x7f00_0000),
    ] {
        let file = aiff_with(None, 16, frames, length, &bytes);
        assert_eq!(samples(&file), expected(), "{frames:x} {length:x}");
        assert_eq!(warnings(&file), [Warning::LengthUnknown]);
    }
    let whole = aiff(None, 16, &bytes);
    for length in 12..whole.len() {
        let message = refusal(&whole[..length]);
        assert!(message.contains("truncated"), "{length}: {message}");
    }
}

/// The number of frames and the length of the chunk that holds them.
#[test]
fn aiff_whose_two_lengths_differ() {
    let bytes = integers(2, Big);
    let more = short_chunk(Big, b"APPL", 16, &[0x55; 16]);
    let file =
        |frames, length| [aiff_with(None, 16, frames, length, &bytes), more.clone()].concat();
    // Another chunk's bytes are no sound.
    for frames in [9, 16, 1000] {
        let message = refusal(&file(frames, 8 + 16));
        assert!(message.contains("8 are there"), "{message}");
    }
    let short = file(2, 8 + 16);
    assert_eq!(samples(&short), expected()[..2]);
    assert_eq!(warnings(&short), [Warning::Surplus { bytes: 12 }]);
    // The chunk knows where the count is none, and the count where the chunk does not.
    for (frames, length) in [
        (8, 24),
        (0, 24),
        (u32::MAX, 24),
        (8, 0),
        (8, 8),
        (8, u32::MAX),
    ] {
        let file = file(frames, length);
        assert_eq!(samples(&file), expected(), "{frames} {length}");
        assert_eq!(warnings(&file), [], "{frames} {length}");
    }
    let empty = [aiff_with(None, 16, 0, 8, &[]), more.clone()].concat();
    assert!(refusal(&empty).contains("holds no samples"));
}

#[test]
fn au_of_every_encoding() {
    for order in [Big, Little] {
        for (kind, bytes) in [
            (2, integers(1, order)),
            (3, integers(2, order)),
            (4, integers(3, order)),
            (5, integers(4, order)),
            (6, floats(4, order)),
            (7, floats(8, order)),
        ] {
            let file = au(order, kind, 1, bytes.len() as u32, &bytes);
            assert_eq!(samples(&file), expected(), "{kind}");
            assert_eq!(warnings(&file), []);
            for unknown in [u32::MAX, 0] {
                let file = au(order, kind, 1, unknown, &bytes);
                assert_eq!(samples(&file), expected(), "{kind}");
                assert_eq!(warnings(&file), [Warning::LengthUnknown]);
            }
            let cut = au(order, kind, 1, bytes.len() as u32 + 8, &bytes);
            assert!(refusal(&cut).contains("truncated"));
        }
        for (kind, (bytes, values)) in [(1, MU_LAW), (27, A_LAW)] {
            assert_eq!(samples(&au(order, kind, 1, 4, &bytes)), values);
        }
        assert!(refusal(&au(order, 23, 1, 4, &[0; 4])).contains("G.72x"));
        assert!(refusal(&au(order, 99, 1, 4, &[0; 4])).contains("kind 99"));
        assert!(refusal(&au(order, 3, 0, 4, &[0; 4])).contains("no channels"));
        assert!(refusal(&au(order, 3, u32::MAX, 4, &[0; 4])).contains("channels"));
    }
}

#[test]
fn sphere_of_every_encoding() {
    for (bytes, order, way) in [
        (1, "1", Little),
        (1, "", Little),
        (2, "01", Little),
        (2, "10", Big),
        (2, "", Little),
        (3, "012", Little),
        (3, "210", Big),
        (4, "0123", Little),
        (4, "3210", Big),
    ] {
        for coding in ["pcm", "", "PCM"] {
            for header in [1024, 2048] {
                let lines = sphere_lines(VALUES.len(), bytes, order, coding);
                let file = sphere(&lines, header, &integers(bytes, way));
                assert_eq!(samples(&file), expected(), "{bytes} {order}");
                assert_eq!(warnings(&file), []);
            }
        }
    }
    for (codings, (bytes, values)) in [(["ulaw", "mu-law"], MU_LAW), (["alaw", "a-law"], A_LAW)] {
        for coding in codings {
            assert_eq!(
                samples(&sphere(&sphere_lines(4, 1, "1", coding), 1024, &bytes)),
                values
            );
        }
    }
}

#[test]
fn sphere_that_is_not_read_or_cut() {
    let bytes = integers(2, Little);
    for (coding, words) in [
        ("pcm,embedded-shorten-v2.00", "compressed with shorten"),
        ("ulaw,embedded-shorten-v1.09", "compressed with shorten"),
        ("pcm,embedded-wavpack", "wavpack"),
        ("pculaw", "kind pculaw"),
    ] {
        let message = refusal(&sphere(&sphere_lines(8, 2, "01", coding), 1024, &bytes));
        assert!(message.contains(words), "{message}");
    }
    let lines = sphere_lines(8, 2, "01", "pcm");
    let whole = sphere(&lines, 1024, &bytes);
    for length in (8..whole.len()).step_by(7).chain([whole.len() - 1]) {
        assert!(refusal(&whole[..length]).contains("truncated"), "{length}");
    }
    // Filling behind the samples is no sound.
    assert_eq!(samples(&[&whole[..], &[1; 96]].concat()), expected());
    // Without a count the file's end is the sound's.
    let uncounted = sphere(&lines.replace("sample_count -i 8\n", ""), 1024, &bytes);
    assert_eq!(samples(&uncounted), expected());
    assert_eq!(warnings(&uncounted), [Warning::LengthUnknown]);
    for (from, to, words) in [
        ("sample_rate -i 16000\n", "", "no sample_rate"),
        ("16000", "fast", "sample_rate is fast"),
        ("-i 16000", "-i -5", "sample_rate is -5"),
        ("s2 01", "s2 11", "sample_byte_format is 11"),
        ("channel_count -i 1", "channel_count -i 0", "no channels"),
        (
            "channel_count -i 1",
            "channel_count -i 99999999",
            "channels",
        ),
        ("sample_n_bytes -i 2", "sample_n_bytes -i 9", "in 9 bytes"),
    ] {
        let message = refusal(&sphere(&lines.replace(from, to), 1024, &bytes));
        assert!(message.contains(words), "{message}");
    }
    for length in ["0", "-1", "abc", "99999999999999999999999"] {
        refusal(format!("NIST_1A\n{length:>7}\nend_head\n").as_bytes());
    }
}

/// Channels are averaged in every container.
#[test]
fn channels_are_averaged() {
    let pair = |order: Order| {
        let frames = [[16_384i16, 0], [-16_384, -8_192]];
        let values = frames.concat().into_iter();
        let bytes = values.flat_map(|x| match order {
            Big => x.to_be_bytes(),
            Little => x.to_le_bytes(),
        });
        bytes.collect::<Vec<u8>>()
    };
    let lines = sphere_lines(2, 2, "10", "pcm").replace("channel_count -i 1", "channel_count -i 2");
    for file in [
        plain(&format(1, 2, 16, 4), &pair(Little)),
        au(Big, 3, 2, 8, &pair(Big)),
        sphere(&lines, 1024, &pair(Big)),
    ] {
        assert_eq!(samples(&file), [0.25, -0.375]);
    }
}

#[test]
fn odd_sounds_are_warned_of() {
    let stereo = |one: &dyn Fn(f32) -> f32, other: &dyn Fn(f32) -> f32| {
        let wave = (0..4000u16).map(|n| (f32::from(n) * 0.1).sin());
        let frames = wave.flat_map(|x| [one(x), other(x)]);
        let bytes: Vec<u8> = frames.flat_map(f32::to_le_bytes).collect();
        warnings(&plain(&format(3, 2, 32, 8), &bytes))
    };
    assert_eq!(stereo(&|x| x, &|x| x), []);
    assert_eq!(stereo(&|x| x, &|_| 0.0), []);
    assert_eq!(stereo(&|x| x, &|x| -x), [Warning::Cancelling]);
    assert_eq!(stereo(&|_| 0.0, &|_| 0.0), [Warning::Silent]);
    let loud = stereo(&|x| 9000.0 * x, &|x| 9000.0 * x);
    assert!(matches!(loud[..], [Warning::Loud { peak }] if (8990.0..=9000.0).contains(&peak)));
    // The same of samples in memory.
    let loud = Sound::new(&[0.0, 9000.0], RATE).unwrap();
    assert_eq!(loud.warnings(), [Warning::Loud { peak: 9000.0 }]);
}

/// Any byte changed gives a sound or an error of one line.
#[test]
fn damaged_headers_do_no_harm() {
    let bytes = integers(2, Little);
    let files = [
        plain(&format(1, 1, 16, 2), &bytes),
        plain(&extensible(1, 16, 16, 2), &bytes),
        rf64(b"RF64", 16, &bytes),
        wave64(&[
            long_chunk(b"fmt ", 40, &format(1, 1, 16, 2)),
            long_chunk(b"data", 40, &bytes),
        ]),
        aiff(Some(b"sowt"), 16, &bytes),
        au(Big, 3, 1, 16, &bytes),
        sphere(&sphere_lines(8, 2, "01", "pcm"), 1024, &bytes),
    ];
    for whole in files {
        for i in 0..whole.len().min(300) {
            for value in [0, 1, 0x20, 0x7f, 0x80, 0xff] {
                let mut file = whole.clone();
                file[i] = value;
                match Sound::decode(file) {
                    Ok(sound) => assert!(sound.waveform().samples.iter().all(|x| x.is_finite())),
                    Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
                }
            }
        }
    }
}

/// What is no sound is called by its name.
#[test]
fn tags_pointers_and_folders() {
    let file = plain(&format(1, 1, 16, 2), &integers(2, Little));
    let tag = b"ID3\x04\0\0\0\0\0\x05abcde";
    let tagged = [tag, &file[..]].concat();
    assert_eq!(samples(&tagged), expected());
    assert_eq!(warnings(&tagged), []);
    let sound = Sound::from_reader(&tagged[..]).unwrap();
    assert_eq!(sound.waveform().samples, expected());
    let message = refusal(&[tag, &file[..file.len() - 4]].concat());
    assert!(message.contains("its header promises 8"), "{message}");
    refusal(tag);

    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n";
    let message = refusal(pointer);
    assert!(message.contains("Git LFS pointer"), "{message}");
    let folder = tempfile::tempdir().unwrap();
    let message = Sound::read(folder.path()).unwrap_err().to_string();
    assert!(message.contains("is a folder, not a sound"), "{message}");
}

/// What gives bytes in order, such as a pipe, is read like a file, and not
/// beyond what tells that it is none.
#[test]
fn readers_are_read_to_their_end() {
    let file = plain(&format(1, 1, 16, 2), &integers(2, Little));
    let sound = Sound::from_reader(&file[..]).unwrap();
    assert_eq!(sound.waveform().samples, expected());
    let message = Sound::from_reader(std::io::repeat(0))
        .unwrap_err()
        .to_string();
    assert!(message.contains("unknown format"), "{message}");
    let message = Sound::from_reader(std::io::empty())
        .unwrap_err()
        .to_string();
    assert!(message.contains("empty"), "{message}");
}
