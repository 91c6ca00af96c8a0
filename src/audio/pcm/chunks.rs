//! Files made of chunks: a name, a length, that many bytes.

use super::encoding::Order;

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

/// Names that stand in sound files, by which padding is told that is missing.
const KNOWN: [&[u8; 4]; 14] = [
    b"fmt ", b"data", b"fact", b"LIST", b"ds64", b"JUNK", b"junk", b"bext", b"PAD ", b"cue ",
    b"COMM", b"SSND", b"FVER", b"MARK",
];

impl Style {
    /// The chunk at the beginning of `bytes`, if a head is there.
    pub fn first(self, bytes: &[u8]) -> Option<Chunk<'_>> {
        let name = bytes.first_chunk::<4>().copied()?;
        let (stated, rest) = match self {
            Self::Short(order) => {
                let length: [u8; 4] = bytes.get(4..8)?.try_into().ok()?;
                let length = match order {
                    Order::Little => u32::from_le_bytes(length),
                    Order::Big => u32::from_be_bytes(length),
                };
                (length.into(), &bytes[8..])
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
                let known = |rest: &[u8]| KNOWN.iter().any(|name| rest.starts_with(*name));
                let padded = rest.get(1..).is_some_and(known);
                usize::from(padded || !known(rest))
            }
        };
        Some(rest.get(padding..).unwrap_or_default())
    }

    /// Whether `bytes` are whole chunks with names, and nothing else.
    pub fn are_chunks(self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
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
