//! The calls that a child dies in, and what may come of each. Knows what a user may rely on; knows nothing of how a ring
//! does it.

use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use quoit::mpmc::{self, Receiver, Sender};
use quoit::{Delivery, Recovered};

use crate::boundaries::{Account, Case, Everyday, Verdict, kill_at_each, track};
use crate::harness::Lab;
use crate::repairs::Repaired;
use crate::stage::{Before, Found, InHand, Shape, Stage, Standing, Survivors, WAIT, body};
use crate::tracer::{gate, shared_memory};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Sender,
    Receiver,
}

/// What the child does between its gates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    TrySend,
    Send,
    /// Waits for room a little.
    SendTimeout(Duration),
    ReserveCommit,
    ReserveDrop,
    /// Three messages.
    SendBatch,
    TryRecv,
    Recv,
    RecvInto,
    /// Waits for a message a little.
    RecvTimeout(Duration),
    /// Receives a message and gives it back.
    GiveBack,
    /// Releases a message that it has in hand when it begins.
    Release,
    /// Receives as many as three.
    RecvBatch,
    Recover(Role),
    RecoverByName,
    Open(Role),
    /// Lets go of a handle.
    Leave(Role),
    Create,
}

impl Call {
    pub(crate) fn sends(self) -> bool {
        use Call::{ReserveCommit, ReserveDrop, Send, SendBatch, SendTimeout, TrySend};
        matches!(self, TrySend | Send | SendTimeout(_) | ReserveCommit | ReserveDrop | SendBatch)
    }

    /// Whether it begins before the ring is open.
    pub(crate) fn opens(self) -> bool {
        matches!(self, Call::Open(_) | Call::RecoverByName)
    }

    pub(crate) fn receives(self) -> bool {
        use Call::{GiveBack, Recv, RecvBatch, RecvInto, RecvTimeout, Release, TryRecv};
        matches!(self, TryRecv | Recv | RecvInto | RecvTimeout(_) | GiveBack | Release | RecvBatch)
    }
}

/// What the child writes down where its parent finds it. Every word is written when what it says is so.
#[repr(C)]
pub(crate) struct Notes {
    /// Messages whose send has returned.
    pub(crate) sent: AtomicU64,
    /// Messages in hand.
    pub(crate) held: AtomicU64,
    pub(crate) numbers: [AtomicU64; 4],
    pub(crate) positions: [AtomicU64; 4],
    /// Of those, how many are released or given back for sure.
    pub(crate) let_go: AtomicU64,
    /// The call has returned without doing anything.
    pub(crate) refused: AtomicU64,
    /// The child.
    pub(crate) pid: AtomicU64,
}

impl Notes {
    /// In memory that this process shares with the children that it will fork.
    pub(crate) fn shared() -> &'static Notes {
        let notes: NonNull<Notes> = shared_memory();
        // SAFETY: the memory is as long as the notes and never unmapped; it is zero, which atomics may be.
        unsafe { notes.as_ref() }
    }

    pub(crate) fn clear(&self) {
        for word in [&self.sent, &self.held, &self.let_go, &self.refused] {
            word.store(0, SeqCst);
        }
    }

    /// The child says who it is.
    pub(crate) fn here(&self) {
        self.pid.store(std::process::id().into(), SeqCst);
    }

    /// As little as can be: it is stepped too.
    pub(crate) fn hold(&self, message: &impl InHand) {
        let mut number = [0; 8];
        message.copy_to(&mut number);
        self.hold_number(u64::from_le_bytes(number), message.position());
    }

    pub(crate) fn hold_number(&self, number: u64, position: u64) {
        let at = self.held.load(SeqCst) as usize;
        self.numbers[at].store(number, SeqCst);
        self.positions[at].store(position, SeqCst);
        self.held.store(at as u64 + 1, SeqCst);
    }

    pub(crate) fn accept<E: std::fmt::Display>(&self, sent: Result<usize, E>) {
        match sent {
            Ok(count) => self.sent.store(count as u64, SeqCst),
            Err(_) => self.refused.store(1, SeqCst),
        }
    }

    /// What the child has sent for sure.
    pub(crate) fn accepted(&self, numbers: &[u64]) -> Vec<u64> {
        numbers[..self.sent.load(SeqCst) as usize].to_vec()
    }

    /// What the child has had in hand.
    pub(crate) fn received(&self) -> Vec<u64> {
        let held = self.held.load(SeqCst) as usize;
        self.numbers[..held].iter().map(|number| number.load(SeqCst)).collect()
    }
}

