//! The processes of a sample, as their parent has them: two, or one that is both ends.
//!
//! It knows how they are started, told to begin, heard to the end, and ended. It refuses to know what they measure.
//! Whatever happens, all are gone when this is dropped.

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
use quoit_transports::{Kit, Laid, Named, send};

use crate::end::{Job, Outcome, Said};
use crate::{Died, END, Stop};

/// Who is told to begin and does not end so long after the time is taken for hung.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often somebody is asked whether to stop.
pub(crate) const SLICE: Duration = Duration::from_millis(100);
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
            .arg(END)
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

/// All of a sample.
pub(crate) struct Pair {
    parties: Vec<Party>,
}

/// What one of them said.
enum Heard {
    Ready,
    Done(Vec<Outcome>),
}

impl Pair {
    /// Starts both and waits until they are at their ends; then the names of the transport go.
    pub(crate) fn start(
        client: &Job,
        server: &Job,
        laid: Laid,
        board: OwnedFd,
        stop: Stop<'_>,
    ) -> anyhow::Result<Pair> {
        let Laid { client: for_client, server: for_server, names } = laid;
        let other = board.try_clone()?;
        let client = Party::start("client", client, board, for_client)?;
        let server = Party::start("server", server, other, for_server)?;
        Pair { parties: vec![client, server] }.ready(names, stop)
    }

    /// Starts the one process that is both ends.
    pub(crate) fn start_one(
        job: &Job,
        laid: Laid,
        board: OwnedFd,
        stop: Stop<'_>,
    ) -> anyhow::Result<Pair> {
        let party = Party::start("process", job, board, laid.client)?;
        Pair { parties: vec![party] }.ready(laid.names, stop)
    }

    fn ready(mut self, names: Vec<Named>, stop: Stop<'_>) -> anyhow::Result<Pair> {
        self.all(PATIENCE, stop)?;
        drop(names);
        Ok(self)
    }

    /// Of two.
    pub(crate) fn pids(&self) -> Option<[Pid; 2]> {
        match self.parties.as_slice() {
            [client, server] => Some([client.pid(), server.pid()]),
            _ => None,
        }
    }

    /// Tells all to begin.
    pub(crate) fn go(&mut self) {
        for party in &mut self.parties {
            // One that died meanwhile is noticed where it is waited for.
            let _ = party.control.write_all(b"go\n");
        }
    }

    /// Waits for what came of it: the client's and the server's.
    pub(crate) fn outcomes(
        &mut self,
        run: Duration,
        stop: Stop<'_>,
    ) -> anyhow::Result<[Outcome; 2]> {
        let mut outcomes = Vec::new();
        for heard in self.all(run + PATIENCE, stop)? {
            if let Heard::Done(some) = heard {
                outcomes.extend(some);
            }
        }
        outcomes
            .try_into()
            .map_err(|_| anyhow!("one side of the bench does not know what it has done"))
    }

    /// The next line of each.
    fn all(&mut self, patience: Duration, stop: Stop<'_>) -> anyhow::Result<Vec<Heard>> {
        let end = Instant::now() + patience;
        let mut heard: Vec<Option<Vec<u8>>> = self.parties.iter().map(|_| None).collect();
        loop {
            for (party, line) in self.parties.iter_mut().zip(&mut heard) {
                if line.is_none() {
                    party.hear()?;
                    *line = party.line();
                }
            }
            let failed = |line: &Option<Vec<u8>>| line.as_ref().is_some_and(|l| is_failure(l));
            let mut both = self.parties.iter().zip(&heard);
            if heard.iter().any(failed) || both.any(|(party, line)| party.gone && line.is_none()) {
                return Err(self.why(heard));
            }
            if heard.iter().all(Option::is_some) {
                return heard.iter().flatten().map(|line| parse(line)).collect();
            }
            if stop() {
                bail!("interrupted");
            }
            if Instant::now() >= end {
                bail!("the two processes of the bench did not end in time: one of them hangs");
            }
            self.listen(&heard, SLICE)?;
        }
    }

    /// Waits until somebody who has not been heard says something.
    fn listen(&self, heard: &[Option<Vec<u8>>], most: Duration) -> anyhow::Result<()> {
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
    fn why(&mut self, mut heard: Vec<Option<Vec<u8>>>) -> anyhow::Error {
        let end = Instant::now() + GRACE;
        loop {
            for (party, line) in self.parties.iter_mut().zip(&mut heard) {
                let _ = party.hear();
                *line = line.take().or_else(|| party.line());
            }
            let mut both = self.parties.iter().zip(&heard);
            if both.all(|(party, line)| party.gone || line.is_some()) || Instant::now() >= end {
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
    Died(format!("the {} of the bench died {how}", party.what)).into()
}

fn is_failure(line: &[u8]) -> bool {
    matches!(serde_json::from_slice(line), Ok(Said::Failed(..)))
}

fn parse(line: &[u8]) -> anyhow::Result<Heard> {
    if line == b"ready\n" {
        return Ok(Heard::Ready);
    }
    match serde_json::from_slice(line)? {
        Said::Done(outcomes) => Ok(Heard::Done(outcomes)),
        Said::Failed(text, _) => bail!(text),
    }
}
