//! Whether a history of calls can have happened on a ring of slots.
//!
//! Knows what was called, by whom, from when to when, and what was answered. Knows nothing of rings, files or processes.
//!
//! # What a history is
//!
//! A call took effect at some moment between its invocation and its response. That is all that is known of the moment, so a
//! rule may only speak of what was so *whichever* moment it was. Times are those of one clock, and bound what others can
//! see: whoever logs puts a fence on both sides of each look at it (`log`). A send is a claim and a commit (one call, or the
//! two of a reservation); a message's *order* is its position, counted from the first of the ring. A process that was killed
//! leaves calls without a response: they took effect, or not, before it was dead.
//!
//! # The rules
//!
//! Each is a consequence of what is promised in the rustdoc of `quoit::mpmc` and in the invariants M-I1 to M-I3 of
//! `src/ring/mpmc.rs`. "Surely" means: whichever moments the calls took effect at. So whoever breaks a rule has broken a
//! promise; no order of the moments explains it.
//!
//! | rule | broken when | because |
//! |---|---|---|
//! | [`Lost`](Rule::Lost) | a send answered `Ok`, and nobody released the message in the end | `Ok` means committed: it is delivered |
//! | [`Invented`](Rule::Invented) | a message that no call sent, or whose take ended before its commit began | only what is committed is taken |
//! | [`Twice`](Rule::Twice) | a message came again though it was released, or unmarked, or while it was surely in other hands; or more were handed out unseen than the dead can have taken | once, or again and marked, each time with a reason |
//! | [`Moved`](Rule::Moved) | a message stands at two places, or two at one | a position is one message's, each time it is delivered |
//! | [`Prefix`](Rule::Prefix) | of the batch of a dead sender a message was sent and one before it was not | a batch goes from the front |
//! | [`SenderOrder`](Rule::SenderOrder) | of one sender the earlier message stands behind the later one, or the later one was surely taken before it | claims are in order, takes too |
//! | [`ReceiverOrder`](Rule::ReceiverOrder) | a receiver got what was new out of the order of positions | its cursor only moves on |
//! | [`ClaimOrder`](Rule::ClaimOrder) | a message was surely claimed before another one that stands before it | M-I2: claims are in order |
//! | [`TakeOrder`](Rule::TakeOrder) | a message was surely taken, first, before another one that stands before it | M-I2: so are first takes |
//! | [`RealTime`](Rule::RealTime) | a message surely claimed after another was surely taken before it; positions are not asked | both of the above |
//! | [`Reused`](Rule::Reused) | a slot was surely claimed before the message of the lap before was released | a slot is free when its message is released |
//! | [`Empty`](Rule::Empty) | see below | |
//! | [`Aside`](Rule::Aside) | `Empty`, though a message was surely given back before the call and not taken before its end | it is delivered before any that was not taken yet; an open claim is not in its way |
//! | [`Full`](Rule::Full) | see below | |
//! | [`Ended`](Rule::Ended) | `Disconnected`, though one of the other side surely had a handle during the whole call; or, told to a receiver, though a message was surely committed before it and not released before its end | the end comes when nobody is left and nothing is in anybody's hands |
//!
//! **Empty.** Docs: "none is committed, or one is and another before it is still being written". Let a message m be committed
//! before the call began, and its first take begin after the call ended. Its slot says so throughout, so a receiver's walk ends
//! before m only at a slot whose claim is open: everything before m is claimed (M-I2), what is committed there is taken by the
//! walk or by others, which moves it on, and a claim that was given up is stepped over. (The walk's patience of two steps for
//! each slot and 64 more suffices: m's slot was free a lap ago, so all that was there a lap ago is done with.) So the answer
//! is wrong if no claim before m can have been open during the call. Counted as possibly open: each message that stands
//! before m and whose commit may have ended after the call began; and each claim that came to nothing, whose position is
//! unknown, unless it surely began after m's, or was surely given up before the call. A claim of a dead sender is open until
//! it is repaired; at the latest when a message is taken that was surely claimed after the death, because takes are in order.
//! A timeout of a receive is an `Empty` of many looks, and is judged as one. Of all m that may be asked about, the one that
//! stands first is.
//!
//! **Full.** Docs: "`Full` means that the message of one lap ago is still there". Let T be the first position that nobody has
//! claimed at the moment of the answer; then position T - slots is not free. T is above every position surely claimed before
//! the call, and not above any surely claimed after it. So the answer is wrong if all positions from the one bound to the
//! other, a lap ago, were surely free before the call began: before the first of the ring; or released; or claimed anew a lap
//! later; or, for a claim that came to nothing, stepped over, because a message behind it was taken. (A sender whom others
//! overtake for 2 laps and 64 steps may say `Full` too: calls during which T may have moved by more than 16 are not judged.)
//!
//! # What it does not see
//!
//! It is no full check for linearizability. Each rule asks about two calls, or about one call and the extremes of all others; that
//! no single order explains three calls together can go unseen. A wrong answer is excused whenever another moment would have made
//! it right: many `Empty` and `Full` are. A timeout of a send, a batch that stopped half-way, `len` and the rest of the news are
//! not judged. The times of a killed call are wide.
//!
//! All of it is sorting, sweeping and looking up: n log n.

