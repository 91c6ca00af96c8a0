//! How much of a Matroska or WebM file there should be (RFC 8794, RFC 9559).

/// What a file says of its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    Whole,
    /// It ends before it says.
    Cut,
    /// It was written while it was sent.
    Unknown,
}

impl Extent {
    pub fn of(bytes: &[u8]) -> Self {
        const SEGMENT: u32 = 0x1853_8067;
        let mut rest = bytes;
        while let Some((id, length, content)) = element(rest) {
            let after = length.map(|length| {
                let length = usize::try_from(length).ok()?;
                content.get(length..)
            });
            match after {
                None => return Self::Unknown,
                Some(None) => return Self::Cut,
                Some(Some(_)) if id == SEGMENT => return Self::Whole,
                Some(Some(after)) => rest = after,
            }
        }
        Self::Cut
    }
}

/// The first element: its name, its length where it is known, and all that
/// follows these.
fn element(bytes: &[u8]) -> Option<(u32, Option<u64>, &[u8])> {
    let size = bytes.first()?.leading_zeros() as usize + 1;
    let (id, rest) = bytes.split_at_checked(size).filter(|_| size <= 4)?;
    let id = id.iter().fold(0, |all, &byte| all << 8 | u32::from(byte));
    let size = rest.first()?.leading_zeros() as usize + 1;
    let (length, rest) = rest.split_at_checked(size).filter(|_| size <= 8)?;
    let bits = 7 * size as u32;
    let length = length
        .iter()
        .fold(0, |all, &byte| all << 8 | u64::from(byte));
    let length = length & ((1 << bits) - 1);
    // All ones are a length that is not known.
    Some((id, (length != (1 << bits) - 1).then_some(length), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_the_segment_counts() {
        let whole = std::fs::read("tests/fixtures/audio/speech.webm").unwrap();
        assert_eq!(Extent::of(&whole), Extent::Whole);
        for length in 0..whole.len() {
            assert_eq!(Extent::of(&whole[..length]), Extent::Cut, "{length}");
        }
        let head = [0x1a, 0x45, 0xdf, 0xa3, 0x81, 7];
        let live = [
            &head[..],
            &[0x18, 0x53, 0x80, 0x67, 1],
            &[0xff; 7],
            &[1, 2, 3],
        ]
        .concat();
        assert_eq!(Extent::of(&live), Extent::Unknown);
        let live = [&head[..], &[0x18, 0x53, 0x80, 0x67, 0xff]].concat();
        assert_eq!(Extent::of(&live), Extent::Unknown);
        assert_eq!(Extent::of(&[0x1a, 0x45, 0xdf, 0xa3, 0]), Extent::Cut);
    }
}
