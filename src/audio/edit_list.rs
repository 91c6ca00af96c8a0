//! Which part of an MP4 track is the sound.
//!
//! An AAC encoder puts some silence before the sound (priming, 20 to 130 ms)
//! and fills up the last frame. The file's edit list says what to play; without
//! it every word would come late. The decoder does not read it.

use super::webm::Extent;

/// The part of a track to play, in its own time unit and the movie's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Edit {
    /// Begin, in units of 1 / `rate` seconds.
    start: u64,
    rate: u64,
    /// Length, in units of 1 / `movie_rate` seconds; 0 is up to the end.
    length: u64,
    movie_rate: u64,
}

impl Edit {
    /// The edit of the first sound track, if the file has one that is simply
    /// a beginning and a length.
    pub(super) fn read(file: &[u8]) -> Option<Self> {
        let movie = find(file, b"moov")?;
        let movie_rate = timescale(find(movie, b"mvhd")?)?;
        let is_sound = |track: &&[u8]| {
            let handler = find(track, b"mdia").and_then(|media| find(media, b"hdlr"));
            handler.and_then(|handler| handler.get(8..12)) == Some(b"soun")
        };
        let track = boxes(movie).filter(|(kind, _)| kind == b"trak");
        let track = track.map(|(_, track)| track).find(is_sound)?;
        let rate = timescale(find(find(track, b"mdia")?, b"mdhd")?)?;
        let (start, length) = only_entry(find(find(track, b"edts")?, b"elst")?)?;
        let edit = Self {
            start,
            rate,
            length,
            movie_rate,
        };
        (rate > 0 && movie_rate > 0).then_some(edit)
    }

    /// The samples to keep of `count` at `rate` Hz. One unit more than the
    /// length says: it is often a whole millisecond, and may be rounded down.
    pub(super) fn samples(&self, count: usize, rate: u32) -> std::ops::Range<usize> {
        let scale = |x: u64, unit: u64| u128::from(x) * u128::from(rate) / u128::from(unit);
        let count = count as u128;
        let start = scale(self.start, self.rate).min(count);
        let unit = u128::from(rate).div_ceil(self.movie_rate.into());
        let end = match self.length {
            0 => count,
            length => start + scale(length, self.movie_rate) + unit,
        };
        start as usize..end.min(count) as usize
    }
}

/// How much of a file there should be. Fragments follow each other without a
/// count; a table behind the last is the only sign that none is missing.
pub(super) fn extent(file: &[u8]) -> Extent {
    let (mut fragments, mut closed, mut end) = (false, false, 0);
    for (kind, content) in boxes(file) {
        fragments |= kind == b"moof";
        closed = kind == b"mfra";
        end = content.as_ptr_range().end.addr() - file.as_ptr().addr();
    }
    let cut = file.get(end + 4..end + 8).unwrap_or_default();
    match (fragments, closed) {
        _ if matches!(cut, b"moof" | b"mdat" | b"moov" | b"mfra" | b"sidx") => Extent::Cut,
        (true, false) => Extent::Unknown,
        _ => Extent::Whole,
    }
}

/// Boxes that follow each other: type and content. Ends at the first that is
/// broken.
fn boxes(mut bytes: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    std::iter::from_fn(move || {
        let (head, rest) = bytes.split_at_checked(8)?;
        let kind = &head[4..];
        let (length, rest) = match u32::from_be_bytes(head[..4].try_into().ok()?) {
            0 => (rest.len(), rest),
            1 => {
                let (long, rest) = rest.split_at_checked(8)?;
                let length = u64::from_be_bytes(long.try_into().ok()?).checked_sub(16)?;
                (usize::try_from(length).ok()?, rest)
            }
            length => ((length as usize).checked_sub(8)?, rest),
        };
        let (content, after) = rest.split_at_checked(length)?;
        bytes = after;
        Some((kind, content))
    })
}

fn find<'a>(bytes: &'a [u8], kind: &[u8; 4]) -> Option<&'a [u8]> {
    boxes(bytes)
        .find(|(found, _)| found == kind)
        .map(|(_, content)| content)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(u32::from_be_bytes(bytes).into())
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at + 8)?.try_into().ok()?;
    Some(u64::from_be_bytes(bytes))
}

/// Units per second in an `mvhd` or `mdhd` box, which begin alike.
fn timescale(header: &[u8]) -> Option<u64> {
    u32_at(header, if *header.first()? == 1 { 20 } else { 12 })
}

