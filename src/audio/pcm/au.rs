//! Sun's and NeXT's AU.
//!
//! Source: Oracle, `au(4)` of Solaris; libsndfile's numbers of encodings.

use super::encoding::{Encoding, Order};
use super::{Layout, ends_early, unusable};
use crate::audio::CONVERT;
use crate::error::Problem;

/// Of a file that begins with `.snd`, or with `dns.` as DEC wrote it.
pub(super) fn layout(bytes: &[u8]) -> Result<Layout<'_>, Problem> {
    let order = match bytes {
        [b'd', ..] => Order::Little,
        _ => Order::Big,
    };
    let field = |i: usize| {
        let bytes = bytes.get(4 * i..4 * i + 4).and_then(|b| b.try_into().ok());
        let number = bytes.map(|bytes| order.u32(bytes));
        number.ok_or_else(ends_early)
    };
    let (begin, stated, kind) = (field(1)?, field(2)?, field(3)?);
    let (rate, channels) = (field(4)?, field(5)?);
    if begin < 24 {
        return Err(unusable("an AU", "its samples begin within it"));
    }
    // A comment stands before the samples.
    let rest = bytes.get(begin as usize..).ok_or_else(ends_early)?;
    let signed = |bytes| Encoding::Signed { bytes, order };
    let encoding = match kind {
        1 => Encoding::MuLaw,
        2 => signed(1),
        3 => signed(2),
        4 => signed(3),
        5 => signed(4),
        6 => Encoding::Float32(order),
        7 => Encoding::Float64(order),
        27 => Encoding::ALaw,
        23..=26 => {
            return Err(format!("is AU with G.72x ADPCM, which is not read; {CONVERT}").into());
        }
        other => return Err(unusable("an AU", &format!("samples of kind {other}"))),
    };
    let stated = match stated {
        u32::MAX => None,
        0 if !rest.is_empty() => None,
        stated => Some(stated.into()),
    };
    Layout::new(encoding, channels, rate, rest, stated)
}
