//! Files that people name, read: only what is a file.
//!
//! A FIFO that nobody writes to would be waited for for ever, and a device like
//! `/dev/zero` never ends. Where a shell's `<(...)` or `/dev/stdin` makes sense, streams are
//! read too, with a bound.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::str::Utf8Error;

use crate::error::Problem;
use crate::{Error, Result};

/// The most that is read of a text that comes from a stream, in bytes.
const MOST_TEXT_BYTES: u64 = 256 << 20;

/// Refuses what there is but is no file.
///
/// # Errors
/// If there is nothing, or a folder, FIFO, socket or device.
pub(crate) fn check(path: &Path) -> io::Result<()> {
    let kind = fs::metadata(path)?.file_type();
    if kind.is_file() {
        return Ok(());
    }
    let what = if kind.is_dir() {
        "is a folder, where a file is wanted"
    } else {
        "is a pipe or a device, where a file is wanted"
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, what))
}

/// Opens a file.
///
/// # Errors
/// As [`check`], or if it cannot be opened.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    check(path)?;
    File::open(path)
}

/// The bytes of a file.
///
/// # Errors
/// As [`open`], or if it cannot be read.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    check(path)?;
    fs::read(path)
}

/// The text of a file that people make, or of a stream that ends, without the
/// byte-order mark that some programs put before it.
///
/// # Errors
/// If it cannot be read, is larger than 256 MiB where it is a stream, or is not
/// UTF-8; the message names the file.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    let bytes = read_bytes(path).map_err(|problem| Error::file(path, problem))?;
    if utf_16(&bytes).is_some() {
        return Err(Error::file(path, "is written in UTF-16; save it as UTF-8"));
    }
    utf_8(&bytes).map_err(|problem| Error::file(path, problem))
}

/// The same of programs that write UTF-16 as soon as a letter is not ASCII, as
/// Praat does; it has a byte-order mark.
///
/// # Errors
/// As [`read_text`], or if it is half a file in UTF-16.
pub(crate) fn read_text_in_any_unicode(path: &Path) -> Result<String> {
    let bytes = read_bytes(path).map_err(|problem| Error::file(path, problem))?;
    let Some(units) = utf_16(&bytes) else {
        return utf_8(&bytes).map_err(|problem| {
            let words = format!("is no text in UTF-8 or UTF-16 ({problem}); save it as one");
            Error::file(path, Problem::new(words, problem))
        });
    };
    let text: std::result::Result<String, _> = char::decode_utf16(units).collect();
    match text {
        Ok(text) if bytes.len().is_multiple_of(2) => Ok(text),
        _ => Err(Error::file(path, "is broken UTF-16")),
    }
}

/// The units behind the byte-order mark of a text in UTF-16.
fn utf_16(bytes: &[u8]) -> Option<impl Iterator<Item = u16>> {
    let (mark, rest) = bytes.split_first_chunk::<2>()?;
    let unit: fn([u8; 2]) -> u16 = match mark {
        [0xff, 0xfe] => u16::from_le_bytes,
        [0xfe, 0xff] => u16::from_be_bytes,
        _ => return None,
    };
    let pairs = rest.chunks_exact(2);
    Some(pairs.map(move |pair| unit([pair[0], pair[1]])))
}

fn utf_8(bytes: &[u8]) -> std::result::Result<String, Utf8Error> {
    let text = std::str::from_utf8(bytes)?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text).to_owned())
}

fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    if fs::metadata(path)?.is_file() {
        return fs::read(path);
    }
    let mut bytes = Vec::new();
    let mut text = stream(path)?.take(MOST_TEXT_BYTES + 1);
    text.read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST_TEXT_BYTES {
        let problem = "is a stream of more than 256 MiB; write it to a file";
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, problem));
    }
    Ok(bytes)
}

/// A file or a stream, opened; a FIFO is waited for no longer than ten seconds,
/// where the system lets that be known.
///
/// # Errors
/// If there is nothing, it is a folder, or nobody writes to it.
pub(crate) fn stream(path: &Path) -> io::Result<Box<dyn Read>> {
    let kind = fs::metadata(path)?.file_type();
    if kind.is_dir() {
        check(path)?;
    }
    #[cfg(target_os = "linux")]
    if std::os::unix::fs::FileTypeExt::is_fifo(&kind) {
        return Ok(Box::new(waiting::open(path)?));
    }
    Ok(Box::new(File::open(path)?))
}

