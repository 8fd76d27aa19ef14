//! This process as the kernel sees it. Knows its user and its source of
//! randomness.

use std::io;

/// The user whose rights count when this process opens a file.
pub(crate) fn euid() -> u32 {
    // SAFETY: geteuid takes nothing, touches no memory of ours and cannot fail.
    unsafe { libc::geteuid() }
}

/// Sixteen bytes that nobody else has drawn.
pub(crate) fn random() -> io::Result<[u8; 16]> {
    let mut bytes = [0u8; 16];
    loop {
        // SAFETY: the buffer is ours and has exactly the length we name.
        let n = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
        // Requests up to 256 bytes are never cut short once they are answered.
        if n == bytes.len() as isize {
            return Ok(bytes);
        }
        let error = if n < 0 {
            io::Error::last_os_error()
        } else {
            io::Error::from(io::ErrorKind::UnexpectedEof)
        };
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_draws_differ() {
        assert_ne!(random().unwrap(), random().unwrap());
    }
}
