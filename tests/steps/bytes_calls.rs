//! The calls that a child dies in at a ring of bytes, and what may come of each. Knows what a user may rely on; knows nothing
//! of how a ring does it.

use std::ops::{Range, RangeInclusive};
use std::sync::atomic::Ordering::SeqCst;

use quoit::spsc::{self, Receiver, Sender};
use quoit::{Delivery, Presence};

use crate::boundaries::{Account, Case, Verdict};
use crate::bytes::{Before, Ring, Shape};
use crate::calls::{Call, Notes, Role, between_gates, receive, send, whoever_survives};
use crate::harness::Lab;
use crate::repairs::Repaired;
use crate::stage::{Found, Standing, Survivors, WAIT, body};
use crate::tracer::gate;

/// A call on a ring of bytes.
pub(crate) struct Death {
    pub(crate) ring: Ring,
    pub(crate) call: Call,
    pub(crate) before: Before,
    pub(crate) notes: &'static Notes,
    /// What the child sends.
    pub(crate) numbers: [u64; 3],
}

impl Death {
    pub(crate) fn new(lab: &mut Lab, call: Call, before: Before, shape: Shape) -> Death {
        let role = match call {
            Call::Open(role) | Call::Leave(role) => role,
            call if call.receives() => Role::Receiver,
            _ => Role::Sender,
        };
        let ring = Ring::new(lab, role, shape);
        Death { ring, call, before, notes: Notes::shared(), numbers: [0; 3] }
    }

    fn at_most_once(&self) -> bool {
        self.ring.shape.delivery == Delivery::AtMostOnce
    }

    fn sends(&self) {
        self.notes.here();
        let len = self.ring.shape.len;
        let mut tx = Sender::open(&self.ring.path).unwrap();
        if self.before == Before::Own {
            tx.try_send(&body(self.ring.standing[0].number, len)).unwrap();
        }
        let messages = self.numbers.map(|number| body(number, len));
        send!(tx, self.call, &messages, self.notes);
    }

    fn receives(&self) {
        self.notes.here();
        let mut rx = Receiver::open(&self.ring.path).unwrap();
        if self.before == Before::Own {
            drop(rx.try_recv().unwrap());
        }
        receive!(rx, self.call, self.ring.shape.len, self.notes);
    }

    /// The message that the child may have taken: the first one that is not lost already.
    fn takeable(&self) -> Option<usize> {
        let first = self.ring.standing.iter().position(|standing| !self.is_lost(standing));
        first.filter(|_| self.call.receives())
    }

    /// Whether nobody will ever have this message, whatever the child does.
    fn is_lost(&self, standing: &Standing) -> bool {
        standing.held && self.at_most_once()
    }

    /// What must come, whoever has died.
    fn due(&self) -> Vec<u64> {
        let in_doubt = self.takeable().filter(|_| {
            let held = self.notes.held.load(SeqCst) > 0;
            held || self.at_most_once() || self.call == Call::RecvInto
        });
        let standing = self.ring.standing.iter().enumerate();
        let due = standing.filter(|&(i, it)| Some(i) != in_doubt && !self.is_lost(it));
        due.map(|(_, standing)| standing.number).chain(self.notes.accepted(&self.numbers)).collect()
    }

    /// What holds whatever the call is.
    fn check(&self, found: &Found) {
        let sent = self.ring.standing.iter().map(|standing| standing.number).chain(self.numbers);
        let sent: Vec<u64> = sent.collect();
        for got in &found.got {
            assert!(sent.contains(&got.number), "{} was never sent: {found:?}", got.number);
        }
        for (i, standing) in self.ring.standing.iter().enumerate() {
            if Some(i) == self.takeable() {
                continue;
            }
            let came = found.came(standing.number);
            assert_eq!(came.is_none(), self.is_lost(standing), "{standing:?}: {found:?}");
            let attempts = came.map_or(standing.attempts + 1, |came| came.attempts);
            assert_eq!(attempts, standing.attempts + 1, "{standing:?}: {found:?}");
        }
    }

