//! Which bucket a key belongs to, as clients compute it.
//!
//! The server never needs it to serve: the bucket of a record is the client's choice and is trusted (two client
//! families even disagree, see [`KeyTail`]). It is for tools that must find or explain a bucket.
//!
//! Source: records.md 9.3.

use crate::schema::LakeFormat;

/// How the last 1 to 3 bytes of a key enter the hash. Keys whose length is a multiple of 4 and keys with only
/// ASCII at the end give the same bucket both ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyTail {
    /// Sign-extended, as Java and Flink clients do.
    Signed,
    /// Zero-extended, as fluss-rs 1.0 and pyfluss do.
    Unsigned,
}

/// The bucket in `0..bucket_count` of an encoded bucket key.
///
/// Shape: `bucket_count` >= 1; `key` as the table's lake format encodes it (4 bytes for Hudi, any for others).
/// None if the shape is not kept.
pub fn bucket_of(key: &[u8], bucket_count: i32, lake: Option<LakeFormat>, tail: KeyTail) -> Option<i32> {
    if bucket_count < 1 {
        return None;
    }
    let positive = |hash: i32| hash & i32::MAX;
    Some(match lake {
        None | Some(LakeFormat::Lance) => finish(fluss_hash(key, tail)) % bucket_count,
        Some(LakeFormat::Paimon) => (fluss_hash(key, tail) % bucket_count).abs(),
        Some(LakeFormat::Iceberg) => positive(murmur3_32(key)) % bucket_count,
        Some(LakeFormat::Hudi) => positive(i32::from_be_bytes(key.try_into().ok()?)) % bucket_count,
    })
}

fn mix_k1(k: u32) -> u32 {
    k.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593)
}

fn mix_h1(h: u32, k: u32) -> u32 {
    (h ^ k).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64)
}

fn bmix(mut x: u32) -> u32 {
    x ^= x >> 16;
    x = x.wrapping_mul(0x85eb_ca6b);
    x ^= x >> 13;
    x = x.wrapping_mul(0xc2b2_ae35);
    x ^ x >> 16
}

/// Murmur3 with seed 42, except that every tail byte is mixed in as a word of its own.
fn fluss_hash(key: &[u8], tail: KeyTail) -> i32 {
    let (words, rest) = key.as_chunks::<4>();
    let hash = words.iter().fold(42, |hash, word| mix_h1(hash, mix_k1(u32::from_le_bytes(*word))));
    let hash = rest.iter().fold(hash, |hash, byte| {
        let word = match tail {
            KeyTail::Signed => i32::from(*byte as i8) as u32,
            KeyTail::Unsigned => u32::from(*byte),
        };
        mix_h1(hash, mix_k1(word))
    });
    bmix(hash ^ key.len() as u32) as i32
}

/// A second round over the hash itself; never negative.
fn finish(hash: i32) -> i32 {
    let code = mix_k1(hash as u32).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64);
    match bmix(code ^ 4) as i32 {
        i32::MIN => 0,
        code => code.abs(),
    }
}

/// Standard Murmur3, x86, 32 bits, seed 0.
fn murmur3_32(key: &[u8]) -> i32 {
    let (words, rest) = key.as_chunks::<4>();
    let mut hash = words.iter().fold(0, |hash, word| mix_h1(hash, mix_k1(u32::from_le_bytes(*word))));
    if !rest.is_empty() {
        let mut word = [0; 4];
        word[..rest.len()].copy_from_slice(rest);
        hash ^= mix_k1(u32::from_le_bytes(word));
    }
    bmix(hash ^ key.len() as u32) as i32
}
