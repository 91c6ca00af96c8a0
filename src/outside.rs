//! Where other libraries are given what people give: a panic of theirs becomes
//! an error.
//!
//! Some libraries panic on broken input that they should refuse. That is a fault of
//! theirs, so only calls into them stand here, never code of this crate: it has
//! no panics to catch. What a call was changing when it panicked is not
//! looked at again; callers give up the reader or decoder with the error. What stays in use
//! (a tokenizer that cannot split one text) is only read by the call.
//!
//! A stack that overflows, or memory that cannot be had, ends the process all the same:
//! neither unwinds.

use std::any::Any;
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use crate::error::Problem;

thread_local! {
    /// How many guarded calls this thread is in.
    static INSIDE: Cell<usize> = const { Cell::new(0) };
}

/// One guarded call of this thread; it ends also if the call panics.
struct Inside;

impl Inside {
    fn enter() -> Self {
        INSIDE.set(INSIDE.get() + 1);
        Self
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        INSIDE.set(INSIDE.get().saturating_sub(1));
    }
}

/// What a call into `library` gives.
///
/// # Errors
/// If it panics; the text names the library and has the panic's words.
pub(crate) fn guarded<T>(library: &str, call: impl FnOnce() -> T) -> Result<T, Problem> {
    be_quiet_inside();
    let outcome = {
        let _inside = Inside::enter();
        panic::catch_unwind(AssertUnwindSafe(call))
    };
    outcome.map_err(|payload| {
        let what = words(payload.as_ref());
        format!("is broken in a way that the library {library} does not expect: {what}").into()
    })
}

/// The words of a panic.
fn words(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("it says nothing more")
}

/// Keeps the hook, which prints a panic, from printing those of guarded calls;
/// all others go to the hook that was there, on this thread and others.
fn be_quiet_inside() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if INSIDE.get() == 0 {
                before(info);
            }
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_that_names_the_library() {
        assert_eq!(guarded("fine", || 3).unwrap(), 3);
        let text = |call: fn()| guarded("frail", call).unwrap_err().to_string();
        assert_eq!(
            text(|| panic!("lost it")),
            "is broken in a way that the library frail does not expect: lost it"
        );
        let number = text(|| panic!("at {}", std::hint::black_box(7)));
        assert!(number.ends_with(": at 7"), "{number}");
        let nothing = text(|| panic::panic_any(7));
        assert!(nothing.ends_with("nothing more"), "{nothing}");
        // One in the other, and what follows is as before.
        let nested = guarded("outer", || guarded("inner", || panic!("x")).is_err());
        assert!(nested.unwrap());
        assert_eq!(INSIDE.get(), 0);
    }

    #[test]
    fn panics_of_others_reach_the_hook_that_was_there() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        static SEEN: AtomicUsize = AtomicUsize::new(0);
        be_quiet_inside();
        // Ours over this one, as if it had been there at the beginning.
        let ours = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if INSIDE.get() == 0 && info.payload().downcast_ref::<u64>() == Some(&41) {
                SEEN.fetch_add(1, Ordering::SeqCst);
            } else {
                ours(info);
            }
        }));
        let of_another = || {
            std::thread::spawn(|| panic::panic_any(41u64))
                .join()
                .is_err()
        };
        assert!(guarded("calm", of_another).unwrap());
        assert!(guarded("frail", || panic::panic_any(41u64)).is_err());
        assert_eq!(SEEN.load(Ordering::SeqCst), 1);
    }
}
