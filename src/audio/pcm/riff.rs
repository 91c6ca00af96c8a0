//! WAV, RF64, BW64 and Wave64.
//!
//! Sources: Microsoft, "Multiple Channel Audio Data and WAVE Files" (2007);
//! EBU Tech 3306 (RF64); Sonic Foundry, "Sony Wave64".

use super::chunks::{Chunk, Style, is_no_length};
use super::encoding::{Encoding, Order};
use super::{Layout, Part, ends_early, unusable};
use crate::audio::CONVERT;
use crate::error::Problem;

/// Of a file that begins with RIFF, RF64 or BW64, or with RIFX, which has the
/// higher byte first.
pub(super) fn layout(bytes: &[u8]) -> Result<Layout<'_>, Problem> {
    let rest = bytes.get(12..).ok_or_else(ends_early)?;
    let order = match bytes {
        [_, _, _, b'X', ..] => Order::Big,
        _ => Order::Little,
    };
    read(rest, Style::Short(order), order)
}

/// Of a file that begins with Wave64's name, length and kind.
pub(super) fn layout_64(bytes: &[u8]) -> Result<Layout<'_>, Problem> {
    let rest = bytes.get(40..).ok_or_else(ends_early)?;
    read(rest, Style::Long, Order::Little)
}

fn read(mut rest: &[u8], style: Style, order: Order) -> Result<Layout<'_>, Problem> {
    let mut format = None;
    let mut long = None;
    let mut parts = Vec::new();
    let mut surplus = 0;
    while let Some(chunk) = style.first(rest) {
        match &chunk.name {
            b"data" => {
                let (part, after) = data(&chunk, style, long);
                parts.push(part);
                rest = after;
                surplus = style.surplus(rest);
                if surplus > 0 {
                    break;
                }
                continue;
            }
            b"fmt " => {
                let content = chunk.content().ok_or_else(ends_early)?;
                format = Some(Format::read(content, order)?);
            }
            b"ds64" => long = chunk.content().and_then(|content| u64_at(content, 8)),
            _ => {}
        }
        match style.after(&chunk) {
            Some(after) => rest = after,
            None if parts.is_empty() => return Err(ends_early()),
            None => break,
        }
    }
    if parts.is_empty() {
        return Err(ends_early());
    }
    let format =
        format.ok_or_else(|| unusable("a WAV", "it does not say how samples are written"))?;
    Ok(Layout {
        encoding: format.encoding(order)?,
        channels: format.channels.into(),
        rate: format.rate,
        parts,
        surplus,
    })
}

/// The samples of a chunk, and what follows them. `long` is the length that
/// RF64 keeps elsewhere.
fn data<'a>(chunk: &Chunk<'a>, style: Style, long: Option<u64>) -> (Part<'a>, &'a [u8]) {
    let there = chunk.rest.len() as u64;
    let stated = match (chunk.stated, long) {
        (0xffff_ffff, Some(long)) => long,
        (stated, _) => stated,
    };
    let whole = Chunk { stated, ..*chunk };
    let unknown = match stated {
        // A recorder that never came to write the length, unless there is no sound and other
        // chunks follow.
        0 => there > 0 && !style.are_chunks(chunk.rest),
        stated => stated > there && is_no_length(stated),
    };
    if unknown {
        return (Part::new(chunk.rest, None), &[]);
    }
    let after = style.after(&whole).unwrap_or_default();
    (Part::new(chunk.rest, Some(stated)), after)
}

/// What the format chunk says.
struct Format {
    tag: u16,
    channels: u16,
    rate: u32,
    /// Bytes of one sample of all channels.
    frame: u16,
    bits: u16,
    /// Whether samples stand at the top of their bytes by what the header is.
    extensible: bool,
}

