//! Bytes of one simulated file: as programs see them, and as they would be after a power loss.

use crate::draw::Source;
use std::collections::BTreeMap;

/// What a disk writes whole or not at all.
pub const SECTOR_BYTES: usize = 512;

/// Invariant: every sector that differs between `now` and `durable` is in `dirty`.
#[derive(Default)]
pub struct Content {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// Changed and not synced: sector -> number of its last write, which gives the order of writes.
    dirty: BTreeMap<usize, u64>,
    writes: u64,
}

/// What a sync will make durable when it ends: taken when it starts.
pub struct Flush {
    sectors: Vec<(usize, u64, Vec<u8>)>,
    file_bytes: usize,
}

/// What a power loss did to one file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    pub kept_sectors: u64,
    pub lost_sectors: u64,
}

impl Content {
    pub fn zeros(bytes: usize) -> Self {
        let mut content = Self::default();
        content.write(0, &vec![0; bytes]);
        content
    }

    pub fn bytes(&self) -> usize {
        self.now.len()
    }

    pub fn read(&self, position: usize, bytes: usize) -> Option<&[u8]> {
        self.now.get(position..position.checked_add(bytes)?)
    }

    pub fn write(&mut self, position: usize, piece: &[u8]) {
        let end = position + piece.len();
        if self.now.len() < end {
            self.now.resize(end, 0);
        }
        self.now[position..end].copy_from_slice(piece);
        self.writes += 1;
        for sector in position / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES) {
            self.dirty.insert(sector, self.writes);
        }
    }

    pub fn start_flush(&self) -> Flush {
        let sectors = self.dirty.iter().map(|(sector, write)| (*sector, *write, self.sector(*sector).to_vec())).collect();
        Flush { sectors, file_bytes: self.now.len() }
    }

    /// The sync succeeded.
    pub fn end_flush(&mut self, flush: Flush) {
        if self.durable.len() < flush.file_bytes {
            self.durable.resize(flush.file_bytes, 0);
        }
        for (sector, write, bytes) in flush.sectors {
            let at = sector * SECTOR_BYTES;
            self.durable[at..at + bytes.len()].copy_from_slice(&bytes);
            // Written again meanwhile: that write is not durable yet.
            if self.dirty.get(&sector) == Some(&write) {
                self.dirty.remove(&sector);
            }
        }
    }

    /// The sync failed: the pages are dropped, later reads see what is on disk, and no later sync brings them back.
    pub fn fail_flush(&mut self, flush: Flush) -> u64 {
        let mut dropped = 0;
        for (sector, _, _) in flush.sectors {
            if self.dirty.remove(&sector).is_none() {
                continue;
            }
            dropped += 1;
            let at = sector * SECTOR_BYTES;
            let end = (at + SECTOR_BYTES).min(self.now.len());
            for (offset, byte) in self.now[at..end].iter_mut().enumerate() {
                *byte = self.durable.get(at + offset).copied().unwrap_or(0);
            }
        }
        dropped
    }

    /// Power is gone: of what was not synced, nothing, everything, a prefix in order of writing, or any sectors remain.
    pub fn lose_power(&mut self, draws: &Source) -> Loss {
        let mut order: Vec<(u64, usize)> = self.dirty.iter().map(|(sector, write)| (*write, *sector)).collect();
        order.sort_unstable();
        let kept: Vec<usize> = match draws.below(10) {
            0..=2 => Vec::new(),
            3 => order.iter().map(|(_, sector)| *sector).collect(),
            4..=6 => {
                let prefix = draws.below(order.len() as u64 + 1) as usize;
                order[..prefix].iter().map(|(_, sector)| *sector).collect()
            }
            _ => order.iter().map(|(_, sector)| *sector).filter(|_| draws.chance(500)).collect(),
        };
        let loss = Loss { kept_sectors: kept.len() as u64, lost_sectors: (order.len() - kept.len()) as u64 };
        for sector in kept {
            let bytes = self.sector(sector).to_vec();
            let at = sector * SECTOR_BYTES;
            if self.durable.len() < at + bytes.len() {
                self.durable.resize(at + bytes.len(), 0);
            }
            self.durable[at..at + bytes.len()].copy_from_slice(&bytes);
        }
        self.now = self.durable.clone();
        self.dirty.clear();
        loss
    }

    /// Sectors on the platter that hold more than zeros.
    pub fn used_sectors(&self) -> Vec<usize> {
        let sectors = self.durable.chunks(SECTOR_BYTES).enumerate();
        sectors.filter(|(_, bytes)| bytes.iter().any(|byte| *byte != 0)).map(|(sector, _)| sector).collect()
    }

    /// One bit on the platter is another one from now on, and a read sees it unless the sector was written since.
    pub fn flip(&mut self, sector: usize, bit: usize) {
        let at = sector * SECTOR_BYTES + bit / 8;
        let mask = 1 << (bit % 8);
        if let Some(byte) = self.durable.get_mut(at) {
            *byte ^= mask;
        }
        if let Some(byte) = self.now.get_mut(at).filter(|_| !self.dirty.contains_key(&sector)) {
            *byte ^= mask;
        }
    }

    fn sector(&self, sector: usize) -> &[u8] {
        let at = sector * SECTOR_BYTES;
        &self.now[at..(at + SECTOR_BYTES).min(self.now.len())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::{Draws, Stream};

    fn draws(seed: u64) -> Source {
        Draws::new(seed).source(Stream::DiskCrash, 1)
    }

    #[test]
    fn synced_bytes_stay_and_unsynced_sectors_are_kept_or_lost_whole() {
        let mut outcomes = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let mut content = Content::zeros(2048);
            content.write(0, &[1; 2048]);
            let flush = content.start_flush();
            content.end_flush(flush);
            content.write(512, &[2; 1024]);
            let loss = content.lose_power(&draws(seed));
            assert_eq!(loss.kept_sectors + loss.lost_sectors, 2);
            let after = content.read(0, 2048).unwrap().to_vec();
            assert!(after[..512].iter().chain(&after[1536..]).all(|byte| *byte == 1), "synced bytes changed");
            let sectors: Vec<u8> = after.chunks(512).map(|sector| sector[0]).collect();
            assert!(after.chunks(512).all(|sector| sector.iter().all(|byte| *byte == sector[0])), "a sector tore");
            outcomes.insert((sectors[1], sectors[2]));
        }
        assert_eq!(outcomes.len(), 4, "both sectors are kept and lost independently: {outcomes:?}");
    }

    #[test]
    fn a_write_during_a_sync_is_not_covered_by_it() {
        let mut content = Content::zeros(512);
        let flush = content.start_flush();
        content.write(0, &[7; 512]);
        content.end_flush(flush);
        let lost = (0..100).any(|seed| {
            let mut copy = Content { now: content.now.clone(), durable: content.durable.clone(), ..Content::default() };
            copy.dirty = content.dirty.clone();
            copy.lose_power(&draws(seed));
            copy.read(0, 1).unwrap() == [0]
        });
        assert!(lost);
    }

    #[test]
    fn a_failed_sync_drops_pages_for_ever() {
        let mut content = Content::zeros(512);
        let flush = content.start_flush();
        content.end_flush(flush);
        content.write(0, &[7; 600]);
        let flush = content.start_flush();
        assert_eq!(content.fail_flush(flush), 2);
        let flush = content.start_flush();
        assert!(flush.sectors.is_empty());
        content.end_flush(flush);
        assert_eq!(content.read(0, 600).unwrap(), [0; 600]);
    }

    #[test]
    fn a_flipped_bit_stays_until_its_sector_is_written() {
        let mut content = Content::zeros(1024);
        content.write(512, &[1; 512]);
        let flush = content.start_flush();
        content.end_flush(flush);
        assert_eq!(content.used_sectors(), [1]);
        content.flip(1, 8 + 3);
        assert_eq!(content.read(512, 3).unwrap(), [1, 9, 1]);
        content.lose_power(&draws(1));
        assert_eq!(content.read(512, 3).unwrap(), [1, 9, 1]);
        content.write(512, &[2; 512]);
        content.flip(1, 0);
        assert_eq!(content.read(512, 3).unwrap(), [2, 2, 2]);
    }

    #[test]
    fn a_longer_file_is_as_long_as_what_was_kept_of_it() {
        for seed in 0..100 {
            let mut content = Content::zeros(512);
            let flush = content.start_flush();
            content.end_flush(flush);
            content.write(512, &[1; 512]);
            let loss = content.lose_power(&draws(seed));
            assert_eq!(content.bytes(), 512 + 512 * loss.kept_sectors as usize);
        }
    }
}
