//! No false alarm on histories that are good by construction.

use crate::generate::generate;
use floss_checker::history::{read, write};
use floss_checker::{Counts, Demands, Verdict, check};

fn judge(seed: u64) -> Verdict {
    check(&generate(seed), &Demands { acked: 1, dumps: 1 })
}

fn no_alarm(seeds: std::ops::Range<u64>) {
    let mut sum = Counts::default();
    let total = seeds.end - seeds.start;
    for seed in seeds {
        let verdict = judge(seed);
        assert_eq!(verdict.anomalies, [], "seed {seed}");
        assert_eq!(verdict.unclear, None, "seed {seed}");
        let Counts { acked, unknown, failed, fetches, lookups, faults, searched, gave_up, .. } = verdict.counts;
        (sum.acked, sum.unknown, sum.failed) = (sum.acked + acked, sum.unknown + unknown, sum.failed + failed);
        (sum.fetches, sum.lookups, sum.faults) = (sum.fetches + fetches, sum.lookups + lookups, sum.faults + faults);
        (sum.searched, sum.gave_up) = (sum.searched + searched, sum.gave_up + gave_up);
    }
    println!("{total} histories: {sum}");
    for (what, count) in [("acked", sum.acked), ("unknown", sum.unknown), ("failed", sum.failed), ("fetches", sum.fetches)] {
        assert!(count > total, "{what}: {count} in {total} histories are too few");
    }
    assert!(sum.lookups > total && sum.faults > total && sum.searched > total, "{sum}");
    assert!(sum.gave_up * 100 < sum.searched, "{sum}");
}

#[test]
fn good_histories_raise_no_alarm() {
    no_alarm(0..2_000);
}

/// `cargo test -p floss-checker -- --ignored`
#[test]
#[ignore = "10,000 histories"]
fn many_good_histories_raise_no_alarm() {
    no_alarm(2_000..12_000);
}

#[test]
fn histories_survive_their_file() {
    for seed in 0..20 {
        let events = generate(seed);
        let mut bytes = Vec::new();
        write(&events, &mut bytes).unwrap();
        assert_eq!(read(&bytes[..]).unwrap(), events);
    }
}

#[test]
fn almost_nothing_is_no_pass() {
    let verdict = check(&[], &Demands::default());
    assert_eq!(verdict.exit_code(10, 11), 11);
    assert!(verdict.unclear.is_some());
}
