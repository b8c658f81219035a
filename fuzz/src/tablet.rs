//! Commands, snapshots and appends of a tablet.

use crate::batch::sealed;
use bytes::Bytes;
use floss_protocol::log_batch::LogBatches;
use floss_protocol::schema::LogFormat;
use floss_tablet::command::Command;
use floss_tablet::effects::Applied;
use floss_tablet::prepare::{Lead, Prepared};
use floss_tablet::read::{EARLIEST, EntryWalk};
use floss_tablet::tablet::{LogTablet, TabletConfig};

fn tablet(log_format: LogFormat) -> LogTablet {
    LogTablet::new(TabletConfig { latest_schema_id: 3, batch_bytes_max: 1 << 20, log_format, log_ttl_ms: Some(1_000) })
}

/// Input: a command. What decodes encodes to the same bytes; a reader's walk over it never panics.
pub fn check_command(input: &[u8]) {
    let payload = Bytes::copy_from_slice(input);
    if let Ok(command) = Command::decode(&payload) {
        assert_eq!(command.encode(), payload);
        let plan = tablet(LogFormat::Arrow).plan_fetch(EARLIEST).expect("an empty log can be read");
        let walk = EntryWalk::new(&plan).cut(command.decided_term(), &payload, usize::MAX, true);
        if let Ok(cut) = walk {
            assert!(cut.batches.iter().all(|batch| batch.end_offset().0 <= plan.high_watermark), "I6");
        }
    }
}

/// Input: a snapshot. What restores is a tablet that works, and snapshots to bytes that restore to the same.
pub fn check_snapshot(input: &[u8]) {
    let mut restored = tablet(LogFormat::Arrow);
    let untouched = restored.snapshot();
    if restored.restore(&Bytes::copy_from_slice(input)).is_err() {
        assert_eq!(restored.snapshot(), untouched, "a refused snapshot changes nothing");
        return;
    }
    let mut again = tablet(LogFormat::Arrow);
    again.restore(&restored.snapshot()).expect("our own snapshot restores");
    assert_eq!(again.snapshot(), restored.snapshot());
    assert_eq!(again.writers_digest(), restored.writers_digest());
    let (log_start, log_end) = (restored.log_start(), restored.high_watermark());
    assert!(log_start <= log_end, "I4");
    for offset in [EARLIEST, log_start, log_start + (log_end - log_start) / 2, log_end] {
        let plan = restored.plan_fetch(offset).expect("inside the log");
        assert!(plan.indexes.start <= plan.indexes.end);
    }
    let offset = restored.offset_for_timestamp(5, i64::MAX).expect("not in the future");
    assert!((log_start..=log_end).contains(&offset));
    for upkeep in Lead::new(&restored, 1).prepare_upkeep(&restored, i64::MAX) {
        restored.apply(1, u64::MAX, Some(&Command::decode(&upkeep).expect("we encoded it")));
    }
    assert!(restored.log_start() <= restored.high_watermark(), "I4");
}

/// Input: log format (1 byte), `records` of a ProduceLog.
///
/// Refused, or appended so that offsets are dense and a reader gets back exactly the batches that went in, stamped.
pub fn check_append(input: &[u8]) {
    let Some((format, records)) = input.split_first() else { return };
    let format = [LogFormat::Arrow, LogFormat::Indexed, LogFormat::Compacted][usize::from(*format) % 3];
    let records = Bytes::copy_from_slice(records);
    check_append_to(format, records.clone());
    let whole: Result<Vec<_>, _> = LogBatches::new(records).collect();
    if let Ok(batches) = whole {
        let sealed: Vec<Bytes> = batches.iter().map(|batch| sealed(batch).into_bytes()).collect();
        check_append_to(format, sealed.concat().into());
    }
}

fn check_append_to(format: LogFormat, records: Bytes) {
    let mut tablet = tablet(format);
    let mut lead = Lead::new(&tablet, 4);
    let entry = match lead.prepare_append(&tablet, records.clone(), 50) {
        Ok(Prepared::Propose { entry, base_offset: 0, end_offset }) => {
            let command = Command::decode(&entry).expect("we encoded it");
            assert_eq!(tablet.apply(4, 9, Some(&command)), Applied::Appended { base_offset: 0, end_offset }, "I3");
            entry
        }
        Ok(prepared) => panic!("{prepared:?} on an empty log"),
        Err(_) => return,
    };
    let plan = tablet.plan_fetch(EARLIEST).expect("the earliest offset is there");
    assert_eq!(plan.indexes, 9..10);
    let cut = EntryWalk::new(&plan).cut(4, &entry, usize::MAX, false).expect("our own entry");
    let mut next = 0;
    for batch in &cut.batches {
        assert_eq!((batch.base_offset.0, batch.commit_timestamp_ms), (next, 50), "I3");
        assert_eq!(batch.validate(), Ok(()));
        next = batch.end_offset().0;
    }
    assert_eq!(next, tablet.high_watermark());
    assert!(cut.batches.iter().map(|batch| batch.total_bytes()).sum::<usize>() <= records.len());
    assert!(lead.prepare_append(&tablet, records, 50).is_ok(), "what was taken once is taken again or known");
}
