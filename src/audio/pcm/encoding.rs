//! How one sample is written.

/// Which byte comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Little,
    Big,
}

impl Order {
    pub fn u16(self, bytes: [u8; 2]) -> u16 {
        match self {
            Self::Little => u16::from_le_bytes(bytes),
            Self::Big => u16::from_be_bytes(bytes),
        }
    }

    pub fn u32(self, bytes: [u8; 4]) -> u32 {
        match self {
            Self::Little => u32::from_le_bytes(bytes),
            Self::Big => u32::from_be_bytes(bytes),
        }
    }
}

/// How samples are written; each becomes a number with full scale -1 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    /// Two's complement. Fewer bits than the bytes have stand at the top, with
    /// zeros below.
    Signed { bytes: usize, order: Order },
    /// With silence at half of the range.
    Unsigned { bytes: usize, order: Order },
    /// IEEE 754, of 4 bytes.
    Float32(Order),
    /// IEEE 754, of 8 bytes.
    Float64(Order),
    /// ITU-T G.711, as in North America and Japan: 14 bits in 8.
    MuLaw,
    /// ITU-T G.711, as elsewhere: 13 bits in 8.
    ALaw,
}

impl Encoding {
    /// Bytes of one sample; 1 to 8.
    pub fn bytes(self) -> usize {
        match self {
            Self::Signed { bytes, .. } | Self::Unsigned { bytes, .. } => bytes,
            Self::Float32(_) => 4,
            Self::Float64(_) => 8,
            Self::MuLaw | Self::ALaw => 1,
        }
    }

    /// The sample in [`bytes`](Self::bytes) bytes.
    pub fn value(self, bytes: &[u8]) -> f64 {
        match self {
            Self::Signed { order, .. } => signed(top(bytes, order)),
            Self::Unsigned { order, .. } => signed(top(bytes, order) ^ 1 << 63),
            Self::Float32(order) => f32::from_bits((top(bytes, order) >> 32) as u32).into(),
            Self::Float64(order) => f64::from_bits(top(bytes, order)),
            Self::MuLaw => mu_law(bytes[0]),
            Self::ALaw => a_law(bytes[0]),
        }
    }
}

/// The bytes as the uppermost of 64 bits.
fn top(bytes: &[u8], order: Order) -> u64 {
    let join = |all: u64, &byte: &u8| all << 8 | u64::from(byte);
    let joined = match order {
        Order::Little => bytes.iter().rev().fold(0, join),
        Order::Big => bytes.iter().fold(0, join),
    };
    joined << (64 - 8 * bytes.len())
}

fn signed(top: u64) -> f64 {
    const FULL_SCALE: f64 = (1u64 << 63) as f64;
    top as i64 as f64 / FULL_SCALE
}

/// Of 16 bits.
const FULL_SCALE: f64 = 32_768.0;

fn mu_law(byte: u8) -> f64 {
    const BIAS: i32 = 0x84;
    let (sign, exponent, mantissa) = parts(!byte);
    let size = (((mantissa << 3) + BIAS) << exponent) - BIAS;
    f64::from(if sign { -size } else { size }) / FULL_SCALE
}

fn a_law(byte: u8) -> f64 {
    let (sign, exponent, mantissa) = parts(byte ^ 0x55);
    let size = match exponent {
        0 => (mantissa << 4) + 8,
        _ => ((mantissa << 4) + 0x108) << (exponent - 1),
    };
    f64::from(if sign { size } else { -size }) / FULL_SCALE
}

/// Sign bit, exponent and mantissa of G.711.
fn parts(byte: u8) -> (bool, i32, i32) {
    let byte = i32::from(byte);
    (byte & 0x80 != 0, byte >> 4 & 7, byte & 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_of_every_width_and_order_are_scaled_by_their_full_scale() {
        for bytes in 1..=8usize {
            for value in [-1.0, -0.5, 0.0, 0.25, 0.5] {
                let integer = (value * (8.0 * bytes as f64 - 1.0).exp2()) as i64;
                let big = &integer.to_be_bytes()[8 - bytes..];
                let little = &integer.to_le_bytes()[..bytes];
                let (order, signed) = (Order::Big, |order| Encoding::Signed { bytes, order });
                assert_eq!(signed(order).value(big), value);
                assert_eq!(signed(Order::Little).value(little), value);
                let mut other = big.to_vec();
                other[0] ^= 0x80;
                assert_eq!(Encoding::Unsigned { bytes, order }.value(&other), value);
            }
        }
    }

    #[test]
    fn floats_are_themselves() {
        for value in [0.0, -1.5f64, 1e-30, 9000.0] {
            let single = value as f32;
            assert_eq!(
                Encoding::Float32(Order::Little).value(&single.to_le_bytes()),
                f64::from(single)
            );
            assert_eq!(
                Encoding::Float32(Order::Big).value(&single.to_be_bytes()),
                f64::from(single)
            );
            assert_eq!(
                Encoding::Float64(Order::Little).value(&value.to_le_bytes()),
                value
            );
            assert_eq!(
                Encoding::Float64(Order::Big).value(&value.to_be_bytes()),
                value
            );
        }
    }

    /// Values of the tables in ITU-T G.711, times 4 and 8 for 16 bits.
    #[test]
    fn g711_has_its_table_values() {
        for (byte, value) in [
            (0xff, 0),
            (0x7f, 0),
            (0x80, 32_124),
            (0x00, -32_124),
            (0xf0, 120),
            (0xef, 132),
            (0x8f, 16_764),
            (0x0f, -16_764),
            (0xfe, 8),
        ] {
            assert_eq!(
                Encoding::MuLaw.value(&[byte]) * 32_768.0,
                f64::from(value),
                "{byte:x}"
            );
        }
        for (byte, value) in [
            (0xd5, 8),
            (0x55, -8),
            (0xaa, 32_256),
            (0x2a, -32_256),
            (0xc5, 264),
            (0xd4, 24),
            (0x80, 5_504),
            (0x00, -5_504),
        ] {
            assert_eq!(
                Encoding::ALaw.value(&[byte]) * 32_768.0,
                f64::from(value),
                "{byte:x}"
            );
        }
    }
}
