//! Python's pickles, read without running anything in them.
//!
//! A pickle is a program for a small stack machine that may call any function
//! of Python. Here it makes values and nothing else: a call is kept as a value
//! that says what was to be called with what, and a name that is not on the
//! caller's list ends the reading. Values stand in one table and refer to each
//! other by place, so that neither depth nor sharing costs anything.

use std::collections::HashMap;

use crate::error::Problem;

/// Place of a value in its [`Pickle`].
pub type Id = usize;

/// Most values of a pickle, with the pairs of its dicts. State dicts have some
/// ten for each tensor.
const MOST_VALUES: usize = 1 << 22;

/// What a pickle makes.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    None,
    Bool(bool),
    /// Whole numbers beyond 64 bits are cut to them.
    Int(i64),
    Float(f64),
    Text(&'a str),
    Bytes(&'a [u8]),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    /// Keys and values as they came; of one key the last counts.
    Dict(Vec<(Id, Id)>),
    /// A module and a name in it.
    Global(&'a str, &'a str),
    /// What stands outside of the pickle, as the value describes it.
    Persistent(Id),
    /// A call that was asked for: what, and its arguments.
    Call(Id, Id),
}

/// The values of a pickle.
#[derive(Debug)]
pub struct Pickle<'a> {
    values: Vec<Value<'a>>,
    /// The one that the pickle is of.
    pub root: Id,
    /// Bytes that were read.
    pub length: usize,
}

impl<'a> Pickle<'a> {
    /// Reads the pickle at the beginning of `bytes`; `known` says which names
    /// may stand in it.
    ///
    /// # Errors
    /// If it is cut short, says that it is of another protocol than 2 to 5, has
    /// an instruction or a name in it that weights have no need of, or asks for
    /// too many values.
    pub fn read(bytes: &'a [u8], known: impl Fn(&str, &str) -> bool) -> Result<Self, Problem> {
        let mut machine = Machine {
            bytes,
            at: 0,
            values: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            pairs: 0,
        };
        loop {
            if machine.values.len() + machine.pairs > MOST_VALUES {
                return Err(format!("is a pickle of more than {MOST_VALUES} values").into());
            }
            if let Some(root) = machine.step(&known)? {
                return Ok(Self {
                    values: machine.values,
                    root,
                    length: machine.at,
                });
            }
        }
    }

    /// The value at a place.
    pub fn get(&self, id: Id) -> &Value<'a> {
        self.values.get(id).unwrap_or(&Value::None)
    }

    /// How many values there are.
    pub fn count(&self) -> usize {
        self.values.len()
    }

    /// The pairs of a dict, an `OrderedDict` too; nothing of anything else.
    pub fn pairs(&self, id: Id) -> Option<&[(Id, Id)]> {
        match self.get(id) {
            Value::Dict(pairs) => Some(pairs),
            _ => None,
        }
    }

    /// The value of a dict's key.
    pub fn entry(&self, id: Id, key: &str) -> Option<Id> {
        let mut pairs = self.pairs(id)?.iter().rev();
        let found = pairs.find(|&&(own, _)| *self.get(own) == Value::Text(key));
        found.map(|&(_, value)| value)
    }

    /// The items of a tuple or a list.
    pub fn items(&self, id: Id) -> Option<&[Id]> {
        match self.get(id) {
            Value::Tuple(items) | Value::List(items) => Some(items),
            _ => None,
        }
    }

    /// A whole number from 0 on.
    pub fn size(&self, id: Id) -> Option<usize> {
        match *self.get(id) {
            Value::Int(size) => usize::try_from(size).ok(),
            _ => None,
        }
    }

    /// A text.
    pub fn text(&self, id: Id) -> Option<&'a str> {
        match *self.get(id) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    values: Vec<Value<'a>>,
    stack: Vec<Id>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    /// Pairs that are in dicts: a few bytes may ask for many.
    pairs: usize,
}

impl<'a> Machine<'a> {
    fn cut() -> Problem {
        "holds a pickle that is cut short or damaged".into()
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Problem> {
        let end = self.at.checked_add(count);
        let taken = end.and_then(|end| self.bytes.get(self.at..end));
        let taken = taken.ok_or_else(Self::cut)?;
        self.at += count;
        Ok(taken)
    }

    /// A whole number of so many bytes, at most eight, without a sign.
    fn number(&mut self, bytes: usize) -> Result<u64, Problem> {
        let taken = self.take(bytes)?.iter().rev();
        Ok(taken.fold(0, |sum, &byte| sum << 8 | u64::from(byte)))
    }

    /// As many bytes as the number before them says.
    fn counted(&mut self, bytes: usize) -> Result<&'a [u8], Problem> {
        let count = usize::try_from(self.number(bytes)?).map_err(|_| Self::cut())?;
        self.take(count)
    }

