//! Where one MP3 ends and the next begins, in files that hold several one
//! behind the other. The decoder stops where the first one says that it ends.

/// The parts of a file that are sounds of their own; one if it is not made of
/// MP3's frames.
pub(super) fn pieces(bytes: &[u8]) -> Vec<&[u8]> {
    let mut begins = Vec::new();
    let mut walk = Walk::default();
    let mut at = 0;
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        if let Some(length) = id3(rest) {
            walk.tagged(at);
            at += length;
        } else if let Some(frame) = Frame::read(rest) {
            // A sound behind a frame that is cut off, or without a frame, is none.
            let found = walk.frame(at, &frame, rest);
            let behind = begins.last().copied();
            let found = found.filter(|&own| own < bytes.len() && behind.is_none_or(|b| own > b));
            if let Some(begin) = found {
                // What stands before the first is its tag, or junk that the decoder skips.
                let first = begins.is_empty() && begin == at;
                begins.push(if first { 0 } else { begin });
            }
            at += frame.length;
        } else {
            let next = rest[1..].iter().position(|&b| matches!(b, 0xff | b'I'));
            at += next.map_or(rest.len(), |n| n + 1);
        }
    }
    let ends = begins.iter().skip(1).copied().chain([bytes.len()]);
    let pieces: Vec<&[u8]> = begins
        .iter()
        .zip(ends)
        .map(|(&begin, end)| &bytes[begin..end])
        .collect();
    if pieces.is_empty() {
        vec![bytes]
    } else {
        pieces
    }
}

/// Whether a sound's frames are others than those that its first frame has a
/// checksum of, as LAME and FFmpeg write it.
pub(super) fn is_changed(piece: &[u8]) -> bool {
    let mut rest = piece;
    while let Some(length) = id3(rest) {
        rest = rest.get(length..).unwrap_or_default();
    }
    let sum = Frame::head(rest).and_then(|frame| Some((frame.sum(rest)?, frame.length)));
    let Some((Sum { length, sum }, first)) = sum else {
        return false;
    };
    // One that is cut short is found by its number of frames.
    let music = rest.get(first..length);
    music.is_some_and(|music| crc_16(music) != sum)
}

/// The checksum of LAME's tag: the polynomial 0x8005, lowest bit first.
fn crc_16(bytes: &[u8]) -> u16 {
    let of_byte = |byte: u16| {
        (0..8).fold(byte, |sum, _| match sum & 1 {
            0 => sum >> 1,
            _ => sum >> 1 ^ 0xa001,
        })
    };
    let table: [u16; 256] = std::array::from_fn(|byte| of_byte(byte as u16));
    let next = |sum: u16, &byte: &u8| sum >> 8 ^ table[usize::from(sum as u8 ^ byte)];
    bytes.iter().fold(0, next)
}

/// What the first frame says of the bytes of the others.
struct Sum {
    /// Bytes of all frames, this one among them.
    length: usize,
    /// Of those behind this one.
    sum: u16,
}

/// What is known of the sound whose frames go by.
#[derive(Default)]
struct Walk {
    /// Where a tag stands that no frame has followed yet.
    tag: Option<usize>,
    /// Frames of this sound; absent before the first.
    frames: Option<u64>,
    /// How many it says it has.
    promised: Option<u64>,
    /// Where the first frame stands that it did not promise.
    beyond: Option<usize>,
}

impl Walk {
    /// Encoders disagree whether a sound's first frame, which says how many
    /// there are, is one of them.
    const LEEWAY: u64 = 2;

    fn tagged(&mut self, at: usize) {
        self.tag.get_or_insert(at);
    }

    /// Takes a frame; where another sound began, if it shows one.
    fn frame(&mut self, at: usize, frame: &Frame, bytes: &[u8]) -> Option<usize> {
        let tag = self.tag.take();
        let info = frame.info(bytes);
        // An encoder that never came back to count them. The decoder would take its word.
        if info.is_some_and(|info| info.frames == Some(0)) {
            return Some(self.begin(at + frame.length, None));
        }
        let Some(frames) = &mut self.frames else {
            return Some(self.begin(at, info));
        };
        if tag.is_some() || info.is_some() {
            return Some(self.begin(tag.unwrap_or(at), info));
        }
        *frames += 1;
        let promised = self.promised?;
        if *frames <= promised {
            return None;
        }
        let beyond = *self.beyond.get_or_insert(at);
        (*frames > promised + Self::LEEWAY).then(|| {
            self.promised = None;
            beyond
        })
    }