use std::collections::HashMap;
use std::fmt;

/// A time that never came: the call has no response.
pub(crate) const NEVER: u64 = u64::MAX;

/// Calls during which so many positions more may have been claimed are not asked why they were refused.
const HURRY: u64 = 16;

/// From the invocation to the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) from: u64,
    pub(crate) to: u64,
}

/// A message that was sent, or may have been.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    /// The sender above, its number below.
    pub(crate) id: u64,
    pub(crate) claim: Span,
    pub(crate) commit: Span,
    /// Whether the call said so; else its caller died.
    pub(crate) accepted: bool,
    /// When its caller was surely dead.
    pub(crate) died: u64,
}

/// Whose message that is: the upper bits of an id.
pub(crate) fn sender_of(id: u64) -> u64 {
    id >> 40
}

/// What became of a message in hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Nothing, as far as is known: its holder died.
    InHand,
    Released,
    GivenBack,
}

/// A message in somebody's hands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    pub(crate) id: u64,
    /// Its place in the order of all.
    pub(crate) order: u64,
    pub(crate) attempts: u64,
    pub(crate) receiver: u64,
    pub(crate) take: Span,
    pub(crate) fate: Fate,
    /// Of what became of it. Without a response it may not have happened.
    pub(crate) end: Span,
}

impl Taken {
    fn surely_released(&self) -> bool {
        self.fate == Fate::Released && self.end.to != NEVER
    }
}

/// A claim that came to nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GivenUp {
    pub(crate) claim: u64,
    /// When it was surely given up; `NEVER` when its holder died.
    pub(crate) end: u64,
    pub(crate) died: u64,
}

/// An answer that is no message and no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Empty,
    Full,
    /// Nobody sends any more.
    NoSender,
    /// Nobody receives any more.
    NoReceiver,
}

/// A handle that is surely there from its opening to its leaving.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Handle {
    pub(crate) sends: bool,
    pub(crate) opened: u64,
    pub(crate) leaving: u64,
}

/// All that is known of a ring's life.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    pub(crate) slots: u64,
    pub(crate) sent: Vec<Sent>,
    /// Of each receiver in the order in which it took them.
    pub(crate) taken: Vec<Taken>,
    pub(crate) given_up: Vec<GivenUp>,
    pub(crate) refused: Vec<(Answer, Span)>,
    pub(crate) handles: Vec<Handle>,
    /// How many messages may have been handed out to those who died before they could say so.
    pub(crate) unseen: u64,
}

