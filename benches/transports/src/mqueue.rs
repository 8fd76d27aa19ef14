//! Two message queues of the kernel (`mq_open`).
//!
//! It knows their limits, which take privilege to raise, and says which of them was in the way.

use std::fs;
use std::io;

use nix::errno::Errno;
use nix::mqueue::{
    MQ_OFlag, MqAttr, MqdT, mq_attr_member_t, mq_close, mq_open, mq_receive, mq_send,
};
use nix::sys::stat::Mode;

use crate::patience::Patience;
use crate::{Kit, Laid, Named, Refusal, Rx, Shape, Side, Transport, Tx, draw};

/// Two message queues.
#[derive(Debug)]
pub struct Mqueue;

/// Messages of a queue, where the machine allows so many: its usual limit.
const DEPTH: mq_attr_member_t = 10;

fn limit(name: &str) -> Option<mq_attr_member_t> {
    fs::read_to_string(format!("/proc/sys/fs/mqueue/{name}")).ok()?.trim().parse().ok()
}

/// What was in the way, in a sentence.
fn refusal(error: Errno, shape: &Shape) -> Refusal {
    let most = limit("msgsize_max").unwrap_or(0);
    match error {
        Errno::EINVAL => Refusal::Here(format!(
            "a queue takes messages up to {most} bytes here (fs.mqueue.msgsize_max, which takes privilege to raise), \
             not {}",
            shape.size
        )),
        Errno::EMFILE | Errno::ENOMEM | Errno::ENOSPC => Refusal::Here(format!(
            "the limits of this user leave no room for a queue of messages of {} bytes (RLIMIT_MSGQUEUE, \
             fs.mqueue.queues_max)",
            shape.size
        )),
        Errno::ENOSYS => Refusal::Here("this kernel has no message queues".into()),
        Errno::EACCES | Errno::EPERM => {
            Refusal::Here(format!("message queues are not allowed here: {error}"))
        }
        other => other.into(),
    }
}

impl Transport for Mqueue {
    type Tx = MqueueTx;
    type Rx = MqueueRx;

    fn lay(shape: &Shape) -> Result<Laid, Refusal> {
        let depth = limit("msg_max").map_or(DEPTH, |most| most.min(DEPTH));
        let size = mq_attr_member_t::try_from(shape.size).map_err(io::Error::other)?;
        let attributes = MqAttr::new(0, depth, size, 0);
        let names = ["there", "back"].map(|way| Named::Queue(format!("/quoit-{}", draw(way))));
        let how = MQ_OFlag::O_CREAT | MQ_OFlag::O_EXCL | MQ_OFlag::O_RDWR;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        for name in &names {
            let queue = mq_open(name.text(), how, mode, Some(&attributes))
                .map_err(|error| refusal(error, shape))?;
            mq_close(queue)?;
        }
        Ok(Laid::named(names.into()))
    }

    fn ends(kit: Kit, side: Side, shape: &Shape) -> io::Result<(MqueueTx, MqueueRx)> {
        let (to, from) = crate::ways(&kit, side)?;
        let tx = mq_open(to, MQ_OFlag::O_WRONLY, Mode::empty(), None)?;
        let rx = mq_open(from, MQ_OFlag::O_RDONLY, Mode::empty(), None)?;
        let (to_write, to_read) =
            (Patience::to_write(shape.wait, &tx)?, Patience::to_read(shape.wait, &rx)?);
        Ok((
            MqueueTx { queue: tx, patience: to_write },
            MqueueRx { queue: rx, patience: to_read, message: vec![0; shape.size] },
        ))
    }
}

/// The sending end.
#[derive(Debug)]
pub struct MqueueTx {
    queue: MqdT,
    patience: Patience,
}

impl Tx for MqueueTx {
    #[inline(always)]
    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        self.patience.until(&self.queue, || mq_send(&self.queue, message, 0))
    }
}

/// The receiving end.
#[derive(Debug)]
pub struct MqueueRx {
    queue: MqdT,
    patience: Patience,
    message: Vec<u8>,
}

impl Rx for MqueueRx {
    #[inline(always)]
    fn recv(&mut self) -> io::Result<&[u8]> {
        let (queue, message) = (&self.queue, &mut self.message);
        let len = self.patience.until(queue, || mq_receive(queue, message, &mut 0))?;
        Ok(&self.message[..len])
    }
}