/// Begin and length of an edit list's one entry. Entries that only delay the
/// track have a begin of -1 and are passed over.
fn only_entry(list: &[u8]) -> Option<(u64, u64)> {
    let long = *list.first()? == 1;
    let count = u32_at(list, 4)? as usize;
    let size = if long { 20 } else { 12 };
    let mut found = None;
    for entry in list.get(8..)?.chunks_exact(size).take(count) {
        let (length, start) = if long {
            (u64_at(entry, 0)?, u64_at(entry, 8)?)
        } else {
            let start = u32_at(entry, 4)? as u32;
            (u32_at(entry, 0)?, i64::from(start as i32) as u64)
        };
        if start as i64 == -1 {
            continue;
        }
        if (start as i64) < 0 || found.is_some() {
            return None;
        }
        found = Some((start, length));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boxed(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
        let length = 8 + content.len() as u32;
        [&length.to_be_bytes(), &kind[..], content].concat()
    }

    fn header(kind: &[u8; 4], rate: u32) -> Vec<u8> {
        boxed(kind, &[&[0; 12][..], &rate.to_be_bytes(), &[0; 4]].concat())
    }

    fn track(handler: &[u8; 4], rate: u32, entries: &[(u32, i32)]) -> Vec<u8> {
        let handler = boxed(b"hdlr", &[&[0; 8][..], handler].concat());
        let media = boxed(b"mdia", &[header(b"mdhd", rate), handler].concat());
        let mut list = vec![0; 4];
        list.extend((entries.len() as u32).to_be_bytes());
        for (length, start) in entries {
            list.extend(length.to_be_bytes());
            list.extend(start.to_be_bytes());
            list.extend([0, 1, 0, 0]);
        }
        let edits = boxed(b"edts", &boxed(b"elst", &list));
        boxed(b"trak", &[edits, media].concat())
    }

    fn movie(tracks: &[Vec<u8>]) -> Vec<u8> {
        let tracks = tracks.concat();
        let moov = boxed(b"moov", &[header(b"mvhd", 1000), tracks].concat());
        [boxed(b"ftyp", b"M4A "), moov].concat()
    }

    #[test]
    fn the_first_sound_tracks_edit_is_found() {
        let picture = track(b"vide", 90_000, &[(7, 7)]);
        let sound = track(b"soun", 44_100, &[(10, -1), (2000, 2112)]);
        let edit = Edit::read(&movie(&[picture, sound])).unwrap();
        // 2 s and the millisecond that the movie's unit leaves open.
        assert_eq!(edit.samples(100_000, 44_100), 2112..2112 + 88_200 + 45);
        assert_eq!(edit.samples(5_000, 44_100), 2112..5_000);
        assert_eq!(edit.samples(10, 44_100), 10..10);
        assert_eq!(edit.samples(100_000, 22_050).start, 1056);
    }

    #[test]
    fn what_is_missing_of_fragments_is_seen_where_it_can_be() {
        let whole = movie(&[]);
        assert_eq!(extent(&whole), Extent::Whole);
        let fragment = [boxed(b"moof", b"abc"), boxed(b"mdat", b"defg")].concat();
        let open = [&whole[..], &fragment, &fragment].concat();
        assert_eq!(extent(&open), Extent::Unknown);
        assert_eq!(extent(&open[..open.len() - 1]), Extent::Cut);
        assert_eq!(
            extent(&[&open[..], &boxed(b"mfra", b"")].concat()),
            Extent::Whole
        );
        // What is no box at the end is no part of it.
        assert_eq!(
            extent(&[&whole[..], b"TAG of some kind"].concat()),
            Extent::Whole
        );
    }

    #[test]
    fn other_lists_and_broken_boxes_are_left_alone() {
        for entries in [&[][..], &[(5, -1)], &[(5, -7)], &[(1, 0), (1, 9)]] {
            assert_eq!(Edit::read(&movie(&[track(b"soun", 100, entries)])), None);
        }
        assert_eq!(Edit::read(&movie(&[track(b"soun", 0, &[(1, 0)])])), None);
        let whole = movie(&[track(b"soun", 100, &[(1, 0)])]);
        assert!(Edit::read(&whole).is_some());
        for length in 0..whole.len() {
            assert_eq!(Edit::read(&whole[..length]), None);
        }
        for i in 0..whole.len() {
            for value in [0, 1, 7, 0xff] {
                let mut broken = whole.clone();
                broken[i] = value;
                let edit = Edit::read(&broken);
                let _ = edit.map(|edit| edit.samples(usize::MAX >> 1, u32::MAX));
            }
        }
    }
}
