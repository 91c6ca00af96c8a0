//! NIST SPHERE, the format of TIMIT, Switchboard, Fisher and WSJ.
//!
//! Source: NIST, "SPHERE 2.6a", `doc/sphere.doc`: a header of lines, padded to
//! the length that it states, then samples.

use super::encoding::{Encoding, Order};
use super::{Layout, ends_early, unusable};
use crate::error::Problem;

/// The line that a file begins with, and the length of that and the next.
pub(in crate::audio) const MAGIC: &[u8] = b"NIST_1A\n";
const HEAD: usize = 16;

/// Of a file that begins with [`MAGIC`].
pub(super) fn layout(bytes: &[u8]) -> Result<Layout<'_>, Problem> {
    let length = bytes.get(MAGIC.len()..HEAD).ok_or_else(ends_early)?;
    let length = std::str::from_utf8(length)
        .ok()
        .and_then(|text| text.trim().parse().ok());
    let length: usize =
        length.ok_or_else(|| unusable("a SPHERE", "it does not say how long it is"))?;
    let (header, rest) = bytes.split_at_checked(length).ok_or_else(ends_early)?;
    let header = header
        .get(HEAD..)
        .ok_or_else(|| unusable("a SPHERE", "it is too short"))?;
    let header = Header(String::from_utf8_lossy(header).into_owned());

    let rate = header.number("sample_rate")?;
    let rate = rate.ok_or_else(|| unusable("a SPHERE", "no sample_rate"))?;
    let channels = header.number("channel_count")?.unwrap_or(1);
    let encoding = header.encoding()?;
    let frame = u64::from(channels) * encoding.bytes() as u64;
    let stated = match header.number("sample_count")? {
        Some(0) if !rest.is_empty() => None,
        count => count.map(|count| u64::from(count) * frame),
    };
    Layout::new(encoding, channels, rate, rest, stated)
}

/// Lines of `name -type value` up to `end_head`.
struct Header(String);

impl Header {
    fn value(&self, name: &str) -> Option<&str> {
        let lines = self.0.lines().map(str::trim);
        let mut lines = lines.take_while(|&line| line != "end_head");
        lines.find_map(|line| {
            let (found, rest) = line.split_once(char::is_whitespace)?;
            let (_, value) = rest.trim_start().split_once(char::is_whitespace)?;
            (found == name).then_some(value.trim())
        })
    }

    /// Whole numbers are sometimes written as real ones.
    fn number(&self, name: &str) -> Result<Option<u32>, Problem> {
        let Some(value) = self.value(name) else {
            return Ok(None);
        };
        let number = value
            .parse::<f64>()
            .ok()
            .filter(|x| *x >= 0.0 && *x <= f64::from(u32::MAX));
        match number {
            Some(number) => Ok(Some(number.round() as u32)),
            None => Err(unusable("a SPHERE", &format!("{name} is {value}"))),
        }
    }

    fn encoding(&self) -> Result<Encoding, Problem> {
        let coding = self.value("sample_coding").unwrap_or("pcm").to_lowercase();
        let (coding, packed) = match coding.split_once(',') {
            Some((coding, packed)) => (coding.trim().to_owned(), Some(packed.trim().to_owned())),
            None => (coding, None),
        };
        if let Some(packed) = packed {
            let (name, _) = packed
                .trim_start_matches("embedded-")
                .split_once("-v")
                .unwrap_or((&packed, ""));
            return Err(format!(
                "is NIST SPHERE compressed with {name}, which is not read; convert it with \
                 `sph2pipe -f wav IN OUT.wav`"
            )
            .into());
        }
        let bytes = self.number("sample_n_bytes")?;
        match (coding.as_str(), bytes) {
            ("ulaw" | "mu-law" | "mulaw", None | Some(1)) => Ok(Encoding::MuLaw),
            ("alaw" | "a-law", None | Some(1)) => Ok(Encoding::ALaw),
            ("pcm" | "linear", None) => self.integers(2),
            ("pcm" | "linear", Some(bytes @ 1..=4)) => self.integers(bytes as usize),
            (coding, bytes) => {
                let bytes = bytes.map_or_else(String::new, |n| format!(" in {n} bytes"));
                Err(unusable(
                    "a SPHERE",
                    &format!("samples of kind {coding}{bytes}"),
                ))
            }
        }
    }

    /// The order is written as the places of the bytes: 01 and 10, 0123 and
    /// 3210. Where it is missing, files have the lowest first.
    fn integers(&self, bytes: usize) -> Result<Encoding, Problem> {
        let order = self.value("sample_byte_format").unwrap_or("01");
        let order = match order.as_bytes() {
            [_] if bytes == 1 => Order::Little,
            [b'0', b'1', ..] => Order::Little,
            [.., b'1', b'0'] => Order::Big,
            _ => {
                return Err(unusable(
                    "a SPHERE",
                    &format!("sample_byte_format is {order}"),
                ));
            }
        };
        Ok(Encoding::Signed { bytes, order })
    }
}
