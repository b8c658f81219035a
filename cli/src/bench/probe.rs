//! What the disk alone can do, measured in the same run.

use crate::exit::{Failure, OrFail};
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Bytes of the file that the probe writes over and over, so that it never extends it.
const FILE_BYTES: u64 = 64 << 20;

/// Seconds of each `bytes` written and synced, one after the other into one pre-written file, for about `time`.
pub fn synced_writes(dir: &Path, bytes: usize, time: Duration) -> Result<Vec<f64>, Failure> {
    let path = dir.join("probe");
    let file = OpenOptions::new().create(true).truncate(true).write(true).open(&path).or_fail("open the probe file")?;
    let chunk = vec![7_u8; 1 << 20];
    for position in (0..FILE_BYTES).step_by(chunk.len()) {
        file.write_all_at(&chunk, position).or_fail("fill the probe file")?;
    }
    file.sync_all().or_fail("sync the probe file")?;
    let data = vec![42_u8; bytes];
    let mut samples = Vec::new();
    let mut position = 0;
    let began = Instant::now();
    while began.elapsed() < time {
        let start = Instant::now();
        file.write_all_at(&data, position).or_fail("write the probe file")?;
        file.sync_data().or_fail("sync the probe file")?;
        samples.push(start.elapsed().as_secs_f64());
        position = (position + bytes as u64) % (FILE_BYTES - bytes as u64);
    }
    std::fs::remove_file(&path).or_fail("remove the probe file")?;
    Ok(samples)
}
