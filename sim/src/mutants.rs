//! Planted bugs: each stands once in the code (`mutant!`) and once here. How many seeds does the harness need to notice?

/// One planted bug.
pub struct Mutant {
    pub id: &'static str,
    pub what: &'static str,
    /// Oracles that are right to object, the best first. Empty: this workload cannot show it, and `what` says who does.
    pub expected: &'static [&'static str],
}

const fn mutant(id: &'static str, what: &'static str, expected: &'static [&'static str]) -> Mutant {
    Mutant { id, what, expected }
}

/// All of them, by id.
pub const MUTANTS: &[Mutant] = &[
    mutant("R01", "an append is told durable before the sync", &["I1", "I2", "I6", "I7", "panic"]),
    mutant("R02", "the directory entry of a new file is not synced", &["I1", "I2", "I6", "protocol", "panic"]),
    mutant("R03", "a vote is written, not synced", &["I10", "I2", "I1"]),
    mutant("R05", "truncation leaves one entry too many", &["I2", "I3", "panic", "protocol"]),
    mutant("R07", "truncation is not written: changes nothing, the next append at that place says it too", &[]),
    mutant("R08", "the log is purged up to what is committed, not up to the snapshot", &["I5", "I13", "panic"]),
    mutant("R09", "recovery does not compare checksums", &["I2", "panic", "protocol"]),
    mutant("R10", "damage in the middle is taken for a torn tail: recovery's truth table in raft", &[]),
    mutant("R11", "a read range includes its end", &["I2", "I7", "panic", "protocol"]),
    mutant("R12", "the last position ignores the purge point", &["protocol", "panic", "I2", "I13"]),
    mutant("R14", "a failed sync is swallowed", &["I1", "I2", "I6", "I13", "protocol", "liveness"]),
    mutant("R15", "a sync that failed is tried again and trusted", &["I1", "I2", "I6", "I13", "protocol", "liveness"]),
    mutant("R16", "the position is stored before the rows that it stands for", &["I8"]),
    mutant("R18", "a read barrier asks only whether this node leads", &["linear", "protocol"]),
    mutant(
        "R21",
        "an installed snapshot is used before it is on disk: it holds only what is committed, and every promise that is made on it (a vote, an \
         ack, the answer) stands behind it in the same file, or waits as R23 does not",
        &[],
    ),
    mutant("R22", "the members in a snapshot are ignored when it is installed", &["I13", "liveness", "I1", "I10", "panic"]),
    mutant("R23", "a snapshot that is not needed is acknowledged before the log up to it is on disk", &["panic", "I1", "I2"]),
    mutant("R24", "a snapshot is taken although pieces of what readers need are missing", &["I13", "I3", "liveness"]),
    mutant("L01", "the watermark is one too high", &["I6", "I3"]),
    mutant("L03", "a fetch is not capped at the watermark", &["I6", "I2"]),
    mutant("L04", "the base offset is taken from the applied end, not from the pending tail", &["I7", "I2", "I3", "liveness"]),
    mutant("L05", "an ack carries the last offset, not the first", &["I2", "I7", "panic"]),
    mutant("L06", "the offset index takes the next entry, not the one that holds the offset", &["I3"]),
    mutant("L07", "the time index uses the first timestamp, not the largest: tablet's model test", &[]),
    mutant("L10", "the log start is not in the snapshot", &["I13", "I3", "liveness"]),
    mutant("L11", "entries of Raft's own use offsets", &["I3", "I2", "I13", "protocol", "liveness"]),
    mutant("K01", "the before-image is taken from the store, pending rows are ignored", &["I9", "I8"]),
    mutant("K02", "decided rows outlive the leadership that decided them", &["I9", "I8"]),
    mutant("K04", "decided rows are stored before they are committed", &["I8", "I9", "linear"]),
    mutant("K05", "a delete of an absent key is written", &["I9", "I8"]),
    mutant("K06", "an upsert that changes nothing is written", &["I9"]),
    mutant("K07", "a partial update sets the other columns to null", &["I9"]),
    mutant("K08", "the rows are stored before the position that they belong to", &["I8"]),
    mutant("K09", "after a restart the fold starts one entry late", &["I8", "linear", "liveness"]),
    mutant("K11", "whoever holds a bucket answers lookups", &["linear"]),
    mutant("K12", "lookups see rows that are decided and not committed", &["linear"]),
    mutant("K13", "an equal version does not replace", &["I9"]),
    mutant("K14", "the end of a prefix has no carry", &["linear"]),
    mutant("K15", "the row count counts updates", &["I8"]),
    mutant("K18", "the fold starts where the log's own state does, not where the rows are", &["I8", "liveness"]),
    mutant("K19", "the last record of a put has a batch of its own", &["I7", "I9"]),
    mutant("K21", "a leader's first row numbers begin at 1, whatever others gave", &["I9"]),
    mutant("K22", "a scan over many calls reads the rows as they are at each call", &["linear"]),
    mutant("K23", "whoever holds a bucket counts its rows", &["linear"]),
    mutant("K24", "the row numbers that were given are not in the catalog's snapshot", &["I9"]),
    mutant("M04", "a wiped node votes under its old id at once", &["I1", "I2", "I6", "I7", "panic", "protocol"]),
    mutant("M08", "a write is acknowledged before a majority has it", &["I1", "I2", "I6", "I7"]),
    mutant("M09", "metadata is never refreshed", &["liveness"]),
    mutant("M10", "a leader known from hearsay is believed for ever", &["liveness"]),
    mutant("M11", "a leader is trusted for a message that it sent before it died", &["liveness"]),
    mutant(
        "M12",
        "wiped nodes that find no cluster found one, though they were told to come back",
        &["catalog", "I1", "I2", "I7", "protocol", "panic"],
    ),
    mutant("M13", "a node says that there is no such table because it does not know of it yet", &["catalog"]),
    mutant("M14", "a node goes on without its replica of the catalog", &["liveness", "catalog", "protocol"]),
    mutant("M15", "a change of the catalog that is proposed again is done again", &["catalog", "I9"]),
    mutant("M16", "replicas of a dropped table stay", &["liveness"]),
    mutant("M17", "a leader is trusted for a message of its node's former life", &["liveness", "catalog"]),
    mutant("M18", "a leader that could not hand over keeps its leadership, without appending", &["liveness"]),
    mutant("M19", "a leader that could not hand over votes for nobody else", &["liveness"]),
    mutant("M20", "a leader is trusted that died while the message was handled that names it", &["liveness"]),
    mutant("W01", "writer state is missing in the snapshot", &["I7", "I13"]),
    mutant("W03", "only the last sequence is remembered", &["I7"]),
    mutant("W05", "the sequence does not wrap: tablet's unit tests", &[]),
    mutant("W06", "a duplicate is answered with the end offset", &["I2", "I7"]),
];

