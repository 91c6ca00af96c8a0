//! Which format a file has, by its first bytes.

use super::CONVERT;
use super::pcm::{self, Container};

/// As many bytes as tell the formats apart.
pub(super) const HEAD: u64 = 16;

/// Who decodes a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Samples are numbers.
    Pcm(Container),
    /// Compressed; with the format's name for messages.
    Compressed(&'static str),
}

const READ: &str = "WAV, AIFF, AU, NIST SPHERE, FLAC, MP3, OGG, Opus, WebM, M4A and AAC are read";

/// The format that a file's first bytes tell, or what it is instead.
pub(super) fn format(head: &[u8]) -> Result<Format, String> {
    use Format::{Compressed, Pcm};
    if head.is_empty() {
        return Err(format!("is an empty file; {READ}"));
    }
    let kind = head.get(8..12).unwrap_or_default();
    let other = match head {
        [b'R', b'I', b'F', b'F' | b'X', ..]
        | [b'R', b'F', b'6', b'4', ..]
        | [b'B', b'W', b'6', b'4', ..]
            if kind == b"WAVE" =>
        {
            return Ok(Pcm(Container::Riff));
        }
        [b'r', b'i', b'f', b'f', 0x2e, 0x91, 0xcf, 0x11, ..] => return Ok(Pcm(Container::Wave64)),
        [b'F', b'O', b'R', b'M', ..] if kind == b"AIFF" || kind == b"AIFC" => {
            return Ok(Pcm(Container::Aiff));
        }
        [b'.', b's', b'n', b'd', ..] | [b'd', b'n', b's', b'.', ..] => {
            return Ok(Pcm(Container::Au));
        }
        _ if head.starts_with(pcm::SPHERE) => return Ok(Pcm(Container::Sphere)),
        [b'f', b'L', b'a', b'C', ..] => return Ok(Compressed("FLAC")),
        [b'O', b'g', b'g', b'S', ..] => return Ok(Compressed("OGG")),
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => return Ok(Compressed("MP4")),
        [0x1a, 0x45, 0xdf, 0xa3, ..] => return Ok(Compressed("WebM")),
        // Two bits that in MP3 are never both 0 are always 0 in AAC.
        [0xff, second, ..] if second & 0xf6 == 0xf0 => return Ok(Compressed("AAC")),
        [b'I', b'D', b'3', ..] | [0xff, 0xe0..=0xff, ..] => return Ok(Compressed("MP3")),
        _ if head.starts_with(b"version https://") => {
            return Err(
                "is a Git LFS pointer, not the sound itself; fetch it with `git lfs pull`".into(),
            );
        }
        [b'c', b'a', b'f', b'f', ..] => "CAF",
        [b'#', b'!', b'A', b'M', b'R', ..] => "AMR",
        [0x30, 0x26, 0xb2, 0x75, ..] => "WMA",
        [b'a', b'j', b'k', b'g', ..] => "shorten",
        [b'w', b'v', b'p', b'k', ..] => "WavPack",
        [b'M', b'A', b'C', b' ', ..] => "Monkey's Audio",
        _ => "of an unknown format",
    };
    Err(format!("is {other}; {READ}: {CONVERT}"))
}
