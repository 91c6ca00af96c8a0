//! Files made of chunks: a name, a length, that many bytes.

use super::encoding::Order;
use super::is_filling;

/// How chunks are written.
#[derive(Clone, Copy, Debug)]
pub(super) enum Style {
    /// Names of 4 bytes, lengths of 32 bits; an odd length is followed by a
    /// byte of padding, which some writers leave out.
    Short(Order),
    /// Names of 16 bytes, of which the first 4 are looked at; lengths of 64
    /// bits that count name and length, filled up to a multiple of 8.
    Long,
}

/// A chunk as far as the file goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunk<'a> {
    pub name: [u8; 4],
    /// Length of its content.
    pub stated: u64,
    /// All that follows its head.
    pub rest: &'a [u8],
}

impl<'a> Chunk<'a> {
    /// Its content, if all of it is there.
    pub fn content(&self) -> Option<&'a [u8]> {
        self.rest.get(..usize::try_from(self.stated).ok()?)
    }
}

/// Names that stand in sound files, by which a chunk is told from what is none.
const KNOWN: [&[u8; 4]; 32] = [
    b"fmt ", b"data", b"fact", b"LIST", b"list", b"ds64", b"JUNK", b"junk", b"bext", b"PAD ",
    b"cue ", b"smpl", b"inst", b"cart", b"PEAK", b"iXML", b"axml", b"chna", b"id3 ", b"ID3 ",
    b"_PMX", b"afsp", b"COMM", b"SSND", b"FVER", b"MARK", b"INST", b"APPL", b"NAME", b"AUTH",
    b"ANNO", b"COMT",
];

fn is_known(bytes: &[u8]) -> bool {
    KNOWN.iter().any(|name| bytes.starts_with(*name))
}

/// What programs write that cannot come back to write the length: numbers near
/// 2^31 (arecord, SoX), 2^32 (ffmpeg), 2^63 and 2^64, less what stands before
/// the samples and rounded to whole frames. No file has 2^62 bytes.
pub(super) fn is_no_length(stated: u64) -> bool {
    stated >= 1 << 62 || is_near(stated, 1 << 31) || is_near(stated, 1 << 32)
}

/// Whether a header and an unfinished frame can be the whole difference.
pub(super) fn is_near(stated: u64, number: u64) -> bool {
    stated.abs_diff(number) <= 1 << 16
}

impl Style {
    /// The chunk at the beginning of `bytes`, if a head is there.
    pub fn first(self, bytes: &[u8]) -> Option<Chunk<'_>> {
        let name = bytes.first_chunk::<4>().copied()?;
        let (stated, rest) = match self {
            Self::Short(order) => {
                let length = bytes.get(4..8)?.try_into().ok()?;
                (order.u32(length).into(), &bytes[8..])
            }
            Self::Long => {
                let length: [u8; 8] = bytes.get(16..24)?.try_into().ok()?;
                (u64::from_le_bytes(length).checked_sub(24)?, &bytes[24..])
            }
        };
        Some(Chunk { name, stated, rest })
    }

    /// What follows a chunk, if all of the chunk is there.
    pub fn after<'a>(self, chunk: &Chunk<'a>) -> Option<&'a [u8]> {
        let length = usize::try_from(chunk.stated).ok()?;
        let rest = chunk.rest.get(length..)?;
        let padding = match self {
            Self::Long => length.next_multiple_of(8) - length,
            Self::Short(_) if length.is_multiple_of(2) => 0,
            Self::Short(_) => {
                let padded = rest.get(1..).is_some_and(is_known);
                usize::from(padded || !is_known(rest))
            }
        };
        Some(rest.get(padding..).unwrap_or_default())
    }

    /// How many bytes behind a sound's stated end are no part of the file: all,
    /// unless a chunk begins there or something is filled up.
    pub fn surplus(self, bytes: &[u8]) -> usize {
        match is_known(bytes) || is_filling(bytes) || self.are_chunks(bytes) {
            true => 0,
            false => bytes.len(),
        }
    }

    /// Whether `bytes` are whole chunks with names, and nothing else; of many
    /// the first are looked at.
    pub fn are_chunks(self, mut bytes: &[u8]) -> bool {
        const ENOUGH: usize = 16;
        for _ in 0..ENOUGH {
            if bytes.is_empty() {
                break;
            }
            let Some(chunk) = self.first(bytes) else {
                return false;
            };
            let named = chunk.name.iter().all(|byte| (b' '..=b'~').contains(byte));
            match self.after(&chunk) {
                Some(rest) if named => bytes = rest,
                _ => return false,
            }
        }
        true
    }
}
