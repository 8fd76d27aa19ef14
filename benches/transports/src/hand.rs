//! Handing descriptors to another process, with a line of text.
//!
//! It knows one message of a Unix socket. It refuses to know what the descriptors are.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::cmsg_space;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

/// So many descriptors at most.
const MOST: usize = 16;
const LONGEST: usize = 16 * 1024;

/// Sends a text, and descriptors of the caller's, of which the receiver gets copies.
pub fn send(to: &UnixStream, text: &str, fds: &[OwnedFd]) -> io::Result<()> {
    assert!(fds.len() <= MOST && text.len() <= LONGEST, "more than is handed over at once");
    let fds: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let text = [IoSlice::new(text.as_bytes())];
    let rights = [ControlMessage::ScmRights(&fds)];
    sendmsg::<()>(to.as_raw_fd(), &text, &rights, MsgFlags::empty(), None)?;
    Ok(())
}

/// Receives what [`send`] sent.
pub fn receive(from: &UnixStream) -> io::Result<(String, Vec<OwnedFd>)> {
    let mut text = vec![0; LONGEST];
    let mut space = cmsg_space!([RawFd; MOST]);
    let (len, raw) = {
        let mut into = [IoSliceMut::new(&mut text)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let got = recvmsg::<()>(from.as_raw_fd(), &mut into, Some(&mut space), flags)?;
        let rights = got.cmsgs()?.filter_map(|message| match message {
            ControlMessageOwned::ScmRights(fds) => Some(fds),
            _ => None,
        });
        (got.bytes, rights.flatten().collect::<Vec<_>>())
    };
    // SAFETY: the kernel has just made these descriptors for us, and nobody else knows them.
    let fds = raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).collect();
    text.truncate(len);
    let text = String::from_utf8(text).map_err(io::Error::other)?;
    Ok((text, fds))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn a_descriptor_goes_to_the_other_side_and_works_there() {
        let (here, there) = UnixStream::pair().unwrap();
        let (mut reader, writer) = io::pipe().unwrap();
        send(&here, "a pipe", &[writer.into()]).unwrap();
        let (text, mut fds) = receive(&there).unwrap();
        assert_eq!((text.as_str(), fds.len()), ("a pipe", 1));
        File::from(fds.remove(0)).write_all(b"word").unwrap();
        let mut word = String::new();
        reader.read_to_string(&mut word).unwrap();
        assert_eq!(word, "word");
    }
}
