//! Frames out of a stream of bytes.

use crate::script::Script;
use bytes::Bytes;
use floss_protocol::frame::{Frame, FrameDecoder, FrameError, RequestFrame, ResponseFrame};
use std::fmt::Debug;

/// Input: number of cuts (1 byte), where to cut (2 bytes each), the stream.
///
/// Any cutting gives the same frames and the same end. Frames are the bytes that came in, in order, nothing left out before the first
/// error; an error is final; what is held is no more than what arrived.
pub fn check_frame_decoder(input: &[u8]) {
    let mut script = Script::new(input);
    let cuts: Vec<u16> = (0..script.byte() % 16).map(|_| script.short()).collect();
    let stream = script.rest();
    check_frames(stream, &cuts, RequestFrame::to_bytes);
    check_frames(stream, &cuts, ResponseFrame::to_bytes);
}

/// The frames of a stream that arrives in these pieces, and how it ended.
fn decode<F: Frame>(pieces: &[&[u8]]) -> (Vec<F>, Option<FrameError>, usize) {
    let mut decoder = FrameDecoder::<F>::new();
    let mut frames = Vec::new();
    let mut arrived = 0;
    for piece in pieces {
        decoder.feed(piece);
        arrived += piece.len();
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => {
                    decoder.feed(b"more");
                    let again = decoder.next_frame().map(|_| "a frame");
                    assert_eq!(again, Err(error.clone()), "an error is final");
                    assert_eq!(decoder.buffered_bytes(), 0);
                    return (frames, Some(error), 0);
                }
            }
        }
        assert!(decoder.buffered_bytes() <= arrived);
    }
    (frames, None, decoder.buffered_bytes())
}

fn check_frames<F: Frame + PartialEq + Debug>(stream: &[u8], cuts: &[u16], to_bytes: fn(&F) -> Result<Bytes, FrameError>) {
    let (frames, error, left) = decode::<F>(&[stream]);
    let mut places: Vec<usize> = cuts.iter().map(|cut| usize::from(*cut) % (stream.len() + 1)).collect();
    places.sort_unstable();
    let starts = [0].into_iter().chain(places.iter().copied());
    let ends = places.iter().copied().chain([stream.len()]);
    let pieces: Vec<&[u8]> = starts.zip(ends).map(|(start, end)| &stream[start..end]).collect();
    assert_eq!(decode::<F>(&pieces), (clone_all(&frames, to_bytes), error.clone(), left), "cut at {places:?}");
    let bytes: Vec<u8> = frames.iter().flat_map(|frame| to_bytes(frame).expect("it was a frame")).collect();
    assert!(stream.starts_with(&bytes), "frames are the bytes that came in");
    if error.is_none() {
        assert_eq!(bytes.len() + left, stream.len(), "no byte is left out");
    }
}

/// The frames once more, by way of their bytes.
fn clone_all<F: Frame + Debug>(frames: &[F], to_bytes: fn(&F) -> Result<Bytes, FrameError>) -> Vec<F> {
    frames.iter().map(|frame| F::parse(to_bytes(frame).expect("it was a frame").slice(4..)).expect("our own bytes")).collect()
}