    fn counted_text(&mut self, bytes: usize) -> Result<(), Problem> {
        let text = std::str::from_utf8(self.counted(bytes)?)?;
        self.push(Value::Text(text));
        Ok(())
    }

    /// A text up to the end of the line.
    fn line(&mut self) -> Result<&'a str, Problem> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let length = rest.iter().position(|&byte| byte == b'\n');
        let line = self.take(length.ok_or_else(Self::cut)?)?;
        self.at += 1;
        Ok(std::str::from_utf8(line)?)
    }

    fn add(&mut self, value: Value<'a>) -> Id {
        self.values.push(value);
        self.values.len() - 1
    }

    fn push(&mut self, value: Value<'a>) {
        let id = self.add(value);
        self.stack.push(id);
    }

    fn pop(&mut self) -> Result<Id, Problem> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.pop() {
            Some(id) if self.stack.len() >= floor => Ok(id),
            _ => Err(Self::cut()),
        }
    }

    fn top(&self) -> Result<Id, Problem> {
        self.stack.last().copied().ok_or_else(Self::cut)
    }

    /// What lies above the last mark, which is taken off.
    fn marked(&mut self) -> Result<Vec<Id>, Problem> {
        let mark = self.marks.pop().ok_or_else(Self::cut)?;
        match mark <= self.stack.len() {
            true => Ok(self.stack.split_off(mark)),
            false => Err(Self::cut()),
        }
    }

    fn tuple(&mut self, count: usize) -> Result<(), Problem> {
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(self.pop()?);
        }
        items.reverse();
        self.push(Value::Tuple(items));
        Ok(())
    }

    fn append(&mut self, items: Vec<Id>) -> Result<(), Problem> {
        let list = self.top()?;
        match &mut self.values[list] {
            Value::List(list) => list.extend(items),
            _ => return Err("appends to what is no list".into()),
        }
        Ok(())
    }

    fn set(&mut self, items: &[Id]) -> Result<(), Problem> {
        let dict = self.top()?;
        let pairs = items.as_chunks::<2>().0.iter();
        self.pairs += pairs.len();
        match &mut self.values[dict] {
            Value::Dict(dict) => dict.extend(pairs.map(|&[key, value]| (key, value))),
            _ => return Err("sets an entry of what is no dict".into()),
        }
        Ok(())
    }

    fn remember(&mut self, key: u64) -> Result<(), Problem> {
        let top = self.top()?;
        self.memo.insert(key as u32, top);
        Ok(())
    }

    fn recall(&mut self, key: u64) -> Result<(), Problem> {
        let id = self.memo.get(&(key as u32)).ok_or_else(Self::cut)?;
        self.stack.push(*id);
        Ok(())
    }

    fn global(
        &mut self,
        module: &'a str,
        name: &'a str,
        known: impl Fn(&str, &str) -> bool,
    ) -> Result<(), Problem> {
        if !known(module, name) {
            return Err(format!(
                "asks Python for {module}.{name}, which weights have no need of; nothing in such \
                 a file is run here. If you trust it, load it in Python and save the state dict \
                 as safetensors"
            )
            .into());
        }
        self.push(Value::Global(module, name));
        Ok(())
    }

    /// A call: that of an `OrderedDict` makes a dict, any other stays a call.
    fn call(&mut self) -> Result<(), Problem> {
        let arguments = self.pop()?;
        let called = self.pop()?;
        match self.values[called] {
            Value::Global("collections", "OrderedDict") => self.push(Value::Dict(Vec::new())),
            Value::Global(..) => self.push(Value::Call(called, arguments)),
            _ => return Err("calls what is no name".into()),
        }
        // The pairs that an `OrderedDict` may be made from.
        if let Value::Global("collections", "OrderedDict") = self.values[called]
            && let Value::Tuple(arguments) = &self.values[arguments]
            && let Some(&pairs) = arguments.first()
            && let Value::List(pairs) = &self.values[pairs]
        {
            let pairs = pairs.iter().map(|&pair| match &self.values[pair] {
                Value::Tuple(pair) | Value::List(pair) => match pair[..] {
                    [key, value] => Some((key, value)),
                    _ => None,
                },
                _ => None,
            });
            let pairs: Option<Vec<_>> = pairs.collect();
            let pairs = pairs.ok_or("makes a dict of what are no pairs")?;
            self.pairs += pairs.len();
            let dict = self.top()?;
            self.values[dict] = Value::Dict(pairs);
        }
        Ok(())
    }

    /// One instruction; the finished value after the last.
    fn step(&mut self, known: impl Fn(&str, &str) -> bool) -> Result<Option<Id>, Problem> {
        let code = self.take(1)?[0];
        match code {
            // PROTO
            0x80 => match self.number(1)? {
                2..=5 => {}
                other => return Err(format!("is a pickle of protocol {other}").into()),
            },
            // FRAME
            0x95 => {
                self.take(8)?;
            }
            b'.' => return Ok(Some(self.pop()?)),
            b'(' => self.marks.push(self.stack.len()),
            b'0' => match self.marks.last() {
                Some(&mark) if mark == self.stack.len() => {
                    self.marks.pop();
                }
                _ => {
                    self.pop()?;
                }
            },
            b'1' => {
                self.marked()?;
            }
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            b'N' => self.push(Value::None),
            0x88 => self.push(Value::Bool(true)),
            0x89 => self.push(Value::Bool(false)),
            b'J' => {
                let int = self.number(4)? as u32 as i32;
                self.push(Value::Int(i64::from(int)));
            }
            b'K' => {
                let int = self.number(1)? as i64;
                self.push(Value::Int(int));
            }
            b'M' => {
                let int = self.number(2)? as i64;
                self.push(Value::Int(int));
            }
            // LONG1, LONG4
            0x8a | 0x8b => {
                let bytes = self.counted(if code == 0x8a { 1 } else { 4 })?;
                let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
                let mut whole = [if negative { 0xff } else { 0 }; 8];
                for (whole, byte) in whole.iter_mut().zip(bytes) {
                    *whole = *byte;
                }
                self.push(Value::Int(i64::from_le_bytes(whole)));
            }
            b'G' => {
                let bits = self.take(8)?.iter();
                let bits = bits.fold(0, |sum, &byte| sum << 8 | u64::from(byte));
                self.push(Value::Float(f64::from_bits(bits)));
            }
            b'I' => {
                let value = match self.line()? {
                    "00" => Value::Bool(false),
                    "01" => Value::Bool(true),
                    line => Value::Int(line.parse().map_err(|_| Self::cut())?),
                };
                self.push(value);
            }
            b'X' => self.counted_text(4)?,
            0x8c => self.counted_text(1)?,
            0x8d => self.counted_text(8)?,
            // Texts of Python 2.
            b'T' => self.counted_text(4)?,
            b'U' => self.counted_text(1)?,
            b'B' | b'C' | 0x8e => {
                let bytes = self.counted(match code {
                    b'B' => 4,
                    b'C' => 1,
                    _ => 8,
                })?;
                self.push(Value::Bytes(bytes));
            }
            b')' => self.push(Value::Tuple(Vec::new())),
            0x85 => self.tuple(1)?,
            0x86 => self.tuple(2)?,
            0x87 => self.tuple(3)?,
            b't' => {
                let items = self.marked()?;
                self.push(Value::Tuple(items));
            }
            b']' | 0x8f => self.push(Value::List(Vec::new())),
            b'l' | 0x91 => {
                let items = self.marked()?;
                self.push(Value::List(items));
            }
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            b'e' | 0x90 => {
                let items = self.marked()?;
                self.append(items)?;
            }
            b'}' => self.push(Value::Dict(Vec::new())),
            b'd' => {
                let items = self.marked()?;
                self.push(Value::Dict(Vec::new()));
                self.set(&items)?;
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.set(&[key, value])?;
            }
            b'u' => {
                let items = self.marked()?;
                self.set(&items)?;
            }
            b'c' => {
                let module = self.line()?;
                let name = self.line()?;
                self.global(module, name, known)?;
            }
            // STACK_GLOBAL
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                match (&self.values[module], &self.values[name]) {
                    (&Value::Text(module), &Value::Text(name)) => {
                        self.global(module, name, known)?;
                    }
                    _ => return Err(Self::cut()),
                }
            }
            // REDUCE, NEWOBJ
            b'R' | 0x81 => self.call()?,
            // BUILD: attributes of a dict, such as the versions of its modules.
            b'b' => {
                self.pop()?;
                let built = self.top()?;
                if !matches!(self.values[built], Value::Dict(_)) {
                    return Err("sets attributes of what is no dict".into());
                }
            }
            b'q' => {
                let key = self.number(1)?;
                self.remember(key)?;
            }
            b'r' => {
                let key = self.number(4)?;
                self.remember(key)?;
            }
            // MEMOIZE
            0x94 => {
                let key = self.memo.len() as u64;
                self.remember(key)?;
            }
            b'h' => {
                let key = self.number(1)?;
                self.recall(key)?;
            }
            b'j' => {
                let key = self.number(4)?;
                self.recall(key)?;
            }
            b'Q' => {
                let id = self.pop()?;
                self.push(Value::Persistent(id));
            }
            other => {
                return Err(format!(
                    "holds a pickle with instruction {other:#04x}, which weights have no need of"
                )
                .into());
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Pickle<'_>, String> {
        let known = |module: &str, _: &str| matches!(module, "collections" | "torch");
        Pickle::read(bytes, known).map_err(|problem| problem.to_string())
    }

    #[test]
    fn values_and_shared_ones() {
        // {"a": (1, -2, 300), "b": [True, None], "c": the same list}
        let bytes = b"\x80\x02}q\x00(X\x01\x00\x00\x00aK\x01J\xfe\xff\xff\xffM\x2c\x01\x87X\x01\x00\x00\x00b]q\x01(\x88Neh\x00\
              0X\x01\x00\x00\x00ch\x01u.tail";
        let pickle = read(bytes).unwrap();
        assert_eq!(pickle.length, bytes.len() - "tail".len());
        let a = pickle.entry(pickle.root, "a").unwrap();
        let sizes: Vec<_> = pickle
            .items(a)
            .unwrap()
            .iter()
            .map(|&id| pickle.get(id).clone())
            .collect();
        assert_eq!(sizes, [Value::Int(1), Value::Int(-2), Value::Int(300)]);
        assert_eq!(
            pickle.entry(pickle.root, "b"),
            pickle.entry(pickle.root, "c")
        );
        assert_eq!(pickle.entry(pickle.root, "d"), None);
        // An OrderedDict with attributes.
        let pickle =
            read(b"\x80\x02ccollections\nOrderedDict\n)R(U\x01xK\x05u}U\x09_metadata}sb.").unwrap();
        let x = pickle.entry(pickle.root, "x").unwrap();
        assert_eq!(pickle.size(x), Some(5));
        let pickle =
            read(b"\x80\x04\x95\0\0\0\0\0\0\0\0\x8c\x05torch\x94\x8c\x01f\x94\x93)R.").unwrap();
        let Value::Call(called, _) = *pickle.get(pickle.root) else {
            panic!("no call")
        };
        assert_eq!(*pickle.get(called), Value::Global("torch", "f"));
    }

    #[test]
    fn nothing_is_run_and_damage_is_found() {
        let error = read(b"\x80\x02cposix\nsystem\nX\x02\0\0\0ls\x85R.").unwrap_err();
        assert!(error.starts_with("asks Python for posix.system"), "{error}");
        for wrong in [
            &b""[..],
            b"\x80\x02",
            b"\x80\x09N.",
            b"0.",
            b"(.",
            b"\x86.",
            b"h\x05.",
            b"K\x01K\x02a.",
            b"K\x01K\x02K\x03s.",
            b"X\xff\xff\xff\xffa.",
            b"\x8d\xff\xff\xff\xff\xff\xff\xff\xffa.",
            b"K\x01)R.",
            b"K\x01K\x02b.",
            b"P1\n.",
            b"N(00.",
            b"\x8c\x01\xff.",
        ] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
        // Depth costs nothing.
        let mut deep = vec![b'N'];
        deep.extend(std::iter::repeat_n(0x85, 1 << 20));
        deep.push(b'.');
        assert!(read(&deep).is_ok());
        let many = vec![b'N'; MOST_VALUES + 10];
        assert!(read(&many).unwrap_err().contains("more than"));
    }

    #[test]
    fn pairs_count_as_often_as_they_are_copied() {
        // A list of so many pairs, and so many dicts that are made from it.
        let dicts = |pairs: usize, dicts: usize| {
            let mut bytes = b"ccollections\nOrderedDict\nq\x00](".to_vec();
            bytes.extend(b"NN\x86".repeat(pairs));
            bytes.extend(b"e\x85q\x01".iter());
            bytes.extend(b"h\x00h\x01R".repeat(dicts));
            bytes.push(b'.');
            bytes
        };
        let bytes = dicts(3, 2);
        let few = read(&bytes).unwrap();
        assert_eq!(few.pairs(few.root).unwrap().len(), 3);
        let many = dicts(1 << 11, MOST_VALUES >> 10);
        assert!(read(&many).unwrap_err().contains("more than"));
        // A pair is two.
        for items in ["NN\u{86}", "N\u{85}", "(NNNNt"] {
            let items: Vec<u8> = items.chars().map(|letter| letter as u8).collect();
            let bytes = [b"ccollections\nOrderedDict\n](", &items[..], b"e\x85R."].concat();
            assert_eq!(read(&bytes).is_ok(), items.ends_with(b"NN\x86"));
        }
    }
}
