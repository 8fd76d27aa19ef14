//! The two processes of a sample, as their parent has them.
//!
//! It knows how they are started, told to begin, heard to the end, and ended. It refuses to know what they measure.
//! Whatever happens, both are gone when this is dropped.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, mem};

use anyhow::{Context, anyhow, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;
use quoit_transports::{Kit, Laid, send};

use super::end::{Job, Outcome, Said};
use crate::exit;
use crate::signals::{SLICE, Signals};

/// Who is told to begin and does not end so long after the time is taken for hung.
const PATIENCE: Duration = Duration::from_secs(30);
/// When one side has failed: so long the other may say why.
const GRACE: Duration = Duration::from_millis(100);

/// One of them.
struct Party {
    what: &'static str,
    child: Child,
    control: UnixStream,
    heard: Vec<u8>,
    gone: bool,
}

impl Party {
    fn start(what: &'static str, job: &Job, board: OwnedFd, kit: Kit) -> anyhow::Result<Party> {
        let (ours, theirs) = UnixStream::pair()?;
        let child = Command::new(env::current_exe().context("finding this program")?)
            .arg("bench-end")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            // A terminal's Ctrl-C is for the parent, which ends the two in order.
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting the {what}"))?;
        let party = Party { what, child, control: ours, heard: Vec::new(), gone: false };
        let fds: Vec<OwnedFd> = [board].into_iter().chain(kit.fds).collect();
        match send(&party.control, &serde_json::to_string(job)?, &fds) {
            // One that died meanwhile is noticed where it is waited for; a broken pipe is no error of the bench's reader.
            Err(error)
                if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {}
            sent => sent?,
        }
        party.control.set_nonblocking(true)?;
        Ok(party)
    }

    /// Takes in what it has said.
    fn hear(&mut self) -> anyhow::Result<()> {
        let mut piece = [0; 64 * 1024];
        loop {
            match self.control.read(&mut piece) {
                Ok(0) => {
                    self.gone = true;
                    return Ok(());
                }
                Ok(len) => self.heard.extend(&piece[..len]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                    self.gone = true;
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The next whole line.
    fn line(&mut self) -> Option<Vec<u8>> {
        let end = self.heard.iter().position(|byte| *byte == b'\n')?;
        let rest = self.heard.split_off(end + 1);
        Some(mem::replace(&mut self.heard, rest))
    }

    fn pid(&self) -> Pid {
        // A pid of this system: it fits.
        Pid::from_raw(self.child.id().cast_signed())
    }
}

impl Drop for Party {
    fn drop(&mut self) {
        // Both fail if it has ended already, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Both.
pub(super) struct Pair {
    parties: [Party; 2],
}

/// What one of them said.
enum Heard {
    Ready,
    Done(Outcome),
}

impl Pair {
    /// Starts both and waits until they are at their ends; then the names of the transport go.
    pub(super) fn start(
        client: &Job,
        server: &Job,
        laid: Laid,
        board: OwnedFd,
        signals: &Signals,
    ) -> anyhow::Result<Pair> {
        let Laid { client: for_client, server: for_server, names } = laid;
        let other = board.try_clone()?;
        let client = Party::start("client", client, board, for_client)?;
        let server = Party::start("server", server, other, for_server)?;
        let mut pair = Pair { parties: [client, server] };
        pair.both(PATIENCE, signals)?;
        drop(names);
        Ok(pair)
    }

    pub(super) fn pids(&self) -> [Pid; 2] {
        [self.parties[0].pid(), self.parties[1].pid()]
    }

    /// Tells both to begin.
    pub(super) fn go(&mut self) -> anyhow::Result<()> {
        for index in 0..2 {
            // One that died meanwhile is noticed where it is waited for.
            let _ = self.parties[index].control.write_all(b"go\n");
        }
        Ok(())
    }

    /// Waits for what came of it: the client's and the server's.
    pub(super) fn outcomes(
        &mut self,
        run: Duration,
        signals: &Signals,
    ) -> anyhow::Result<[Outcome; 2]> {
        match self.both(run + PATIENCE, signals)? {
            [Heard::Done(client), Heard::Done(server)] => Ok([client, server]),
            _ => bail!("one side of the bench does not know what it has done"),
        }
    }

    /// The next line of each.
    fn both(&mut self, patience: Duration, signals: &Signals) -> anyhow::Result<[Heard; 2]> {
        let end = Instant::now() + patience;
        let mut heard = [const { None }, const { None }];
        loop {
            for (index, party) in self.parties.iter_mut().enumerate() {
                if heard[index].is_none() {
                    party.hear()?;
                    heard[index] = party.line();
                }
            }
            let failed = |line: &Option<Vec<u8>>| line.as_ref().is_some_and(|l| is_failure(l));
            let lost = |index: usize| self.parties[index].gone && heard[index].is_none();
            if heard.iter().any(failed) || lost(0) || lost(1) {
                return Err(self.why(heard));
            }
            if let [Some(client), Some(server)] = &heard {
                return Ok([parse(client)?, parse(server)?]);
            }
            if signals.asked().is_some() {
                bail!("interrupted");
            }
            if Instant::now() >= end {
                bail!("the two processes of the bench did not end in time: one of them hangs");
            }
            self.listen(&heard, SLICE)?;
        }
    }

    /// Waits until somebody who has not been heard says something.
    fn listen(&self, heard: &[Option<Vec<u8>>; 2], most: Duration) -> anyhow::Result<()> {
        let mut fds: Vec<PollFd<'_>> = (self.parties.iter().zip(heard))
            .filter(|(party, line)| line.is_none() && !party.gone)
            .map(|(party, _)| PollFd::new(party.control.as_fd(), PollFlags::POLLIN))
            .collect();
        let timeout = PollTimeout::try_from(most).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// What went wrong: a death before a wrong message before all that follows from these.
    fn why(&mut self, mut heard: [Option<Vec<u8>>; 2]) -> anyhow::Error {
        let end = Instant::now() + GRACE;
        loop {
            for (index, party) in self.parties.iter_mut().enumerate() {
                let _ = party.hear();
                heard[index] = heard[index].take().or_else(|| party.line());
            }
            let open = |index: usize| heard[index].is_none() && !self.parties[index].gone;
            if !(open(0) || open(1)) || Instant::now() >= end {
                break;
            }
            if self.listen(&heard, end.saturating_duration_since(Instant::now())).is_err() {
                break;
            }
        }
        for (party, line) in self.parties.iter_mut().zip(&heard) {
            if party.gone && line.is_none() {
                return dead(party);
            }
        }
        let failures =
            heard.iter().flatten().filter_map(|line| match serde_json::from_slice(line) {
                Ok(Said::Failed(text, wrong)) => Some((!wrong, text)),
                _ => None,
            });
        match failures.min() {
            Some((_, text)) => anyhow!(text),
            None => anyhow!("one side of the bench has failed without a word"),
        }
    }
}

fn dead(party: &mut Party) -> anyhow::Error {
    let how = match party.child.wait().map(|status| (status.signal(), status.code())) {
        Ok((Some(signal), _)) => format!("by signal {signal}"),
        Ok((_, Some(code))) => format!("with status {code}"),
        _ => "unseen".into(),
    };
    exit::failure(exit::PEER_DIED, format!("the {} of the bench died {how}", party.what))
}

fn is_failure(line: &[u8]) -> bool {
    matches!(serde_json::from_slice(line), Ok(Said::Failed(..)))
}

fn parse(line: &[u8]) -> anyhow::Result<Heard> {
    if line == b"ready\n" {
        return Ok(Heard::Ready);
    }
    match serde_json::from_slice(line)? {
        Said::Done(outcome) => Ok(Heard::Done(outcome)),
        Said::Failed(text, _) => bail!(text),
    }
}
