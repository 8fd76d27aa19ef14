//! Bytes that somebody made up, read one after the other. Knows nothing of what they become.

/// The bytes, and how many were read.
#[derive(Debug)]
pub struct Tape {
    bytes: Vec<u8>,
    at: usize,
    /// Where more come from when these are read, if they are to last for ever.
    more: Option<fastrand::Rng>,
}

impl Tape {
    /// A tape that ends.
    pub fn of(bytes: &[u8]) -> Tape {
        Tape { bytes: bytes.to_vec(), at: 0, more: None }
    }

    /// A tape without an end, the same for the same seed.
    pub fn endless(seed: u64) -> Tape {
        Tape { bytes: Vec::new(), at: 0, more: Some(fastrand::Rng::with_seed(seed)) }
    }

    /// The next byte.
    pub fn byte(&mut self) -> Option<u8> {
        let next = match (self.bytes.get(self.at), &mut self.more) {
            (Some(&byte), _) => byte,
            (None, Some(more)) => more.u8(..),
            (None, None) => return None,
        };
        self.at += 1;
        Some(next)
    }

    /// The next byte, below `limit`; 0 at the end.
    pub fn below(&mut self, limit: u8) -> u8 {
        self.byte().unwrap_or(0) % limit
    }

    /// The next number of 16 bits; 0 at the end.
    pub fn short(&mut self) -> u16 {
        u16::from_le_bytes([self.below(255), self.below(255)])
    }

    /// The next number of 64 bits; what is not there is 0.
    pub fn word(&mut self) -> u64 {
        u64::from_le_bytes([(); 8].map(|()| self.byte().unwrap_or(0)))
    }

    /// All that is left, up to so many bytes.
    pub fn rest(&mut self, most: usize) -> Vec<u8> {
        std::iter::from_fn(|| self.byte()).take(most).collect()
    }

    /// Another number instead of `truth`: near it, or anything.
    pub fn lie(&mut self, truth: u64) -> u64 {
        match self.below(12) {
            0 => truth.wrapping_add(1),
            1 => truth.wrapping_sub(1),
            2 => truth.wrapping_add(64),
            3 => truth.wrapping_sub(64),
            4 => truth ^ 1 << self.below(64),
            5 => truth.wrapping_add(1 << self.below(64)),
            6 => 0,
            7 => u64::MAX >> self.below(64),
            8 => truth & !0xffff | u64::from(self.short()),
            // A header of a record, but for its place.
            9 => truth >> 48 << 48 | u64::from(self.below(5)) << 40 | u64::from(self.short()),
            10 => u64::from(self.short()) << 48 | 1 << 40 | u64::from(self.short()),
            _ => self.word(),
        }
    }
}