/// Sends these messages, or the first of them, by this call. The senders of both kinds of ring have the same methods, and no
/// type in common.
macro_rules! send {
    ($tx:ident, $call:expr, $messages:expr, $notes:expr) => {{
        let (messages, notes): (&[Vec<u8>; 3], &Notes) = ($messages, $notes);
        let one = &messages[0];
        $tx.set_wait(WAIT);
        match $call {
            Call::TrySend => {
                gate();
                notes.accept($tx.try_send(one).map(|()| 1));
            }
            Call::Send => {
                gate();
                notes.accept($tx.send(one).map(|()| 1));
            }
            Call::SendTimeout(while_) => {
                gate();
                notes.accept($tx.send_timeout(one, while_).map(|()| 1));
            }
            Call::ReserveCommit => {
                gate();
                let mut room = $tx.reserve(one.len()).unwrap();
                room.write_at(0, one).unwrap();
                notes.accept(room.commit().map(|()| 1));
            }
            Call::ReserveDrop => {
                gate();
                let mut room = $tx.reserve(one.len()).unwrap();
                room.write_at(0, one).unwrap();
                drop(room);
                notes.refused.store(1, SeqCst);
            }
            _ => {
                gate();
                notes.accept($tx.send_batch(messages));
            }
        }
        gate();
    }};
}
pub(crate) use send;

/// Receives a message by this call, or releases one.
macro_rules! receive {
    ($rx:ident, $call:expr, $longest:expr, $notes:expr) => {{
        let notes: &Notes = $notes;
        $rx.set_wait(WAIT);
        match $call {
            Call::Release => {
                let message = $rx.try_recv().unwrap();
                notes.hold(&message);
                gate();
                drop(message);
                notes.let_go.store(1, SeqCst);
            }
            Call::RecvInto => {
                let mut bytes = Vec::with_capacity($longest);
                gate();
                $rx.recv_into(&mut bytes).unwrap();
                notes.hold_number(u64::from_le_bytes(bytes[..8].try_into().unwrap()), 0);
                notes.let_go.store(1, SeqCst);
            }
            call => {
                gate();
                let message = match call {
                    Call::TryRecv => $rx.try_recv().ok(),
                    Call::RecvTimeout(while_) => $rx.recv_timeout(while_).ok(),
                    _ => $rx.recv().ok(),
                };
                if let Some(message) = message {
                    notes.hold(&message);
                    match call {
                        Call::GiveBack => message.give_back(),
                        _ => drop(message),
                    }
                    notes.let_go.store(1, SeqCst);
                } else {
                    notes.refused.store(1, SeqCst);
                }
            }
        }
        gate();
    }};
}
pub(crate) use receive;

/// A call on a ring.
pub(crate) struct Death {
    pub(crate) stage: Stage,
    pub(crate) call: Call,
    pub(crate) before: Before,
    notes: &'static Notes,
    /// What the child sends.
    pub(crate) numbers: [u64; 3],
}

impl Death {
    pub(crate) fn new(lab: &mut Lab, call: Call, before: Before, shape: Shape) -> Death {
        Death {
            stage: Stage::new(lab, shape),
            call,
            before,
            notes: Notes::shared(),
            numbers: [0; 3],
        }
    }

    /// What the child has sent for sure.
    pub(crate) fn accepted(&self) -> Vec<u64> {
        self.notes.accepted(&self.numbers)
    }

    /// What the child has had in hand.
    pub(crate) fn received(&self) -> Vec<u64> {
        self.notes.received()
    }

    /// Whether the child knew that its message was sent.
    pub(crate) fn sent(&self) -> bool {
        self.notes.sent.load(SeqCst) > 0
    }

    /// Whether the child knew that its message was released.
    pub(crate) fn let_go(&self) -> bool {
        self.notes.let_go.load(SeqCst) > 0
    }

    fn at_most_once(&self) -> bool {
        self.stage.shape.delivery == Delivery::AtMostOnce
    }