impl Format {
    fn read(content: &[u8], order: Order) -> Result<Self, Problem> {
        let u16_at = |at: usize| {
            let bytes = content.get(at..at + 2).and_then(|b| b.try_into().ok());
            bytes.map(|bytes| order.u16(bytes))
        };
        let short = || unusable("a WAV", "its format chunk is too short");
        let rate = content.get(4..8).and_then(|b| b.try_into().ok());
        let rate = rate.ok_or_else(short)?;
        let mut format = Self {
            tag: u16_at(0).ok_or_else(short)?,
            channels: u16_at(2).ok_or_else(short)?,
            rate: order.u32(rate),
            frame: u16_at(12).ok_or_else(short)?,
            bits: u16_at(14).ok_or_else(short)?,
            extensible: false,
        };
        if format.tag == 0xfffe {
            // KSDATAFORMAT_SUBTYPE_WAVEFORMATEX, and the same of ambisonic recordings.
            const TAILS: [[u8; 14]; 2] = [
                [0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xaa, 0, 0x38, 0x9b, 0x71],
                [
                    0, 0, 0x21, 7, 0xd3, 0x11, 0x86, 0x44, 0xc8, 0xc1, 0xca, 0, 0, 0,
                ],
            ];
            let tail = content.get(26..40).ok_or_else(short)?;
            if !TAILS.iter().any(|known| known == tail) {
                return Err(unusable("a WAV", "its kind of samples has no known name"));
            }
            format.tag = u16_at(24).ok_or_else(short)?;
            format.extensible = true;
        }
        Ok(format)
    }

    fn encoding(&self, order: Order) -> Result<Encoding, Problem> {
        if self.channels == 0 {
            return Err(unusable("a WAV", "it has no channels"));
        }
        let needed = usize::from(self.bits.div_ceil(8));
        let frame = usize::from(self.frame);
        let bytes = match frame {
            0 => needed,
            frame => frame / usize::from(self.channels),
        };
        let odd = || {
            let Self { bits, channels, .. } = self;
            let what = format!("{bits} bits of {channels} channels in {frame} bytes");
            Err(unusable("a WAV", &what))
        };
        if frame % usize::from(self.channels) != 0 {
            return odd();
        }
        match (self.tag, bytes) {
            (1, 1..=8) if needed > 0 => {
                // Only WAVE_FORMAT_EXTENSIBLE says where bits stand in more bytes than they need.
                let apart = bytes != needed && !(self.extensible && self.bits.is_multiple_of(8));
                match bytes {
                    _ if bytes < needed || apart => odd(),
                    1 => Ok(Encoding::Unsigned { bytes, order }),
                    _ => Ok(Encoding::Signed { bytes, order }),
                }
            }
            (3, 4) if self.bits == 32 => Ok(Encoding::Float32(order)),
            (3, 8) if self.bits == 64 => Ok(Encoding::Float64(order)),
            (6, 1) => Ok(Encoding::ALaw),
            (7, 1) => Ok(Encoding::MuLaw),
            (3, 2) if self.bits == 16 => {
                Err(format!("holds 16-bit floats, which are not read in WAV; {CONVERT}").into())
            }
            (1 | 3 | 6 | 7, _) => odd(),
            (tag, _) => Err(format!(
                "holds {}, which is not read in WAV; {CONVERT}",
                name(tag).map_or_else(|| format!("samples of kind {tag:#06x}"), Into::into)
            )
            .into()),
        }
    }
}

/// Names of other kinds of samples.
fn name(tag: u16) -> Option<&'static str> {
    Some(match tag {
        0x02 => "Microsoft's ADPCM",
        0x11 => "IMA ADPCM",
        0x14 | 0x40 | 0x45 | 0x64 | 0x65 => "G.72x ADPCM",
        0x22 => "TrueSpeech",
        0x31 => "GSM 6.10",
        0x42 => "G.723.1",
        0x50 => "MPEG layer I or II",
        0x55 => "MP3",
        0xff | 0x1600 => "AAC",
        0x160..=0x163 => "WMA",
        0x2000 => "AC-3",
        0xf1ac => "FLAC",
        _ => return None,
    })
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at + 8)?.try_into().ok()?;
    Some(u64::from_le_bytes(bytes))
}
