//! What numbers are about, in 128 bits: weights, files, sounds, texts. Equal
//! things have equal fingerprints on every platform and with any number of
//! threads. They find what has changed (XXH3, as `xxhsum -H128` prints it of a
//! file); they are no seal against whoever wants to deceive.

use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_128;

use crate::{Error, Result};

/// 128 bits that stand for something; 32 hexadecimal digits as a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Fingerprint(u128);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for Fingerprint {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let digits = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        match u128::from_str_radix(text, 16) {
            Ok(bits) if digits && text.len() == 32 => Ok(Self(bits)),
            _ => Err(Error::Input(format!("{text:?} is no fingerprint"))),
        }
    }
}

impl From<Fingerprint> for String {
    fn from(own: Fingerprint) -> Self {
        own.to_string()
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl Fingerprint {
    /// Of bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(XxHash3_128::oneshot(bytes))
    }

    /// Of all bytes of a file.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn of_file(path: &Path) -> Result<Self> {
        let problem = |problem: std::io::Error| Error::file(path, problem);
        let mut file = File::open(path).map_err(problem)?;
        let mut hasher = XxHash3_128::new();
        let mut buffer = vec![0; 1 << 18];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return Ok(Self(hasher.finish_128())),
                Ok(read) => hasher.write(&buffer[..read]),
                Err(own) if own.kind() == ErrorKind::Interrupted => {}
                Err(own) => return Err(problem(own)),
            }
        }
    }

    /// The bits, as bytes with the lowest first.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_le_bytes()
    }

    /// Of numbers, each as four bytes with the lowest first.
    pub fn of_numbers(numbers: &[f32]) -> Self {
        if cfg!(target_endian = "little") {
            return Self::of(bytemuck::cast_slice(numbers));
        }
        let bytes = numbers.iter().flat_map(|number| number.to_le_bytes());
        Self::of(&bytes.collect::<Vec<u8>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_by_its_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let bytes: Vec<u8> = (0..1_000_003u32).map(|n| (n % 251) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(
            Fingerprint::of_file(&path).unwrap(),
            Fingerprint::of(&bytes)
        );
        assert!(Fingerprint::of_file(&folder.path().join("y")).is_err());
        // As other programs print it.
        let empty = "99aa06d3014798d86001c324468d497f";
        assert_eq!(Fingerprint::of(b"").to_string(), empty);
        assert_eq!(empty.parse::<Fingerprint>().unwrap(), Fingerprint::of(b""));
        for text in ["", "99aa", "+9aa06d3014798d86001c324468d497f", &empty[1..]] {
            assert!(text.parse::<Fingerprint>().is_err(), "{text}");
        }
    }
}