    fn begin(&mut self, at: usize, info: Option<Info>) -> usize {
        *self = Self {
            // The frame that tells of the others holds no sound.
            frames: Some(u64::from(info.is_none())),
            promised: info.and_then(|info| info.frames),
            ..Self::default()
        };
        at
    }
}

/// The length of an ID3v2 tag.
pub(super) fn id3(bytes: &[u8]) -> Option<usize> {
    let head: &[u8; 10] = bytes.first_chunk()?;
    let whole = head.starts_with(b"ID3") && head[6..].iter().all(|&byte| byte < 0x80);
    let length = head[6..]
        .iter()
        .fold(0, |all, &byte| all << 7 | usize::from(byte));
    let footer = if head[5] & 0x10 == 0 { 0 } else { 10 };
    whole.then_some(10 + length + footer)
}

/// A frame's header.
struct Frame {
    /// In bytes, with the header.
    length: usize,
    /// Where the first frame of a file tells of the others.
    info: usize,
}

/// What the first frame says of the others.
#[derive(Clone, Copy)]
struct Info {
    frames: Option<u64>,
}

impl Frame {
    /// A frame that is followed by another, or by the end or a tag.
    fn read(bytes: &[u8]) -> Option<Self> {
        let frame = Self::head(bytes)?;
        let after = bytes.get(frame.length..).unwrap_or_default();
        let known = after.len() < 4
            || id3(after).is_some()
            || after.starts_with(b"TAG")
            || after.starts_with(b"APE");
        (known || Self::head(after).is_some()).then_some(frame)
    }

    /// By ISO 11172-3 and 13818-3, layer III.
    fn head(bytes: &[u8]) -> Option<Self> {
        const KBITS: [[usize; 15]; 2] = [
            [
                0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320,
            ],
            [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160],
        ];
        let &[0xff, second, third, fourth] = bytes.first_chunk()? else {
            return None;
        };
        if second & 0xe6 != 0xe2 {
            return None;
        }
        let (lower, divisor) = match second >> 3 & 3 {
            3 => (0, 1),
            2 => (1, 2),
            0 => (1, 4),
            _ => return None,
        };
        let kbits = *KBITS[lower]
            .get(usize::from(third >> 4))
            .filter(|&&n| n > 0)?;
        let rate = [44_100, 48_000, 32_000].get(usize::from(third >> 2 & 3))? / divisor;
        let slots = if lower == 0 { 144_000 } else { 72_000 };
        let mono = fourth >> 6 == 3;
        Some(Self {
            length: slots * kbits / rate + usize::from(third >> 1 & 1),
            info: 4 + match (lower, mono) {
                (0, false) => 32,
                (0, true) | (1, false) => 17,
                _ => 9,
            },
        })
    }

    /// By the MP3 Info Tag, revision 1, of which only files with all that stands
    /// before it are read.
    fn sum(&self, bytes: &[u8]) -> Option<Sum> {
        const TAG: usize = 120;
        let name = bytes.get(self.info..self.info + 4)?;
        let flags: &[u8; 4] = bytes.get(self.info + 4..)?.first_chunk()?;
        let tag: &[u8; 36] = bytes.get(self.info + TAG..self.length)?.first_chunk()?;
        let known = (name == b"Xing" || name == b"Info")
            && flags[3] & 0xf == 0xf
            && (tag.starts_with(b"LAME") || tag.starts_with(b"Lav"));
        let length = u32::from_be_bytes([tag[28], tag[29], tag[30], tag[31]]);
        let sum = u16::from_be_bytes([tag[32], tag[33]]);
        // Those who could not come back leave zeros.
        let written = known && (length, sum) != (0, 0);
        let length = usize::try_from(length).ok()?;
        written.then_some(Sum { length, sum })
    }

