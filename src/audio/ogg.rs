//! The pages of an OGG file (RFC 3533).

/// A page is the first, or the last, of its stream.
const FIRST: u8 = 2;
const LAST: u8 = 4;

/// The first page of `bytes`: its flags, and what follows it.
fn page(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let (head, rest) = bytes.split_at_checked(27)?;
    if !head.starts_with(b"OggS") {
        return None;
    }
    let (segments, rest) = rest.split_at_checked(head[26].into())?;
    let length = segments.iter().map(|&n| usize::from(n)).sum();
    let (_, rest) = rest.split_at_checked(length)?;
    Some((head[5], rest))
}

/// Sounds that stand one behind the other. What follows the last page, such as
/// a tag, stays with the last.
pub(super) fn links(bytes: &[u8]) -> Vec<&[u8]> {
    let mut links = Vec::new();
    let (mut begin, mut rest) = (0, bytes);
    let mut began = false;
    while let Some((flags, after)) = page(rest) {
        let at = bytes.len() - rest.len();
        if flags & FIRST == 0 {
            began = true;
        } else if began {
            links.push(&bytes[begin..at]);
            (begin, began) = (at, false);
        }
        rest = after;
    }
    links.push(&bytes[begin..]);
    links
}

/// Whether the last page is whole and marked as the last.
pub(super) fn ends(mut bytes: &[u8]) -> bool {
    let mut last = false;
    // What follows the pages, such as a tag, is no concern.
    while bytes.starts_with(b"OggS") {
        let Some((flags, rest)) = page(bytes) else {
            return false;
        };
        last = flags & LAST != 0;
        bytes = rest;
    }
    last
}

/// Whether the first stream is Opus.
pub(super) fn is_opus(bytes: &[u8]) -> bool {
    bytes.get(28..36) == Some(b"OpusHead")
}
