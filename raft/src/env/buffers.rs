//! Large buffers for reads, used again: the first touch of fresh memory costs several times the read into it.

use bytes::Bytes;
use std::sync::{Arc, Mutex};

/// Smaller ones are the allocator's business.
const POOLED_BYTES_MIN: usize = 64 << 10;
/// Larger ones are rare.
const POOLED_BYTES_MAX: usize = 8 << 20;
/// Idle buffers hold at most this much.
const IDLE_BYTES_MAX: usize = 32 << 20;

#[derive(Default)]
pub struct Pool {
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
}

/// Goes back to its pool when the last `Bytes` of it is dropped.
pub struct Buffer {
    /// May be longer than what was asked for.
    data: Vec<u8>,
    length: usize,
    pool: Option<Arc<Pool>>,
}

impl Pool {
    pub fn take(self: &Arc<Self>, length: usize) -> Buffer {
        if !(POOLED_BYTES_MIN..=POOLED_BYTES_MAX).contains(&length) {
            return Buffer { data: vec![0; length], length, pool: None };
        }
        let size = length.next_power_of_two();
        let mut idle = self.idle.lock().expect("no panic happens while buffers are held");
        let found = idle.buffers.iter().rposition(|buffer| buffer.len() == size);
        let data = match found {
            Some(at) => {
                idle.bytes -= size;
                idle.buffers.swap_remove(at)
            }
            None => {
                drop(idle);
                vec![0; size]
            }
        };
        Buffer { data, length, pool: Some(self.clone()) }
    }

    fn give(&self, data: Vec<u8>) {
        let mut idle = self.idle.lock().expect("no panic happens while buffers are held");
        if idle.bytes + data.len() <= IDLE_BYTES_MAX {
            idle.bytes += data.len();
            idle.buffers.push(data);
        }
    }
}

impl Buffer {
    /// To be filled; holds something older.
    pub fn room(&mut self) -> &mut [u8] {
        &mut self.data[..self.length]
    }

    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.data[..self.length]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            pool.give(std::mem::take(&mut self.data));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_when_its_last_slice_goes() {
        let pool = Arc::new(Pool::default());
        let mut buffer = pool.take(100_000);
        buffer.room().fill(7);
        let place = buffer.room().as_ptr();
        let bytes = buffer.freeze();
        let slice = bytes.slice(5..10);
        drop(bytes);
        assert_ne!(pool.take(100_000).room().as_ptr(), place, "a slice is still read");
        drop(slice);
        let mut again = pool.take(131_072);
        assert_eq!((again.room().as_ptr(), again.room().len()), (place, 131_072), "the same size class");
        assert!(pool.take(10).pool.is_none());
        assert!(pool.take(POOLED_BYTES_MAX + 1).pool.is_none());
    }

    #[test]
    fn idle_buffers_are_bounded() {
        let pool = Arc::new(Pool::default());
        let buffers: Vec<Buffer> = (0..10).map(|_| pool.take(4 << 20)).collect();
        drop(buffers);
        let idle = pool.idle.lock().expect("no panic");
        assert_eq!((idle.bytes, idle.buffers.len()), (IDLE_BYTES_MAX, IDLE_BYTES_MAX / (4 << 20)));
    }
}
