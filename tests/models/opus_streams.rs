//! Opus in containers made byte by byte: among other streams, of many channels,
//! and with packets that are none.

use opus_pure::OggOpusReader;
use sonograd::Sound;
use sonograd::audio::Warning;

/// 24 kbit/s, one channel, packets of 20 ms.
fn speech() -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/audio");
    std::fs::read(format!("{folder}/speech.opus")).unwrap()
}

fn packets() -> Vec<Vec<u8>> {
    let speech = speech();
    let mut reader = OggOpusReader::new(&speech[..]).unwrap();
    reader.packets().map(|own| own.unwrap().data).collect()
}

fn samples(file: &[u8]) -> Vec<f32> {
    let sound = Sound::decode(file).unwrap();
    sound.waveform().samples.clone()
}

fn refusal(file: &[u8]) -> String {
    let message = Sound::decode(file).unwrap_err().to_string();
    assert!(!message.contains('\n'), "{message}");
    message
}

/// A page of another stream (RFC 3533).
fn page(flags: u8, number: u32, content: &[u8]) -> Vec<u8> {
    let mut page = [&b"OggS\0"[..], &[flags], &[0; 8], b"skel"].concat();
    page.extend(number.to_le_bytes());
    page.extend([0; 4]);
    page.extend([1, content.len() as u8]);
    page.extend(content);
    let mut sum = 0u32;
    for &byte in &page {
        sum ^= u32::from(byte) << 24;
        for _ in 0..8 {
            let carry = sum >> 31;
            sum = (sum << 1) ^ (carry * 0x04c1_1db7);
        }
    }
    page[22..26].copy_from_slice(&sum.to_le_bytes());
    page
}

/// Where the pages of a file begin.
fn begins(file: &[u8]) -> Vec<usize> {
    let all = file.windows(4).enumerate();
    all.filter(|(_, own)| own == b"OggS")
        .map(|(i, _)| i)
        .collect()
}

#[test]
fn opus_among_other_streams_is_as_alone() {
    let alone = speech();
    let expected = samples(&alone);
    let pages = begins(&alone);
    let (head, rest) = alone.split_at(pages[1]);
    let first = page(2, 0, &[&b"fishead\0\x03\0\0\0"[..], &[0; 52]].concat());
    let last = page(4, 1, &[]);
    for file in [
        [&first, head, &last, rest].concat(),
        [head, &first, &last, rest].concat(),
        [head, &first, rest, &last].concat(),
    ] {
        let sound = Sound::decode(file.clone()).unwrap();
        assert!(sound.waveform().samples == expected);
        assert_eq!(sound.warnings(), []);
        let twice = Sound::decode([&file[..], &file].concat()).unwrap();
        assert_eq!(twice.waveform().samples.len(), 2 * expected.len());
        assert_eq!(twice.warnings(), [Warning::Several { count: 2 }]);
    }
    // Without its last page, and within it.
    let file = [&first, head, &last, rest].concat();
    let begin = *begins(&file).last().unwrap();
    for length in [begin, begin + 9, begin + 60, file.len() - 1] {
        let message = refusal(&file[..length]);
        let known = message.contains("truncated") || message.contains("damaged");
        assert!(known, "{length}: {message}");
    }
}

/// An element of Matroska (RFC 8794), its length in 8 bytes.
fn element(id: &[u8], content: &[u8]) -> Vec<u8> {
    let length = (1u64 << 56 | content.len() as u64).to_be_bytes();
    [id, &length, content].concat()
}

fn webm(channels: u8, streams: &[u8], packets: &[Vec<u8>]) -> Vec<u8> {
    let family = u8::from(!streams.is_empty());
    let head = [
        &b"OpusHead\x01"[..],
        &[channels, 0, 0, 0x80, 0xbb, 0, 0, 0, 0, family],
        streams,
    ];
    let rate = element(&[0xb5], &48_000f64.to_be_bytes());
    let sound = [rate, element(&[0x9f], &[channels])].concat();
    let track = [
        element(&[0xd7], &[1]),
        element(&[0x73, 0xc5], &[1]),
        element(&[0x83], &[2]),
        element(&[0x86], b"A_OPUS"),
        element(&[0x63, 0xa2], &head.concat()),
        element(&[0xe1], &sound),
    ];
    let mut cluster = element(&[0xe7], &[0]);
    for (i, packet) in packets.iter().enumerate() {
        let time = (20 * i as u16).to_be_bytes();
        let block = [&[0x81][..], &time, &[0x80], packet].concat();
        cluster.extend(element(&[0xa3], &block));
    }
    let tracks = element(&[0xae], &track.concat());
    let about = [
        element(&[0x2a, 0xd7, 0xb1], &[0x0f, 0x42, 0x40]),
        element(&[0x4d, 0x80], b"own"),
        element(&[0x57, 0x41], b"own"),
    ];
    let segment = [
        element(&[0x15, 0x49, 0xa9, 0x66], &about.concat()),
        element(&[0x16, 0x54, 0xae, 0x6b], &tracks),
        element(&[0x1f, 0x43, 0xb6, 0x75], &cluster),
    ];
    let kind = element(&[0x42, 0x82], b"webm");
    [
        element(&[0x1a, 0x45, 0xdf, 0xa3], &kind),
        element(&[0x18, 0x53, 0x80, 0x67], &segment.concat()),
    ]
    .concat()
}

/// To the decoder it is a packet that was lost, for which it makes sound up.
#[test]
fn an_empty_packet_is_refused() {
    let mut packets = packets()[..10].to_vec();
    assert_eq!(samples(&webm(1, &[], &packets)).len(), 3200);
    for place in [0, 5, 9] {
        let whole = std::mem::take(&mut packets[place]);
        let message = refusal(&webm(1, &[], &packets));
        assert!(message.contains("damaged Opus"), "{message}");
        packets[place] = whole;
    }
}

/// Six channels are four streams, of which two are of two channels (RFC 7845).
#[test]
fn opus_of_six_channels_is_their_mean() {
    let one = packets();
    let alone = samples(&webm(1, &[], &one));
    // Silence of 20 ms; each stream but the last says how long it is.
    let silent = [
        [0xfc, 2, 0xff, 0xfe],
        [0xfc, 2, 0xff, 0xfe],
        [0xf8, 2, 0xff, 0xfe],
    ]
    .concat();
    let six: Vec<Vec<u8>> = one.iter().map(|own| [&silent, &own[..]].concat()).collect();
    let streams = [4, 2, 0, 4, 1, 2, 3, 5];
    let mean = samples(&webm(6, &streams, &six));
    assert_eq!(mean.len(), alone.len());
    for (mean, alone) in mean.iter().zip(&alone) {
        assert!((6.0 * mean - alone).abs() < 1e-5, "{mean} {alone}");
    }
    let other = [3, 3, 0, 4, 1, 2, 3, 5];
    let message = refusal(&webm(6, &other, &six));
    assert!(
        message.contains("Opus of 6 channels in a layout"),
        "{message}"
    );
}
