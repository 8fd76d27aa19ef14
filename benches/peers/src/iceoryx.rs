//! `iceoryx2`: two services by publish and subscribe, one publisher and one subscriber each.
//!
//! It knows slices of bytes that are loaned, written and sent, and a subscriber that asks again and again. A publisher
//! whose subscriber's queue is full tries again in the library's own manner.

use std::path::Path as StdPath;
use std::sync::OnceLock;
use std::{fs, io};

use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::*;
use quoit_transports::{Kit, Laid, Mpmc, Refusal, Rx, Shape, Side, Transport, Tx, draw};

use crate::spin;

/// Two services.
#[derive(Debug)]
pub(crate) struct Iceoryx;

/// Where this bench's services are registered, and what the names of their memory begin with.
static HOME: OnceLock<[String; 2]> = OnceLock::new();

/// Where memory has names.
const MEMORY: &str = "/dev/shm";

/// Registers services below this folder from now on. What that leaves in memory, be it of processes that were killed, goes
/// when this is dropped; then the folder may go too.
pub(crate) fn live_in(dir: &StdPath) -> Home {
    HOME.get_or_init(|| [dir.to_string_lossy().into_owned(), draw("")]);
    Home
}

/// See [`live_in`].
#[derive(Debug)]
pub(crate) struct Home;

impl Drop for Home {
    fn drop(&mut self) {
        let Some([_, prefix]) = HOME.get() else { return };
        let names = fs::read_dir(MEMORY).into_iter().flatten().flatten();
        for name in names.filter(|name| name.file_name().to_string_lossy().starts_with(prefix)) {
            // Somebody was faster.
            let _ = fs::remove_file(name.path());
        }
    }
}

fn config(dir: &str, prefix: &str) -> io::Result<Config> {
    let mut config = Config::default();
    config.global.set_root_path(&Path::new(dir.as_bytes()).map_err(failed)?);
    config.global.prefix = FileName::new(prefix.as_bytes()).map_err(failed)?;
    Ok(config)
}

fn failed(error: impl std::fmt::Debug) -> io::Error {
    io::Error::other(format!("iceoryx2: {error:?}"))
}

impl Transport for Iceoryx {
    type Tx = IceoryxTx;
    type Rx = IceoryxRx;

    const SLEEPS: bool = false;

    fn lay(_: &Shape) -> Result<Laid, Refusal> {
        let home = HOME.get().ok_or_else(|| io::Error::other("there is no folder for iceoryx2"))?;
        let [dir, prefix] = home.clone();
        let names = vec![draw("there"), draw("back"), dir, prefix];
        let kit = || Kit { fds: Vec::new(), names: names.clone() };
        Ok(Laid { client: kit(), server: kit(), names: Vec::new() })
    }

    fn ends(kit: Kit, side: Side, shape: &Shape) -> io::Result<(IceoryxTx, IceoryxRx)> {
        let [there, back, dir, prefix] = kit.names.as_slice() else {
            return Err(io::Error::other("not the names that this transport has"));
        };
        let (to, from) = match side {
            Side::Client => (there, back),
            Side::Server => (back, there),
        };
        // Only what fails: its warnings are about habits of others.
        set_log_level(LogLevel::Fatal);
        let node = NodeBuilder::new()
            .config(&config(dir, prefix)?)
            .signal_handling_mode(SignalHandlingMode::Disabled)
            .create::<ipc::Service>()
            .map_err(failed)?;
        let service = |name: &str| {
            let name = ServiceName::new(name).map_err(failed)?;
            node.service_builder(&name)
                .publish_subscribe::<[u8]>()
                .enable_safe_overflow(false)
                .history_size(0)
                .subscriber_max_buffer_size(Mpmc::slots(shape))
                .subscriber_max_borrowed_samples(1)
                .max_publishers(1)
                .max_subscribers(1)
                .open_or_create()
                .map_err(failed)
        };
        let publisher = service(to)?
            .publisher_builder()
            .initial_max_slice_len(shape.size)
            .max_loaned_samples(1)
            .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
            .create()
            .map_err(failed)?;
        let subscriber = service(from)?.subscriber_builder().create().map_err(failed)?;
        Ok((IceoryxTx(publisher), IceoryxRx { end: subscriber, message: vec![0; shape.size] }))
    }
}

/// The sending end.
pub(crate) struct IceoryxTx(Publisher<ipc::Service, [u8], ()>);

impl Tx for IceoryxTx {
    #[inline(always)]
    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        let loan = self.0.loan_slice_uninit(message.len()).map_err(failed)?;
        // It answers how many it reached, and none where the receiver of the last message has left before the call returns. What
        // is missing is missed by the receiver.
        loan.write_from_slice(message).send().map_err(failed)?;
        Ok(())
    }
}

/// The receiving end.
pub(crate) struct IceoryxRx {
    end: Subscriber<ipc::Service, [u8], ()>,
    message: Vec<u8>,
}

impl Rx for IceoryxRx {
    #[inline(always)]
    fn recv(&mut self) -> io::Result<&[u8]> {
        let sample = spin::until(|| self.end.receive().transpose()).map_err(failed)?;
        self.message.clear();
        self.message.extend_from_slice(&sample);
        Ok(&self.message)
    }
}