/// What can be broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rule {
    Lost,
    Invented,
    Twice,
    Moved,
    Prefix,
    SenderOrder,
    ReceiverOrder,
    ClaimOrder,
    TakeOrder,
    RealTime,
    Reused,
    Empty,
    Aside,
    Full,
    Ended,
}

/// A rule that was broken, and by what.
#[derive(Clone, Debug)]
pub(crate) struct Broken {
    pub(crate) rule: Rule,
    how: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.rule, self.how)
    }
}

/// What a check found, and how much it had to go by.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// In the order in which it was found.
    pub(crate) broken: Vec<Broken>,
    /// Answers `Empty`, and those of them that a message which was surely there made suspicious.
    pub(crate) empty: [u64; 2],
    /// Answers `Full`, and those of them whose every bound is known.
    pub(crate) full: [u64; 2],
}

impl Verdict {
    /// Whether this rule was broken.
    pub(crate) fn breaks(&self, rule: Rule) -> bool {
        self.broken.iter().any(|broken| broken.rule == rule)
    }

    fn add(&mut self, rule: Rule, how: impl FnOnce() -> String) {
        // A broken ring breaks a rule again and again: the first few say it.
        if self.broken.iter().filter(|broken| broken.rule == rule).count() < 3 {
            self.broken.push(Broken { rule, how: how() });
        }
    }
}

/// A message, and all that is known of it.
#[derive(Clone, Copy, Debug)]
struct Whole {
    sent: Sent,
    /// Its place; of no meaning when nobody saw it.
    order: u64,
    seen: bool,
    /// When it was first taken, if whoever took it first lived to say so.
    first: Option<Span>,
    /// When it had surely been taken.
    taken_by: u64,
    /// From when on it may be free, and when it surely is; `NEVER` when that is not known.
    release: Span,
}

/// Looks for what cannot have happened.
pub(crate) fn check(history: &History) -> Verdict {
    let mut verdict = Verdict::default();
    let wholes = join(history, &mut verdict);
    by_sender(&wholes, &mut verdict);
    by_receiver(history, &mut verdict);
    let mut placed: Vec<Whole> = wholes.iter().copied().filter(|whole| whole.seen).collect();
    placed.sort_by_key(|whole| whole.order);
    by_place(history, &placed, &mut verdict);
    in_real_time(&placed, &mut verdict);
    let given_up = given_up(history, &wholes, &placed);
    empty(history, &placed, &given_up, &mut verdict);
    aside(history, &mut verdict);
    full(history, &placed, &mut verdict);
    ended(history, &wholes, &mut verdict);
    verdict
}

/// Brings what was sent and what was taken together, by id; says what each message alone shows to be wrong.
fn join(history: &History, verdict: &mut Verdict) -> Vec<Whole> {
    let mut sent = history.sent.clone();
    sent.sort_by_key(|sent| sent.id);
    for pair in sent.windows(2) {
        assert_ne!(pair[0].id, pair[1].id, "the log has a message sent twice");
    }
    let mut taken = history.taken.clone();
    taken.sort_by_key(|taken| (taken.id, taken.attempts, taken.take.from));
    let mut wholes: Vec<Whole> = Vec::with_capacity(sent.len());
    let mut unseen = 0;
    let mut rest = &taken[..];
    for sent in sent {
        while let Some(strange) = rest.first().filter(|taken| taken.id < sent.id) {
            verdict.add(Rule::Invented, || format!("nobody sent {strange:x?}"));
            rest = &rest[1..];
        }
        let (of, others) = rest.split_at(rest.partition_point(|taken| taken.id == sent.id));
        rest = others;
        unseen += sightings(&sent, of, verdict);
        wholes.push(whole(sent, of, verdict));
    }
    if let Some(strange) = rest.first() {
        verdict.add(Rule::Invented, || format!("nobody sent {strange:x?}"));
    }
    if unseen > history.unseen {
        let most = history.unseen;
        verdict
            .add(Rule::Twice, || format!("marked {unseen} times without a reason, {most} at most"));
    }
    wholes
}