    fn sends(&self) {
        let mut tx = Sender::open(&self.stage.path).unwrap();
        let messages = self.numbers.map(|number| body(number, self.stage.shape.len));
        send!(tx, self.call, &messages, self.notes);
    }

    fn receives(&self) {
        let rx = Receiver::open(&self.stage.path).unwrap();
        if self.call != Call::RecvBatch {
            return receive!(rx, self.call, self.stage.shape.len, self.notes);
        }
        let mut messages = Vec::with_capacity(4);
        rx.set_wait(WAIT);
        gate();
        rx.recv_batch(&mut messages, 3).unwrap();
        for message in &messages {
            self.notes.hold(message);
        }
        for (i, message) in messages.drain(..).enumerate() {
            drop(message);
            self.notes.let_go.store(i as u64 + 1, SeqCst);
        }
        gate();
    }

    /// The messages that the child may have taken.
    fn takeable(&self) -> usize {
        match self.call {
            Call::RecvBatch => self.stage.standing.len().min(3),
            call => usize::from(call.receives()).min(self.stage.standing.len()),
        }
    }

    /// What must come by itself, without anybody asking for it.
    fn due(&self) -> Vec<u64> {
        let mut due: Vec<u64> = Vec::new();
        let held = self.notes.held.load(SeqCst) as usize;
        for (i, standing) in self.stage.standing.iter().enumerate() {
            let in_doubt = i < self.takeable()
                && (i < held || self.at_most_once() || self.call == Call::RecvInto);
            let lost = standing.held && self.at_most_once();
            if !in_doubt && !lost {
                due.push(standing.number);
            }
        }
        due.extend(self.accepted());
        due
    }

    /// What holds whatever the call is.
    fn check(&self, found: &Found) {
        let sent = self.stage.standing.iter().map(|standing| standing.number).chain(self.numbers);
        let sent: Vec<u64> = sent.collect();
        let mut last = 0;
        for got in &found.got {
            assert!(sent.contains(&got.number), "{} was never sent", got.number);
            if got.attempts == 1 {
                assert!(got.number > last, "{} after {last}, unmarked", got.number);
                last = got.number;
            }
        }
        for (i, standing) in self.stage.standing.iter().enumerate() {
            let came = found.came(standing.number);
            let lost = standing.held && self.at_most_once();
            if i >= self.takeable() {
                assert_eq!(came.is_none(), lost, "{standing:?}: {found:?}");
                let attempts = came.map_or(standing.attempts + 1, |came| came.attempts);
                assert_eq!(attempts, standing.attempts + 1, "{standing:?}: {found:?}");
            }
        }
        // Who arrives repairs too, and tells nobody how much.
        let Recovered { redelivered, lost, .. } = found.recovered;
        let marked = found.got.iter().filter(|got| got.attempts > 1).count() as u64;
        assert!(lost <= found.lost && redelivered <= marked, "{found:?}");
        if self.takeable() == 0 {
            let lost = self.stage.standing.iter().filter(|standing| standing.held).count() as u64;
            assert_eq!(found.lost, if self.at_most_once() { lost } else { 0 }, "{found:?}");
        }
    }

    /// What became of what the child sent.
    pub(crate) fn judge_sent(&self, found: &Found) -> Verdict {
        let came = self.numbers.map(|number| found.came(number));
        let count = came.iter().flatten().count();
        let accepted = self.notes.sent.load(SeqCst) as usize;
        assert!(came[..count].iter().all(Option::is_some), "a prefix comes: {found:?}");
        assert!(count >= accepted, "{accepted} were accepted: {found:?}");
        assert!(came.iter().flatten().all(|got| got.attempts == 1), "{found:?}");
        if self.notes.refused.load(SeqCst) == 1 || self.call == Call::ReserveDrop {
            assert_eq!(count, 0, "{found:?}");
        }
        let word = match (self.call, count) {
            (_, 0) => "not delivered",
            (Call::SendBatch, 1) => "one delivered",
            (Call::SendBatch, 2) => "two delivered",
            (Call::SendBatch, _) => "all delivered",
            _ => "delivered",
        };
        Verdict { stage: count as u32, word }
    }

