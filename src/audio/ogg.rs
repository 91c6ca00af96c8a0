//! The pages of an OGG file (RFC 3533).

use std::borrow::Cow;

/// A page is the first, or the last, of its stream.
const FIRST: u8 = 2;
const LAST: u8 = 4;

struct Page<'a> {
    flags: u8,
    /// The number of its stream.
    stream: [u8; 4],
    content: &'a [u8],
    /// What follows it.
    rest: &'a [u8],
}

/// The first page of `bytes`.
fn page(bytes: &[u8]) -> Option<Page<'_>> {
    let (head, rest) = bytes.split_at_checked(27)?;
    if !head.starts_with(b"OggS") {
        return None;
    }
    let (segments, rest) = rest.split_at_checked(head[26].into())?;
    let length = segments.iter().map(|&n| usize::from(n)).sum();
    let (content, rest) = rest.split_at_checked(length)?;
    Some(Page {
        flags: head[5],
        stream: [head[14], head[15], head[16], head[17]],
        content,
        rest,
    })
}

/// All pages up to what is none.
fn pages(mut bytes: &[u8]) -> impl Iterator<Item = Page<'_>> {
    std::iter::from_fn(move || {
        let page = page(bytes)?;
        bytes = page.rest;
        Some(page)
    })
}

/// Sounds that stand one behind the other. What follows the last page, such as
/// a tag, stays with the last.
pub(super) fn links(bytes: &[u8]) -> Vec<&[u8]> {
    let mut links = Vec::new();
    let (mut begin, mut at) = (0, 0);
    let mut began = false;
    for page in pages(bytes) {
        if page.flags & FIRST == 0 {
            began = true;
        } else if began {
            links.push(&bytes[begin..at]);
            (begin, began) = (at, false);
        }
        at = bytes.len() - page.rest.len();
    }
    links.push(&bytes[begin..]);
    links
}

/// Whether the last page is whole and marked as the last.
pub(super) fn ends(mut bytes: &[u8]) -> bool {
    let mut last = false;
    // What follows the pages, such as a tag, is no concern.
    while bytes.starts_with(b"OggS") {
        let Some(page) = page(bytes) else {
            return false;
        };
        last = page.flags & LAST != 0;
        bytes = page.rest;
    }
    last
}

/// The pages of the first stream that is a sound, if that is Opus. Others, such
/// as an index (Skeleton), may stand before it and between its pages.
pub(super) fn opus(bytes: &[u8]) -> Option<Cow<'_, [u8]>> {
    const SOUNDS: [&[u8]; 4] = [b"OpusHead", b"\x01vorbis", b"\x7fFLAC", b"Speex   "];
    let is_sound = |page: &Page| SOUNDS.iter().any(|name| page.content.starts_with(name));
    let mut firsts = pages(bytes).take_while(|page| page.flags & FIRST != 0);
    let head = firsts
        .find(is_sound)
        .filter(|page| page.content.starts_with(SOUNDS[0]))?;
    if pages(bytes).all(|page| page.stream == head.stream) {
        return Some(bytes.into());
    }
    let mut own = Vec::new();
    let mut at = 0;
    for page in pages(bytes) {
        let end = bytes.len() - page.rest.len();
        if page.stream == head.stream {
            own.extend_from_slice(&bytes[at..end]);
        }
        at = end;
    }
    // A page that is cut short is the last, of whichever stream.
    own.extend_from_slice(
        bytes
            .get(at..)
            .filter(|rest| rest.starts_with(b"OggS"))
            .unwrap_or_default(),
    );
    Some(own.into())
}