/// Follows a message from hand to hand; answers how often it was handed out unseen.
fn sightings(sent: &Sent, of: &[Taken], verdict: &mut Verdict) -> u64 {
    for taken in of {
        if taken.take.to < sent.commit.from {
            verdict.add(Rule::Invented, || format!("{taken:x?} before {sent:x?}"));
        }
    }
    for pair in of.windows(2) {
        let (before, after) = (&pair[0], &pair[1]);
        if before.order != after.order {
            verdict.add(Rule::Moved, || format!("{before:x?} and {after:x?}"));
        }
        let in_hand_from =
            if before.fate == Fate::InHand { before.take.from } else { before.end.from };
        if before.surely_released()
            || before.attempts >= after.attempts
            || after.take.to < in_hand_from
        {
            verdict.add(Rule::Twice, || format!("{before:x?}, then {after:x?}"));
        }
    }
    of.last().map_or(0, |last| last.attempts.saturating_sub(of.len() as u64))
}

fn whole(sent: Sent, of: &[Taken], verdict: &mut Verdict) -> Whole {
    let last = of.last();
    match last.map(|last| last.fate) {
        Some(Fate::Released) => {}
        None if !sent.accepted => {}
        _ => verdict.add(Rule::Lost, || format!("{sent:x?}, at last {last:x?}")),
    }
    let taken_by = of.iter().map(|taken| taken.take.to).min().unwrap_or(NEVER);
    let mut sent = sent;
    // What was taken had been committed, and what was committed had been claimed.
    sent.commit.to = sent.commit.to.min(taken_by);
    sent.claim.to = sent.claim.to.min(sent.commit.to);
    let never = Span { from: NEVER, to: NEVER };
    Whole {
        sent,
        order: last.map_or(0, |last| last.order),
        seen: last.is_some(),
        // Who got it first saw no mark.
        first: of.first().filter(|first| first.attempts == 1).map(|first| first.take),
        taken_by,
        release: last.filter(|last| last.fate == Fate::Released).map_or(never, |last| last.end),
    }
}

/// The messages of each sender, in the order in which it sent them.
fn by_sender(wholes: &[Whole], verdict: &mut Verdict) {
    for of in wholes.chunk_by(|a, b| sender_of(a.sent.id) == sender_of(b.sent.id)) {
        // The place of the last one that was seen, and the latest that one was surely not taken before.
        let (mut last, mut not_before): (Option<&Whole>, (u64, u64)) = (None, (0, 0));
        for pair in of.windows(2) {
            let in_doubt = |whole: &Whole| !whole.sent.accepted;
            if in_doubt(&pair[0]) && !pair[0].seen && in_doubt(&pair[1]) && pair[1].seen {
                verdict.add(Rule::Prefix, || format!("{:x?} without the one before", pair[1]));
            }
        }
        for whole in of.iter().filter(|whole| whole.seen) {
            if let Some(last) = last.filter(|last| last.order >= whole.order) {
                verdict.add(Rule::SenderOrder, || format!("{last:x?} stands behind {whole:x?}"));
            }
            if whole.taken_by < not_before.0 {
                let id = not_before.1;
                verdict.add(Rule::SenderOrder, || format!("{whole:x?} was taken before {id:x}"));
            }
            last = Some(whole);
            not_before = not_before.max((whole.first.map_or(0, |first| first.from), whole.sent.id));
        }
    }
}

/// What each receiver was handed and nobody had been before.
fn by_receiver(history: &History, verdict: &mut Verdict) {
    let mut last: HashMap<u64, &Taken> = HashMap::new();
    for taken in history.taken.iter().filter(|taken| taken.attempts == 1) {
        let before = last.insert(taken.receiver, taken);
        if let Some(before) = before.filter(|before| before.order >= taken.order) {
            verdict.add(Rule::ReceiverOrder, || format!("{taken:x?} after {before:x?}"));
        }
    }
}

