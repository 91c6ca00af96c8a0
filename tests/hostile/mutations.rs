//! Seeded changes: the same seed makes the same input on every machine.

use serde_json::{Map, Value, json};

/// SplitMix64 (Steele, Lea and Flood, 2014).
pub struct Random(u64);

impl Random {
    /// One of its own for each number of each target.
    pub fn new(seed: u64, target: &str, number: u64) -> Self {
        let mut hash = seed ^ 0xcbf2_9ce4_8422_2325;
        for byte in target.bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
        let mut own = Self(hash ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        own.next();
        own
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    pub fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

/// How far the ends of a file reach where headers and directories stand.
const ENDS: usize = 1_024;

/// A place in a file; headers and directories are met more often than the rest.
fn place(random: &mut Random, length: usize) -> usize {
    let end = length.min(ENDS);
    match random.below(4) {
        0 => random.below(length),
        1 => random.below(length.min(64)),
        2 => random.below(end),
        _ => length - 1 - random.below(end),
    }
}

/// A number that programs do not expect as a length or count.
fn number(random: &mut Random, length: usize) -> u64 {
    let length = length as u64;
    let known = [
        0,
        1,
        2,
        0x7f,
        0x80,
        0xff,
        0x7fff,
        0x8000,
        0xffff,
        0x7fff_ffff,
        0x8000_0000,
        0xffff_fff0,
        0xffff_ffff,
        1 << 32,
        i64::MAX as u64,
        u64::MAX,
        length,
        length.wrapping_sub(1),
        length + 1,
        random.next() % 100_000,
    ];
    *random.one(&known)
}

fn overwrite(bytes: &mut [u8], at: usize, by: &[u8]) {
    for (own, new) in bytes[at..].iter_mut().zip(by) {
        *own = *new;
    }
}

/// One to four changes: bits, bytes, lengths, pieces taken out, doubled, moved
/// or from another seed, words of the format.
pub fn bytes(random: &mut Random, bytes: &mut Vec<u8>, seeds: &[Vec<u8>], words: &[&[u8]]) {
    for _ in 0..=random.below(4) {
        if bytes.is_empty() {
            bytes.push(random.next() as u8);
            continue;
        }
        let at = place(random, bytes.len());
        let some = 1 + random.below(64);
        let end = (at + some).min(bytes.len());
        match random.below(12) {
            0 | 1 => bytes[at] ^= 1 << random.below(8),
            2 => bytes[at] = random.next() as u8,
            3..=5 => {
                let number = number(random, bytes.len());
                let width = *random.one(&[2, 4, 4, 8]);
                let little = number.to_le_bytes();
                let big = number.to_be_bytes();
                match random.below(2) {
                    0 => overwrite(bytes, at, &little[..width]),
                    _ => overwrite(bytes, at, &big[8 - width..]),
                }
            }
            6 => bytes.truncate(at),
            7 => drop(bytes.drain(at..end)),
            8 => {
                let piece = bytes[at..end].to_vec();
                let to = random.below(bytes.len());
                bytes.splice(to..to, piece);
            }
            9 => {
                let other = random.one(seeds);
                let from = random.below(other.len());
                let piece = &other[from..(from + 8 * some).min(other.len())];
                let covered = (at + piece.len()).min(bytes.len());
                bytes.splice(at..covered, piece.iter().copied());
            }
            10 if !words.is_empty() => {
                let word = *random.one(words);
                bytes.splice(at..at, word.iter().copied());
            }
            11 if !words.is_empty() => {
                let word = *random.one(words);
                overwrite(bytes, at, word);
            }
            _ => bytes[at..end].reverse(),
        }
    }
}

/// A value where another was expected.
fn odd(random: &mut Random) -> Value {
    match random.below(18) {
        0 => Value::Null,
        1 => json!(random.below(2) == 0),
        2 => json!(-1),
        3 => json!(0),
        4 => json!(1),
        5 => json!(u64::MAX),
        6 => json!(i64::MIN),
        7 => json!(1u64 << 32),
        8 => json!(1u64 << 31),
        9 => json!(1e308),
        10 => json!(-1e-308),
        11 => json!(0.5),
        12 => json!(""),
        13 => json!("\u{0}\u{feff}\u{10ffff}<|en|>"),
        14 => json!([]),
        15 => json!({}),
        16 => json!([[random.below(9)], [null], random.below(70_000)]),
        _ => json!(random.below(100_000)),
    }
}

fn nodes(value: &Value) -> usize {
    1 + match value {
        Value::Array(all) => all.iter().map(nodes).sum(),
        Value::Object(all) => all.values().map(nodes).sum::<usize>(),
        _ => 0,
    }
}

/// The `left`-th value of a document, depth first.
fn node<'a>(value: &'a mut Value, left: &mut usize) -> Option<&'a mut Value> {
    if *left == 0 {
        return Some(value);
    }
    *left -= 1;
    match value {
        Value::Array(all) => all.iter_mut().find_map(|own| node(own, left)),
        Value::Object(all) => all.values_mut().find_map(|own| node(own, left)),
        _ => None,
    }
}

fn change_object(random: &mut Random, object: &mut Map<String, Value>, words: &[&[u8]]) {
    let keys: Vec<String> = object.keys().cloned().collect();
    let new = match words.is_empty() {
        true => "\u{e9}".to_owned(),
        false => String::from_utf8_lossy(random.one::<&[u8]>(words)).into_owned(),
    };
    if keys.is_empty() || random.below(4) == 0 {
        object.insert(new, odd(random));
        return;
    }
    let key = random.one(&keys);
    match random.below(4) {
        0 => drop(object.remove(key)),
        1 => {
            let value = object.remove(key).unwrap_or_default();
            object.insert(new, value);
        }
        2 => {
            let other = random.one(&keys).clone();
            let value = object[&other].clone();
            object.insert(key.clone(), value);
        }
        _ => drop(object.insert(key.clone(), odd(random))),
    }
}

fn change(random: &mut Random, value: &mut Value, words: &[&[u8]]) {
    match value {
        Value::Object(object) if random.below(8) != 0 => change_object(random, object, words),
        Value::Array(all) if !all.is_empty() && random.below(8) != 0 => {
            let at = random.below(all.len());
            match random.below(4) {
                0 => drop(all.remove(at)),
                1 => all.insert(at, odd(random)),
                2 => all.push(all[at].clone()),
                _ => all[at] = odd(random),
            }
        }
        Value::Number(own) if random.below(2) == 0 => {
            let near = own.as_i64().unwrap_or(0);
            let by = random.below(5) as i64 - 2;
            *value = json!(near.wrapping_add(by));
        }
        Value::String(text) if random.below(3) == 0 => {
            let word = match words.is_empty() {
                true => "\u{2581}".into(),
                false => String::from_utf8_lossy(random.one::<&[u8]>(words)),
            };
            text.push_str(&word);
        }
        _ => *value = odd(random),
    }
}

/// One to three changes of a document; nothing where it is none.
pub fn json(random: &mut Random, document: &[u8], words: &[&[u8]]) -> Option<Vec<u8>> {
    let mut value: Value = serde_json::from_slice(document).ok()?;
    for _ in 0..=random.below(3) {
        let mut at = match random.below(3) {
            0 => 0,
            _ => random.below(nodes(&value)),
        };
        if let Some(own) = node(&mut value, &mut at) {
            change(random, own, words);
        }
    }
    Some(value.to_string().into_bytes())
}

/// As [`json`], of one line of JSON lines.
pub fn json_lines(random: &mut Random, text: &[u8], words: &[&[u8]]) -> Option<Vec<u8>> {
    let mut lines: Vec<Vec<u8>> = text.split(|&b| b == b'\n').map(<[u8]>::to_vec).collect();
    let at = random.below(lines.len());
    match random.below(6) {
        0 => lines.push(lines[at].clone()),
        1 => drop(lines.remove(at)),
        _ => lines[at] = json(random, &lines[at], words)?,
    }
    Some(lines.join(&b'\n'))
}
