//! AIFF and AIFF-C.
//!
//! Sources: Apple, "Audio Interchange File Format" (1989) and "AIFF-C" (1991);
//! names of encodings as Apple's tools and libsndfile write them.

use super::chunks::{Style, is_near, is_no_length};
use super::encoding::{Encoding, Order};
use super::{Layout, ends_early, unusable};
use crate::audio::CONVERT;
use crate::error::Problem;

const STYLE: Style = Style::Short(Order::Big);

/// Of a file that begins with FORM, a length and AIFF or AIFC.
pub(super) fn layout(bytes: &[u8]) -> Result<Layout<'_>, Problem> {
    let mut rest = bytes.get(12..).ok_or_else(ends_early)?;
    let mut common = None;
    let mut sound: Option<(&[u8], u64)> = None;
    while let Some(chunk) = STYLE.first(rest) {
        match &chunk.name {
            b"COMM" => {
                let content = chunk.content().ok_or_else(ends_early)?;
                common = Some(Common::read(content, bytes[8..].starts_with(b"AIFC"))?);
            }
            b"SSND" => {
                let offset = chunk.rest.first_chunk().ok_or_else(ends_early)?;
                let begin = 8 + u64::from(u32::from_be_bytes(*offset));
                let samples = usize::try_from(begin)
                    .ok()
                    .and_then(|n| chunk.rest.get(n..));
                let samples = samples.ok_or_else(ends_early)?;
                sound = Some((samples, chunk.stated.saturating_sub(begin)));
            }
            _ => {}
        }
        match STYLE.after(&chunk) {
            Some(after) => rest = after,
            None => break,
        }
    }
    let (Some(common), Some((mut samples, length))) = (common, sound) else {
        return Err(ends_early());
    };
    let encoding = common.encoding()?;
    let channels = u32::from(common.channels);
    let frame = u64::from(channels) * encoding.bytes() as u64;
    let promised = u64::from(common.frames) * frame;
    // Both lengths are written last; a program that cannot come back leaves 0 or a number that
    // is none in either.
    let uncounted = matches!(common.frames, 0 | u32::MAX);
    let there = samples.len() as u64;
    let open = !(1..=there).contains(&length);
    if !open {
        // Other chunks may follow.
        samples = &samples[..length as usize];
    }
    let stated = match promised {
        _ if uncounted && !open => Some(length),
        0 if length > there || !STYLE.are_chunks(samples) => None,
        n if n > there && length > there && (uncounted || is_no_end(length)) => None,
        n => Some(n),
    };
    let stated = stated.or(samples.is_empty().then_some(promised));
    let mut layout = Layout::new(encoding, channels, common.rate, samples, stated)?;
    if open && let [part] = &layout.parts[..] {
        layout.surplus = STYLE.surplus(&samples[part.bytes.len()..]);
    }
    Ok(layout)
}

/// As in WAV; SoX writes numbers near 0x7f000000.
fn is_no_end(length: u64) -> bool {
    is_no_length(length) || is_near(length, 0x7f00_0000)
}

/// What the common chunk says.
struct Common {
    channels: u16,
    frames: u32,
    bits: u16,
    rate: u32,
    /// Of AIFF-C; AIFF has one.
    kind: [u8; 4],
}

impl Common {
    fn read(content: &[u8], named: bool) -> Result<Self, Problem> {
        let short = || unusable("an AIFF", "its common chunk is too short");
        let head: &[u8; 18] = content.first_chunk().ok_or_else(short)?;
        let kind = match named {
            true => content
                .get(18..22)
                .and_then(|b| b.try_into().ok())
                .ok_or_else(short)?,
            false => *b"NONE",
        };
        let rate = extended([
            head[8], head[9], head[10], head[11], head[12], head[13], head[14], head[15], head[16],
            head[17],
        ]);
        Ok(Self {
            channels: u16::from_be_bytes([head[0], head[1]]),
            frames: u32::from_be_bytes([head[2], head[3], head[4], head[5]]),
            bits: u16::from_be_bytes([head[6], head[7]]),
            rate,
            kind,
        })
    }

    fn encoding(&self) -> Result<Encoding, Problem> {
        let bytes = usize::from(self.bits.div_ceil(8));
        let integers = |bytes, order| match bytes {
            1..=4 => Ok(Encoding::Signed { bytes, order }),
            _ => Err(unusable("an AIFF", &format!("{} bits", self.bits))),
        };
        match &self.kind {
            b"NONE" | b"twos" => integers(bytes, Order::Big),
            b"sowt" => integers(bytes, Order::Little),
            b"raw " => Ok(Encoding::Unsigned {
                bytes: 1,
                order: Order::Big,
            }),
            b"in24" => integers(3, Order::Big),
            b"in32" => integers(4, Order::Big),
            b"42ni" => integers(3, Order::Little),
            b"23ni" => integers(4, Order::Little),
            b"fl32" | b"FL32" => Ok(Encoding::Float32(Order::Big)),
            b"fl64" | b"FL64" => Ok(Encoding::Float64(Order::Big)),
            b"ulaw" | b"ULAW" => Ok(Encoding::MuLaw),
            b"alaw" | b"ALAW" => Ok(Encoding::ALaw),
            other => Err(format!(
                "is AIFF-C with {}, which is not read; {CONVERT}",
                other.escape_ascii()
            )
            .into()),
        }
    }
}

/// A rate as 80 bits of IEEE 754, rounded; 0 for what is none.
fn extended(bytes: [u8; 10]) -> u32 {
    let [a, b, mantissa @ ..] = bytes;
    let exponent = i32::from(u16::from_be_bytes([a, b]));
    let mantissa = u64::from_be_bytes(mantissa) as f64;
    // A sign makes it huge; what does not fit is 0 or the largest, and refused.
    (mantissa * f64::from(exponent - 16_383 - 63).exp2()).round() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_and_rounded() {
        for (rate, bytes) in [
            (44_100, [0x40, 0x0e, 0xac, 0x44, 0, 0, 0, 0, 0, 0]),
            (16_000, [0x40, 0x0c, 0xfa, 0, 0, 0, 0, 0, 0, 0]),
            // Old Macintoshes: 22,254.545 Hz.
            (
                22_255,
                [0x40, 0x0d, 0xad, 0xdd, 0x17, 0x45, 0xd1, 0x74, 0x5d, 0x17],
            ),
            (0, [0; 10]),
            (u32::MAX, [0xff; 10]),
        ] {
            assert_eq!(extended(bytes), rate);
        }
    }
}
