//! What the disk alone can do, measured in the same run.

use crate::exit::{Failure, OrFail};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Bytes of the file that the probe writes over and over, so that it never extends it.
const FILE_BYTES: u64 = 64 << 20;

/// Writes and syncs the same number of bytes again and again into one pre-written file.
pub struct Probe {
    file: File,
    path: PathBuf,
    data: Vec<u8>,
    position: u64,
}

impl Probe {
    pub fn new(dir: &Path, bytes: usize) -> Result<Self, Failure> {
        let path = dir.join("probe");
        let file = OpenOptions::new().create(true).truncate(true).write(true).open(&path).or_fail("open the probe file")?;
        let chunk = vec![7_u8; 1 << 20];
        for position in (0..FILE_BYTES).step_by(chunk.len()) {
            file.write_all_at(&chunk, position).or_fail("fill the probe file")?;
        }
        file.sync_all().or_fail("sync the probe file")?;
        Ok(Self { file, path, data: vec![42; bytes], position: 0 })
    }

    /// Seconds of one write and its sync.
    pub fn once(&mut self) -> Result<f64, Failure> {
        let start = Instant::now();
        self.file.write_all_at(&self.data, self.position).or_fail("write the probe file")?;
        self.file.sync_data().or_fail("sync the probe file")?;
        let bytes = self.data.len() as u64;
        self.position = (self.position + bytes) % (FILE_BYTES - bytes);
        Ok(start.elapsed().as_secs_f64())
    }

    /// One after the other for about `time`: bytes per second.
    pub fn throughput(&mut self, time: Duration) -> Result<f64, Failure> {
        let began = Instant::now();
        let mut bytes = 0;
        while began.elapsed() < time {
            self.once()?;
            bytes += self.data.len();
        }
        Ok(bytes as f64 / began.elapsed().as_secs_f64())
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        // Its directory is removed anyway, unless somebody named it.
        let _ = std::fs::remove_file(&self.path);
    }
}
