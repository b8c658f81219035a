//! Pieces -> socket, gathered into vectored writes.

use super::answer::Framed;
use bytes::{Buf, Bytes};
use floss_raft::env::runtime::io::{self, AsyncWrite, AsyncWriteExt};
use floss_raft::env::runtime::sync::OwnedSemaphorePermit;
use std::collections::VecDeque;
use std::io::IoSlice;

/// Bytes to write, in pieces that are never joined.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    pieces: VecDeque<Bytes>,
    bytes: usize,
    /// Given back once everything is written.
    rooms: Vec<OwnedSemaphorePermit>,
}

impl Outgoing {
    pub fn push(&mut self, frame: Framed) {
        self.rooms.extend(frame.room);
        for piece in frame.pieces.into_iter().filter(|piece| !piece.is_empty()) {
            self.bytes += piece.len();
            self.pieces.push_back(piece);
        }
    }

    /// Writes everything; empty afterwards.
    pub async fn write_to(&mut self, socket: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        while self.has_remaining() {
            socket.write_all_buf(self).await?;
        }
        socket.flush().await?;
        self.rooms.clear();
        Ok(())
    }
}

impl Buf for Outgoing {
    fn remaining(&self) -> usize {
        self.bytes
    }

    fn chunk(&self) -> &[u8] {
        self.pieces.front().map_or(&[], |piece| piece)
    }

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.bytes, "advance by {count}, {} left", self.bytes);
        self.bytes -= count;
        while count > 0 {
            let front = self.pieces.front_mut().expect("bytes counts what the pieces hold");
            if front.len() > count {
                front.advance(count);
                return;
            }
            count -= front.len();
            self.pieces.pop_front();
        }
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        for (slot, piece) in slices.iter_mut().zip(&self.pieces) {
            *slot = IoSlice::new(piece);
            filled += 1;
        }
        filled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advance_goes_over_piece_ends() {
        let mut out = Outgoing::default();
        let pieces = vec![Bytes::from_static(b"abc"), Bytes::new(), Bytes::from_static(b"defg")];
        out.push(Framed { pieces, room: None });
        assert_eq!(out.remaining(), 7);
        out.advance(2);
        assert_eq!(out.chunk(), b"c");
        out.advance(3);
        assert_eq!(out.chunk(), b"fg");
        out.advance(2);
        assert!(!out.has_remaining());
    }
}