    /// What became of one message that the child may have taken: whether it still stands as before (0), was in the child's
    /// hands (1), is released (2) or given back (3).
    fn fate(&self, i: usize, standing: Standing, found: &Found, lost: bool) -> u32 {
        let held = (i as u64) < self.notes.held.load(SeqCst);
        let let_go = (i as u64) < self.notes.let_go.load(SeqCst);
        let came = found.came(standing.number);
        if held {
            let (number, position) =
                (self.notes.numbers[i].load(SeqCst), self.notes.positions[i].load(SeqCst));
            assert_eq!(number, standing.number, "the child had the next message");
            if let Some(came) = came.filter(|_| self.call != Call::RecvInto) {
                assert_eq!(came.position, position, "it is where it was");
                assert!(came.attempts > standing.attempts + 1, "it is marked: {found:?}");
            }
        }
        let fate = match came {
            Some(came) if came.attempts == standing.attempts + 1 => 0,
            Some(_) if self.call == Call::GiveBack && (self.at_most_once() || let_go) => 3,
            Some(came) => {
                assert!(!self.at_most_once(), "{came:?}: {found:?}");
                // The mark of one that was marked before may be of the same count.
                assert!((2..=standing.attempts + 2).contains(&came.attempts), "{found:?}");
                1
            }
            None if lost => 1,
            None => 2,
        };
        // What was received into a vector was released before that call returned.
        if let_go || held && self.call == Call::RecvInto {
            assert_eq!(fate, if self.call == Call::GiveBack { 3 } else { 2 }, "{found:?}");
        }
        if fate == 2 {
            assert!(self.call != Call::GiveBack, "{standing:?} is gone: {found:?}");
            assert!(held || self.call == Call::RecvInto, "nobody had {standing:?}: {found:?}");
        }
        fate
    }

    fn judge_created(&mut self, returned: bool) -> Verdict {
        let names: Vec<_> = std::fs::read_dir(self.stage.folder()).unwrap().collect();
        let verdict = match Sender::open(&self.stage.path) {
            Err(error) => {
                assert!(error.is_not_found() && !returned, "{error}");
                assert!(names.is_empty(), "nothing is left behind: {names:?}");
                mpmc::create(&self.stage.path, self.stage.options()).unwrap();
                Verdict { stage: 0, word: "no ring" }
            }
            Ok(_) => {
                assert_eq!(names.len(), 1, "{names:?}");
                Verdict { stage: 1, word: "a whole ring" }
            }
        };
        self.stage.standing.clear();
        self.stage.go_on(&[]);
        verdict
    }

    fn judge_received(&self, found: &Found) -> Verdict {
        if self.notes.refused.load(SeqCst) == 1 {
            assert_eq!(self.takeable(), 0);
        }
        // Of several, those that were released are the first ones.
        let takeable = &self.stage.standing[..self.takeable()];
        let gone = takeable.iter().filter(|standing| found.came(standing.number).is_none()).count();
        assert!(found.lost <= gone as u64, "{found:?}");
        let let_go = gone - found.lost as usize;
        let fates = takeable
            .iter()
            .enumerate()
            .map(|(i, &standing)| self.fate(i, standing, found, i >= let_go));
        let stage = fates.sum();
        let word = match (self.call, stage, self.at_most_once()) {
            (_, 0, _) => "still there",
            // Each of three messages is taken, and then released.
            (Call::RecvBatch, 1, _) => "1 of 6",
            (Call::RecvBatch, 2, _) => "2 of 6",
            (Call::RecvBatch, 3, _) => "3 of 6",
            (Call::RecvBatch, 4, _) => "4 of 6",
            (Call::RecvBatch, 5, _) => "5 of 6",
            (Call::RecvBatch, _, _) => "received",
            (_, 1, false) => "again, marked",
            (_, 1, true) => "lost, counted",
            (_, 2, _) => "received",
            _ => "given back",
        };
        Verdict { stage, word }
    }
}

