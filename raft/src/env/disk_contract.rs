//! What every [`Disk`] must do: one suite for the real one and the simulated ones.

use super::disk::Disk;
use bytes::Bytes;
use std::io::ErrorKind;

/// Panics where `disk` (an empty one) breaks the contract.
pub async fn check_disk(disk: &dyn Disk) {
    disk.create_dir("a/b").await.expect("create a directory and its parents");
    disk.create_dir("a/b").await.expect("creating it again does nothing");
    assert_eq!(disk.list("a/b").await.expect("list"), Vec::<String>::new());

    let file = disk.create("a/b/one", 1000).await.expect("create");
    assert_eq!(file.len().await.expect("len"), 1000);
    assert_eq!(file.read_at(990, 10).await.expect("read"), Bytes::from(vec![0; 10]), "a new file is zeros");
    let twice = disk.create("a/b/one", 1).await.err().expect("a file is created once");
    assert_eq!(twice.kind(), ErrorKind::AlreadyExists);
    let absent = disk.open("a/b/two").await.err().expect("an absent file does not open");
    assert_eq!(absent.kind(), ErrorKind::NotFound);
    assert!(absent.to_string().contains("two"), "errors name the path: {absent}");

    let pieces = vec![Bytes::from_static(b"abc"), Bytes::new(), Bytes::from_static(b"defg")];
    file.write_at(998, pieces).await.expect("write over the end");
    assert_eq!(file.len().await.expect("len"), 1005);
    assert_eq!(file.read_at(997, 8).await.expect("read"), Bytes::from_static(b"\0abcdefg"));
    let short = file.read_at(1000, 6).await.expect_err("a read past the end");
    assert_eq!(short.kind(), ErrorKind::UnexpectedEof);
    file.sync().await.expect("sync");

    disk.create("a/b/two", 4).await.expect("create").write_at(0, vec![Bytes::from_static(b"22")]).await.expect("write");
    assert_eq!(disk.list("a/b").await.expect("list"), ["one", "two"]);
    disk.rename("a/b/two", "a/b/one").await.expect("rename over an existing file");
    assert_eq!(disk.list("a/b").await.expect("list"), ["one"]);
    let renamed = disk.open("a/b/one").await.expect("open");
    assert_eq!(renamed.read_at(0, 4).await.expect("read"), Bytes::from_static(b"22\0\0"));
    assert_eq!(file.read_at(998, 3).await.expect("an open file outlives its name"), Bytes::from_static(b"abc"));
    disk.sync_dir("a/b").await.expect("sync the directory");
    disk.remove("a/b/one").await.expect("remove");
    assert_eq!(disk.remove("a/b/one").await.expect_err("gone").kind(), ErrorKind::NotFound);
    assert_eq!(disk.list("a/b").await.expect("list"), Vec::<String>::new());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::disk_mem::MemDisk;
    use crate::env::runtime::block_on;

    #[test]
    fn memory() {
        block_on(check_disk(&MemDisk::new()));
    }

    #[cfg(not(madsim))]
    #[test]
    fn real_files() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        block_on(check_disk(&crate::env::disk_os::OsDisk::new(dir.path().to_path_buf())));
    }

    #[test]
    fn a_crash_takes_what_was_not_synced() {
        block_on(async {
            let disk = MemDisk::new();
            disk.create("d/kept", 2048).await.expect("create").sync().await.expect("sync");
            disk.sync_dir("d").await.expect("sync");
            let kept = disk.open("d/kept").await.expect("open");
            kept.write_at(0, vec![Bytes::from(vec![7; 1024])]).await.expect("write");
            disk.create("d/lost", 1).await.expect("create");
            // Not the name of `lost`, the first sector of `kept`, not the second.
            let mut kept = [false, true, false].into_iter();
            let disk = disk.crash(|| kept.next().unwrap_or(false));
            assert_eq!(disk.list("d").await.expect("list"), ["kept"]);
            let after = disk.open("d/kept").await.expect("open").read_at(511, 2).await.expect("read");
            assert_eq!(after, Bytes::from_static(&[7, 0]), "the first sector made it, the second did not");
        });
    }
}