/// From the first place to the last.
fn by_place(history: &History, placed: &[Whole], verdict: &mut Verdict) {
    for pair in placed.windows(2) {
        if pair[0].order == pair[1].order {
            verdict.add(Rule::Moved, || format!("{:x?} and {:x?} share a place", pair[0], pair[1]));
        }
    }
    let (mut claimed, mut taken) = ((0, 0), (0, 0));
    for whole in placed {
        if whole.sent.claim.to < claimed.0 {
            let other = claimed.1;
            verdict.add(Rule::ClaimOrder, || format!("{whole:x?} was claimed before {other:x}"));
        }
        claimed = claimed.max((whole.sent.claim.from, whole.sent.id));
        if whole.taken_by < taken.0 {
            let other = taken.1;
            verdict.add(Rule::TakeOrder, || format!("{whole:x?} was taken before {other:x}"));
        }
        taken = taken.max((whole.first.map_or(0, |first| first.from), whole.sent.id));
    }
    for whole in placed {
        let Some(next) = at(placed, whole.order + history.slots) else { continue };
        if whole.release.from != NEVER && next.sent.claim.to < whole.release.from {
            verdict.add(Rule::Reused, || format!("{next:x?} in the slot of {whole:x?}"));
        }
    }
}

/// The message at this place.
fn at(placed: &[Whole], order: u64) -> Option<&Whole> {
    placed.binary_search_by_key(&order, |whole| whole.order).ok().map(|index| &placed[index])
}

/// Without regard to places.
fn in_real_time(placed: &[Whole], verdict: &mut Verdict) {
    let mut earlier: Vec<&Whole> = placed.iter().filter(|whole| whole.first.is_some()).collect();
    earlier.sort_by_key(|whole| whole.sent.claim.to);
    let mut later: Vec<&Whole> = placed.iter().collect();
    later.sort_by_key(|whole| whole.sent.claim.from);
    let mut earlier = earlier.into_iter().peekable();
    // Of all that were claimed before: the latest that one was surely not taken before.
    let mut not_before: (u64, Option<&Whole>) = (0, None);
    for whole in later {
        while let Some(one) = earlier.next_if(|one| one.sent.claim.to < whole.sent.claim.from) {
            let from = one.first.map_or(0, |first| first.from);
            if from > not_before.0 {
                not_before = (from, Some(one));
            }
        }
        if let (true, Some(one)) = (whole.taken_by < not_before.0, not_before.1) {
            verdict.add(Rule::RealTime, || format!("{whole:x?} was taken before {one:x?}"));
        }
    }
}

/// The claims that came to nothing, sorted by when they may have begun; each with the latest end of all up to it.
fn given_up(history: &History, wholes: &[Whole], placed: &[Whole]) -> Vec<(u64, u64)> {
    // By when a message was surely claimed after: when is it, or one behind it, surely taken?
    let mut claims: Vec<(u64, u64)> =
        placed.iter().map(|whole| (whole.sent.claim.from, whole.taken_by)).collect();
    claims.sort_unstable();
    for index in (1..claims.len()).rev() {
        claims[index - 1].1 = claims[index - 1].1.min(claims[index].1);
    }
    let repaired_by = |died: u64| {
        let index = claims.partition_point(|claim| claim.0 <= died);
        claims.get(index).map_or(NEVER, |claim| claim.1)
    };
    let unseen = wholes.iter().filter(|whole| !whole.seen).map(|whole| GivenUp {
        claim: whole.sent.claim.from,
        end: NEVER,
        died: whole.sent.died,
    });
    let mut all: Vec<(u64, u64)> = history
        .given_up
        .iter()
        .copied()
        .chain(unseen)
        .map(|claim| (claim.claim, claim.end.min(repaired_by(claim.died))))
        .collect();
    all.sort_unstable();
    for index in 1..all.len() {
        all[index].1 = all[index].1.max(all[index - 1].1);
    }
    all
}