/// The calls that neither send nor receive.
fn other(call: Call, stage: &Stage) {
    let path = &stage.path;
    match call {
        Call::Recover(Role::Sender) => {
            let tx = Sender::open(path).unwrap();
            between_gates(|| tx.recover().unwrap());
        }
        Call::Recover(Role::Receiver) => {
            let rx = Receiver::open(path).unwrap();
            between_gates(|| rx.recover().unwrap());
        }
        Call::RecoverByName => between_gates(|| quoit::recover(path).unwrap()),
        Call::Open(Role::Sender) => between_gates(|| Sender::open(path).unwrap()),
        Call::Open(Role::Receiver) => between_gates(|| Receiver::open(path).unwrap()),
        Call::Leave(Role::Sender) => {
            let tx = Sender::open(path).unwrap();
            between_gates(|| drop(tx));
        }
        Call::Leave(Role::Receiver) => {
            let rx = Receiver::open(path).unwrap();
            between_gates(|| drop(rx));
        }
        _ => between_gates(|| mpmc::create(path, stage.options()).unwrap()),
    }
}

/// Every death of a call at either kind of ring, with each kind of survivors.
pub(crate) fn whoever_survives<C: Case + std::fmt::Display>(
    lab: &mut Lab,
    death: impl Fn(&mut Lab, Survivors) -> C,
) -> Account {
    let mut all = Account::default();
    let mut followed = None;
    for survivors in [Survivors::ComeLater, Survivors::AreThere] {
        let mut death = death(lab, survivors);
        // The two ways hardly differ, and to follow a call takes longer than all its deaths.
        let track = match followed.take() {
            Some(track) if !lab.all => track,
            _ => track(lab, &mut death),
        };
        let account = kill_at_each(lab, &mut death, &track);
        followed = Some(track);
        account.say(lab, &death.to_string());
        all.add(&account);
    }
    all
}

/// A call between its gates; what comes of it is dropped behind them.
pub(crate) fn between_gates<T>(call: impl FnOnce() -> T) {
    gate();
    let _kept = call();
    gate();
}

impl std::fmt::Display for Death {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Shape { slots, len, delivery, survivors } = self.stage.shape;
        let survivors = match survivors {
            Survivors::ComeLater => "newcomers",
            Survivors::AreThere => "others present",
        };
        let (call, before) = (self.call, self.before);
        write!(f, "{call:?}, {before:?} before, {slots} slots of {len}, {delivery}, {survivors}")
    }
}

impl Repaired for Death {
    fn repair(&self, by: Call) {
        other(by, &self.stage);
    }
}

impl Case for Death {
    fn name(&self) -> String {
        self.to_string()
    }

    fn prepare(&mut self) {
        self.notes.clear();
        self.stage.prepare(self.before);
        if self.before.is_a_death() && self.call.opens() {
            self.stage.die(self.before);
        }
        self.numbers = std::array::from_fn(|_| self.stage.number());
        if self.call == Call::Create {
            std::fs::remove_file(&self.stage.path).unwrap();
        }
    }

    fn call(&mut self) {
        match self.call {
            call if call.sends() => self.sends(),
            call if call.receives() => self.receives(),
            call => other(call, &self.stage),
        }
    }

    /// A ring that has served before is walked another way each time, and who waits goes by the clock.
    fn steady(&self) -> bool {
        let waits = matches!(self.call, Call::SendTimeout(_) | Call::RecvTimeout(_));
        self.stage.shape.survivors == Survivors::ComeLater && !waits
    }

    /// Those who come and go do most of it by system calls: before each and behind it.
    fn everyday(&self) -> Everyday {
        match self.call {
            Call::Create | Call::Open(_) | Call::Leave(_) => Everyday::Edges { more: 16 },
            _ => Everyday::States { more: 16 },
        }
    }

    fn begun(&mut self) {
        // Whoever has the ring open by then finds the dead in the course of its call.
        if self.before.is_a_death() && !self.call.opens() {
            self.stage.die(self.before);
        }
    }

    fn shared(&mut self) -> Vec<Range<*const u8>> {
        if self.call == Call::Create {
            return Vec::new();
        }
        self.stage.shared()
    }

    fn judge(&mut self, returned: bool) -> Verdict {
        if self.call == Call::Create {
            return self.judge_created(returned);
        }
        let due = self.due();
        let found = self.stage.go_on(&due);
        self.check(&found);
        if self.call.receives() {
            self.judge_received(&found)
        } else if self.call.sends() {
            self.judge_sent(&found)
        } else {
            Verdict { stage: 0, word: "all accounted for" }
        }
    }
}
