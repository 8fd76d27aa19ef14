//! A message that is being written in place: what of it is written, and that the rest becomes zero.
//!
//! Knows where its bytes lie in a ring's data. Knows nothing of who claimed them or of how they are committed.

use std::io;

use crate::layout::geometry::Shape;
use crate::layout::view::View;

/// Bytes claimed for one message, and how far they are filled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Draft {
    /// Where they begin in the data, a multiple of 8.
    at: u64,
    len: usize,
    /// Where the next `io::Write` goes.
    cursor: usize,
    /// Bytes from the front that hold either what was written or zeros.
    filled: usize,
}

impl Draft {
    /// A draft of `len` bytes at `at`.
    #[inline]
    pub(crate) fn new(at: u64, len: usize) -> Draft {
        Draft { at, len, cursor: 0, filled: 0 }
    }

    /// Bytes that the message may have.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Where `bytes` bytes at `offset` would end.
    pub(crate) fn end(&self, offset: usize, bytes: usize) -> io::Result<usize> {
        offset.checked_add(bytes).filter(|&end| end <= self.len).ok_or_else(|| {
            io::Error::new(io::ErrorKind::WriteZero, "the bytes reach beyond the reservation")
        })
    }

    /// Copies `bytes` to `offset` bytes behind the message's start.
    pub(crate) fn write_at<G: Shape>(
        &mut self,
        view: &View<G>,
        offset: usize,
        bytes: &[u8],
    ) -> io::Result<()> {
        let end = self.end(offset, bytes.len())?;
        self.fill_up_to(view, offset);
        let at = self.at + offset as u64;
        if at % 8 == 0 && end >= self.filled {
            view.write_data(at, bytes);
            self.filled = end;
        } else {
            self.fill_up_to(view, end);
            view.patch_data(at, bytes);
        }
        Ok(())
    }

    /// Copies as much of `bytes` as there is room for behind what was written so far; answers how much.
    pub(crate) fn write<G: Shape>(&mut self, view: &View<G>, bytes: &[u8]) -> io::Result<usize> {
        let now = bytes.len().min(self.len - self.cursor);
        self.write_at(view, self.cursor, &bytes[..now])?;
        self.cursor += now;
        Ok(now)
    }

    /// Zeroes what lies between what is filled and `offset`, up to the end of the last word: so a word that holds anything
    /// filled holds nothing else.
    pub(crate) fn fill_up_to<G: Shape>(&mut self, view: &View<G>, offset: usize) {
        if offset > self.filled {
            let from = self.filled.next_multiple_of(8);
            if from < offset {
                view.zero_data(self.at + from as u64, offset - from);
            }
            self.filled = offset;
        }
    }

    /// The address of its first byte.
    #[cfg(not(any(all(loom, feature = "model"), all(shuttle, feature = "model"))))]
    pub(crate) fn address<G: Shape>(&self, view: &View<G>) -> *mut u8 {
        view.address_data(self.at)
    }
}