/// The smallest of what was put at this place or behind it.
struct Smallest(Vec<usize>);

impl Smallest {
    fn new(places: usize) -> Smallest {
        Smallest(vec![usize::MAX; places + 1])
    }

    fn put(&mut self, place: usize, value: usize) {
        let mut at = place + 1;
        while at > 0 {
            self.0[at] = self.0[at].min(value);
            at &= at - 1;
        }
    }

    fn from(&self, place: usize) -> usize {
        let (mut at, mut smallest) = (place + 1, usize::MAX);
        while at < self.0.len() {
            smallest = smallest.min(self.0[at]);
            at += at & at.wrapping_neg();
        }
        smallest
    }
}

fn empty(history: &History, placed: &[Whole], given_up: &[(u64, u64)], verdict: &mut Verdict) {
    // The latest end of the commits up to each place.
    let mut open_until: Vec<u64> = Vec::with_capacity(placed.len() + 1);
    open_until.push(0);
    for whole in placed {
        open_until.push(open_until[open_until.len() - 1].max(whole.sent.commit.to));
    }
    let mut by_commit: Vec<usize> =
        (0..placed.len()).filter(|&index| placed[index].first.is_some()).collect();
    by_commit.sort_by_key(|&index| placed[index].sent.commit.to);
    let first = |index: usize| placed[index].first.map_or(0, |first| first.from);
    let mut by_take: Vec<u64> = by_commit.iter().map(|&index| first(index)).collect();
    by_take.sort_unstable();

    let mut calls: Vec<Span> = of(history, Answer::Empty);
    calls.sort_by_key(|call| call.from);
    let mut there = Smallest::new(by_take.len());
    let mut committed = by_commit.into_iter().peekable();
    for call in calls {
        while let Some(index) = committed.next_if(|&index| placed[index].sent.commit.to < call.from)
        {
            there.put(by_take.partition_point(|&take| take < first(index)), index);
        }
        verdict.empty[0] += 1;
        // The first message that was there and stayed there.
        let index = there.from(by_take.partition_point(|&take| take <= call.to));
        let Some(message) = placed.get(index) else { continue };
        verdict.empty[1] += 1;
        let before = given_up.partition_point(|claim| claim.0 <= message.sent.claim.to);
        let abandoned = before.checked_sub(1).map_or(0, |last| given_up[last].1);
        if open_until[index].max(abandoned) < call.from {
            verdict.add(Rule::Empty, || format!("{call:x?}, though there was {message:x?}"));
        }
    }
}

/// The calls that were answered so.
fn of(history: &History, answer: Answer) -> Vec<Span> {
    history.refused.iter().filter(|refused| refused.0 == answer).map(|refused| refused.1).collect()
}

fn aside(history: &History, verdict: &mut Verdict) {
    let mut taken: Vec<&Taken> = history.taken.iter().collect();
    taken.sort_by_key(|taken| (taken.id, taken.attempts));
    // From when on a message was surely aside, and until when.
    let mut aside: Vec<(u64, u64, u64)> = taken
        .windows(2)
        .filter(|pair| pair[0].id == pair[1].id && pair[0].fate == Fate::GivenBack)
        .filter(|pair| pair[0].attempts + 1 == pair[1].attempts)
        .map(|pair| (pair[0].end.to, pair[1].take.from, pair[0].id))
        .collect();
    aside.sort_unstable();
    for index in 1..aside.len() {
        if aside[index - 1].1 > aside[index].1 {
            (aside[index].1, aside[index].2) = (aside[index - 1].1, aside[index - 1].2);
        }
    }
    for call in of(history, Answer::Empty) {
        let before = aside.partition_point(|aside| aside.0 < call.from);
        if let Some(one) =
            before.checked_sub(1).map(|last| aside[last]).filter(|one| one.1 > call.to)
        {
            verdict.add(Rule::Aside, || format!("{call:x?}, though {:x} was aside", one.2));
        }
    }
}