    /// Messages that were lost before the call, as they may be counted in the end: one too many if the child died between its
    /// count and its release.
    fn lost_before(&self) -> RangeInclusive<u64> {
        let lost = self.ring.standing.iter().filter(|standing| self.is_lost(standing)).count();
        let twice = usize::from(lost > 0 && self.call.receives());
        lost as u64..=(lost + twice) as u64
    }

    /// Has the survivors go on, and holds what they find against what there was.
    pub(crate) fn account(&mut self) -> Found {
        let due = self.due();
        let found = self.ring.go_on(&due);
        self.check(&found);
        if !self.call.receives() {
            assert!(self.lost_before().contains(&found.lost), "{found:?}");
        }
        found
    }

    /// What became of the call of a child that sent or received.
    pub(crate) fn judge_found(&self, found: &Found) -> Verdict {
        if self.call.sends() { self.judge_sent(found) } else { self.judge_received(found) }
    }

    /// What became of what the child sent.
    fn judge_sent(&self, found: &Found) -> Verdict {
        let came = self.numbers.map(|number| found.came(number));
        let count = came.iter().flatten().count();
        let accepted = self.notes.accepted(&self.numbers).len();
        assert!(came[..count].iter().all(Option::is_some), "a prefix comes: {found:?}");
        assert!(count >= accepted, "{accepted} were accepted: {found:?}");
        assert!(came.iter().flatten().all(|got| got.attempts == 1), "{found:?}");
        if self.notes.refused.load(SeqCst) == 1 || self.call == Call::ReserveDrop {
            assert_eq!(count, 0, "{found:?}");
        }
        let word = match (self.call, count) {
            (_, 0) => "not delivered",
            (Call::SendBatch, 3) => "all delivered",
            (Call::SendBatch, _) => "some delivered",
            _ => "delivered",
        };
        Verdict { stage: count as u32, word }
    }

    /// What became of the message that the child may have taken.
    fn judge_received(&self, found: &Found) -> Verdict {
        let refused = self.notes.refused.load(SeqCst) == 1;
        let Some(standing) = self.takeable().map(|i| self.ring.standing[i]) else {
            assert!(self.lost_before().contains(&found.lost), "{found:?}");
            return Verdict { stage: 0, word: "nothing there" };
        };
        assert!(!refused, "{standing:?} was there");
        let held = self.notes.held.load(SeqCst) > 0;
        let let_go = self.notes.let_go.load(SeqCst) > 0;
        let came = found.came(standing.number);
        if held {
            let number = self.notes.numbers[0].load(SeqCst);
            assert_eq!(number, standing.number, "the child had the next message");
        }
        if let Some(came) = came.filter(|_| held) {
            let position = self.notes.positions[0].load(SeqCst);
            assert_eq!(came.position, position, "it is where it was");
            assert!(came.attempts > 1, "it is marked: {found:?}");
        }
        let given_back = self.call == Call::GiveBack;
        let lost_before = *self.lost_before().start();
        let (stage, word) = match came {
            Some(came) if !held && came.attempts == standing.attempts + 1 => (0, "still there"),
            Some(came) => {
                // The mark of one that was marked before may be of the same count.
                let fewest = (standing.attempts + 1).max(2);
                assert!((fewest..=standing.attempts + 2).contains(&came.attempts), "{found:?}");
                if given_back && (self.at_most_once() || let_go) {
                    (2, "given back")
                } else {
                    assert!(!self.at_most_once(), "{came:?}: {found:?}");
                    (1, "again, marked")
                }
            }
            None if found.lost == lost_before => (2, "received"),
            None => (1, "lost, counted"),
        };
        match came {
            Some(_) => assert!(self.lost_before().contains(&found.lost), "{found:?}"),
            // What was lost before is counted and released by then, so not twice.
            None => {
                assert!(found.lost <= lost_before + u64::from(self.at_most_once()), "{found:?}")
            }
        }
        if let_go {
            assert_eq!(stage, 2, "{word}: {found:?}");
        }
        if word == "received" {
            assert!(!given_back, "{standing:?} is gone: {found:?}");
            assert!(held || self.call == Call::RecvInto, "nobody had {standing:?}: {found:?}");
        }
        Verdict { stage, word }
    }