/// What some hundred seeds may miss, and why.
pub const RARE: &[&str] = &[
    "M11: needs a leader that is wiped while what it sent before still waits at another node, frozen or for its disk: about one seed in a hundred",
    "M20: needs a node that is frozen until another, elected meanwhile, is wiped, and hears of both in one instant: about one seed in three hundred; plan seed-302-60 shows it",
];

/// Rows of the catalogue that this code cannot hold, and why.
pub const NOT_PLANTED: &[&str] = &[
    "R04 (a vote is saved only when the term changes): openraft names whom it votes for together with the term; what it saves later in a term is only that the vote was granted",
    "L09 (retention ignores the tiered offset): there is no tiering yet",
    "L12 (a projected batch keeps the checksum of the whole one): that is what Fluss does, and clients do not look (server-side projection is held to a decoder by fuzz/src/projection.rs)",
    "L14 (an empty batch takes an offset): it does, as in Fluss, so that its sequence has a place",
    "W04 (writers expire by the local clock): the tablet has no clock; the time of an expiry is in the command",
    "K17 (a checkpoint holds newer rows than its offset): there are no checkpoints; a snapshot of a primary-key bucket is its position, rows come from the log (docs/decisions/0009)",
    "K20 (keys are encoded with the newest schema): clients encode keys; the server compares bytes. Comes with ALTER TABLE",
    "M01 (a learner counts as a voter): openraft counts",
    "M03 (a removed replica keeps serving): replicas are removed only where the disk is gone; comes with the verbs that move buckets",
    "M06 (leadership is handed to one that lags): the receiver compares logs, inside openraft",
    "M07 (a client retries under a new sequence): clients are not ours",
];