    fn info(&self, bytes: &[u8]) -> Option<Info> {
        let bytes = &bytes[..self.length.min(bytes.len())];
        let u32_at = |at: usize| {
            let bytes = bytes.get(at..at + 4)?.try_into().ok()?;
            Some(u32::from_be_bytes(bytes))
        };
        let name = bytes.get(self.info..self.info + 4)?;
        if name == b"Xing" || name == b"Info" {
            let counted = u32_at(self.info + 4).is_some_and(|flags| flags & 1 != 0);
            let frames = u32_at(self.info + 8).filter(|_| counted);
            return Some(Info {
                frames: frames.map(u64::from),
            });
        }
        if bytes.get(36..40)? == b"VBRI" {
            return Some(Info {
                frames: u32_at(50).map(u64::from),
            });
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str) -> Vec<u8> {
        std::fs::read(format!("tests/fixtures/audio/{name}")).unwrap()
    }

    /// The fixture without the frame that tells of the others.
    fn untold(whole: &[u8]) -> &[u8] {
        &whole[Frame::read(whole).unwrap().length..]
    }

    #[test]
    fn sounds_one_behind_the_other_are_told_apart() {
        let whole = file("speech.mp3");
        let untold = untold(&whole);
        let tag = b"ID3\x04\0\0\0\0\0\x05abcde";
        assert_eq!(pieces(&whole), [&whole[..]]);
        assert_eq!(pieces(untold), [untold]);
        let tagged = [tag, untold].concat();
        for parts in [
            &[&whole[..], &whole][..],
            &[&whole, &whole, &whole],
            &[&whole, untold],
            &[untold, &whole],
            &[untold, &tagged],
            &[&tagged, &tagged],
        ] {
            assert_eq!(pieces(&parts.concat()), *parts);
        }
        // A tag that no frame follows is none's beginning.
        let closed = [&whole[..], tag].concat();
        assert_eq!(pieces(&closed), [&closed[..]]);
    }

    #[test]
    fn frames_that_were_changed_do_not_fit_their_sum() {
        let whole = file("speech.mp3");
        assert!(!is_changed(&whole) && !is_changed(untold(&whole)) && !is_changed(b""));
        let tagged = [b"ID3\x04\0\0\0\0\0\x05abcde", &whole[..]].concat();
        assert!(!is_changed(&tagged));
        // Behind the sound anything may stand.
        assert!(!is_changed(&[&whole[..], b"TAG and so on"].concat()));
        let first = Frame::head(&whole).unwrap().length;
        for place in (first..whole.len()).step_by(101) {
            for file in [&whole, &tagged] {
                let mut changed = file.clone();
                changed[place + file.len() - whole.len()] ^= 4;
                assert!(is_changed(&changed), "{place}");
            }
        }
        for length in 0..whole.len() {
            assert!(!is_changed(&whole[..length]), "{length}");
        }
    }

    #[test]
    fn a_frame_of_no_others_that_is_cut_off_is_one_piece() {
        let mut frame = b"\xff\xf3\x88\xc4".to_vec();
        frame.extend([0; 9]);
        frame.extend(b"Info\0\0\0\x01\0\0\0\0");
        frame.resize(Frame::read(&frame).unwrap().length, 0);
        for length in 0..=frame.len() {
            assert_eq!(pieces(&frame[..length]).concat(), &frame[..length]);
        }
    }

    #[test]
    fn other_files_and_broken_ones_are_one_piece_or_several_whole_ones() {
        let other = file("speech.flac");
        assert_eq!(pieces(&other), [&other[..]]);
        assert_eq!(pieces(b""), [b""]);
        let whole = [file("speech.mp3"), file("speech.mp3")].concat();
        for length in (0..whole.len()).step_by(13) {
            assert_eq!(pieces(&whole[..length]).concat(), &whole[..length]);
        }
        for i in 0..2000 {
            let mut broken = whole.clone();
            broken[i] ^= 0x41;
            assert_eq!(pieces(&broken).concat(), broken);
        }
    }
}
