//! What waiting costs.

use std::time::Duration;

use crate::harness::Ring;

/// How long each waits.
const SPELL: Duration = Duration::from_secs(5);

/// What it may cost, in microseconds: 0.2 % of a core.
const MOST: u64 = 10_000;

#[test]
fn a_blocked_end_uses_next_to_no_processor_time() {
    let mut waiting = Vec::new();
    for wait in ["Block", "Adaptive"] {
        for verb in ["recv", "send"] {
            let ring = Ring::new(0);
            let (mut tx, mut rx) = (ring.sender(), ring.receiver());
            for process in [&mut tx, &mut rx] {
                assert_eq!(process.ask(format!("wait {wait}")), "ok");
            }
            let sleeper = if verb == "recv" {
                &mut rx
            } else {
                tx.fill(1);
                &mut tx
            };
            sleeper.tell(format!("cpu {verb}"));
            sleeper.asleep();
            waiting.push((wait, verb, ring, tx, rx));
        }
    }
    // This is what is measured, so there is nothing to wait for but the time.
    std::thread::sleep(SPELL);
    for (wait, verb, _ring, mut tx, mut rx) in waiting {
        let used: u64 = if verb == "recv" {
            rx.asleep();
            assert_eq!(tx.ask("send 1"), "ok");
            rx.answer().parse().unwrap()
        } else {
            tx.asleep();
            assert_eq!(rx.recv().unwrap().number, 1);
            tx.answer().parse().unwrap()
        };
        assert!(used <= MOST, "{verb} with {wait} used {used} us of processor time in 5 s");
    }
}
