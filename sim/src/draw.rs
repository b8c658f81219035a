//! Randomness by counting: every draw is a function of (seed, stream, entity, counter).
//!
//! Taking one fault out of a plan, or one message out of a link, then leaves all other draws as they were: runs stay comparable,
//! and plans can be shrunk.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a draw is for. Numbers are part of what a seed means: never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Stream {
    Swarm = 1,
    Faults = 2,
    DiskLatency = 3,
    DiskCrash = 4,
    LinkLoss = 5,
    LinkDelay = 6,
    LinkTwice = 7,
    Writer = 8,
    Reader = 9,
    Client = 10,
    Runtime = 11,
    NodeClock = 12,
    Bucket = 13,
    KeyedSwarm = 14,
    KeyedWriter = 15,
    Looker = 16,
    RowsCrash = 17,
    KeyedKinds = 18,
    LinkReset = 19,
    /// What came to the plans after the first version of the swarm.
    LateSwarm = 20,
    Asker = 21,
    Maker = 22,
    PowerMoment = 23,
}

/// The root of all randomness of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draws {
    seed: u64,
}

impl Draws {
    pub fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// 64 even bits.
    pub fn bits(self, stream: Stream, entity: u64, counter: u64) -> u64 {
        [stream as u64, entity, counter].iter().fold(mix(self.seed), |state, part| mix(state ^ mix(*part)))
    }

    /// A source of its own that counts by itself.
    pub fn source(self, stream: Stream, entity: u64) -> Source {
        Source { draws: self, stream, entity, counter: AtomicU64::new(0) }
    }
}

/// The draws of one stream and entity, one after the other.
#[derive(Debug)]
pub struct Source {
    draws: Draws,
    stream: Stream,
    entity: u64,
    counter: AtomicU64,
}

impl Source {
    pub fn bits(&self) -> u64 {
        let counter = self.counter.fetch_add(1, Ordering::Relaxed);
        self.draws.bits(self.stream, self.entity, counter)
    }

    /// 0..`end` (0 if `end` is 0).
    pub fn below(&self, end: u64) -> u64 {
        let bits = self.bits();
        ((u128::from(bits) * u128::from(end)) >> 64) as u64
    }

    /// `start`..=`last`.
    pub fn between(&self, start: u64, last: u64) -> u64 {
        start + self.below(last.saturating_sub(start) + 1)
    }

    /// True in `per_mille` of 1000 cases.
    pub fn chance(&self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    /// One of `items`, which is not empty.
    pub fn pick<'a, T>(&self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u64) as usize]
    }
}

/// Spreads the bits of a number (the finaliser of SplitMix64).
pub fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// A digest of bytes that is the same in every process (FNV-1a, then mixed).
pub fn digest(bytes: &[u8]) -> u64 {
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325, fold))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draw_depends_on_all_of_its_names_and_nothing_else() {
        let draws = Draws::new(7);
        let first = draws.bits(Stream::Faults, 1, 2);
        assert_eq!(first, Draws::new(7).bits(Stream::Faults, 1, 2));
        let others = [
            Draws::new(8).bits(Stream::Faults, 1, 2),
            draws.bits(Stream::Swarm, 1, 2),
            draws.bits(Stream::Faults, 2, 2),
            draws.bits(Stream::Faults, 1, 3),
            draws.bits(Stream::Faults, 2, 1),
        ];
        assert!(others.iter().all(|other| *other != first));
    }

    #[test]
    fn draws_are_spread_evenly() {
        let source = Draws::new(1).source(Stream::Writer, 0);
        let mut counts = [0_u32; 10];
        for _ in 0..10_000 {
            counts[source.below(10) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
        assert_eq!(source.below(0), 0);
        assert_eq!(source.between(5, 5), 5);
        let hits = (0..10_000).filter(|_| source.chance(100)).count();
        assert!((850..1150).contains(&hits), "{hits}");
    }
}