fn full(history: &History, placed: &[Whole], verdict: &mut Verdict) {
    // The highest place that was surely claimed by then; the lowest that surely was not.
    let mut claimed: Vec<(u64, u64)> =
        placed.iter().map(|whole| (whole.sent.claim.to, whole.order)).collect();
    claimed.sort_unstable();
    for index in 1..claimed.len() {
        claimed[index].1 = claimed[index].1.max(claimed[index - 1].1);
    }
    let mut unclaimed: Vec<(u64, u64)> =
        placed.iter().map(|whole| (whole.sent.claim.from, whole.order)).collect();
    unclaimed.sort_unstable();
    for index in (1..unclaimed.len()).rev() {
        unclaimed[index - 1].1 = unclaimed[index - 1].1.min(unclaimed[index].1);
    }
    // From each place on: when one is surely taken, and all before it with it.
    let mut passed = vec![NEVER; placed.len() + 1];
    for index in (0..placed.len()).rev() {
        passed[index] = passed[index + 1].min(placed[index].taken_by);
    }
    let free_by = |order: u64| {
        let index = placed.partition_point(|whole| whole.order < order);
        let released = match placed.get(index) {
            Some(whole) if whole.order == order => whole.release.to,
            _ => passed[index],
        };
        let again = at(placed, order + history.slots).map_or(NEVER, |next| next.sent.claim.to);
        released.min(again)
    };
    for call in of(history, Answer::Full) {
        verdict.full[0] += 1;
        let before = claimed.partition_point(|claim| claim.0 < call.from);
        let least = before.checked_sub(1).map_or(0, |last| claimed[last].1 + 1);
        let after = unclaimed.partition_point(|claim| claim.0 <= call.to);
        let Some(most) = unclaimed.get(after).map(|claim| claim.1) else { continue };
        if most < least || most - least > HURRY {
            continue;
        }
        verdict.full[1] += 1;
        // Before the first of the ring everything is free.
        let mut lap_ago = (least..=most).filter_map(|order| order.checked_sub(history.slots));
        if lap_ago.all(|order| free_by(order) < call.from) {
            verdict.add(Rule::Full, || format!("{call:x?}, with room from {least} to {most}"));
        }
    }
}

fn ended(history: &History, wholes: &[Whole], verdict: &mut Verdict) {
    // Sorted by when something was surely there; each with the latest of all up to it at which it still was.
    let there_until = |mut spans: Vec<(u64, u64)>| {
        spans.sort_unstable();
        for index in 1..spans.len() {
            spans[index].1 = spans[index].1.max(spans[index - 1].1);
        }
        move |call: Span| {
            let before = spans.partition_point(|span| span.0 < call.from);
            before.checked_sub(1).is_some_and(|last| spans[last].1 > call.to)
        }
    };
    let handles = |sends: bool| {
        let of = history.handles.iter().filter(|handle| handle.sends == sends);
        there_until(of.map(|handle| (handle.opened, handle.leaving)).collect())
    };
    let (senders, receivers) = (handles(true), handles(false));
    let unreleased = wholes.iter().filter(|whole| whole.release.from != NEVER);
    let messages =
        there_until(unreleased.map(|whole| (whole.sent.commit.to, whole.release.from)).collect());
    for call in of(history, Answer::NoSender) {
        if senders(call) || messages(call) {
            verdict.add(Rule::Ended, || format!("{call:x?} told a receiver that it is over"));
        }
    }
    for call in of(history, Answer::NoReceiver) {
        if receivers(call) {
            verdict.add(Rule::Ended, || format!("{call:x?} told a sender that it is over"));
        }
    }
}
