//! How a SentencePiece model changes characters before it splits a text.

/// Replacements of character sequences: a double-array trie over bytes whose
/// leaves are offsets into texts that end with a zero byte.
#[derive(Clone, Debug, Default)]
pub(super) struct Charsmap {
    trie: Vec<u32>,
    replacements: Vec<u8>,
}

impl Charsmap {
    /// Reads a `precompiled_charsmap`: the trie's length in bytes, the trie,
    /// the replacements. Nothing if it is broken.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() {
            return Some(Self::default());
        }
        let (length, rest) = bytes.split_at_checked(4)?;
        let length = u32::from_le_bytes(length.try_into().ok()?) as usize;
        let (trie, replacements) = rest.split_at_checked(length)?;
        let (units, surplus) = trie.as_chunks::<4>();
        if units.is_empty() || !surplus.is_empty() || std::str::from_utf8(replacements).is_err() {
            return None;
        }
        Some(Self {
            trie: units.iter().map(|&unit| u32::from_le_bytes(unit)).collect(),
            replacements: replacements.to_owned(),
        })
    }

    /// What the longest known beginning of `text` becomes, and its length in
    /// bytes. Nothing if no beginning is known.
    pub(super) fn longest(&self, text: &str) -> Option<(&str, usize)> {
        // A unit's offset, whether it has a leaf, its label.
        let offset = |unit: u32| ((unit >> 10) << ((unit & (1 << 9)) >> 6)) as usize;
        let has_leaf = |unit: u32| unit >> 8 & 1 == 1;
        let label = |unit: u32| unit & (1 << 31 | 0xff);

        let mut found = None;
        let mut node = offset(*self.trie.first()?);
        for (i, byte) in text.bytes().enumerate() {
            node ^= usize::from(byte);
            let Some(&unit) = self.trie.get(node) else {
                break;
            };
            if byte == 0 || label(unit) != u32::from(byte) {
                break;
            }
            node ^= offset(unit);
            // A broken map may end within a character.
            if has_leaf(unit)
                && text.is_char_boundary(i + 1)
                && let Some(&leaf) = self.trie.get(node)
            {
                found = Some(((leaf & !(1 << 31)) as usize, i + 1));
            }
        }
        let (at, length) = found?;
        let rest = self.replacements.get(at..)?;
        let end = rest.iter().position(|&byte| byte == 0)?;
        Some((std::str::from_utf8(&rest[..end]).ok()?, length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_map_nothing_changes() {
        let none = Charsmap::read(&[]).unwrap();
        assert_eq!(none.longest("a"), None);
        assert_eq!(none.longest(""), None);
    }

    #[test]
    fn broken_maps_are_refused_or_harmless() {
        for bytes in [
            &[1, 0][..],
            &[8, 0, 0, 0, 1],
            &[0, 0, 0, 0],
            &[3, 0, 0, 0, 1, 2, 3],
        ] {
            assert!(Charsmap::read(bytes).is_none(), "{bytes:?}");
        }
        // One that knows the first of é's two bytes alone: the root's offset 1
        // leads to its unit, the unit's offset 1 to its leaf, which is text 0.
        let mut trie = vec![0u32; 256];
        trie[0] = 1 << 10;
        trie[1 ^ 0xc3] = 1 << 10 | 1 << 8 | 0xc3;
        let mut bytes = (4 * trie.len() as u32).to_le_bytes().to_vec();
        bytes.extend(trie.iter().flat_map(|unit| unit.to_le_bytes()));
        bytes.extend(b"x\0");
        let map = Charsmap::read(&bytes).unwrap();
        assert_eq!(map.longest("\u{e9}"), None);
        // Units that point anywhere.
        for unit in [0u32, 1 << 9, u32::MAX, 0x161, 0x7fff_fd61] {
            let mut bytes = 12u32.to_le_bytes().to_vec();
            for _ in 0..3 {
                bytes.extend(unit.to_le_bytes());
            }
            bytes.extend(b"x\0");
            let map = Charsmap::read(&bytes).unwrap();
            for text in ["a", "aa", "\0", "\u{ff}", ""] {
                let _ = map.longest(text);
            }
        }
    }
}