/// FIFOs, which do not say whether anybody will write to them.
#[cfg(target_os = "linux")]
mod waiting {
    use std::fs::File;
    use std::io::{self, Cursor, ErrorKind, Read};
    use std::path::Path;
    use std::time::{Duration, Instant};

    use rustix::fs::{Mode, OFlags};

    /// How long a FIFO is waited for until somebody writes to it.
    pub const PATIENCE: Duration = Duration::from_secs(10);

    /// What is written to a FIFO, from its beginning.
    pub fn open(path: &Path) -> io::Result<impl Read + use<>> {
        open_within(path, PATIENCE)
    }

    pub fn open_within(path: &Path, patience: Duration) -> io::Result<impl Read + use<>> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mut fifo = File::from(rustix::fs::open(path, flags, Mode::empty())?);
        let begin = Instant::now();
        let mut first = [0; 1];
        let got = loop {
            match fifo.read(&mut first) {
                // No writer is there yet, or one was and wrote nothing.
                Ok(0) if begin.elapsed() < patience => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Ok(0) => {
                    let problem = "is a pipe that nobody writes to";
                    return Err(io::Error::new(ErrorKind::TimedOut, problem));
                }
                Ok(got) => break got,
                // There is a writer that has written nothing so far.
                Err(problem) if problem.kind() == ErrorKind::WouldBlock => break 0,
                Err(problem) if problem.kind() == ErrorKind::Interrupted => {}
                Err(problem) => return Err(problem),
            }
        };
        let flags = rustix::fs::fcntl_getfl(&fifo)?;
        rustix::fs::fcntl_setfl(&fifo, flags - OFlags::NONBLOCK)?;
        let first = first.get(..got).unwrap_or_default().to_vec();
        Ok(Cursor::new(first).chain(fifo))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "text").unwrap();
        assert_eq!(read(&file).unwrap(), b"text");
        assert!(open(&file).is_ok());
        let problem = |path: &Path| read(path).unwrap_err();
        assert!(problem(folder.path()).to_string().contains("a folder"));
        let absent = problem(&folder.path().join("absent"));
        assert_eq!(absent.kind(), io::ErrorKind::NotFound);
        #[cfg(unix)]
        assert!(
            problem(Path::new("/dev/zero"))
                .to_string()
                .contains("device")
        );
        assert_eq!(read_text(&file).unwrap(), "text");
        assert_eq!(read_text_in_any_unicode(&file).unwrap(), "text");
        assert!(stream(folder.path()).is_err());
    }

    #[test]
    fn utf_16_is_read_where_programs_write_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        let read = |bytes: &[u8]| {
            fs::write(&file, bytes).unwrap();
            read_text_in_any_unicode(&file).map_err(|problem| problem.to_string())
        };
        let units: Vec<u16> = "\u{feff}perché \u{1f600}".encode_utf16().collect();
        for bytes in [u16::to_le_bytes, u16::to_be_bytes] {
            let mut whole: Vec<u8> = units.iter().flat_map(|&unit| bytes(unit)).collect();
            assert_eq!(read(&whole).unwrap(), "perché \u{1f600}");
            assert!(read_text(&file).is_err());
            whole.pop();
            assert!(read(&whole).unwrap_err().contains("broken UTF-16"));
            whole.pop();
            assert!(read(&whole[..whole.len() - 1]).is_err());
        }
        assert_eq!(read(b"\xff\xfe").unwrap(), "");
        assert_eq!(read("\u{feff}perché".as_bytes()).unwrap(), "perché");
        assert!(read(b"\xff").is_err());
    }

    #[test]
    #[cfg(unix)]
    fn endless_texts_are_refused() {
        let problem = read_text(Path::new("/dev/zero")).unwrap_err();
        assert!(problem.to_string().contains("256 MiB"), "{problem}");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_fifo_is_read_if_somebody_writes_to_it() {
        use std::io::Write;
        use std::time::Duration;

        use rustix::fs::{CWD, FileType, Mode};

        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        assert!(check(&fifo).is_err());
        let problem = waiting::open_within(&fifo, Duration::from_millis(30)).err();
        assert!(problem.unwrap().to_string().contains("nobody writes"));
        // A writer that comes later and writes slowly.
        let name = fifo.clone();
        let writer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            let mut fifo = fs::OpenOptions::new().write(true).open(name).unwrap();
            for part in ["some ", "text"] {
                std::thread::sleep(Duration::from_millis(30));
                fifo.write_all(part.as_bytes()).unwrap();
            }
        });
        assert_eq!(read_text(&fifo).unwrap(), "some text");
        writer.join().unwrap();
    }
}