    fn judge_created(&mut self, returned: bool) -> Verdict {
        let names: Vec<_> = std::fs::read_dir(self.ring.folder()).unwrap().collect();
        match Sender::open(&self.ring.path) {
            Err(error) => {
                assert!(error.is_not_found() && !returned, "{error}");
                assert!(names.is_empty(), "nothing is left behind: {names:?}");
                Verdict { stage: 0, word: "no ring" }
            }
            Ok(mut tx) => {
                assert_eq!(names.len(), 1, "{names:?}");
                let mut rx = Receiver::open(&self.ring.path).unwrap();
                tx.try_send(b"whole").unwrap();
                assert_eq!(rx.try_recv().unwrap().to_vec(), b"whole");
                Verdict { stage: 1, word: "a whole ring" }
            }
        }
    }

    /// What became of one who came or went.
    fn judge_presence(&self, fate: Presence) -> Verdict {
        match (self.call, fate) {
            (Call::Leave(_), Presence::Died) => Verdict { stage: 0, word: "died" },
            (Call::Leave(_), Presence::Left) => Verdict { stage: 1, word: "left" },
            (Call::Open(_), Presence::Left) => Verdict { stage: 0, word: "never there" },
            (Call::Open(_), Presence::Died) => Verdict { stage: 1, word: "died" },
            _ => panic!("{fate:?}"),
        }
    }
}

/// The calls that neither send nor receive.
fn other(call: Call, ring: &Ring) {
    let path = &ring.path;
    match call {
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
        Call::Create => between_gates(|| spsc::create(path, ring.options()).unwrap()),
        call => panic!("a ring of bytes has no {call:?}"),
    }
}

impl std::fmt::Display for Death {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Shape { len, back, delivery, survivors } = self.ring.shape;
        let survivors = match survivors {
            Survivors::ComeLater => "newcomers",
            Survivors::AreThere => "the other present",
        };
        let (call, before) = (self.call, self.before);
        write!(
            f,
            "{call:?}, {before:?} before, of {len}, {back} from the end, {delivery}, {survivors}"
        )
    }
}

impl Case for Death {
    fn name(&self) -> String {
        self.to_string()
    }

    fn prepare(&mut self) {
        self.notes.clear();
        self.ring.prepare(self.before);
        if self.before == Before::Own && self.call.sends() {
            let number = self.ring.number();
            self.ring.standing.push(Standing { number, attempts: 0, held: false });
        }
        self.numbers = std::array::from_fn(|_| self.ring.number());
        if self.call == Call::Create {
            std::fs::remove_file(&self.ring.path).unwrap();
        }
    }

    fn call(&mut self) {
        match self.call {
            call if call.sends() => self.sends(),
            call if call.receives() => self.receives(),
            call => other(call, &self.ring),
        }
    }

    /// Who waits goes by the clock.
    fn steady(&self) -> bool {
        !matches!(self.call, Call::SendTimeout(_) | Call::RecvTimeout(_))
    }

    fn shared(&mut self) -> Vec<Range<*const u8>> {
        if self.call == Call::Create {
            return Vec::new();
        }
        self.ring.shared()
    }

    fn judge(&mut self, returned: bool) -> Verdict {
        if self.call == Call::Create {
            return self.judge_created(returned);
        }
        let fate = self.ring.fate().presence;
        let found = self.account();
        if self.call.receives() || self.call.sends() {
            assert_eq!(fate, Presence::Died);
            self.judge_found(&found)
        } else if self.before == Before::DeadClaim || self.before == Before::DeadHands {
            Verdict { stage: 0, word: "all accounted for" }
        } else {
            self.judge_presence(fate)
        }
    }
}

impl Repaired for Death {
    fn repair(&self, by: Call) {
        other(by, &self.ring);
    }

    /// Who repairs opens the ring, which is thousands of instructions; `bytes_deaths` has one die at each of them.
    fn at_every(&self) -> bool {
        false
    }
}

/// Every death of a call, whoever the survivors are.
pub(crate) fn deaths(
    lab: &mut Lab,
    call: Call,
    before: Before,
    (len, back, delivery): (usize, usize, Delivery),
) -> Account {
    whoever_survives(lab, |lab, survivors| {
        Death::new(lab, call, before, Shape { len, back, delivery, survivors })
    })
}
